//! Scalars of YAML 1.1: source text that is read as a number or a boolean only where one is wanted. `yes` is a boolean, `010`
//! is 8.

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

/// Text as it was written, without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scalar {
    /// The text.
    pub source: Box<str>,
    /// Neither quoted nor a block: it may be something else than text.
    pub plain: bool,
}

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Without a fraction.
    Whole(i128),
    /// With one, or an exponent.
    Real(f64),
}

impl Scalar {
    /// The text; nothing for null.
    pub fn text(&self) -> &str {
        if self.is_null() { "" } else { &self.source }
    }

    /// Null, as opposed to an empty text in quotes.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(&*self.source, "" | "~" | "null" | "Null" | "NULL")
    }

    /// The boolean it is, if it is one.
    pub fn boolean(&self) -> Option<bool> {
        match &*self.source {
            _ if !self.plain => None,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                Some(false)
            }
            _ => None,
        }
    }

    /// The number it is, if it is one. Go's rules: `_` anywhere, `0x`, `0b`, `0o`, and a leading 0 is octal; `08` is none, so
    /// it is read as `8.0`.
    pub fn number(&self) -> Option<Number> {
        if !self.plain || !self.source.starts_with(|first: char| matches!(first, '0'..='9' | '+' | '-' | '.'))
        {
            return None;
        }
        let text = self.source.replace('_', "");
        whole(&text).map(Number::Whole).or_else(|| real(&text).map(Number::Real))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        if self.is_null() {
            return "nothing".to_owned();
        }
        const SHOWN: usize = 40;
        let shown: String = self.source.chars().take(SHOWN).collect();
        let more = if self.source.chars().nth(SHOWN).is_some() { "..." } else { "" };
        let quoted = if self.plain { "" } else { "the text " };
        format!("{quoted}{shown:?}{more}")
    }
}

fn whole(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        Some("0o" | "0O") => (8, digits.get(2..)?),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // A second sign is no digit, though the standard library would take it.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    Some(if negative { value.checked_neg()? } else { value })
}

fn real(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse().ok().filter(|value: &f64| decimal && value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_yaml_1_1() {
        let plain = |text: &str| Scalar { source: text.into(), plain: true };
        for (text, expected) in [
            ("0", 0),
            ("12", 12),
            ("-12", -12),
            ("+12", 12),
            ("0x1F", 31),
            ("-0x10", -16),
            ("010", 8),
            ("-010", -8),
            ("0o17", 15),
            ("0b101", 5),
            ("1_000_000", 1_000_000),
            ("0x_ff", 255),
            ("00", 0),
            ("18446744073709551615", u64::MAX.into()),
        ] {
            assert_eq!(plain(text).number(), Some(Number::Whole(expected)), "{text}");
        }
        for (text, expected) in [
            ("4.5", 4.5),
            ("-4.5", -4.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("08", 8.0),
            ("0.000001", 0.000001),
            ("18446744073709551616", 18446744073709551616.0),
            ("1_0.5", 10.5),
        ] {
            assert_eq!(plain(text).number(), Some(Number::Real(expected)), "{text}");
        }
        for text in [
            "",
            "x",
            "1x",
            "--1",
            "+-1",
            "0x",
            "0xg",
            "0x+5",
            "0b2",
            "1-2",
            "1e",
            ".",
            "-",
            "_1",
            ".inf",
            "nan",
            "inf",
            "1e999",
            "2001-01-01",
            "12:30",
            "1 2",
            "\u{663}",
        ] {
            assert_eq!(plain(text).number(), None, "{text}");
        }
        for (text, expected) in [
            ("yes", Some(true)),
            ("On", Some(true)),
            ("TRUE", Some(true)),
            ("y", Some(true)),
            ("no", Some(false)),
            ("off", Some(false)),
            ("False", Some(false)),
            ("N", Some(false)),
            ("oN", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(plain(text).boolean(), expected, "{text}");
        }
        let quoted = Scalar { source: "5".into(), plain: false };
        assert_eq!(
            (quoted.number(), quoted.boolean(), quoted.is_null(), quoted.text()),
            (None, None, false, "5")
        );
        assert_eq!((plain("Null").text(), plain("nuLL").text()), ("", "nuLL"));
    }
}
