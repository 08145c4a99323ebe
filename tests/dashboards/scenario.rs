//! A host on which everything happens that dashboards show: load, limits, kills, restarts, connections that are translated,
//! fail and lose packets, errors in logs, disks at work.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::programs;
use crate::support::cgroup::Cgroup;
use crate::support::netns::Netns;
use crate::support::puppet::Puppet;
use crate::support::{Agent, Metrics, TempDir};

/// Repeats work in a thread of a puppet until it is killed.
const FOREVER: &str = "
import os, subprocess
def forever(seconds, work):
    def run():
        while True:
            try: work()
            except Exception: pass
            time.sleep(seconds)
    threading.Thread(target=run, daemon=True).start()
";

/// Connections that come and go, and one that stays; connects that are refused, through an address that stands for others and
/// directly.
const CLIENT: &str = "
def ask(client):
    client.sendall(bytes(20_000))
    exactly(client, 500)
def talk():
    client = connect('10.96.0.11', 80)
    ask(client)
    client.close()
long = connect('10.96.0.11', 80)
forever(0.2, talk)
forever(0.2, lambda: ask(long))
forever(0.2, lambda: connect('10.96.0.12', 80))
forever(0.2, lambda: connect('10.82.2.12', 8080).close())
";

const SERVER: &str = "
def answer(client):
    try:
        while True:
            exactly(client, 20_000)
            client.sendall(bytes(500))
    except AssertionError: client.close()
done = serve(listen('10.82.2.11', 8080), answer)
others = hold(listen('10.82.2.12', 8080))
def forget():
    while others: others.pop().close()
forever(1, forget)
";

/// Python that takes memory until the kernel kills it; the puppet itself lives on.
const GREED: &str = "
def greed():
    child = os.fork()
    if not child:
        open('/proc/self/oom_score_adj', 'w').write('1000')
        kept = []
        while True: kept.append(bytearray(1 << 20))
    os.waitpid(child, 0)
forever(0.5, greed)
";

/// Twice as much work as the processors' quota, in two threads of their own processes.
const WORK: &str = "
for n in range(2):
    if not os.fork():
        while True: pass
";

/// Messages of three levels, and some that differ in numbers only.
const LOGGER: &str = "
log = open(PATH, 'a', buffering=1)
count = 0
def write():
    global count
    count += 1
    log.write(f'INFO request {count} took {count % 7} ms\\n')
    log.write(f'ERROR cannot reach database, attempt {count}\\n')
    if count % 3 == 0: log.write('WARN cache is cold\\n')
forever(0.1, write)
";

