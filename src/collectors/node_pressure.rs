//! Pressure stall information of the node (Documentation/accounting/psi.rst).

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Reason, Result};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::pressure::{self, Pressure};
use crate::registry::Registry;
use crate::world::World;

static CPU: Desc = Desc::counter(
    "node_resources_cpu_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for a CPU, in seconds.",
    &["kind"],
);
static MEMORY: Desc = Desc::counter(
    "node_resources_memory_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for memory, in seconds.",
    &["kind"],
);
static IO: Desc = Desc::counter(
    "node_resources_io_pressure_waiting_seconds_total",
    "Time in which some (or all) tasks waited for I/O, in seconds.",
    &["kind"],
);
static IRQ: Desc = Desc::counter(
    "node_resources_irq_pressure_waiting_seconds_total",
    "Time in which all tasks waited for interrupt handlers, in seconds (Linux 6.1+, CONFIG_IRQ_TIME_ACCOUNTING).",
    &["kind"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_pressure",
    about: "Pressure stall information of the node",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&CPU, &MEMORY, &IO, &IRQ],
    open,
};

const RESOURCES: [(&str, &Desc); 4] = [("cpu", &CPU), ("memory", &MEMORY), ("io", &IO), ("irq", &IRQ)];

/// The files that exist here, with the values read last.
struct NodePressure(Vec<(&'static Desc, KernelFile, Pressure)>);

fn open(world: &mut World) -> Result<Opened> {
    let mut files = Vec::new();
    for (resource, desc) in RESOURCES {
        let path = world.host.proc(&format!("pressure/{resource}"));
        // With psi=0 the files exist and cannot be read (EOPNOTSUPP); one that cannot be read now never can be.
        if std::fs::read(&path).is_ok() {
            files.push((desc, KernelFile::one_piece(path), Pressure::default()));
        }
    }
    if files.is_empty() {
        let line =
            "no readable /proc/pressure: the kernel has no PSI, or was booted with psi=0 (boot with psi=1)";
        return Ok(Opened::Absent(Reason::NotSupported, line.to_owned()));
    }
    Ok(Opened::Ready(Box::new(NodePressure(files))))
}

impl Collector for NodePressure {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        for (_, file, value) in &mut self.0 {
            *value =
                pressure::parse(file.read(&mut world.kept_files, &mut buffer).context("/proc/pressure")?);
        }
        Ok(())
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        for (desc, _, value) in &self.0 {
            for (kind, microseconds) in [("some", value.some_us), ("full", value.full_us)] {
                if let Some(microseconds) = microseconds {
                    out.add(desc, &[kind], microseconds as f64 / 1e6);
                }
            }
        }
    }
}
