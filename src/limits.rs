//! The bounds of nodeprobe, each with its reason. Formats keep bounds of their own beside their parsers (depth of JSON, size of
//! a runtime's files). What is left out at a bound is counted and exported.

use std::time::Duration;

/// Bounds at which something of a whole is left out while the rest is exported: `nodeprobe_limit_reached_total{limit}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Limit {
    /// [`MOUNTS_PER_CONTAINER`].
    Mounts,
    /// [`DEVICES_PER_CONTAINER`].
    Devices,
    /// [`INTERFACES`], [`INTERFACES_PER_CONTAINER`] or [`NAMESPACES`]; and once for each refresh, at the interfaces of the node,
    /// [`ADDRESSES_PER_INTERFACE`], [`NAMESPACE_ADDRESSES`] or [`NAMESPACE_ENTRIES`].
    Interfaces,
    /// [`CGROUPS`] or [`CGROUP_DEPTH`] in a walk.
    Walk,
    /// [`TCP_LISTENS_PER_CONTAINER`].
    Listens,
    /// [`PING_TARGETS`].
    Pings,
    /// [`PROCESSES`].
    Processes,
    /// [`LOG_PATTERN_BYTES`].
    LogPatterns,
}

/// How often each limit was reached since the start.
#[derive(Debug, Default)]
pub struct Reached([u64; 8]);

impl Reached {
    /// Counts once.
    pub fn count(&mut self, limit: Limit) {
        self.0[limit as usize] += 1;
    }

    /// Label values with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["mounts", "devices", "interfaces", "walk", "listens", "pings", "processes", "log_patterns"]
            .into_iter()
            .zip(self.0)
    }
}

/// Memory in all, unless `--memory-limit` says otherwise. A node with some hundred containers takes a quarter of it.
pub const MEMORY: u64 = 64 << 20;

/// How often it is looked how much memory is resident; what grows in between is counted as it does.
pub const MEMORY_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Kernel memory for what one client has not read yet, which the kernel doubles; by default it would be up to 4 MiB for each.
pub const HTTP_SEND_BUFFER: i32 = 64 << 10;

/// How long other work waits for a client to take the next piece of a scrape: it does not while one takes nothing, and no longer
/// than a second for one scrape.
pub const HTTP_PACE: Duration = Duration::from_millis(5);

/// Series of one family in one scrape, unless `--series-limit` says otherwise: what ebpf_exporter users have been seen to
/// need, at about 150 bytes each.
pub const SERIES_PER_METRIC: u32 = 200_000;

/// Bytes of a label value; longer ones are cut at a character boundary. The peer's `--max-label-length`.
pub const LABEL_BYTES: usize = 4096;

/// Connections of clients open at once: a few Prometheus servers, a browser, and room for the careless.
pub const HTTP_CONNECTIONS: usize = 64;

/// Bytes of a request line with all its headers. Prometheus sends about 300.
pub const HTTP_HEAD_BYTES: usize = 8 * 1024;

/// From the first byte of a request to the end of its head.
pub const HTTP_HEAD_TIME: Duration = Duration::from_secs(5);

/// How long a kept-alive connection may be idle: twice the scrape interval most people use at the slow end.
pub const HTTP_IDLE_TIME: Duration = Duration::from_secs(120);

/// How long a client may take no byte of a response it asked for.
pub const HTTP_STALL_TIME: Duration = Duration::from_secs(10);

/// How long one response may take altogether.
pub const HTTP_RESPONSE_TIME: Duration = Duration::from_secs(60);

/// Connections accepted in one turn of the loop.
pub const HTTP_ACCEPTS_PER_TURN: usize = 32;

/// Rendered scrapes alive at once, each perhaps megabytes: one being sent, one for a second server.
pub const HTTP_BODIES: usize = 2;

/// A body this old makes way for a new one, however steadily its clients read it.
pub const HTTP_BODY_TIME: Duration = Duration::from_secs(10);

/// Bytes of the page at `/`, so that a damaged binary cannot ask for more.
pub const PAGE_BYTES: usize = 64 * 1024;

/// Connections waiting to be accepted; beyond it a client's SYN is lost, which costs it a second.
pub const HTTP_BACKLOG: i32 = 4096;

