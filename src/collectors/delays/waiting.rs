//! The two halves of a process's end, brought together: what it has waited, from taskstats, and where it was, from BPF.
//!
//! They come by different ways, the first a little earlier. Neither waits longer than [`limits::EXIT_PATIENCE`] for the other.

use std::collections::{HashMap, VecDeque};

use super::owners::Ended;
use super::processes::Delays;
use crate::containers::owners::CgroupIds;
use crate::limits;
use crate::netlink::taskstats::Exit;
use crate::sys::clock::MonotonicNs;

/// A process that ended, or, where the kernel does not say which, a thread that may have been all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The process, or the thread.
    pub id: u32,
    /// Whether it is a process for sure.
    pub is_process: bool,
    /// What it has waited.
    pub delays: Delays,
    /// Its parent process.
    pub parent: Option<u32>,
    /// How long it lived.
    pub age_us: u64,
    /// When it was read.
    came_ns: MonotonicNs,
}

impl Ending {
    /// What a record says of the end of a process; `None` for a thread that leaves others behind.
    pub fn of(exit: &Exit<'_>, now_ns: MonotonicNs) -> Option<Ending> {
        let (stats, is_process) = match (&exit.process, exit.thread.is_last()) {
            // The sum over all threads, this one included.
            (Some(process), _) => (process, true),
            // The only one: no sum was ever made.
            (None, Some(true)) => (&exit.thread, true),
            (None, Some(false)) => return None,
            (None, None) => (&exit.thread, false),
        };
        Some(Ending {
            id: stats.id?,
            is_process,
            delays: stats.delays_ns(),
            parent: exit.thread.parent().filter(|&parent| parent != 0),
            age_us: exit.thread.age_us().unwrap_or(0),
            came_ns: now_ns,
        })
    }
}

/// What is known of where an ending was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In these cgroups.
    Known(CgroupIds),
    /// The kernel has not told in time, or there is no program to tell.
    Unknown,
}

/// What to do with an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is dealt with.
    Done,
    /// Its cgroups are no container's that is known yet.
    Later,
}

/// Halves whose other half has not come yet.
#[derive(Debug, Default)]
pub struct Waiting {
    endings: VecDeque<Ending>,
    /// Those in cgroups of no container that is known yet: most are in none. They are looked at once more.
    strangers: VecDeque<(Ending, CgroupIds)>,
    /// By id of a process that ended, or of a thread.
    told: HashMap<u32, Told>,
    swept_ns: MonotonicNs,
}

/// What the kernel told of an id.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// `None` for a thread that is not a process.
    ids: Option<CgroupIds>,
    /// What the process has waited comes as a sum; a record of its id without one is that of its first thread.
    has_sum: bool,
    came_ns: MonotonicNs,
}

/// When what the kernel told is taken for that of a process whose record was lost: its id may be another's soon. Records of
/// exits lag behind by less, or are dropped.
const STALE_NS: u64 = 4 * limits::EXIT_PATIENCE.as_nanos() as u64;

impl Waiting {
    /// True while something waits.
    pub fn is_empty(&self) -> bool {
        self.endings.is_empty() && self.strangers.is_empty()
    }

    /// Takes an ending.
    pub fn push(&mut self, ending: Ending) {
        self.endings.push_back(ending);
    }

    /// Takes what the kernel told of an exit.
    pub fn tell(&mut self, ended: &Ended, now_ns: MonotonicNs) {
        if self.told.len() >= limits::EXITS_WAITING {
            // Most are of lost records. Where this one is missed, /proc is asked.
            self.sweep(now_ns);
            if self.told.len() >= limits::EXITS_WAITING {
                return;
            }
        }
        let Ended { ids, process, thread, is_last, has_sum } = *ended;
        if is_last {
            self.told.insert(process, Told { ids: Some(ids), has_sum, came_ns: now_ns });
        }
        // One that is not the last may look so when two exit at once, but it leaves a sum behind.
        if thread != process || !is_last {
            self.told.insert(thread, Told { ids: None, has_sum, came_ns: now_ns });
        }
    }

    /// Hands every ending of which enough is known, or that has waited for long enough, to `settle`; again after a while those
    /// that it puts off. `is_told`: there is a program that tells of cgroups.
    pub fn settle(
        &mut self,
        is_told: bool,
        now_ns: MonotonicNs,
        mut settle: impl FnMut(&Ending, Whereabouts) -> Verdict,
    ) {
        if now_ns.saturating_sub(self.swept_ns) >= STALE_NS {
            self.sweep(now_ns);
        }
        let is_late = |ending: &Ending| {
            now_ns.saturating_sub(ending.came_ns) >= limits::EXIT_PATIENCE.as_nanos() as u64
        };
        while let Some((ending, ids)) = self
            .strangers
            .pop_front_if(|(ending, _)| is_late(ending))
            .or_else(|| (self.strangers.len() > limits::EXITS_WAITING).then(|| self.strangers.pop_front())?)
        {
            settle(&ending, Whereabouts::Known(ids));
        }
        let mut excess = self.endings.len().saturating_sub(limits::EXITS_WAITING);
        for _ in 0..self.endings.len() {
            let Some(ending) = self.endings.pop_front() else { break };
            let is_last_chance = excess > 0 || is_late(&ending);
            excess = excess.saturating_sub(1);
            match self.told.get(&ending.id).copied() {
                // A thread, the process's first perhaps: then the sum comes behind it.
                Some(told) if !ending.is_process && told.has_sum => {}
                Some(Told { ids: Some(ids), .. }) => {
                    self.told.remove(&ending.id);
                    if settle(&ending, Whereabouts::Known(ids)) == Verdict::Later {
                        self.strangers.push_back((ending, ids));
                    }
                }
                _ if is_told && !is_last_chance => self.endings.push_back(ending),
                _ => {
                    settle(&ending, Whereabouts::Unknown);
                }
            }
        }
    }

