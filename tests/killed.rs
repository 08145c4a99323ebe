//! `kill -9` a hundred times under load, and what it leaves: nothing in the kernel, no process, no half-written file.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, of_container, turn};
use support::{ANSWER, Agent, BINARY, Dice, SetAtEnd, TempDir, until};

const KILLS: u32 = 100;

/// Agents that are killed once they serve; the others at any moment of their start.
const SERVING: u32 = 10;

/// commands of bpf(2), `enum bpf_cmd` of include/uapi/linux/bpf.h.
const PROG_GET_NEXT_ID: i32 = 11;
const MAP_GET_NEXT_ID: i32 = 12;
const PROG_GET_FD_BY_ID: i32 = 13;
const MAP_GET_FD_BY_ID: i32 = 14;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const TASK_FD_QUERY: i32 = 20;
const LINK_GET_NEXT_ID: i32 = 31;

/// `BPF_FD_TYPE_UPROBE` and `BPF_FD_TYPE_URETPROBE`.
const UPROBES: [u32; 2] = [4, 5];

/// bpf(2) with the first words of its attributes; gives those back, and what the call gave.
fn bpf(command: i32, mut words: [u32; 16]) -> ([u32; 16], i64) {
    // SAFETY: the kernel reads and writes at most the size that is given, all of it ours; pointers in it are the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, words.as_mut_ptr(), size_of_val(&words)) };
    (words, result)
}

fn ids(command: i32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut last = 0;
    loop {
        let mut words = [0; 16];
        words[0] = last;
        let (words, result) = bpf(command, words);
        if result != 0 {
            return found;
        }
        last = words[1];
        found.insert(last);
    }
}

/// The name of a program (at byte 64 of `struct bpf_prog_info`) or a map (byte 24 of `struct bpf_map_info`).
fn name(by_id: i32, id: u32, at: usize) -> Option<String> {
    let mut words = [0; 16];
    words[0] = id;
    let (_, fd) = bpf(by_id, words);
    if fd < 0 {
        return None;
    }
    let mut info = [0u8; 128];
    let pointer = info.as_mut_ptr() as u64;
    let mut words = [0; 16];
    (words[0], words[1]) = (fd as u32, info.len() as u32);
    (words[2], words[3]) = (pointer as u32, (pointer >> 32) as u32);
    let (_, result) = bpf(OBJ_GET_INFO_BY_FD, words);
    // SAFETY: a descriptor that bpf(2) has just given to us.
    unsafe { libc::close(fd as i32) };
    let text = info.get(at..at + 16)?;
    (result == 0).then(|| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

/// Programs, maps and links of the whole system by name, with how many there are. Links have no name and count together.
fn objects() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (next, by_id, at, kind) in
        [(PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, 64, "program"), (MAP_GET_NEXT_ID, MAP_GET_FD_BY_ID, 24, "map")]
    {
        for name in ids(next).into_iter().filter_map(|id| name(by_id, id, at)) {
            *found.entry(format!("{kind} {name}")).or_default() += 1;
        }
    }
    found.insert("links".to_owned(), ids(LINK_GET_NEXT_ID).len());
    found
}

/// What `now` has more of than `before`.
fn more(before: &BTreeMap<String, usize>, now: &BTreeMap<String, usize>) -> Vec<String> {
    let grown = now.iter().filter(|(name, count)| before.get(*name).is_none_or(|before| before < count));
    grown.map(|(name, _)| name.clone()).collect()
}

/// All settings below /proc/sys that can be read.
fn sysctls() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::from("/proc/sys")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            } else if let Ok(text) = fs::read(entry.path()) {
                found.insert(entry.path(), text);
            }
        }
    }
    found
}

fn changed(before: &BTreeMap<PathBuf, Vec<u8>>, now: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<PathBuf> {
    // Those of interfaces come and go with them.
    let is_other = |path: &&PathBuf| now.get(*path).is_some_and(|text| Some(text) != before.get(*path));
    before.keys().filter(is_other).cloned().collect()
}

/// Counters and random numbers of the kernel that stand among the settings.
fn is_counter(path: &Path) -> bool {
    let text = path.to_string_lossy();
    ["/random/", "-nr", "-state", "ns_last_pid", "/pty/nr", "_count", "/quota/", "perf_event_max_sample_rate"]
        .iter()
        .any(|part| text.contains(part))
}

fn modules() -> BTreeSet<String> {
    let list = fs::read_to_string("/proc/modules").unwrap_or_default();
    list.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

/// Processes that execute the program under test.
fn agents() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.as_path() == Path::new(BINARY))
    })
    .collect()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/1/mountinfo").unwrap_or_default().lines().count()
}

