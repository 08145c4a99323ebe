//! What tests of TCP share: families, ports, servers, loads.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::puppet::numbers;
use super::{ANSWER, Agent, Metrics, TempDir};

/// Below the ephemeral range, which the agent leaves out by default.
pub const OPEN_PORT: u16 = 18080;
/// Nobody listens here.
pub const CLOSED_PORT: u16 = 18081;

/// Connections that came about.
pub const SUCCESSES: &str = "container_net_tcp_successful_connects_total";
/// Connections that did not.
pub const FAILURES: &str = "container_net_tcp_failed_connects_total";
/// Connections there are now.
pub const ACTIVE: &str = "container_net_tcp_active_connections";
/// Sum of what they took to come about.
pub const SECONDS: &str = "container_net_tcp_connection_time_seconds_total";
/// Segments sent again.
pub const RETRANSMITS: &str = "container_net_tcp_retransmits_total";
/// Payload to the destination.
pub const SENT: &str = "container_net_tcp_bytes_sent_total";
/// Payload from the destination.
pub const RECEIVED: &str = "container_net_tcp_bytes_received_total";
/// Round trips.
pub const LATENCY: &str = "container_net_latency_seconds";
/// Listening sockets.
pub const LISTENERS: &str = "container_net_tcp_listen_info";

/// Accepts on a port and closes, until dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    port: u16,
}

impl Server {
    /// Listens on all addresses of the host; `hold` keeps accepted connections open.
    pub fn start(port: u16, hold: bool) -> Server {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if hold {
                    held.push(stream);
                }
            }
        });
        Server { stop, thread: Some(thread), port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// `count` connects, each by a process of its own that lives milliseconds.
pub fn connects(address: &str, port: u16, count: usize) -> String {
    format!("for ((i = 0; i < {count}; i++)); do (exec 3<>/dev/tcp/{address}/{port}); done\n")
}

/// The value of a family for a container and a destination.
pub fn destination(metrics: &Metrics, family: &str, container: &str, destination: &str) -> Option<f64> {
    metrics.value(family, &[("container_id", container), ("destination", destination)])
}

/// Scrapes until the sum over a family's series with these labels is exactly `truth`; panics with what it is instead.
#[track_caller]
pub fn becomes(agent: &Agent, family: &str, labels: &[(&str, &str)], truth: f64) -> Metrics {
    let began = Instant::now();
    loop {
        let metrics = agent.scrape();
        let sum = metrics.sum(family, labels);
        if sum == truth {
            return metrics;
        }
        if began.elapsed() > ANSWER {
            let mut there = metrics.series(family);
            let container = labels.iter().find(|(name, _)| *name == "container_id");
            there.retain(|series| container.is_none_or(|(name, value)| series.label(name) == *value));
            panic!("{family} {labels:?} is {sum}, not {truth}; there are {there:#?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The program `tests/support/storm.c`.
pub struct Storm {
    directory: TempDir,
}

impl Storm {
    /// Compiles it.
    #[track_caller]
    pub fn new() -> Storm {
        let directory = TempDir::new("storm");
        let output = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-o"])
            .arg(directory.path().join("storm"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/storm.c"))
            // cargo's own libraries are not the compiler's.
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap_or_else(|error| panic!("cc: {error}; `make test` installs it"));
        assert!(output.status.success(), "storm.c: {}", String::from_utf8_lossy(&output.stderr));
        Storm { directory }
    }

    /// Starts it in a cgroup, or where the test itself is.
    #[track_caller]
    pub fn start(&self, cgroup: Option<&Cgroup>, args: &[&str]) -> Running {
        let mut command = Command::new(self.directory.path().join("storm"));
        command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command);
        }
        Running { child: command.spawn().expect("storm") }
    }

    /// Starts a server on all addresses that accepts and closes at once.
    #[track_caller]
    pub fn serve(&self, port: u16) -> Running {
        let mut running = self.start(None, &["serve", &port.to_string()]);
        let mut line = String::new();
        BufReader::new(running.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the port is free");
        running
    }
}

/// A process of [`Storm`]; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end: connections that came about, and that did not.
    #[track_caller]
    pub fn made(mut self) -> (f64, f64) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut said).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "storm: {status}");
        let made = numbers(said.strip_prefix("made ").unwrap());
        (made[0], made[1])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
