//! Follows log files: from paths to whole records, each exactly once, through rotation, truncation and restarts.
//!
//! [`Tail::turn`] does a bounded piece of work. A path is looked at when inotify names it, once a second where inotify does not
//! tell of all that may happen, and every ten seconds where it should; what is new is read with pread(2) to one buffer for all
//! files. Nothing is kept of a record that has no end yet: it stays in the file and is read again. Files that were renamed are
//! read to their end, and those that came and went between two looks are found by their names ([`siblings`]).

mod follow;
pub mod frame;
mod place;
pub mod positions;
mod print;
mod segment;
pub mod siblings;
mod watches;

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::host::Host;
use crate::sys::clock::MonotonicNs;
use follow::{Desk, Follow};
use frame::{Framing, Record};
use positions::Positions;
use watches::{Watched, Watches};

/// What a caller calls one followed path; the records come under it.
pub type Key = u64;

/// How often paths are looked at of which inotify does not tell all.
const CHECK_NS: u64 = 1_000_000_000;

/// Of the others, each has its turn at one of so many checks: hard links and lost events are rare, and containers many.
const CHECKS: usize = 10;

/// After news from inotify, how long no more is asked for: a busy writer would wake nodeprobe for each line.
const BATCH_NS: u64 = 100_000_000;

/// How long a file that was renamed or removed must have been quiet to be let go: writers keep it open for a while.
const GRACE_NS: u64 = 5_000_000_000;

/// How long positions wait for their paths to be followed, or followed again: a container that is restarted goes on in its files.
const SAVED_NS: u64 = 86_400_000_000_000;

/// Paths no more followed whose positions are kept so long.
const SAVED_PATHS: usize = 4096;

/// How long fewer files are kept open after there was no descriptor left for one.
const STARVED_NS: u64 = 60_000_000_000;

/// How long more is expected of a file whose container has ended.
const END_NS: u64 = 1_500_000_000;

/// Paths looked at in one turn, of which each costs some microseconds.
const LOOKS_PER_TURN: usize = 1024;

/// Open files that are considered for closing, for each one opened beyond the limit.
const CLOSE_STEPS: usize = 64;

/// The buffer: two records and what stands before them.
const BUFFER: usize = 2 * frame::MAX_RECORD;

/// Where reading begins when no position was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next record: the file was there before us. One that appears later is read from its beginning.
    End,
    /// With the file's first record.
    Beginning,
    /// With the first record of the oldest file it was rotated to: the path belongs to one container alone.
    Oldest,
}

/// Bounds of a [`Tail`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files kept open. Files that were rotated away are read one after the other and may exceed it for seconds.
    pub open_files: usize,
    /// Directories watched with inotify; files elsewhere are looked at once a second.
    pub watches: usize,
    /// Bytes read in one turn.
    pub turn_bytes: usize,
    /// Bytes of one path in one turn.
    pub file_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { open_files: 1024, watches: 4096, turn_bytes: 1 << 20, file_bytes: 256 << 10 }
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes read and done with.
    pub bytes: u64,
    /// Records given.
    pub records: u64,
    /// Files that took the place of others.
    pub rotations: u64,
    /// Files found cut and written anew.
    pub truncations: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
    /// Files lost, with bytes nobody knows the number of when they were packed.
    pub lost_files: u64,
    /// Records beyond [`frame::MAX_RECORD`], of which the beginning was given at most.
    pub too_long: u64,
}

/// A path that could not be read; said once until it works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whose.
    pub key: Key,
    /// The path and why, for a person.
    pub text: String,
}

/// The follower of all files.
#[derive(Debug)]
pub struct Tail {
    desk: Desk,
    limits: Limits,
    watches: Watches,
    slots: Vec<Option<Box<Follow>>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    queue: VecDeque<usize>,
    saved: Positions,
    /// Paths of these positions, the oldest first, and until when they are kept; from an earlier life, since the first turn.
    forgotten: VecDeque<(MonotonicNs, Rc<str>)>,
    next_check_ns: MonotonicNs,
    checks: usize,
    muted_until_ns: MonotonicNs,
    open_files: usize,
    unwatched: usize,
    /// Files that may be open: fewer than the limit for a while after there was no descriptor left for one.
    open_limit: usize,
    starved_until_ns: MonotonicNs,
    /// Where the search for files to close goes on.
    hand: usize,
}

