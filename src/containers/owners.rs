//! Whose a task is: BPF programs key what they count by the cgroups of a task (`struct cgroup_ids` of `bpf/cgroup_ids.h`), files
//! list a task's cgroups and a cgroup's tasks. Which of those is a container is decided when they are read.

use std::collections::HashMap;
use std::io;

use super::hierarchies::Place;
use super::{Containers, Instance, InstanceId, walk};
use crate::cgroupfs::number;
use crate::host::{read_bounded, unless_gone};
use crate::limits;
use crate::procfs::pid_cgroup;
use crate::sys::clock::MonotonicNs;
use crate::world::World;

/// Ids of a task's cgroups by place; 0 where it is in the root, or in none.
pub type CgroupIds = [u64; Place::ALL.len()];

/// Bytes of `struct cgroup_ids`.
pub const CGROUP_IDS: usize = size_of::<CgroupIds>();

/// The first pause of [`Deserted`], and how much longer each is than the one before: a runtime moves the first process into a
/// new cgroup at once.
const SHORTEST_PAUSE_NS: u64 = 1_000_000_000;
const LONGER: u64 = 4;

/// The container a task in these cgroups (`struct cgroup_ids`) belongs to.
pub fn instance_of(containers: &Containers, key: &[u8]) -> Option<InstanceId> {
    let mut ids = CgroupIds::default();
    for (id, bytes) in ids.iter_mut().zip(key.as_chunks().0) {
        *id = u64::from_ne_bytes(*bytes);
    }
    containers.of_task(&ids)
}

/// The container the process or thread `pid` is in, as /proc has it now; `None` when it is gone or in none.
///
/// # Errors
/// Those of open, read and stat: where it is is not known then.
pub fn of_process(world: &World, pid: u32) -> io::Result<Option<InstanceId>> {
    let table = read_bounded(&world.host.proc(&format!("{pid}/cgroup")), limits::KERNEL_FILE_BYTES);
    let Some(table) = unless_gone(table)? else { return Ok(None) };
    let mut ids = CgroupIds::default();
    for membership in pid_cgroup::parse(&table) {
        let place = match membership {
            v2 if v2.is_v2() => Place::V2,
            memory if memory.has_controller("memory") => Place::Memory,
            cpu if cpu.has_controller("cpu") => Place::Cpu,
            pids if pids.has_controller("pids") => Place::Pids,
            _ => continue,
        };
        let below = membership.path.trim_start_matches('/');
        if below.is_empty() {
            continue;
        }
        if let Some(mount) = world.hierarchies.directory(place) {
            ids[place as usize] = unless_gone(walk::id_of(&mount.join(below)))?.unwrap_or(0);
        }
    }
    Ok(world.containers.of_task(&ids))
}

/// The processes in the cgroup of an instance and below it, [`limits::PROCESSES`] at most.
///
/// On hybrid hosts those of containers may be below their runtime's unit too: [`of_process`] says whose they are.
///
/// # Errors
/// When a list could not be read: who is not in the others may be in that one.
pub fn processes(world: &World, instance: &Instance) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut failed = None;
    for (_, mount) in world.hierarchies.searched().filter(|(place, _)| instance.is_in(*place)) {
        let walked = walk::walk(mount, &instance.path, |_, path| {
            let file = mount.join(path.trim_start_matches('/')).join("cgroup.procs");
            let list = match unless_gone(read_bounded(&file, limits::KERNEL_FILE_BYTES)) {
                Ok(list) => list.unwrap_or_default(),
                // A threaded cgroup: its processes are in the list of one above it (cgroup-v2.rst, "Threads").
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return,
                Err(error) => {
                    failed = Some(error);
                    return;
                }
            };
            let pids = list.split(|&byte| byte == b'\n').filter_map(number::parse);
            // 0 is a process outside this PID namespace.
            let pids = pids.filter_map(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0);
            found.extend(pids.take(limits::PROCESSES - found.len()));
        });
        if !walked.complete {
            failed = Some(io::Error::other("not all cgroups could be looked into"));
        }
        // The same processes are in its directories of the other hierarchies, or none where the runtime uses those not.
        if !found.is_empty() {
            break;
        }
    }
    failed.map_or(Ok(found), Err)
}

