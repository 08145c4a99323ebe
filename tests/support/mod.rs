//! What integration tests share: a running agent, an HTTP client, a strict reader of the text format, temporary directories.
//!
//! Nothing here sleeps for luck: [`until`] polls with a deadline and says what it waited for when it gives up.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub mod browser;
pub mod cgroup;
mod clang;
pub mod imds;
pub mod netns;
pub mod prometheus;
pub mod puppet;
pub mod runtimes;
pub mod tcp;

#[allow(unused_imports, reason = "every test file uses its own part")]
pub use clang::compile_bpf;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_nodeprobe");

/// How long an agent may take to serve; loading BPF programs on a busy machine is the slow part.
const START: Duration = Duration::from_secs(30);

/// How long any single answer may take before the test fails instead of hanging.
pub const ANSWER: Duration = Duration::from_secs(20);

/// Asks `poll` again and again until it has something; panics after `patience`, saying `what` was awaited.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(result) = poll() {
            return result;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Says that a test, or a part of it, cannot run here: `make test` lists all such at its end.
pub fn skip(what: &str) {
    println!("skipped: {what}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    if let Ok(mut file) = fs::File::options().append(true).create(true).open(path) {
        let _ = writeln!(file, "{}: {what}", thread::current().name().unwrap_or_default());
    }
}

/// Sets a flag when dropped: a scope's thread that goes on until then ends, and with it the scope, when the test panics too.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Longer than any refresh is taken for fresh, and than one that comes behind an answer takes.
const FRESH: Duration = Duration::from_secs(3);

/// An agent that serves on a port of its own; killed when dropped.
pub struct Agent {
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<Vec<String>>>,
    /// Reads its stderr until that ends.
    reader: Option<thread::JoinHandle<()>>,
}

impl Agent {
    /// Starts `nodeprobe --listen=127.0.0.1:0 ARGS` and waits for the line that says where it serves.
    #[track_caller]
    pub fn start(args: &[&str]) -> Agent {
        Agent::start_binary(Path::new(BINARY), args)
    }

    /// The same with another executable file.
    #[track_caller]
    pub fn start_binary(binary: &Path, args: &[&str]) -> Agent {
        let mut child = Command::new(binary)
            .arg("--listen=127.0.0.1:0")
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let pipe = child.stderr.take().expect("stderr is a pipe");
        let lines = Arc::clone(&stderr);
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let mut agent = Agent { child, address: ([127, 0, 0, 1], 0).into(), stderr, reader: Some(reader) };
        let began = Instant::now();
        loop {
            let said = agent.stderr();
            if let Some(address) = said.iter().find_map(|line| served_address(line)) {
                agent.address = address;
                return agent;
            }
            if let Ok(Some(status)) = agent.child.try_wait() {
                panic!("nodeprobe {args:?} ended with {status}: {said:#?}");
            }
            assert!(began.elapsed() < START, "nodeprobe {args:?} serves nothing: {said:#?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines it has printed so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new connection to it.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address).expect("the agent accepts connections")
    }

    /// The answer to one GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.try_get(path).unwrap_or_else(|error| {
            panic!("GET {path}: {error}; agent said {:#?}", self.stderr());
        })
    }

    /// The same, for tests that expect trouble.
    pub fn try_get(&self, path: &str) -> io::Result<Response> {
        let mut client = Client::connect(self.address)?;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))?;
        client.response()
    }

    /// The metrics, parsed, with nothing from before this call: a scrape soon after another, or after one that took long, may
    /// show what was read for that one.
    #[track_caller]
    pub fn scrape(&self) -> Metrics {
        let began = Instant::now();
        loop {
            let asked = began.elapsed();
            let metrics = self.scrape_once();
            // Those that wait for something else never come to be fresh.
            if metrics.oldest_refresh() <= asked.as_secs_f64() || asked > FRESH {
                return metrics;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The metrics as one request gets them, parsed.
    #[track_caller]
    pub fn scrape_once(&self) -> Metrics {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200, "{}", response.text());
        Metrics::parse(response.text())
    }

    /// The metrics of a host with containers after the first look at their file systems: only then is it known which disks
    /// are theirs, so families appear and descriptors are taken.
    #[track_caller]
    pub fn settled_scrape(&self) -> Metrics {
        until("disks of containers are known", ANSWER, || {
            let metrics = self.scrape();
            let known = !metrics.series("container_resources_disk_reads_total").is_empty();
            known.then_some(metrics)
        })
    }

    /// A line of `/proc/PID/status` that holds kibibytes, in bytes.
    #[track_caller]
    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the agent lives");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {name} in {status}")) * 1024
    }

    /// Memory it has resident now, in bytes.
    #[track_caller]
    pub fn rss(&self) -> u64 {
        self.status_bytes("VmRSS")
    }

    /// Most memory it ever had resident, in bytes.
    #[track_caller]
    pub fn hwm(&self) -> u64 {
        self.status_bytes("VmHWM")
    }

    /// What its open descriptors are: paths, `socket:[4711]`, `pipe:[4711]`.
    #[track_caller]
    pub fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(self.proc("fd")).expect("the agent lives");
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    /// Descriptors it has open now.
    #[track_caller]
    pub fn open_fds(&self) -> usize {
        self.descriptors().len()
    }

    /// Sets the soft limit of descriptors of the running agent, and says what it was.
    #[track_caller]
    pub fn limit_open_files(&self, soft: u64) -> u64 {
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        let pid = self.pid() as libc::pid_t;
        // SAFETY: a valid pointer to a struct of ours; the new limit is only read if not null.
        let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old) };
        let new = libc::rlimit { rlim_cur: soft, rlim_max: old.rlim_max };
        // SAFETY: as above.
        let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()) };
        assert_eq!((got, set), (0, 0), "prlimit: {}", io::Error::last_os_error());
        old.rlim_cur
    }

    /// Has it open nothing any more; says what the limit was.
    #[track_caller]
    pub fn deny_open_files(&self) -> u64 {
        let is_free = |fd: &u64| fs::symlink_metadata(self.proc(&format!("fd/{fd}"))).is_err();
        self.limit_open_files((0..).find(is_free).expect("a number that is free"))
    }

    /// User and system time it has used, in clock ticks of 10 ms.
    #[track_caller]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).expect("the agent lives");
        let (_, behind_name) = stat.rsplit_once(')').expect("a name in parentheses");
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
        ticks(11) + ticks(12)
    }

    /// A file of its own directory in /proc.
    pub fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid()))
    }

    /// True while it has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child is not reaped before `self` goes, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.pid() as libc::pid_t, signal) }, 0, "kill");
    }

    /// Sends SIGTERM and waits for its end: how it ended, how long that took, and all it printed.
    #[track_caller]
    pub fn stop(mut self) -> (ExitStatus, Duration, Vec<String>) {
        self.signal(libc::SIGTERM);
        let began = Instant::now();
        let status =
            until("the agent ends after SIGTERM", ANSWER, || self.child.try_wait().expect("a child of ours"));
        let took = began.elapsed();
        // Its last words may still be in the pipe.
        let _ = self.reader.take().map(thread::JoinHandle::join);
        (status, took, self.stderr())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("nodeprobe said: {:#?}", self.stderr());
        }
    }
}

