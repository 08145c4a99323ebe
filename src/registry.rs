//! The metrics of one scrape, from `collect` to text: constant labels, escaping, duplicates, caps, rendering.
//!
//! Each family has one buffer into which its series are written in their final form, so a body is the list of those buffers
//! and no series is copied a second time. Format: Prometheus text 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::limits;
use crate::metric::{Desc, Duplicate, DynamicDesc, Kind, Scope};
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
    /// Families that configs declare, in the order in which they were first met.
    dynamic: Vec<Family>,
    node_labels: ConstLabels,
    series_limit: u32,
    seed: u64,
}

/// What a family held in this scrape, for the metrics about metrics.
#[derive(Debug, Clone)]
pub struct FamilyCount {
    /// The family's name.
    pub name: Cow<'static, str>,
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
                families.iter().all(|family| family.name != desc.name),
                "{} is declared twice",
                desc.name
            );
            desc.set_slot(families.len());
            families.push(Family::new(desc));
        }
        let seed = RandomState::new().build_hasher().finish();
        Registry { families, dynamic: Vec::new(), node_labels, series_limit, seed }
    }

    /// The family that a config declares. `unique`: no label set will be added twice in this scrape, so none is looked for.
    pub fn dynamic(&mut self, desc: &DynamicDesc, unique: bool) -> Writer<'_> {
        let known = self.dynamic.iter().position(|family| *family.name == *desc.name);
        let at = known.unwrap_or_else(|| {
            self.dynamic.push(Family::dynamic(desc));
            self.dynamic.len() - 1
        });
        let family = &mut self.dynamic[at];
        if family.text.is_empty() && !family.is_declared_as(desc) {
            // Another config took the name over.
            *family = Family { dropped: family.dropped, ..Family::dynamic(desc) };
        }
        Writer { family, constant: &[], limit: self.series_limit, seed: self.seed, unique }
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
        if let Some(mut writer) = self.writer(desc, None) {
            writer.histogram(labels, buckets.iter().copied(), sum, count);
        }
    }

    /// What every family with series, or with refused ones, holds by now.
    pub fn counts(&self) -> Vec<FamilyCount> {
        let families = self.families.iter().chain(&self.dynamic);
        families
            .filter(|family| family.series > 0 || family.dropped > 0)
            .map(|family| FamilyCount {
                name: family.name.clone(),
                series: family.series,
                dropped: family.dropped,
            })
            .collect()
    }

    /// Ends the scrape: hands the text out and starts anew.
    pub fn finish(&mut self) -> Body {
        self.dynamic.retain(|family| !family.text.is_empty() || family.dropped > 0);
        let families = self.families.iter_mut().chain(&mut self.dynamic);
        Body { pieces: families.filter_map(Family::take).collect() }
    }

    fn series(&mut self, desc: &'static Desc, container: Option<&ConstLabels>, labels: &[&str], value: f64) {
        if let Some(mut writer) = self.writer(desc, container) {
            writer.add(labels, value);
        }
    }

    fn writer<'a>(
        &'a mut self,
        desc: &'static Desc,
        container: Option<&'a ConstLabels>,
    ) -> Option<Writer<'a>> {
        let family = self
            .families
            .get_mut(desc.slot())
            .filter(|family| family.desc.is_some_and(|known| std::ptr::eq(known, desc)));
        debug_assert!(family.is_some(), "{} is in no collector's metrics", desc.name);
        let constant = match (container, desc.scope()) {
            (Some(container), _) => &container.0,
            (None, Scope::Node) => &self.node_labels.0,
            (None, _) => &[][..],
        };
        Some(Writer { family: family?, constant, limit: self.series_limit, seed: self.seed, unique: false })
    }
}

/// Adds series to one family.
pub struct Writer<'a> {
    family: &'a mut Family,
    /// Labels in front of all others.
    constant: &'a [u8],
    limit: u32,
    seed: u64,
    unique: bool,
}

impl Writer<'_> {
    /// Adds a series; `labels` are the values of the family's labels, in order.
    #[inline]
    pub fn add(&mut self, labels: &[&str], value: f64) {
        self.line("", labels, None, value);
    }

    /// Adds a histogram: upper bounds with **cumulative** counts, without `+Inf`, which is `count`.
    pub fn histogram(
        &mut self,
        labels: &[&str],
        buckets: impl Iterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        let mut le = Vec::with_capacity(24);
        for (bound, cumulative) in buckets.chain([(f64::INFINITY, count)]) {
            le.clear();
            number::write(&mut le, bound);
            let le = std::str::from_utf8(&le).unwrap_or("");
            self.line("_bucket", labels, Some(le), cumulative as f64);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64);
    }

    /// Counts series that were left out before they came here.
    pub fn refuse(&mut self, count: u64) {
        self.family.dropped += count;
    }

    #[inline]
    fn line(&mut self, suffix: &str, labels: &[&str], le: Option<&str>, value: f64) {
        let Writer { constant, limit, seed, unique, .. } = *self;
        self.family.add(suffix, constant, labels, le, value, limit, seed, unique);
    }
}

