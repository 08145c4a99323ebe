//! The programs that come with nodeprobe, all at once on this kernel: which attach, and whether what they count is true.
//! Needs root.
//!
//! Figures are exact where a load can be told from everybody else's by a cgroup, a port or a name of its own. Others are held
//! between two readings of what the kernel itself counts: no less than between the inner two, no more than between the outer.

#[path = "support/loads.rs"]
mod loads;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::RawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use loads::{
    Cgroup, Loop, PYTHON, Steps, TOTAL_RETRANS, UNACKED, between, kernel_softirqs, port, python, set,
    succeed, tcp_info, unified,
};
use support::{ANSWER, Agent, Metrics, Series, TempDir, run, until};

/// What ebpf_exporter's examples make of these is spans.
const SPANS: [&str; 5] = ["bio-trace", "cfs-throttling-trace", "exec-trace", "sched-trace", "sock-trace"];

/// A metric, some of its labels, and the sum of what has these.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// What looks at programs, and which these are.
type Check = (&'static [&'static str], fn(&Own));

/// One agent with all programs.
struct Own {
    agent: Agent,
    /// `NAME: attached` or why not.
    verdicts: BTreeMap<String, Result<(), String>>,
    /// Made before the agent started; its name matches the pattern of `cgroup_id_map`.
    before: Cgroup,
}

#[test]
fn all_programs_attach_or_say_why_not_and_count_the_truth() {
    // SAFETY: geteuid cannot fail.
    assert_eq!(unsafe { libc::geteuid() }, 0, "run this as root (make test does)");
    let before = Cgroup::new("before.service");
    let verdicts = verdicts();
    let names: Vec<&str> = verdicts.keys().map(String::as_str).collect();
    let agent = Agent::start(&[&format!("--programs={}", names.join(",")), "--collector.tcp=off"]);
    let own = Own { agent, verdicts, before };
    own.attached_as_expected();

    let checks: &[Check] = &[
        (&["exec"], exec),
        (&["syscalls"], syscalls),
        (&["syscalls-by-cgroup"], syscalls_by_cgroup),
        (&["page-faults"], page_faults),
        (&["percpu-softirq", "softirq-latency", "softirq-latency-net-rx"], softirqs),
        (&["timers", "raw-tracepoints"], timers),
        (&["biolatency", "fixed-histogram"], disk),
        (&["xdp"], xdp),
        (&["udp-drops"], udp_drops),
        (&["kfree_skb"], packet_drops),
        (&["dname"], dns_questions),
        (&["tcp-syn-backlog", "tcp-syn-backlog-exp2zero"], backlog),
        (&["accept-latency"], accept_latency),
        (&["unix-socket-backlog", "unix-accept-latency"], unix_sockets),
        (&["tcp-retransmit"], retransmits),
        (&["oomkill"], oom_kills),
        (&["regexp"], forks),
        (&["cgroup", "cgroup_id_map"], migrations),
        (&["cgroup-rstat-flushing"], statistics_locks),
        (&["disk-latency-by-container"], container_disk),
        (&["runqlat"], run_queue),
        (&["shrinklat"], reclaim),
        (&["kstack"], page_cache),
        (&["uprobe"], lookups),
        (&["usdt"], imports),
    ];
    let mut wrong = Vec::new();
    for (names, check) in checks {
        let missing = names.iter().find_map(|&name| Some((name, own.verdicts[name].as_ref().err()?)));
        if let Some((name, reason)) = missing {
            support::skip(&format!("{}: {name} is absent: {reason}", names.join(", ")));
            continue;
        }
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| check(&own)));
        let word = if done.is_ok() { "counted the truth" } else { "WRONG" };
        println!("{}: {word} ({:.1} s)", names.join(", "), began.elapsed().as_secs_f64());
        if done.is_err() {
            wrong.push(names.join(", "));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}, see above; the agent said {:#?}", own.agent.stderr());
}