/// Reads and writes past the page cache.
const DISK: &str = "
import mmap
page = mmap.mmap(-1, 1 << 16)
file = os.open(PATH, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
def turn():
    os.pwrite(file, page, 0)
    os.preadv(file, [page], 0)
forever(0.05, turn)
";

/// What may be asked for but is not there.
pub enum Expect {
    /// It is there all the same.
    Answers,
    /// It cannot be.
    Nothing,
    /// The kernel decides from moment to moment.
    Either,
}

/// A family of which this host has nothing.
pub struct Exception {
    /// What their names begin with.
    pub family: &'static str,
    pub reason: &'static str,
    pub expect: fn(&Scenario) -> Expect,
}

fn answers_if(there: bool) -> Expect {
    if there { Expect::Answers } else { Expect::Nothing }
}

fn is_one(file: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

/// Memory delays are exported once there are any.
fn memory_delays(_: &Scenario) -> Expect {
    if is_one("/proc/sys/kernel/task_delayacct") { Expect::Either } else { Expect::Nothing }
}

/// All that some query asks for and this scenario does not have, with why. A query that answers all the same fails the test.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        family: "node_cloud_interruption_notice",
        reason: "no test asks a cloud",
        expect: |_| Expect::Nothing,
    },
    Exception {
        family: "node_net_interface_ip",
        reason: "a test that may enter the network namespace of process 1",
        expect: |_| answers_if(fs::read_link("/proc/1/ns/net").is_ok()),
    },
    Exception {
        family: "node_resources_irq_pressure",
        reason: "a kernel with CONFIG_IRQ_TIME_ACCOUNTING, from 6.1",
        expect: |_| answers_if(Path::new("/proc/pressure/irq").exists()),
    },
    Exception {
        family: "node_resources_cpu_pressure",
        reason: "a kernel that accounts for pressure",
        expect: |_| answers_if(fs::read("/proc/pressure/cpu").is_ok()),
    },
    Exception {
        family: "node_resources_memory_pressure",
        reason: "as for processors",
        expect: |_| answers_if(fs::read("/proc/pressure/memory").is_ok()),
    },
    Exception {
        family: "node_resources_io_pressure",
        reason: "as for processors",
        expect: |_| answers_if(fs::read("/proc/pressure/io").is_ok()),
    },
    Exception {
        family: "container_resources_cpu_pressure",
        reason: "cgroup v2 with pressure",
        expect: |scenario| answers_if(scenario.has("cpu.pressure")),
    },
    Exception {
        family: "container_resources_memory_pressure",
        reason: "cgroup v2 with pressure",
        expect: |scenario| answers_if(scenario.has("memory.pressure")),
    },
    Exception {
        family: "container_resources_io_pressure",
        reason: "cgroup v2 with pressure",
        expect: |scenario| answers_if(scenario.has("io.pressure")),
    },
    Exception {
        family: "container_resources_disk_delay",
        reason: "kernel.task_delayacct=1",
        expect: |_| answers_if(is_one("/proc/sys/kernel/task_delayacct")),
    },
    Exception {
        family: "container_resources_swapin_delay",
        reason: "kernel.task_delayacct=1, and swap",
        expect: memory_delays,
    },
    Exception {
        family: "container_resources_reclaim_delay",
        reason: "kernel.task_delayacct=1",
        expect: memory_delays,
    },
    Exception {
        family: "container_resources_thrashing_delay",
        reason: "kernel.task_delayacct=1",
        expect: memory_delays,
    },
    Exception {
        family: "container_resources_compact_delay",
        reason: "kernel.task_delayacct=1",
        expect: memory_delays,
    },
    Exception {
        family: "container_resources_wpcopy_delay",
        reason: "kernel.task_delayacct=1",
        expect: memory_delays,
    },
    Exception {
        family: "ebpf_exporter_ebpf_program_run_",
        reason: "kernel.bpf_stats_enabled=1",
        expect: |_| answers_if(is_one("/proc/sys/kernel/bpf_stats_enabled")),
    },
    Exception {
        family: "nodeprobe_perf_events_lost_total",
        reason: "a config with perf events; none comes along",
        expect: |_| Expect::Nothing,
    },
    Exception {
        family: "nodeprobe_series_dropped_total",
        reason: "a metric at --series-limit",
        expect: |_| Expect::Nothing,
    },
];

/// All of it; ends when dropped.
pub struct Scenario {
    pub agent: Agent,
    is_over: Arc<AtomicBool>,
    restarter: Option<JoinHandle<()>>,
    puppets: Vec<Puppet>,
    cgroups: Vec<Cgroup>,
    _namespaces: [Netns; 2],
    _directory: TempDir,
}

/// Writes a limit into the file of v1 or v2, whichever there is; parents hand controllers of v2 down.
#[track_caller]
fn limit(cgroup: &Cgroup, files: &[(&str, &str)]) {
    cgroup.hand_down();
    let is_set = |(file, value): &(&str, &str)| {
        cgroup.directories.iter().any(|directory| {
            let path = directory.join(file);
            path.exists() && fs::write(path, value).is_ok()
        })
    };
    assert!(files.iter().any(is_set), "none of {files:?} in {}", cgroup.path);
}

/// Since Linux 6.10 a v1 cgroup counts its I/O only once it has a limit; this one is never reached.
fn count_disks(cgroup: &Cgroup, file: &Path) {
    let Some(device) = file.parent().and_then(|directory| fs::metadata(directory).ok()) else { return };
    let device = device.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    for directory in &cgroup.directories {
        let limit = directory.join("blkio.throttle.write_bps_device");
        if limit.exists() {
            let _ = fs::write(limit, format!("{major}:{minor} 107374182400"));
        }
    }
}

