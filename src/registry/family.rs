//! The text of one family: its head, a line per series, and which series there are already.

use std::borrow::Cow;
use std::rc::Rc;

use super::Piece;
use super::escape::{escape_help, escape_label};
use super::seen::{Place, Seen, hash};
use crate::limits;
use crate::memory::{self, Use};
use crate::metric::{Desc, Duplicate, DynamicDesc, Kind};
use crate::number;
use crate::sys::text::{append, expect_much};

/// Bytes of a family from which on large pages pay: two of them.
const LARGE: usize = 4 << 20;

/// Bytes of a line; longer ones are rare.
const LINE: usize = 1 << 10;

/// Bytes of room nobody minds.
const SMALL: usize = 16 << 10;

/// Bytes of a histogram's line beside its name, its labels and what stands before them: suffix, `le`, value.
const HISTOGRAM_LINE: usize = 40;

/// The text of one family as it grows.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: Kind,
    duplicate: Duplicate,
    /// Its declaration, if it is one of nodeprobe's own.
    pub(super) desc: Option<&'static Desc>,
    /// What stands before the value of each label: `",name="`, of which the first label needs no `",`.
    joints: Box<[Box<[u8]>]>,
    pub(super) text: Vec<u8>,
    /// The text of the last scrape.
    last: Option<Piece>,
    pub(super) series: u32,
    /// Nothing new is taken in any more in this scrape: what came later and did find room would have only its own part of a
    /// value that several add to, and a counter would seem to fall.
    is_full: bool,
    /// Series that found the family at its cap, or no memory, since the start.
    dropped: u64,
    /// Those that were left out before they came here, since the start, as told last; and whether this scrape has been told.
    refused: u64,
    is_told: bool,
    seen: Seen,
    /// Values to be merged into an earlier series of the same labels: where its line starts, and the value. Rare.
    merges: Vec<(u32, f64)>,
    /// What the text needed last time, so that it is allocated once.
    expected: usize,
}

impl Family {
    pub(super) fn new(desc: &'static Desc) -> Family {
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

    pub(super) fn dynamic(desc: &DynamicDesc) -> Family {
        let joints = desc.labels.iter().map(|name| joint(name));
        Family::empty(desc.name.to_string().into(), desc.help.to_string().into(), desc.kind, joints)
    }

    pub(super) fn is_declared_as(&self, desc: &DynamicDesc) -> bool {
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
            last: None,
            series: 0,
            is_full: false,
            dropped: 0,
            refused: 0,
            is_told: false,
            seen: Seen::default(),
            merges: Vec::new(),
            expected: 0,
        }
    }

    /// Whether a whole histogram may be added: each of its `lines` has room (`Some(true)`), or it stands already, so that all
    /// but those of new buckets go into lines that are there (`Some(false)`). One that may not is counted. `count`: the key of its
    /// last line, `_count`.
    pub(super) fn reserve(
        &mut self,
        lines: u32,
        count: Key<'_>,
        limit: u32,
        seed: u64,
        unique: bool,
    ) -> Option<bool> {
        let joints: usize = self.joints.iter().map(|joint| joint.len()).sum();
        let values: usize = count.labels.iter().map(|value| value.len().min(limits::LABEL_BYTES)).sum();
        let bytes =
            lines as usize * (self.name.len() + count.constant.len() + joints + values + HISTOGRAM_LINE);
        if self.text.is_empty() && lines <= limit {
            self.head();
        }
        // What is escaped may take twice as much.
        let is_large = self.text.len() + 2 * bytes > u32::MAX as usize;
        let is_full = self.is_full || is_large || u64::from(self.series) + u64::from(lines) > limit.into();
        if !is_full && self.has_memory(bytes) {
            return Some(true);
        }
        // One that stands has been written whole, its count at last.
        if !unique && self.find(count, seed).is_some() {
            return Some(false);
        }
        self.is_full = true;
        self.dropped += u64::from(lines);
        None
    }

    /// Whether so many bytes more have room, or memory for it.
    fn has_memory(&self, bytes: usize) -> bool {
        let (room, size) = (self.text.capacity() - self.text.len(), self.text.capacity().max(bytes) as u64);
        room >= bytes || self.text.len() + bytes < SMALL || admits(size)
    }

