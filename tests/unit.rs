//! nodeprobe under systemd, without systemd: what it tells, what it is passed, what its unit allows. `tests/vm/unit.sh` has the
//! real one.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::{ANSWER, Agent, BINARY, Client, TempDir, until};

/// Without what takes time to open.
const LIGHT: [&str; 5] = [
    "--collector.tcp=off",
    "--collector.oom=off",
    "--collector.processes=off",
    "--collector.delays=off",
    "--collector.containers=off",
];

/// Ends the process when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }

    /// Has it open nothing any more.
    fn deny_open_files(&self) {
        let pid = self.0.id() as libc::pid_t;
        let is_free = |fd: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err();
        let soft = (0..).find(is_free).expect("a number that is free");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid pointer to a struct of ours; the new limit is only read if not null.
        let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut limit) };
        limit.rlim_cur = soft;
        // SAFETY: as above.
        let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
        assert_eq!((got, set), (0, 0), "prlimit: {}", std::io::Error::last_os_error());
    }
}

/// What plays systemd.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let directory = TempDir::new("unit");
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Manager { directory, socket }
    }

    /// Starts an agent. The script that executes it knows its process id, as systemd does.
    fn start(&self, variables: &str, arguments: &[&str], passed: Option<RawFd>) -> Running {
        let mut command = Command::new("/bin/sh");
        let script = format!("{variables} exec {BINARY} {}", arguments.join(" "));
        command.args(["-c", &script]).env_clear().env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let Some(fd) = passed else { return Ok(()) };
                match libc::dup2(fd, 3) == 3 && libc::fcntl(3, libc::F_SETFD, 0) == 0 {
                    true => Ok(()),
                    false => Err(std::io::Error::last_os_error()),
                }
            });
        }
        Running(command.spawn().unwrap())
    }

    #[track_caller]
    fn hears(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("systemd is told something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message with this word, whatever comes before.
    #[track_caller]
    fn hears_of(&self, word: &str) -> String {
        loop {
            let message = self.hears();
            if message.contains(word) {
                return message;
            }
        }
    }
}

#[test]
fn the_whole_life_is_told() {
    let manager = Manager::new();
    let arguments = [&["--listen=127.0.0.1:0"], &LIGHT[..]].concat();
    let running = manager.start("WATCHDOG_PID=$$ WATCHDOG_USEC=400000", &arguments, None);
    assert_eq!(manager.hears(), "STATUS=opening collectors");
    let ready = manager.hears();
    assert!(ready.starts_with("READY=1\nSTATUS=") && ready.contains(" collectors run, "), "{ready}");
    // At half the interval, though nothing else happens in this time.
    let began = Instant::now();
    for _ in 0..6 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "six in {took:?}");
    running.signal(libc::SIGHUP);
    let reloading = manager.hears_of("RELOADING=1");
    let mut lines = reloading.lines();
    assert_eq!(lines.next(), Some("RELOADING=1"));
    let time = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)), "{reloading}");
    assert!(manager.hears_of("READY=1").contains("STATUS="), "ready again");
    running.signal(libc::SIGTERM);
    assert_eq!(manager.hears_of("STOPPING"), "STOPPING=1\nSTATUS=stopping");
}

#[test]
fn a_process_that_stands_still_feeds_no_watchdog() {
    let manager = Manager::new();
    let arguments = [&["--listen=127.0.0.1:0"], &LIGHT[..]].concat();
    let running = manager.start("WATCHDOG_USEC=200000", &arguments, None);
    manager.hears_of("WATCHDOG=1");
    running.signal(libc::SIGSTOP);
    // What was on its way is heard, then nothing is.
    manager.socket.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    let mut buffer = [0; 1024];
    let late = std::iter::from_fn(|| manager.socket.recv(&mut buffer).ok()).take(10).count();
    assert!(late < 10, "it goes on");
    running.signal(libc::SIGCONT);
    manager.socket.set_read_timeout(Some(ANSWER)).unwrap();
    manager.hears_of("WATCHDOG=1");
}

#[test]
fn a_process_without_descriptors_feeds_its_watchdog_and_reloads() {
    let manager = Manager::new();
    let arguments = [&["--listen=127.0.0.1:0"], &LIGHT[..]].concat();
    let running = manager.start("WATCHDOG_USEC=400000", &arguments, None);
    manager.hears_of("READY=1");
    running.deny_open_files();
    running.signal(libc::SIGHUP);
    manager.hears_of("RELOADING=1");
    manager.hears_of("READY=1");
    for _ in 0..6 {
        manager.hears_of("WATCHDOG=1");
    }
}

