//! Processes of containers against this kernel: how many started and ended, restarts, types of applications. Needs root and a
//! cgroup mount.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, of_container, turn};
use support::puppet::Puppet;
use support::tcp::Storm;
use support::{ANSWER, Agent, Metrics, TempDir, until};

const RESTARTS: &str = "container_restarts_total";
const PROCESSES: &str = "container_processes";
const STARTED: &str = "container_processes_started_total";
const EXITED: &str = "container_processes_exited_total";
const EXECS: &str = "container_process_execs_total";
const LOST: &str = "nodeprobe_process_events_lost_total";
const APPLICATION: &str = "container_application_type";

/// Waits until a family of a container has this value; a scrape may be a moment behind.
#[track_caller]
fn becomes(agent: &Agent, family: &str, container: &str, wanted: f64) {
    let mut last = f64::NAN;
    let began = Instant::now();
    while last != wanted {
        last = of_container(&agent.scrape(), family, container);
        assert!(began.elapsed() < ANSWER, "{family} of {container} is {last}, not {wanted}");
    }
}

/// Waits until the agent knows the container.
#[track_caller]
fn is_known(agent: &Agent, cgroup: &Cgroup) {
    let id = cgroup.container_id();
    until("the container is known", ANSWER, || agent.scrape().value(RESTARTS, &[("container_id", &id)]));
}

/// A process in the cgroup that ends when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(cgroup: &Cgroup) -> Sleeper {
        let mut command = Command::new("/bin/sleep");
        cgroup.enter(&mut command);
        Sleeper(command.arg("1000").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_of_milliseconds_are_counted_to_the_last() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroups: Vec<Cgroup> = (0..20).map(|_| Cgroup::docker(None)).collect();
    // A python that forks 100 children that end at once, every tenth of which has executed another program.
    let script = "import os\nfor n in range(100):\n pid = os.fork()\n if not pid:\n  if n % 10 == 0: os.execv('/bin/true', ['true'])\n  os._exit(n % 3)\n os.waitpid(pid, 0)";
    let children: Vec<Child> = cgroups
        .iter()
        .map(|cgroup| {
            let mut command = Command::new("/usr/bin/python3");
            command.env_remove("LD_LIBRARY_PATH").args(["-S", "-E", "-c", script]);
            cgroup.enter(&mut command);
            command.spawn().unwrap()
        })
        .collect();
    let mut last = vec![0.0; cgroups.len()];
    for mut child in children {
        while child.try_wait().unwrap().is_none() {
            let metrics = agent.scrape();
            for (cgroup, last) in cgroups.iter().zip(&mut last) {
                let now = of_container(&metrics, STARTED, &cgroup.container_id());
                assert!(now >= *last && now <= 101.0, "{last}, then {now}");
                *last = now;
            }
        }
        assert!(child.wait().unwrap().success());
    }
    for cgroup in &cgroups {
        let id = cgroup.container_id();
        becomes(&agent, EXITED, &id, 101.0);
        let metrics = agent.scrape();
        assert_eq!(of_container(&metrics, STARTED, &id), 101.0);
        let (execs, lost) = (of_container(&metrics, EXECS, &id), metrics.sum(LOST, &[]));
        assert!(execs <= 11.0 && execs + lost >= 11.0, "{execs} and {lost} lost");
        assert_eq!(of_container(&metrics, PROCESSES, &id), 0.0);
        assert_eq!(of_container(&metrics, RESTARTS, &id), 0.0);
    }
    println!("{} processes in 20 cgroups, started and exited each counted", 101 * 20);
}

