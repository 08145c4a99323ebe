//! Kills for want of memory against this kernel: main processes and children, of cgroups that stay and that go with the kill.
//! Needs root, a cgroup mount and the memory controller.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, of_container, turn};
use support::puppet::Puppet;
use support::{ANSWER, Agent, TempDir, until};

const KILLS: &str = "container_oom_kills_total";

/// Room for python, and not for much more.
const LIMIT: &str = "33554432";

/// Takes memory until the kernel has none left.
const GREED: &str = "x = []\nwhile 1: x.append(bytearray(1 << 20))";

/// Gives the cgroup's memory a limit.
fn limit(cgroup: &Cgroup) {
    cgroup.hand_down();
    let is_limited = cgroup.directories.iter().any(|directory| {
        if fs::write(directory.join("memory.limit_in_bytes"), LIMIT).is_ok() {
            return true;
        }
        let _ = fs::write(directory.join("memory.swap.max"), "0");
        fs::write(directory.join("memory.max"), LIMIT).is_ok()
    });
    assert!(is_limited, "no memory controller for {}", cgroup.path);
}

fn limited() -> Cgroup {
    let cgroup = Cgroup::docker(None);
    limit(&cgroup);
    cgroup
}

/// Has a process of the cgroup killed.
fn kill_one(cgroup: &Cgroup) {
    let mut command = Command::new("/usr/bin/python3");
    command.env_remove("LD_LIBRARY_PATH").args(["-S", "-E", "-c", GREED]);
    cgroup.enter(&mut command);
    let status = command.status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
}

/// What the kernel's own file says of the cgroup.
fn told(cgroup: &Cgroup) -> u64 {
    let files = ["memory.oom_control", "memory.events"];
    let text = cgroup.directories.iter().flat_map(|directory| files.map(|file| directory.join(file)));
    let text = text.into_iter().find_map(|file| fs::read_to_string(file).ok()).expect("a memory cgroup");
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.expect("oom_kill").parse().unwrap()
}

#[track_caller]
fn becomes(agent: &Agent, container: &str, wanted: f64) {
    let mut last = f64::NAN;
    let began = Instant::now();
    while last != wanted {
        last = agent.scrape().value(KILLS, &[("container_id", container)]).unwrap_or(f64::NAN);
        assert!(last.is_nan() || last <= wanted, "{last} of {wanted} kills of {container}");
        assert!(began.elapsed() < ANSWER, "{last} of {wanted} kills of {container}");
    }
}

#[test]
fn every_kill_counts_once() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let mut made = 0.0;
    // Main processes, whose containers are removed at once: nobody can read their files any more.
    let mut gone = Vec::new();
    for _ in 0..8 {
        let cgroup = limited();
        kill_one(&cgroup);
        gone.push(cgroup.container_id());
        drop(cgroup);
        made += 1.0;
    }
    for container in &gone {
        becomes(&agent, container, 1.0);
    }
    // One that is made anew under its name each time.
    let path = format!("/docker/{}", support::cgroup::container_id());
    let mut container = String::new();
    for _ in 0..4 {
        let again = Cgroup::make(&path, None);
        limit(&again);
        kill_one(&again);
        container = again.container_id();
        made += 1.0;
    }
    becomes(&agent, &container, 4.0);
    // Children of a main process that lives on, each read while it happens.
    let cgroup = limited();
    let mut puppet = Puppet::start(Some(&cgroup), None);
    becomes(&agent, &cgroup.container_id(), 0.0);
    for count in 1..=8 {
        puppet.run(&format!(
            "import os
kept = os.fork()
if not kept:
    open('/proc/self/oom_score_adj', 'w').write('1000')
    {}
assert os.waitpid(kept, 0)[1] == 9",
            GREED.replace('\n', "\n    ")
        ));
        becomes(&agent, &cgroup.container_id(), f64::from(count));
        made += 1.0;
    }
    assert_eq!(told(&cgroup), 8);
    assert!(made >= 20.0);
    // All of them stay as they are; those of the dead for the linger time.
    let metrics = agent.scrape();
    let sum: f64 = gone
        .iter()
        .chain([&container, &cgroup.container_id()])
        .map(|id| of_container(&metrics, KILLS, id))
        .sum();
    assert_eq!(sum, made);
    println!("{sum} of {made} kills");
    // A process that is killed for another reason is none.
    puppet.run("kept = os.fork()\nif not kept: time.sleep(100)\nos.kill(kept, 9); os.waitpid(kept, 0)");
    puppet.kill();
    std::thread::sleep(Duration::from_millis(1100));
    becomes(&agent, &cgroup.container_id(), 8.0);
}

