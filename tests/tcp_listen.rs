//! Sockets of containers that listen: where they can be reached, and until when. Needs root and a cgroup mount.

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::netns::{Netns, output};
use support::puppet::Puppet;
use support::tcp::LISTENERS;
use support::{Agent, Metrics};

/// The first of ten ports.
const FIRST: u16 = 18_090;

/// Where somebody can be reached, and whether.
type Shown = BTreeMap<String, f64>;

/// All addresses of a network namespace or of this host, but those of links: IPv4, IPv6.
fn addresses(netns: Option<&Netns>) -> (Vec<String>, Vec<String>) {
    let mut command = Command::new("ip");
    command.args(["-o", "addr", "show"]);
    if let Some(netns) = netns {
        netns.enter(&mut command);
    }
    let text = output(command);
    let of = |family: &str| {
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = words.filter(|words| words.get(2) == Some(&family)).map(|words| words[3].to_owned());
        let found = found.map(|address| address.split('/').next().unwrap().to_owned());
        found.filter(|address| !address.starts_with("fe80:")).collect()
    };
    (of("inet"), of("inet6"))
}

/// What is exported of a container, without the addresses of links.
fn shown(metrics: &Metrics, container: &str) -> Shown {
    let all =
        metrics.series(LISTENERS).into_iter().filter(|series| series.label("container_id") == container);
    all.filter(|series| !series.label("listen_addr").starts_with("[fe80:"))
        .map(|series| {
            assert_eq!(series.label("proxy"), "", "{series:?}");
            (series.label("listen_addr").to_owned(), series.value)
        })
        .collect()
}

