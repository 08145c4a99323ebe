//! The life of containers' processes: how many, what they are, and how often a container began anew. Counted in the kernel by
//! `bpf/life.bpf.c`; without it from the events the kernel tells, or polled from cgroup files.

mod commands;
mod connector;
mod files;
mod kernel;
mod kinds;
mod restarts;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;

use self::commands::{Commands, Stamp};
use self::connector::Connector;
use self::files::Files;
use self::kernel::{Counts, Kernel};
use self::kinds::Kind;
use self::restarts::Restarts;
use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::containers::InstanceId;
use crate::containers::ledger::Ledger;
use crate::containers::owners::{Strangers, Sums, instance_of};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::info;
use crate::limits::{self, Limit};
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::MonotonicNs;
use crate::world::World;

static RESTARTS: Desc = Desc::counter(
    "container_restarts_total",
    "Times the container began anew: it got a process when it had none, in the same cgroup or in one that replaced it.",
    &[],
);
static APPLICATION: Desc = Desc::state(
    "container_application_type",
    "1 for each known type of application among the container's living processes.",
    &["application_type"],
);
static PROCESSES: Desc =
    Desc::gauge("container_processes", "Living processes of the container; threads do not count.", &[]);
static STARTED: Desc = Desc::counter(
    "container_processes_started_total",
    "Processes that live or have ended in the container, however short their life; those that came in from elsewhere count too.",
    &[],
);
static EXITED: Desc =
    Desc::counter("container_processes_exited_total", "Processes that have ended in the container.", &[]);
static EXECS: Desc = Desc::counter(
    "container_process_execs_total",
    "Programs that processes of the container have executed.",
    &[],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_process_events_lost_total",
    "Ended processes, executed programs and first processes that are not counted: the kernel's tables were full, or it did not tell; with process events, events of the host that were dropped.",
    &[],
);
static ABANDONED: Desc = Desc::counter(
    "nodeprobe_command_probes_abandoned_total",
    "Child processes reading command lines that were killed because they hung.",
    &[],
);
static DOOR: Desc = Desc::state(
    "nodeprobe_processes_door_info",
    "How processes are followed: bpf, connector (the kernel's process events), or files, which know nothing of those that end between two looks.",
    &["door"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "processes",
    about: "Processes of containers, restarts and types of applications, with eBPF, process events or cgroup files",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::less(Capability::Bpf, "counts processes; the kernel's process events otherwise"),
        Need::less(Capability::Perfmon, "the same"),
        Need::less(Capability::SysPtrace, "reads which program a process runs, for types of applications"),
        Need::less(Capability::NetAdmin, "receives the kernel's process events where BPF cannot be had"),
    ],
    metrics: &[&RESTARTS, &APPLICATION, &PROCESSES, &STARTED, &EXITED, &EXECS, &LOST, &ABANDONED, &DOOR],
    open,
};

/// Processes that are counted as started, exits, executed programs.
const COUNTERS: usize = 3;

struct Processes {
    door: Door,
    instances: BTreeMap<InstanceId, Instance>,
    counts: Ledger<COUNTERS>,
    restarts: Restarts,
    commands: Commands,
    /// In their order.
    kinds: Vec<(InstanceId, Kind)>,
    lost: u64,
    /// What went wrong between two refreshes.
    problem: Option<Error>,
}

enum Door {
    Bpf(Box<Bpf>),
    Connector(Box<Connector>),
    Files(Files),
}

struct Bpf {
    kernel: Kernel,
    /// Ended processes and executed programs.
    sums: Sums<2>,
    owners: Strangers,
    cgroups: Strangers,
    /// When ended processes are forgotten next.
    forget_ns: MonotonicNs,
}

/// One life of a container's cgroup. It is kept for a while after its end, for its last counts.
#[derive(Default)]
struct Instance {
    counts: Counts,
    present: Present,
    runs: u64,
    started: u64,
    exits: u64,
    ended_ns: Option<MonotonicNs>,
}

