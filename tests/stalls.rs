//! File systems of containers that never answer: scrapes go on, other containers' counters grow, and nothing piles up.

mod support;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, of_container, turn};
use support::{ANSWER, Agent, Metrics, SetAtEnd, TempDir, until};

/// Processes whose command line lies in a page that nobody gives.
const VICTIMS: usize = 12;

/// More children than this at once would be piling up: one at work and one that hangs, of each kind.
const CHILDREN: usize = 4;

const CPU: &str = "container_resources_cpu_usage_seconds_total";
const KIND: &str = "container_application_type";

/// The program `tests/support/hang.c` at work; what hangs is let go when it is dropped.
struct Hang {
    child: Child,
    _directory: TempDir,
}

impl Hang {
    /// Starts it in a cgroup; `None` where there is no FUSE.
    #[track_caller]
    fn start(cgroup: &Cgroup) -> Option<Hang> {
        if !Path::new("/dev/fuse").exists() {
            support::skip("a file system that hangs: no /dev/fuse");
            return None;
        }
        let directory = TempDir::new("hang");
        let program = directory.path().join("hang");
        let output = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hang.c"))
            // cargo's own libraries are not the compiler's.
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap_or_else(|error| panic!("cc: {error}; `make test` installs it"));
        assert!(output.status.success(), "hang.c: {}", String::from_utf8_lossy(&output.stderr));
        let mut command = Command::new(program);
        command.arg("/var/log").arg(directory.path()).arg(VICTIMS.to_string());
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        cgroup.enter(&mut command);
        let mut child = command.spawn().expect("hang");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        assert_eq!((read.is_ok(), line.as_str()), (true, "ready\n"));
        Some(Hang { child, _directory: directory })
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that the agent has forked and the kernel has not let go of.
fn children(pid: u32) -> HashSet<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_there(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.contains(") ") && !status.contains(") Z ")
}

/// A scrape, how long it took at most so far, and whether children pile up.
fn watch(agent: &Agent, longest: &mut Duration) -> Metrics {
    let began = Instant::now();
    let metrics = agent.scrape();
    *longest = (*longest).max(began.elapsed());
    assert!(children(agent.pid()).len() <= CHILDREN, "{:?}", children(agent.pid()));
    metrics
}

#[test]
fn file_systems_that_never_answer_stop_nobody_else() {
    let _turn = turn();
    let (sick, healthy) = (Cgroup::docker(None), Cgroup::docker(None));
    let Some(hang) = Hang::start(&sick) else { return };
    let mut busy = healthy.bash("exec -a redis-server bash -c 'while :; do :; done'");
    let agent = Agent::start(&["--interval=1s", "--log-file=/var/log/memory/*.log"]);
    let mut longest = Duration::ZERO;
    let (mut last, mut moves) = (0.0, 0);
    let is_local = fs::read_to_string("/proc/self/mounts").unwrap().lines().any(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        words[1] == "/" && words[2].starts_with("ext")
    });
    let metrics = until("a child is given up", Duration::from_secs(60), || {
        let metrics = watch(&agent, &mut longest);
        let cpu = of_container(&metrics, CPU, &healthy.container_id());
        moves += u32::from(cpu > last);
        last = cpu;
        let has_kind = metrics
            .value(KIND, &[("container_id", &healthy.container_id()), ("application_type", "redis")])
            .is_some();
        let abandoned = metrics.sum("nodeprobe_filesystem_probes_abandoned_total", &[]);
        (has_kind && moves > 3 && (abandoned > 0.0 || !is_local)).then_some(metrics)
    });
    assert_eq!(of_container(&metrics, "container_processes", &sick.container_id()), 2.0 + VICTIMS as f64);
    // Another turn of everything: those that hang are not asked again.
    let abandoned = metrics.sum("nodeprobe_filesystem_probes_abandoned_total", &[]);
    let next = Cgroup::docker(None);
    let mut other = next.bash("exec -a memcached bash -c 'while :; do sleep 1; done'");
    let metrics = until("a container that came later is known", Duration::from_secs(60), || {
        let metrics = watch(&agent, &mut longest);
        let labels = [("container_id", &*next.container_id()), ("application_type", "memcached")];
        metrics.value(KIND, &labels).is_some().then_some(metrics)
    });
    assert!(metrics.sum("nodeprobe_filesystem_probes_abandoned_total", &[]) <= abandoned + 1.0);
    assert!(metrics.sum("nodeprobe_command_probes_abandoned_total", &[]) <= 1.0, "one for a container");
    println!("the longest scrape beside a file system that hangs: {longest:?}");

    let left = children(agent.pid());
    let (status, took, said) = agent.stop();
    println!("it ended in {took:?}, {} children hang", left.len());
    assert_eq!(status.code(), Some(0), "{said:#?}");
    drop(hang);
    until("the kernel lets go of the children", ANSWER, || {
        left.iter().all(|pid| !is_there(*pid)).then_some(())
    });
    for child in [&mut busy, &mut other] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A child that is stopped says nothing, as one that hangs. One lives for a millisecond: there are many, and somebody does
/// nothing but look for them.
#[test]
fn a_child_that_says_nothing_is_given_up_and_counted() {
    let _turn = turn();
    let container = Cgroup::docker(None);
    let agent = Agent::start(&["--interval=1s"]);
    let mut process = container.bash("while :; do sleep 60 & sleep 0.1; done");
    let (is_over, pid) = (AtomicBool::new(false), agent.pid());
    let stopped = std::thread::scope(|scope| {
        let over = SetAtEnd(&is_over);
        let hunter = scope.spawn(|| {
            let mut stopped = HashSet::new();
            while !is_over.load(Ordering::Relaxed) {
                for child in children(pid) {
                    // SAFETY: kill takes no pointers; it is a child of the agent, whatever it does.
                    unsafe { libc::kill(child as libc::pid_t, libc::SIGSTOP) };
                    stopped.insert(child);
                }
            }
            stopped
        });
        let began = Instant::now();
        let mut abandoned = 0.0;
        while abandoned == 0.0 && began.elapsed() < Duration::from_secs(90) {
            let metrics = agent.scrape();
            abandoned = metrics.sum("nodeprobe_filesystem_probes_abandoned_total", &[])
                + metrics.sum("nodeprobe_command_probes_abandoned_total", &[]);
            std::thread::sleep(Duration::from_millis(200));
        }
        drop(over);
        let stopped = hunter.join().unwrap();
        assert!(abandoned > 0.0, "{} children were stopped, and none was given up", stopped.len());
        stopped
    });
    until("it is killed", ANSWER, || (children(agent.pid()).len() <= 2).then_some(()));
    assert_eq!(agent.stop().0.code(), Some(0));
    until("none is left", ANSWER, || stopped.iter().all(|pid| !is_there(*pid)).then_some(()));
    let _ = process.kill();
    let _ = process.wait();
}
