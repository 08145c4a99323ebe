//! Processes of containers that the kernel killed for want of memory: counted by `bpf/oom.bpf.c` at their end, and by the kernel
//! in the cgroup's own file.
//!
//! Neither is enough. The file goes with its cgroup, often milliseconds after the kill, and v1's leaves out cgroups below; the
//! program knows nothing of what was before it. So a container's kills are the larger of the two, where the program goes on from
//! what the file said when the container was met.

mod kernel;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;

use self::kernel::Kernel;
use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::cgroupfs::memory_events;
use crate::containers::hierarchies::{Hierarchies, Place};
use crate::containers::ledger::Ledger;
use crate::containers::owners::{Strangers, Sums, instance_of};
use crate::containers::{IdentityId, InstanceId};
use crate::error::Result;
use crate::event::Event;
use crate::host::read_bounded;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::MonotonicNs;
use crate::world::World;
use crate::{info, limits};

static KILLS: Desc = Desc::counter(
    "container_oom_kills_total",
    "Processes of the container that the kernel killed for want of memory.",
    &[],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_oom_kills_lost_total",
    "Such kills that are not counted because the kernel's table was full.",
    &[],
);
static DOOR: Desc = Desc::state(
    "nodeprobe_oom_door_info",
    "How kills are seen: bpf, or files, which go with their cgroup.",
    &["door"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "oom",
    about: "Processes of containers killed for want of memory, with eBPF and from cgroup files",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::less(Capability::Bpf, "sees kills that end a container; counts of cgroups otherwise"),
        Need::less(Capability::Perfmon, "the same"),
    ],
    metrics: &[&KILLS, &LOST, &DOOR],
    open,
};

struct Oom {
    bpf: Option<Bpf>,
    instances: BTreeMap<InstanceId, Instance>,
    kills: Ledger<1>,
    /// The first reading is over: containers met from now on are younger than the programs.
    is_settled: bool,
    lost: u64,
}

struct Bpf {
    kernel: Kernel,
    sums: Sums<1>,
    owners: Strangers,
}

/// One life of a container's cgroup. It is kept for a while after its end, for its last kills.
#[derive(Default)]
struct Instance {
    /// What the program has seen.
    seen: u64,
    /// What the file said, and when it is read again at the latest.
    told: Option<u64>,
    read_ns: Option<MonotonicNs>,
    /// What the file told of that was before the program.
    before: u64,
    ended_ns: Option<MonotonicNs>,
    /// What the ledger was told last.
    said: Option<(IdentityId, u64)>,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_cgroups(world) {
        return Ok(absent);
    }
    let kernel = if world.host.is_live() { Kernel::open().map(Some) } else { Ok(None) };
    let kernel = kernel.unwrap_or_else(|error| {
        info!("oom: {error}; kills that end a container are not seen");
        None
    });
    Ok(Opened::Ready(Box::new(Oom {
        bpf: kernel.map(|kernel| Bpf { kernel, sums: Sums::default(), owners: Strangers::default() }),
        instances: BTreeMap::new(),
        kills: Ledger::default(),
        is_settled: false,
        lost: 0,
    })))
}

/// The file in which the kernel counts kills in the cgroup `path`: v2's with those below it.
fn file(hierarchies: &Hierarchies, path: &str) -> Option<PathBuf> {
    let path = path.trim_start_matches('/');
    let v1 = hierarchies.directory(Place::Memory).map(|mount| mount.join(path).join("memory.oom_control"));
    let v2 = hierarchies.directory(Place::V2).map(|mount| mount.join(path).join("memory.events"));
    v1.into_iter().chain(v2).find(|file| file.exists())
}

impl Instance {
    /// Reads the file when something has happened, or when nobody else would tell.
    fn read_file(&mut self, world: &World, id: InstanceId, has_bpf: bool, has_news: bool) {
        if has_bpf && !has_news && self.read_ns.is_some_and(|at| at > world.now_ns) {
            return;
        }
        let Some(instance) = world.containers.instance(id).filter(|instance| instance.is_alive()) else {
            return;
        };
        // Not all in the same turn.
        let spread_ns = if self.read_ns.is_none() { id.phase_ns(limits::OOM_INTERVAL / 2) } else { 0 };
        self.read_ns = Some(world.now_ns + limits::OOM_INTERVAL.as_nanos() as u64 - spread_ns);
        let text = file(&world.hierarchies, &instance.path)
            .and_then(|file| read_bounded(&file, limits::KERNEL_FILE_BYTES).ok());
        let kills = text.and_then(|text| memory_events::parse(&text).oom_kills);
        self.told = kills.or(self.told);
    }