/// Whether each program must attach, by what this kernel has.
fn verdicts() -> BTreeMap<String, Result<(), String>> {
    let report = run(&["doctor", "--json"], ANSWER);
    let report = String::from_utf8(report.stdout).unwrap();
    let is_open = |door: &str| report.contains(&format!("{{\"name\":\"{door}\",\"state\":\"ok\""));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let has_symbol =
        |name: &str| symbols.contains(&format!(" {name}\n")) || symbols.contains(&format!(" {name}\t"));
    let lacks = |door: &str| {
        let check = match door {
            "raw_tp" => "raw_tracepoint",
            "usdt" => "uprobe",
            // What it takes besides is in the last column.
            "xdp" => "tp_btf",
            other => other,
        };
        (!is_open(check)).then(|| format!("no {door} on this kernel"))
    };
    let unmet = |need: &str| {
        let is_met = match need.split_once([':', '-']).unwrap_or((need, "")) {
            ("", "") => true,
            ("until", last) => version(&release) <= version(last),
            ("module", name) => {
                fs::read_to_string("/proc/filesystems").unwrap().contains(&format!("\t{name}\n"))
            }
            ("kallsyms_all", _) => has_symbol("bpf_jit_current"),
            ("cfs_bandwidth", _) => has_symbol("throttle_cfs_rq"),
            ("x86", _) => cfg!(target_arch = "x86_64"),
            ("pmu", _) => has_cache_events(),
            ("cap_net_admin", _) => has_capability(12),
            ("libc.so.6", _) => library("libc.so.6").is_some(),
            ("python3", _) => python_has_probes(),
            _ => panic!("tests do not know what {need} is"),
        };
        (!is_met).then(|| format!("needs {need}"))
    };
    let table = include_str!("fixtures/programs.txt");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let [name, doors, first, need] = row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not four columns: {row}");
        };
        let old = (version(&release) < version(first)).then(|| format!("needs Linux {first}"));
        let reason = old.or_else(|| doors.split(',').find_map(lacks)).or_else(|| unmet(need));
        (name.to_owned(), reason.map_or(Ok(()), Err))
    })
    .collect()
}

/// `6.18.44-x` as (6, 18).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() >> number & 1 == 1
}

/// Whether hardware counts what `llcstat` wants: many virtual machines have none.
fn has_cache_events() -> bool {
    // struct perf_event_attr: type 0 (hardware), size, config.
    [2u64, 3].iter().all(|&config| {
        let mut attributes = [0u8; 128];
        attributes[4..8].copy_from_slice(&128u32.to_ne_bytes());
        attributes[8..16].copy_from_slice(&config.to_ne_bytes());
        // SAFETY: the attributes say their own size, and are not kept.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), -1, 0, -1, 0) };
        if fd >= 0 {
            // SAFETY: a descriptor that nobody else has.
            unsafe { libc::close(fd as RawFd) };
        }
        fd >= 0
    })
}

fn library(name: &str) -> Option<PathBuf> {
    let directories = [
        "/usr/lib64",
        "/usr/lib",
        "/lib64",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
    ];
    directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
}

fn python_has_probes() -> bool {
    let word = b"import__find__load__start";
    fs::read(PYTHON).is_ok_and(|file| file.windows(word.len()).any(|part| part == word))
}

impl Own {
    /// Every program of a config that must attach is attached; of the others at least one is not, and that is told.
    fn attached_as_expected(&self) {
        let metrics = self.agent.scrape();
        let mut wrong = Vec::new();
        for (name, verdict) in &self.verdicts {
            let problems = metrics.value("nodeprobe_config_problems", &[("config", name)]);
            let programs = metrics.series("ebpf_exporter_ebpf_program_info");
            let mut ids = programs
                .iter()
                .filter(|series| series.label("config") == name)
                .map(|series| series.label("id"));
            let all = ids
                .all(|id| metrics.value("ebpf_exporter_ebpf_program_attached", &[("id", id)]) == Some(1.0));
            let is_right = match verdict {
                Ok(()) => problems == Some(0.0) && all,
                Err(_) => problems.is_some_and(|problems| problems >= 1.0),
            };
            match verdict {
                Ok(()) => println!("{name}: attached"),
                Err(reason) => println!("{name}: absent: {reason}"),
            }
            if !is_right {
                wrong
                    .push(format!("{name}: expected {verdict:?}, problems {problems:?}, all attached {all}"));
            }
        }
        for name in SPANS {
            println!("{name}: absent: spans");
        }
        assert!(wrong.is_empty(), "{wrong:#?} {:#?}", self.agent.stderr());
        // The ones that cannot cost the others nothing.
        assert_eq!(metrics.value("nodeprobe_collector_up", &[("collector", "programs")]), Some(1.0));
    }

    /// A scrape whose maps were read after this call.
    fn fresh(&self) -> Metrics {
        let asked = Instant::now();
        until("a reading of all maps", ANSWER, || {
            let requested = asked.elapsed().as_secs_f64();
            let metrics = self.agent.scrape();
            let of = |name| metrics.value(name, &[("collector", "programs")]).unwrap();
            let age = of("nodeprobe_collector_last_success_age_seconds") + of("nodeprobe_collector_seconds");
            (age < requested).then_some(metrics)
        })
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.fresh().sum(&format!("ebpf_exporter_{name}"), labels)
    }

