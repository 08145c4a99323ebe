//! The metrics of one scrape, from `collect` to text: constant labels, escaping, duplicates, caps, rendering.
//!
//! Each family has one buffer into which its series are written in their final form, so a body is the list of those buffers
//! and no series is copied a second time. Format: Prometheus text 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::limits;
use crate::metric::{Desc, Duplicate, Kind, Scope};
use crate::number;

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

/// The text of one family as it grows.
#[derive(Debug)]
struct Family {
    desc: &'static Desc,
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
        Family {
            desc,
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
        let start = self.text.len();
        let text = &mut self.text;
        text.extend_from_slice(self.desc.name.as_bytes());
        text.extend_from_slice(suffix.as_bytes());
        let mut opener = b'{';
        if !constant.is_empty() {
            text.push(opener);
            text.extend_from_slice(constant);
            opener = b',';
        }
        for (name, value) in
            self.desc.labels.iter().copied().zip(labels.iter().copied()).chain(le.map(|le| ("le", le)))
        {
            text.push(opener);
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"=\"");
            escape_label(text, value);
            text.push(b'"');
            opener = b',';
        }
        text.extend_from_slice(if opener == b',' { b"} " } else { b" " });
        // A text beyond 4 GiB would break the offsets; no scrape comes near, and none may.
        let full = self.series >= limit || text.len() > u32::MAX as usize;
        match self.seen.insert(text, start, seed, full) {
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
}

impl Seen {
    /// Looks for the series that starts at `start` and is the end of `text` so far; notes it if it is new and not `full`.
    fn insert(&mut self, text: &[u8], start: usize, seed: u64, full: bool) -> Place {
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow(text, seed);
        }
        let key = &text[start..];
        let hash = hash(key, seed);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
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

    fn grow(&mut self, text: &[u8], seed: u64) {
        let size = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let line = &text[(slot as u32 - 1) as usize..];
            let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
            let key = memchr::memrchr(b' ', &line[..end]).map_or(line, |blank| &line[..=blank]);
            let mut at = hash(key, seed) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }

    /// Forgets all series; keeps the table unless it is large.
    fn clear(&mut self) {
        self.used = 0;
        if self.slots.len() > 1024 {
            self.slots = Vec::new();
        } else {
            self.slots.fill(0);
        }
    }
}

/// Eight bytes a step, a multiplication each. Seeded, because label values come from outside: a container's name must not be
/// able to choose its slot.
fn hash(key: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = key.as_chunks::<8>();
    let mut state = seed ^ key.len() as u64;
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(state, u64::from_le_bytes(last)), FACTOR)
}

/// Appends a label value: backslash, quote and line feed escaped, too long ones cut at a character.
#[inline]
fn escape_label(out: &mut Vec<u8>, value: &str) {
    let value = if value.len() <= limits::LABEL_BYTES { value } else { cut(value, limits::LABEL_BYTES) };
    let bytes = value.as_bytes();
    // Nearly no value has anything to escape, and most are too short for memchr's set-up to pay.
    if !bytes.iter().fold(false, |found, &byte| found | matches!(byte, b'\\' | b'"' | b'\n')) {
        return out.extend_from_slice(bytes);
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
    fn long_values_are_cut_between_characters() {
        let long = "é".repeat(limits::LABEL_BYTES);
        let mut out = Vec::new();
        escape_label(&mut out, &long);
        assert_eq!(out.len(), limits::LABEL_BYTES);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
