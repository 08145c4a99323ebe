//! Traffic of containers against this kernel: namespaces of their own, shared ones, the host's. Needs root.

mod support;

use std::time::Instant;

use support::cgroup::{Cgroup, of_container, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::{ANSWER, Agent};

const SENT: &str = "container_net_transmitted_bytes_total";
const SENT_PACKETS: &str = "container_net_transmitted_packets_total";
const RECEIVED: &str = "container_net_received_bytes_total";
const DROPS: &str = "container_net_received_drops_total";

/// Sends so many datagrams of 1,000 bytes to the other end of the cable, where nobody listens.
fn send(puppet: &mut Puppet, count: usize) {
    puppet.run(&format!(
        "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({count}):
    try: s.sendto(b'x' * 1000, ('10.7.0.2', 9))
    except ConnectionRefusedError: pass
s.close(); out = 'sent'"
    ));
}

/// A column of the namespace's /proc/net/dev: of the far end's, so that it is not what the agent reads.
fn far(puppet: &mut Puppet, column: usize) -> f64 {
    puppet.numbers(&format!(
        "out = [l.split(':')[1].split()[{column}] for l in open('/proc/thread-self/net/dev') if 'far0:' in l][0]"
    ))[0]
}

fn value(agent: &Agent, family: &str, container: &str) -> Option<f64> {
    agent.scrape().value(family, &[("container_id", container), ("interface", "eth0")])
}

/// Waits until a family of a container is what the far end says.
#[track_caller]
fn becomes(agent: &Agent, family: &str, container: &str, truth: &mut dyn FnMut() -> f64) -> f64 {
    let began = Instant::now();
    loop {
        let wanted = truth();
        let seen = value(agent, family, container);
        // Neighbour discovery goes on beside.
        if seen == Some(wanted) && truth() == wanted {
            return wanted;
        }
        assert!(began.elapsed() < ANSWER, "{family} of {container} is {seen:?}, not {wanted}");
    }
}

#[test]
fn a_namespace_counts_for_one_of_its_containers() {
    let _turn = turn();
    let (home, away) = (Netns::new("home"), Netns::new("away"));
    home.cable("eth0", &["10.7.0.1/24"], &away, "far0", &["10.7.0.2/24"]);
    let mut witness = Puppet::start(None, Some(&away));
    let [a, b, c] = [(); 3].map(|()| Cgroup::docker(None));
    let ids = [&a, &b, &c].map(Cgroup::container_id);
    let mut first = Puppet::start(Some(&a), Some(&home));
    let in_host = Puppet::start(Some(&c), None);
    let agent = Agent::start(&[]);
    send(&mut first, 100);
    let bytes = becomes(&agent, SENT, &ids[0], &mut || far(&mut witness, 0));
    assert!(bytes >= 100.0 * 1042.0, "{bytes}");
    becomes(&agent, SENT_PACKETS, &ids[0], &mut || far(&mut witness, 1));
    becomes(&agent, RECEIVED, &ids[0], &mut || far(&mut witness, 8));
    assert_eq!(value(&agent, DROPS, &ids[0]), Some(0.0));

    // A second one in the same namespace: nothing counts twice.
    let mut second = Puppet::start(Some(&b), Some(&home));
    send(&mut second, 50);
    let before = becomes(&agent, SENT, &ids[0], &mut || far(&mut witness, 0));
    assert_eq!(value(&agent, SENT, &ids[1]), None);
    assert!(before >= bytes + 50.0 * 1042.0);

    // When the first is gone, the second goes on from there, and the first does not fall.
    first.kill();
    drop(a);
    let began = Instant::now();
    while value(&agent, SENT, &ids[1]).is_none() {
        send(&mut second, 1);
        assert!(began.elapsed() < ANSWER, "nobody has the namespace");
    }
    send(&mut second, 30);
    let of_first = value(&agent, SENT, &ids[0]).expect("counters linger");
    becomes(&agent, SENT, &ids[1], &mut || far(&mut witness, 0) - of_first);

    assert!(of_container(&agent.scrape(), "container_resources_pids", &ids[2]) >= 1.0, "it is known");
    assert_eq!(value(&agent, SENT, &ids[2]), None, "the host's namespace is the node's");
    drop(in_host);
}