    /// Waits until the sum is `expected`, and sees that it stays so.
    #[track_caller]
    fn expect(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        self.expect_all(&[(name, labels, expected)]);
    }

    /// The same for several at once.
    #[track_caller]
    fn expect_all(&self, all: &[Expected<'_>]) {
        let began = Instant::now();
        let mut was_right = false;
        loop {
            let metrics = self.fresh();
            let sum = |name: &str, labels| metrics.sum(&format!("ebpf_exporter_{name}"), labels);
            let wrong = all.iter().find(|(name, labels, expected)| sum(name, labels) != *expected);
            let Some((name, labels, expected)) = wrong else {
                if was_right {
                    return;
                }
                was_right = true;
                continue;
            };
            let found = sum(name, labels);
            assert!(
                !was_right && found < *expected && began.elapsed() < Duration::from_secs(10),
                "{name} {labels:?} is {found}, expected {expected}"
            );
        }
    }
}

fn exec(own: &Own) {
    let cgroup = Cgroup::new("exec");
    let mut command = Command::new("bash");
    command
        .env_remove("LD_LIBRARY_PATH")
        .args(["-c", "for ((i = 0; i < 25; i++)); do (exec /bin/true); done; :"]);
    cgroup.enter(&mut command);
    succeed(command);
    // And bash itself.
    own.expect("execs_total", &[("cgroup", cgroup.label())], 26.0);
}

fn syscalls(own: &Own) {
    // Nobody has called this one since 2015.
    let labels = [("syscall", "remap_file_pages")];
    let failure = [labels[0], ("errno", "EINVAL")];
    let before = (own.sum("syscalls_total", &labels), own.sum("syscall_errors_total", &failure));
    for _ in 0..1000 {
        // SAFETY: protection has to be 0, so that nothing is done.
        let result = unsafe { libc::syscall(libc::SYS_remap_file_pages, 0, 4096, 1, 0, 0) };
        assert_eq!(result, -1);
    }
    own.expect_all(&[
        ("syscalls_total", &labels, before.0 + 1000.0),
        ("syscall_errors_total", &failure, before.1 + 1000.0),
    ]);
}

fn syscalls_by_cgroup(own: &Own) {
    let cgroup = Cgroup::new("syscalls");
    let mut command = python("import os\nfor i in range(500): os.getppid()", &[]);
    cgroup.enter(&mut command);
    succeed(command);
    own.expect("cgroup_syscalls_total", &[("cgroup", cgroup.label()), ("syscall", "getppid")], 500.0);
}

fn page_faults(own: &Own) {
    const PAGES: f64 = 2000.0;
    // Interpreting the few lines between takes some, too.
    const OTHERS: f64 = 100.0;
    let cgroup = Cgroup::new("faults");
    let script = "
import mmap, sys
def fresh():
    pages = mmap.mmap(-1, 2000 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(15)
    return pages
one, two = fresh(), fresh()
zero = open('/dev/zero', 'rb', 0)
def touch():
    for at in range(0, 2000 * 4096, 4096): one[at] = 1
for step in [lambda: 0, touch, lambda: zero.readinto(two)]:
    sys.stdin.readline()
    step()
    print('done', flush=True)
sys.stdin.readline()
";
    let mut command = python(script, &[]);
    cgroup.enter(&mut command);
    let mut steps = Steps::start(command);
    let of = |kind| own.sum("page_faults_total", &[("cgroup", cgroup.label()), ("kind", kind)]);
    steps.step();
    let before = (of("user"), of("kernel"));
    steps.step();
    let touched = (of("user"), of("kernel"));
    between("pages touched", PAGES, touched.0 - before.0, PAGES + OTHERS);
    between("pages the kernel touched meanwhile", 0.0, touched.1 - before.1, OTHERS);
    steps.step();
    let read = (of("user"), of("kernel"));
    between("pages touched meanwhile", 0.0, read.0 - touched.0, OTHERS);
    between("pages the kernel touched", PAGES, read.1 - touched.1, PAGES + OTHERS);
}

fn softirqs(own: &Own) {
    let read = || (kernel_softirqs(), own.fresh(), kernel_softirqs());
    let (a, before, b) = read();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3000 {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    let (c, after, d) = read();
    let cpus = a.keys().filter(|(kind, _)| kind == "net_rx").count() as f64;
    let grown = |name: &str, labels: &[(&str, &str)]| {
        let name = format!("ebpf_exporter_{name}");
        after.sum(&name, labels) - before.sum(&name, labels)
    };
    let mut of_kinds = BTreeMap::<&str, (f64, f64)>::new();
    for key in a.keys() {
        let (low, high) = (c[key] - b[key], d[key] - a[key]);
        let labels = [("kind", key.0.as_str()), ("cpu", key.1.as_str())];
        // The kernel counts it a moment earlier.
        between(&format!("softirqs {key:?}"), low - 1.0, grown("softirqs_total", &labels), high + 1.0);
        let sums = of_kinds.entry(&key.0).or_default();
        *sums = (sums.0 + low, sums.1 + high);
    }
    assert!(of_kinds["net_rx"].0 >= 1.0, "{of_kinds:?}");
    for (kind, (low, high)) in &of_kinds {
        for name in ["softirq_wait_seconds", "softirq_service_seconds"] {
            let count = grown(&format!("{name}_count"), &[("kind", kind)]);
            between(&format!("{name} of {kind}"), low - 2.0 * cpus, count, high + 2.0 * cpus);
        }
    }
    let (low, high) = of_kinds["net_rx"];
    for name in ["softirq_net_rx_wait_seconds", "softirq_net_rx_service_seconds"] {
        let count = grown(&format!("{name}_count"), &[]);
        between(name, low - 2.0 * cpus, count, high + 2.0 * cpus);
    }
}

fn timers(own: &Own) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (a, b) = (own.fresh(), own.fresh());
    for _ in 0..200 {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop((client, listener.accept().unwrap()));
    }
    let (c, d) = (own.fresh(), own.fresh());
    let grown = |name: &str, from: &Metrics, to: &Metrics| {
        let name = format!("ebpf_exporter_{name}");
        to.sum(&name, &[]) - from.sum(&name, &[])
    };
    let (typed, raw) = ("timer_starts_total", "raw_timer_starts_total");
    between("both see the same timers", grown(typed, &b, &c), grown(raw, &a, &d), f64::INFINITY);
    between("both see the same timers", grown(raw, &b, &c), grown(typed, &a, &d), f64::INFINITY);
    between("timers of connections", 200.0, grown(typed, &b, &c), f64::INFINITY);
    let functions = c.series("ebpf_exporter_timer_starts_total");
    assert!(functions.iter().any(|series| series.label("function").contains("tcp_")), "{functions:?}");
}

fn disk(own: &Own) {
    let Some(device) = Loop::new() else {
        return support::skip("biolatency, fixed-histogram: no loop device can be had");
    };
    let name = device.device.file_name().unwrap().to_str().unwrap();
    let labels = [("device", name), ("operation", "read")];
    let counts = || {
        let metrics = own.fresh();
        ["bio_latency_seconds_count", "disk_request_size_bytes_count", "disk_request_size_bytes_sum"]
            .map(|name| metrics.sum(&format!("ebpf_exporter_{name}"), &labels))
    };
    // Who looks at new disks has done so.
    let quiet = |what: &str| {
        until(what, ANSWER, || {
            let first = (device.reads(), counts());
            std::thread::sleep(Duration::from_millis(50));
            ((device.reads(), counts()) == first).then_some(first)
        })
    };
    let (reads, before) = quiet("a quiet loop device");
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&device.device).unwrap();
    let mut room = vec![0u8; 3 * 4096];
    let at = room.as_ptr().align_offset(4096);
    for block in 0..64 {
        file.read_exact_at(&mut room[at..at + 4096], block * 32768).unwrap();
    }
    for block in 0..16 {
        file.read_exact_at(&mut room[at..at + 8192], block * 32768).unwrap();
    }
    let (reads_now, after) = quiet("the loop device quiet again");
    let (count, bytes) = (reads_now.0 - reads.0, reads_now.1 - reads.1);
    between("reads the kernel counted", 80.0, count, 90.0);
    let grown: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert_eq!(grown, [count, count, bytes], "as /sys/block/{name}/stat");
}

fn xdp(own: &Own) {
    let port = port();
    let receiver = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..300 {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    let mut sent = 300.0;
    if let Ok(sender) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        for _ in 0..100 {
            // That nobody listens is no concern of the sender's before the next call.
            let _ = sender.send_to(b"x", to);
        }
        sent += 100.0;
    }
    own.expect("xdp_packets_total", &[("protocol", "udp"), ("port", &port.to_string())], sent);
}

fn udp_drops(own: &Own) {
    const SENT: u32 = 300;
    let port = port();
    let receiver = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    set(&receiver, libc::SO_RCVBUF, &4096i32.to_ne_bytes());
    receiver.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let full = [("reason", "socket_rcvbuff")];
    let drops = own.sum("packet_drops_total", &full);
    for _ in 0..SENT {
        sender.send_to(&[0; 500], receiver.local_addr().unwrap()).unwrap();
    }
    let mut received = 0;
    while receiver.recv(&mut [0; 500]).is_ok() {
        received += 1;
    }
    let dropped = f64::from(SENT - received);
    between("datagrams dropped", 100.0, dropped, f64::from(SENT));
    own.expect("udp_drops_total", &[("port", &port.to_string())], dropped);
    // Since Linux 5.18 the reason tells it, too; others may drop in the meantime.
    if own.sum("packet_drops_total", &full) > 0.0 {
        between("drops with a reason", dropped, own.sum("packet_drops_total", &full) - drops, f64::INFINITY);
    }
}

fn packet_drops(own: &Own) {
    let to = SocketAddr::from(([127, 0, 0, 1], port()));
    let udp = |metrics: &Metrics| -> f64 {
        let all = metrics.series("ebpf_exporter_packet_drops_total");
        let of_udp = all.iter().filter(|series| {
            series.label("reason") == "no_socket" && series.label("function").contains("udp")
        });
        of_udp.map(|series| series.value).sum()
    };
    let before = udp(&own.fresh());
    for _ in 0..60 {
        // A new socket each time: the first is told that nobody listens.
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
    }
    let grown = udp(&own.fresh()) - before;
    between("datagrams nobody wanted", 60.0, grown, 200.0);
}

fn dns_questions(own: &Own) {
    let unique = format!("own{}", std::process::id());
    let question = |labels: &[&[u8]]| {
        let mut packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in labels {
            packet.push(label.len() as u8);
            packet.extend_from_slice(label);
        }
        packet.extend_from_slice(b"\0\0\x01\0\x01");
        packet
    };
    let ask = |packet: &[u8]| {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(packet, ("127.0.0.1", 53)).unwrap();
    };
    let own_label = unique.as_bytes();
    let names: [(&[&[u8]], String); 4] = [
        (&[b"www", own_label, b"example"], format!("www.{unique}.example")),
        (&[b"WwW", own_label, b"UPPER"], format!("www.{unique}.upper")),
        (&[b"a\"b\\c\nd{}", own_label], format!("a\"b\\c\nd{{}}.{unique}")),
        (&[b"\xff\xc3\x01", own_label], format!("\u{fffd}\u{fffd}\u{1}.{unique}")),
    ];
    for _ in 0..9 {
        for (labels, _) in &names {
            ask(&question(labels));
        }
    }
    // What is no question at all; none of it may name anything of ours or stop the others.
    let cut = question(&[b"cut", own_label]);
    for end in 0..cut.len() - 5 {
        ask(&cut[..end]);
    }
    ask(&question(&[&[b'x'; 63], &[b'y'; 63], &[b'z'; 63], own_label]));
    ask(&[0xff; 600]);
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|(_, name)| [("name", name.as_str())]).collect();
    let all: Vec<_> = labels.iter().map(|labels| ("dns_questions_total", &labels[..], 9.0)).collect();
    own.expect_all(&all);
    // A packet cut short never shows what lay behind it in memory.
    let metrics = own.fresh();
    for series in metrics.series("ebpf_exporter_dns_questions_total") {
        let name = series.label("name");
        let text = name.trim_start_matches('\u{3}');
        if let Some(rest) = text.strip_prefix("cut") {
            let rest = rest.trim_start_matches(['.', unique.len() as u8 as char]);
            assert!(unique.starts_with(rest), "{name:?}");
        }
    }
}

