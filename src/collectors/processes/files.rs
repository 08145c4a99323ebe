//! Living processes from `cgroup.procs` and `/proc/PID/stat`, where no BPF program can tell: what has ended in between was never
//! there.

use std::collections::BTreeMap;
use std::io;

use super::commands::Stamp;
use crate::containers::{Instance, InstanceId, owners};
use crate::host::{Host, read_bounded, unless_gone};
use crate::limits;
use crate::procfs::pid_stat;
use crate::sys::clock;
use crate::world::World;

/// When the oldest living process of each container began, and how often that changed.
#[derive(Debug, Default)]
pub struct Files {
    runs: BTreeMap<InstanceId, Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    /// When the first process of this run began.
    began_ns: u64,
    count: u64,
}

impl Runs {
    /// Takes when the oldest living process began; gives the runs so far.
    fn observe(&mut self, oldest_ns: Option<u64>) -> u64 {
        if let Some(oldest_ns) = oldest_ns.filter(|&oldest| self.count == 0 || oldest > self.began_ns) {
            self.count += 1;
            self.began_ns = oldest_ns;
        }
        self.count
    }
}

impl Files {
    /// Hands the living processes of each living container, and its runs so far, to `each`. One that cannot be looked into now
    /// is left out; false then.
    pub fn read(&mut self, world: &World, mut each: impl FnMut(InstanceId, &[(u32, Stamp)], u64)) -> bool {
        let mut budget = limits::PROCESSES;
        let mut is_complete = true;
        for (id, instance, _) in world.containers.living() {
            let Ok(living) = living(world, instance, &mut budget) else {
                is_complete = false;
                continue;
            };
            let oldest_ns = living.iter().map(|(_, stamp)| stamp.start_ns).min();
            each(id, &living, self.runs.entry(id).or_default().observe(oldest_ns));
        }
        is_complete
    }

    /// Forgets an instance.
    pub fn end_instance(&mut self, id: InstanceId) {
        self.runs.remove(&id);
    }
}

/// All or none: who is the oldest cannot be said of some.
fn living(world: &World, instance: &Instance, budget: &mut usize) -> io::Result<Vec<(u32, Stamp)>> {
    let ns_per_tick = 1e9 / clock::ticks_per_second();
    let mut pids = owners::processes(world, instance)?;
    pids.truncate(*budget);
    *budget -= pids.len();
    let stamped = |pid| Ok(stamp(&world.host, pid, ns_per_tick)?.map(|stamp| (pid, stamp)));
    pids.into_iter().map(stamped).filter_map(Result::transpose).collect()
}

/// `/proc/PID/stat`; `None` when the process is gone.
fn stat(host: &Host, pid: u32) -> io::Result<Option<Vec<u8>>> {
    unless_gone(read_bounded(&host.proc(&format!("{pid}/stat")), limits::KERNEL_FILE_BYTES))
}

/// Whether a process is there and has not ended.
///
/// # Errors
/// Those of open and read: it may live or not.
pub fn is_alive(host: &Host, pid: u32) -> io::Result<bool> {
    let text = stat(host, pid)?.unwrap_or_default();
    let state = memchr::memrchr(b')', &text).and_then(|at| text.get(at + 2));
    Ok(state.is_some_and(|state| !b"ZX".contains(state)))
}

/// When a process began, and its name, which stands for the program it executes; `None` when it is gone.
///
/// # Errors
/// Those of open and read: it may be there or not.
pub fn stamp(host: &Host, pid: u32, ns_per_tick: f64) -> io::Result<Option<Stamp>> {
    Ok(stat(host, pid)?.and_then(|text| stamp_of(&text, ns_per_tick)))
}

fn stamp_of(text: &[u8], ns_per_tick: f64) -> Option<Stamp> {
    let stat = pid_stat::parse(text)?;
    let name = text.get(memchr::memchr(b'(', text)?..memchr::memrchr(b')', text)?)?;
    let executed = name.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte)));
    Some(Stamp { start_ns: (stat.start_ticks as f64 * ns_per_tick) as u64, executed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_when_all_that_were_there_are_gone() {
        let mut runs = Runs::default();
        let observed = [None, Some(0), Some(0), None, Some(7), Some(7), Some(9), Some(9)];
        assert_eq!(observed.map(|oldest| runs.observe(oldest)), [0, 1, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn this_process_began_some_time() {
        let host = Host::new("/".as_ref(), None);
        let stamp = stamp(&host, std::process::id(), 1e7).unwrap().unwrap();
        assert!(stamp.start_ns > 0 && stamp.executed > 0);
    }
}