/// The thread that is marked need not be the first, which may have ended long ago.
#[test]
fn a_process_without_its_first_thread_counts_too() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = limited();
    let mut puppet = Puppet::start(Some(&cgroup), None);
    puppet.run(&format!(
        "import os, threading, ctypes
kept = os.fork()
if not kept:
    open('/proc/self/oom_score_adj', 'w').write('1000')
    def eat():
        time.sleep(0.3)
        {}
    for n in range(3): threading.Thread(target=eat).start()
    ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
assert os.waitpid(kept, 0)[1] == 9",
        GREED.replace('\n', "\n        ")
    ));
    becomes(&agent, &cgroup.container_id(), 1.0);
    assert_eq!(told(&cgroup), 1);
}

/// v1 counts in a cgroup's file what was killed in that very cgroup; the container has it all.
#[test]
fn cgroups_below_count_for_their_container() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let below = Cgroup::make(&format!("{}/inner", cgroup.path), None);
    limit(&below);
    kill_one(&below);
    kill_one(&below);
    becomes(&agent, &cgroup.container_id(), 2.0);
    drop(below);
    becomes(&agent, &cgroup.container_id(), 2.0);
}

/// What was before the agent is in the kernel's file, and what follows comes on top of it, file or not.
#[test]
fn kills_before_the_agent_count_as_the_kernel_says() {
    let _turn = turn();
    let cgroup = limited();
    kill_one(&cgroup);
    kill_one(&cgroup);
    let agent = Agent::start(&[]);
    let container = cgroup.container_id();
    becomes(&agent, &container, 2.0);
    kill_one(&cgroup);
    becomes(&agent, &container, 3.0);
    kill_one(&cgroup);
    drop(cgroup);
    becomes(&agent, &container, 4.0);
}

#[test]
fn without_bpf_the_kernels_file_tells() {
    let _turn = turn();
    let directory = TempDir::new("oom-files");
    let caps = "-bpf,-perfmon,-sys_admin";
    let line =
        format!("exec /usr/bin/setpriv --bounding-set={caps} --inh-caps={caps} {} \"$@\"", support::BINARY);
    let script = directory.write("nodeprobe", format!("#!/bin/sh\n{line}\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let agent = Agent::start_binary(&script, &[]);
    let cgroup = limited();
    let container = cgroup.container_id();
    becomes(&agent, &container, 0.0);
    for count in 1..=3 {
        kill_one(&cgroup);
        becomes(&agent, &container, f64::from(count));
    }
    let metrics = agent.scrape();
    assert_eq!(metrics.value("nodeprobe_oom_door_info", &[("door", "files")]), Some(1.0));
}

#[test]
fn counters_end_after_the_linger_time() {
    let _turn = turn();
    let agent = Agent::start(&["--linger=2s", "--interval=1s"]);
    let cgroup = limited();
    let container = cgroup.container_id();
    kill_one(&cgroup);
    drop(cgroup);
    becomes(&agent, &container, 1.0);
    until("the counter ends", ANSWER, || {
        agent.scrape().value(KILLS, &[("container_id", &container)]).is_none().then_some(())
    });
}