#[test]
fn a_passed_socket_is_served_without_a_flag() {
    let manager = Manager::new();
    let passed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = passed.local_addr().unwrap();
    let fd = Some(passed.as_raw_fd());
    for environment in ["", "NODEPROBE_LISTEN=127.0.0.1:1"] {
        let variables = format!("LISTEN_PID=$$ LISTEN_FDS=1 {environment}");
        let _running = manager.start(&variables, &LIGHT, fd);
        manager.hears_of("READY=1");
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.get("/healthz").status, 200, "{environment}");
    }
    // One for another process, and a flag: neither takes it. Whoever connects waits for ever.
    for (variables, flag) in [
        ("LISTEN_PID=1 LISTEN_FDS=1", "--collector.logs=off"),
        ("LISTEN_PID=$$ LISTEN_FDS=1", "--listen=127.0.0.1:0"),
    ] {
        let variables = format!("{variables} NODEPROBE_LISTEN=127.0.0.1:0");
        let running = manager.start(&variables, &[&LIGHT[..], &[flag]].concat(), fd);
        manager.hears_of("READY=1");
        let sockets = fs::read_dir(format!("/proc/{}/fd", running.0.id())).unwrap();
        let links = sockets.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        let ours = fs::read_link(format!("/proc/self/fd/{}", passed.as_raw_fd())).unwrap();
        assert_eq!(links.filter(|link| *link == ours).count(), 1, "passed, and left alone");
        let mut client = Client::connect(address).unwrap();
        client.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        client.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(client.stream().peek(&mut [0]).is_err(), "it is not served");
    }
}

