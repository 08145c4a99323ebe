//! The two halves of a process's end, brought together: what it has waited, from taskstats, and where it was, from BPF.
//!
//! They come by different ways, the first a little earlier. Neither waits longer than [`limits::EXIT_PATIENCE`] for the other.

use std::collections::{HashMap, VecDeque};

use super::owners::{CgroupIds, Ended};
use super::processes::Delays;
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
    /// By id of a process that ended or a thread that left others behind; the latter have no cgroups.
    told: HashMap<u32, (Option<CgroupIds>, MonotonicNs)>,
    swept_ns: MonotonicNs,
}

/// When what the kernel told is taken for that of a process whose record was lost: its id may be another's soon. Records of
/// exits lag behind by less, or are dropped.
const STALE_NS: u64 = 4 * limits::EXIT_PATIENCE.as_nanos() as u64;

impl Waiting {
    /// True while something waits.
    pub fn is_empty(&self) -> bool {
        self.endings.is_empty()
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
        let (id, ids) = if ended.is_last { (ended.process, Some(ended.ids)) } else { (ended.thread, None) };
        self.told.insert(id, (ids, now_ns));
    }

    /// Hands every ending of which enough is known, or that has waited for long enough, to `settle`. `is_told`: there is a
    /// program that tells of cgroups.
    pub fn settle(
        &mut self,
        is_told: bool,
        now_ns: MonotonicNs,
        mut settle: impl FnMut(&Ending, Whereabouts) -> Verdict,
    ) {
        if now_ns.saturating_sub(self.swept_ns) >= STALE_NS {
            self.sweep(now_ns);
        }
        let patience_ns = limits::EXIT_PATIENCE.as_nanos() as u64;
        let mut excess = self.endings.len().saturating_sub(limits::EXITS_WAITING);
        for _ in 0..self.endings.len() {
            let Some(ending) = self.endings.pop_front() else { break };
            let is_late = excess > 0 || now_ns.saturating_sub(ending.came_ns) >= patience_ns;
            excess = excess.saturating_sub(1);
            let verdict = match self.told.get(&ending.id) {
                // A thread of a process that lives.
                Some((None, _)) => Verdict::Done,
                Some((Some(ids), _)) if ids.iter().all(|&id| id == 0) => Verdict::Done,
                Some((Some(ids), _)) => settle(&ending, Whereabouts::Known(*ids)),
                None if is_told && !is_late => Verdict::Later,
                None => settle(&ending, Whereabouts::Unknown),
            };
            if verdict == Verdict::Later && !is_late {
                self.endings.push_back(ending);
            } else {
                self.told.remove(&ending.id);
            }
        }
    }

    fn sweep(&mut self, now_ns: MonotonicNs) {
        self.swept_ns = now_ns;
        self.told.retain(|_, (_, came_ns)| now_ns.saturating_sub(*came_ns) < STALE_NS);
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
        Ended { ids, process, thread, is_last }
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
        waiting.tell(&ended(11, 12, IDS, true), 0);
        assert_eq!(settled(&mut waiting, 1, Verdict::Done), []);
        waiting.tell(&ended(10, 10, IDS, true), 2);
        waiting.push(ending(11, 2));
        let both = [(10, Whereabouts::Known(IDS)), (11, Whereabouts::Known(IDS))];
        assert_eq!(settled(&mut waiting, 2, Verdict::Done), both);
        assert!(waiting.is_empty() && waiting.told.is_empty());
    }

    #[test]
    fn what_is_in_no_cgroup_or_only_a_thread_is_done() {
        let mut waiting = Waiting::default();
        waiting.push(ending(10, 0));
        waiting.push(ending(22, 0));
        waiting.tell(&ended(10, 10, [0; 4], true), 0);
        waiting.tell(&ended(20, 22, IDS, false), 0);
        assert_eq!(settled(&mut waiting, 0, Verdict::Done), []);
        assert!(waiting.is_empty() && waiting.told.is_empty());
    }

    #[test]
    fn patience_ends() {
        let mut waiting = Waiting::default();
        waiting.push(ending(10, 0));
        waiting.push(ending(11, 0));
        waiting.tell(&ended(11, 11, IDS, true), 0);
        assert_eq!(settled(&mut waiting, 1, Verdict::Later), [(11, Whereabouts::Known(IDS))]);
        let both = [(10, Whereabouts::Unknown), (11, Whereabouts::Known(IDS))];
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
            waiting.tell(&ended(1 << 20 | id, 0, IDS, true), 0);
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
