//! CPU, memory, pressure, processes and huge pages of containers, from their cgroup files (v2: Documentation/admin-guide/cgroup-v2.rst; v1:
//! Documentation/admin-guide/cgroup-v1/).

mod files;

use std::collections::BTreeMap;

use self::files::{CPU_COUNTERS, Files, PRESSURE_COUNTERS};
use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::containers::ledger::Ledger;
use crate::containers::sweep::Sweep;
use crate::containers::{IdentityId, InstanceId};
use crate::error::Result;
use crate::event::Event;
use crate::limits;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::world::World;

static CPU_LIMIT: Desc =
    Desc::state("container_resources_cpu_limit_cores", "CPU limit, in cores; absent without one.", &[]);
static CPU_USAGE: Desc =
    Desc::counter("container_resources_cpu_usage_seconds_total", "CPU time used, in seconds.", &[]);
static CPU_THROTTLED: Desc = Desc::counter(
    "container_resources_cpu_throttled_seconds_total",
    "Time for which the CPU limit kept tasks from running, in seconds.",
    &[],
);
static CPU_PRESSURE: Desc = Desc::counter(
    "container_resources_cpu_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for a CPU, in seconds.",
    &["kind"],
);
static MEMORY_PRESSURE: Desc = Desc::counter(
    "container_resources_memory_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for memory, in seconds.",
    &["kind"],
);
static IO_PRESSURE: Desc = Desc::counter(
    "container_resources_io_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for I/O, in seconds.",
    &["kind"],
);
static MEMORY_LIMIT: Desc =
    Desc::state("container_resources_memory_limit_bytes", "Memory limit, in bytes; absent without one.", &[]);
static MEMORY_RSS: Desc =
    Desc::gauge("container_resources_memory_rss_bytes", "Anonymous and mapped file memory, in bytes.", &[]);
static MEMORY_CACHE: Desc =
    Desc::gauge("container_resources_memory_cache_bytes", "Page cache, in bytes.", &[]);
static MEMORY_WORKING_SET: Desc = Desc::gauge(
    "container_resources_memory_working_set_bytes",
    "Memory that counts against the limit, less inactive page cache, in bytes: what Kubernetes evicts by.",
    &[],
);
static MEMORY_SWAP: Desc =
    Desc::gauge("container_resources_memory_swap_bytes", "Memory in swap, in bytes.", &[]);
static HUGE_PAGES: Desc = Desc::gauge(
    "container_resources_hugetlb_bytes",
    "Memory in huge pages of hugetlbfs, in bytes; absent where the host has none of that size.",
    &["page_size"],
);
static PIDS: Desc =
    Desc::gauge("container_resources_pids", "Processes and threads as the pids controller counts them.", &[]);
static PIDS_LIMIT: Desc =
    Desc::state("container_resources_pids_limit", "Limit of processes and threads; absent without one.", &[]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "resources",
    about: "CPU, memory, pressure, processes and huge pages of containers",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[],
    metrics: &[
        &CPU_LIMIT,
        &CPU_USAGE,
        &CPU_THROTTLED,
        &CPU_PRESSURE,
        &MEMORY_PRESSURE,
        &IO_PRESSURE,
        &MEMORY_LIMIT,
        &MEMORY_RSS,
        &MEMORY_CACHE,
        &MEMORY_WORKING_SET,
        &MEMORY_SWAP,
        &HUGE_PAGES,
        &PIDS,
        &PIDS_LIMIT,
    ],
    open,
};

#[derive(Default)]
struct Resources {
    instances: BTreeMap<InstanceId, Files>,
    cpu: Ledger<CPU_COUNTERS>,
    pressure: Ledger<PRESSURE_COUNTERS>,
    buffer: Vec<u8>,
    sweep: Sweep,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_cgroups(world) {
        return Ok(absent);
    }
    Ok(Opened::Ready(Box::<Resources>::default()))
}

impl Resources {
    /// Reads the files of the next containers.
    fn go_on(&mut self, world: &mut World) {
        let mut sweep = std::mem::take(&mut self.sweep);
        sweep.slice(world, |world, id, identity| self.refresh_instance(world, id, identity));
        self.sweep = sweep;
    }