/// Processes that are there.
#[derive(Default, Clone, Copy)]
struct Present {
    living: u64,
    /// They have ended and are not counted.
    ended: u64,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_processes(world) {
        return Ok(absent);
    }
    let door = match Kernel::open(&world.hierarchies) {
        Ok(kernel) => {
            let strangers = (Strangers::default(), Strangers::default());
            Door::Bpf(Box::new(Bpf {
                kernel,
                sums: Sums::default(),
                owners: strangers.0,
                cgroups: strangers.1,
                forget_ns: 0,
            }))
        }
        Err(error) => match Connector::open(world) {
            Ok(connector) => {
                info!("processes: {error}; the kernel's process events are followed");
                Door::Connector(Box::new(connector))
            }
            Err(other) => {
                info!(
                    "processes: {error}; {other}; counts of started and ended ones and of executed programs are absent"
                );
                Door::Files(Files::default())
            }
        },
    };
    Ok(Opened::Ready(Box::new(Processes::new(door))))
}

impl Bpf {
    /// Reads what the kernel has counted. Who has ended comes before who is there: who ends in between is missing for a moment
    /// instead of being counted twice. They are taken over together, or neither.
    fn read(
        &mut self,
        world: &World,
        instances: &mut BTreeMap<InstanceId, Instance>,
        commands: &mut Commands,
    ) -> Result<()> {
        let containers = &world.containers;
        self.kernel.each_owner(|key, counts| match instance_of(containers, key) {
            Some(id) if instances.contains_key(&id) => {
                self.sums.observe(id, key, [counts.gone, counts.execs]);
            }
            // One that has no name yet takes it over when it has.
            Some(id) if containers.is_alive(id) => {}
            Some(_) => self.owners.observe_last(key),
            None => self.owners.observe(key, world.now_ns),
        })?;
        for key in self.owners.take_due() {
            self.kernel.remove_owner(&key)?;
            self.sums.forget_key(&key);
        }

        let mut present: HashMap<InstanceId, Present> = HashMap::new();
        let mut known: HashMap<Box<[u8]>, Option<InstanceId>> = HashMap::new();
        self.kernel.each_process(|process| {
            let id = known.get(process.key).copied().unwrap_or_else(|| {
                let id = instance_of(containers, process.key);
                known.insert(process.key.into(), id);
                id
            });
            if let Some(id) = id.filter(|id| instances.contains_key(id)) {
                let present = present.entry(id).or_default();
                if process.has_ended {
                    present.ended += 1;
                    return;
                }
                present.living += 1;
                let stamp = Stamp { start_ns: process.start_ns, executed: process.executed };
                commands.observe(process.pid, id, stamp);
            }
        })?;
        for (&id, instance) in instances.iter_mut() {
            let [gone, execs] = self.sums.of(id);
            instance.counts = Counts { gone, execs };
            instance.present = present.get(&id).copied().unwrap_or_default();
        }
        if self.forget_ns <= world.now_ns {
            self.kernel.forget_ended(world.now_ns)?;
            self.forget_ns = world.now_ns + limits::ENDED_TIME.as_nanos() as u64;
        }

        self.kernel.each_cgroup(|key, hierarchy, cgroup, runs| {
            let place = world.hierarchies.place_of(hierarchy);
            match place.and_then(|place| containers.of_root(place, cgroup)) {
                Some(id) => match instances.get_mut(&id) {
                    // Each hierarchy tells the same; those that a runtime does not use, nothing.
                    Some(instance) => instance.runs = instance.runs.max(runs),
                    None if containers.is_alive(id) => {}
                    None => self.cgroups.observe_last(key),
                },
                None => self.cgroups.observe(key, world.now_ns),
            }
        })?;
        self.cgroups.take_due().iter().try_for_each(|key| self.kernel.remove_cgroup(key))?;
        // It has had processes since before the programs were attached.
        for instance in instances.values_mut().filter(|instance| instance.present.living > 0) {
            instance.runs = instance.runs.max(1);
        }
        Ok(())
    }
}

