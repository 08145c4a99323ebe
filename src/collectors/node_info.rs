//! What the node is: names, versions, uptime, and where in which cloud it runs.

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Result};
use crate::host::{Host, read_bounded};
use crate::kernel_file::KernelFile;
use crate::limits;
use crate::metric::Desc;
use crate::procfs::uptime;
use crate::registry::Registry;
use crate::sys::clock::MonotonicNs;
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
    hostname: Hostname,
    kernel_version: String,
    uptime: KernelFile,
    uptime_s: Option<f64>,
}

/// The host's name, not that of the container nodeprobe may run in.
#[derive(Default)]
struct Hostname {
    name: String,
    /// It was read in the host's namespace.
    is_hosts: bool,
    read_ns: MonotonicNs,
}

impl Hostname {
    /// Reads it. A name of the host stays when the host's namespace cannot be entered this time; where that has never worked, the
    /// own name, which may be the same, has to do.
    fn read(&mut self, host: &Host, now_ns: MonotonicNs) {
        self.read_ns = now_ns;
        let inside = || {
            process::inside_namespace(&host.proc("1/ns/uts"), &Host::own("ns/uts"), process::host_name).ok()
        };
        if let Some(name) = host.is_live().then(inside).flatten() {
            (self.name, self.is_hosts) = (name, true);
        } else if !self.is_hosts {
            let own = text(host, "sys/kernel/hostname");
            if !own.is_empty() {
                self.name = own;
            }
        }
    }

    /// Reads it if it is old: cloud-init, DHCP and hostnamectl may set it after the start.
    fn refresh(&mut self, host: &Host, now_ns: MonotonicNs) {
        if now_ns.saturating_sub(self.read_ns) >= limits::HOSTNAME_AGE.as_nanos() as u64 {
            self.read(host, now_ns);
        }
    }
}

/// A file of the host's /proc with a line of text; empty if it cannot be read.
fn text(host: &Host, path: &str) -> String {
    let data = read_bounded(&host.proc(path), 4096).unwrap_or_default();
    String::from_utf8_lossy(&data).trim().to_owned()
}

fn open(world: &mut World) -> Result<Opened> {
    let mut hostname = Hostname::default();
    hostname.read(&world.host, world.now_ns);
    Ok(Opened::Ready(Box::new(NodeInfo {
        hostname,
        kernel_version: text(&world.host, "sys/kernel/osrelease"),
        uptime: KernelFile::one_piece(world.host.proc("uptime")),
        uptime_s: None,
    })))
}

impl Collector for NodeInfo {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.hostname.refresh(&world.host, world.now_ns);
        let mut buffer = Vec::new();
        self.uptime_s =
            uptime::parse(self.uptime.read(&mut world.kept_files, &mut buffer).context("/proc/uptime")?);
        Ok(())
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        out.add(&AGENT, &[env!("CARGO_PKG_VERSION")], 1.0);
        out.add(&INFO, &[&self.hostname.name, &self.kernel_version], 1.0);
        out.add(&CLOUD, &world.cloud.labels(), 1.0);
        if let Some(uptime_s) = self.uptime_s {
            out.add(&UPTIME, &[], uptime_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_name_that_is_set_later_is_seen_within_a_minute() {
        let bed = Bed::new();
        let mut hostname = Hostname::default();
        for (now_ns, file, expected) in [
            (MINUTE, "localhost\n", "localhost"),
            (2 * MINUTE - 1, "node-7\n", "localhost"),
            (2 * MINUTE, "node-7\n", "node-7"),
            // What cannot be read changes nothing.
            (3 * MINUTE, "", "node-7"),
            (4 * MINUTE, "node-8\n", "node-8"),
        ] {
            bed.write("proc/sys/kernel/hostname", file);
            hostname.refresh(&bed.host, now_ns);
            assert_eq!(hostname.name, expected, "{now_ns}");
        }
        // The own name never stands in for one of the host.
        hostname.is_hosts = true;
        bed.write("proc/sys/kernel/hostname", "container\n");
        hostname.refresh(&bed.host, 5 * MINUTE);
        assert_eq!(hostname.name, "node-8");
    }

    #[test]
    fn on_a_running_host_it_is_the_name_of_process_1() {
        let host = Host::new("/".as_ref(), None);
        let mut hostname = Hostname::default();
        hostname.read(&host, 1);
        assert!(!hostname.name.is_empty());
        assert_eq!(hostname.read_ns, 1);
    }
}
