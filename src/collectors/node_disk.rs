//! Disks of the node, from /proc/diskstats (Documentation/admin-guide/iostats.rst).

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Result};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::diskstats;
use crate::registry::Registry;
use crate::world::World;

static READS: Desc = Desc::counter("node_resources_disk_reads_total", "Reads completed.", &["device"]);
static WRITES: Desc = Desc::counter("node_resources_disk_writes_total", "Writes completed.", &["device"]);
static READ_BYTES: Desc = Desc::counter("node_resources_disk_read_bytes_total", "Bytes read.", &["device"]);
static WRITTEN_BYTES: Desc =
    Desc::counter("node_resources_disk_written_bytes_total", "Bytes written.", &["device"]);
static READ_TIME: Desc = Desc::counter(
    "node_resources_disk_read_time_seconds_total",
    "Time all reads took together, in seconds.",
    &["device"],
);
static WRITE_TIME: Desc = Desc::counter(
    "node_resources_disk_write_time_seconds_total",
    "Time all writes took together, in seconds.",
    &["device"],
);
static IO_TIME: Desc = Desc::counter(
    "node_resources_disk_io_time_seconds_total",
    "Time in which the disk had something to do, in seconds.",
    &["device"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_disk",
    about: "I/O of whole disks",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&READS, &WRITES, &READ_BYTES, &WRITTEN_BYTES, &READ_TIME, &WRITE_TIME, &IO_TIME],
    open,
};

struct NodeDisk {
    file: KernelFile,
    /// Per disk the values of `SPEC.metrics`, in their order.
    disks: Vec<(Box<str>, [f64; 7])>,
}

fn open(world: &mut World) -> Result<Opened> {
    let mut collector = NodeDisk { file: KernelFile::new(world.host.proc("diskstats")), disks: Vec::new() };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

impl Collector for NodeDisk {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        let disks =
            diskstats::parse(self.file.read(&mut world.kept_files, &mut buffer).context("/proc/diskstats")?);
        self.disks.clear();
        self.disks.extend(disks.all().iter().filter(|disk| diskstats::whole_device(disk.name)).map(|disk| {
            let seconds = |milliseconds: u64| milliseconds as f64 / 1e3;
            let values = [
                disk.reads as f64,
                disk.writes as f64,
                disk.read_bytes as f64,
                disk.written_bytes as f64,
                seconds(disk.read_time_ms),
                seconds(disk.write_time_ms),
                seconds(disk.io_time_ms),
            ];
            (disk.name.into(), values)
        }));
        Ok(())
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        for (name, values) in &self.disks {
            for (desc, value) in SPEC.metrics.iter().zip(values) {
                out.add(desc, &[name], *value);
            }
        }
    }
}