/// How long the listener rests after accept failed for want of descriptors or memory.
pub const HTTP_ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Bytes of one /proc or cgroup file. The largest that is read whole, /proc/stat, reaches 1 MiB on thousands of interrupts.
pub const KERNEL_FILE_BYTES: usize = 4 << 20;

/// Files kept open for quick reading: enough for 1,000 containers, where `--memory-limit` has room for them.
pub const KEPT_FILES: u64 = 8_192;

/// Cgroups known at once, all hierarchies together; 64 bytes and the path each.
pub const CGROUPS: usize = 65_536;

/// Containers known at once. The kubelet's default is 110 pods; the largest nodes seen run some 2,000 containers.
pub const CONTAINERS: usize = 16_384;

/// Depth of cgroup directories walked; systemd under Kubernetes under systemd is eight.
pub const CGROUP_DEPTH: usize = 24;

/// Inotify watches on cgroup directories, where BPF cannot tell about new ones.
pub const CGROUP_WATCHES: usize = 16_384;

/// Records taken from the kernel's cgroup ring in one turn.
pub const CGROUP_EVENTS_PER_TURN: usize = 4_096;

/// Reads of a container's metadata, ever further apart, before its provisional name stays for good: a quarter of an hour.
pub const METADATA_TRIES: u32 = 40;

/// Containers whose metadata is read again in one turn: where a runtime is unknown, each costs some 50 us.
pub const METADATA_READS_PER_TURN: usize = 128;

/// How long the files of containers may be read in one turn by one collector: with thousands of containers a pass over them
/// takes many turns, and scrapes come in between.
pub const SWEEP_SLICE: Duration = Duration::from_millis(10);

/// Patterns of `--container-allowlist`, and of `--container-denylist`: each is tried on every new name.
pub const CONTAINER_PATTERNS: usize = 64;

/// Rules of `--container-rules`: each is tried on every new cgroup.
pub const CONTAINER_RULES: usize = 64;

/// Labels of one such rule.
pub const CONTAINER_RULE_LABELS: usize = 16;

/// Labels of containers that `--container-label` lets through: a name of Kubernetes and its kin use some six.
pub const CONTAINER_LABELS: usize = 32;

/// Drop-ins of one unit that are read; a few is usual.
pub const UNIT_DROPINS: usize = 64;

/// Published TCP ports of one container; a web server has four, and those who publish a range of thousands know where it is.
pub const PUBLISHED_PORTS: usize = 256;

/// Reads of a docker container's metadata for its published ports, once its name is known and ever further apart: half a
/// minute. Docker starts a container within seconds, or not at all.
pub const PORT_READS: u32 = 5;

/// How often limits (`cpu.max`, `memory.max`) are read again; they change when an operator changes them.
pub const LIMITS_INTERVAL: Duration = Duration::from_secs(60);

/// How old the host's name may be: DHCP or an operator may set it at any time, mostly soon after the start.
pub const HOSTNAME_AGE: Duration = Duration::from_secs(60);

/// When a new container's directories are looked for the second time: runtimes make them one after the other.
pub const SECOND_LOOK: Duration = Duration::from_secs(2);

/// How often file systems of containers are measured. `statfs` needs a child process (`DESIGN.md`).
pub const FILESYSTEMS_INTERVAL: Duration = Duration::from_secs(60);

/// Containers whose file systems are measured by one child.
pub const FILESYSTEM_JOBS: usize = 1_024;

/// How long the child that calls `statfs` may say nothing before it is killed and its results so far are used.
pub const FILESYSTEMS_TIME: Duration = Duration::from_secs(5);

/// Children that were killed and hang in the kernel all the same, of one kind: with so many, nobody is asked until one of
/// them ends. They cannot be ended from here, and each is a process more.
pub const HUNG_CHILDREN: usize = 8;

/// Mounts of one container that are exported.
pub const MOUNTS_PER_CONTAINER: usize = 32;

/// Disk devices one container has I/O counters for.
pub const DEVICES_PER_CONTAINER: usize = 64;

/// Destinations in the TCP map, all containers together; 150 bytes of kernel memory each, allocated at start.
pub const TCP_DESTINATIONS: u32 = 8_192;

/// Destinations of one container before new ones count into `~other`.
pub const TCP_DESTINATIONS_PER_CONTAINER: u32 = 128;