/// Bytes of a family from which on large pages pay: two of them.
const LARGE: usize = 4 << 20;

/// The text of one family as it grows.
#[derive(Debug)]
struct Family {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: Kind,
    duplicate: Duplicate,
    /// Its declaration, if it is one of nodeprobe's own.
    desc: Option<&'static Desc>,
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
        Family {
            desc: Some(desc),
            duplicate: desc.duplicate,
            ..Family::empty(
                desc.name.into(),
                desc.help.into(),
                desc.kind,
                desc.labels.iter().map(|name| joint(name)),
            )
        }
    }

    fn dynamic(desc: &DynamicDesc) -> Family {
        let joints = desc.labels.iter().map(|name| joint(name));
        Family::empty(desc.name.to_string().into(), desc.help.to_string().into(), desc.kind, joints)
    }

    fn is_declared_as(&self, desc: &DynamicDesc) -> bool {
        let joints = desc.labels.iter().map(|name| joint(name));
        self.help == *desc.help && self.kind == desc.kind && self.joints.iter().cloned().eq(joints)
    }

    fn empty(
        name: Cow<'static, str>,
        help: Cow<'static, str>,
        kind: Kind,
        joints: impl Iterator<Item = Box<[u8]>>,
    ) -> Family {
        Family {
            name,
            help,
            kind,
            duplicate: Duplicate::Add,
            desc: None,
            joints: joints.collect(),
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
        unique: bool,
    ) {
        debug_assert_eq!(labels.len(), self.joints.len(), "{}", self.name);
        if self.text.is_empty() {
            self.head();
        }
        let mut hash = seed;
        if !unique {
            for part in [suffix.as_bytes(), constant]
                .into_iter()
                .chain(labels.iter().copied().chain(le).map(str::as_bytes))
            {
                hash = self::hash(part, hash, seed);
            }
            // The line is written while its place in the table is on its way from memory.
            self.seen.expect(hash);
        }
        let start = self.text.len();
        let text = &mut self.text;
        append(text, self.name.as_bytes());
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
        let place = match unique {
            true if full => Place::Refused,
            true => Place::New,
            false => self.seen.insert(text, start, hash, full),
        };
        match place {
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
        let Family { name, help, kind, text, expected, .. } = self;
        text.reserve(*expected);
        if *expected >= LARGE {
            expect_much(text);
        }
        text.extend_from_slice(b"# HELP ");
        text.extend_from_slice(name.as_bytes());
        text.push(b' ');
        escape_help(text, help);
        text.extend_from_slice(b"\n# TYPE ");
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(match kind {
            Kind::Counter => b" counter\n",
            Kind::Gauge => b" gauge\n",
            Kind::Histogram => b" histogram\n",
        });
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let merges = std::mem::take(&mut self.merges);
        let mut text = std::mem::take(&mut self.text);
        if !merges.is_empty() {
            let add = self.kind != Kind::Gauge || self.duplicate == Duplicate::Add;
            text = merge(&text, merges, add);
        }
        self.expected = text.len();
        self.series = 0;
        self.seen.clear();
        (!text.is_empty()).then_some(text)
    }
}

/// What stands before the value of label `name`: `",name="`, of which the first label needs no `",`.
fn joint(name: &str) -> Box<[u8]> {
    format!("\",{name}=\"").into_bytes().into()
}

/// Rewrites `text` with the values of later duplicates put into the first series of their labels: their sum, or the largest.
fn merge(text: &[u8], mut merges: Vec<(u32, f64)>, add: bool) -> Vec<u8> {
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
    fn families_of_configs_come_and_go() {
        let mut registry = Registry::new([], ConstLabels::default(), 3);
        let desc = |help: &str, labels: &[&str]| DynamicDesc {
            name: "x_total".into(),
            help: help.into(),
            kind: Kind::Counter,
            labels: labels.iter().map(|&label| label.into()).collect(),
        };
        let text = |registry: &mut Registry| String::from_utf8(registry.finish().pieces.concat()).unwrap();
        registry.dynamic(&desc("One.", &["a", "b"]), true).add(&["1", "2"], 3.0);
        assert_eq!(
            text(&mut registry),
            "# HELP x_total One.\n# TYPE x_total counter\nx_total{a=\"1\",b=\"2\"} 3\n"
        );
        // Another config has the name now; two of them share it.
        for value in [1.0, 4.0] {
            let mut writer = registry.dynamic(&desc("Two.", &["c"]), false);
            writer.add(&["1"], value);
            writer.refuse(2);
        }
        assert_eq!((registry.counts()[0].series, registry.counts()[0].dropped), (1, 4));
        assert_eq!(text(&mut registry), "# HELP x_total Two.\n# TYPE x_total counter\nx_total{c=\"1\"} 5\n");
        assert_eq!(text(&mut registry), "");
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