/// systemd-analyze exits with 0 for keys it does not know, and says so.
fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    let output = command.args(arguments).arg(unit).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn printed(flags: &[&str]) -> String {
    let output = Command::new(BINARY).arg("unit").args(flags).env_clear().output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn systemd_understands_every_unit() {
    let directory = TempDir::new("unit");
    let path = directory.path().join("nodeprobe.service");
    let no_programs = "--collector.programs=off";
    for flags in [
        &[][..],
        &["--ping-upstreams", "--listen=:80", "--config.dir=/etc/x y", "--state-dir=/srv/s"],
        &[no_programs, "--collector.tcp=off"],
        &["--collector.containers=off", "--collector.logs=off", no_programs, "--collector.tcp=off"],
    ] {
        // The program under test may lie in /tmp, which the unit then shows.
        fs::write(&path, printed(flags).replace("PrivateTmp=no", "PrivateTmp=yes")).unwrap();
        let (_, said) = analyze(&["verify", "--man=no"], &path);
        // It reads all units of this machine, and says what it thinks of them.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("nodeprobe.service")).collect();
        assert!(ours.is_empty(), "{flags:?}: {ours:?}");
        let (is_tight, said) =
            analyze(&["security", "--offline=true", "--threshold=40", "--no-pager"], &path);
        assert!(is_tight, "{flags:?}: {}", said.lines().last().unwrap_or_default());
    }
    let socket = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nodeprobe.socket");
    fs::copy(socket, directory.path().join("nodeprobe.socket")).unwrap();
    let (_, said) = analyze(&["verify", "--man=no"], &directory.path().join("nodeprobe.socket"));
    assert!(!said.contains("nodeprobe.s"), "{said}");
}

/// A script that executes the program without some capabilities.
fn without(directory: &TempDir, capabilities: &[&str]) -> PathBuf {
    let path = directory.path().join("nodeprobe");
    let set: String = capabilities.iter().map(|name| format!(",-{name}")).collect();
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-sys_resource{set} {BINARY} \"$@\"\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Families of the container that one capability or another brings.
const FAMILIES: [&str; 6] = [
    "container_log_messages_total",
    "container_net_transmitted_bytes_total",
    "container_net_tcp_successful_connects_total",
    "container_net_tcp_listen_info",
    "container_resources_cpu_delay_seconds_total",
    "container_resources_disk_size_bytes",
];

/// What an agent says of itself, and of the container: which collectors are there and why not, by which doors, what it counts.
fn facts(agent: &Agent, container: &str) -> BTreeSet<String> {
    let metrics = agent.scrape();
    let mut facts = BTreeSet::new();
    for series in metrics.series("nodeprobe_collector_info") {
        facts.insert(format!("{} {}", series.label("collector"), series.label("reason")));
    }
    for family in ["tcp_door", "oom_door", "processes_door", "taskstats_door", "cgroup_watch"] {
        let name = format!("nodeprobe_{family}_info");
        facts.extend(metrics.series(&name).iter().map(|series| format!("{family} {}", series.label("door"))));
    }
    let nat = metrics.series("nodeprobe_nat_info");
    facts.extend(
        nat.iter()
            .filter(|nat| nat.label("state") == "no_permission")
            .map(|_| "nat no_permission".to_owned()),
    );
    let is_there = |family: &&&str| metrics.value(family, &[("container_id", container)]).is_some();
    facts.extend(FAMILIES.iter().filter(is_there).map(|family| (*family).to_owned()));
    for word in ["needs CAP_SYSLOG", "nothing is sent without CAP_NET_RAW"] {
        facts.extend(agent.stderr().iter().any(|line| line.contains(word)).then(|| word.to_owned()));
    }
    facts
}

/// Whether this kernel shows its addresses to everybody (kernel/ksyms_common.c, `kallsyms_show_value`).
fn addresses_are_public() -> bool {
    let number =
        |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).map(|text| text.trim().parse::<i32>());
    let is = |name, most: i32| matches!(number(name), Ok(Ok(value)) if value <= most);
    is("kptr_restrict", 0) && is("perf_event_paranoid", 1)
}

/// The tables beside the collectors say what each capability is for; `nodeprobe unit` prints them. Here is what becomes of it.
#[test]
fn each_capability_is_missed_by_those_who_need_it_and_by_nobody_else() {
    const LOSES_BPF: &[&str] = &[
        "tcp ok",
        "tcp_door *",
        "oom_door bpf",
        "processes_door bpf",
        "taskstats_door bpf",
        "cgroup_watch bpf",
        "container_net_tcp_successful_connects_total",
        "container_net_tcp_listen_info",
    ];
    const LESS_THAN_BPF: &[&str] = &[
        "tcp no_permission",
        "oom_door files",
        "processes_door connector",
        "taskstats_door proc",
        "cgroup_watch inotify",
    ];
    const TABLE: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &[], &[]),
        // The kernel takes CAP_SYS_ADMIN for both.
        (&["bpf"], &[], &[]),
        (&["perfmon"], &[], &[]),
        (&["bpf", "sys_admin"], LOSES_BPF, LESS_THAN_BPF),
        (&["perfmon", "sys_admin"], LOSES_BPF, LESS_THAN_BPF),
        (
            &["sys_ptrace"],
            &[
                "container_net ok",
                "container_log_messages_total",
                "container_net_transmitted_bytes_total",
                "container_resources_disk_size_bytes",
            ],
            &["container_net no_permission"],
        ),
        (&["dac_read_search", "dac_override"], &["container_log_messages_total"], &[]),
        (
            &["net_admin"],
            &["delays ok", "taskstats_door *", "container_resources_cpu_delay_seconds_total"],
            &["delays no_permission", "nat no_permission"],
        ),
        (&["syslog"], &[], &["needs CAP_SYSLOG"]),
        (&["net_raw"], &[], &["nothing is sent without CAP_NET_RAW"]),
    ];
    let _turn = turn();
    let (home, away) = (Netns::new("home"), Netns::new("away"));
    home.cable("eth0", &["10.7.0.1/24"], &away, "far0", &["10.7.0.2/24"]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let log = PathBuf::from(format!("/var/log/nodeprobe-unit-{}.log", std::process::id()));
    let _gone = Gone(&log);
    // Of another user, as most containers are: what it has is hidden from those who may not look.
    let mut puppet = Puppet::start(Some(&cgroup), Some(&home));
    puppet.run(&format!(
        "import os, socket, threading, time
os.setgroups([]); os.setgid(65534)
log = os.open('{}', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.fchown(log, 65534, 65534)
os.setuid(65534)
server = socket.socket(); server.bind(('10.7.0.1', 8099)); server.listen(50)
def talk():
    while True:
        c = socket.socket(); c.connect(('10.7.0.1', 8099)); a, _ = server.accept()
        os.write(log, b'error: the disk is full\\n'); time.sleep(0.1); c.close(); a.close()
threading.Thread(target=talk, daemon=True).start()
out = 'talks'",
        log.display()
    ));
    let directory = TempDir::new("unit");
    let flags = ["--interval=1s", "--ping-upstreams", "--programs=kstack"];
    let mut all = BTreeSet::new();
    for (removed, lost, gained) in TABLE {
        // A program that cannot be loaded at all ends the start.
        let flags = if lost.contains(&"tcp ok") { &flags[..2] } else { &flags };
        let agent = Agent::start_binary(&without(&directory, removed), flags);
        if removed.is_empty() {
            all = until("all is seen", 2 * ANSWER, || {
                let facts = facts(&agent, &container);
                FAMILIES.iter().all(|family| facts.contains(*family)).then_some(facts)
            });
            println!("{all:?}");
            continue;
        }
        let is_lost = |fact: &String| {
            lost.iter().any(|lost| match lost.strip_suffix('*') {
                Some(start) => fact.starts_with(start),
                None => fact == lost,
            })
        };
        let mut expected: BTreeSet<String> = all.iter().filter(|fact| !is_lost(fact)).cloned().collect();
        expected.extend(gained.iter().map(|fact| (*fact).to_owned()));
        if addresses_are_public() {
            expected.remove("needs CAP_SYSLOG");
        }
        if flags.len() == 2 {
            expected.remove("programs ok");
            expected.insert("programs disabled".to_owned());
        }
        let began = Instant::now();
        loop {
            let seen = facts(&agent, &container);
            if seen == expected {
                break;
            }
            let missing: Vec<_> = expected.difference(&seen).collect();
            let more: Vec<_> = seen.difference(&expected).collect();
            assert!(
                began.elapsed() < 2 * ANSWER,
                "without {removed:?}: {missing:?} are missing, {more:?} too many"
            );
        }
    }
}

/// Removes a file when dropped.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}