fn backlog(own: &Own) {
    const CONNECTIONS: u32 = 20;
    let port = port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut clients = Vec::new();
    for waiting in 1..=CONNECTIONS {
        clients.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
        until("the connection waits", ANSWER, || (tcp_info(&listener, UNACKED) == waiting).then_some(()));
    }
    let text = port.to_string();
    let of_port = [("port", text.as_str())];
    let exp2zero = "tcp_syn_backlog_exp2zero";
    let [count, sum, bucket] = ["count", "sum", "bucket"].map(|part| format!("{exp2zero}_{part}"));
    // 0 + 1 + 2 and so on.
    let waited = f64::from(CONNECTIONS * (CONNECTIONS - 1) / 2);
    let buckets = [("0", 1.0), ("1", 2.0), ("2", 3.0), ("4", 5.0), ("16", 17.0), ("+Inf", 20.0)];
    let labels = buckets.map(|(le, _)| [of_port[0], ("le", le)]);
    let mut all: Vec<Expected<'_>> = labels
        .iter()
        .zip(buckets)
        .map(|(labels, (_, count))| (bucket.as_str(), &labels[..], count))
        .collect();
    all.push(("tcp_syn_backlog_count", &of_port, f64::from(CONNECTIONS)));
    all.push((&count, &of_port, f64::from(CONNECTIONS)));
    all.push((&sum, &of_port, waited));
    own.expect_all(&all);
}