/// Containers in which no process was found, each looked into again after a pause that grows to a minute: a container may be
/// made long before something runs in it, and some are never used.
#[derive(Debug, Default)]
pub struct Deserted {
    /// When to look again, and the pause before that.
    pauses: HashMap<InstanceId, (MonotonicNs, u64)>,
}

impl Deserted {
    /// The processes of an instance, as [`processes`] finds them, or none while there is a pause.
    ///
    /// # Errors
    /// Those of [`processes`]; no pause begins or ends.
    pub fn processes(&mut self, world: &World, id: InstanceId, instance: &Instance) -> io::Result<Vec<u32>> {
        if self.is_paused(id, world.now_ns) {
            return Ok(Vec::new());
        }
        let found = processes(world, instance)?;
        self.note(id, found.is_empty(), world.now_ns);
        Ok(found)
    }

    fn is_paused(&self, id: InstanceId, now_ns: MonotonicNs) -> bool {
        self.pauses.get(&id).is_some_and(|(until_ns, _)| now_ns < *until_ns)
    }

    fn note(&mut self, id: InstanceId, is_empty: bool, now_ns: MonotonicNs) {
        if !is_empty {
            self.pauses.remove(&id);
            return;
        }
        let longest_ns = limits::DESERTED_PAUSE.as_nanos() as u64;
        let (until_ns, pause_ns) = self.pauses.entry(id).or_insert((0, SHORTEST_PAUSE_NS / LONGER));
        *pause_ns = (*pause_ns * LONGER).min(longest_ns);
        *until_ns = now_ns + *pause_ns;
    }

    /// Forgets a container.
    pub fn end_instance(&mut self, id: InstanceId) {
        self.pauses.remove(&id);
    }
}

/// Keys in the kernel that belong to no container, and since when: after a while they make room. Should one count again, nobody
/// misses what it had.
#[derive(Debug, Default)]
pub struct Strangers {
    since: HashMap<Box<[u8]>, MonotonicNs>,
    seen: HashMap<Box<[u8]>, MonotonicNs>,
    due: Vec<Box<[u8]>>,
}

impl Strangers {
    /// Takes note of one in this reading.
    pub fn observe(&mut self, key: &[u8], now_ns: MonotonicNs) {
        let since = self.since.get(key).copied().unwrap_or(now_ns);
        if now_ns.saturating_sub(since) < limits::STRANGER_TIME.as_nanos() as u64 {
            self.seen.insert(key.into(), since);
        } else {
            self.due.push(key.into());
        }
    }

    /// Takes note of one whose container is gone, and its last counts are read: it need not wait.
    pub fn observe_last(&mut self, key: &[u8]) {
        self.due.push(key.into());
    }

    /// Ends the reading: the keys to be removed.
    pub fn take_due(&mut self) -> Vec<Box<[u8]>> {
        self.since = std::mem::take(&mut self.seen);
        std::mem::take(&mut self.due)
    }
}

/// Counters in the kernel by key, summed by container: growth is added up, since keys of cgroups below a container's own come and
/// go.
#[derive(Debug)]
pub struct Sums<const N: usize> {
    last: HashMap<Box<[u8]>, [u64; N]>,
    sums: HashMap<InstanceId, [u64; N]>,
}

impl<const N: usize> Default for Sums<N> {
    fn default() -> Self {
        Sums { last: HashMap::new(), sums: HashMap::new() }
    }
}

impl<const N: usize> Sums<N> {
    /// Takes the counters of a key of the container `id` as they are now.
    pub fn observe(&mut self, id: InstanceId, key: &[u8], values: [u64; N]) {
        let last = self.last.insert(key.into(), values).unwrap_or([0; N]);
        let sums = self.sums.entry(id).or_insert([0; N]);
        for ((sum, value), last) in sums.iter_mut().zip(values).zip(last) {
            *sum = sum.saturating_add(value.saturating_sub(last));
        }
    }

