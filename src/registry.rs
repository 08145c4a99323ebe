//! The metrics of one scrape, from `collect` to text: constant labels, escaping, duplicates, caps, rendering.
//!
//! Each family has one buffer into which its series are written in their final form, so a body is the list of those buffers
//! and no series is copied a second time. Format: Prometheus text 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::limits;
use crate::metric::{Desc, Duplicate, Kind, Scope};
use crate::number;
use crate::sys::prefetch;
use crate::sys::text::{append, expect_much};

/// Label pairs rendered once and put in front of many series: `machine_id="…",system_uuid="…"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConstLabels(Vec<u8>);

impl ConstLabels {
    /// Renders `pairs` behind the pairs of `self`.
    pub fn with(&self, pairs: &[(&str, &str)]) -> ConstLabels {
        let mut text = self.0.clone();
        for (name, value) in pairs {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"=\"");
            escape_label(&mut text, value);
            text.push(b'"');
        }
        ConstLabels(text)
    }
}

/// A rendered scrape: pieces to be sent one after the other.
#[derive(Debug, Default)]
pub struct Body {
    /// One piece of text per family.
    pub pieces: Vec<Vec<u8>>,
}

impl Body {
    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// True when nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Collects the series of one scrape after the other.
#[derive(Debug)]
pub struct Registry {
    families: Vec<Family>,
    node_labels: ConstLabels,
    series_limit: u32,
    seed: u64,
}

/// What a family held in this scrape, for the metrics about metrics.
#[derive(Debug, Clone, Copy)]
pub struct FamilyCount {
    /// The family's name.
    pub name: &'static str,
    /// Series in this scrape.
    pub series: u32,
    /// Series refused since the start because the family was at its cap.
    pub dropped: u64,
}

impl Registry {
    /// A registry for the families of `descs`; a scrape has them in that order.
    ///
    /// # Panics
    /// When two families have one name: a mistake in the collector table, caught by every test.
    pub fn new(
        descs: impl IntoIterator<Item = &'static Desc>,
        node_labels: ConstLabels,
        series_limit: u32,
    ) -> Registry {
        let mut families: Vec<Family> = Vec::new();
        for desc in descs {
            assert!(
                families.iter().all(|family| family.desc.name != desc.name),
                "{} is declared twice",
                desc.name
            );
            desc.set_slot(families.len());
            families.push(Family::new(desc));
        }
        let seed = RandomState::new().build_hasher().finish();
        Registry { families, node_labels, series_limit, seed }
    }

    /// Adds a series of a `node_*` family or of nodeprobe itself. `labels` are the values of the `Desc`'s labels, in order.
    pub fn add(&mut self, desc: &'static Desc, labels: &[&str], value: f64) {
        debug_assert!(desc.scope() != Scope::Container, "{} needs a container", desc.name);
        self.series(desc, None, labels, value);
    }

    /// Adds a series of a `container_*` family; `container` are the container's constant labels.
    pub fn container(&mut self, container: &ConstLabels, desc: &'static Desc, labels: &[&str], value: f64) {
        debug_assert!(desc.scope() == Scope::Container, "{} is not about containers", desc.name);
        self.series(desc, Some(container), labels, value);
    }

    /// Adds a histogram: `buckets` are upper bounds with **cumulative** counts, without `+Inf`, which is `count`.
    pub fn histogram(
        &mut self,
        desc: &'static Desc,
        labels: &[&str],
        buckets: &[(f64, u64)],
        sum: f64,
        count: u64,
    ) {
        let Some((family, node)) = family_of(&mut self.families, &self.node_labels, desc) else {
            return;
        };
        let limit = self.series_limit;
        let constant = if desc.scope() == Scope::Node { node } else { &[] };
        let mut le = Vec::with_capacity(24);
        for (bound, cumulative) in buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            le.clear();
            number::write(&mut le, bound);
            let le = std::str::from_utf8(&le).unwrap_or("");
            family.add("_bucket", constant, labels, Some(le), cumulative as f64, limit, self.seed);
        }
        family.add("_sum", constant, labels, None, sum, limit, self.seed);
        family.add("_count", constant, labels, None, count as f64, limit, self.seed);
    }