/// Scrapes until exactly this is exported.
#[track_caller]
fn becomes(agent: &Agent, container: &str, truth: &Shown) {
    let began = Instant::now();
    loop {
        let shown = shown(&agent.scrape(), container);
        if shown == *truth {
            return;
        }
        if began.elapsed() > Duration::from_secs(10) {
            panic!("is {shown:#?}, not {truth:#?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn v4(address: &str, number: u16) -> String {
    format!("{address}:{}", FIRST + number)
}

fn v6(address: &str, number: u16) -> String {
    format!("[{address}]:{}", FIRST + number)
}

/// Sets what a wildcard of these addresses shows.
fn set(shown: &mut Shown, addresses: &(Vec<String>, Vec<String>), number: u16, families: &str, value: f64) {
    let four = addresses.0.iter().filter(|_| families.contains('4')).map(|address| v4(address, number));
    let six = addresses.1.iter().filter(|_| families.contains('6')).map(|address| v6(address, number));
    shown.extend(four.chain(six).map(|address| (address, value)));
}

#[test]
fn listeners_of_the_hosts_namespace() {
    let _turn = turn();
    let all = addresses(None);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut server = Puppet::start(Some(&cgroup), None);
    server.run(&format!("FIRST = {FIRST}; one = listen('0.0.0.0', FIRST); two = listen('::', FIRST + 1, 0)"));
    let agent = Agent::start(&[]);
    let mut truth = Shown::new();
    set(&mut truth, &all, 0, "4", 1.0);
    set(&mut truth, &all, 1, "46", 1.0);
    becomes(&agent, &container, &truth);

    // While it runs.
    server.run(
        "three = listen('::', FIRST + 2, 1); four = listen('127.0.0.1', FIRST + 3); five = listen('::1', FIRST + 4)
hidden = listen('0.0.0.0', 40_000)
bound = socket.socket(); bound.bind(('127.0.0.1', FIRST + 5))
shared = [listen('127.0.0.1', FIRST + 6, share=True) for n in range(2)]",
    );
    set(&mut truth, &all, 2, "6", 1.0);
    for address in [v4("127.0.0.1", 3), v6("::1", 4), v4("127.0.0.1", 6)] {
        truth.insert(address, 1.0);
    }
    if let Some(address) = all.0.iter().find(|address| *address != "127.0.0.1") {
        server.run(&format!("six = listen('{address}', FIRST + 7)"));
        truth.insert(v4(address, 7), 1.0);
    }
    becomes(&agent, &container, &truth);
    println!("{} addresses of listeners", truth.len());

    // Closed, half of what shared a port closed, closed by the parent of a process that goes on.
    server.run(
        "two.close(); shared[0].close()
inherit, go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go); os.read(inherit, 1); os._exit(0)
os.close(inherit); four.close()",
    );
    set(&mut truth, &all, 1, "46", 0.0);
    becomes(&agent, &container, &truth);
    server.run("two = listen('::', FIRST + 1, 0); shared[1].close()");
    set(&mut truth, &all, 1, "46", 1.0);
    // The child has a copy of the shared ones' last still.
    becomes(&agent, &container, &truth);
    server.run("os.close(go); os.waitpid(child, 0)");
    truth.insert(v4("127.0.0.1", 3), 0.0);
    truth.insert(v4("127.0.0.1", 6), 0.0);
    becomes(&agent, &container, &truth);

    // Another agent never saw what is closed, and finds what is open.
    drop(agent);
    let agent = Agent::start(&[]);
    truth.retain(|_, value| *value == 1.0);
    becomes(&agent, &container, &truth);
    server.kill();
    truth.values_mut().for_each(|value| *value = 0.0);
    becomes(&agent, &container, &truth);
}

#[test]
fn listeners_of_a_containers_own_namespace() {
    let _turn = turn();
    let (own, peer) = (Netns::new("container"), Netns::new("peer"));
    own.cable("eth0", &["10.79.1.1/24", "10.79.2.1/24", "fd79:1::1/64"], &peer, "eth0", &["10.79.1.2/24"]);
    let all = addresses(Some(&own));
    assert_eq!(all.0.len() + all.1.len(), 5, "{all:?}");
    let reached = |addresses: Vec<String>| -> Vec<String> {
        addresses.into_iter().filter(|address| address != "127.0.0.1" && address != "::1").collect()
    };
    let all = (reached(all.0), reached(all.1));
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut server = Puppet::start(Some(&cgroup), Some(&own));
    server.run(&format!("FIRST = {FIRST}; one = listen('0.0.0.0', FIRST); two = listen('::', FIRST + 1, 0)"));
    let agent = Agent::start(&[]);
    let mut truth = Shown::new();
    set(&mut truth, &all, 0, "4", 1.0);
    set(&mut truth, &all, 1, "46", 1.0);
    becomes(&agent, &container, &truth);
    // Nobody else reaches a container's loopback.
    server.run(
        "three = listen('::', FIRST + 2, 1); four = listen('127.0.0.1', FIRST + 3); five = listen('::1', FIRST + 4)
six = listen('10.79.2.1', FIRST + 5); seven = listen('fd79:1::1', FIRST + 6); hidden = listen('10.79.1.1', 40_000)",
    );
    set(&mut truth, &all, 2, "6", 1.0);
    truth.insert(v4("10.79.2.1", 5), 1.0);
    truth.insert(v6("fd79:1::1", 6), 1.0);
    becomes(&agent, &container, &truth);
    server.run("one.close(); six.close()");
    set(&mut truth, &all, 0, "4", 0.0);
    truth.insert(v4("10.79.2.1", 5), 0.0);
    becomes(&agent, &container, &truth);
    server.run("one = listen('0.0.0.0', FIRST)");
    set(&mut truth, &all, 0, "4", 1.0);
    becomes(&agent, &container, &truth);
    drop(agent);
    let agent = Agent::start(&[]);
    truth.retain(|_, value| *value == 1.0);
    becomes(&agent, &container, &truth);
    server.kill();
    truth.values_mut().for_each(|value| *value = 0.0);
    becomes(&agent, &container, &truth);
}

/// A process of one container that listens on behalf of another namespace's addresses, and one that never listens.
#[test]
fn listeners_are_their_owners() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroups = [Cgroup::docker(None), Cgroup::docker(None)];
    let mut one = Puppet::start(Some(&cgroups[0]), None);
    let mut other = Puppet::start(Some(&cgroups[1]), None);
    one.run(&format!("server = listen('127.0.0.1', {FIRST}); kept = hold(server)"));
    other.run(&format!("made = [connect('127.0.0.1', {FIRST}) for n in range(3)]"));
    becomes(&agent, &cgroups[0].container_id(), &Shown::from([(v4("127.0.0.1", 0), 1.0)]));
    assert!(shown(&agent.scrape(), &cgroups[1].container_id()).is_empty());
    // Accepted connections outlive the listener, and are none.
    one.run("server.shutdown(socket.SHUT_RDWR); server.close()");
    becomes(&agent, &cgroups[0].container_id(), &Shown::from([(v4("127.0.0.1", 0), 0.0)]));
    other.run(&format!("server = listen('127.0.0.1', {FIRST})"));
    becomes(&agent, &cgroups[1].container_id(), &Shown::from([(v4("127.0.0.1", 0), 1.0)]));
    becomes(&agent, &cgroups[0].container_id(), &Shown::from([(v4("127.0.0.1", 0), 0.0)]));
}