fn accept_latency(own: &Own) {
    let port = port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for _ in 0..20 {
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop((client, listener.accept().unwrap()));
    }
    own.expect("accept_latency_seconds_count", &[("port", &port.to_string())], 20.0);
}

fn unix_sockets(own: &Own) {
    let names = ["unix_socket_backlog_count", "unix_accept_latency_seconds_count"];
    let before = names.map(|name| own.sum(name, &[]));
    let directory = TempDir::new("unix");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for _ in 0..50 {
        let client = UnixStream::connect(&path).unwrap();
        drop((client, listener.accept().unwrap()));
    }
    for (name, before) in names.iter().zip(before) {
        between(name, 50.0, own.sum(name, &[]) - before, 500.0);
    }
}

fn retransmits(own: &Own) {
    let port = port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    // A filter that lets nothing through: what arrives is as lost on the way.
    let mut nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    // SAFETY: a plain struct, as bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts((&raw const program).cast::<u8>(), size_of::<libc::sock_fprog>())
    };
    set(&server, libc::SO_ATTACH_FILTER, bytes);
    client.write_all(b"lost").unwrap();
    until("four segments sent again", ANSWER, || (tcp_info(&client, TOTAL_RETRANS) >= 4).then_some(()));
    set(&server, libc::SO_DETACH_FILTER, &0i32.to_ne_bytes());
    until("all is acknowledged", ANSWER, || (tcp_info(&client, UNACKED) == 0).then_some(()));
    let total = f64::from(tcp_info(&client, TOTAL_RETRANS));
    let labels = [("address", "127.0.0.1"), ("local_port", "ephemeral"), ("remote_port", &port.to_string())];
    own.expect("tcp_retransmits_total", &labels, total);
}