    fn sweep(&mut self, now_ns: MonotonicNs) {
        self.swept_ns = now_ns;
        self.told.retain(|_, told| now_ns.saturating_sub(told.came_ns) < STALE_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::taskstats::Delay;

    const PATIENCE: u64 = limits::EXIT_PATIENCE.as_nanos() as u64;
    const IDS: CgroupIds = [7, 0, 0, 0];

    fn ending(id: u32, came_ns: MonotonicNs) -> Ending {
        Ending { id, is_process: true, delays: [0; Delay::COUNT], parent: None, age_us: 0, came_ns }
    }

    fn ended(process: u32, thread: u32, ids: CgroupIds, is_last: bool) -> Ended {
        Ended { ids, process, thread, is_last, has_sum: process != thread }
    }

    fn settled(waiting: &mut Waiting, now_ns: u64, verdict: Verdict) -> Vec<(u32, Whereabouts)> {
        let mut all = Vec::new();
        waiting.settle(true, now_ns, |ending, at| {
            all.push((ending.id, at));
            verdict
        });
        all
    }

    #[test]
    fn halves_meet_whichever_comes_first() {
        let mut waiting = Waiting::default();
        waiting.push(ending(10, 0));
        waiting.tell(&ended(11, 11, IDS, true), 0);
        assert_eq!(settled(&mut waiting, 1, Verdict::Done), []);
        waiting.tell(&ended(10, 10, IDS, true), 2);
        waiting.push(ending(11, 2));
        let both = [(10, Whereabouts::Known(IDS)), (11, Whereabouts::Known(IDS))];
        assert_eq!(settled(&mut waiting, 2, Verdict::Done), both);
        assert!(waiting.is_empty() && waiting.told.is_empty());
    }

    /// Before Linux 5.19 records do not say so.
    #[test]
    fn what_is_only_a_thread_is_done() {
        let mut waiting = Waiting::default();
        let thread = |id| Ending { is_process: false, ..ending(id, 0) };
        // The first thread goes early, another looks like the last, the last one brings the sum.
        waiting.tell(&Ended { has_sum: true, ..ended(20, 20, IDS, false) }, 0);
        waiting.tell(&ended(20, 21, IDS, true), 0);
        waiting.tell(&ended(20, 22, IDS, true), 0);
        waiting.push(thread(20));
        waiting.push(thread(21));
        waiting.push(ending(20, 0));
        // One of its own.
        waiting.push(thread(30));
        waiting.tell(&ended(30, 30, IDS, true), 0);
        let all = [(20, Whereabouts::Known(IDS)), (30, Whereabouts::Known(IDS))];
        assert_eq!(settled(&mut waiting, 0, Verdict::Done), all);
        assert!(waiting.is_empty());
    }

    #[test]
    fn patience_ends() {
        let mut waiting = Waiting::default();
        waiting.push(ending(10, 0));
        waiting.push(ending(11, 0));
        waiting.tell(&ended(11, 11, IDS, true), 0);
        assert_eq!(settled(&mut waiting, 1, Verdict::Later), [(11, Whereabouts::Known(IDS))]);
        assert_eq!(settled(&mut waiting, PATIENCE - 1, Verdict::Later), []);
        let both = [(11, Whereabouts::Known(IDS)), (10, Whereabouts::Unknown)];
        assert_eq!(settled(&mut waiting, PATIENCE, Verdict::Later), both);
        assert!(waiting.is_empty());
        waiting.push(ending(12, 0));
        waiting.settle(false, 0, |_, at| {
            assert_eq!(at, Whereabouts::Unknown);
            Verdict::Done
        });
        assert!(waiting.is_empty(), "nobody tells, so nobody waits");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut waiting = Waiting::default();
        for id in 0..2 * limits::EXITS_WAITING as u32 {
            waiting.push(ending(id, 0));
            waiting.tell(&ended(1 << 20 | id, 1 << 20 | id, IDS, true), 0);
        }
        assert_eq!(waiting.told.len(), limits::EXITS_WAITING);
        settled(&mut waiting, 0, Verdict::Done);
        assert_eq!(waiting.endings.len(), limits::EXITS_WAITING);
        waiting.tell(&ended(1, 1, IDS, true), STALE_NS);
        assert_eq!(waiting.told.len(), 1, "the old make room");
        waiting.push(ending(1, 3 * STALE_NS));
        let later = settled(&mut waiting, 3 * STALE_NS, Verdict::Done);
        assert!(
            later.iter().all(|(_, at)| *at == Whereabouts::Unknown),
            "the process of that id was another"
        );
    }
}
