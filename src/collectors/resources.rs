//! CPU, memory and pressure of containers, from their cgroup files (v2: Documentation/admin-guide/cgroup-v2.rst; v1:
//! Documentation/admin-guide/cgroup-v1/).

use std::collections::BTreeMap;
use std::path::Path;

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::cgroupfs::{cpu_max, cpu_stat, memory_stat, number};
use crate::containers::hierarchies::{Hierarchies, Place};
use crate::containers::ledger::Ledger;
use crate::containers::{IdentityId, InstanceId};
use crate::error::{Reason, Result};
use crate::event::Event;
use crate::kernel_file::KernelFile;
use crate::limits;
use crate::metric::Desc;
use crate::procfs::pressure;
use crate::registry::Registry;
use crate::sys::clock::MonotonicNs;
use crate::world::{KeptFiles, World};

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

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "resources",
    about: "CPU, memory and pressure of containers",
    default: Enable::Auto,
    refresh: When::Interval,
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
    ],
    open,
};

/// CPU usage and throttling in nanoseconds.
const CPU_COUNTERS: usize = 2;
/// `some` and `full` of cpu, memory and io, in microseconds.
const PRESSURE_COUNTERS: usize = 6;

#[derive(Default)]
struct Resources {
    instances: BTreeMap<InstanceId, Files>,
    cpu: Ledger<CPU_COUNTERS>,
    pressure: Ledger<PRESSURE_COUNTERS>,
    buffer: Vec<u8>,
}

fn open(world: &mut World) -> Result<Opened> {
    if world.hierarchies.layout() == "none" {
        return Ok(Opened::Absent(Reason::NotFound, "no cgroup hierarchy".to_owned()));
    }
    Ok(Opened::Ready(Box::<Resources>::default()))
}

/// The files of one instance and what they said last.
#[derive(Default)]
struct Files {
    cpu: CpuFiles,
    memory: MemoryFiles,
    pressure: Option<[KernelFile; 3]>,
    /// How often its directories were looked for and its limits read, and when that is due again.
    looked: u32,
    look_ns: MonotonicNs,
    cpu_limit_cores: Option<f64>,
    /// The throttled time read last. A read that fails must not look like a counter that fell.
    throttled_ns: u64,
    memory_limit_bytes: Option<u64>,
    memory_rss_bytes: Option<u64>,
    memory_cache_bytes: Option<u64>,
}

#[derive(Default)]
enum CpuFiles {
    V2 {
        stat: KernelFile,
        max: KernelFile,
    },
    V1 {
        usage: KernelFile,
        stat: KernelFile,
        quota: KernelFile,
        period: KernelFile,
    },
    #[default]
    None,
}

#[derive(Default)]
enum MemoryFiles {
    V2 {
        stat: KernelFile,
        max: KernelFile,
    },
    V1 {
        stat: KernelFile,
        limit: KernelFile,
    },
    #[default]
    None,
}

impl Files {
    /// Looks for the cgroup `path`: each controller's files are in the hierarchy that has the controller and the cgroup.
    /// Runtimes make the directories of a container one after the other, so a second look may find more.
    ///
    /// Gives true when CPU time is read from another file than before.
    fn find(&mut self, hierarchies: &Hierarchies, path: &str, kept: &mut KeptFiles) -> bool {
        let path = path.trim_start_matches('/');
        let inside = |mount: Option<&Path>| mount.map(|mount| mount.join(path)).filter(|path| path.is_dir());
        let file = |directory: &Path, name: &str| KernelFile::one_piece(directory.join(name));
        let v2 = inside(hierarchies.directory(Place::V2));
        let v1_cpu = inside(hierarchies.directory(Place::Cpu)).zip(inside(hierarchies.cpuacct()));
        let v1_memory = inside(hierarchies.directory(Place::Memory));
        let moved = matches!(self.cpu, CpuFiles::V2 { .. }) && v1_cpu.is_some();
        if let (CpuFiles::None | CpuFiles::V2 { .. }, Some((cpu, cpuacct))) = (&self.cpu, v1_cpu) {
            self.close(kept);
            self.cpu = CpuFiles::V1 {
                usage: file(&cpuacct, "cpuacct.usage"),
                stat: file(&cpu, "cpu.stat"),
                quota: file(&cpu, "cpu.cfs_quota_us"),
                period: file(&cpu, "cpu.cfs_period_us"),
            };
        }
        if let (MemoryFiles::None | MemoryFiles::V2 { .. }, Some(v1)) = (&self.memory, v1_memory) {
            self.close(kept);
            self.memory =
                MemoryFiles::V1 { stat: file(&v1, "memory.stat"), limit: file(&v1, "memory.limit_in_bytes") };
        }
        let Some(v2) = v2 else { return moved };
        if let CpuFiles::None = self.cpu {
            self.cpu = CpuFiles::V2 { stat: file(&v2, "cpu.stat"), max: file(&v2, "cpu.max") };
        }
        if let MemoryFiles::None = self.memory {
            self.memory = MemoryFiles::V2 { stat: file(&v2, "memory.stat"), max: file(&v2, "memory.max") };
        }
        if self.pressure.is_none() && v2.join("cpu.pressure").exists() {
            self.pressure =
                Some(["cpu.pressure", "memory.pressure", "io.pressure"].map(|name| file(&v2, name)));
        }
        moved
    }

