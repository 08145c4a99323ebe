//! `--memory-limit`: near it nothing new is taken in, and all that is known goes on.

mod support;

use std::fs;
use std::time::Duration;

use support::cgroup::{Cgroup, turn};
use support::{Agent, Metrics, TempDir, compile_bpf, until};

const USED: &str = "nodeprobe_memory_used_bytes";
const LIMIT: f64 = 16.0 * 1024.0 * 1024.0;
const REFUSALS: &str = "nodeprobe_memory_refusals_total";

fn used(metrics: &Metrics) -> f64 {
    metrics.value(USED, &[]).expect(USED)
}

fn is_there(metrics: &Metrics, container: &Cgroup) -> bool {
    let id = container.container_id();
    metrics.value("container_resources_cpu_usage_seconds_total", &[("container_id", &id)]).is_some()
}

#[test]
fn near_the_limit_new_containers_are_refused_and_known_ones_go_on() {
    let _turn = turn();
    let known = Cgroup::docker(None);
    let agent = Agent::start(&["--memory-limit=16M", "--linger=1s", "--interval=1s"]);
    assert_eq!(agent.scrape().value("nodeprobe_memory_limit_bytes", &[]), Some(LIMIT));
    let mut crowd = Vec::new();
    let metrics = until("the agent has had enough", Duration::from_secs(120), || {
        crowd.extend((0..500).map(|_| Cgroup::docker(Some(&["unified"]))));
        let metrics = agent.scrape();
        assert!(used(&metrics) <= LIMIT, "{} bytes with {} containers", used(&metrics), crowd.len());
        (metrics.value(REFUSALS, &[("what", "keys")]) > Some(0.0)).then_some(metrics)
    });
    println!("{} bytes with {} containers", used(&metrics), crowd.len());
    for _ in 0..3 {
        crowd.extend((0..500).map(|_| Cgroup::docker(Some(&["unified"]))));
        let metrics = agent.scrape();
        assert!(used(&metrics) <= LIMIT, "{} bytes with {} containers", used(&metrics), crowd.len());
        assert!(is_there(&metrics, &known));
    }
    let status = fs::read_to_string(agent.proc("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    let resident: f64 = resident.unwrap().parse::<f64>().unwrap() * 1024.0;
    assert!(resident < LIMIT, "{resident} bytes are resident");
    assert_eq!(agent.stderr().iter().filter(|line| line.contains("--memory-limit")).count(), 1);
    let refused = Cgroup::docker(None);
    assert!(!is_there(&agent.scrape(), &refused));
    drop(crowd);
    until("there is room for who was refused", Duration::from_secs(60), || {
        is_there(&agent.scrape(), &refused).then_some(())
    });
}

#[test]
fn maps_beyond_half_of_it_are_refused() {
    let _turn = turn();
    let directory = TempDir::new("large-maps");
    let source = directory.write(
        "large.bpf.c",
        r#"
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u64); __type(value, __u64); } large SEC(".maps");
        SEC("raw_tracepoint/sys_enter") int count(void *context) { __u64 key = 1; bpf_map_lookup_elem(&large, &key); return 0; }
        char _license[] SEC("license") = "GPL";
        "#,
    );
    directory.write(
        "large.yaml",
        "metrics:\n  counters:\n    - name: large\n      help: Nothing.\n      labels:\n        - name: key\n          size: 8\n          decoders:\n            - name: uint\n",
    );
    let flag = format!("--config.dir={}", directory.path().display());
    for (entries, problems) in [("1024", 0.0), ("1000000", 1.0)] {
        let object = directory.path().join("large.bpf.o");
        compile_bpf(source.to_str().unwrap(), &[&format!("ENTRIES={entries}")], &object);
        let agent = Agent::start(&[&flag]);
        let metrics = agent.scrape();
        assert_eq!(
            metrics.sum("nodeprobe_config_problems", &[]),
            problems,
            "{entries}: {:?}",
            agent.stderr()
        );
        let said = agent.stderr().concat();
        assert_eq!(said.contains("more than half of --memory-limit (64 MiB)"), problems > 0.0, "{said}");
        assert!(used(&metrics) < 16.0 * 1024.0 * 1024.0);
        drop(agent);
        let _ = fs::remove_file(object);
    }
}