impl Processes {
    fn new(door: Door) -> Processes {
        Processes {
            door,
            instances: BTreeMap::new(),
            counts: Ledger::default(),
            restarts: Restarts::default(),
            commands: Commands::default(),
            kinds: Vec::new(),
            lost: 0,
            problem: None,
        }
    }

    fn connector(&self) -> Option<&Connector> {
        match &self.door {
            Door::Connector(connector) => Some(connector),
            _ => None,
        }
    }

    /// Of what cannot be read, what was known before stays.
    fn read(&mut self, world: &World) -> Result<()> {
        self.commands.begin();
        let is_complete = match &mut self.door {
            Door::Bpf(bpf) => {
                bpf.read(world, &mut self.instances, &mut self.commands)?;
                self.lost = bpf.kernel.lost()?;
                true
            }
            Door::Connector(connector) => {
                connector.refresh(world)?;
                self.lost = connector.lost();
                for (id, tally) in connector.table().tallies() {
                    if let Some(instance) = self.instances.get_mut(&id) {
                        instance.counts = Counts { gone: tally.ended, execs: tally.execs };
                        instance.present = Present { living: tally.living, ended: 0 };
                        instance.runs = tally.runs;
                    }
                }
                for (pid, id, stamp) in connector.table().living() {
                    self.commands.observe(pid, id, stamp);
                }
                true
            }
            Door::Files(files) => files.read(world, |id, living, runs| {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.present = Present { living: living.len() as u64, ended: 0 };
                    instance.runs = runs;
                    living.iter().for_each(|&(pid, stamp)| self.commands.observe(pid, id, stamp));
                }
            }),
        };
        if is_complete {
            self.commands.end();
        }
        Ok(())
    }

    fn count(&mut self, world: &World) {
        for (&id, instance) in &mut self.instances {
            let Some(identity) = world.containers.instance(id).and_then(|known| known.identity) else {
                continue;
            };
            if world.containers.identity(identity).is_none() {
                continue;
            }
            self.restarts.observe(id, identity, instance.runs);
            let exits = instance.counts.gone + instance.present.ended;
            instance.exits = instance.exits.max(exits);
            instance.started = instance.started.max(exits + instance.present.living);
            let counts = [instance.started, instance.exits, instance.counts.execs];
            self.counts.observe(id, identity, 0, counts);
        }
        let patience_ns = limits::LAST_COUNTS_TIME.as_nanos() as u64;
        self.instances.retain(|&id, instance| {
            let is_over = instance.ended_ns.is_some_and(|at| at + patience_ns <= world.now_ns);
            if is_over {
                self.counts.event(&Event::InstanceEnded(id));
                self.restarts.end_instance(id);
                match &mut self.door {
                    Door::Bpf(bpf) => bpf.sums.end_instance(id),
                    Door::Connector(connector) => connector.end_instance(id),
                    Door::Files(files) => files.end_instance(id),
                }
            }
            !is_over
        });
    }
}

