//! Asking about living processes, a piece at a time: those of containers that have used a processor since they were asked
//! about last. What waits without ever running has nothing new to say: the kernel adds up a wait when it is over.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;

use super::processes::Processes;
use super::socket::Queries;
use crate::cgroupfs::{cpu_stat, number};
use crate::containers::InstanceId;
use crate::containers::hierarchies::{Hierarchies, Place};
use crate::containers::owners::{of_process, processes as processes_in};
use crate::containers::sweep::Slice;
use crate::error::{Context, Result};
use crate::host::{Host, read_bounded, unless_gone};
use crate::limits;
use crate::procfs::pid_stat::{self, PidStat};
use crate::world::World;

/// The rounds, of which one at most is under way.
#[derive(Default)]
pub struct Rounds {
    /// Number of the last one.
    number: u32,
    /// It asks about all processes, and looks whether they are still the same.
    is_full: bool,
    /// The last full one did not see all processes: the next one is full too.
    is_owed: bool,
    queue: VecDeque<InstanceId>,
    /// Processes of the instances before those in the queue.
    pids: Vec<u32>,
    /// CPU time by which it is seen that an instance has run, in whatever unit.
    usage: HashMap<InstanceId, u64>,
    /// When this agent started, in ticks after boot.
    started_ticks: u64,
    /// Processes asked about.
    pub queries: u64,
}

impl Rounds {
    /// No round yet.
    ///
    /// # Errors
    /// When it is not known when this agent started: what there was before would count as news.
    pub fn new(world: &World) -> Result<Rounds> {
        let this = stat(&world.host, std::process::id()).context("/proc/self/stat")?;
        let started_ticks = this.map_or(0, |stat| stat.start_ticks);
        Ok(Rounds { started_ticks, ..Rounds::default() })
    }

    /// True while a round is under way.
    pub fn is_under_way(&self) -> bool {
        !self.queue.is_empty() || !self.pids.is_empty()
    }

    /// Begins a round, unless one is under way that asks for as much.
    pub fn begin(&mut self, world: &World, is_full: bool) {
        let is_full = is_full || self.is_owed;
        if self.is_under_way() && (self.is_full || !is_full) {
            return;
        }
        self.number = self.number.wrapping_add(1);
        (self.is_full, self.is_owed) = (is_full, false);
        self.queue.clear();
        self.pids.clear();
        let mut units = Vec::new();
        for (id, instance, _) in world.containers.living() {
            // Units last: on hybrid hosts the tasks of containers are in v2 where their runtime's unit is.
            if instance.runtime.is_unit() { units.push(id) } else { self.queue.push_back(id) }
        }
        self.queue.extend(units);
    }

    /// Whether an instance has used a processor since the last round, as far as can be told.
    fn has_run(&mut self, world: &World, id: InstanceId) -> bool {
        let Some(instance) = world.containers.instance(id).filter(|instance| instance.is_alive()) else {
            return false;
        };
        let usage = usage(&world.hierarchies, &instance.path);
        let before = usage.and_then(|usage| self.usage.insert(id, usage));
        usage.is_none() || usage != before
    }

    /// Forgets an instance.
    pub fn end_instance(&mut self, instance: InstanceId) {
        self.usage.remove(&instance);
    }

    /// Asks about up to [`limits::DELAY_QUERIES_PER_TURN`] processes of the next containers; true when the round is over.
    ///
    /// # Errors
    /// Those of [`Queries::ask`]; the round is given up.
    pub fn go_on(&mut self, world: &World, processes: &mut Processes, queries: &mut Queries) -> Result<bool> {
        let mut slice = Slice::begin();
        while self.pids.len() < limits::DELAY_QUERIES_PER_TURN && slice.has_room() {
            let Some(id) = self.queue.pop_front() else { break };
            slice.count();
            if self.has_run(world, id) || self.is_full {
                self.list(world, processes, id);
            }
        }
        let rest = self.pids.len().saturating_sub(limits::DELAY_QUERIES_PER_TURN);
        let now = self.pids.split_off(rest);
        self.queries += now.len() as u64;
        let asked = queries.ask(&now, |pid, delays| processes.observe(pid, delays));
        if asked.is_err() {
            self.queue.clear();
            self.pids.clear();
            self.is_owed = self.is_full;
        }
        asked?;
        let is_over = !self.is_under_way();
        if is_over {
            self.conclude(processes);
        }
        Ok(is_over)
    }

    fn conclude(&self, processes: &mut Processes) {
        if self.is_full && !self.is_owed {
            // The others ended, and the records of that were lost.
            let round = self.number;
            processes.retain(|process| process.round == round);
        }
    }

    /// Adds the processes of an instance to those to be asked about.
    fn list(&mut self, world: &World, processes: &mut Processes, id: InstanceId) {
        let Some(instance) = world.containers.instance(id).filter(|instance| instance.is_alive()) else {
            return;
        };
        let is_unit = instance.runtime.is_unit();
        let Ok(pids) = processes_in(world, instance) else {
            self.is_owed = self.is_full;
            return;
        };
        for pid in pids {
            if self.claim(world, processes, pid, id, is_unit) {
                self.pids.push(pid);
            }
        }
    }

