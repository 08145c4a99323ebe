//! The state all collectors share, passed to them as `&mut World`.

use std::collections::VecDeque;

use crate::args::Config;
use crate::cloud::{Field, Metadata};
use crate::containers::Containers;
use crate::containers::hierarchies::Hierarchies;
use crate::error::Reason;
use crate::event::Event;
use crate::host::{Host, read_bounded};
use crate::http;
use crate::limits::{self, Reached};
use crate::memory::{self, Use};
use crate::network::Namespaces;
use crate::registry::ConstLabels;
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::process;

/// What collectors know about the host and about each other.
pub struct World {
    /// The flags.
    pub config: Config,
    /// Where files are.
    pub host: Host,
    /// Now, as of the start of this turn or of the refresh that is running.
    pub now_ns: MonotonicNs,
    /// Who this node is.
    pub node: Node,
    /// The cloud instance this node is, flags above what is known; `set_cloud` changes it.
    pub cloud: Metadata,
    /// The constant labels that every container has: those of the node, `az` and `region`.
    pub container_labels: ConstLabels,
    /// Where cgroup controllers are mounted.
    pub hierarchies: Hierarchies,
    /// The containers of this node.
    pub containers: Containers,
    /// The network namespaces of this node, if it is a running one and they may be looked at.
    pub namespaces: Option<Namespaces>,
    /// What happened and was not yet told to all collectors.
    pub events: VecDeque<Event>,
    /// One entry per collector, in table order.
    pub status: Vec<Status>,
    /// How long turns of the loop took.
    pub turns: TurnTimes,
    /// What the HTTP side counted.
    pub http: http::Stats,
    /// Limits at which something was left out.
    pub reached: Reached,
    /// Descriptors that may be kept open for quick reading.
    pub kept_files: KeptFiles,
    /// Kernel memory of the BPF maps of all collectors, in bytes. Those maps do not grow; the storage of live sockets, 88 bytes
    /// each, is not in it.
    pub bpf_map_bytes: u64,
    /// When the process started.
    pub started_ns: MonotonicNs,
}

impl World {
    /// The world at the start: nothing but flags, files and names. `open_files` is the limit of descriptors.
    pub fn new(config: Config, open_files: u64) -> World {
        let host = Host::new(&config.root, config.cgroupfs_root.as_deref());
        // In a container with a cgroup namespace, paths of cgroups would begin at its own. Where this is refused, they do:
        // cgroups are then found by their directories alone.
        if host.is_live() {
            let _ = process::join_namespace(&host.proc("1/ns/cgroup"));
        }
        let node = Node::read(&host);
        let mut cloud = Metadata::default();
        cloud.take_flags(&config.cloud);
        let container_labels = node.container_labels(&cloud);
        let containers = Containers::new(container_labels.clone(), config.linger);
        let containers = containers.filtered(config.container_filter.clone());
        let containers = containers.labelled(config.container_labels.clone(), config.skip_system_services);
        let hierarchies = Hierarchies::detect(&host);
        let namespaces = host.is_live().then(|| Namespaces::new(&host).ok()).flatten();
        let now_ns = clock::monotonic_ns();
        World {
            config,
            host,
            now_ns,
            node,
            cloud,
            container_labels,
            hierarchies,
            containers,
            namespaces,
            events: VecDeque::new(),
            status: Vec::new(),
            turns: TurnTimes::default(),
            http: http::Stats::default(),
            reached: Reached::default(),
            kept_files: KeptFiles::new(open_files),
            bpf_map_bytes: 0,
            started_ns: now_ns,
        }
    }
}

impl World {
    /// Takes what is known of the cloud instance; what flags say stands above it. Series of containers change their labels.
    pub fn set_cloud(&mut self, mut cloud: Metadata) {
        cloud.take_flags(&self.config.cloud);
        self.cloud = cloud;
        let labels = self.node.container_labels(&self.cloud);
        if labels != self.container_labels {
            self.containers.set_labels(labels.clone());
            self.container_labels = labels;
        }
    }
}

/// How a collector fares.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// `Reason::Ok` when it was opened, else why not.
    pub reason: Reason,
    /// Why not, in a line; empty when it was opened.
    pub detail: String,
    /// Whether the last refresh worked (or, for collectors that need none, whether it is open).
    pub success: bool,
    /// How long the last refresh took, in nanoseconds.
    pub took_ns: u64,
    /// When the last successful refresh ended.
    pub succeeded_ns: Option<MonotonicNs>,
    /// When the last refresh began, successful or not.
    pub refreshed_ns: Option<MonotonicNs>,
}