impl Collector for Processes {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        self.connector().and_then(Connector::fd).into_iter().for_each(wait);
    }

    fn ready(&mut self, world: &mut World, fd: RawFd) -> Result<()> {
        if let Door::Connector(connector) = &mut self.door
            && connector.fd() == Some(fd)
        {
            return connector.read(world);
        }
        Ok(())
    }

    fn event(&mut self, world: &mut World, event: &Event) {
        let identity = |id| world.containers.instance(id).and_then(|instance| instance.identity);
        match *event {
            Event::InstanceStarted(id) => {
                self.instances.insert(id, Instance::default());
                if let Door::Connector(connector) = &mut self.door {
                    connector.begin_instance(world, id);
                }
                identity(id).into_iter().for_each(|identity| self.restarts.begin(identity));
            }
            Event::InstanceRenamed(id) => {
                identity(id).into_iter().for_each(|identity| self.restarts.begin(identity));
            }
            Event::InstanceEnded(id) => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.ended_ns = Some(world.now_ns);
                }
            }
            Event::IdentityEnded(identity) => {
                self.counts.event(event);
                self.restarts.end_identity(identity);
            }
            Event::CgroupsChanged => {}
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let read = self.read(world);
        if self.commands.refused > 0 {
            world.reached.count(Limit::Processes);
        }
        self.count(world);
        self.commands.ask(&world.host, world.now_ns)?;
        self.kinds = self.commands.kinds();
        read.and(self.problem.take().map_or(Ok(()), Err))
    }

    fn deadline_ns(&self) -> Option<u64> {
        let resync_ns = self.connector().and_then(Connector::resync_ns);
        resync_ns.into_iter().chain(self.commands.deadline_ns()).min()
    }

    fn tick_ns(&self) -> Option<u64> {
        let events_ns = self.connector().and_then(Connector::read_ns);
        events_ns.into_iter().chain(self.commands.read_ns()).min()
    }

    fn tick(&mut self, world: &mut World) {
        if let Door::Connector(connector) = &mut self.door
            && connector.read_ns().is_some_and(|at| at <= world.now_ns)
            && let Err(error) = connector.read(world)
        {
            self.problem = Some(error);
        }
        if self.commands.read_ns().is_some_and(|at| at <= world.now_ns) && self.commands.read(world.now_ns) {
            self.kinds = self.commands.kinds();
        }
    }

    fn is_busy(&self) -> bool {
        self.commands.read_ns().is_some()
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        if let Door::Bpf(bpf) = &self.door {
            bpf.kernel.maps(each);
        }
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (identity, count) in self.restarts.totals() {
            if let Some(named) = world.containers.identity(identity) {
                out.container(&named.labels, &RESTARTS, &[], count as f64);
            }
        }
        for (id, _, named) in world.containers.living() {
            let Some(instance) = self.instances.get(&id) else { continue };
            out.container(&named.labels, &PROCESSES, &[], instance.present.living as f64);
            let first = self.kinds.partition_point(|(known, _)| *known < id);
            for (_, kind) in self.kinds[first..].iter().take_while(|(known, _)| *known == id) {
                out.container(&named.labels, &APPLICATION, &[kind.word()], 1.0);
            }
        }
        let door = match &self.door {
            Door::Bpf(_) => "bpf",
            Door::Connector(_) => "connector",
            Door::Files(_) => "files",
        };
        out.add(&DOOR, &[door], 1.0);
        out.add(&ABANDONED, &[], self.commands.abandoned as f64);
        if matches!(self.door, Door::Files(_)) {
            return;
        }
        for (identity, _, &[started, exits, execs]) in self.counts.totals() {
            let Some(named) = world.containers.identity(identity) else { continue };
            out.container(&named.labels, &STARTED, &[], started as f64);
            out.container(&named.labels, &EXITED, &[], exits as f64);
            out.container(&named.labels, &EXECS, &[], execs as f64);
        }
        out.add(&LOST, &[], self.lost as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::test::Inhabited;

    #[test]
    fn what_was_read_last_stays_when_it_cannot_be_read() {
        let (mut host, list) = (Inhabited::new(), Inhabited::list());
        let mut processes = Processes::new(Door::Files(Files::default()));
        processes.event(&mut host.world, &Event::InstanceStarted(host.id));
        let mut read = |host: &Inhabited| {
            processes.read(&host.world).unwrap();
            let instance = &processes.instances[&host.id];
            (instance.present.living, instance.runs)
        };
        assert_eq!(read(&host), (2, 1));
        for hidden in [&*list, "proc/10/stat"] {
            host.hide(hidden);
            assert_eq!(read(&host), (2, 1), "{hidden}");
            host.show(hidden);
            assert_eq!(read(&host), (2, 1), "{hidden}");
        }
        host.bed.write(&list, "11\n12\n");
        assert_eq!(read(&host), (1, 1));
    }
}
