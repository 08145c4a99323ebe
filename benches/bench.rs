//! What nodeprobe itself costs: `make bench` as root, `ARGS=render` for one section, `ARGS=--quick` for less patience.
//!
//! Prints figures beside their goals and never fails on one: a shared machine is no judge. Cost is CPU time of the agent with
//! its children, since wall time here is mostly other people's.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nodeprobe::metric::Desc;
use nodeprobe::registry::{ConstLabels, Registry};
use nodeprobe::sys::poll::{Interest, PollSet};
use nodeprobe::sys::signal::Signals;
use nodeprobe::sys::{clock, process};

#[path = "../tests/support/clang.rs"]
mod clang;
#[path = "bench/connect.rs"]
mod connect;
#[path = "bench/logs.rs"]
mod logs;
#[path = "bench/overhead.rs"]
mod overhead;
#[path = "bench/programs.rs"]
mod programs;
#[path = "bench/soak.rs"]
mod soak;
#[path = "bench/stalls.rs"]
mod stalls;

type Section = fn(&Options) -> io::Result<()>;

const SECTIONS: &[(&str, Section)] = &[
    ("footprint", footprint),
    ("start", start),
    ("render", render),
    ("scrape", scrape),
    ("containers", containers),
    ("connect", connect::connect),
    ("overhead", overhead::overhead),
    ("programs", programs::maps),
    ("empty", programs::empty),
    ("logs", logs::logs),
];

/// Sections that only run when they are asked for: they take a quarter of an hour.
const LONG: &[(&str, Section)] = &[("soak", soak::soak), ("stalls", stalls::stalls)];

/// The hidden section that `connect` runs in a process of its own, inside a container's cgroup.
const CONNECT_LOOP: &str = "connect-loop";
/// The hidden section that `soak` runs as its containers' processes.
const SOAK_LIFE: &str = "soak-life";
/// The hidden section that `overhead` runs likewise.
const LOAD: &str = "load-loop";
/// Ids of our containers start with this, so that no other container is ever removed.
const MARK: &str = "becafebecafebeca";
/// The cgroup the agent runs in, whose CPU time includes that of its children.
const AGENT_CGROUP: &str = "nodeprobe-bench";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const DOCKER_ROOT: &str = "/var/lib/docker";
const BPF_STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const LOCK: &str = "/run/nodeprobe-bench.lock";
const MIB: f64 = 1024.0 * 1024.0;

struct Options {
    quick: bool,
    binary: PathBuf,
}

/// The agent that runs now, where the handler of Ctrl-C finds it.
static CHILD: Mutex<Option<Child>> = Mutex::new(None);

/// What the section that runs has printed, as rows of a table.
static ROWS: Mutex<String> = Mutex::new(String::new());

/// What the kernel's switch for times of BPF programs was before this bench turned it on.
static BPF_STATS_BEFORE: Mutex<Option<String>> = Mutex::new(None);

fn bpf_stats() -> MutexGuard<'static, Option<String>> {
    BPF_STATS_BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn restore_bpf_stats() {
    if let Some(before) = bpf_stats().take() {
        let _ = fs::write(BPF_STATS, before.trim());
    }
}

fn child() -> MutexGuard<'static, Option<Child>> {
    CHILD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [word, seconds, id] = &arguments[..]
        && word == CONNECT_LOOP
    {
        return connect::connect_loop(seconds.parse().unwrap_or(1.0), id);
    }
    if let [word, number] = &arguments[..]
        && word == SOAK_LIFE
    {
        return soak::life(number.parse().unwrap_or(0));
    }
    if let [word, kind, seconds, id] = &arguments[..]
        && word == LOAD
    {
        return overhead::load(kind, seconds.parse().unwrap_or(1.0), id);
    }
    let quick = arguments.iter().any(|word| word == "--quick");
    let chosen: Vec<&String> = arguments.iter().filter(|word| *word != "--quick").collect();
    if let Some(unknown) =
        chosen.iter().find(|word| SECTIONS.iter().chain(LONG).all(|(name, _)| name != *word))
    {
        let names: Vec<&str> = SECTIONS.iter().chain(LONG).map(|(name, _)| *name).collect();
        eprintln!("no section {unknown}; there are: {} (and --quick)", names.join(" "));
        std::process::exit(2);
    }
    // Two at once would remove each other's containers.
    let turn = File::create(LOCK)?;
    turn.lock()?;
    let signals = Signals::open()?;
    thread::spawn(move || clean_up_on(&signals));
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        clean_up();
    }));
    clean_up();
    let binary = std::env::var_os("NODEPROBE_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_nodeprobe")), PathBuf::from);
    println!("binary: {}", binary.display());
    let options = Options { quick, binary };
    println!("{:<62} {:>14} {:<10} goal", "figure", "value", "unit");
    for (number, (name, section)) in SECTIONS.iter().chain(LONG).enumerate() {
        if chosen.is_empty() && number < SECTIONS.len() || chosen.iter().any(|word| word == name) {
            if let Err(error) = section(&options) {
                println!("{name}: stopped: {error}");
            }
            document(name)?;
            clean_up();
        }
    }
    Ok(())
}