/// The address in `nodeprobe: info: 0.1.0 serves http://127.0.0.1:40000/metrics`.
fn served_address(line: &str) -> Option<SocketAddr> {
    let (_, url) = line.split_once(" serves http://")?;
    url.split('/').next()?.parse().ok()
}

/// Runs the program to its end, at most `patience`; for commands that end by themselves.
#[track_caller]
pub fn run(args: &[&str], patience: Duration) -> Output {
    let mut command = Command::new(BINARY);
    command.args(args).env_clear();
    run_command(command, patience)
}

/// Runs any command to its end with its output captured; kills it and panics after `patience`.
#[track_caller]
pub fn run_command(mut command: Command, patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut data = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut data);
            }
            data
        })
    };
    let stdout = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child of ours") {
            Some(status) => break status,
            None if began.elapsed() > patience => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?} did not end within {patience:?}");
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    Output { status, stdout: stdout.join().expect("no panic"), stderr: stderr.join().expect("no panic") }
}

/// What `nodeprobe once ARGS` prints; it must succeed.
#[track_caller]
pub fn once(args: &[&str]) -> String {
    let output = run(&[&["once"], args].concat(), ANSWER);
    assert!(
        output.status.success(),
        "once {args:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What `promtool check metrics` says about a text: whether it is content, and its remarks. Panics without promtool.
#[track_caller]
pub fn promtool_check(text: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; `make test` installs it"));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // promtool reads all before it writes, so neither side waits for the other.
    stdin.write_all(text.as_bytes()).expect("promtool reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// One connection, for one or many requests. Never asks for gzip by itself.
pub struct Client {
    reader: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Such as `HTTP/1.1`.
    pub version: String,
    /// Such as 200.
    pub status: u16,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// As sent.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of the header `name` (in lower case), if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let first = found.next()?;
        assert!(found.next().is_none(), "header {name} is there twice");
        Some(&first.1)
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

impl Client {
    /// Connects, with deadlines on reading and writing so that no test hangs.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        Ok(Client { reader: BufReader::new(stream) })
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a GET that keeps the connection, and reads the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// Sends a whole request and reads the answer to anything but HEAD.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> Response {
        let answer = self.send(request).and_then(|()| self.response());
        answer.unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    /// Reads one answer with its body.
    ///
    /// # Errors
    /// Those of read(2), the end of the connection, and what is not HTTP.
    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.response_head()?;
        let length: usize = response
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| bad("no Content-Length"))?;
        response.body = vec![0; length];
        self.reader.read_exact(&mut response.body)?;
        Ok(response)
    }

    /// Reads the head of one answer, as to HEAD.
    ///
    /// # Errors
    /// As [`Client::response`].
    pub fn response_head(&mut self) -> io::Result<Response> {
        let mut line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok());
        let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
            return Err(bad(&format!("no status line: {line:?}")));
        };
        let mut headers = Vec::new();
        loop {
            line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("no header line"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Response { version, status, headers, body: Vec::new() })
    }

    /// Reads whatever comes until the other side closes; true when it closed in time.
    pub fn closes(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        }
    }

    /// Closes with RST instead of FIN, as a client that crashed.
    pub fn reset(self) {
        use std::os::fd::AsRawFd;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: a descriptor of ours, and a pointer to a struct of the size that is given.
        let result = unsafe {
            libc::setsockopt(
                self.stream().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "SO_LINGER");
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("a line ends in {:?}", String::from_utf8_lossy(&line)),
            ));
        };
        String::from_utf8(text.to_vec()).map_err(|_| bad("not UTF-8"))
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// One series of a scrape.
#[derive(Debug, Clone)]
pub struct Series {
    /// With the suffix, as `_bucket`.
    pub name: String,
    /// In order of appearance.
    pub labels: Vec<(String, String)>,
    /// The sample.
    pub value: f64,
}

impl Series {
    /// The value of label `name`; empty when it has none, as PromQL has it.
    pub fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.name == name && labels.iter().all(|(label, value)| self.label(label) == *value)
    }
}