    /// Takes note that `pid` is listed for an instance; false when it is another's or asked about already.
    fn claim(
        &self,
        world: &World,
        processes: &mut Processes,
        pid: u32,
        id: InstanceId,
        is_unit: bool,
    ) -> bool {
        let is_of_container = |owner: InstanceId| {
            world.containers.instance(owner).is_some_and(|owner| owner.is_alive() && !owner.runtime.is_unit())
        };
        if let Some(known) = processes.get_mut(pid) {
            // Only another start tells of another process. One that is gone or cannot be looked at is the one that is known: begun
            // anew, all it has waited would count again.
            let is_another = self.is_full
                && matches!(stat(&world.host, pid), Ok(Some(stat)) if stat.start_ticks != known.start_ticks);
            if !is_another {
                if known.instance != id && is_unit && is_of_container(known.instance) {
                    return false;
                }
                let is_new = known.round != self.number || known.instance != id;
                known.instance = id;
                known.round = self.number;
                return is_new;
            }
            processes.forget(pid);
        }
        let owner = if is_unit { of_process(world, pid) } else { Ok(Some(id)) };
        let (Ok(Some(owner)), Ok(Some(stat))) = (owner, stat(&world.host, pid)) else {
            return false;
        };
        if stat.is_ending {
            // It is listed until it leaves its cgroup, a little after the record of its end was made: it may be counted already.
            return false;
        }
        let is_older = stat.start_ticks < self.started_ticks;
        processes.begin(pid, owner, stat.start_ticks, self.number, is_older);
        processes.get_mut(pid).is_some()
    }
}

/// What the kernel says of process `pid`; `None` when it is gone, an error when that is not known.
fn stat(host: &Host, pid: u32) -> io::Result<Option<PidStat>> {
    let stat = unless_gone(read_bounded(&host.proc(&format!("{pid}/stat")), limits::KERNEL_FILE_BYTES))?;
    Ok(stat.and_then(|stat| pid_stat::parse(&stat)))
}

/// CPU time of the cgroup `path`, in nanoseconds (v1) or microseconds (v2); `None` where no hierarchy counts it.
fn usage(hierarchies: &Hierarchies, path: &str) -> Option<u64> {
    let read = |file: PathBuf| read_bounded(&file, limits::KERNEL_FILE_BYTES).ok();
    let path = path.trim_start_matches('/');
    let v1 = hierarchies.cpuacct().and_then(|mount| read(mount.join(path).join("cpuacct.usage")));
    if let Some(text) = v1 {
        return number::parse(&text);
    }
    let v2 = hierarchies.directory(Place::V2)?;
    cpu_stat::parse(&read(v2.join(path).join("cpu.stat"))?).usage_us
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::test::Inhabited;
    use crate::netlink::taskstats::Delay;

    struct Test {
        host: Inhabited,
        rounds: Rounds,
        processes: Processes,
    }

    impl Test {
        /// A round as in [`Rounds::go_on`], in which all have waited for `delay_ns`; gives the sum of the container.
        fn round(&mut self, is_full: bool, delay_ns: u64) -> u64 {
            let Test { host, rounds, processes } = self;
            rounds.begin(&host.world, is_full);
            while let Some(id) = rounds.queue.pop_front() {
                rounds.list(&host.world, processes, id);
            }
            let delays = [delay_ns; Delay::COUNT];
            rounds.pids.drain(..).for_each(|pid| processes.observe(pid, &delays));
            rounds.conclude(processes);
            processes.sums().map(|(_, sum)| sum[0]).sum()
        }
    }

    #[test]
    fn who_cannot_be_looked_at_is_not_begun_anew() {
        let (host, list) = (Inhabited::new(), Inhabited::list());
        let mut test = Test { host, rounds: Rounds::default(), processes: Processes::default() };
        assert_eq!(test.round(false, 10), 20);
        // Records were lost, so that all are looked at.
        assert_eq!(test.round(true, 11), 22);
        for hidden in ["proc/10/stat", &list] {
            test.host.hide(hidden);
            test.round(true, 12);
            assert_eq!(test.processes.len(), 2, "{hidden}");
            test.host.show(hidden);
            assert_eq!(test.round(false, 12), 24, "{hidden}");
        }
        // One is over, and no record of it came.
        test.host.bed.write(&list, "11\n");
        test.host.hide(&list);
        test.round(true, 13);
        assert!(test.rounds.is_owed);
        test.host.show(&list);
        assert_eq!((test.processes.len(), test.round(false, 13)), (2, 25));
        assert_eq!(test.processes.len(), 1, "what was owed is made up for");
        // The number is another's.
        let other = std::fs::read_to_string(test.host.bed.host.proc("11/stat")).unwrap();
        test.host.bed.write("proc/11/stat", other.replace("22000", "22001"));
        assert_eq!(test.round(true, 5), 30);
    }
}