/// Whatever runs on the processor when the kernel lets go of a process.
#[test]
fn processes_of_many_short_containers_are_counted_exactly() {
    let _turn = turn();
    let agent = Agent::start(&["--collector.tcp=off"]);
    let cgroups: Vec<Cgroup> = (0..300)
        .map(|_| {
            let cgroup = Cgroup::docker(None);
            for _ in 0..3 {
                let mut command = Command::new("/bin/true");
                cgroup.enter(&mut command);
                command.status().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
            cgroup
        })
        .collect();
    let began = Instant::now();
    let wrong = |agent: &Agent| {
        let metrics = agent.scrape();
        let count = |family, id: &str| of_container(&metrics, family, id);
        let ids = cgroups.iter().map(Cgroup::container_id);
        ids.map(|id| [STARTED, EXITED, EXECS].map(|family| count(family, &id)))
            .filter(|counts| *counts != [3.0; 3])
            .collect::<Vec<_>>()
    };
    while !wrong(&agent).is_empty() && began.elapsed() < ANSWER {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(wrong(&agent), Vec::<[f64; 3]>::new(), "started, exited and executed that are not 3 each");
    // Nor does letting go of them count anew.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(wrong(&agent), Vec::<[f64; 3]>::new());
}

#[test]
fn threads_do_not_count_and_the_last_one_ends_the_process() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let id = cgroup.container_id();
    // 200 processes of eight threads that end together.
    cgroup.run(
        "exec /usr/bin/python3 -S -E -c 'import os, threading
for n in range(200):
    pid = os.fork()
    if not pid:
        gate = threading.Barrier(9)
        def end():
            gate.wait()
        for t in range(8): threading.Thread(target=end).start()
        gate.wait()
        os._exit(0)
    os.waitpid(pid, 0)'",
    );
    becomes(&agent, EXITED, &id, 201.0);
    // One whose first thread ends before the other: the process lives on, and ends once.
    let mut puppet = Puppet::start(Some(&cgroup), None);
    becomes(&agent, PROCESSES, &id, 1.0);
    puppet.run(
        "import os, threading, time, ctypes
read, write = os.pipe()
kept = os.fork()
if not kept:
    def stay():
        os.read(read, 1)
        os._exit(0)
    threading.Thread(target=stay).start()
    ctypes.CDLL(None).syscall(60, 0)",
    );
    becomes(&agent, PROCESSES, &id, 2.0);
    std::thread::sleep(Duration::from_millis(300));
    becomes(&agent, PROCESSES, &id, 2.0);
    assert_eq!(of_container(&agent.scrape(), EXITED, &id), 201.0);
    puppet.run("os.write(write, b'x'); os.waitpid(kept, 0)");
    becomes(&agent, EXITED, &id, 202.0);
    becomes(&agent, PROCESSES, &id, 1.0);
    // One that executes another program from a thread that is not its first.
    puppet.run(
        "kept = os.fork()
if not kept:
    threading.Thread(target=lambda: os.execv('/bin/true', ['true'])).start()
    time.sleep(100)
os.waitpid(kept, 0)",
    );
    becomes(&agent, EXITED, &id, 203.0);
    puppet.kill();
    becomes(&agent, EXITED, &id, 204.0);
    assert_eq!(of_container(&agent.scrape(), STARTED, &id), 204.0);
    assert_eq!(of_container(&agent.scrape(), PROCESSES, &id), 0.0);
}

#[test]
fn restarts_in_a_cgroup_and_of_a_cgroup() {
    let _turn = turn();
    // One that has a process before the agent starts, and one that has none.
    let (early, empty) = (Cgroup::docker(None), Cgroup::docker(None));
    let early_id = early.container_id();
    let old = Sleeper::start(&early);
    let agent = Agent::start(&[]);
    becomes(&agent, PROCESSES, &early_id, 1.0);
    is_known(&agent, &empty);
    for cgroup in [&early, &empty] {
        assert_eq!(of_container(&agent.scrape(), RESTARTS, &cgroup.container_id()), 0.0);
    }
    drop(Sleeper::start(&empty));
    becomes(&agent, EXITED, &empty.container_id(), 1.0);
    assert_eq!(of_container(&agent.scrape(), RESTARTS, &empty.container_id()), 0.0, "its first process");
    // A second process beside the first is none, nor is the end of the first one.
    let second = Sleeper::start(&early);
    drop(old);
    becomes(&agent, EXITED, &early_id, 1.0);
    assert_eq!(of_container(&agent.scrape(), RESTARTS, &early_id), 0.0);
    drop(second);
    // Five in the same second.
    let began = Instant::now();
    for _ in 0..5 {
        drop(Sleeper::start(&early));
    }
    println!("five restarts in {:?}", began.elapsed());
    becomes(&agent, RESTARTS, &early_id, 5.0);
    becomes(&agent, EXITED, &early_id, 7.0);

    // The cgroup is removed and made again under the same path, as docker and systemd do.
    let path = early.path.clone();
    drop(early);
    let again = Cgroup::make(&path, None);
    let kept = Sleeper::start(&again);
    becomes(&agent, RESTARTS, &early_id, 6.0);
    drop(kept);
    drop(again);
    // Twice within a moment, nobody looking.
    for _ in 0..2 {
        let again = Cgroup::make(&path, None);
        drop(Sleeper::start(&again));
        drop(again);
    }
    becomes(&agent, RESTARTS, &early_id, 8.0);
    becomes(&agent, EXITED, &early_id, 10.0);
    becomes(&agent, STARTED, &early_id, 10.0);
}

#[test]
fn a_container_of_one_hierarchy_is_restarted_too() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    for (name, _) in support::cgroup::hierarchies() {
        if !["unified", "memory", "cpu", "pids"].contains(&name.as_str()) {
            continue;
        }
        let cgroup = Cgroup::docker(Some(&[&name]));
        for _ in 0..3 {
            drop(Sleeper::start(&cgroup));
        }
        becomes(&agent, RESTARTS, &cgroup.container_id(), 2.0);
        becomes(&agent, EXITED, &cgroup.container_id(), 3.0);
    }
}