    fn refresh_instance(&mut self, world: &mut World, id: InstanceId, identity: IdentityId) {
        let Some(path) = world.containers.instance(id).map(|instance| &*instance.path) else { return };
        let files = self.instances.entry(id).or_default();
        let (kept, buffer) = (&mut world.kept_files, &mut self.buffer);
        let mut moved = false;
        if files.look_ns <= world.now_ns {
            moved = files.find(&world.host, &world.hierarchies, path, kept);
            files.read_limits(kept, buffer);
            let pause = if files.looked == 0 { limits::SECOND_LOOK } else { limits::LIMITS_INTERVAL };
            let spread_ns = if files.looked == 1 { id.phase_ns(limits::LIMITS_INTERVAL / 2) } else { 0 };
            files.looked = files.looked.saturating_add(1);
            files.look_ns = world.now_ns + pause.as_nanos() as u64 - spread_ns;
        }
        if let Some(values) = files.read_cpu(kept, buffer) {
            if moved {
                self.cpu.rebase(id, 0, values);
            }
            self.cpu.observe(id, identity, 0, values);
        }
        if let Some(values) = files.read_pressure(kept, buffer) {
            self.pressure.observe(id, identity, 0, values);
        }
        files.read_memory(kept, buffer);
        files.read_others(kept, buffer);
    }
}

impl Collector for Resources {
    fn event(&mut self, world: &mut World, event: &Event) {
        self.cpu.event(event);
        self.pressure.event(event);
        if let Event::InstanceEnded(id) = event
            && let Some(mut files) = self.instances.remove(id)
        {
            files.close(&mut world.kept_files);
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.sweep.begin();
        self.go_on(world);
        Ok(())
    }

    fn tick_ns(&self) -> Option<u64> {
        self.sweep.is_under_way().then_some(0)
    }

    fn tick(&mut self, world: &mut World) {
        self.go_on(world);
    }

    fn is_busy(&self) -> bool {
        self.sweep.is_under_way()
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        let named = |identity| world.containers.identity(identity);
        for (identity, _, &[usage_ns, throttled_ns]) in self.cpu.totals() {
            let Some(named) = named(identity) else { continue };
            out.container(&named.labels, &CPU_USAGE, &[], usage_ns as f64 / 1e9);
            out.container(&named.labels, &CPU_THROTTLED, &[], throttled_ns as f64 / 1e9);
        }
        for (identity, _, totals) in self.pressure.totals() {
            let Some(named) = named(identity) else { continue };
            for (desc, pair) in
                [&CPU_PRESSURE, &MEMORY_PRESSURE, &IO_PRESSURE].iter().zip(totals.as_chunks::<2>().0)
            {
                for (kind, microseconds) in ["some", "full"].iter().zip(pair) {
                    out.container(&named.labels, desc, &[kind], *microseconds as f64 / 1e6);
                }
            }
        }
        for (id, _, named) in world.containers.living() {
            let Some(files) = self.instances.get(&id) else {
                continue;
            };
            let whole = |value: Option<u64>| value.map(|value| value as f64);
            for (desc, value) in [
                (&CPU_LIMIT, files.cpu_limit_cores),
                (&MEMORY_LIMIT, whole(files.memory_limit_bytes)),
                (&MEMORY_RSS, whole(files.memory.rss_bytes)),
                (&MEMORY_CACHE, whole(files.memory.cache_bytes)),
                (&MEMORY_WORKING_SET, whole(files.memory.working_set_bytes)),
                (&MEMORY_SWAP, whole(files.memory.swap_bytes)),
                (&PIDS, whole(files.pids)),
                (&PIDS_LIMIT, whole(files.pids_limit)),
            ] {
                if let Some(value) = value {
                    out.container(&named.labels, desc, &[], value);
                }
            }
            for (page_size, bytes) in files.huge_pages() {
                out.container(&named.labels, &HUGE_PAGES, &[page_size], bytes as f64);
            }
        }
    }
}
