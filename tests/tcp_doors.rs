//! The ways by which connections are followed, beside each other: what they export is the same text. Needs root.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use support::cgroup::{Cgroup, of_container, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::tcp::*;
use support::{Agent, Metrics, TempDir, until};

/// Has the kernel hide its types, and mounts what the classic tracepoint needs.
fn without_types(directory: &TempDir) -> PathBuf {
    let script = format!(
        "#!/bin/sh
exec unshare -m sh -ec '
[ ! -d /sys/kernel/btf ] || mount -t tmpfs none /sys/kernel/btf
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
exec {} \"$@\"' sh \"$@\"
",
        support::BINARY
    );
    let path = directory.write("nodeprobe", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn door(metrics: &Metrics) -> String {
    metrics.series("nodeprobe_tcp_door_info")[0].label("door").to_owned()
}

/// The series of some families about a container, one a line; without those values that differ from run to run.
fn text(metrics: &Metrics, families: &[&str], container: &str) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for family in families {
        for series in metrics.series(family) {
            if series.label("container_id") == container {
                let value = if *family == SECONDS { f64::from(series.value > 0.0) } else { series.value };
                let labels = ["destination", "actual_destination", "listen_addr", "proxy"]
                    .map(|label| format!("{label}={:?}", series.label(label)));
                lines.insert(format!("{family} {} {value}", labels.join(" ")));
            }
        }
    }
    lines
}

/// Once more when a byte is counted otherwise: kernels leave out programs at times (on top of an interrupted one, or of tasks
/// they keep to themselves), and a table by socket then has what the last socket of that address has left. Twice is no chance.
#[test]
fn all_ways_export_the_same() {
    if let Err(difference) = all_ways() {
        println!("once more: {difference}");
        all_ways().expect("the same bytes");
    }
}

fn all_ways() -> Result<(), String> {
    const COMMON: &[&str] = &[SUCCESSES, FAILURES, ACTIVE, SECONDS, LISTENERS];
    let _turn = turn();
    let directory = TempDir::new("doors");
    let agents = [
        Agent::start(&[]),
        Agent::start(&["--tcp-door=table"]),
        Agent::start_binary(&without_types(&directory), &[]),
    ];
    let doors: Vec<String> = agents.iter().map(|agent| door(&agent.scrape())).collect();
    assert_eq!(doors, ["storage", "table", "tracepoint"], "{:?}", agents[2].stderr());
    assert!(agents[2].stderr().iter().any(|line| line.contains("bytes, retransmits and latency are absent")));

    let _server = Server::start(OPEN_PORT, true);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    // Processes that live milliseconds, both ends of IPv4, IPv6 and IPv4 spoken through IPv6.
    cgroup.run(&(connects("127.0.0.1", OPEN_PORT, 40) + &connects("127.0.0.1", CLOSED_PORT, 7)));
    let mut client = Puppet::start(Some(&cgroup), None);
    client.run(&format!(
        "six = listen('::1', 18082)
bound = listen('0.0.0.0', 18083)
kept = [connect('::1', 18082) for n in range(3)] + [connect('::ffff:127.0.0.1', {OPEN_PORT})]
try: connect('::1', 18084)
except ConnectionRefusedError: pass
kept.pop(0).close()"
    ));
    let complete = |agent: &Agent| {
        until("40 + 1 + 3 connects and the listeners", Duration::from_secs(20), || {
            let metrics = agent.scrape();
            let all = of_container(&metrics, SUCCESSES, &container) == 44.0
                && of_container(&metrics, ACTIVE, &container) == 3.0
                && of_container(&metrics, LISTENERS, &container) >= 2.0;
            all.then_some(metrics)
        })
    };
    let exported: Vec<Metrics> = agents.iter().map(complete).collect();
    let texts: Vec<BTreeSet<String>> =
        exported.iter().map(|metrics| text(metrics, COMMON, &container)).collect();
    println!("{texts:#?}");
    assert_eq!(texts[0], texts[1], "table");
    assert_eq!(texts[0], texts[2], "tracepoint");
    // What the socket knows is the same where sockets are looked into, and absent where not.
    let socket = [SENT, RECEIVED];
    let [storage, table] = [0, 1].map(|door| text(&exported[door], &socket, &container));
    if storage != table {
        return Err(format!("{storage:?} and {table:?}"));
    }
    assert!(!storage.is_empty());
    assert!(text(&exported[2], &[SENT, RECEIVED, RETRANSMITS, LATENCY], &container).is_empty());
    client.run("kept.clear(); six.close()");
    for agent in &agents {
        becomes(agent, ACTIVE, &[("container_id", &container)], 0.0);
        becomes(agent, LISTENERS, &[("container_id", &container), ("listen_addr", "[::1]:18082")], 0.0);
    }
    Ok(())
}

/// Without types the program knows no network namespaces; loopback of others than the host's is left out all the same.
#[test]
fn loopback_of_other_namespaces_is_left_out_by_all() {
    let _turn = turn();
    let directory = TempDir::new("doors");
    let agents = [Agent::start(&["--tcp-door=table"]), Agent::start_binary(&without_types(&directory), &[])];
    let netns = Netns::new("own");
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut client = Puppet::start(Some(&cgroup), Some(&netns));
    client.run(&format!(
        "server = listen('127.0.0.1', {OPEN_PORT})
for n in range(5): reset(connect('127.0.0.1', {OPEN_PORT}))"
    ));
    // What comes later, elsewhere, is counted.
    let _server = Server::start(OPEN_PORT, false);
    let other = Cgroup::docker(None);
    let mut witness = Puppet::start(Some(&other), None);
    witness.run(&format!("for n in range(3): reset(connect('127.0.0.1', {OPEN_PORT}))"));
    for agent in &agents {
        let metrics = becomes(agent, SUCCESSES, &[("container_id", &other.container_id())], 3.0);
        assert_eq!(of_container(&metrics, SUCCESSES, &container), 0.0, "{}", door(&metrics));
    }
}