    /// Adds a line. `reserved`: as part of a histogram that has room.
    #[inline]
    pub(super) fn add(
        &mut self,
        key: Key<'_>,
        value: f64,
        limit: u32,
        seed: u64,
        unique: bool,
        reserved: bool,
    ) {
        debug_assert_eq!(key.labels.len(), self.joints.len(), "{}", self.name);
        if self.text.is_empty() {
            self.head();
        }
        let room = self.text.capacity() - self.text.len();
        // Small ones always have their place: they say, among other things, that memory is short.
        if room < LINE && self.text.len() >= SMALL && !reserved && !self.has_memory_for_line() {
            return self.add_to_standing(key, value, seed, unique);
        }
        let mut hash = seed;
        if !unique {
            hash = key.hash(seed);
            // The line is written while its place in the table is on its way from memory.
            self.seen.expect(hash);
        }
        let start = self.text.len();
        let text = &mut self.text;
        key.append(text, &self.name, &self.joints);
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

    #[cold]
    fn has_memory_for_line(&mut self) -> bool {
        // A text that is full doubles. Asked even when the answer is known: what is refused is counted.
        let size = if self.is_full { u64::MAX } else { self.text.capacity() as u64 };
        self.is_full = !admits(size);
        !self.is_full
    }

    /// Merges a value into the series it is of, without memory for another one.
    #[cold]
    fn add_to_standing(&mut self, key: Key<'_>, value: f64, seed: u64, unique: bool) {
        match (!unique).then(|| self.find(key, seed)).flatten() {
            Some(first) => self.merges.push((first, value)),
            None => self.dropped += 1,
        }
    }

    /// Where the series stands, if it does.
    fn find(&self, key: Key<'_>, seed: u64) -> Option<u32> {
        let mut text = Vec::with_capacity(LINE);
        key.append(&mut text, &self.name, &self.joints);
        self.seen.find(&self.text, &text, key.hash(seed))
    }

    /// Series left out since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped + self.refused
    }

    /// Takes over the counts of a family of this name that was declared otherwise.
    pub(super) fn succeed(&mut self, old: &Family) {
        (self.dropped, self.refused, self.is_told) = (old.dropped, old.refused, old.is_told);
    }

    /// Takes note how many series were left out, since the start, before they came here. Several may tell in one scrape, each
    /// its own; nobody's word is that of the last scrape, so that the sum does not shrink while a map cannot be read.
    pub(super) fn refused_total(&mut self, total: u64) {
        self.refused = total + if self.is_told { self.refused } else { 0 };
        self.is_told = true;
    }

    /// The memory of the last text, if nobody reads that any more and it is not far too large.
    fn reuse(&mut self) {
        let Some(mut last) = self.last.take().and_then(|last| Rc::try_unwrap(last.0).ok()) else { return };
        if last.capacity() <= self.expected * 2 + SMALL {
            last.clear();
            self.text = last;
        }
    }

    fn head(&mut self) {
        self.reuse();
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

    pub(super) fn take(&mut self) -> Option<Piece> {
        let merges = std::mem::take(&mut self.merges);
        let mut text = std::mem::take(&mut self.text);
        if !merges.is_empty() {
            let add = self.kind != Kind::Gauge || self.duplicate == Duplicate::Add;
            text = merge(&text, merges, add);
        }
        self.expected = text.len();
        self.series = 0;
        self.is_full = false;
        self.is_told = false;
        self.seen.clear();
        self.last = (!text.is_empty()).then(|| Piece::from(text));
        self.last.clone()
    }
}

/// Whether there is memory for so many bytes more of text.
fn admits(bytes: u64) -> bool {
    #[cfg(test)]
    if NO_MEMORY.get() {
        return false;
    }
    memory::admits_bytes(Use::Series, bytes)
}

#[cfg(test)]
thread_local! {
    /// Has the tests of this thread be refused: the limit itself is that of all.
    pub(super) static NO_MEMORY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What tells a line from others of its family.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    /// Behind the family's name: `_bucket`, `_sum`, `_count`, or nothing.
    pub(super) suffix: &'a str,
    /// Constant labels, as they are written.
    pub(super) constant: &'a [u8],
    /// Values of the family's labels.
    pub(super) labels: &'a [&'a str],
    /// A bucket's upper bound.
    pub(super) le: Option<&'a str>,
}

impl Key<'_> {
    #[inline]
    fn hash(&self, seed: u64) -> u64 {
        let hash = hash(self.constant, hash(self.suffix.as_bytes(), seed, seed), seed);
        let labels = self.labels.iter().copied().chain(self.le);
        labels.fold(hash, |state, label| self::hash(label.as_bytes(), state, seed))
    }

    /// Writes a line up to its value.
    #[inline]
    fn append(&self, text: &mut Vec<u8>, name: &str, joints: &[Box<[u8]>]) {
        let Key { suffix, constant, labels, le } = *self;
        append(text, name.as_bytes());
        append(text, suffix.as_bytes());
        let own = !labels.is_empty() || le.is_some();
        if own || !constant.is_empty() {
            text.push(b'{');
            append(text, constant);
            if own && !constant.is_empty() {
                text.push(b',');
            }
            for (at, (joint, value)) in joints.iter().zip(labels).enumerate() {
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
