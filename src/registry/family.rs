//! The text of one family: its head, a line per series, and which series there are already.

use std::borrow::Cow;
use std::rc::Rc;

use super::Piece;
use super::escape::{escape_help, escape_label};
use super::seen::{Place, Seen, hash};
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
    /// Series that found the family at its cap, since the start.
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
            dropped: 0,
            refused: 0,
            is_told: false,
            seen: Seen::default(),
            merges: Vec::new(),
            expected: 0,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the one place where all parts of a line meet")]
    #[inline]
    pub(super) fn add(
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
        // A text that is full doubles.
        let (room, size) = (self.text.capacity() - self.text.len(), self.text.capacity() as u64);
        // Small ones always have their place: they say, among other things, that memory is short.
        if room < LINE && self.text.len() >= SMALL && !memory::admits_bytes(Use::Series, size) {
            self.dropped += 1;
            return;
        }
        let mut hash = seed;
        if !unique {
            hash = self::hash(suffix.as_bytes(), hash, seed);
            hash = self::hash(constant, hash, seed);
            for label in labels.iter().copied().chain(le) {
                hash = self::hash(label.as_bytes(), hash, seed);
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
        self.is_told = false;
        self.seen.clear();
        self.last = (!text.is_empty()).then(|| Piece::from(text));
        self.last.clone()
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