    /// The sums of a container.
    pub fn of(&self, id: InstanceId) -> [u64; N] {
        self.sums.get(&id).copied().unwrap_or([0; N])
    }

    /// Forgets a key that is removed in the kernel.
    pub fn forget_key(&mut self, key: &[u8]) {
        self.last.remove(key);
    }

    /// Forgets a container.
    pub fn end_instance(&mut self, id: InstanceId) {
        self.sums.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::test::Inhabited;

    #[test]
    fn a_process_that_cannot_be_looked_at_is_not_gone() {
        let host = Inhabited::new();
        let of = |pid| of_process(&host.world, pid).map_err(drop);
        assert_eq!((of(10), of(12)), (Ok(Some(host.id)), Ok(None)));
        host.hide("proc/10/cgroup");
        assert_eq!((of(10), of(11)), (Err(()), Ok(Some(host.id))));
        host.show("proc/10/cgroup");
        host.bed.remove("proc/10/cgroup");
        assert_eq!(of(10), Ok(None));
    }

    #[test]
    fn a_container_that_cannot_be_looked_into_is_not_deserted() {
        let host = Inhabited::new();
        let instance = host.world.containers.instance(host.id).unwrap();
        let mut deserted = Deserted::default();
        let mut both = || {
            let looked = deserted.processes(&host.world, host.id, instance);
            (processes(&host.world, instance).ok(), looked.ok())
        };
        let all = Some(vec![10, 11]);
        assert_eq!(both(), (all.clone(), all.clone()));
        host.hide(&Inhabited::list());
        assert_eq!(both(), (None, None));
        host.show(&Inhabited::list());
        assert_eq!(both(), (all.clone(), all), "there was no pause");
        host.bed.remove(&Inhabited::list());
        assert_eq!(both(), (Some(vec![]), Some(vec![])));
        assert!(deserted.is_paused(host.id, host.world.now_ns));
    }

    #[test]
    fn sums_do_not_fall_with_keys_that_go() {
        let (id, other) = (InstanceId::for_test(1), InstanceId::for_test(2));
        let mut sums = Sums::<2>::default();
        sums.observe(id, b"own", [5, 1]);
        sums.observe(id, b"below", [100, 0]);
        sums.observe(id, b"own", [6, 1]);
        assert_eq!((sums.of(id), sums.of(other)), ([106, 1], [0, 0]));
        sums.forget_key(b"below");
        sums.observe(id, b"below", [3, 0]);
        assert_eq!(sums.of(id), [109, 1]);
        sums.end_instance(id);
        assert_eq!(sums.of(id), [0, 0]);
    }

    #[test]
    fn who_finds_nobody_looks_less_and_less_often() {
        let (id, other) = (InstanceId::for_test(1), InstanceId::for_test(2));
        let mut deserted = Deserted::default();
        let (mut now_ns, mut looks, second) = (0, 0, 1_000_000_000);
        while now_ns < 600 * second {
            if !deserted.is_paused(id, now_ns) {
                looks += 1;
                deserted.note(id, true, now_ns);
            }
            assert!(!deserted.is_paused(other, now_ns));
            now_ns += second;
        }
        assert_eq!(looks, 13, "at 0, 1, 5 and 21 seconds, then once a minute");
        deserted.note(id, false, now_ns);
        assert!(!deserted.is_paused(id, now_ns));
        deserted.note(id, true, now_ns);
        assert!(deserted.is_paused(id, now_ns) && !deserted.is_paused(id, now_ns + second));
    }

    #[test]
    fn strangers_go_after_a_while_unless_they_are_somebody_again() {
        let time = limits::STRANGER_TIME.as_nanos() as u64;
        let mut strangers = Strangers::default();
        strangers.observe(b"a", 0);
        strangers.observe(b"b", 0);
        assert!(strangers.take_due().is_empty());
        strangers.observe(b"a", time - 1);
        assert!(strangers.take_due().is_empty());
        strangers.observe(b"a", time);
        strangers.observe(b"b", time);
        assert_eq!(strangers.take_due(), [Box::from(*b"a")]);
        strangers.observe(b"a", time);
        assert!(strangers.take_due().is_empty());
    }
}