fn oom_kills(own: &Own) {
    let kill = |cgroups: &[&Cgroup]| {
        let mut command = python("b'x' * (256 << 20)", &[]);
        cgroups.iter().for_each(|cgroup| cgroup.enter(&mut command));
        assert_eq!(command.status().unwrap().signal(), Some(libc::SIGKILL), "not killed");
    };
    let memory = Cgroup::with_memory("30M");
    let is_v2 = memory.directory.starts_with(unified());
    if is_v2 {
        kill(&[&memory]);
        kill(&[&memory]);
        own.expect("oom_kills_total", &[("cgroup", memory.label())], 2.0);
        return;
    }
    let cgroup = Cgroup::new("oom");
    kill(&[&memory, &cgroup]);
    kill(&[&memory, &cgroup]);
    own.expect("oom_kills_total", &[("cgroup", cgroup.label())], 2.0);
    // One that is in v1 hierarchies only counts where it is in v2: with us.
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
    let ours =
        ours.lines().find_map(|line| line.strip_prefix("0::")).unwrap().trim_end_matches('/').to_owned();
    let ours = format!("{}{ours}", unified().display());
    let before = own.sum("oom_kills_total", &[("cgroup", &ours)]);
    kill(&[&memory]);
    own.expect("oom_kills_total", &[("cgroup", &ours)], before + 1.0);
}

fn forks(own: &Own) {
    let before = own.sum("forks_total", &[("family", "lua")]);
    let maker = std::thread::Builder::new().name("lua5.1".to_owned());
    let make = || (0..20).for_each(|_| std::thread::spawn(|| ()).join().unwrap());
    maker.spawn(make).unwrap().join().unwrap();
    own.expect("forks_total", &[("family", "lua")], before + 20.0);
    let all = own.fresh();
    let stranger = all.series("ebpf_exporter_forks_total").into_iter().find(|series| {
        let families =
            ["python", "perl", "ruby", "php", "lua", "bash", "sh", "dash", "zsh", "nginx", "apache"];
        let more = ["httpd", "postgres", "mysqld", "redis", "systemd", "kthreadd"];
        !families.iter().chain(&more).any(|family| series.label("family") == *family)
    });
    assert!(stranger.is_none(), "{stranger:?}");
}

fn migrations(own: &Own) {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return support::skip(
            "cgroup, cgroup_id_map, cgroup_id_map_cgrp_storage: nowhere to migrate to with one CPU",
        );
    }
    // Each step moves it to another CPU and back, ten times.
    let script = "
import os, sys
cpus = sorted(os.sched_getaffinity(0))[:2]
for line in sys.stdin:
    for i in range(10):
        for cpu in cpus: os.sched_setaffinity(0, {cpu})
    print('done', flush=True)
