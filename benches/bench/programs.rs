//! What users' eBPF programs cost: reading large maps, attaching many programs, being called.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::clang::compile_bpf;
use super::{Agent, AtMost, Client, MIB, Options, figure, median, milliseconds, quantile};

/// The large map of `tests/programs/probe.bpf.c`, as three labels.
const LARGE: &str = "metrics:
  counters:
    - name: probe_large_total
      help: Many keys
      labels:
        - { name: a, size: 4, decoders: [{ name: uint }] }
        - { name: b, size: 4, decoders: [{ name: uint }] }
        - { name: name, size: 16, decoders: [{ name: string }] }
";

/// Programs of nodeprobe's own that attach on nearly every kernel.
const MANY: &str = "timers,percpu-softirq,softirq-latency,syscalls,biolatency,exec,cgroup,runqlat,raw-tracepoints,\
                    tcp-retransmit,page-faults,oomkill,syscalls-by-cgroup,udp-drops,tcp-syn-backlog";

const OTHERS_OFF: [&str; 2] = ["--collector.tcp=off", "--collector.containers=off"];

pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> io::Result<Directory> {
        let path = std::env::temp_dir().join(format!("nodeprobe-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }

    pub fn config(&self, source: &str, defines: &[&str], yaml: &str) -> io::Result<String> {
        compile_bpf(source, defines, &self.0.join("bench.bpf.o"));
        fs::write(self.0.join("bench.yaml"), yaml)?;
        Ok(format!("--config.dir={}", self.0.display()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Fills a thousand entries of the large map.
fn fill(thousand: libc::c_long) {
    const MAGIC: libc::c_long = 0x6e6f_6465;
    // SAFETY: getppid takes no arguments; the program sees those that are there.
    unsafe { libc::syscall(libc::SYS_getppid, MAGIC, thousand, 0) };
}

/// Reading, decoding and rendering; and how long it takes until many programs are attached.
pub fn maps(options: &Options) -> io::Result<()> {
    let directory = Directory::new()?;
    let flag = directory.config("probe.bpf.c", &["LARGE"], LARGE)?;
    let agent = Agent::start(options, &[&[flag.as_str()], &OTHERS_OFF[..]].concat())?;
    let mut client = Client::open(agent.address)?;
    client.get(true)?;
    let idle = agent.status("VmRSS");
    (0..100).for_each(fill);
    let mut costs = Vec::new();
    let mut bytes = 0;
    for _ in 0..if options.quick { 10 } else { 40 } {
        // What is younger than ten times its cost is not read again.
        thread::sleep(Duration::from_millis(1100));
        let cpu_ns = agent.cpu_ns();
        bytes = client.get(false)?.body.len();
        costs.push((agent.cpu_ns() - cpu_ns) as f64 / 1e6);
    }
    figure(
        "programs: 100,000 keys of 3 labels, CPU per scrape, median",
        median(&costs),
        "ms",
        Some(AtMost(60.0)),
    );
    figure("programs: the same, best", quantile(&costs, 0.0), "ms", None);
    figure("programs: bytes of that scrape", bytes as f64 / MIB, "MiB", None);
    let peak = agent.status("VmHWM") - idle;
    figure("programs: peak memory above idle", peak / 1024.0, "MiB", Some(AtMost(20.0)));
    thread::sleep(Duration::from_secs(1));
    figure(
        "programs: memory above idle between scrapes",
        (agent.status("VmRSS") - idle) / 1024.0,
        "MiB",
        None,
    );
    drop(agent);

    let agent = Agent::start(options, &[&[flag.as_str(), "--interval=5s"], &OTHERS_OFF[..]].concat())?;
    (0..10).for_each(fill);
    thread::sleep(Duration::from_secs(6));
    let (began, cpu_ns) = (Instant::now(), agent.cpu_ns());
    thread::sleep(Duration::from_secs(if options.quick { 20 } else { 60 }));
    let share = (agent.cpu_ns() - cpu_ns) as f64 / began.elapsed().as_nanos() as f64;
    figure("programs: 10,000 keys read every 5 s", share * 100.0, "% of a core", Some(AtMost(0.3)));
    drop(agent);

    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..if options.quick { 5 } else { 15 } {
        let agent = Agent::launch(options, &[&format!("--programs={MANY}")])?;
        let serves = agent.serves.recv_timeout(Duration::from_secs(30));
        let serves = serves.map_err(|_| io::Error::other("the agent does not serve"))?;
        wall.push(milliseconds(serves.duration_since(agent.started)));
        cpu.push(agent.cpu_ns() as f64 / 1e6);
    }
    let count = MANY.split(',').count();
    figure(
        &format!("programs: exec to {count} more attached, median"),
        median(&wall),
        "ms",
        Some(AtMost(300.0)),
    );
    figure("programs: the same, CPU", median(&cpu), "ms", None);
    Ok(())
}

/// What an empty program of each type adds to a call.
pub fn empty(options: &Options) -> io::Result<()> {
    let directory = Directory::new()?;
    let target = format!("UPROBE=\"{}:nodeprobe_bench_target\"", std::env::current_exe()?.display());
    let yaml = "metrics: { counters: [] }\n";
    for kind in ["TRACEPOINT", "RAW_TP", "TP_BTF", "KPROBE", "FENTRY", &target] {
        let flag = directory.config("empty.bpf.c", &[kind], yaml)?;
        let name = kind.split('=').next().unwrap_or(kind);
        let call = if name == "UPROBE" { called } else { asked };
        let mut added = Vec::new();
        for _ in 0..if options.quick { 3 } else { 9 } {
            // In pairs, since the machine has moods.
            let without = per_call_ns(call);
            let agent = Agent::start(options, &[&[flag.as_str()], &OTHERS_OFF[..]].concat())?;
            let text = Client::open(agent.address)?.get(false)?.body;
            let attached =
                String::from_utf8_lossy(&text).contains("nodeprobe_config_problems{config=\"bench\"} 0");
            if !attached {
                break;
            }
            added.push(per_call_ns(call) - without);
        }
        match added.is_empty() {
            true => println!("empty: {name}: absent, this kernel does not attach it"),
            false => figure(&format!("empty: {name} adds to a call, median"), median(&added), "ns", None),
        }
    }
    Ok(())
}

fn per_call_ns(call: fn()) -> f64 {
    const CALLS: u32 = 300_000;
    let round = || {
        let began = Instant::now();
        (0..CALLS).for_each(|_| call());
        began.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    // The best of three: interruptions only add.
    (0..3).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn asked() {
    // SAFETY: getppid cannot fail.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

// What the uprobe is attached to: in assembly, so that its name stays in the stripped file (build.rs).
std::arch::global_asm!(
    ".globl nodeprobe_bench_target",
    ".type nodeprobe_bench_target, %function",
    "nodeprobe_bench_target:",
    "nop",
    "ret",
    ".size nodeprobe_bench_target, . - nodeprobe_bench_target",
);

fn called() {
    unsafe extern "C" {
        fn nodeprobe_bench_target();
    }
    // SAFETY: it returns at once.
    unsafe { nodeprobe_bench_target() };
}
