//! PromQL, as far as panels and alerts use it: read against the table of metrics, so that a family that was renamed, a label
//! that is not there, or a rate of a gauge is an error before Prometheus ever sees it.
//!
//! What is inferred: the labels of the result, and its unit.

use std::collections::BTreeSet;

use crate::families::{Family, Kind, find};

/// What a value is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    BytesPerSecond,
    Seconds,
    /// Of seconds in each second, or of one number in another: 1 is all of it.
    Share,
    Count,
    PerSecond,
}

impl Unit {
    /// Of the family, as its name says.
    fn of(name: &str) -> Unit {
        let name =
            ["_total", "_sum", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        match name.rsplit('_').next() {
            Some("bytes") => Unit::Bytes,
            Some("seconds") => Unit::Seconds,
            _ => Unit::Count,
        }
    }

    fn per_second(self) -> Unit {
        match self {
            Unit::Bytes => Unit::BytesPerSecond,
            Unit::Seconds => Unit::Share,
            _ => Unit::PerSecond,
        }
    }

    /// Of what was counted in a second, in buckets.
    fn of_buckets(self) -> Unit {
        match self {
            Unit::BytesPerSecond => Unit::Bytes,
            Unit::Share => Unit::Seconds,
            Unit::PerSecond => Unit::Count,
            other => other,
        }
    }

    fn by(self, other: Unit) -> Unit {
        match (self, other) {
            (a, b) if a == b => Unit::Share,
            (Unit::Share, Unit::PerSecond) => Unit::Seconds,
            (Unit::BytesPerSecond, Unit::PerSecond) => Unit::Bytes,
            (a, _) => a,
        }
    }

    /// Grafana's name for it.
    pub fn grafana(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "Bps",
            Unit::Seconds => "s",
            Unit::Share => "percentunit",
            Unit::Count => "short",
            Unit::PerSecond => "cps",
        }
    }
}

/// A place in the text of a query.
pub type Span = std::ops::Range<usize>;

/// A metric that a query asks for.
#[derive(Debug, Clone)]
pub struct Selector {
    pub family: Family,
    /// Behind its name, where further matchers may be put.
    pub name_end: usize,
    /// True when it has braces with something in them already.
    pub has_matchers: bool,
    /// True when it has braces at all.
    pub has_braces: bool,
}

/// A query that is right.
#[derive(Debug, Clone)]
pub struct Query {
    pub labels: BTreeSet<String>,
    pub unit: Unit,
    pub selectors: Vec<Selector>,
    /// What a test puts elsewhere to see whether there is anything to compare: comparisons with a number go, and offsets;
    /// series compared with each other are added.
    pub conditions: Vec<(Span, &'static str)>,
    /// What is between brackets.
    pub ranges: Vec<Span>,
}

impl Query {
    /// The text with further matchers: for every family that has a label, those on it.
    pub fn with_matchers(&self, text: &str, matchers: &[(&str, String)]) -> String {
        let mut text = text.to_owned();
        for selector in self.selectors.iter().rev() {
            let own: Vec<&str> = matchers
                .iter()
                .filter(|(label, _)| selector.family.labels.contains(*label))
                .map(|(_, matcher)| matcher.as_str())
                .collect();
            if own.is_empty() {
                continue;
            }
            let own = own.join(", ");
            let (at, insertion) = match (selector.has_braces, selector.has_matchers) {
                (true, true) => (selector.name_end + 1, format!("{own}, ")),
                (true, false) => (selector.name_end + 1, own),
                (false, _) => (selector.name_end, format!("{{{own}}}")),
            };
            text.insert_str(at, &insertion);
        }
        text
    }

    /// The text without conditions, and with this range everywhere.
    pub fn unconditional(&self, text: &str, range: &str) -> String {
        let mut edits: Vec<(Span, &str)> = self.conditions.clone();
        edits.extend(self.ranges.iter().map(|span| (span.clone(), range)));
        edits.sort_by_key(|(span, _)| span.start);
        let mut text = text.to_owned();
        for (span, with) in edits.into_iter().rev() {
            text.replace_range(span, with);
        }
        text
    }
}

/// Reads a query.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<Query, String> {
    let mut reader = Reader {
        text,
        tokens: tokens(text)?,
        at: 0,
        out: Vec::new(),
        conditions: Vec::new(),
        ranges: Vec::new(),
    };
    let value = reader.binary(0)?;
    if let Some(token) = reader.tokens.get(reader.at) {
        return Err(format!("{:?} is too much", &text[token.clone()]));
    }
    value.finished()?;
    if value.is_scalar {
        return Err("only a number".to_owned());
    }
    let Reader { out, conditions, ranges, .. } = reader;
    Ok(Query { labels: value.labels, unit: value.unit, selectors: out, conditions, ranges })
}

