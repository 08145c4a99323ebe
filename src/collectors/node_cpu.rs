//! CPU time of the node, from /proc/stat.

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Error, Reason, Result};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::stat::{self, Stat};
use crate::registry::Registry;
use crate::sys::clock;
use crate::world::World;

static USAGE: Desc = Desc::counter(
    "node_resources_cpu_usage_seconds_total",
    "CPU time of the node by mode, in seconds (/proc/stat).",
    &["mode"],
);
static CORES: Desc = Desc::state("node_resources_cpu_logical_cores", "Logical CPUs that are online.", &[]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_cpu",
    about: "CPU time of the node",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&USAGE, &CORES],
    open,
};

struct NodeCpu {
    file: KernelFile,
    ticks_per_second: f64,
    stat: Stat,
}

fn open(world: &mut World) -> Result<Opened> {
    let mut collector = NodeCpu {
        file: KernelFile::one_piece(world.host.proc("stat")),
        ticks_per_second: clock::ticks_per_second(),
        stat: Stat::default(),
    };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

impl Collector for NodeCpu {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        let stat = stat::parse(self.file.read(&mut world.kept_files, &mut buffer).context("/proc/stat")?);
        if stat.cpu.is_none() {
            return Err(Error::new(Reason::Failed, "/proc/stat: no line of all CPUs"));
        }
        self.stat = stat;
        Ok(())
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        let Some(cpu) = &self.stat.cpu else { return };
        for (mode, ticks) in [
            ("user", cpu.user),
            ("nice", cpu.nice),
            ("system", cpu.system),
            ("idle", cpu.idle),
            ("iowait", cpu.iowait),
            ("irq", cpu.irq),
            ("softirq", cpu.softirq),
            ("steal", cpu.steal),
        ] {
            out.add(&USAGE, &[mode], ticks as f64 / self.ticks_per_second);
        }
        out.add(&CORES, &[], self.stat.logical_cores as f64);
    }
}