    /// What every family with series, or with refused ones, holds by now.
    pub fn counts(&self) -> Vec<FamilyCount> {
        self.families
            .iter()
            .filter(|family| family.series > 0 || family.dropped > 0)
            .map(|family| FamilyCount {
                name: family.desc.name,
                series: family.series,
                dropped: family.dropped,
            })
            .collect()
    }

    /// Ends the scrape: hands the text out and starts anew.
    pub fn finish(&mut self) -> Body {
        Body { pieces: self.families.iter_mut().filter_map(Family::take).collect() }
    }

    fn series(&mut self, desc: &'static Desc, container: Option<&ConstLabels>, labels: &[&str], value: f64) {
        let Some((family, node)) = family_of(&mut self.families, &self.node_labels, desc) else {
            return;
        };
        let constant = match (container, desc.scope()) {
            (Some(container), _) => &container.0,
            (None, Scope::Node) => node,
            (None, _) => &[][..],
        };
        family.add("", constant, labels, None, value, self.series_limit, self.seed);
    }
}

/// The family of `desc` beside the node's labels, borrowed apart.
fn family_of<'a>(
    families: &'a mut [Family],
    node: &'a ConstLabels,
    desc: &'static Desc,
) -> Option<(&'a mut Family, &'a [u8])> {
    let family = families.get_mut(desc.slot()).filter(|family| std::ptr::eq(family.desc, desc));
    debug_assert!(family.is_some(), "{} is in no collector's metrics", desc.name);
    Some((family?, &node.0))
}

/// Bytes of a family from which on large pages pay: two of them.
const LARGE: usize = 4 << 20;

/// The text of one family as it grows.
#[derive(Debug)]
struct Family {
    desc: &'static Desc,
    /// What stands before the value of each label: `",name="`, of which the first label needs no `",`.
    joints: Box<[Box<[u8]>]>,
    text: Vec<u8>,
    series: u32,
    dropped: u64,
    seen: Seen,
    /// Values to be merged into an earlier series of the same labels: where its line starts, and the value. Rare.
    merges: Vec<(u32, f64)>,
    /// What the text needed last time, so that it is allocated once.
    expected: usize,
}