    /// Usage and throttling in nanoseconds; `None` without the usage.
    fn read_cpu(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) -> Option<[u64; CPU_COUNTERS]> {
        match &mut self.cpu {
            CpuFiles::V2 { stat, .. } => {
                let stat = cpu_stat::parse(stat.read(kept, buffer).ok()?);
                self.throttled_ns = stat.throttled_ns.unwrap_or(self.throttled_ns);
                Some([stat.usage_us?.saturating_mul(1000), self.throttled_ns])
            }
            CpuFiles::V1 { usage, stat, .. } => {
                let usage_ns = number::parse(usage.read(kept, buffer).ok()?)?;
                // Only a limit makes it grow, so without one it is not read again.
                if self.cpu_limit_cores.is_some() || self.looked <= 1 {
                    let text = stat.read(kept, buffer).ok();
                    let throttled_ns = text.and_then(|text| cpu_stat::parse(text).throttled_ns);
                    self.throttled_ns = throttled_ns.unwrap_or(self.throttled_ns);
                }
                Some([usage_ns, self.throttled_ns])
            }
            CpuFiles::None => None,
        }
    }

    fn read_memory(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        (self.memory_rss_bytes, self.memory_cache_bytes) = match &mut self.memory {
            MemoryFiles::V2 { stat, .. } => stat.read(kept, buffer).map_or((None, None), |text| {
                let stat = memory_stat::parse(text);
                (sum(stat.anon, stat.file_mapped), stat.file)
            }),
            MemoryFiles::V1 { stat, .. } => stat.read(kept, buffer).map_or((None, None), |text| {
                let stat = memory_stat::parse_v1(text);
                (sum(stat.rss, stat.mapped_file), stat.cache)
            }),
            MemoryFiles::None => (None, None),
        };
    }

    fn read_pressure(
        &mut self,
        kept: &mut KeptFiles,
        buffer: &mut Vec<u8>,
    ) -> Option<[u64; PRESSURE_COUNTERS]> {
        let mut all = [0; PRESSURE_COUNTERS];
        for (file, pair) in self.pressure.as_mut()?.iter_mut().zip(all.as_chunks_mut::<2>().0) {
            let pressure = pressure::parse(file.read(kept, buffer).ok()?);
            *pair = [pressure.some_us?, pressure.full_us.unwrap_or(0)];
        }
        Some(all)
    }

    fn read_limits(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) {
        // Read once a minute, so not worth a descriptor each.
        let mut read = |file: &mut KernelFile| {
            let text = file.read(kept, buffer).map(<[u8]>::to_vec).unwrap_or_default();
            file.close(kept);
            text
        };
        self.cpu_limit_cores = match &mut self.cpu {
            CpuFiles::V2 { max, .. } => cpu_max::parse(&read(max)),
            CpuFiles::V1 { quota, period, .. } => cpu_max::parse_v1(&read(quota), &read(period)),
            CpuFiles::None => None,
        };
        self.memory_limit_bytes = match &mut self.memory {
            MemoryFiles::V2 { max, .. } => number::parse(&read(max)),
            MemoryFiles::V1 { limit, .. } => number::parse_memory_limit(&read(limit)),
            MemoryFiles::None => None,
        };
    }

    fn close(&mut self, kept: &mut KeptFiles) {
        let cpu = match &mut self.cpu {
            CpuFiles::V2 { stat, .. } => vec![stat],
            CpuFiles::V1 { usage, stat, .. } => vec![usage, stat],
            CpuFiles::None => Vec::new(),
        };
        let memory = match &mut self.memory {
            MemoryFiles::V2 { stat, .. } | MemoryFiles::V1 { stat, .. } => Some(stat),
            MemoryFiles::None => None,
        };
        let pressure = self.pressure.iter_mut().flatten();
        cpu.into_iter().chain(memory).chain(pressure).for_each(|file| file.close(kept));
    }
}

impl Resources {
    fn refresh_instance(&mut self, world: &mut World, id: InstanceId, identity: IdentityId, path: &str) {
        let files = self.instances.entry(id).or_default();
        let (kept, buffer) = (&mut world.kept_files, &mut self.buffer);
        let mut moved = false;
        if files.look_ns <= world.now_ns {
            moved = files.find(&world.hierarchies, path, kept);
            files.read_limits(kept, buffer);
            let pause = if files.looked == 0 { limits::SECOND_LOOK } else { limits::LIMITS_INTERVAL };
            files.looked = files.looked.saturating_add(1);
            files.look_ns = world.now_ns + pause.as_nanos() as u64;
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
        let living: Vec<(InstanceId, IdentityId, Box<str>)> = world
            .containers
            .living()
            .filter_map(|(id, instance, _)| Some((id, instance.identity?, instance.path.clone())))
            .collect();
        for (id, identity, path) in living {
            self.refresh_instance(world, id, identity, &path);
        }
        Ok(())
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
            for (desc, value) in [
                (&CPU_LIMIT, files.cpu_limit_cores),
                (&MEMORY_LIMIT, files.memory_limit_bytes.map(|bytes| bytes as f64)),
                (&MEMORY_RSS, files.memory_rss_bytes.map(|bytes| bytes as f64)),
                (&MEMORY_CACHE, files.memory_cache_bytes.map(|bytes| bytes as f64)),
            ] {
                if let Some(value) = value {
                    out.container(&named.labels, desc, &[], value);
                }
            }
        }
    }
}