/// A scrape, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    series: Vec<Series>,
    /// Type by family.
    kinds: HashMap<String, String>,
}

impl Metrics {
    /// Parses the text format, and panics at what Prometheus would refuse or a careful reader would: a series twice, a family
    /// without HELP and TYPE in front, or one in two places.
    #[track_caller]
    pub fn parse(text: &str) -> Metrics {
        Metrics::try_parse(text).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The same without the panic.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn try_parse(text: &str) -> Result<Metrics, String> {
        let mut metrics = Metrics::default();
        let mut seen = HashSet::new();
        let mut helped: Option<&str> = None;
        let mut family = "";
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for (number, line) in text.split_terminator('\n').enumerate() {
            let wrong = |what: &str| format!("line {}: {what}: {line:?}", number + 1);
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help text"))?;
                if help.is_empty() {
                    return Err(wrong("an empty help text"));
                }
                helped = Some(name);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
                if helped.take() != Some(name) {
                    return Err(wrong("no HELP line in front"));
                }
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return Err(wrong("an unknown type"));
                }
                if metrics.kinds.insert(name.to_owned(), kind.to_owned()).is_some() {
                    return Err(wrong("the family is in two places"));
                }
                family = name;
            } else {
                let series = parse_series(line).map_err(|what| wrong(&what))?;
                let kind = metrics.kinds.get(family).map_or("", String::as_str);
                let suffixes: &[&str] = match kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                let suffix = series.name.strip_prefix(family);
                if family.is_empty() || !suffix.is_some_and(|suffix| suffixes.contains(&suffix)) {
                    return Err(wrong(&format!("not of the family {family:?} above it")));
                }
                let mut labels = series.labels.clone();
                labels.sort();
                if labels.windows(2).any(|two| two[0].0 == two[1].0) {
                    return Err(wrong("a label twice"));
                }
                if !seen.insert((series.name.clone(), labels)) {
                    return Err(wrong("the series is there twice"));
                }
                metrics.series.push(series);
            }
        }
        Ok(metrics)
    }

    /// The value of the first series that has these labels, whatever others it has.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = self.series.iter().find(|series| series.has(name, labels));
        found.map(|series| series.value)
    }

    /// The sum over all series that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.series.iter().filter(|series| series.has(name, labels));
        // The sum of nothing is -0.
        found.map(|series| series.value).sum::<f64>() + 0.0
    }

    /// All series of this name.
    pub fn series(&self, name: &str) -> Vec<&Series> {
        self.series.iter().filter(|series| series.name == name).collect()
    }

    /// How long ago the last refresh began that no other of those that work is older than, in seconds.
    fn oldest_refresh(&self) -> f64 {
        let ages =
            self.series("nodeprobe_collector_last_success_age_seconds").into_iter().filter_map(|age| {
                let collector = [("collector", age.label("collector"))];
                let is_up = self.value("nodeprobe_collector_up", &collector) == Some(1.0);
                let took = self.value("nodeprobe_collector_seconds", &collector).unwrap_or(0.0);
                is_up.then_some(age.value + took)
            });
        ages.fold(0.0, f64::max)
    }

    /// Every series there is.
    pub fn all(&self) -> &[Series] {
        &self.series
    }

    /// The names of all families, sorted.
    pub fn families(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// `counter`, `gauge` or `histogram`.
    pub fn kind(&self, family: &str) -> Option<&str> {
        self.kinds.get(family).map(String::as_str)
    }
}

