//! What the node is: names, versions, uptime, and where in which cloud it runs.

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Result};
use crate::host::{Host, read_bounded};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::uptime;
use crate::registry::Registry;
use crate::sys::process;
use crate::world::World;

static AGENT: Desc = Desc::state("node_agent_info", "Version of the agent; always 1.", &["version"]);
static INFO: Desc =
    Desc::state("node_info", "Host name and kernel release; always 1.", &["hostname", "kernel_version"]);
static CLOUD: Desc = Desc::state(
    "node_cloud_info",
    "The cloud instance this node is; always 1, empty labels where unknown.",
    &[
        "provider",
        "account_id",
        "instance_id",
        "instance_type",
        "instance_life_cycle",
        "region",
        "availability_zone",
        "availability_zone_id",
        "local_ipv4",
        "public_ipv4",
    ],
);
static UPTIME: Desc = Desc::state("node_uptime_seconds", "Time since boot, in seconds (/proc/uptime).", &[]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_info",
    about: "Names and versions of the node, uptime",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&AGENT, &INFO, &CLOUD, &UPTIME],
    open,
};

struct NodeInfo {
    hostname: String,
    kernel_version: String,
    uptime: KernelFile,
    uptime_s: Option<f64>,
}

fn open(world: &mut World) -> Result<Opened> {
    let text = |path: &str| {
        let data = read_bounded(&world.host.proc(path), 4096).unwrap_or_default();
        String::from_utf8_lossy(&data).trim().to_owned()
    };
    // The host's name, not that of the container nodeprobe may run in.
    let live = world.host.is_live();
    let hostname = live.then(|| {
        process::inside_namespace(&world.host.proc("1/ns/uts"), &Host::own("ns/uts"), process::host_name).ok()
    });
    Ok(Opened::Ready(Box::new(NodeInfo {
        hostname: hostname.flatten().unwrap_or_else(|| text("sys/kernel/hostname")),
        kernel_version: text("sys/kernel/osrelease"),
        uptime: KernelFile::one_piece(world.host.proc("uptime")),
        uptime_s: None,
    })))
}

impl Collector for NodeInfo {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        self.uptime_s =
            uptime::parse(self.uptime.read(&mut world.kept_files, &mut buffer).context("/proc/uptime")?);
        Ok(())
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        out.add(&AGENT, &[env!("CARGO_PKG_VERSION")], 1.0);
        out.add(&INFO, &[&self.hostname, &self.kernel_version], 1.0);
        out.add(&CLOUD, &world.cloud.labels(), 1.0);
        if let Some(uptime_s) = self.uptime_s {
            out.add(&UPTIME, &[], uptime_s);
        }
    }
}
