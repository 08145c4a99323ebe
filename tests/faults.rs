//! System calls that fail, one at a time, and an environment that has no room: no crash, no hang, no wrong number.
//!
//! `make test` takes a choice of a hundred or so; `cargo test --test faults -- --ignored` all calls at many places.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::{ANSWER, Agent, BINARY, Client, Metrics, TempDir, until};

/// How long an agent under a tracer may take for anything before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(40);

/// Connections that a container makes between two scrapes.
const CONNECTS: usize = 5;

/// Calls that no agent makes itself, that end it, or that have nothing to fail at.
const NOT_OURS: &[&str] = &[
    "execve",
    "exit",
    "exit_group",
    "arch_prctl",
    "set_tid_address",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall",
    "sigaltstack",
];

/// Errors that calls may fail with; the rest fail with EIO.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" | "openat2" => &["EMFILE", "EACCES", "EINTR"],
        "read" | "pread64" | "recvfrom" | "recvmsg" => &["EIO", "EINTR"],
        "write" | "writev" => &["EINTR", "ENOSPC"],
        "bpf" => &["EPERM", "ENOMEM"],
        "fork" | "clone" => &["EAGAIN"],
        "poll" | "ppoll" => &["ENOMEM", "EINTR"],
        "socket" | "accept4" | "pipe2" | "dup3" | "epoll_create1" | "memfd_create" => &["EMFILE"],
        "sendto" | "sendmsg" => &["ENOBUFS", "EINTR"],
        "perf_event_open" | "setsockopt" | "prctl" | "pidfd_open" => &["EPERM"],
        // What kernels without the call or a filter of calls say; nothing else fails there.
        "getrandom" => &["EPERM"],
        "mmap" | "mremap" | "brk" | "mprotect" => &["ENOMEM"],
        _ => &["EIO"],
    }
}

/// What a run came to.
struct Run {
    status: ExitStatus,
    scrapes: Vec<Metrics>,
    stderr: Vec<String>,
}

/// An agent under a tracer, or in a strange place; killed when dropped.
struct Traced {
    child: Child,
    lines: mpsc::Receiver<String>,
    stderr: Vec<String>,
}

impl Traced {
    fn start(mut command: Command) -> Traced {
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let pipe = child.stderr.take().expect("a pipe");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Traced { child, lines, stderr: Vec::new() }
    }

    /// Waits until it takes connections; false when it ended instead.
    fn serves(&mut self, address: SocketAddr) -> Result<bool, String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if Client::connect(address).is_ok() {
                return Ok(true);
            }
            if self.has_ended() {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("it neither serves nor ends".to_owned())
    }

    fn said(&mut self) -> &[String] {
        self.stderr.extend(self.lines.try_iter());
        &self.stderr
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it ends by itself: a process lets go of its port before it is over, and its tracer ends after it.
    fn is_ending(&mut self) -> bool {
        let began = Instant::now();
        while !self.has_ended() && began.elapsed() < Duration::from_secs(2) {
            thread::sleep(Duration::from_millis(5));
        }
        self.has_ended()
    }

    /// Ends it with SIGTERM, unless it has ended.
    fn stop(mut self) -> Result<(ExitStatus, Vec<String>), String> {
        // SAFETY: kill takes no pointers; the child is not reaped yet.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                // The tracer holds the pipe a moment longer.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
                    self.stderr.push(line);
                }
                return Ok((status, std::mem::take(&mut self.stderr)));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("SIGTERM does not end it: {:?}", self.stderr));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the runs share: a container that connects to a server of this process.
struct Scene {
    container: Cgroup,
    /// One in which a single process lives all the time.
    quiet: Cgroup,
    sleeper: Child,
    port: u16,
    /// Every run connects, and all agents count it.
    made: Mutex<f64>,
}

impl Scene {
    fn new() -> Scene {
        // Connections to ports that the kernel hands out are not counted.
        let bound =
            (18_100..18_200).find_map(|port| Some((TcpListener::bind(("127.0.0.1", port)).ok()?, port)));
        let (listener, port) = bound.expect("a free port");
        thread::spawn(move || listener.incoming().for_each(drop));
        let [container, quiet] = [(); 2].map(|()| Cgroup::docker(None));
        let mut sleep = Command::new("/bin/sleep");
        quiet.enter(&mut sleep);
        let sleeper = sleep.arg("100000").spawn().expect("sleep");
        Scene { container, quiet, sleeper, port, made: Mutex::new(0.0) }
    }

    fn connect(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        self.container
            .run(&format!("for i in {{1..{CONNECTS}}}; do : < /dev/tcp/127.0.0.1/{}; done", self.port));
        *made += CONNECTS as f64;
    }