/// Takes `name{label="value",...} number` apart.
fn parse_series(line: &str) -> Result<Series, String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name) {
        return Err("a bad name".to_owned());
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = rest.split_once("=\"").ok_or("no label value")?;
            if !is_name(label) {
                return Err(format!("a bad label name {label:?}"));
            }
            let (value, behind) = unescape(behind)?;
            labels.push((label.to_owned(), value));
            match behind.as_bytes().first() {
                Some(b',') => rest = &behind[1..],
                Some(b'}') => {
                    rest = &behind[1..];
                    break;
                }
                _ => return Err("neither , nor } behind a label".to_owned()),
            }
        }
    }
    let number = rest.strip_prefix(' ').ok_or("no blank in front of the value")?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        _ if number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte)) => {
            number.parse().map_err(|_| "a bad number")?
        }
        _ => return Err("a bad number".to_owned()),
    };
    Ok(Series { name: name.to_owned(), labels, value })
}

/// A label value up to its closing quote, and what is behind that.
fn unescape(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, '\\')) => value.push('\\'),
                Some((_, '"')) => value.push('"'),
                Some((_, 'n')) => value.push('\n'),
                _ => return Err("a bad escape".to_owned()),
            },
            _ => value.push(character),
        }
    }
    Err("a label value without end".to_owned())
}

/// A directory that is removed when it goes.
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// A new empty directory with `purpose` in its name.
    #[track_caller]
    pub fn new(purpose: &str) -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nodeprobe-{purpose}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        TempDir { path }
    }

    /// Writes a file into it.
    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, content).expect("a file in a temporary directory");
        path
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Copies a tree with its symbolic links as they are.
#[track_caller]
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory to copy into");
    for entry in fs::read_dir(from).expect("a directory to copy") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).expect("a link");
            std::os::unix::fs::symlink(link, &target).expect("a link made");
        } else {
            fs::copy(entry.path(), &target).expect("a file copied");
        }
    }
}

/// The fixture hosts, sorted by name.
#[track_caller]
pub fn fixture_hosts() -> Vec<PathBuf> {
    /// What is beside them.
    const OTHERS: [&str; 3] = ["configs", "k8s-schemas", "peers"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut hosts: Vec<PathBuf> = fs::read_dir(root)
        .expect("tests/fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() && !OTHERS.iter().any(|other| path.ends_with(other)))
        .collect();
    hosts.sort();
    assert!(hosts.len() >= 7, "fixture hosts: {hosts:?}");
    hosts
}

/// Numbers that look random and are the same each time (splitmix64).
pub struct Dice {
    state: u64,
}

impl Dice {
    /// A sequence of its own for each `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// `count` bytes of any value.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Changes `data` in one of the ways text gets broken: a bit, a byte, a cut, a hole, a repetition, a number out of range.
    pub fn mutate(&mut self, data: &mut Vec<u8>) {
        if data.is_empty() {
            let count = self.below(32);
            *data = self.bytes(count);
            return;
        }
        let at = self.below(data.len());
        let until = at + self.below((data.len() - at).min(64) + 1);
        match self.below(8) {
            0 => data[at] ^= 1 << self.below(8),
            1 => data[at] = self.next() as u8,
            2 => data.truncate(at),
            3 => drop(data.drain(at..until)),
            4 => {
                let again = data[at..until].to_vec();
                data.splice(at..at, again);
            }
            5 => {
                let count = self.below(64);
                let random = self.bytes(count);
                data.splice(at..until, random);
            }
            6 => {
                let numbers: [&[u8]; 8] = [
                    b"-1",
                    b"18446744073709551615",
                    b"18446744073709551616",
                    b"99999999999999999999999999999999",
                    b"1e309",
                    b"NaN",
                    b"max",
                    b"0",
                ];
                let number = numbers[self.below(numbers.len())];
                data.splice(at..until, number.iter().copied());
            }
            _ => {
                let marks = b" \n\t:{}[]\"\\/,=\0\r.";
                data[at] = marks[self.below(marks.len())];
            }
        }
    }
}