/// Prints one figure.
fn figure(name: &str, value: f64, unit: &str, goal: Option<Goal>) {
    let digits = if value == value.round() {
        0
    } else if value.abs() < 10.0 {
        3
    } else {
        1
    };
    let (goal, verdict) = match goal {
        None => (String::new(), ""),
        Some(Goal::AtMost(most)) => (format!("<= {most}"), if value <= most { "ok" } else { "MISSED" }),
        Some(Goal::AtLeast(least)) => (format!(">= {least}"), if value >= least { "ok" } else { "MISSED" }),
    };
    println!("{name:<62} {value:>14.digits$} {unit:<10} {goal} {verdict}");
    let what = name.split_once(": ").map_or(name, |(_, what)| what);
    let row = format!("| {what} | {value:.digits$} {unit} | {goal} |\n");
    ROWS.lock().unwrap_or_else(PoisonError::into_inner).push_str(&row);
}

/// Writes what a section has printed into docs/OVERHEAD.md, in the place of what stood there.
fn document(section: &str) -> io::Result<()> {
    let rows = std::mem::take(&mut *ROWS.lock().unwrap_or_else(PoisonError::into_inner));
    if std::env::var_os("NODEPROBE_UPDATE").is_none() || rows.is_empty() {
        return Ok(());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OVERHEAD.md");
    let old = fs::read_to_string(&path)?;
    let head = format!("## {section}\n");
    let Some((before, rest)) = old.split_once(&head) else { return Ok(()) };
    let after = rest.find("\n## ").map_or("", |at| &rest[at..]);
    let about = rest.split("| figure |").next().unwrap_or_default();
    fs::write(path, format!("{before}{head}{about}| figure | value | goal |\n|---|---|---|\n{rows}{after}"))
}

enum Goal {
    AtMost(f64),
    AtLeast(f64),
}
use Goal::{AtLeast, AtMost};

/// The value below which `share` of `values` lie.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// ---- sections ----------------------------------------------------------------------------------------------------

/// Size, memory and idle cost with default flags, scraped as Prometheus does.
fn footprint(options: &Options) -> io::Result<()> {
    let agent = Agent::start(options, &[])?;
    let binary = fs::metadata(&options.binary)?.len() as f64;
    figure("footprint: binary", binary / MIB, "MiB", Some(AtMost(2.0)));
    let mut client = Client::open(agent.address)?;
    client.get(true)?;
    thread::sleep(Duration::from_secs(2));
    let minutes = if options.quick { 1.0 } else { 5.0 };
    let (began, cpu_ns) = (Instant::now(), agent.cpu_ns());
    for _ in 0..(minutes * 4.0) as u32 {
        thread::sleep(Duration::from_secs(15));
        client.get(true)?;
    }
    let cpu_ms = (agent.cpu_ns() - cpu_ns) as f64 / 1e6;
    let per_minute = cpu_ms * 60.0 / began.elapsed().as_secs_f64();
    figure("footprint: CPU per minute, a scrape every 15 s", per_minute, "ms", Some(AtMost(60.0)));
    figure("footprint: VmRSS", agent.status("VmRSS") / 1024.0, "MiB", Some(AtMost(3.0)));
    figure("footprint: VmHWM", agent.status("VmHWM") / 1024.0, "MiB", Some(AtMost(8.0)));
    figure("footprint: RssAnon", agent.status("RssAnon") / 1024.0, "MiB", None);
    let body = client.get(false)?.body;
    let body = String::from_utf8_lossy(&body);
    let maps = body
        .lines()
        .filter(|line| line.starts_with("nodeprobe_bpf_map_memory_bytes"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>();
    figure("footprint: BPF maps", maps / MIB, "MiB", Some(AtMost(4.0)));
    figure("footprint: threads", agent.status("Threads"), "", None);
    let descriptors = agent.descriptors()?.len();
    figure("footprint: descriptors", descriptors as f64, "", None);
    let series = body.lines().filter(|line| !line.starts_with('#')).count();
    figure("footprint: series", series as f64, "", None);
    Ok(())
}

/// From exec to an answer, and to everything attached.
fn start(options: &Options) -> io::Result<()> {
    let (mut answers, mut attached, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if options.quick { 5 } else { 20 } {
        let agent = Agent::launch(options, &[])?;
        loop {
            match Client::open(agent.address) {
                Ok(mut client) => {
                    client.get(false)?;
                    break;
                }
                Err(_) if agent.started.elapsed() < Duration::from_secs(10) => {
                    thread::sleep(Duration::from_micros(50));
                }
                Err(error) => return Err(error),
            }
        }
        answers.push(milliseconds(agent.started.elapsed()));
        cpu.push(agent.scheduled_ns() as f64 / 1e6);
        let serves = agent.serves.recv_timeout(Duration::from_secs(10));
        let serves = serves.map_err(|_| io::Error::other("the agent does not serve"))?;
        attached.push(milliseconds(serves.duration_since(agent.started)));
    }
    figure("start: exec to the first 200, median", median(&answers), "ms", Some(AtMost(100.0)));
    figure("start: exec to the first 200, best", quantile(&answers, 0.0), "ms", None);
    figure("start: exec to all attached, median", median(&attached), "ms", Some(AtMost(300.0)));
    figure("start: CPU until the first 200, median", median(&cpu), "ms", None);
    Ok(())
}

static COUNTS: Desc =
    Desc::counter("bench_requests_total", "Requests.", &["namespace", "pod", "method", "status"]);
static TIMES: Desc =
    Desc::counter("bench_busy_seconds_total", "Time.", &["namespace", "pod", "method", "status"]);

/// 100,000 series of four labels, from the registry's door to the finished body.
fn render(options: &Options) -> io::Result<()> {
    const SERIES: u64 = 100_000;
    let mut registry = Registry::new([&COUNTS, &TIMES], ConstLabels::default(), 200_000);
    let pods: Vec<String> = (0..SERIES / 20)
        .map(|pod| format!("checkout-{:010x}-{pod:05}", pod.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24))
        .collect();
    let statuses = ["200", "204", "404", "500", "503"];
    let (mut costs, mut bytes) = (Vec::new(), 0);
    for round in 0..if options.quick { 15 } else { 51 } {
        let began_ns = clock::process_cpu_ns();
        let mut state: u64 = 42 + round;
        for pod in &pods {
            for method in ["GET", "POST"] {
                for status in statuses {
                    // Counts of every size up to 10^11, and as many microseconds.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let value = (state >> 27) >> (state >> 13 & 31);
                    let labels = ["production", pod, method, status];
                    registry.add(&COUNTS, &labels, value as f64);
                    registry.add(&TIMES, &labels, value as f64 / 1e6);
                }
            }
        }
        bytes = registry.finish().len();
        costs.push((clock::process_cpu_ns() - began_ns) as f64);
    }
    let rate = |cost_ns: f64| SERIES as f64 / (cost_ns / 1e9);
    let goal = Some(AtLeast(5_000_000.0));
    figure("render: series per CPU second, median", rate(median(&costs)).round(), "1/s", goal);
    figure("render: series per CPU second, best", rate(quantile(&costs, 0.0)).round(), "1/s", None);
    figure("render: bytes per series", bytes as f64 / SERIES as f64, "B", None);
    Ok(())
}

/// Scrapes without containers: back to back, when sources are mostly fresh, and spaced, when each scrape refreshes them.
fn scrape(options: &Options) -> io::Result<()> {
    let agent = Agent::start(options, &[])?;
    let count = if options.quick { 200 } else { 500 };
    for (name, gzip, count, pause_ms) in
        [("plain", false, count, 0), ("gzip", true, count, 0), ("gzip, 100 ms apart", true, 50, 100)]
    {
        let mut client = Client::open(agent.address)?;
        client.get(gzip)?;
        let (mut times, mut bytes) = (Vec::new(), 0);
        let cpu_ns = agent.cpu_ns();
        for _ in 0..count {
            thread::sleep(Duration::from_millis(pause_ms));
            let began = Instant::now();
            bytes = client.get(gzip)?.body.len();
            times.push(milliseconds(began.elapsed()));
        }
        let cpu_ms = (agent.cpu_ns() - cpu_ns) as f64 / 1e6 / f64::from(count);
        figure(&format!("scrape: {name}: p50"), median(&times), "ms", None);
        figure(&format!("scrape: {name}: p99"), quantile(&times, 0.99), "ms", None);
        figure(&format!("scrape: {name}: CPU per scrape"), cpu_ms, "ms", None);
        figure(&format!("scrape: {name}: bytes"), bytes as f64, "B", None);
    }
    Ok(())
}

/// What many containers cost per interval, beside what reading their files costs anybody.
fn containers(options: &Options) -> io::Result<()> {
    let interval_s = if options.quick { 5 } else { 15 };
    for (count, is_inhabited, goal_ms) in
        [(200, true, 8.0), (1000, true, 40.0), (200, false, 8.0), (1000, false, 40.0)]
    {
        clean_up();
        let mut processes = Processes::default();
        for number in 0..count {
            let id = container_id(number);
            make_container(&id, &format!("bench-{number}"))?;
            if is_inhabited {
                processes.start_in(&id)?;
            }
        }
        let agent = Agent::start(options, &[&format!("--interval={interval_s}s")])?;
        let mut client = Client::open(agent.address)?;
        let kind = if is_inhabited { "" } else { " empty" };
        let name = |what: &str| format!("containers: {count}{kind}: {what}");
        client.get(true)?;
        let mut costs = Vec::new();
        let mut next = Instant::now() + Duration::from_secs(interval_s);
        for round in 0..5 {
            let cpu_ns = agent.cpu_ns();
            thread::sleep(next.saturating_duration_since(Instant::now()));
            client.get(true)?;
            // What the scrape leaves behind, such as waking to close, belongs to it.
            thread::sleep(Duration::from_millis(200));
            if round > 0 {
                costs.push((agent.cpu_ns() - cpu_ns) as f64 / 1e6);
            }
            next += Duration::from_secs(interval_s);
        }
        let goal = Some(AtMost(goal_ms));
        figure(&name("CPU per interval, refresh, scrape and all, median"), median(&costs), "ms", goal);
        figure(&name("CPU per interval, best"), quantile(&costs, 0.0), "ms", None);
        let mut times = Vec::new();
        for _ in 0..if options.quick { 15 } else { 50 } {
            // Longer than anything is taken for fresh.
            thread::sleep(Duration::from_millis(500));
            let began = Instant::now();
            client.get(true)?;
            times.push(milliseconds(began.elapsed()));
        }
        figure(&name("scrape p50"), median(&times), "ms", None);
        figure(&name("scrape p99"), quantile(&times, 0.99), "ms", None);
        let text = client.get(false)?.body;
        let series =
            text.split(|&byte| byte == b'\n').filter(|line| line.first().is_some_and(|&byte| byte != b'#'));
        figure(&name("series"), series.count() as f64, "", None);
        figure(&name("VmRSS"), agent.status("VmRSS") / 1024.0, "MiB", None);
        figure(&name("VmHWM"), agent.status("VmHWM") / 1024.0, "MiB", None);
        let mut files = agent.descriptors()?;
        files.retain(|path| path.to_string_lossy().contains(MARK));
        drop(agent);
        figure(&name("files the agent keeps open"), files.len() as f64, "", None);
        figure(&name("floor: open, read, close"), floor(&files, false)?, "ms", None);
        figure(&name("floor: pread"), floor(&files, true)?, "ms", None);
    }
    Ok(())
}

/// CPU of one pass over `files`, in milliseconds; the median of some passes.
fn floor(files: &[PathBuf], keep_open: bool) -> io::Result<f64> {
    process::raise_open_files();
    let mut buffer = [0u8; 4096];
    let open: Vec<File> =
        if keep_open { files.iter().map(File::open).collect::<io::Result<_>>()? } else { Vec::new() };
    let mut costs = Vec::new();
    for _ in 0..7 {
        let began_ns = clock::process_cpu_ns();
        if keep_open {
            for file in &open {
                file.read_at(&mut buffer, 0)?;
            }
        } else {
            for path in files {
                File::open(path)?.read_at(&mut buffer, 0)?;
            }
        }
        costs.push((clock::process_cpu_ns() - began_ns) as f64 / 1e6);
        thread::sleep(Duration::from_millis(300));
    }
    Ok(median(&costs))
}

/// The value of a series in the text of a scrape, given as it is written there.
fn value(body: &str, series: &str) -> f64 {
    let value = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

// ---- containers that are only cgroups ---------------------------------------------------------------------------

fn container_id(number: usize) -> String {
    format!("{MARK}{number:048x}")
}

/// Mounts of all hierarchies, each once although some have a second name.
fn hierarchies() -> Vec<PathBuf> {
    let below = fs::read_dir(CGROUP_ROOT).into_iter().flatten().flatten();
    let all = below.map(|entry| entry.path()).chain([PathBuf::from(CGROUP_ROOT)]);
    let mounts = all.filter(|path| path.join("cgroup.procs").exists());
    let v2_alone = Path::new(CGROUP_ROOT).join("cgroup.controllers").exists();
    let mounts = mounts.filter(|path| !v2_alone || path == Path::new(CGROUP_ROOT));
    mounts.filter_map(|path| path.canonicalize().ok()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn container_directories(id: &str) -> Vec<PathBuf> {
    hierarchies().iter().map(|mount| mount.join("docker").join(id)).collect()
}

fn make_container(id: &str, name: &str) -> io::Result<()> {
    // Docker's own directory is not ours to write to; names are provisional then.
    let fake = Path::new(DOCKER_ROOT);
    if !fake.exists() || fake.join(MARK).exists() {
        let directory = fake.join("containers").join(id);
        fs::create_dir_all(&directory)?;
        fs::write(fake.join(MARK), "")?;
        let image = "registry.example/team/web:1.2.3";
        let config = format!(
            r#"{{"StreamConfig":{{}},"State":{{"Running":true,"Pid":1}},"ID":"{id}","Created":"2025-01-01T00:00:00Z","Path":"/web","Args":[],"Config":{{"Hostname":"{}","Env":["PATH=/bin"],"Image":"{image}","Labels":{{"com.example":"bench"}}}},"Image":"sha256:{id}","Name":"/{name}","Driver":"overlay2","MountPoints":{{}},"LogPath":"{DOCKER_ROOT}/containers/{id}/{id}-json.log"}}"#,
            &id[..12]
        );
        fs::write(directory.join("config.v2.json"), config)?;
    }
    for directory in container_directories(id) {
        fs::create_dir_all(directory)?;
    }
    Ok(())
}

/// Processes in containers that do nothing; they end with this.
#[derive(Default)]
struct Processes(Vec<Child>);

impl Processes {
    fn start_in(&mut self, id: &str) -> io::Result<()> {
        let process = Command::new("sleep").arg("infinity").spawn()?;
        let pid = process.id().to_string();
        self.0.push(process);
        // Not every v1 hierarchy takes a process without more ado; those that count do.
        container_directories(id)
            .iter()
            .for_each(|cgroup| drop(fs::write(cgroup.join("cgroup.procs"), &pid)));
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Removes a cgroup of ours with what is in it.
fn remove_cgroup(directory: &Path) {
    let inner = fs::read_dir(directory).into_iter().flatten().flatten();
    inner.for_each(|inner| drop(fs::remove_dir(inner.path())));
    for _ in 0..100 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in list.lines().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid > 1) {
            // SAFETY: only signals, and only processes of a run that was ended.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Removes all that any run of this bench ever left, and stops its agent.
fn clean_up() {
    restore_bpf_stats();
    if let Some(mut agent) = child().take() {
        let _ = agent.kill();
        let _ = agent.wait();
    }
    for mount in hierarchies() {
        let parent = mount.join("docker");
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(MARK) {
                remove_cgroup(&entry.path());
            }
        }
        // Only those that are empty go.
        let _ = fs::remove_dir(parent);
        let _ = fs::remove_dir(mount.join(AGENT_CGROUP));
    }
    let fake = Path::new(DOCKER_ROOT);
    if fake.join(MARK).exists() {
        for entry in fs::read_dir(fake.join("containers")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(MARK) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let _ = fs::remove_file(fake.join(MARK));
        let _ = fs::remove_dir(fake.join("containers"));
        let _ = fs::remove_dir(fake);
    }
}

fn clean_up_on(signals: &Signals) {
    let mut poll = PollSet::default();
    poll.add(signals.as_raw_fd(), Interest::Read);
    while poll.wait(-1).is_err() || signals.next().is_none() {}
    clean_up();
    std::process::exit(130);
}

// ---- the agent and a client -------------------------------------------------------------------------------------

struct Agent {
    pid: u32,
    address: SocketAddr,
    started: Instant,
    /// When it said that it serves.
    serves: Receiver<Instant>,
    /// `cpu.stat` of its cgroup.
    cpu: Option<PathBuf>,
}

impl Agent {
    /// Starts it with default flags and `flags`, and waits until it serves.
    fn start(options: &Options, flags: &[&str]) -> io::Result<Agent> {
        let agent = Agent::launch(options, flags)?;
        agent
            .serves
            .recv_timeout(Duration::from_secs(30))
            .map_err(|_| io::Error::other("the agent does not serve (root? see its stderr)"))?;
        Ok(agent)
    }

    fn launch(options: &Options, flags: &[&str]) -> io::Result<Agent> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let started = Instant::now();
        let mut spawned = Command::new(&options.binary)
            .arg(format!("--listen={address}"))
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = spawned.id();
        let stderr = spawned.stderr.take();
        *child() = Some(spawned);
        let (told, serves) = mpsc::channel();
        thread::spawn(move || {
            for line in
                stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok))
            {
                if line.contains("serves http") {
                    let _ = told.send(Instant::now());
                } else if line.contains("error") {
                    eprintln!("{line}");
                }
            }
        });
        let v2 = hierarchies().into_iter().find(|mount| mount.join("cgroup.controllers").exists());
        let cpu = v2.map(|mount| mount.join(AGENT_CGROUP)).filter(|cgroup| {
            fs::create_dir_all(cgroup).is_ok()
                && fs::write(cgroup.join("cgroup.procs"), pid.to_string()).is_ok()
        });
        Ok(Agent { pid, address, started, serves, cpu: cpu.map(|cgroup| cgroup.join("cpu.stat")) })
    }

    /// CPU time so far, in nanoseconds. That of its cgroup knows of children too, which the kernel forgets when they are
    /// reaped by themselves; without cgroup v2 it is that of its one thread.
    fn cpu_ns(&self) -> u64 {
        let stat = self.cpu.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let usage_us = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok());
        usage_us.map_or_else(|| self.scheduled_ns(), |us| us * 1000)
    }

    /// CPU time of its one thread, from the beginning.
    fn scheduled_ns(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    }

    /// A number of /proc/PID/status; sizes are in KiB.
    fn status(&self, field: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
    }

    /// What its descriptors stand for.
    fn descriptors(&self) -> io::Result<Vec<PathBuf>> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid))?;
        Ok(files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut agent) = child().take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if let Some(cgroup) = self.cpu.as_deref().and_then(Path::parent) {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// A kept-alive connection.
struct Client(TcpStream);

struct Answer {
    body: Vec<u8>,
}

impl Client {
    fn open(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client(stream))
    }

    fn get(&mut self, gzip: bool) -> io::Result<Answer> {
        self.get_path("/metrics", gzip)
    }

    fn get_path(&mut self, path: &str, gzip: bool) -> io::Result<Answer> {
        let encoding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: Prometheus/3.0.0\r\n{encoding}\
             Accept: text/plain;version=0.0.4;q=0.3,*/*;q=0.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
        );
        self.0.write_all(request.as_bytes())?;
        let mut data = Vec::new();
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let read = self.0.read(&mut buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            data.extend_from_slice(&buffer[..read]);
            let Some(end) = data.windows(4).take(4096).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&data[..end]).to_lowercase();
            if !head.starts_with("http/1.1 200") {
                return Err(io::Error::other(head));
            }
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let length: usize = length.ok_or_else(|| io::Error::other("no Content-Length"))?;
            if data.len() >= end + 4 + length {
                return Ok(Answer { body: data.split_off(end + 4) });
            }
        }
    }
}
