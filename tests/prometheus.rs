//! Prometheus itself reads the metrics: `promtool check metrics`, and a server that scrapes and answers PromQL.

mod support;

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Agent, Client, TempDir, promtool_check, until};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker-v2");

/// How long Prometheus may take to start and to have what is asked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Series Prometheus adds to every target: up and four about the scrape.
const ADDED_BY_PROMETHEUS: usize = 5;

/// A Prometheus server of our own; killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Prometheus {
    /// Starts a server that scrapes `jobs`, names with agents, every second.
    fn start(jobs: &[(&str, &Agent)]) -> Prometheus {
        let directory = TempDir::new("prometheus");
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
        for (name, agent) in jobs {
            let address = agent.address();
            config += &format!("- job_name: {name}\n  static_configs: [{{targets: [\"{address}\"]}}]\n");
        }
        let config_file = directory.path().join("prometheus.yml");
        fs::write(&config_file, config).expect("prometheus.yml");
        // It does not say which port it got for 0, so it is given one that was free just now.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let log = File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; `make test` installs it"));
        Prometheus { child, port, directory }
    }

    /// The value of a PromQL expression that gives one series or a scalar; `None` when it gives nothing (yet).
    fn value(&mut self, expression: &str) -> Option<f64> {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("prometheus ended with {status}:\n{}", self.log());
        }
        let answer = self.query(expression).ok()?;
        assert!(answer.contains("\"status\":\"success\""), "{expression}: {answer}");
        let results = answer.matches("\"value\":[").count();
        assert!(results <= 1, "{expression} gives {results} series: {answer}");
        // {"value":[1700000000.1,"8"]}
        let (_, value) = answer.split_once("\"value\":[")?;
        let value = value.split('"').nth(1)?;
        Some(value.parse().unwrap_or_else(|error| panic!("{value}: {error}")))
    }

    fn query(&self, expression: &str) -> io::Result<String> {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into())?;
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        // HTTP/1.0: no chunks, and the end of the answer is the end of the connection.
        client.send(format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
        let mut answer = String::new();
        client.stream().read_to_string(&mut answer)?;
        if answer.split(' ').nth(1) == Some("503") {
            return Err(io::Error::other("still starting"));
        }
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.ok_or_else(|| io::Error::other("no body"))
    }

    #[track_caller]
    fn becomes(&mut self, expression: &str, expected: f64) {
        let mut last = None;
        let patience = PATIENCE.as_millis() / 100;
        for _ in 0..patience {
            last = self.value(expression);
            if last == Some(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{expression} is {last:?} and not {expected}; log:\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn promtool_accepts_a_live_scrape() {
    let agent = Agent::start(&[]);
    for round in 0..2 {
        let text = agent.get("/metrics");
        let (content, said) = promtool_check(text.text());
        assert!(content, "scrape {round}: {said}");
    }
    let (content, said) = promtool_check("a 1\na 1\n");
    assert!(!content, "promtool accepts anything: {said}");
}

#[test]
fn prometheus_scrapes_and_answers() {
    let live = Agent::start(&[]);
    let fixture = Agent::start(&[&format!("--root={FIXTURE}")]);
    let mut prometheus = Prometheus::start(&[("live", &live), ("fixture", &fixture)]);
    until("prometheus answers", PATIENCE, || prometheus.value("vector(1)"));
    prometheus.becomes("up{job=\"live\"}", 1.0);
    prometheus.becomes("up{job=\"fixture\"}", 1.0);

    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let total_kib: f64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("MemTotal");
    prometheus.becomes("node_resources_memory_total_bytes{job=\"live\"}", total_kib * 1024.0);
    prometheus.becomes("count(node_resources_cpu_usage_seconds_total{job=\"live\"})", 8.0);
    prometheus.becomes("nodeprobe_build_info{job=\"live\"}", 1.0);

    // The fixture host never changes: every series of a scrape must be there, and no other.
    let series = fixture.settled_scrape().all().len();
    prometheus.becomes("scrape_samples_scraped{job=\"fixture\"}", series as f64);
    prometheus.becomes("scrape_samples_post_metric_relabeling{job=\"fixture\"}", series as f64);
    prometheus.becomes("count({job=\"fixture\"})", (series + ADDED_BY_PROMETHEUS) as f64);
    prometheus.becomes("node_uptime_seconds{job=\"fixture\"}", 270_111.02);

    // Counters work as counters: three scrapes a second apart have a rate.
    until("a rate of CPU time", PATIENCE, || {
        prometheus
            .value("sum(rate(node_resources_cpu_usage_seconds_total{job=\"live\"}[10s]))")
            .filter(|cores| *cores > 0.0)
    });
    prometheus.becomes("min_over_time(up{job=\"live\"}[10s])", 1.0);

    let log = prometheus.log().to_lowercase();
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| {
            let words =
                ["duplicate", "out of order", "out-of-order", "ingesting", "append failed", "scrape failed"];
            words.iter().any(|word| line.contains(word))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
