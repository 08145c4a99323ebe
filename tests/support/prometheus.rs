//! A Prometheus server that scrapes agents and answers PromQL.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Agent, Client, TempDir};

/// How long it may take to start and to have what is asked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Prometheus server of our own; killed when dropped.
pub struct Prometheus {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Prometheus {
    /// Starts a server that scrapes `jobs`, names with agents, every so many `seconds`, and evaluates these rules as often.
    #[track_caller]
    pub fn start(jobs: &[(&str, &Agent)], seconds: u32, rules: Option<&Path>) -> Prometheus {
        let directory = TempDir::new("prometheus");
        let mut config = format!(
            "global: {{scrape_interval: {seconds}s, scrape_timeout: {seconds}s, evaluation_interval: {seconds}s}}\n\
             scrape_configs:\n"
        );
        for (name, agent) in jobs {
            let address = agent.address();
            config += &format!("- job_name: {name}\n  static_configs: [{{targets: [\"{address}\"]}}]\n");
        }
        if let Some(rules) = rules {
            config += &format!("rule_files: [\"{}\"]\n", rules.display());
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
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Option<f64> {
        let answer = self.query(expression)?;
        let results = answer.matches("\"value\":[").count();
        assert!(results <= 1, "{expression} gives {results} series: {answer}");
        // {"value":[1700000000.1,"8"]}
        let (_, value) = answer.split_once("\"value\":[")?;
        let value = value.split('"').nth(1)?;
        Some(value.parse().unwrap_or_else(|error| panic!("{value}: {error}")))
    }

    /// How many series an expression gives that have a number.
    #[track_caller]
    pub fn numbers(&mut self, expression: &str) -> usize {
        let answer = self.query(expression).unwrap_or_default();
        let values = answer.split("\"value\":[").skip(1).filter_map(|value| value.split('"').nth(1));
        values.filter(|value| *value != "NaN").count()
    }

    /// What it says to an expression; `None` while it starts.
    #[track_caller]
    fn query(&mut self, expression: &str) -> Option<String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("prometheus ended with {status}:\n{}", self.log());
        }
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).ok()?;
        assert!(answer.contains("\"status\":\"success\""), "{expression}: {answer}");
        Some(answer)
    }

    /// The body of an answer of its API.
    ///
    /// # Errors
    /// Those of the connection, and that it is still starting.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into())?;
        // HTTP/1.0: no chunks, and the end of the answer is the end of the connection.
        client.send(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
        let mut answer = String::new();
        client.stream().read_to_string(&mut answer)?;
        if answer.split(' ').nth(1) == Some("503") {
            return Err(io::Error::other("still starting"));
        }
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.ok_or_else(|| io::Error::other("no body"))
    }

    /// Waits until an expression has this value.
    #[track_caller]
    pub fn becomes(&mut self, expression: &str, expected: f64) {
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

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