/// Destinations one identity is remembered for, all its instances together: restarts must not add up for ever.
pub const TCP_DESTINATIONS_PER_IDENTITY: usize = 1_024;

/// Who answers for one destination behind address translation, before further ones are one: services with more backends are
/// rare, and each is a series.
pub const TCP_ACTUAL_DESTINATIONS: usize = 64;

/// How long nothing must have been tried for a destination's series to end, as in coroot-node-agent.
pub const TCP_DESTINATION_IDLE: Duration = Duration::from_secs(600);

/// How long tasks that are in no container must have made no connection before the TCP map forgets them.
pub const TCP_STRANGER_IDLE: Duration = Duration::from_secs(600);

/// Networks of `--track-public-network`: the kernel's side looks through all of them at each new destination.
pub const PUBLIC_NETWORKS: usize = 16;

/// Cgroups that have made a connection, in the TCP map.
pub const TCP_OWNERS: u32 = 2_048;

/// Records of connections taken in one turn, and waiting to be asked about.
pub const TCP_TOLD_PER_TURN: usize = 4_096;

/// Questions to conntrack in a second. A connection whose peer was not asked for has none; at 5 us each this is 2 % of a
/// processor.
pub const TCP_LOOKUPS_PER_SECOND: u64 = 4_096;

/// Living connections through address translation whose peer is remembered; 100 bytes each.
pub const TCP_FOLLOWED: usize = 16_384;

/// How long it may take until a destination that was not translated is found to be so.
pub const TCP_TRANSLATION_AGE: Duration = Duration::from_secs(300);

/// Between two looks at the kernel's ring while destinations are translated: conntrack forgets a reset connection after ten
/// seconds.
pub const TCP_TOLD_AGE: Duration = Duration::from_secs(5);

/// Ports that are listened on when the agent starts.
pub const TCP_LISTENERS: u32 = 8_192;

/// Series of `container_net_tcp_listen_info` of one container. kube-proxy used to listen on every port of every service.
pub const TCP_LISTENS_PER_CONTAINER: usize = 128;

/// How long the end of a listener is told, as in coroot-node-agent.
pub const TCP_LISTEN_CLOSED: Duration = Duration::from_secs(600);

/// How old the list of listeners may be when none is known to have come or gone: their sockets may have been handed on.
pub const TCP_LISTENERS_AGE: Duration = Duration::from_secs(60);

/// Open files of containers looked at for listeners where no BPF program can: 2 us each.
pub const FILES_LOOKED_AT: usize = 50_000;

/// The list of listeners is made anew at most once in this many times what it costs: every open file is looked at.
pub const TCP_LISTENERS_PATIENCE: u32 = 100;

/// Addresses of containers asked for an echo in one sweep, the same address of two containers counted twice. When there are
/// more, the next sweep goes on where this one ends.
pub const PING_TARGETS: usize = 4_096;

/// Echo requests in a second, all containers together: [`PING_TARGETS`] take as long as the default interval, and at 15 to
/// 40 us each that is a percent of a processor.
pub const PINGS_PER_SECOND: u64 = 256;

/// Network namespaces with open sockets for echoes at once: they cannot end as long as these are open.
pub const PING_NAMESPACES: usize = 64;

/// Containers whose network namespace is looked up in one turn: 20 us each.
pub const PING_PLACES_PER_TURN: usize = 64;

/// Echo replies read from one socket in one turn.
pub const PING_REPLIES_PER_TURN: usize = 256;

/// Between two turns that send or give up: a sweep of thousands of echoes wakes the loop ten times a second.
pub const PING_SLICE: Duration = Duration::from_millis(100);

/// How long an echo may take. Once round the earth through a satellite takes less.
pub const PING_TIME: Duration = Duration::from_secs(1);

/// How old an answer may be and still count, as for TCP's own round trips.
pub const PING_AGE: Duration = Duration::from_secs(60);

/// Different messages whose repeats are collapsed on stderr.
pub const STDERR_MESSAGES: usize = 64;

/// Network interfaces of the node exported; and different names of interfaces of containers.
pub const INTERFACES: usize = 256;

/// Addresses of one interface of the node exported. A node can have a whole network on one, each address a series; all its
/// interfaces together have [`NAMESPACE_ADDRESSES`].
pub const ADDRESSES_PER_INTERFACE: usize = 256;