impl Scenario {
    /// Sets all in motion.
    #[track_caller]
    pub fn start() -> Scenario {
        let directory = TempDir::new("dashboards");
        let log = directory.path().join("app.log");
        let rules =
            directory.write("rules.yaml", "rules:\n  - {match: '^/docker/', labels: {team: tests}}\n");
        let agent = Agent::start(&[
            "--collector.cloud=off",
            &format!("--programs={}", programs::SHOWN),
            &format!("--log-file={}", log.display()),
            &format!("--container-rules={}", rules.display()),
            "--container-label=team",
        ]);
        let (client, servers) = (Netns::new("client"), Netns::new("servers"));
        client.cable("eth0", &["10.82.1.1/24"], &servers, "eth0", &["10.82.1.2/24"]);
        client.ip("route add default via 10.82.1.2");
        for address in ["10.82.2.11", "10.82.2.12"] {
            servers.ip(&format!("addr add {address}/32 dev lo"));
        }
        client.nft("add table ip t; add chain ip t n { type nat hook output priority -100; }");
        client.nft("add rule ip t n ip daddr 10.96.0.11 tcp dport 80 dnat to 10.82.2.11:8080");
        client.nft("add rule ip t n ip daddr 10.96.0.12 tcp dport 80 dnat to 10.82.2.11:1");
        // Every fifth packet with something in it is lost.
        servers.nft("add table ip t; add chain ip t i { type filter hook input priority 0; }");
        servers.nft("add rule ip t i tcp dport 8080 meta length > 200 numgen inc mod 5 == 0 drop");

        let mut scenario = Scenario {
            agent,
            is_over: Arc::default(),
            restarter: None,
            puppets: Vec::new(),
            cgroups: Vec::new(),
            _namespaces: [client, servers],
            _directory: directory,
        };
        scenario.puppet(&[], Some(1), SERVER);
        scenario.puppet(&[], Some(0), CLIENT);
        scenario.puppet(&[&[("memory.limit_in_bytes", "33554432"), ("memory.max", "33554432")]], None, GREED);
        scenario.puppet(
            &[&[("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 100000")], &[("pids.max", "100")]],
            None,
            WORK,
        );
        scenario.puppet(&[], None, &format!("PATH = {log:?}\n{LOGGER}"));
        // Not on a file system in memory, which the directory for temporary files may be.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards-disk");
        let cgroup = scenario.puppet(&[], None, &format!("PATH = {file:?}\n{DISK}"));
        count_disks(&scenario.cgroups[cgroup], &file);

        // Ends and begins anew; for a while it is nginx by name.
        let cgroup = Cgroup::docker(None);
        let is_over = Arc::clone(&scenario.is_over);
        scenario.restarter = Some(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                cgroup.run("exec -a nginx sleep 0.7");
                std::thread::sleep(Duration::from_millis(300));
            }
        }));
        scenario
    }

    /// A puppet with work in a container of its own, with limits; its number among the containers.
    #[track_caller]
    fn puppet(&mut self, limits: &[&[(&str, &str)]], netns: Option<usize>, work: &str) -> usize {
        let cgroup = Cgroup::docker(None);
        for files in limits {
            limit(&cgroup, files);
        }
        let mut puppet = Puppet::start(Some(&cgroup), netns.map(|at| &self._namespaces[at]));
        puppet.run(FOREVER);
        puppet.run(work);
        self.puppets.push(puppet);
        self.cgroups.push(cgroup);
        self.cgroups.len() - 1
    }

    /// True when cgroups here have such a file that can be read.
    pub fn has(&self, file: &str) -> bool {
        self.cgroups[0].directories.iter().any(|directory| fs::read(directory.join(file)).is_ok())
    }

    /// Names of programs that this kernel does not let count.
    pub fn refused(metrics: &Metrics) -> Vec<String> {
        let problems = metrics.series("nodeprobe_config_problems");
        problems
            .iter()
            .filter(|series| series.value > 0.0)
            .map(|series| series.label("config").to_owned())
            .collect()
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.puppets.clear();
        let _ = self.restarter.take().map(JoinHandle::join);
        let _ = fs::remove_file(Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboards-disk"));
    }
}
