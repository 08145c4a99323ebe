//! The values of a mapping by their keys, as the table in [`super::schema`] wants them: what is not so becomes a finding.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use super::config::{Finding, Mark};
use super::scalar::{Number, Scalar};
use super::schema::{Key, Object, Type};
use super::yaml::{Node, Value};
use crate::spelling::did_you_mean;

/// Characters of a finding; those that quote nothing long have 200.
const LONGEST_MESSAGE: usize = 400;

/// Gathers what there is to say about one file.
pub(crate) struct Reader<'a> {
    pub config: &'a str,
    pub path: &'a str,
    pub findings: Vec<Finding>,
    /// How many of the findings are fatal.
    pub errors: usize,
    /// What is read now is not used, so no mistake in it is fatal.
    pub unused: bool,
}

/// A mapping whose keys are known. A key with nothing behind it is as good as absent, except in lists.
pub(crate) struct Fields<'n> {
    pub object: &'static Object,
    pub mark: Mark,
    given: Vec<(&'static Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// A mapping without keys.
    pub fn none(object: &'static Object, mark: Mark) -> Fields<'n> {
        Fields { object, mark, given: Vec::new() }
    }

    /// The value of `key`, which is in the table.
    pub fn get(&self, key: &str) -> Option<(&'static Key, &'n Node)> {
        debug_assert!(self.object.key(key).is_some(), "{} has no key {key}", self.object.name);
        self.given.iter().find(|(given, _)| given.name == key).copied()
    }

    /// Where the value of `key` is, or else the mapping.
    pub fn mark_of(&self, key: &str) -> Mark {
        self.get(key).map_or(self.mark, |(_, node)| node.mark)
    }

    /// Whether `key` is absent, or an empty text or list.
    pub fn is_empty(&self, key: &str) -> bool {
        match self.get(key).map(|(_, node)| &node.value) {
            None => true,
            Some(Value::Scalar(scalar)) => scalar.text().is_empty(),
            Some(Value::Sequence(nodes)) => nodes.is_empty(),
            Some(Value::Mapping(_)) => false,
        }
    }

    fn scalar(&self, key: &str) -> Option<(&'static Key, &'n Node, &'n Scalar)> {
        let (key, node) = self.get(key)?;
        Some((key, node, scalar(node)?))
    }
}

fn scalar(node: &Node) -> Option<&Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

impl Reader<'_> {
    /// Something for which the whole, or the metric it is in, cannot be used.
    pub fn error(&mut self, mark: Mark, message: String) {
        self.errors = self.errors.saturating_add(usize::from(!self.unused));
        self.find(mark, !self.unused, message);
    }

    /// Something odd.
    pub fn warn(&mut self, mark: Mark, message: String) {
        self.find(mark, false, message);
    }

    fn find(&mut self, mark: Mark, fatal: bool, mut message: String) {
        // It may quote a name of any length.
        if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
            message.replace_range(end.., "...");
        }
        self.findings.push(Finding { path: self.path.into(), mark, fatal, message });
    }

    /// The keys of `node`; those that are unknown or missing are found here.
    pub fn fields<'n>(&mut self, object: &'static Object, node: &'n Node) -> Option<Fields<'n>> {
        let Value::Mapping(pairs) = &node.value else {
            let expected = Type::Object(object);
            self.error(node.mark, format!("{}: expected {expected}, found {}", object.name, node.describe()));
            return None;
        };
        let mut fields = Fields::none(object, node.mark);
        for pair in pairs {
            match object.key(&pair.key) {
                Some(key) if !pair.value.is_null() => fields.given.push((key, &pair.value)),
                Some(_) => {}
                None => self.unknown(object, &pair.key, pair.mark),
            }
        }
        for key in object.keys.iter().filter(|key| key.required) {
            if fields.is_empty(key.name) {
                self.lacks(&fields, key.name);
            }
        }
        Some(fields)
    }

    fn unknown(&mut self, object: &'static Object, key: &str, mark: Mark) {
        let hint = did_you_mean(key, object.names());
        let expected = object.names().collect::<Vec<_>>().join(", ");
        self.warn(mark, format!("unknown key {key:?}{hint} (a {} has {expected})", object.name));
    }

    /// Says that a key is missing.
    pub fn lacks(&mut self, fields: &Fields<'_>, key: &str) {
        let object = fields.object;
        let name =
            object.key("name").and_then(|_| fields.scalar("name")).map_or("", |(_, _, name)| name.text());
        let help = object.key(key).map_or("", |key| key.help);
        self.error(
            fields.mark,
            format!("{} {name:?} in config {:?} lacks {key}: {help}", object.name, self.config),
        );
    }

    /// Says that a value is not what its key wants.
    pub fn mismatch(&mut self, key: &Key, node: &Node) {
        self.error(node.mark, format!("{}: expected {}, found {}", key.name, key.kind, node.describe()));
    }

    fn scalar_or_mismatch<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n Scalar> {
        let (key, node) = fields.get(key)?;
        if scalar(node).is_none() {
            self.mismatch(key, node);
        }
        scalar(node)
    }

    /// A text.
    pub fn text<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n str> {
        self.scalar_or_mismatch(fields, key).map(Scalar::text)
    }

    /// A boolean; false when it is absent.
    pub fn switch(&mut self, fields: &Fields<'_>, key: &str) -> bool {
        let Some((key, node)) = fields.get(key) else { return false };
        let value = scalar(node).and_then(Scalar::boolean);
        if value.is_none() {
            self.mismatch(key, node);
        }
        value.unwrap_or_default()
    }

    /// An integer within the bounds in the table.
    pub fn whole(&mut self, fields: &Fields<'_>, key: &str) -> Option<i64> {
        let (key, node) = fields.get(key)?;
        let Type::Whole(least, most) = key.kind else { return None };
        let value =
            scalar(node).and_then(Scalar::number).and_then(|number| self.truncated(key, node, number));
        let value = value.filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.mismatch(key, node);
        }
        value
    }

    fn truncated(&mut self, key: &Key, node: &Node, number: Number) -> Option<i64> {
        let value = match number {
            Number::Whole(value) => i64::try_from(value).ok()?,
            Number::Real(value) if value.abs() >= i64::MAX as f64 => return None,
            Number::Real(value) => {
                let used = value as i64;
                self.warn(
                    node.mark,
                    format!("{}: {} is used as {used}; write that instead", key.name, node.describe()),
                );
                used
            }
        };
        Some(value)
    }

    /// A number.
    pub fn real(&mut self, fields: &Fields<'_>, key: &str) -> Option<f64> {
        let (key, node) = fields.get(key)?;
        let value = real(node);
        if value.is_none() {
            self.mismatch(key, node);
        }
        value
    }

    /// Nanoseconds: Go's text for a duration, or a bare number.
    pub fn duration(&mut self, fields: &Fields<'_>, key: &str) -> Option<i64> {
        let (key, node) = fields.get(key)?;
        let scalar = scalar(node);
        let value = match scalar.and_then(Scalar::number) {
            Some(number) => self.truncated(key, node, number),
            None => scalar.and_then(|scalar| duration_ns(scalar.text())),
        };
        if value.is_none() {
            self.mismatch(key, node);
        }
        value
    }

    /// One of the words in the table.
    pub fn word(&mut self, fields: &Fields<'_>, key: &str) -> Option<&'static str> {
        let given = self.text(fields, key)?;
        let (key, node) = fields.get(key)?;
        let Type::Word(words) = key.kind else { return None };
        let word = words.iter().find(|word| **word == given).copied();
        if word.is_none() && !given.is_empty() {
            let hint = did_you_mean(given, words.iter().copied());
            self.error(node.mark, format!("{}: expected {}, found {given:?}{hint}", key.name, key.kind));
        }
        word
    }

    /// The elements of a list.
    pub fn nodes<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<(&'static Key, &'n [Node])> {
        let (key, node) = fields.get(key)?;
        if let Value::Sequence(nodes) = &node.value {
            return Some((key, nodes));
        }
        self.mismatch(key, node);
        None
    }

    /// A list of texts.
    pub fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<(Box<str>, Mark)>> {
        let (key, nodes) = self.nodes(fields, key)?;
        let mut texts = Vec::new();
        for node in nodes {
            match scalar(node) {
                Some(scalar) => texts.push((scalar.text().into(), node.mark)),
                None => self.mismatch(key, node),
            }
        }
        Some(texts)
    }

    /// A list of numbers.
    pub fn reals(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<(f64, Mark)>> {
        let (key, nodes) = self.nodes(fields, key)?;
        let mut reals = Vec::new();
        for node in nodes {
            match real(node) {
                Some(value) => reals.push((value, node.mark)),
                None => self.mismatch(key, node),
            }
        }
        Some(reals)
    }

    /// A mapping of texts.
    pub fn map(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<(Box<str>, Box<str>)>> {
        let (key, node) = fields.get(key)?;
        let Value::Mapping(pairs) = &node.value else {
            self.mismatch(key, node);
            return None;
        };
        let mut map = Vec::new();
        for pair in pairs {
            match scalar(&pair.value) {
                Some(value) => map.push((pair.key.clone(), value.text().into())),
                None => self.mismatch(key, &pair.value),
            }
        }
        Some(map)
    }

    /// A mapping with keys of its own.
    pub fn object<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<Fields<'n>> {
        let (key, node) = fields.get(key)?;
        let Type::Object(object) = key.kind else { return None };
        self.fields(object, node)
    }
}

fn real(node: &Node) -> Option<f64> {
    Some(match scalar(node)?.number()? {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    })
}

/// Nanoseconds of Go's text for a duration: `1h30m`, `1.5s`, `-2us`. Only 0 needs no unit; there are no days.
fn duration_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, behind) = rest.split_at_checked(number_end)?;
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at_checked(unit_end)?;
        sum = sum.checked_add(piece_ns(number, unit)?)?;
        rest = behind;
    }
    Some(if negative { sum.saturating_neg() } else { sum })
}

fn piece_ns(number: &str, unit: &str) -> Option<i64> {
    let unit: i64 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    whole.checked_mul(unit)?.checked_add((fraction * unit as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::duration_ns;

    #[test]
    fn durations_are_go_s() {
        for (text, expected) in [
            ("30s", 30_000_000_000),
            ("1h5m", 3_900_000_000_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            (".5m", 30_000_000_000),
            ("2.us", 2_000),
            ("3\u{b5}s", 3_000),
            ("-1ns", -1),
            ("+1ns", 1),
            ("0", 0),
            ("0s", 0),
            ("0s5ns", 5),
        ] {
            assert_eq!(duration_ns(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "1d",
            "1",
            "s",
            ".s",
            "1 s",
            "1s ",
            "-",
            "+",
            "1.2.3s",
            "1h5",
            "1S",
            "99999999999h",
            "9223372036854775808ns",
            "\u{663}s",
            "1s-2s",
        ] {
            assert_eq!(duration_ns(text), None, "{text}");
        }
    }
}