/// How long a network namespace without a container is remembered.
pub const NAMESPACE_TIME: Duration = Duration::from_secs(600);

/// Network namespaces remembered, some 200 bytes each: more than 1,600 new ones a minute are more than anyone starts.
pub const NAMESPACES: usize = 16_384;

/// Interfaces of one container exported. Pods have one, with Multus a few more.
pub const INTERFACES_PER_CONTAINER: usize = 16;

/// A scrape refreshes a source whose age exceeds this many times what its last refresh cost, so that a flood of scrapes
/// spends at most a tenth of the time on any source that takes less than a tenth of a second, and a person who scrapes twice
/// sees the second state.
pub const REFRESH_AGE_PER_COST: u32 = 10;

/// Whatever a refresh costs, a source older than this is refreshed before a scrape.
pub const REFRESH_AGE: Duration = Duration::from_secs(1);

/// CPU time of the refreshes that a scrape waits for, all together. One that would take longer, as by what it took the last time,
/// and longer than [`REFRESH_DEFERRED`], comes behind the answer: with thousands of containers, 50,000 processes or 100,000 open
/// files.
pub const REFRESH_IN_SCRAPE: Duration = Duration::from_millis(40);

/// See [`REFRESH_IN_SCRAPE`].
pub const REFRESH_DEFERRED: Duration = Duration::from_millis(5);

/// Bytes of a BPF object; with full debug information some reach 1 MB.
pub const OBJECT_BYTES: usize = 32 << 20;

/// Configs found in a directory.
pub const CONFIGS: usize = 1_024;

/// Pages per processor of a perf event array's rings: 64 KiB each, room for some thousand events between two turns.
pub const PERF_BUFFER_PAGES: usize = 16;

/// Programs of one object that may turn out not to load before the whole object is given up: each costs another try.
pub const PROGRAMS_LEFT_OUT: usize = 32;

/// Bytes of one `NAME.yaml`: the largest published one has 20 KiB. Reading takes up to 250 times as much memory.
pub const CONFIG_BYTES: usize = 256 * 1024;

/// What one `NAME.yaml` may hold once its aliases are replaced by what they stand for, so that nine lines of aliases to
/// aliases do not fill memory: a value counts one, and one more for every 16 bytes of text.
pub const CONFIG_VALUES: usize = 100_000;

/// Findings told of one `NAME.yaml`: nobody reads more, and a file can be made of nothing but mistakes.
pub const CONFIG_FINDINGS: usize = 100;

/// Bytes of a BPF map's key, padding included. The kernel allows more; no label needs them.
pub const MAP_KEY_BYTES: i64 = 4096;

/// Buckets of one histogram; an `exp2` one has at most 65.
pub const BUCKETS: usize = 1024;

/// Bytes of what one costly decoder of one label remembers, inputs and answers: 5,000 stacks of 20 frames, or 30,000 commands
/// that go through `regexp`.
pub const DECODED_BYTES: usize = 4 << 20;

/// Answers about PCI ids that are remembered; a machine has some dozens of devices.
pub const PCI_ANSWERS: usize = 1_024;

/// Bytes of pci.ids that are looked at; in 2025 it has 1.5 MB.
pub const PCI_IDS_BYTES: u64 = 8 << 20;

/// Symbols of the kernel that are known; with all debugging options and modules it has some 300,000.
pub const KERNEL_SYMBOLS: usize = 1 << 20;

/// How often what was not found in /proc/kallsyms may make it be read again: that takes 50 ms or more.
pub const KERNEL_SYMBOLS_INTERVAL: Duration = Duration::from_secs(60);

/// How long the name of an interface may be old, and names of one refresh remembered.
pub const INTERFACE_NAMES_AGE: Duration = Duration::from_secs(1);

/// How long the table of block devices may be old.
pub const PARTITIONS_AGE: Duration = Duration::from_secs(10);

/// Network namespaces known at once; some 200 bytes and the addresses each. One for each pod, and room for a node that makes
/// many short-lived ones: the one not asked about for longest makes way.
pub const NETWORK_NAMESPACES: usize = 4_096;

/// Addresses kept of one network namespace; nodes that answer for many addresses have some hundreds.
pub const NAMESPACE_ADDRESSES: usize = 1_024;