";
    let start = |cgroup: &Cgroup| {
        let mut command = python(script, &[]);
        cgroup.enter(&mut command);
        Steps::start(command)
    };
    let mut families = vec!["sched_migrations_total", "sched_migrations_selected_total"];
    match &own.verdicts["cgroup_id_map_cgrp_storage"] {
        Ok(()) => families.push("sched_migrations_marked_total"),
        Err(reason) => support::skip(&format!("cgroup_id_map_cgrp_storage: it is absent: {reason}")),
    }
    let counts = |cgroup: &Cgroup| -> Vec<f64> {
        let metrics = own.fresh();
        let labels = [("cgroup", cgroup.label())];
        let sum = |name: &&str| metrics.sum(&format!("ebpf_exporter_{name}"), &labels);
        families.iter().map(sum).collect()
    };
    let (after, other) = (Cgroup::new("after.service"), Cgroup::new("other"));
    start(&own.before).step();
    let all = counts(&own.before);
    between("migrations", 19.0, all[0], 60.0);
    assert_eq!(all, vec![all[0]; families.len()], "all see the same");

    let mut steps = start(&other);
    (0..3).for_each(|_| drop(steps.step()));
    let all = counts(&other);
    between("migrations of one that does not match", 57.0, all[0], 120.0);
    assert_eq!(all[1..], vec![0.0; families.len() - 1], "it is left out");

    // The agent is told of a new one within moments.
    let mut steps = start(&after);
    until("the new cgroup is in", ANSWER, || {
        steps.step();
        let all = counts(&after);
        all.iter().all(|&count| count > 0.0).then_some(())
    });
    let before = counts(&after);
    (0..3).for_each(|_| drop(steps.step()));
    let grown: Vec<f64> = counts(&after).iter().zip(&before).map(|(after, before)| after - before).collect();
    between("migrations of the new one", 57.0, grown[0], 120.0);
    assert_eq!(grown, vec![grown[0]; families.len()], "all see the same");
}

fn statistics_locks(own: &Own) {
    let cgroup = Cgroup::new("statistics");
    let read = || {
        let metrics = own.fresh();
        ["count", "sum"]
            .map(|part| metrics.sum(&format!("ebpf_exporter_cgroup_rstat_lock_hold_seconds_{part}"), &[]))
    };
    let (began, before) = (Instant::now(), read());
    for _ in 0..100 {
        // Sums up the statistics of all CPUs.
        fs::read_to_string(cgroup.directory.join("cpu.stat")).unwrap();
    }
    let (after, elapsed) = (read(), began.elapsed().as_secs_f64());
    between("times the lock was held", 100.0, after[0] - before[0], f64::INFINITY);
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    between("seconds the lock was held", 0.0, after[1] - before[1], elapsed * cpus);
}

fn container_disk(own: &Own) {
    let name = "container_disk_latency_seconds_count";
    let is_v2 = fs::read_to_string(unified().join("cgroup.controllers")).unwrap().contains("io");
    if !is_v2 {
        // Ids of v1's hierarchies would name wrong containers.
        assert_eq!(own.sum(name, &[]), 0.0);
        return support::skip(
            "disk-latency-by-container, but for its silence: controller io is in a v1 hierarchy",
        );
    }
    let Some(device) = Loop::new() else {
        return support::skip("disk-latency-by-container: no loop device can be had");
    };
    let _ = fs::write(unified().join("cgroup.subtree_control"), "+io");
    let id = format!("{:012x}{}", std::process::id(), "5eed".repeat(13));
    let cgroup = Cgroup { directory: unified().join(format!("docker-{id}.scope")) };
    fs::create_dir(&cgroup.directory).unwrap();
    let script = "
import mmap, os, sys
room = mmap.mmap(-1, 4096)
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
for i in range(64): os.preadv(file, [room], i * 32768)
";
    let mut command = python(script, &[device.device.to_str().unwrap()]);
    cgroup.enter(&mut command);
    let mut child = Steps::start(command);
    assert!(child.child.wait().unwrap().success());
    let metrics = until("requests of the container", ANSWER, || {
        let metrics = own.fresh();
        let of = |series: &&&Series| series.label("container_id").contains(&id[..12]);
        let all = metrics.series(&format!("ebpf_exporter_{name}"));
        let count: f64 = all.iter().filter(of).map(|series| series.value).sum();
        (count >= 64.0).then_some(count)
    });
    between("requests of the container", 64.0, metrics, 80.0);
}

