//! What processes of containers have waited, counted once.
//!
//! A process is seen many times: in answers to queries, and in the record of its end. Of each sight only what is above the
//! highest before it is news. The highest, not the last: while a thread exits, the kernel may count it twice for a moment, as
//! one of the living and in the sum of the dead.

use std::collections::{BTreeMap, HashMap};

use crate::containers::InstanceId;
use crate::limits;
use crate::memory::{self, Use};
use crate::netlink::taskstats::Delay;

/// Delays in nanoseconds, by [`Delay`].
pub type Delays = [u64; Delay::COUNT];

/// A living process of a container.
#[derive(Debug)]
pub struct Process {
    /// Whose it is.
    pub instance: InstanceId,
    /// When it started, in ticks after boot: with its id that names it for good.
    pub start_ticks: u64,
    /// The round in which it was seen last.
    pub round: u32,
    /// What is counted already; `None` for one that is older than this agent and was not asked about yet.
    counted: Option<Delays>,
}

/// The processes of containers, and what those of each instance have waited.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<u32, Process>,
    sums: BTreeMap<InstanceId, Delays>,
    /// Sights of processes for which there was no room.
    pub refused: u64,
}

impl Processes {
    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The process `pid`.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Process> {
        self.known.get_mut(&pid)
    }

    /// Whose process `pid` is.
    pub fn instance(&self, pid: u32) -> Option<InstanceId> {
        self.known.get(&pid).map(|process| process.instance)
    }

    /// Takes note of a process. What one that `is_older` than this agent waited before is not counted.
    pub fn begin(&mut self, pid: u32, instance: InstanceId, start_ticks: u64, round: u32, is_older: bool) {
        let is_known = self.known.contains_key(&pid);
        if !is_known && (self.known.len() >= limits::PROCESSES || !memory::admits(Use::Keys)) {
            self.refused += 1;
            return;
        }
        let counted = (!is_older).then_some([0; Delay::COUNT]);
        self.known.insert(pid, Process { instance, start_ticks, round, counted });
    }

    /// Takes what a process has waited so far; one that is not known is left out.
    pub fn observe(&mut self, pid: u32, delays: &Delays) {
        let Some(process) = self.known.get_mut(&pid) else { return };
        let Some(counted) = &mut process.counted else {
            process.counted = Some(*delays);
            return;
        };
        let sum = self.sums.entry(process.instance).or_default();
        for ((delay, counted), sum) in delays.iter().zip(counted).zip(sum) {
            *sum = sum.saturating_add(delay.saturating_sub(*counted));
            *counted = (*counted).max(*delay);
        }
    }

    /// Takes what a process of `instance` that ended has waited in all, and forgets it.
    pub fn end(&mut self, pid: u32, instance: InstanceId, delays: &Delays, is_older: bool) {
        match self.known.get_mut(&pid) {
            Some(process) => {
                process.instance = instance;
                self.observe(pid, delays);
                self.known.remove(&pid);
            }
            // Of one that nobody asked about before this agent began, it is not known how much is news.
            None if is_older => {}
            None => {
                let sum = self.sums.entry(instance).or_default();
                for (sum, delay) in sum.iter_mut().zip(delays) {
                    *sum = sum.saturating_add(*delay);
                }
            }
        }
    }

    /// Forgets a process that is in no container.
    pub fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
    }

    /// Forgets processes that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&Process) -> bool) {
        self.known.retain(|_, process| keep(process));
    }

    /// Has an instance among [`Processes::sums`] although it has not waited yet.
    pub fn expect(&mut self, instance: InstanceId) {
        self.sums.entry(instance).or_default();
    }

    /// What the processes of each instance have waited since this agent began.
    pub fn sums(&self) -> impl Iterator<Item = (InstanceId, &Delays)> {
        self.sums.iter().map(|(&instance, sum)| (instance, sum))
    }

    /// Forgets the sum of an instance that ended: what comes after it is a new one.
    pub fn end_instance(&mut self, instance: InstanceId) {
        self.sums.remove(&instance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(number: u32) -> InstanceId {
        InstanceId::for_test(number)
    }

    fn of(cpu: u64) -> Delays {
        let mut delays = [0; Delay::COUNT];
        delays[Delay::Cpu as usize] = cpu;
        delays
    }

    fn sum(processes: &Processes, of: InstanceId) -> u64 {
        processes.sums().find(|(instance, _)| *instance == of).map_or(0, |(_, sum)| sum[Delay::Cpu as usize])
    }

    #[test]
    fn sights_and_the_end_count_once() {
        let mut processes = Processes::default();
        processes.begin(10, instance(1), 5, 1, false);
        for cpu in [30, 30, 45] {
            processes.observe(10, &of(cpu));
        }
        processes.end(10, instance(1), &of(50), false);
        assert_eq!((sum(&processes, instance(1)), processes.len()), (50, 0));
        processes.end(11, instance(1), &of(7), false);
        assert_eq!(sum(&processes, instance(1)), 57, "one that was never asked about");
    }

    #[test]
    fn what_is_counted_twice_for_a_moment_is_not_counted_again() {
        let mut processes = Processes::default();
        processes.begin(10, instance(1), 5, 1, false);
        for cpu in [30, 40, 35, 38] {
            processes.observe(10, &of(cpu));
        }
        processes.end(10, instance(1), &of(41), false);
        assert_eq!(sum(&processes, instance(1)), 41);
    }

    #[test]
    fn what_was_before_this_agent_is_not_counted() {
        let mut processes = Processes::default();
        processes.begin(10, instance(1), 5, 1, true);
        processes.observe(10, &of(1_000));
        processes.observe(10, &of(1_003));
        processes.end(10, instance(1), &of(1_005), true);
        processes.end(11, instance(1), &of(2_000), true);
        assert_eq!(sum(&processes, instance(1)), 5);
    }

    #[test]
    fn growth_goes_to_where_a_process_is_now() {
        let mut processes = Processes::default();
        processes.begin(10, instance(1), 5, 1, false);
        processes.observe(10, &of(3));
        processes.get_mut(10).unwrap().instance = instance(2);
        processes.observe(10, &of(5));
        processes.end(10, instance(3), &of(9), false);
        assert_eq!([1, 2, 3].map(|id| sum(&processes, instance(id))), [3, 2, 4]);
    }

    #[test]
    fn beyond_the_table_the_end_still_counts() {
        let mut processes = Processes::default();
        for pid in 0..=limits::PROCESSES as u32 {
            processes.begin(pid, instance(1), 5, 1, false);
        }
        let last = limits::PROCESSES as u32;
        processes.observe(last, &of(3));
        assert_eq!((processes.refused, processes.len()), (1, limits::PROCESSES));
        processes.end(last, instance(1), &of(4), false);
        assert_eq!(sum(&processes, instance(1)), 4);
    }
}