/// How old the addresses of a network namespace may be: they change when a container is connected to a network, or an operator
/// changes them.
pub const NAMESPACE_ADDRESSES_AGE: Duration = Duration::from_secs(10);

/// Questions to connection tracking sent at once. Each answer takes some 5 KiB of the socket's receive buffer, which by default
/// has 208 KiB.
pub const CONNTRACK_BATCH: usize = 32;

/// How often it is looked whether the kernel can do NAT at all.
pub const CONNTRACK_STATE_AGE: Duration = Duration::from_secs(60);

/// Interfaces, addresses or sockets looked at in one network namespace, the host's too; sockets take 112 bytes each for the time
/// they are looked at. Whoever has rights over a container's network can make millions.
pub const NAMESPACE_ENTRIES: usize = 65_536;

/// How long a cloud's metadata service may take for one answer, the connection included: it is in the hypervisor, a millisecond
/// away.
pub const CLOUD_REQUEST_TIME: Duration = Duration::from_secs(1);

/// How long it may take for all answers of an inquiry.
pub const CLOUD_INQUIRY_TIME: Duration = Duration::from_secs(3);

/// Bytes of the body of one of its answers; the largest ones have keys and tags of the user in them.
pub const CLOUD_BODY_BYTES: usize = 64 * 1024;

/// Bytes of a single value in an answer; the longest ids have about 100.
pub const CLOUD_VALUE_BYTES: usize = 256;

/// How often a cloud instance is asked what it is: addresses change while it runs.
pub const CLOUD_AGE: Duration = Duration::from_secs(3600);

/// The pause after the first inquiry that failed; each one that follows doubles it.
pub const CLOUD_PAUSE: Duration = Duration::from_secs(2);

/// The longest such pause.
pub const CLOUD_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How long it is believed that there is no notice, when the service stops answering.
pub const CLOUD_NOTICE_AGE: Duration = Duration::from_secs(60);

/// Receive buffer for records of exits, which the kernel doubles: some 4,000 records, a tenth of a second of the wildest storm
/// of exits a machine with some dozens of processors makes. It is memory only while records wait.
pub const TASKSTATS_BUFFER: u32 = 4 << 20;

/// Records of exits read in one turn, some 2 us each.
pub const EXITS_PER_TURN: usize = 2_048;

/// How long records of exits gather once some were read: processes that end thousands of times a second wake the loop twenty
/// times.
pub const EXITS_PAUSE: Duration = Duration::from_millis(50);

/// How long the record of an exit waits to hear of its process's cgroups, and they for it: the kernel says both within
/// microseconds, but news of a container that was just made may take a turn.
pub const EXIT_PATIENCE: Duration = Duration::from_millis(250);

/// Exits of which only one half is known, and of either half: as many as fit into the kernel's buffers at once.
pub const EXITS_WAITING: usize = 16_384;

/// Processes asked about in one turn, some 4 us each.
pub const DELAY_QUERIES_PER_TURN: usize = 1_024;

/// Questions about processes sent at once. Each answer takes up to 2 KiB of the socket's receive buffer, which by default has
/// 208 KiB.
pub const DELAY_QUERY_BATCH: usize = 32;

/// Between two rounds over all processes after records of exits were lost: in a storm that does not end they are lost again and
/// again.
pub const DELAY_RESYNC_INTERVAL: Duration = Duration::from_secs(5);

/// How long a key in the kernel must have belonged to no container before it makes room for others: longer than a container can
/// go unknown.
pub const STRANGER_TIME: Duration = Duration::from_secs(120);

/// Sets of cgroups whose processes are counted; 100 bytes of kernel memory each.
pub const PROCESS_OWNERS: u32 = 4_096;

/// Cgroups whose first processes are counted, those above containers and in each hierarchy included; 100 bytes each.
pub const PROCESS_CGROUPS: u32 = 8_192;

/// Processes that have ended and that the kernel has not let go of, whose end is counted already; 80 bytes each. Without room
/// they are counted when it lets go of them.
pub const ENDED_PROCESSES: u32 = 16_384;

/// How long such a process is remembered that is no longer there: the kernel lets go of most within milliseconds, but not all
/// kernels tell of each.
pub const ENDED_TIME: Duration = Duration::from_secs(120);

/// Sets of cgroups in which processes were killed for want of memory.
pub const OOM_OWNERS: u32 = 1_024;