impl Family {
    fn new(desc: &'static Desc) -> Family {
        let joint = |name: &&str| format!("\",{name}=\"").into_bytes().into_boxed_slice();
        Family {
            desc,
            joints: desc.labels.iter().map(joint).collect(),
            text: Vec::new(),
            series: 0,
            dropped: 0,
            seen: Seen::default(),
            merges: Vec::new(),
            expected: 0,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the one place where all parts of a line meet")]
    #[inline]
    fn add(
        &mut self,
        suffix: &str,
        constant: &[u8],
        labels: &[&str],
        le: Option<&str>,
        value: f64,
        limit: u32,
        seed: u64,
    ) {
        debug_assert_eq!(labels.len(), self.desc.labels.len(), "{}", self.desc.name);
        if self.text.is_empty() {
            self.head();
        }
        let mut hash =
            [suffix.as_bytes(), constant].into_iter().fold(seed, |state, part| hash(part, state, seed));
        for label in labels.iter().copied().chain(le) {
            hash = self::hash(label.as_bytes(), hash, seed);
        }
        // The line is written while its place in the table is on its way from memory.
        self.seen.expect(hash);
        let start = self.text.len();
        let text = &mut self.text;
        append(text, self.desc.name.as_bytes());
        append(text, suffix.as_bytes());
        let own = !labels.is_empty() || le.is_some();
        if own || !constant.is_empty() {
            text.push(b'{');
            append(text, constant);
            if own && !constant.is_empty() {
                text.push(b',');
            }
            for (at, (joint, value)) in self.joints.iter().zip(labels).enumerate() {
                append(text, if at == 0 { &joint[2..] } else { joint });
                escape_label(text, value);
            }
            if !labels.is_empty() {
                text.push(b'"');
            }
            if let Some(le) = le {
                append(text, if labels.is_empty() { b"le=\"" } else { b",le=\"" });
                append(text, le.as_bytes());
                text.push(b'"');
            }
            text.push(b'}');
        }
        text.push(b' ');
        // A text beyond 4 GiB would break the offsets; no scrape comes near, and none may.
        let full = self.series >= limit || text.len() > u32::MAX as usize;
        match self.seen.insert(text, start, hash, full) {
            Place::New => {
                number::write(text, value);
                text.push(b'\n');
                self.series += 1;
            }
            Place::Again(first) => {
                text.truncate(start);
                self.merges.push((first, value));
            }
            Place::Refused => {
                text.truncate(start);
                self.dropped += 1;
            }
        }
    }

    fn head(&mut self) {
        let Desc { name, help, kind, .. } = self.desc;
        self.text.reserve(self.expected);
        if self.expected >= LARGE {
            expect_much(&mut self.text);
        }
        self.text.extend_from_slice(b"# HELP ");
        self.text.extend_from_slice(name.as_bytes());
        self.text.push(b' ');
        escape_help(&mut self.text, help);
        self.text.extend_from_slice(b"\n# TYPE ");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(match kind {
            Kind::Counter => b" counter\n",
            Kind::Gauge => b" gauge\n",
            Kind::Histogram => b" histogram\n",
        });
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let merges = std::mem::take(&mut self.merges);
        let mut text = std::mem::take(&mut self.text);
        if !merges.is_empty() {
            text = merge(&text, merges, self.desc);
        }
        self.expected = text.len();
        self.series = 0;
        self.seen.clear();
        (!text.is_empty()).then_some(text)
    }
}

/// Rewrites `text` with the values of later duplicates put into the first series of their labels.
fn merge(text: &[u8], mut merges: Vec<(u32, f64)>, desc: &Desc) -> Vec<u8> {
    merges.sort_by_key(|&(start, _)| start);
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut copied = 0;
    for same in merges.chunk_by(|a, b| a.0 == b.0) {
        let start = same[0].0 as usize;
        let end = memchr::memchr(b'\n', &text[start..]).map_or(text.len(), |at| start + at);
        // Label values may hold blanks, the value behind the last one cannot.
        let value_at = memchr::memrchr(b' ', &text[start..end]).map_or(end, |at| start + at + 1);
        let first =
            std::str::from_utf8(&text[value_at..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let add = desc.kind != Kind::Gauge || desc.duplicate == Duplicate::Add;
        let value =
            same.iter().fold(first, |all, &(_, value)| if add { all + value } else { f64::max(all, value) });
        out.extend_from_slice(&text[copied..value_at]);
        number::write(&mut out, value);
        copied = end;
    }
    out.extend_from_slice(&text[copied..]);
    out
}

/// Where a series belongs.
enum Place {
    /// Behind the others.
    New,
    /// Into the series that starts at this offset.
    Again(u32),
    /// Nowhere: it is new, and the family is at its cap.
    Refused,
}

/// Which label sets a family has: open addressing over offsets into the family's own text.
#[derive(Debug, Default)]
struct Seen {
    /// Hash in the upper half, offset of the line plus one in the lower; 0 is free.
    slots: Vec<u64>,
    used: usize,
    /// Slots that were needed last time, when they were many.
    expected: usize,
}

impl Seen {
    /// Makes room for one more series, whose hash is `hash`, and has its place in the table fetched.
    fn expect(&mut self, hash: u64) {
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow(self.expected.max(16));
        }
        let mask = self.slots.len() - 1;
        prefetch(&self.slots[(hash >> 32) as usize & mask]);
    }

    /// Looks for the expected series, which starts at `start` and is the end of `text` so far; notes it if it is new and not
    /// `full`.
    fn insert(&mut self, text: &[u8], start: usize, hash: u64, full: bool) -> Place {
        let key = &text[start..];
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                if full {
                    return Place::Refused;
                }
                self.slots[at] = (hash & !0xffff_ffff) | (start as u64 + 1);
                self.used += 1;
                return Place::New;
            }
            let other = (slot as u32 - 1) as usize;
            if slot >> 32 == hash >> 32 && text[other..start].starts_with(key) {
                return Place::Again(other as u32);
            }
            at = (at + 1) & mask;
        }
    }

    /// Doubles the table, or gives it `least` slots. The hashes in the slots say where they go: the text is not looked at.
    fn grow(&mut self, least: usize) {
        let size = (self.slots.len() * 2).max(least);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let mut at = (slot >> 32) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }

    /// Forgets all series. A large table is freed; `expected` has its size for the next scrape.
    fn clear(&mut self) {
        self.used = 0;
        if self.slots.len() > 1024 {
            self.expected = self.slots.len();
            self.slots = Vec::new();
        } else {
            self.slots.fill(0);
        }
    }
}

/// Mixes `part` into `state`, sixteen bytes and a multiplication a step. Seeded, because label values come from outside: a
/// container's name must not be able to choose its slot.
#[inline]
fn hash(part: &[u8], mut state: u64, seed: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    // The length keeps ("ab", "c") apart from ("a", "bc").
    let other = (seed ^ part.len() as u64).wrapping_mul(FACTOR);
    let step = |state: u64, low: u64, high: u64| {
        let product = u128::from(low ^ state) * u128::from(high ^ other);
        (product >> 64) as u64 ^ product as u64
    };
    let halves = |bytes: &[u8; 16]| {
        let both = u128::from_le_bytes(*bytes);
        (both as u64, (both >> 64) as u64)
    };
    // The last two words may overlap, with each other or with the step before them.
    let (low, high) = if let Some(last) = part.last_chunk::<16>() {
        for bytes in part[..part.len() - 1].as_chunks::<16>().0 {
            let (low, high) = halves(bytes);
            state = step(state, low, high);
        }
        halves(last)
    } else if let (Some(first), Some(last)) = (part.first_chunk(), part.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (part.first_chunk(), part.last_chunk()) {
        (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
    } else {
        (part.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0)
    };
    step(state, low, high)
}

/// True when a label value has a backslash, a quote or a line feed: eight bytes at once, as most values are too short for
/// memchr's set-up to pay.
#[inline]
fn needs_escape(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let has = |word: u64, byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero & (ONES << 7)
    };
    let any = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        has(word, b'\\') | has(word, b'"') | has(word, b'\n')
    };
    match bytes.last_chunk::<8>() {
        Some(last) => bytes.as_chunks::<8>().0.iter().fold(any(last), |all, bytes| all | any(bytes)) != 0,
        None => bytes.iter().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')),
    }
}

/// Appends a label value: backslash, quote and line feed escaped, too long ones cut at a character.
#[inline]
fn escape_label(out: &mut Vec<u8>, value: &str) {
    let value = if value.len() <= limits::LABEL_BYTES { value } else { cut(value, limits::LABEL_BYTES) };
    let bytes = value.as_bytes();
    if !needs_escape(bytes) {
        return append(out, bytes);
    }
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// Appends a help text: backslash and line feed escaped.
fn escape_help(out: &mut Vec<u8>, help: &str) {
    for &byte in help.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// The longest start of `text` of at most `max` bytes that ends between two characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUESTS: Desc = Desc::counter("test_requests_total", "Requests \\ of\nall kinds.", &["path"]);
    static USED: Desc = Desc::gauge("node_test_used_bytes", "Bytes.", &[]);
    static LIMIT: Desc = Desc::state("container_test_limit_bytes", "Limit.", &["device"]);
    static TIMES: Desc = Desc::histogram("test_time_seconds", "Times.", &["kind"]);

    /// Families live in statics, which one registry at a time may number: tests that use one run one after the other.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn check(limit: u32, fill: impl Fn(&mut Registry), expected: &str) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let node = ConstLabels::default().with(&[("machine_id", "m")]);
        let mut registry = Registry::new([&REQUESTS, &USED, &LIMIT, &TIMES], node, limit);
        for _ in 0..2 {
            fill(&mut registry);
            let text = String::from_utf8(registry.finish().pieces.concat()).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn families_are_contiguous_and_escaped() {
        check(
            10,
            |out| {
                out.add(&REQUESTS, &["a\\b\"c\nd"], 1.0);
                out.add(&USED, &[], 2.5);
                out.add(&REQUESTS, &["é"], 2e6);
            },
            "# HELP test_requests_total Requests \\\\ of\\nall kinds.\n# TYPE test_requests_total counter\n\
             test_requests_total{path=\"a\\\\b\\\"c\\nd\"} 1\ntest_requests_total{path=\"é\"} 2e+06\n\
             # HELP node_test_used_bytes Bytes.\n# TYPE node_test_used_bytes gauge\n\
             node_test_used_bytes{machine_id=\"m\"} 2.5\n",
        );
    }

    #[test]
    fn duplicates_add_or_take_the_larger() {
        let container = ConstLabels::default().with(&[("container_id", "/a b")]);
        check(
            10,
            |out| {
                for value in [1.0, 2.0, 4.0] {
                    out.add(&REQUESTS, &["x y"], value);
                    out.container(&container, &LIMIT, &["sda"], value);
                }
                out.add(&REQUESTS, &["z"], 7.0);
            },
            "# HELP test_requests_total Requests \\\\ of\\nall kinds.\n# TYPE test_requests_total counter\n\
             test_requests_total{path=\"x y\"} 7\ntest_requests_total{path=\"z\"} 7\n\
             # HELP container_test_limit_bytes Limit.\n# TYPE container_test_limit_bytes gauge\n\
             container_test_limit_bytes{container_id=\"/a b\",device=\"sda\"} 4\n",
        );
    }

    #[test]
    fn a_family_at_its_cap_refuses_and_counts() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut registry = Registry::new([&REQUESTS], ConstLabels::default(), 2);
        for scrape in 1..=2u64 {
            for path in ["a", "b", "c", "d"] {
                registry.add(&REQUESTS, &[path], 1.0);
            }
            registry.add(&REQUESTS, &["a"], 1.0);
            let counts = registry.counts();
            assert_eq!((counts[0].series, counts[0].dropped), (2, 2 * scrape));
            registry.finish();
        }
    }

    #[test]
    fn histograms_end_with_infinity() {
        check(
            10,
            |out| out.histogram(&TIMES, &["k"], &[(0.5, 1), (1.0, 3)], 2.25, 4),
            "# HELP test_time_seconds Times.\n# TYPE test_time_seconds histogram\n\
             test_time_seconds_bucket{kind=\"k\",le=\"0.5\"} 1\ntest_time_seconds_bucket{kind=\"k\",le=\"1\"} 3\n\
             test_time_seconds_bucket{kind=\"k\",le=\"+Inf\"} 4\ntest_time_seconds_sum{kind=\"k\"} 2.25\n\
             test_time_seconds_count{kind=\"k\"} 4\n",
        );
    }

    #[test]
    fn many_series_stay_apart() {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut registry = Registry::new([&REQUESTS], ConstLabels::default(), 100_000);
        for round in 0..2 {
            for path in 0..20_000 {
                registry.add(&REQUESTS, &[&format!("p{path}")], f64::from(round));
            }
        }
        assert_eq!(registry.counts()[0].series, 20_000);
        let text = String::from_utf8(registry.finish().pieces.concat()).unwrap();
        assert!(text.lines().skip(2).all(|line| line.ends_with(" 1")), "every series added its two values");
    }

    #[test]
    fn every_place_of_a_value_is_escaped() {
        for length in 0..40 {
            for (byte, escaped) in [("\\", "\\\\"), ("\"", "\\\""), ("\n", "\\n"), ("\u{8a}", "\u{8a}")] {
                for at in 0..length {
                    let (before, after) = ("x".repeat(at), "y".repeat(length - at - 1));
                    let mut out = Vec::new();
                    escape_label(&mut out, &format!("{before}{byte}{after}"));
                    assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{escaped}{after}"));
                }
            }
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "é".repeat(limits::LABEL_BYTES);
        let mut out = Vec::new();
        escape_label(&mut out, &long);
        assert_eq!(out.len(), limits::LABEL_BYTES);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
