//! `--memory-limit`: how much memory nodeprobe takes altogether, and what it may still take in.
//!
//! Counted are the heap, what lies idle of it, BPF maps, and what the kernel keeps for files and watches that stay open: what a
//! cgroup's `memory.max` is about, page cache aside, which the kernel gives back. The heap is counted as it grows, by the
//! allocator, so nothing that grows with what comes from outside passes its share between two looks. The numbers are the
//! program's, as the allocator is, and so they stand beside it and not in the world.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sys::clock::MonotonicNs;
use crate::sys::heap;

/// Kernel memory of a file of a cgroup or of /proc that stays open: a page for what was read, and what describes the file.
pub const KEPT_FILE_BYTES: u64 = 5_632;

/// Kernel memory of a watch on a directory, with the directory it keeps in memory.
pub const WATCH_BYTES: u64 = 1_536;

/// What collectors keep of a container once they have all seen it: less for one without processes and connections, more for one
/// with many.
const CONTAINER_BYTES: u64 = 8_192;

/// How long it takes until they have, however many there are.
const GROWTH_NS: u64 = 30_000_000_000;

/// What asks for memory, by how early it must do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Use {
    /// Files kept open, which only saves time.
    Files,
    /// New patterns of logs; their messages still count, by level.
    Patterns,
    /// New keys of any kind: containers, processes, destinations, rows.
    Keys,
    /// Further series in a scrape.
    Series,
}

impl Use {
    /// All of them, by how early they must do without.
    pub const ALL: [Use; 4] = [Use::Files, Use::Patterns, Use::Keys, Use::Series];

    /// The word for labels.
    pub fn word(self) -> &'static str {
        ["files", "patterns", "keys", "series"][self as usize]
    }

    /// How much of the limit may be in use for it to get more.
    fn share(self) -> u64 {
        let eighths = [4, 5, 6, 7][self as usize];
        LIMIT.load(Relaxed) / 8 * eighths
    }
}

static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);
/// What the heap has of the kernel beyond what is in use, and what is on no heap.
static IDLE: AtomicU64 = AtomicU64::new(0);
static MAPS: AtomicU64 = AtomicU64::new(0);
static KERNEL: AtomicU64 = AtomicU64::new(0);
/// What was taken in and has yet to grow to its size.
static PROMISED: AtomicU64 = AtomicU64::new(0);
/// How often each use was refused.
static REFUSED: [AtomicU64; Use::ALL.len()] = [const { AtomicU64::new(0) }; Use::ALL.len()];

/// Sets the limit; until then there is none.
pub fn set_limit(bytes: u64) {
    LIMIT.store(bytes, Relaxed);
}

/// The limit in bytes; `u64::MAX` is none.
pub fn limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// Bytes in use by now, as far as is known.
pub fn used() -> u64 {
    heap::bytes() as u64
        + [&IDLE, &MAPS, &KERNEL, &PROMISED].map(|part| part.load(Relaxed)).iter().sum::<u64>()
}

/// Whether there is memory for one more; a refusal is counted.
pub fn admits(what: Use) -> bool {
    admits_bytes(what, 0)
}

/// Whether there is memory for so many bytes more.
pub fn admits_bytes(what: Use, bytes: u64) -> bool {
    let admitted = used().saturating_add(bytes) < what.share();
    if !admitted {
        REFUSED[what as usize].fetch_add(1, Relaxed);
    }
    admitted
}

/// Whether so little is in use that what was refused may be asked for again: less than what files and patterns may take, which
/// can stay so for good, and a half of what is between them and keys.
pub fn has_recovered() -> bool {
    used() < LIMIT.load(Relaxed) / 16 * 11
}

/// Whether so much is in use that what only saves time is to be given up.
pub fn is_short() -> bool {
    used() >= Use::Patterns.share()
}

/// How often each use was refused since the start.
pub fn refused() -> impl Iterator<Item = (Use, u64)> {
    Use::ALL.into_iter().map(|what| (what, REFUSED[what as usize].load(Relaxed)))
}

/// Takes note of how much anonymous memory is resident (`RssAnon`).
pub fn look(resident_bytes: u64) {
    IDLE.store(resident_bytes.saturating_sub(heap::bytes() as u64), Relaxed);
}

/// Takes note of the kernel memory of all BPF maps.
pub fn set_maps(bytes: u64) {
    MAPS.store(bytes, Relaxed);
}

/// Takes note of maps that were made since.
pub fn add_maps(bytes: u64) {
    MAPS.fetch_add(bytes, Relaxed);
}

/// Takes note of maps that are about to be replaced: until all are counted anew, others may have their place.
pub fn leave_out_maps(bytes: u64) {
    subtract(&MAPS, bytes);
}

/// Why maps of an object may not be made that take at least `bytes`; they and all there are may have half of the limit.
///
/// # Errors
/// A line that says so.
pub fn admit_maps(bytes: u64) -> Result<(), String> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (others, limit) = (MAPS.load(Relaxed), limit());
    if others.saturating_add(bytes) <= limit / 2 {
        return Ok(());
    }
    Err(format!(
        "its maps take {:.1} MiB, which with the {:.1} MiB of others is more than half of --memory-limit ({:.0} MiB)",
        mib(bytes),
        mib(others),
        mib(limit)
    ))
}

/// Takes note of kernel memory that is held from now on.
pub fn hold(bytes: u64) {
    KERNEL.fetch_add(bytes, Relaxed);
}

/// Takes note of kernel memory that was given back.
pub fn give_back(bytes: u64) {
    subtract(&KERNEL, bytes);
}

/// Containers that were taken in and will grow: thousands are met in one walk, before anybody keeps anything of them.
#[derive(Debug, Default)]
pub struct Growing(VecDeque<MonotonicNs>);

impl Growing {
    /// One more; for a while what it is going to take counts as used.
    pub fn begin(&mut self, now_ns: MonotonicNs) {
        self.0.push_back(now_ns + GROWTH_NS);
        PROMISED.fetch_add(CONTAINER_BYTES, Relaxed);
    }

    /// Those met long enough ago have grown, and count by themselves.
    pub fn settle(&mut self, now_ns: MonotonicNs) {
        while self.0.pop_front_if(|grown_ns| *grown_ns <= now_ns).is_some() {
            subtract(&PROMISED, CONTAINER_BYTES);
        }
    }
}

fn subtract(from: &AtomicU64, bytes: u64) {
    let _ = from.fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(bytes)));
}