    fn made(&self) -> f64 {
        *self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent started by `command` with flags: scraped, connected past, scraped, ended.
    fn run(&self, mut command: Command) -> Result<Run, String> {
        let before = self.made();
        // Nobody gets this number in the next minute: the kernel hands them out in turn.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.map_err(|error| error.to_string())?;
        command.arg(format!("--listen={address}")).args(["--interval=1s", "--log-level=debug"]);
        let mut agent = Traced::start(command);
        let mut scrapes = Vec::new();
        if agent.serves(address)? {
            for round in 0..2 {
                if round > 0 {
                    self.connect();
                }
                match scrape(address) {
                    Ok(body) => scrapes.push(Metrics::try_parse(&body)?),
                    // It took connections while it opened its collectors, and could not go on.
                    Err(_) if scrapes.is_empty() && agent.is_ending() => break,
                    Err(problem) => return Err(format!("{problem}: {:#?}", agent.said())),
                }
            }
        }
        let (status, stderr) = agent.stop()?;
        let run = Run { status, scrapes, stderr };
        self.check(&run, before)?;
        Ok(run)
    }

    /// Never a crash, never more than there was, and nothing without a reason.
    fn check(&self, run: &Run, before: f64) -> Result<(), String> {
        let said = &run.stderr;
        if run.scrapes.is_empty() {
            let is_clear = said.iter().any(|line| line.starts_with("nodeprobe: error: "));
            return match run.status.code() {
                Some(2) if is_clear => Ok(()),
                _ => Err(format!("{}: {said:#?}", run.status)),
            };
        }
        if run.status.code() != Some(0) {
            return Err(format!("{}: {said:#?}", run.status));
        }
        let made = self.made() - before;
        let destination = format!("127.0.0.1:{}", self.port);
        for metrics in &run.scrapes {
            let labels = [("container_id", &*self.container.container_id()), ("destination", &*destination)];
            let counted = metrics.sum("container_net_tcp_successful_connects_total", &labels);
            if counted > made {
                return Err(format!("{counted} connections counted, {made} made"));
            }
            let quiet = self.quiet.container_id();
            for (family, truth) in [
                ("container_restarts_total", 0.0),
                ("container_processes", 1.0),
                ("container_processes_started_total", 1.0),
                ("container_processes_exited_total", 0.0),
            ] {
                let is = metrics.sum(family, &[("container_id", &*quiet)]);
                if is > truth {
                    return Err(format!("{family} is {is} where one process lives"));
                }
            }
            let cpu = metrics.sum("node_resources_cpu_usage_seconds_total", &[]);
            let is_up = |name| metrics.value("nodeprobe_collector_up", &[("collector", name)]) == Some(1.0);
            if is_up("node_cpu") && cpu <= 0.0 {
                return Err("node_cpu is up and says nothing".to_owned());
            }
            let reasons = metrics.series("nodeprobe_collector_info");
            // The line that says it may be the one that could not be written.
            let is_silent = metrics.sum("nodeprobe_stderr_lines_lost_total", &[]) > 0.0;
            let nameless = reasons.iter().filter(|_| !is_silent).find(|series| {
                let is_ok = series.label("reason") == "ok";
                !is_ok && !said.iter().any(|line| line.contains(series.label("collector")))
            });
            if let Some(series) = nameless {
                return Err(format!(
                    "{} is absent and nobody says why: {said:#?}",
                    series.label("collector")
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
    }
}

/// One scrape; a connection that an injected fault has ended is made again.
fn scrape(address: SocketAddr) -> Result<String, String> {
    let mut last = String::new();
    for _ in 0..4 {
        let answer = Client::connect(address).and_then(|mut client| {
            client.send("GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            client.response()
        });
        match answer {
            Ok(response) if response.status == 200 => return Ok(response.text().to_owned()),
            Ok(response) => last = format!("status {}", response.status),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("no answer: {last}"))
}

/// The agent under strace with more options.
fn traced(options: &[String], output: &str) -> Command {
    let mut command = Command::new("strace");
    // The tracer is the grandchild: signals and the status are the agent's.
    command.args(["-D", "-f", "-qq", "-o", output]).args(options);
    command.arg(BINARY);
    command
}

/// The system calls of a run without faults, with their numbers.
fn calls(scene: &Scene) -> BTreeMap<String, usize> {
    let directory = TempDir::new("trace");
    let output = directory.path().join("trace");
    let run = scene.run(traced(&[], output.to_str().unwrap()));
    let run = run.unwrap_or_else(|problem| panic!("without faults: {problem}"));
    assert_eq!(run.status.code(), Some(0), "{:#?}", run.stderr);
    let labels = [("container_id", &*scene.container.container_id())];
    let counted = run.scrapes[1].sum("container_net_tcp_successful_connects_total", &labels);
    assert_eq!(counted, CONNECTS as f64, "without faults: {:#?}", run.stderr);
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(output).expect("a trace").lines() {
        let call = line.split_whitespace().nth(1).and_then(|word| word.split_once('('));
        if let Some((name, _)) = call.filter(|(name, _)| !NOT_OURS.contains(name)) {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

fn is_want_of_memory(problem: &str) -> bool {
    let is_named = ["memory allocation of", "alternative stack"].iter().any(|words| problem.contains(words));
    is_named || problem.starts_with("signal: 11") && problem.ends_with(": []")
}

/// Has each job's call fail; panics with all that went wrong.
fn sweep(scene: &Scene, jobs: Vec<(String, &'static str, usize)>) {
    let (count, began) = (jobs.len(), Instant::now());
    let jobs = Mutex::new(VecDeque::from(jobs));
    let problems = Mutex::new(Vec::new());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((call, error, when)) = next() {
                    let options =
                        [format!("-etrace={call}"), format!("-einject={call}:error={error}:when={when}")];
                    let again = |problem: String| {
                        // On a busy machine another call may be the one by that number. What is wrong is so again.
                        eprintln!("{call} {when}: {error}, the first time: {problem}");
                        scene.run(traced(&options, "/dev/null"))
                    };
                    match scene.run(traced(&options, "/dev/null")).or_else(again) {
                        // Rust ends a process that gets no memory, and says so; before `main` the C library does.
                        Err(problem) if error == "ENOMEM" && is_want_of_memory(&problem) => {}
                        Err(problem) => problems
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{call} {when}: {error}: {problem}")),
                        Ok(_) => {}
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(problems.is_empty(), "{} of {count}: {problems:#?}", problems.len());
    println!("{count} faults in {:.0?}", began.elapsed());
}

#[test]
fn system_calls_that_fail_cost_no_more_than_what_they_were_for() {
    let _turn = turn();
    let scene = Scene::new();
    // The first of each kind, and one on the way.
    let jobs = calls(&scene).into_iter().flat_map(|(call, count)| {
        let all = errors(&call);
        let places =
            if count > 3 { vec![(1, all[0]), (count / 2, all[all.len() - 1])] } else { vec![(1, all[0])] };
        places.into_iter().map(move |(when, error)| (call.clone(), error, when))
    });
    sweep(&scene, jobs.collect());
}

#[test]
#[ignore = "make test-parts"]
fn every_system_call_may_fail_anywhere() {
    let _turn = turn();
    let scene = Scene::new();
    let jobs = calls(&scene).into_iter().flat_map(|(call, count)| {
        let mut places: Vec<usize> = (1..=5).chain((1..20).map(|part| count * part / 20)).collect();
        places.retain(|&when| when > 0 && when <= count);
        places.sort_unstable();
        places.dedup();
        let pairs = places.into_iter().flat_map(|when| errors(&call).iter().map(move |error| (*error, when)));
        pairs.map(|(error, when)| (call.clone(), error, when)).collect::<Vec<_>>()
    });
    sweep(&scene, jobs.collect());
}

/// The agent with limits of its own, set between fork and exec.
fn limited(resource: libc::c_int, value: u64) -> Command {
    let mut command = Command::new(BINARY);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: setrlimit is all that is called between fork and exec, on a struct of the closure's own.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    command
}

#[test]
fn small_limits_leave_collectors_out_and_nothing_else() {
    let _turn = turn();
    let scene = Scene::new();
    for (name, resource, value) in [
        ("16 files", libc::RLIMIT_NOFILE as _, 16),
        ("8 files", libc::RLIMIT_NOFILE as _, 8),
        ("no locked memory", libc::RLIMIT_MEMLOCK as _, 0),
        ("64 MiB of addresses", libc::RLIMIT_AS as _, 64 << 20),
        ("no file of any size", libc::RLIMIT_FSIZE as _, 0),
        ("no other process", libc::RLIMIT_NPROC as _, 1),
    ] {
        let run = scene.run(limited(resource, value)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let absent = run.scrapes.last().map(|metrics| {
            let all = metrics.series("nodeprobe_collector_info");
            all.iter().filter(|series| series.label("reason") != "ok").count()
        });
        println!("{name}: {}, absent collectors: {absent:?}", run.status);
        assert!(name == "8 files" || absent.is_some(), "{name}: it serves: {:#?}", run.stderr);
    }
}

/// A reader of stderr that hangs must not stop the agent; nor must one that went away.
#[test]
fn nobody_reads_what_it_says() {
    for [is_terminal, is_gone] in [[false, false], [false, true], [true, false], [true, true]] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(BINARY);
        // Thousands of lines at the start: libbpf says what it does.
        command.args([
            &format!("--listen=127.0.0.1:{port}"),
            "--debug",
            "--log-level=debug",
            "--interval=1s",
        ]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut reader = None;
        if is_terminal {
            let [master, terminal] = pseudo_terminal();
            reader = Some(master).filter(|_| !is_gone);
            command.stderr(terminal);
        }
        let mut child = command.spawn().unwrap();
        // Its end of the terminal, too.
        drop(command);
        let mut pipe = child.stderr.take();
        if let Some(pipe) = &pipe {
            // SAFETY: a valid descriptor; the smallest pipe there is.
            unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
        }
        if is_gone {
            pipe = None;
        }
        let address = ([127, 0, 0, 1], port).into();
        let metrics = until("it serves all the same", PATIENCE, || {
            Client::connect(address).ok()?;
            Some(Metrics::parse(&scrape(address).ok()?))
        });
        if !is_gone {
            assert!(metrics.sum("nodeprobe_stderr_lines_lost_total", &[]) > 0.0);
        }
        // SAFETY: kill takes no pointers; the child is not reaped yet.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
        let status = until("it ends", ANSWER, || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}");
        // What was said before nobody read is there, in whole lines.
        if let Some(mut pipe) = pipe {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            assert!(text.lines().all(|line| line.starts_with("nodeprobe: ")), "{text}");
        }
        drop(reader);
    }
}

/// Both ends of one.
fn pseudo_terminal() -> [OwnedFd; 2] {
    let mut ends = [-1; 2];
    let [master, terminal] = &mut ends;
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: two valid pointers, and nothing more that is wanted.
    let result = unsafe { libc::openpty(master, terminal, name, settings, size) };
    assert_eq!(result, 0, "openpty: {}", std::io::Error::last_os_error());
    // SAFETY: both are new and nobody else's.
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) })
}

/// Without descriptors 0 to 2 a socket could become one of them, and lines for people would go to a client.
#[test]
fn closed_standard_descriptors_are_no_sockets() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(BINARY);
    command.args([&format!("--listen=127.0.0.1:{port}"), "--log-level=debug"]).env_clear();
    // SAFETY: close is all that is called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for fd in 0..3 {
                libc::close(fd);
            }
            Ok(())
        })
    };
    let mut child = command.spawn().unwrap();
    let address = ([127, 0, 0, 1], port).into();
    let body = until("it serves", PATIENCE, || scrape(address).ok());
    Metrics::parse(&body);
    for fd in 0..3 {
        let target = fs::read_link(format!("/proc/{}/fd/{fd}", child.id())).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {fd}");
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Its working directory and /tmp are nothing to it.
#[test]
fn no_working_directory_and_nothing_to_write_to() {
    let _turn = turn();
    let scene = Scene::new();
    let directory = TempDir::new("gone");
    let script = format!(
        "mount --make-rprivate / && mount -o bind,ro / / && cd {0} && mount -t tmpfs none /tmp -o ro && exec {BINARY} \
         --state-dir=/tmp/state \"$@\"",
        directory.path().display()
    );
    let mut command = Command::new("unshare");
    // The binary may lie below /tmp, so it is found before that is covered.
    command.args(["-m", "bash", "-c", &script, "bash"]);
    if BINARY.starts_with("/tmp/") {
        return support::skip("a root nobody can write to: the program is below /tmp");
    }
    let run = scene.run(command).unwrap_or_else(|problem| panic!("read-only: {problem}"));
    assert!(run.stderr.iter().any(|line| line.contains("/tmp/state")), "{:#?}", run.stderr);
    assert_eq!(run.status.signal(), None);
}

/// The other clocks may jump, as after a suspend: time namespaces shift them for one process.
#[test]
fn a_machine_that_slept_for_years_is_like_any_other() {
    let _turn = turn();
    let scene = Scene::new();
    let mut command = Command::new("unshare");
    // Since Linux 6.0 who executes a program enters the namespace; before, nothing is shifted.
    command.args(["-T", "--monotonic", "90000000", "--boottime", "100000000", BINARY]);
    let run = scene.run(command).unwrap_or_else(|problem| panic!("shifted clocks: {problem}"));
    assert!(!run.scrapes.is_empty(), "{:#?}", run.stderr);
    // Stopped in the middle, as a machine that sleeps.
    let agent = Agent::start(&["--interval=1s"]);
    let before = agent.scrape();
    agent.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(3));
    agent.signal(libc::SIGCONT);
    let after = agent.scrape();
    let turns = "nodeprobe_loop_turn_seconds_count";
    assert!(after.sum(turns, &[]) > before.sum(turns, &[]));
    assert_eq!(agent.stop().0.code(), Some(0));
}
