//! Prometheus itself reads the metrics: `promtool check metrics`, and a server that scrapes and answers PromQL.

mod support;

use std::fs;
use std::time::Duration;

use support::prometheus::Prometheus;
use support::{Agent, promtool_check, until};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker-v2");

/// How long Prometheus may take to start and to have what is asked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Series Prometheus adds to every target: up and four about the scrape.
const ADDED_BY_PROMETHEUS: usize = 5;

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
fn promtool_accepts_a_scrape_that_is_cut() {
    // One series too few for the histogram of the loop's turns, and just enough.
    for (limit, lines) in [("8", 0), ("9", 9)] {
        let agent = Agent::start(&["--series-limit", limit]);
        let text = agent.get("/metrics");
        let (content, said) = promtool_check(text.text());
        assert!(content, "{limit}: {said}");
        let turns = text.text().lines().filter(|line| line.starts_with("nodeprobe_loop_turn_seconds"));
        assert_eq!(turns.count(), lines, "{limit}");
    }
}

#[test]
fn prometheus_scrapes_and_answers() {
    let live = Agent::start(&[]);
    let fixture = Agent::start(&[&format!("--root={FIXTURE}")]);
    let mut prometheus = Prometheus::start(&[("live", &live), ("fixture", &fixture)], 1, None);
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