fn run_queue(own: &Own) {
    let switches = || {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        stat.lines().find_map(|line| line.strip_prefix("ctxt ")).unwrap().trim().parse::<f64>().unwrap()
    };
    let read = || {
        let metrics = own.fresh();
        ["count", "sum"]
            .map(|part| metrics.sum(&format!("ebpf_exporter_run_queue_latency_seconds_{part}"), &[]))
    };
    let (began, low) = (Instant::now(), switches());
    let before = read();
    for _ in 0..200 {
        std::thread::sleep(Duration::from_micros(100));
    }
    let after = read();
    let (high, elapsed) = (switches(), began.elapsed().as_secs_f64());
    // Every sleep ends with a wait, however short; every wait ends with a switch.
    between("waits", 200.0, after[0] - before[0], high - low);
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    let threads: f64 = load.split(['/', ' ']).nth(4).unwrap().parse().unwrap();
    between("seconds waited", 0.0, after[1] - before[1], elapsed * threads);
}

fn reclaim(own: &Own) {
    let labels = [("kind", "cgroup")];
    let read = || ["count", "sum"].map(|part| own.sum(&format!("reclaim_latency_seconds_{part}"), &labels));
    let directory = TempDir::new("reclaim");
    let file = directory.path().join("file");
    let memory = Cgroup::with_memory("20M");
    let (before, began) = (read(), Instant::now());
    let script = "
import sys
with open(sys.argv[1], 'wb') as file:
    for i in range(60): file.write(bytes(1 << 20))
";
    let mut command = python(script, &[file.to_str().unwrap()]);
    memory.enter(&mut command);
    succeed(command);
    let (after, elapsed) = (read(), began.elapsed().as_secs_f64());
    // 60 MiB through 20 MiB: at most 32 pages are freed at a time, unless it is more in a hurry.
    between("times memory was freed", 1.0, after[0] - before[0], 100_000.0);
    let threads = std::thread::available_parallelism().unwrap().get() as f64;
    between("seconds it took", 0.0, after[1] - before[1], elapsed * threads * 4.0);
    assert!(after[1] > before[1], "it takes time");
}

fn page_cache(own: &Own) {
    const PAGES: u64 = 300;
    let directory = TempDir::new("cache");
    let path = directory.path().join("file");
    let cachestat = |metrics: &Metrics, operation: &str| {
        metrics.sum("ebpf_exporter_page_cache_operations_total", &[("operation", operation)])
    };
    let fills = |metrics: &Metrics| metrics.sum("ebpf_exporter_page_cache_fills_total", &[]);
    let (a, b) = (own.fresh(), own.fresh());
    let file = File::create(&path).unwrap();
    for page in 0..PAGES {
        // Too far from each other to become one large page.
        file.write_all_at(&[1; 4096], page << 21).unwrap();
    }
    file.sync_all().unwrap();
    let (c, d) = (own.fresh(), own.fresh());
    between("pages added", PAGES as f64, fills(&c) - fills(&b), f64::INFINITY);
    let stacks = c.series("ebpf_exporter_page_cache_fills_total");
    assert!(stacks.iter().any(|series| series.label("kstack").contains("write")), "{stacks:?}");
    // The two programs of this metric, for kernels of before and after, count into it both, as far as they are attached.
    let twice = 2.0;
    let added = |from: &Metrics, to: &Metrics| (cachestat(to, "added") - cachestat(from, "added")) / twice;
    between("both see the same pages", fills(&c) - fills(&b), added(&a, &d), f64::INFINITY);
    between("both see the same pages", added(&b, &c), fills(&d) - fills(&a), f64::INFINITY);
    between(
        "pages made dirty",
        PAGES as f64,
        cachestat(&d, "dirtied") - cachestat(&a, "dirtied"),
        f64::INFINITY,
    );
    drop(file);
    fs::remove_file(&path).unwrap();
    let e = own.fresh();
    let removed = (cachestat(&e, "removed") - cachestat(&d, "removed")) / twice;
    between("pages removed", PAGES as f64, removed, f64::INFINITY);
}

fn lookups(own: &Own) {
    let cgroup = Cgroup::new("lookups");
    let mut command = python("import _socket\nfor i in range(9): _socket.getaddrinfo(b'127.0.0.1', 80)", &[]);
    cgroup.enter(&mut command);
    succeed(command);
    own.expect("name_lookups_total", &[("cgroup", cgroup.label())], 9.0);
}

fn imports(own: &Own) {
    let directory = TempDir::new("imports");
    let name = format!("nodeprobe_own_{}", std::process::id());
    directory.write(&format!("{name}.py"), "");
    for _ in 0..7 {
        let script = format!("import sys\nsys.path.insert(0, sys.argv[1])\nimport {name}\nimport {name}");
        succeed(python(&script, &[directory.path().to_str().unwrap()]));
    }
    own.expect("python_imports_total", &[("module", &name)], 7.0);
}