impl Tail {
    /// Follows nothing yet; `saved` are the positions of an earlier life.
    pub fn new(host: Host, limits: Limits, saved: Positions) -> Tail {
        let forgotten = saved.paths().map(|path| (SAVED_NS, path.into())).collect();
        Tail {
            desk: Desk {
                host,
                buffer: vec![0; BUFFER].into(),
                counters: Counters::default(),
                problems: Vec::new(),
                starved: false,
            },
            limits,
            watches: Watches::new(limits.watches),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            queue: VecDeque::new(),
            saved,
            forgotten,
            next_check_ns: 0,
            checks: 0,
            muted_until_ns: 0,
            open_files: 0,
            unwatched: 0,
            open_limit: limits.open_files,
            starved_until_ns: 0,
            hand: 0,
        }
    }

    /// Follows the file at `path` of the host from the next turn on; false for a path that is none, or a key in use. The file may
    /// appear later.
    pub fn follow(&mut self, key: Key, path: &str, framing: Framing, start: Start) -> bool {
        if !place::is_file_path(path) || self.by_key.contains_key(&key) {
            return false;
        }
        if let Some(slot) = self.ending_at(path) {
            self.take_over(slot, key);
            return true;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let restored = self.saved.take(path);
        if !restored.is_empty() {
            self.forgotten.retain(|(_, known)| **known != *path);
        }
        self.slots[slot] = Some(Box::new(Follow::new(key, path, framing, start, restored)));
        self.by_key.insert(key, slot);
        self.enqueue(slot, Some(false));
        true
    }

    /// A path that is about to be forgotten.
    fn ending_at(&self, path: &str) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|known| known.ending && &*known.path == path))
    }

    fn take_over(&mut self, slot: usize, key: Key) {
        if let Some(follow) = &mut self.slots[slot] {
            self.by_key.remove(&follow.key);
            self.by_key.insert(key, slot);
            (follow.key, follow.ending, follow.over_ns, follow.is_over) = (key, false, None, false);
            self.enqueue(slot, Some(true));
        }
    }

    /// What is about to be forgotten under `old` goes on under `key`, at `path`; false if it is forgotten already, or not to be.
    pub fn adopt(&mut self, old: Key, key: Key, path: &str) -> bool {
        let is_ending = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|follow| follow.ending);
        let Some(slot) = self.by_key.get(&old).copied().filter(is_ending) else { return false };
        self.take_over(slot, key);
        self.retarget(key, path);
        true
    }

    /// Reads the file to its end, gives what it ends with after a moment, and stops following it: for containers that are gone.
    pub fn end(&mut self, key: Key) {
        if let Some(&slot) = self.by_key.get(&key) {
            if let Some(follow) = &mut self.slots[slot] {
                follow.ending = true;
            }
            self.enqueue(slot, Some(true));
        }
    }

    /// Takes no way over symbolic links to the file of `key`: for directories of people who could lead us anywhere.
    pub fn refuse_links(&mut self, key: Key) {
        if let Some(follow) = self.by_key.get(&key).and_then(|&slot| self.slots[slot].as_mut()) {
            follow.refuses_links = true;
        }
    }

    /// The file of `key` is reached by another path from now on.
    pub fn retarget(&mut self, key: Key, path: &str) {
        let Some(&slot) = self.by_key.get(&key) else { return };
        if let Some(follow) = self.slots[slot].as_mut().filter(|_| place::is_file_path(path)) {
            follow.path = path.into();
            follow.place = None;
            self.enqueue(slot, Some(true));
        }
    }

    /// True while `key` is followed, and while the rest of it is read.
    pub fn is_followed(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The descriptor that becomes readable when files change; none for a moment after it did, and without inotify.
    pub fn fd(&self, now_ns: MonotonicNs) -> Option<RawFd> {
        self.watches.fd().filter(|_| now_ns >= self.muted_until_ns)
    }

    /// When [`Tail::turn`] wants to be called though nothing became readable.
    pub fn deadline_ns(&self, now_ns: MonotonicNs) -> Option<MonotonicNs> {
        if !self.queue.is_empty() {
            return Some(now_ns);
        }
        let muted = (now_ns < self.muted_until_ns).then_some(self.muted_until_ns);
        (!self.by_key.is_empty()).then(|| self.next_check_ns.min(muted.unwrap_or(u64::MAX)))
    }

    /// True when the last turn left something for the next.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// True while some file is only looked at once a second because there are no more watches.
    pub fn is_polling(&self) -> bool {
        self.unwatched > 0
    }

    /// Bytes that were there when somebody looked, and were not given.
    pub fn lag_bytes(&self) -> u64 {
        self.follows().map(Follow::lag_bytes).sum()
    }

    /// What was done since the start.
    pub fn counters(&self) -> &Counters {
        &self.desk.counters
    }

    /// Followed paths.
    pub fn files(&self) -> usize {
        self.by_key.len()
    }

    /// Open files.
    pub fn open_files(&self) -> usize {
        self.open_files
    }

    /// Watched directories.
    pub fn watches(&self) -> usize {
        self.watches.count()
    }

    /// What could not be read, since this was last asked.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.desk.problems)
    }

    /// How far everything was read. Records given between this and a crash are given once more.
    pub fn positions(&self) -> Positions {
        let mut positions = self.saved.clone();
        for follow in self.follows().filter(|follow| !follow.ending) {
            for entry in follow.entries() {
                positions.add(&follow.path, entry);
            }
        }
        positions
    }

    /// Does what there is to do, up to the bounds of a turn; hands each record to `each`, oldest first within a file.
    pub fn turn(&mut self, now_ns: MonotonicNs, each: &mut dyn FnMut(Key, Record<'_>)) {
        if now_ns >= self.muted_until_ns {
            self.read_changes(now_ns);
        }
        if now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns + CHECK_NS;
            if self.checks == 0 {
                self.forgotten.iter_mut().for_each(|(until_ns, _)| *until_ns += now_ns);
            }
            self.drop_saved(now_ns);
            if self.starved_until_ns <= now_ns {
                self.open_limit = self.limits.open_files;
            }
            self.checks += 1;
            for slot in 0..self.slots.len() {
                let has_turn = slot % CHECKS == self.checks % CHECKS;
                let is_due = |follow: &Follow| {
                    follow.ending || (!follow.is_paused(now_ns) && (has_turn || !follow.is_watched()))
                };
                if self.slots[slot].as_deref().is_some_and(is_due) {
                    self.enqueue(slot, Some(false));
                }
            }
        }
        let mut budget = self.limits.turn_bytes;
        for _ in 0..LOOKS_PER_TURN {
            let Some(slot) = (budget > 0).then(|| self.queue.pop_front()).flatten() else {
                break;
            };
            if let Some(mut follow) = self.slots[slot].take() {
                let used = self.work(slot, &mut follow, budget, now_ns, each);
                budget = budget.saturating_sub(used);
                let over = follow.is_over && !follow.queued;
                if over {
                    self.forget(slot, &follow, now_ns);
                } else {
                    self.slots[slot] = Some(follow);
                }
                self.close_some(now_ns);
            }
        }
    }

    /// Looks if it is time, then reads; gives how many bytes.
    fn work(
        &mut self,
        slot: usize,
        follow: &mut Follow,
        budget: usize,
        now_ns: MonotonicNs,
        each: &mut dyn FnMut(Key, Record<'_>),
    ) -> usize {
        follow.queued = false;
        if follow.ending {
            // The runtime may still be writing down what the container has said.
            let over_ns = *follow.over_ns.get_or_insert(now_ns + END_NS);
            follow.is_over = over_ns <= now_ns;
        }
        let open = follow.open_files();
        if let Some(touched) = follow.look.take() {
            follow.look(touched, now_ns, &mut self.desk);
            if self.watch(slot, follow, touched) {
                // What happened between the look and the watch.
                follow.look(true, now_ns, &mut self.desk);
            }
        }
        let (used, more) = follow.read(budget.min(self.limits.file_bytes), now_ns, &mut self.desk, each);
        if !more {
            follow.let_go(now_ns, &mut self.desk, each);
        } else {
            follow.queued = true;
            self.queue.push_back(slot);
        }
        self.open_files = self.open_files + follow.open_files() - open;
        used
    }

    /// Sees that the directory the path leads to is watched; true when it was not. After an event there is no need to ask the
    /// kernel whether that still is the directory with the watch.
    fn watch(&mut self, slot: usize, follow: &mut Follow, touched: bool) -> bool {
        let Some(place) = &follow.place else {
            return false;
        };
        let is_watch = |(watch, real): &(i32, Rc<str>)| *real == place.real && self.watches.is_watch(*watch);
        if touched && follow.watch.as_ref().is_some_and(is_watch) {
            return false;
        }
        let (directory, name) = place::split(&place.real);
        let watched = self.watches.add(&self.desk.host.rootfs(directory), name, slot);
        self.unwatched -= usize::from(follow.unwatched);
        follow.unwatched = watched == Watched::NoneLeft;
        self.unwatched += usize::from(follow.unwatched);
        let new = match watched {
            Watched::Yes(watch) => Some((watch, Rc::clone(&place.real))),
            _ => None,
        };
        let entry = |known: &(i32, Rc<str>)| (known.0, place::split(&known.1).1.to_owned());
        let old = std::mem::replace(&mut follow.watch, new);
        let (old, new) = (old.as_ref().map(entry), follow.watch.as_ref().map(entry));
        if old == new {
            return false;
        }
        if let Some((watch, name)) = old {
            self.watches.remove(watch, &name, slot);
        }
        new.is_some()
    }

    fn drop_saved(&mut self, now_ns: MonotonicNs) {
        while let Some((_, path)) = self.forgotten.pop_front_if(|(until_ns, _)| *until_ns <= now_ns) {
            self.saved.take(&path);
        }
    }

    fn forget(&mut self, slot: usize, follow: &Follow, now_ns: MonotonicNs) {
        // Nobody goes on in a directory that is gone, as most are with their containers.
        if self.desk.host.rootfs(place::split(&follow.path).0).exists() {
            follow.entries().into_iter().for_each(|entry| self.saved.add(&follow.path, entry));
            self.forgotten.push_back((now_ns + SAVED_NS, Rc::clone(&follow.path)));
        }
        if self.forgotten.len() > SAVED_PATHS
            && let Some((_, oldest)) = self.forgotten.pop_front()
        {
            self.saved.take(&oldest);
        }
        if let Some((watch, real)) = &follow.watch {
            self.watches.remove(*watch, place::split(real).1, slot);
        }
        self.unwatched -= usize::from(follow.unwatched);
        self.open_files -= follow.open_files();
        self.by_key.remove(&follow.key);
        self.free.push(slot);
    }

    fn read_changes(&mut self, now_ns: MonotonicNs) {
        let mut touched = Vec::new();
        let mut all = false;
        self.watches.read(|slot| match slot {
            // One writer's events come one after the other.
            Some(slot) if touched.last() == Some(&slot) => {}
            Some(slot) => touched.push(slot),
            None => all = true,
        });
        if all {
            touched = (0..self.slots.len()).collect();
        }
        if !touched.is_empty() {
            self.muted_until_ns = now_ns + BATCH_NS;
        }
        for slot in touched {
            if self.slots[slot].as_ref().is_some_and(|follow| !follow.is_paused(now_ns)) {
                self.enqueue(slot, Some(true));
            }
        }
    }

    fn enqueue(&mut self, slot: usize, look: Option<bool>) {
        if let Some(follow) = &mut self.slots[slot] {
            follow.look = Some(follow.look.unwrap_or(false) || look == Some(true));
            if !follow.queued {
                follow.queued = true;
                self.queue.push_back(slot);
            }
        }
    }

    /// Closes idle files while more are open than should be, those not read for longest first, or nearly.
    fn close_some(&mut self, now_ns: MonotonicNs) {
        if std::mem::take(&mut self.desk.starved) {
            self.open_limit = self.open_files.saturating_sub(1).clamp(1, self.limits.open_files);
            self.starved_until_ns = now_ns + STARVED_NS;
        }
        let mut steps = 0;
        while self.open_files > self.open_limit && steps < CLOSE_STEPS {
            let slots = self.slots.len();
            if slots == 0 {
                return;
            }
            self.hand = (self.hand + 1) % slots;
            steps += 1;
            // Towards the end of the search it matters less what is closed.
            let all = steps > CLOSE_STEPS / 2;
            if self.slots[self.hand].as_mut().is_some_and(|follow| follow.close_idle(all)) {
                self.open_files -= 1;
            }
        }
    }

    fn follows(&self) -> impl Iterator<Item = &Follow> {
        self.slots.iter().flatten().map(Box::as_ref)
    }
}