/// Starts `file` in the cgroup under the name `name`.
fn start_as(cgroup: &Cgroup, file: &Path, name: &str, arguments: &[&str]) -> Sleeper {
    let mut command = Command::new(file);
    cgroup.enter(&mut command);
    Sleeper(command.arg0(name).args(arguments).stdin(Stdio::piped()).spawn().unwrap())
}

fn types(agent: &Agent, cgroup: &Cgroup) -> Vec<String> {
    let metrics = agent.scrape();
    let id = cgroup.container_id();
    let mut words: Vec<String> = metrics
        .series(APPLICATION)
        .iter()
        .filter(|series| series.label("container_id") == id)
        .map(|series| series.label("application_type").to_owned())
        .collect();
    words.sort();
    words
}

#[track_caller]
fn types_become(agent: &Agent, cgroup: &Cgroup, wanted: &[&str]) {
    let mut last = Vec::new();
    let began = Instant::now();
    while last != wanted {
        last = types(agent, cgroup);
        assert!(began.elapsed() < ANSWER, "{last:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn applications_are_told_from_the_command_lines_of_who_lives() {
    let _turn = turn();
    let directory = TempDir::new("life");
    let sleep = Path::new("/bin/sleep");
    let copy = |name: &str| {
        let path = directory.path().join(name);
        fs::copy(sleep, &path).unwrap();
        path
    };
    let (redis, mysql) = (copy("redis-server"), copy("mysqld"));
    let cgroup = Cgroup::docker(None);
    let early = start_as(&cgroup, &redis, redis.to_str().unwrap(), &["1000"]);
    let agent = Agent::start(&[]);
    types_become(&agent, &cgroup, &["redis"]);
    let second = start_as(&cgroup, &redis, "redis-server", &["1001"]);
    let named = start_as(&cgroup, sleep, "postgres:", &["1000"]);
    let other = start_as(&cgroup, &mysql, "mysqld", &["1000"]);
    let unknown = start_as(&cgroup, sleep, "sleep", &["1000"]);
    let class = start_as(&cgroup, Path::new("/bin/bash"), "java", &["-c", "read x", "kafka.Kafka"]);
    types_become(&agent, &cgroup, &["kafka", "mysql", "postgres", "redis"]);
    drop(early);
    drop(named);
    drop(class);
    types_become(&agent, &cgroup, &["mysql", "redis"]);
    drop(second);
    drop(other);
    types_become(&agent, &cgroup, &[]);
    drop(unknown);
    // A shell that becomes a server.
    let script = format!("sleep 1.5; exec -a nginx {} 1000", sleep.display());
    let shell = start_as(&cgroup, Path::new("/bin/bash"), "bash", &["-c", &script]);
    types_become(&agent, &cgroup, &["nginx"]);
    drop(shell);
    types_become(&agent, &cgroup, &[]);
}

/// A script that runs the agent without some capabilities.
fn without(caps: &str, directory: &TempDir) -> PathBuf {
    let line =
        format!("exec /usr/bin/setpriv --bounding-set={caps} --inh-caps={caps} {} \"$@\"", support::BINARY);
    let script = directory.write("nodeprobe", format!("#!/bin/sh\n{line}\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

const NO_BPF: &str = "-bpf,-perfmon,-sys_admin";

fn has_door(agent: &Agent, door: &str) -> bool {
    agent.scrape().value("nodeprobe_processes_door_info", &[("door", door)]) == Some(1.0)
}

#[test]
fn process_events_count_to_the_last_without_bpf() {
    let _turn = turn();
    let directory = TempDir::new("life-events");
    let cgroup = Cgroup::docker(None);
    let id = cgroup.container_id();
    let agent = Agent::start_binary(&without(NO_BPF, &directory), &[]);
    is_known(&agent, &cgroup);
    assert!(has_door(&agent, "connector"));
    let before_s = cpu_seconds(agent.pid());
    cgroup.run("exec bash -c 'for n in {1..500}; do /bin/true; done; exit 0'");
    becomes(&agent, EXITED, &id, 501.0);
    let metrics = agent.scrape();
    println!("500 processes: {:.3} s of processor time", cpu_seconds(agent.pid()) - before_s);
    assert_eq!(of_container(&metrics, STARTED, &id), 501.0);
    assert_eq!(of_container(&metrics, EXECS, &id), 501.0);
    assert_eq!(of_container(&metrics, PROCESSES, &id), 0.0);
    assert_eq!(of_container(&metrics, RESTARTS, &id), 0.0);
    assert_eq!(metrics.sum(LOST, &[]), 0.0);
    // 50 processes of eight threads that end together, one whose first thread ends before the other, and one that executes
    // another program from a thread that is not its first.
    cgroup.run(
        "exec /usr/bin/python3 -S -E -c 'import os, threading, time, ctypes
for n in range(50):
    pid = os.fork()
    if not pid:
        gate = threading.Barrier(9)
        for t in range(8): threading.Thread(target=gate.wait).start()
        gate.wait()
        os._exit(0)
    os.waitpid(pid, 0)
if not os.fork():
    def stay():
        time.sleep(0.3)
        os._exit(0)
    threading.Thread(target=stay).start()
    ctypes.CDLL(None).syscall(60, 0)
os.wait()
if not os.fork():
    threading.Thread(target=lambda: os.execv(\"/bin/true\", [\"true\"])).start()
    time.sleep(100)
os.wait()'",
    );
    becomes(&agent, EXITED, &id, 554.0);
    becomes(&agent, RESTARTS, &id, 1.0);
    let metrics = agent.scrape();
    assert_eq!(of_container(&metrics, STARTED, &id), 554.0);
    assert_eq!(of_container(&metrics, EXECS, &id), 503.0);
    // Five runs in the same second, each long enough to be looked at.
    let began = Instant::now();
    for _ in 0..5 {
        let _run = Sleeper::start(&cgroup);
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("five restarts in {:?}", began.elapsed());
    becomes(&agent, RESTARTS, &id, 6.0);
    becomes(&agent, EXITED, &id, 559.0);
    // A shell that moves itself and then forks, a run like all others.
    cgroup.run("for n in {1..20}; do /bin/true; done; exit 0");
    becomes(&agent, RESTARTS, &id, 7.0);
    let kept = start_as(&cgroup, Path::new("/bin/sleep"), "redis-server", &["1000"]);
    types_become(&agent, &cgroup, &["redis"]);
    drop(kept);
    becomes(&agent, PROCESSES, &id, 0.0);
}

/// More processes than a stopped agent has room for their events. Nobody listens there: only that they are processes matters.
fn too_many_processes(cgroup: &Cgroup, storm: &Storm) {
    assert_eq!(storm.start(Some(cgroup), &["brief", "127.0.0.1", "1", "15000"]).made(), (0.0, 15_000.0));
}

#[test]
fn lost_process_events_are_counted_and_who_lives_is_found_again() {
    let _turn = turn();
    let directory = TempDir::new("life-lost");
    let cgroup = Cgroup::docker(None);
    let id = cgroup.container_id();
    let early = Sleeper::start(&cgroup);
    let agent = Agent::start_binary(&without(NO_BPF, &directory), &[]);
    becomes(&agent, PROCESSES, &id, 1.0);
    assert!(has_door(&agent, "connector"));
    let storm = Storm::new();
    agent.signal(libc::SIGSTOP);
    too_many_processes(&cgroup, &storm);
    drop(early);
    let _late = [(); 3].map(|()| Sleeper::start(&cgroup));
    agent.signal(libc::SIGCONT);
    becomes(&agent, PROCESSES, &id, 3.0);
    let metrics = agent.scrape();
    println!("{} events lost", metrics.sum(LOST, &[]));
    assert!(metrics.sum(LOST, &[]) > 0.0);
    let before = of_container(&metrics, EXITED, &id);
    cgroup.run("exec bash -c 'for n in {1..20}; do /bin/true; done; exit 0'");
    becomes(&agent, EXITED, &id, before + 21.0);
    becomes(&agent, PROCESSES, &id, 3.0);
}

/// What cannot be opened is not gone.
#[test]
fn without_descriptors_nobody_ends() {
    let _turn = turn();
    let directory = TempDir::new("life-descriptors");
    let storm = Storm::new();
    let no_events = format!("{NO_BPF},-net_admin");
    for (door, caps) in [("bpf", None), ("connector", Some(NO_BPF)), ("files", Some(&*no_events))] {
        let [cgroup, other] = [(); 2].map(|()| Cgroup::docker(None));
        let id = cgroup.container_id();
        let sleeper = Sleeper::start(&cgroup);
        let binary = caps.map_or(support::BINARY.into(), |caps| without(caps, &directory));
        let agent = Agent::start_binary(&binary, &["--interval=1s"]);
        becomes(&agent, PROCESSES, &id, 1.0);
        assert!(caps.is_none() || has_door(&agent, door));
        // Nobody else can connect in the meantime.
        let mut client = agent.connect();
        let mut scrape = || Metrics::parse(client.get("/metrics").text());
        scrape();
        agent.signal(libc::SIGSTOP);
        let usual = agent.deny_open_files();
        if door == "connector" {
            // Lost events have all processes compared with the lists, which cannot be had.
            too_many_processes(&other, &storm);
        }
        agent.signal(libc::SIGCONT);
        let (began, time_s) = (Instant::now(), if door == "connector" { 7 } else { 3 });
        while began.elapsed() < Duration::from_secs(time_s) {
            let metrics = scrape();
            assert_eq!([PROCESSES, RESTARTS].map(|family| of_container(&metrics, family, &id)), [1.0, 0.0]);
            assert!(door != "connector" || metrics.sum(LOST, &[]) > 0.0);
            std::thread::sleep(Duration::from_millis(100));
        }
        agent.limit_open_files(usual);
        drop(sleeper);
        becomes(&agent, PROCESSES, &id, 0.0);
        let metrics = agent.scrape();
        assert_eq!(of_container(&metrics, RESTARTS, &id), 0.0);
        if door != "files" {
            assert_eq!([STARTED, EXITED].map(|family| of_container(&metrics, family, &id)), [1.0, 1.0]);
        }
    }
}

/// Processor time a process has used.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
fn without_bpf_and_process_events_processes_are_polled() {
    let _turn = turn();
    let directory = TempDir::new("life-files");
    let script = without(&format!("{NO_BPF},-net_admin"), &directory);
    let cgroup = Cgroup::docker(None);
    let id = cgroup.container_id();
    let first = Sleeper::start(&cgroup);
    let agent = Agent::start_binary(&script, &[]);
    becomes(&agent, PROCESSES, &id, 1.0);
    let metrics = agent.scrape();
    assert_eq!(metrics.value("nodeprobe_processes_door_info", &[("door", "files")]), Some(1.0));
    assert!(metrics.series(STARTED).is_empty() && metrics.series(EXITED).is_empty());
    assert_eq!(of_container(&metrics, RESTARTS, &id), 0.0);
    let second = start_as(&cgroup, Path::new("/bin/sleep"), "redis-server", &["1000"]);
    becomes(&agent, PROCESSES, &id, 2.0);
    types_become(&agent, &cgroup, &["redis"]);
    drop(first);
    drop(second);
    becomes(&agent, PROCESSES, &id, 0.0);
    let _third = Sleeper::start(&cgroup);
    becomes(&agent, PROCESSES, &id, 1.0);
    becomes(&agent, RESTARTS, &id, 1.0);
}