/// How often the kernel's own count of such kills is read where nothing says that it has changed.
pub const OOM_INTERVAL: Duration = Duration::from_secs(60);

/// Processes of containers that are known: some 40 bytes each for what they are, 150 for what they waited. A node that runs more
/// is out of process ids unless somebody raised kernel.pid_max.
pub const PROCESSES: usize = 65_536;

/// Receive buffer for events of processes where no BPF program counts them; the kernel doubles it: some 7,000 events, those of
/// 2,300 processes. It is memory only while events wait.
pub const PROCESS_EVENTS_BUFFER: u32 = 4 << 20;

/// Such events read in one turn.
pub const PROCESS_EVENTS_PER_TURN: usize = 4_096;

/// Processes looked up in /proc in one turn because of them: each takes up to three small files.
pub const PROCESS_LOOKS_PER_TURN: usize = 512;

/// How long such events gather once some were read: long enough that a storm of them does not wake the loop for each, short
/// enough that a process that was moved into its container and executed a program is found there.
pub const PROCESS_EVENTS_PAUSE: Duration = Duration::from_millis(2);

/// How often the lists of containers' processes are compared with what the events said: processes can be moved without one.
pub const PROCESS_LISTS_INTERVAL: Duration = Duration::from_secs(60);

/// Between two such comparisons after events were lost: in a storm that does not end they are lost again and again.
pub const PROCESS_RESYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Processes whose command line is read in one child process: 10 us each.
pub const COMMANDS_PER_CHILD: usize = 2_048;

/// How long that child may say nothing before it is killed; the process it hung on is not asked again.
pub const COMMANDS_TIME: Duration = Duration::from_secs(2);

/// How old a process must be before its command line is read: most do not live that long, and the others have become what they
/// are going to be.
pub const COMMAND_AGE: Duration = Duration::from_secs(1);

/// Bytes of a command line that are looked at; with long class paths some reach 10 KiB.
pub const COMMAND_BYTES: usize = 64 * 1024;

/// How long after the end of a container its last counts are awaited: an end that was missed is counted when the kernel lets
/// go of the process, on kernels that save power up to ten seconds later. Less than a cgroup that is gone can be asked for.
pub const LAST_COUNTS_TIME: Duration = Duration::from_secs(20);

/// Log files of containers that are followed; 500 bytes each.
pub const LOG_FILES: usize = 4_096;

/// Of one container.
pub const LOG_FILES_PER_CONTAINER: usize = 32;

/// Memory of all patterns together. What a container takes is some 10 KiB, at its caps 2 MiB: beyond this no more are learned.
pub const LOG_PATTERN_BYTES: usize = 32 << 20;

/// The longest pause between two looks for processes in a container that has none.
pub const DESERTED_PAUSE: Duration = Duration::from_secs(60);

/// Within which all containers are looked into for logs they write themselves; those just made come first.
pub const LOG_LOOK_TIME: Duration = Duration::from_secs(60);

/// Containers looked into for such logs in one refresh, if there are more than find their turn in that time.
pub const LOG_LOOKS_AT_LEAST: usize = 16;

/// Processes and open files looked at in one refresh for logs that containers write themselves; some 2 us each.
pub const LOG_FILES_LOOKED_AT: usize = 2_048;

/// Of one container.
pub const LOG_PROCESSES_LOOKED_AT: usize = 256;

/// How long nobody must have been seen with a file open before it is let go.
pub const LOG_FILE_IDLE_TIME: Duration = Duration::from_secs(1_800);

/// Sources of one container; what others say counts for one more, `~other`.
pub const LOG_SOURCES: usize = 64;

/// Entries of journals read in one turn, some 1 us each.
pub const JOURNAL_ENTRIES_PER_TURN: u64 = 4_096;

/// Bytes of journals read in one turn.
pub const JOURNAL_BYTES_PER_TURN: u64 = 2 << 20;

/// Between two writings of positions and patterns to `--state-dir`: what a crash has read again at most.
pub const LOG_SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long patterns of an earlier life wait for their container.
pub const LOG_SAVED_TIME: Duration = Duration::from_secs(600);

/// How often the service manager is told how many collectors work, if that has changed.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(30);

/// When it is told again what it could not be told: it has no time to read, or descriptors have run out.
pub const STATUS_RETRY: Duration = Duration::from_secs(1);