/// A part of a query.
#[derive(Debug, Clone)]
struct Value {
    labels: BTreeSet<String>,
    unit: Unit,
    is_scalar: bool,
    is_number: bool,
    is_range: bool,
    /// A counter of which no growth was taken yet.
    counter: Option<String>,
}

impl Value {
    fn scalar(is_number: bool) -> Value {
        Value {
            labels: BTreeSet::new(),
            unit: Unit::Count,
            is_scalar: true,
            is_number,
            is_range: false,
            counter: None,
        }
    }

    fn finished(&self) -> Result<(), String> {
        match &self.counter {
            _ if self.is_range => Err("a range without a function".to_owned()),
            Some(name) => Err(format!("{name} is a counter: take its rate or increase")),
            None => Ok(()),
        }
    }

    fn has(&self, labels: &[String]) -> Result<(), String> {
        match labels.iter().find(|label| !self.labels.contains(*label)) {
            Some(label) => Err(format!("no label {label} in {:?}", self.labels)),
            None => Ok(()),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Span>, String> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_:$.".contains(&byte);
    while at < bytes.len() {
        let begin = at;
        match bytes[at] {
            b' ' | b'\n' => {
                at += 1;
                continue;
            }
            b'"' => {
                at += 1;
                while *bytes.get(at).ok_or("a text without end")? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            byte if word(byte) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
            }
            _ => {
                let two = bytes.get(at..at + 2).unwrap_or_default();
                at += if [&b"=="[..], b"!=", b">=", b"<=", b"=~", b"!~"].contains(&two) { 2 } else { 1 };
            }
        }
        found.push(begin..at);
    }
    Ok(found)
}

const AGGREGATIONS: &[&str] = &["sum", "min", "max", "avg", "count", "group", "topk", "bottomk", "quantile"];
const OF_COUNTERS: &[&str] = &["rate", "increase", "irate", "resets"];
const OF_GAUGES: &[&str] = &[
    "predict_linear",
    "deriv",
    "delta",
    "changes",
    "max_over_time",
    "min_over_time",
    "avg_over_time",
    "last_over_time",
    "present_over_time",
];
const INSTANT: &[&str] = &["abs", "clamp_min", "clamp_max", "sort", "sort_desc", "round", "absent"];

struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Span>,
    at: usize,
    out: Vec<Selector>,
    conditions: Vec<(Span, &'static str)>,
    ranges: Vec<Span>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.at).map_or("", |span| &self.text[span.clone()])
    }

