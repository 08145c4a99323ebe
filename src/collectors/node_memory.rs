//! Memory of the node, from /proc/meminfo.

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Result};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::meminfo::{self, MemInfo};
use crate::registry::Registry;
use crate::world::World;

static TOTAL: Desc =
    Desc::state("node_resources_memory_total_bytes", "Usable memory, in bytes (MemTotal).", &[]);
static FREE: Desc =
    Desc::state("node_resources_memory_free_bytes", "Memory nobody uses, in bytes (MemFree).", &[]);
static AVAILABLE: Desc = Desc::state(
    "node_resources_memory_available_bytes",
    "Memory new work can have without swapping, in bytes (MemAvailable).",
    &[],
);
static CACHED: Desc =
    Desc::state("node_resources_memory_cached_bytes", "Page cache, in bytes (Cached).", &[]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_memory",
    about: "Memory of the node",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&TOTAL, &FREE, &AVAILABLE, &CACHED],
    open,
};

struct NodeMemory {
    file: KernelFile,
    memory: MemInfo,
}

fn open(world: &mut World) -> Result<Opened> {
    let mut collector =
        NodeMemory { file: KernelFile::one_piece(world.host.proc("meminfo")), memory: MemInfo::default() };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

impl Collector for NodeMemory {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        self.memory =
            meminfo::parse(self.file.read(&mut world.kept_files, &mut buffer).context("/proc/meminfo")?);
        Ok(())
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        let memory = &self.memory;
        for (desc, bytes) in [
            (&TOTAL, memory.total_bytes),
            (&FREE, memory.free_bytes),
            (&AVAILABLE, memory.available_bytes),
            (&CACHED, memory.cached_bytes),
        ] {
            if let Some(bytes) = bytes {
                out.add(desc, &[], bytes as f64);
            }
        }
    }
}
