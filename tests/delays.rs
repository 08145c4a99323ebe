//! What containers waited for, against what each thread says of itself just before it ends. Root, and this kernel's taskstats.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::{Agent, BINARY, Metrics, TempDir, until};

const CPU: &str = "container_resources_cpu_delay_seconds_total";
const DISK: &str = "container_resources_disk_delay_seconds_total";
const LOST: &str = "nodeprobe_taskstats_lost_total";
const SYSCTL: &str = "/proc/sys/kernel/task_delayacct";

/// The program `tests/support/waits.c`.
struct Waits {
    directory: TempDir,
}

impl Waits {
    #[track_caller]
    fn new() -> Waits {
        let directory = TempDir::new("waits");
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(directory.path().join("waits"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/waits.c"))
            // cargo's own libraries are not the compiler's.
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap_or_else(|error| panic!("cc: {error}; `make test` installs it"));
        assert!(output.status.success(), "waits.c: {}", String::from_utf8_lossy(&output.stderr));
        Waits { directory }
    }

    #[track_caller]
    fn start(&self, cgroup: &Cgroup, args: &[&str]) -> Child {
        let mut command = Command::new(self.directory.path().join("waits"));
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        cgroup.enter(&mut command);
        command.spawn().expect("waits")
    }

    /// Busy processes, more than the two processors they stay on.
    #[track_caller]
    fn spin(&self, cgroup: &Cgroup, processes: u32, threads: u32) -> Spinners {
        let mut child = self.start(cgroup, &["spin", &processes.to_string(), &threads.to_string()]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..processes {
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
        }
        let list = fs::read_to_string(cgroup.directories[0].join("cgroup.procs")).unwrap();
        let pids: Vec<i32> = list.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), processes as usize);
        Spinners { child, pids }
    }
}

/// What a program of [`Waits`] says behind `word`, when it has ended.
#[track_caller]
fn said(mut child: Child, word: &str) -> f64 {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {text}");
    text.trim().strip_prefix(word).unwrap().trim().parse().unwrap()
}

struct Spinners {
    child: Child,
    pids: Vec<i32>,
}

impl Spinners {
    fn signal(&self, signal: i32) {
        for &pid in &self.pids {
            // SAFETY: kill takes no pointers; these are this test's own processes, which end when this is dropped.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Seconds their threads have waited, by /proc; they stand still meanwhile.
    #[track_caller]
    fn stop(&self) -> f64 {
        self.signal(libc::SIGSTOP);
        until("the processes stand still", Duration::from_secs(10), || {
            let is_still = |pid: &i32| {
                let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
                tasks.flatten().all(|task| {
                    let stat = fs::read_to_string(task.path().join("stat")).unwrap();
                    stat.rsplit_once(") ").unwrap().1.starts_with('T')
                })
            };
            self.pids.iter().all(is_still).then_some(())
        });
        let mut waited_ns = 0.0;
        for pid in &self.pids {
            for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap();
                waited_ns += text.split(' ').nth(1).unwrap().parse::<f64>().unwrap();
            }
        }
        waited_ns / 1e9
    }

    /// Ends them, which they may wait for too: seconds their threads can have waited at most meanwhile.
    #[track_caller]
    fn end(self, threads: u32) -> f64 {
        let began = Instant::now();
        let pids = self.pids.clone();
        drop(self);
        until("the processes have ended", Duration::from_secs(10), || {
            let has_ended = |pid: &i32| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
                // Their new parent may take its time.
                stat.is_err()
                    || stat.is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
            };
            pids.iter().all(has_ended).then_some(())
        });
        began.elapsed().as_secs_f64() * f64::from(threads)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }
}

fn value(metrics: &Metrics, family: &str, cgroup: &Cgroup) -> Option<f64> {
    metrics.value(family, &[("container_id", &cgroup.container_id())])
}

/// Scrapes until a family is within `tolerance` (of 1) of the truth; panics with what it is instead.
#[track_caller]
fn becomes(agent: &Agent, family: &str, cgroup: &Cgroup, truth: f64, tolerance: f64) -> Metrics {
    let began = Instant::now();
    loop {
        let metrics = agent.scrape();
        let is = value(&metrics, family, cgroup).unwrap_or(-1.0);
        if (is - truth).abs() <= truth * tolerance {
            println!("{family}: {is:.6}, truth {truth:.6}: {:+.4} %", (is / truth - 1.0) * 100.0);
            return metrics;
        }
        let told = |name| metrics.value(name, &[]).unwrap_or(-1.0);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{family} of {} is {is}, not {truth}; lost {}, unattributed {}",
            cgroup.container_id(),
            told(LOST),
            told("nodeprobe_taskstats_unattributed_total")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processor time the agent has used, in nanoseconds.
fn agent_ns(agent: &Agent) -> f64 {
    let text = fs::read_to_string(agent.proc("schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn short_lived_and_starved_processes_count_to_the_last() {
    let _turn = turn();
    let waits = Waits::new();
    let agent = Agent::start(&["--interval=1s"]);
    let [single, threads, spinning, forest] = [(); 4].map(|()| Cgroup::docker(None));
    let starved = waits.spin(&spinning, 3, 1);
    let many = waits.spin(&forest, 2, 4);
    let used = agent_ns(&agent);
    let running = waits.start(&single, &["brief", "1000", "4", "1", "5"]);
    let truth = said(running, "waited") / 1e9;
    let running = waits.start(&threads, &["brief", "1000", "2", "4", "5"]);
    let truth_of_threads = said(running, "waited") / 1e9;
    becomes(&agent, CPU, &single, truth, 0.01);
    becomes(&agent, CPU, &threads, truth_of_threads, 0.01);
    for (spinners, cgroup) in [(&starved, &spinning), (&many, &forest)] {
        for _ in 0..2 {
            let truth = spinners.stop();
            becomes(&agent, CPU, cgroup, truth, 0.01);
            spinners.signal(libc::SIGCONT);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    // The end of one that was asked about many times.
    let truth = many.stop();
    becomes(&agent, CPU, &forest, truth, 0.01);
    let more = many.end(8);
    let metrics = becomes(&agent, CPU, &forest, truth + more / 2.0, 0.01 + more / 2.0 / truth);
    assert_eq!(metrics.value(LOST, &[]), Some(0.0));
    assert_eq!(metrics.value("nodeprobe_taskstats_unattributed_total", &[]), Some(0.0));
    let records = metrics.value("nodeprobe_taskstats_records_total", &[]).unwrap();
    println!(
        "{records} records; the agent used {:.1} us for each, scrapes and all; {} KiB resident",
        (agent_ns(&agent) - used) / records / 1e3,
        agent.rss() / 1024
    );
}

#[test]
fn what_was_before_the_agent_is_not_counted() {
    let _turn = turn();
    let waits = Waits::new();
    let cgroup = Cgroup::docker(None);
    let spinners = waits.spin(&cgroup, 4, 1);
    std::thread::sleep(Duration::from_millis(500));
    let before = spinners.stop();
    assert!(before > 0.1);
    let agent = Agent::start(&["--interval=1s"]);
    assert_eq!(value(&agent.scrape(), CPU, &cgroup), Some(0.0));
    spinners.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(1000));
    let truth = spinners.stop() - before;
    becomes(&agent, CPU, &cgroup, truth, 0.01);
}

#[test]
fn lost_records_are_counted_and_made_up_for() {
    let _turn = turn();
    let waits = Waits::new();
    let agent = Agent::start(&["--interval=1s", "--taskstats-buffer=4096"]);
    let [cgroup, noise] = [(); 2].map(|()| Cgroup::docker(None));
    let spinners = waits.spin(&cgroup, 4, 1);
    agent.scrape();
    agent.signal(libc::SIGSTOP);
    said(waits.start(&noise, &["brief", "100", "4", "1", "1"]), "waited");
    // One ends unseen while the others go on.
    let truth = spinners.stop();
    agent.signal(libc::SIGCONT);
    let metrics = becomes(&agent, CPU, &cgroup, truth, 0.01);
    let metrics = until("the loss is counted", Duration::from_secs(10), || {
        (metrics.value(LOST, &[]) > Some(0.0)).then(|| agent.scrape())
    });
    println!("{:?} records lost", metrics.value(LOST, &[]));
    spinners.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    let truth = spinners.stop();
    becomes(&agent, CPU, &cgroup, truth, 0.01);
    let more = spinners.end(4);
    becomes(&agent, CPU, &cgroup, truth + more / 2.0, 0.01 + more / 2.0 / truth);
}

/// What cannot be opened is not gone.
#[test]
fn without_descriptors_nothing_counts_twice() {
    let _turn = turn();
    let waits = Waits::new();
    let agent = Agent::start(&["--interval=1s", "--taskstats-buffer=4096"]);
    let [cgroup, noise] = [(); 2].map(|()| Cgroup::docker(None));
    let spinners = waits.spin(&cgroup, 4, 1);
    std::thread::sleep(Duration::from_millis(500));
    let truth = spinners.stop();
    becomes(&agent, CPU, &cgroup, truth, 0.01);
    // Nobody else can connect in the meantime.
    let mut client = agent.connect();
    let mut scrape = || Metrics::parse(client.get("/metrics").text());
    scrape();
    agent.signal(libc::SIGSTOP);
    let usual = agent.deny_open_files();
    // Lost records have all processes looked at, which cannot be done.
    said(waits.start(&noise, &["brief", "100", "4", "1", "1"]), "waited");
    agent.signal(libc::SIGCONT);
    until("the loss is counted", Duration::from_secs(10), || {
        (scrape().value(LOST, &[]) > Some(0.0)).then_some(())
    });
    for _ in 0..30 {
        assert!(scrape().value("nodeprobe_taskstats_processes", &[]) >= Some(4.0), "they are known");
        std::thread::sleep(Duration::from_millis(100));
    }
    agent.limit_open_files(usual);
    spinners.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    let truth = spinners.stop();
    becomes(&agent, CPU, &cgroup, truth, 0.01);
}

/// `kernel.task_delayacct` as it was, when dropped.
struct Sysctl(String);

impl Sysctl {
    fn set(value: &str) -> Option<Sysctl> {
        let before = fs::read_to_string(SYSCTL).ok()?;
        fs::write(SYSCTL, value).ok()?;
        Some(Sysctl(before))
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let _ = fs::write(SYSCTL, &self.0);
    }
}

#[test]
fn block_io_counts_while_the_kernel_accounts_for_it() {
    let _turn = turn();
    let Some(_before) = Sysctl::set("0") else {
        return support::skip("no kernel.task_delayacct, Linux before 5.14");
    };
    let waits = Waits::new();
    let cgroup = Cgroup::docker(None);
    let agent = Agent::start(&[]);
    let metrics = agent.scrape();
    assert_eq!(metrics.value("nodeprobe_delayacct_info", &[("state", "off")]), Some(1.0));
    assert_eq!(value(&metrics, DISK, &cgroup), None);
    assert_eq!(value(&metrics, CPU, &cgroup), Some(0.0));
    drop(agent);
    let agent = Agent::start(&["--enable-delayacct"]);
    assert_eq!(fs::read_to_string(SYSCTL).unwrap().trim(), "1");
    let metrics = agent.scrape();
    assert_eq!(metrics.value("nodeprobe_delayacct_info", &[("state", "on")]), Some(1.0));
    assert_eq!(value(&metrics, DISK, &cgroup), Some(0.0));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("waits-{}", std::process::id()));
    let ticks = said(waits.start(&cgroup, &["write", file.to_str().unwrap(), "50"]), "ticks");
    let _ = fs::remove_file(&file);
    if ticks >= 20.0 {
        // The number of ticks is rounded down.
        becomes(&agent, DISK, &cgroup, (ticks + 0.5) / 100.0, 0.05);
    } else {
        support::skip(&format!("the disk of {} makes nobody wait ({ticks} ticks)", file.display()));
    }
    let (status, ..) = agent.stop();
    assert!(status.success());
    assert_eq!(fs::read_to_string(SYSCTL).unwrap().trim(), "0", "as it was");
}

/// A script that runs the agent without some capabilities.
fn without(capabilities: &[&str], directory: &TempDir) -> PathBuf {
    let list: Vec<String> = capabilities.iter().map(|name| format!("-{name}")).collect();
    let list = list.join(",");
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set={list} --inh-caps={list} {BINARY} \"$@\"\n");
    let path = directory.path().join("nodeprobe");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn without_bpf_parents_say_whose_a_process_was() {
    let _turn = turn();
    let waits = Waits::new();
    let directory = TempDir::new("without-bpf");
    let agent = without(&["bpf", "perfmon", "sys_admin"], &directory);
    let agent = Agent::start_binary(&agent, &["--interval=1s"]);
    let [single, threads] = [(); 2].map(|()| Cgroup::docker(None));
    let spinners = waits.spin(&single, 2, 1);
    agent.scrape();
    let waited = said(waits.start(&single, &["brief", "500", "4", "1", "5"]), "waited") / 1e9;
    let waited_of_threads = said(waits.start(&threads, &["brief", "300", "4", "4", "5"]), "waited") / 1e9;
    let truth = spinners.stop() + waited;
    becomes(&agent, CPU, &threads, waited_of_threads, 0.01);
    let metrics = becomes(&agent, CPU, &single, truth, 0.01);
    assert_eq!(metrics.value("nodeprobe_taskstats_door_info", &[("door", "proc")]), Some(1.0));
}

#[test]
fn without_the_right_to_ask_it_is_absent() {
    let _turn = turn();
    let directory = TempDir::new("without-net-admin");
    let mut command = Command::new(without(&["net_admin"], &directory));
    command.arg("once").env_clear();
    let output = support::run_command(command, support::ANSWER);
    let metrics = Metrics::parse(std::str::from_utf8(&output.stdout).unwrap());
    let labels = [("collector", "delays"), ("reason", "no_permission")];
    assert_eq!(metrics.value("nodeprobe_collector_info", &labels), Some(1.0));
}