    fn next(&mut self) -> &'a str {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn takes(&mut self, token: &str) -> bool {
        let is = self.peek() == token;
        self.at += usize::from(is);
        is
    }

    fn wants(&mut self, token: &str) -> Result<(), String> {
        let found = self.next();
        if found == token { Ok(()) } else { Err(format!("{found:?} where {token:?} was expected")) }
    }

    /// Where the last token ended.
    fn end(&self) -> usize {
        self.tokens[self.at - 1].end
    }

    fn begin(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |span| span.start)
    }

    /// Labels in parentheses.
    fn names(&mut self) -> Result<Vec<String>, String> {
        self.wants("(")?;
        let mut names = Vec::new();
        while !self.takes(")") {
            names.push(self.next().to_owned());
            if self.peek() != ")" {
                self.wants(",")?;
            }
        }
        Ok(names)
    }

    fn strength(operator: &str) -> Option<u8> {
        Some(match operator {
            "or" => 1,
            "and" | "unless" => 2,
            "==" | "!=" | "<=" | "<" | ">=" | ">" => 3,
            "+" | "-" => 4,
            "*" | "/" => 5,
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Result<Value, String> {
        let mut left = self.unary()?;
        while let Some(strength) = Reader::strength(self.peek()).filter(|strength| *strength > least) {
            let from = self.end();
            let operator = self.next();
            let to = self.end();
            let matching = match self.peek() {
                "on" | "ignoring" => Some((self.next(), self.names()?)),
                _ => None,
            };
            let extra = if self.takes("group_left") {
                Some(if self.peek() == "(" { self.names()? } else { Vec::new() })
            } else {
                None
            };
            let right = self.binary(strength)?;
            if strength == 3 {
                let (span, with) = if right.is_number { (from..self.end(), "") } else { (from..to, " +") };
                self.conditions.push((span, with));
            }
            left.finished()?;
            right.finished()?;
            left = Reader::combine(left, operator, matching, extra, right)?;
        }
        Ok(left)
    }

    fn combine(
        left: Value,
        operator: &str,
        matching: Option<(&str, Vec<String>)>,
        extra: Option<Vec<String>>,
        right: Value,
    ) -> Result<Value, String> {
        let unit = match operator {
            "/" if !right.is_number => left.unit.by(right.unit),
            _ if left.is_number => right.unit,
            _ => left.unit,
        };
        if left.is_scalar || right.is_scalar {
            let is_number = left.is_number && right.is_number;
            let value = if left.is_scalar { right } else { left };
            return Ok(Value { unit, is_number, ..value });
        }
        let is_set = ["and", "or", "unless"].contains(&operator);
        let labels = match matching {
            Some(("on", names)) => {
                left.has(&names)?;
                right.has(&names)?;
                match extra {
                    Some(extra) => {
                        right.has(&extra)?;
                        left.labels.iter().cloned().chain(extra).collect()
                    }
                    None if is_set => left.labels,
                    None => names.into_iter().collect(),
                }
            }
            Some((other, _)) => return Err(format!("{other}(): say on()")),
            None if left.labels != right.labels => {
                return Err(format!("{operator}: {:?} here, {:?} there", left.labels, right.labels));
            }
            None => left.labels,
        };
        Ok(Value { labels, unit, ..Value::scalar(false) }).map(|value| Value { is_scalar: false, ..value })
    }

    fn unary(&mut self) -> Result<Value, String> {
        let mut value = self.primary()?;
        loop {
            if self.peek() == "[" {
                self.at += 1;
                let from = self.begin();
                while self.peek() != "]" {
                    if self.next().is_empty() {
                        return Err("a range without end".to_owned());
                    }
                }
                self.ranges.push(from..self.end());
                self.at += 1;
                value.is_range = true;
            } else if self.peek() == "offset" {
                let from = self.end();
                self.at += 2;
                self.conditions.push((from..self.end(), ""));
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Value, String> {
        let token = self.next();
        if token == "(" {
            let value = self.binary(0)?;
            self.wants(")")?;
            return Ok(value);
        }
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            return token
                .parse::<f64>()
                .map(|_| Value::scalar(true))
                .map_err(|_| format!("{token}: no number"));
        }
        if AGGREGATIONS.contains(&token) {
            return self.aggregation(token);
        }
        if self.peek() == "(" {
            return self.function(token);
        }
        self.selector(token)
    }

    fn aggregation(&mut self, name: &str) -> Result<Value, String> {
        let mut by = match self.peek() {
            "by" => {
                self.at += 1;
                Some(self.names()?)
            }
            _ => None,
        };
        self.wants("(")?;
        let keeps = ["topk", "bottomk"].contains(&name);
        if keeps || name == "quantile" {
            self.binary(0)?;
            self.wants(",")?;
        }
        let value = self.binary(0)?;
        self.wants(")")?;
        if self.takes("by") {
            by = Some(self.names()?);
        }
        // How many there are does not depend on how far they have come.
        let counts = ["count", "group"].contains(&name);
        if !counts {
            value.finished()?;
        }
        let by = by.unwrap_or_default();
        value.has(&by)?;
        let labels = if keeps { value.labels } else { by.into_iter().collect() };
        let unit = if counts { Unit::Count } else { value.unit };
        Ok(Value { labels, unit, counter: None, ..value })
    }

    fn text(&mut self) -> Result<String, String> {
        let token = self.next();
        let inside = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inside.map(str::to_owned).ok_or_else(|| format!("{token}: no text"))
    }

    fn function(&mut self, name: &str) -> Result<Value, String> {
        self.wants("(")?;
        if name == "histogram_quantile" {
            self.binary(0)?;
            self.wants(",")?;
        }
        let mut value = self.binary(0)?;
        match name {
            _ if OF_COUNTERS.contains(&name) || OF_GAUGES.contains(&name) => {
                if !value.is_range {
                    return Err(format!("{name}: of what range"));
                }
                let of_counters = OF_COUNTERS.contains(&name);
                if of_counters != value.counter.is_some() {
                    return Err(format!(
                        "{name}: not of a {}",
                        if of_counters { "gauge" } else { "counter" }
                    ));
                }
                value.is_range = false;
                value.counter = None;
                if ["rate", "irate", "deriv"].contains(&name) {
                    value.unit = value.unit.per_second();
                }
                if name == "predict_linear" {
                    self.wants(",")?;
                    self.binary(0)?;
                }
            }
            "histogram_quantile" => {
                value.finished()?;
                if !value.labels.remove("le") {
                    return Err("histogram_quantile: no label le".to_owned());
                }
                value.unit = value.unit.of_buckets();
            }
            "label_replace" => {
                self.wants(",")?;
                let made = self.text()?;
                self.wants(",")?;
                self.text()?;
                self.wants(",")?;
                let from = self.text()?;
                self.wants(",")?;
                self.text()?;
                value.has(&[from])?;
                value.labels.insert(made);
            }
            "label_join" => {
                self.wants(",")?;
                let made = self.text()?;
                self.wants(",")?;
                self.text()?;
                while self.takes(",") {
                    let from = self.text()?;
                    value.has(&[from])?;
                }
                value.labels.insert(made);
            }
            _ if INSTANT.contains(&name) => {
                if name == "absent" {
                    (value.counter, value.unit) = (None, Unit::Count);
                    value.labels.clear();
                }
                while self.takes(",") {
                    self.binary(0)?;
                }
            }
            _ => return Err(format!("no metric and no known function {name}")),
        }
        self.wants(")")?;
        Ok(value)
    }

    fn selector(&mut self, name: &str) -> Result<Value, String> {
        let name_end = self.end();
        let family = find(name).ok_or_else(|| format!("no metric {name}"))?;
        let has_braces = self.takes("{");
        let mut has_matchers = false;
        while has_braces && !self.takes("}") {
            has_matchers = true;
            let label = self.next();
            if !family.labels.contains(label) {
                return Err(format!("{name} has no label {label}"));
            }
            let operator = self.next();
            if !["=", "!=", "=~", "!~"].contains(&operator) {
                return Err(format!("{operator:?} behind {label}"));
            }
            self.text()?;
            if self.peek() != "}" {
                self.wants(",")?;
            }
        }
        let counter = (family.kind == Kind::Counter).then(|| name.to_owned());
        let value = Value {
            labels: family.labels.clone(),
            unit: Unit::of(name),
            is_scalar: false,
            is_number: false,
            is_range: false,
            counter,
        };
        self.out.push(Selector { family, name_end, has_matchers, has_braces });
        Ok(value)
    }
}

#[test]
fn mistakes_are_found() {
    let wrong = [
        ("node_uptime_secs", "no metric"),
        ("rate(node_uptime_seconds[5m])", "gauge"),
        ("node_resources_cpu_usage_seconds_total", "counter"),
        ("sum(container_oom_kills_total)", "counter"),
        ("max_over_time(container_oom_kills_total[5m])", "counter"),
        ("sum by (device) (rate(container_oom_kills_total[5m]))", "no label device"),
        ("node_info{container_id=\"x\"}", "no label container_id"),
        ("node_uptime_seconds / node_info", "here"),
        ("rate(container_oom_kills_total)", "range"),
        ("node_uptime_seconds)", "too much"),
        ("histogram_quantile(0.9, node_uptime_seconds)", "le"),
        ("rat(node_uptime_seconds)", "function"),
        ("5 * 5", "number"),
        ("label_replace(node_info, \"a\", \"$1\", \"b\", \"(.*)\")", "no label b"),
        ("node_uptime_seconds + on (device) node_info", "no label device"),
    ];
    for (text, problem) in wrong {
        let said = check(text).expect_err(text);
        assert!(said.contains(problem), "{text}: {said}");
    }
}

#[test]
fn labels_and_units_are_inferred() {
    let query = check("sum by (mode) (rate(node_resources_cpu_usage_seconds_total{mode!=\"idle\"}[5m])) > 2")
        .unwrap();
    assert_eq!(query.labels, BTreeSet::from(["mode".to_owned()]));
    assert_eq!(query.unit, Unit::Share);
    let text = "node_uptime_seconds > 5 and node_uptime_seconds{machine_id=\"\"} offset 1h < 3";
    let query = check(text).unwrap();
    assert_eq!(
        query.unconditional(text, "9s"),
        "node_uptime_seconds and node_uptime_seconds{machine_id=\"\"}"
    );
    let matchers = [("instance", "instance=~\"$i\"".to_owned()), ("device", "device=\"d\"".to_owned())];
    assert_eq!(
        query.with_matchers(text, &matchers),
        "node_uptime_seconds{instance=~\"$i\"} > 5 and \
         node_uptime_seconds{instance=~\"$i\", machine_id=\"\"} offset 1h < 3"
    );
    let text =
        "max_over_time(node_uptime_seconds[1h]) > 5 * max_over_time(node_uptime_seconds[1h] offset 1h) > 2";
    assert_eq!(
        check(text).unwrap().unconditional(text, "9s"),
        "max_over_time(node_uptime_seconds[9s]) + 5 * max_over_time(node_uptime_seconds[9s])"
    );
    let text = "rate(container_net_tcp_connection_time_seconds_total[$__rate_interval]) / \
                rate(container_net_tcp_successful_connects_total[$__rate_interval])";
    assert_eq!(check(text).unwrap().unit, Unit::Seconds);
}