    fn kills(&self) -> u64 {
        self.told.unwrap_or(0).max(self.before + self.seen)
    }
}

impl Oom {
    /// Takes what the programs have counted.
    fn read_kernel(&mut self, world: &World) -> Result<()> {
        let Some(bpf) = &mut self.bpf else {
            return Ok(());
        };
        bpf.kernel.each_owner(|key, kills| match instance_of(&world.containers, key) {
            Some(id) if self.instances.contains_key(&id) => bpf.sums.observe(id, key, [kills]),
            Some(id) if world.containers.is_alive(id) => {}
            Some(_) => bpf.owners.observe_last(key),
            None => bpf.owners.observe(key, world.now_ns),
        })?;
        for key in bpf.owners.take_due() {
            bpf.kernel.remove_owner(&key)?;
            bpf.sums.forget_key(&key);
        }
        self.lost = bpf.kernel.lost()?;
        Ok(())
    }
}

impl Collector for Oom {
    fn event(&mut self, world: &mut World, event: &Event) {
        match *event {
            Event::InstanceStarted(id) => {
                self.instances.insert(id, Instance::default());
            }
            Event::InstanceEnded(id) => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.ended_ns = Some(world.now_ns);
                }
            }
            Event::IdentityEnded(_) => self.kills.event(event),
            Event::InstanceRenamed(_) | Event::CgroupsChanged => {}
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        // The program's counts before the file's: the kernel counts in the file first.
        self.read_kernel(world)?;
        let has_bpf = self.bpf.is_some();
        for (&id, instance) in &mut self.instances {
            let [seen] = self.bpf.as_ref().map_or([0], |bpf| bpf.sums.of(id));
            let is_new = instance.read_ns.is_none();
            instance.read_file(world, id, has_bpf, seen != instance.seen);
            instance.seen = seen;
            if is_new && !self.is_settled {
                instance.before = instance.told.unwrap_or(0).saturating_sub(seen);
            }
            let identity = world.containers.instance(id).and_then(|known| known.identity);
            let identity = identity.filter(|&identity| world.containers.identity(identity).is_some());
            // Without both nobody knows.
            if let Some(identity) = identity.filter(|_| has_bpf || instance.told.is_some()) {
                let said = Some((identity, instance.kills()));
                // Most never have any: thousands of them are not worth a look into the ledger.
                if instance.said != said {
                    instance.said = said;
                    self.kills.observe(id, identity, 0, [instance.kills()]);
                }
            }
        }
        self.is_settled = true;
        let patience_ns = limits::LAST_COUNTS_TIME.as_nanos() as u64;
        self.instances.retain(|&id, instance| {
            let is_over = instance.ended_ns.is_some_and(|at| at + patience_ns <= world.now_ns);
            if is_over {
                self.kills.event(&Event::InstanceEnded(id));
                if let Some(bpf) = &mut self.bpf {
                    bpf.sums.end_instance(id);
                }
            }
            !is_over
        });
        Ok(())
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        if let Some(bpf) = &self.bpf {
            bpf.kernel.maps(each);
        }
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (identity, _, &[kills]) in self.kills.totals() {
            if let Some(named) = world.containers.identity(identity) {
                out.container(&named.labels, &KILLS, &[], kills as f64);
            }
        }
        if self.bpf.is_some() {
            out.add(&LOST, &[], self.lost as f64);
        }
        out.add(&DOOR, &[if self.bpf.is_some() { "bpf" } else { "files" }], 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills(before: u64, seen: u64, told: Option<u64>) -> u64 {
        Instance { before, seen, told, ..Instance::default() }.kills()
    }

    #[test]
    fn file_and_program_together_count_a_kill_once() {
        assert_eq!(kills(0, 0, None), 0);
        assert_eq!(kills(0, 2, Some(2)), 2);
        assert_eq!(kills(0, 1, Some(2)), 2, "one has not exited yet");
        assert_eq!(kills(0, 3, Some(2)), 3, "the last one took the cgroup with it");
        assert_eq!(kills(5, 1, Some(5)), 6, "five before the program, then one that took the cgroup with it");
        assert_eq!(kills(0, 3, Some(0)), 3, "in cgroups below one of v1");
        assert_eq!(kills(0, 0, Some(4)), 4);
    }
}