/// What an agent holds open that is a uprobe.
fn uprobes(agent: &Agent) -> usize {
    let fds = fs::read_dir(agent.proc("fd")).expect("the agent lives").flatten();
    let is_uprobe = |fd: u32| {
        let mut words = [0; 16];
        (words[0], words[1]) = (agent.pid(), fd);
        let (words, result) = bpf(TASK_FD_QUERY, words);
        // pid, fd, flags, buf_len, buf, prog_id, fd_type: the eighth word.
        result == 0 && UPROBES.contains(&words[7])
    };
    let numbers = fds.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&fd| is_uprobe(fd) || is_uprobe_link(agent, fd)).count()
}

/// A link of the kind `uprobe_multi` says so in its fdinfo.
fn is_uprobe_link(agent: &Agent, fd: u32) -> bool {
    let info = fs::read_to_string(agent.proc(&format!("fdinfo/{fd}"))).unwrap_or_default();
    info.lines().any(|line| line.starts_with("link_type:") && line.contains("uprobe"))
}

#[test]
fn a_hundred_kills_leave_nothing() {
    let _turn = turn();
    let (first, uprobe_events) = (sysctls(), "/sys/kernel/tracing/uprobe_events");
    let before = (objects(), modules(), mounts(), fs::read(uprobe_events).ok());
    // What moves by itself while nobody does anything.
    thread::sleep(Duration::from_millis(200));
    let moving = changed(&first, &sysctls());
    let state = TempDir::new("state");
    let state_flag = format!("--state-dir={}", state.path().display());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(drop));

    // Connections, programs that are executed, cgroups that come and go.
    let over = AtomicBool::new(false);
    let steady = Cgroup::docker(None);
    let connect = format!("while :; do : < /dev/tcp/127.0.0.1/{port}; /bin/true; done");
    let mut load = steady.bash(&connect);
    let began = Instant::now();
    let mut dice = Dice::new(9);
    let mut served = 0;
    thread::scope(|scope| {
        let _over = SetAtEnd(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                Cgroup::docker(None).run("/bin/true");
            }
        });
        for number in 0..KILLS {
            let args = ["--interval=1s", &state_flag, "--log-level=error"];
            if number % (KILLS / SERVING) == 0 {
                let agent = Agent::start(&["--interval=1s", &state_flag]);
                agent.scrape();
                served += 1;
                thread::sleep(Duration::from_millis(dice.below(300) as u64));
                assert_eq!(uprobes(&agent), 0, "no uprobe by default");
                agent.signal(libc::SIGKILL);
                continue;
            }
            let mut command = Command::new(BINARY);
            command.arg("--listen=127.0.0.1:0").args(args).env_clear();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("the program");
            thread::sleep(Duration::from_millis(dice.below(600) as u64));
            child.kill().expect("killed");
            let status = child.wait().expect("a child of ours");
            assert_eq!(status.code(), None, "killed, not ended by itself: {status}");
        }
    });
    println!("{KILLS} kills, {served} of them serving, in {:.0?}", began.elapsed());

    until("no process is left", ANSWER, || agents().is_empty().then_some(()));
    // The kernel frees them after a grace period, from a work queue.
    until("programs, maps and links are gone", Duration::from_secs(60), || {
        let left = more(&before.0, &objects());
        left.is_empty().then_some(())
    });
    assert_eq!(modules().difference(&before.1).count(), 0, "modules were loaded");
    assert_eq!(mounts(), before.2, "mounts of the host");
    assert_eq!(fs::read(uprobe_events).ok(), before.3, "uprobe_events");
    let mut other = changed(&first, &sysctls());
    other.retain(|path| !moving.contains(path) && !is_counter(path));
    assert!(other.is_empty(), "settings of the kernel: {other:?}");
    // Whatever was half written counts for nothing.
    let agent = Agent::start(&["--interval=1s", &state_flag]);
    let executed = "container_process_execs_total";
    until("the next one counts", ANSWER, || {
        (of_container(&agent.scrape(), executed, &steady.container_id()) > 0.0).then_some(())
    });
    let (status, _, said) = agent.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!said.iter().any(|line| line.contains("begins anew")), "the state is whole: {said:#?}");
    let files: Vec<_> =
        fs::read_dir(state.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(files.len() <= 2, "{files:?}");
    let _ = load.kill();
    let _ = load.wait();
}