/// Who this node is: the labels every `node_*` and `container_*` series carries.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The first readable of /etc/machine-id, D-Bus's copy and the DMI product UUID, without dashes.
    pub machine_id: String,
    /// The DMI product UUID, or nothing.
    pub system_uuid: String,
    /// Both, rendered.
    pub labels: ConstLabels,
}

impl Node {
    fn read(host: &Host) -> Node {
        let text = |path: &std::path::Path| {
            let data = read_bounded(path, 4096).unwrap_or_default();
            String::from_utf8_lossy(&data).trim().to_owned()
        };
        let system_uuid = text(&host.sys("devices/virtual/dmi/id/product_uuid"));
        let machine_id = [host.rootfs("/etc/machine-id"), host.rootfs("/var/lib/dbus/machine-id")]
            .iter()
            .map(|path| text(path.as_path()))
            .find(|id| !id.is_empty())
            .unwrap_or_else(|| system_uuid.clone())
            .replace('-', "");
        let labels =
            ConstLabels::default().with(&[("machine_id", &machine_id), ("system_uuid", &system_uuid)]);
        Node { machine_id, system_uuid, labels }
    }

    /// What the series of containers have in common. Zone and region stand together or not at all: one alone would look like
    /// a place.
    fn container_labels(&self, cloud: &Metadata) -> ConstLabels {
        match [cloud.get(Field::Zone), cloud.get(Field::Region)] {
            ["", _] | [_, ""] => self.labels.clone(),
            [zone, region] => self.labels.with(&[("az", zone), ("region", region)]),
        }
    }
}

/// A small histogram of how long turns of the loop take: the proof that no turn blocks.
#[derive(Debug, Default)]
pub struct TurnTimes {
    counts: [u64; TurnTimes::BOUNDS.len()],
    /// All turns.
    pub count: u64,
    /// Their time in seconds.
    pub sum_s: f64,
}

impl TurnTimes {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 6] = [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0];

    /// Notes one turn, without its wait in poll.
    pub fn observe(&mut self, seconds: f64) {
        self.count += 1;
        self.sum_s += seconds;
        if let Some(at) = Self::BOUNDS.iter().position(|&bound| seconds <= bound) {
            self.counts[at] += 1;
        }
    }

    /// Bounds with cumulative counts.
    pub fn buckets(&self) -> [(f64, u64); TurnTimes::BOUNDS.len()] {
        let mut total = 0;
        std::array::from_fn(|at| {
            total += self.counts[at];
            (Self::BOUNDS[at], total)
        })
    }
}

/// A budget of descriptors for files that are read again and again: opening a cgroup file costs more than reading it, but
/// descriptors are a shared good.
#[derive(Debug)]
pub struct KeptFiles {
    /// What may be used in good times, and now.
    full: u64,
    limit: u64,
    used: u64,
}

impl KeptFiles {
    /// Descriptors left to clients, BPF maps and the rest.
    const RESERVED: u64 = 128;

    fn new(open_files: u64) -> KeptFiles {
        KeptFiles::of((open_files.saturating_sub(Self::RESERVED) / 2).min(limits::KEPT_FILES))
    }

    /// A budget of `limit` descriptors.
    pub fn of(limit: u64) -> KeptFiles {
        KeptFiles { full: limit, limit, used: 0 }
    }

    /// Takes a descriptor from the budget; false when it, or memory, is used up.
    pub fn take(&mut self) -> bool {
        let granted = self.used < self.limit && memory::admits(Use::Files);
        if granted {
            self.used += 1;
            memory::hold(memory::KEPT_FILE_BYTES);
        }
        granted
    }

    /// Gives a descriptor back.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
        memory::give_back(memory::KEPT_FILE_BYTES);
    }

    /// After EMFILE: what is used now is all there is for a while.
    pub fn exhausted(&mut self) {
        self.limit = self.limit.min(self.used);
    }

    /// Ends that while.
    pub fn restore(&mut self) {
        self.limit = self.full;
    }

    /// Descriptors in use.
    pub fn used(&self) -> u64 {
        self.used
    }
}
