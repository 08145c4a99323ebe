//! Outbound TCP connections of containers against this kernel: every way to make one, keep one and end one, each counted as
//! often as it was made. Needs root and a cgroup mount.
//!
//! `NODEPROBE_STORM_SECONDS` lengthens the storm.

mod support;

use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, of_container, turn};
use support::netns::{AsHost, Netns, counter};
use support::puppet::Puppet;
use support::tcp::{
    ACTIVE, CLOSED_PORT, FAILURES, LISTENERS, OPEN_PORT, RECEIVED, RETRANSMITS, SECONDS, SENT, SUCCESSES,
    Server, Storm, becomes, destination,
};
use support::{Agent, Metrics};

/// A server that keeps what it accepts.
const HELD_PORT: u16 = 18082;
/// What is sent here is never answered.
const BLACK_HOLE: u16 = 18083;

/// Labels of a container, or of a container and a destination.
macro_rules! of {
    ($container:expr) => {
        &[("container_id", &*$container)]
    };
    ($container:expr, $destination:expr) => {
        &[("container_id", &*$container), ("destination", &*$destination)]
    };
}

/// A client's namespace with a cable to that of a server, where connects to [`BLACK_HOLE`] vanish.
fn two_hosts() -> (Netns, Netns) {
    let (client, server) = (Netns::new("client"), Netns::new("server"));
    let addresses = (["10.77.1.1/24", "fd77:1::1/64"], ["10.77.1.2/24", "fd77:1::2/64"]);
    client.cable("to-server", &addresses.0, &server, "to-client", &addresses.1);
    server.nft("add table inet t; add chain inet t in { type filter hook input priority 0; }");
    server.nft(&format!("add rule inet t in tcp dport {BLACK_HOLE} counter drop"));
    (client, server)
}

#[test]
fn a_storm_of_connects_is_counted_to_the_last() {
    let _turn = turn();
    let seconds = std::env::var("NODEPROBE_STORM_SECONDS").map_or(4, |text| text.parse().unwrap());
    let storm = Storm::new();
    let _server = storm.serve(OPEN_PORT);
    let agent = Agent::start(&[]);
    let port = OPEN_PORT.to_string();
    let steady = Cgroup::docker(None);
    let brief: Vec<Cgroup> = (0..20).map(|_| Cgroup::docker(None)).collect();
    let (count, time) = ((50 * seconds).to_string(), seconds.to_string());
    let opens = || counter(&std::fs::read_to_string("/proc/net/snmp").unwrap(), "Tcp", "ActiveOpens") as f64;
    let before = opens();
    let mut fast: Vec<_> =
        (0..2).map(|_| storm.start(Some(&steady), &["connect", "127.0.0.1", &port, &time])).collect();
    let slow: Vec<_> = brief
        .iter()
        .map(|cgroup| storm.start(Some(cgroup), &["brief", "127.0.0.1", &port, &count]))
        .collect();
    let (mut scrapes, mut last) = (0, 0.0);
    while fast.iter_mut().any(|running| running.is_running()) {
        let now = of_container(&agent.scrape(), SUCCESSES, &steady.container_id());
        assert!(now >= last, "{last}, then {now}");
        last = now;
        scrapes += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let truth = |running: Vec<support::tcp::Running>| -> Vec<(f64, f64)> {
        running.into_iter().map(|running| running.made()).collect()
    };
    let (fast, slow) = (truth(fast), truth(slow));
    let metrics = agent.scrape();
    let opened = opens() - before;
    let check = |cgroup: &Cgroup, made: &[(f64, f64)]| {
        let container = cgroup.container_id();
        let sum = |each: fn(&(f64, f64)) -> f64| made.iter().map(each).sum::<f64>();
        assert_eq!(of_container(&metrics, SUCCESSES, &container), sum(|made| made.0), "{container}");
        assert_eq!(of_container(&metrics, FAILURES, &container), sum(|made| made.1), "{container}");
    };
    check(&steady, &fast);
    for (cgroup, made) in brief.iter().zip(&slow) {
        check(cgroup, std::slice::from_ref(made));
    }
    becomes(&agent, ACTIVE, of!(steady.container_id()), 0.0);
    let all = |made: &[(f64, f64)]| made.iter().map(|made| made.0 + made.1).sum::<f64>();
    assert!(opened >= all(&fast) + all(&slow), "the kernel says {opened}");
    println!(
        "storm: {} connects in {seconds} s by 2 processes and {} by as many processes in 20 cgroups; {scrapes} scrapes; \
         the kernel says {opened} on this host",
        all(&fast),
        all(&slow)
    );
}

/// All that happens to connects within this host.
#[test]
fn connects_end_as_the_program_saw_them_end() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, false);
    let mut server = Puppet::start(None, None);
    server.run(&format!("six = listen('::1', {OPEN_PORT}); kept = hold(six)"));
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut client = Puppet::start(Some(&cgroup), None);
    let open = format!("127.0.0.1:{OPEN_PORT}");
    let closed = format!("127.0.0.1:{CLOSED_PORT}");
    let began = Instant::now();
    // Connects that block: 11 that succeed, 50 that are refused.
    client.run(&format!(
        "for n in range(11): reset(connect('127.0.0.1', {OPEN_PORT}))
for n in range(50):
    try: connect('127.0.0.1', {CLOSED_PORT})
    except ConnectionRefusedError: continue
    assert False"
    ));
    // Those that do not: 7 and 5.
    client.run(&format!(
        "made = [connecting('127.0.0.1', {OPEN_PORT}) for n in range(7)]
assert not any(map(outcome, made))
for each in made: reset(each)
refused = [connecting('127.0.0.1', {CLOSED_PORT}) for n in range(5)]
assert all(outcome(each) == errno.ECONNREFUSED for each in refused)
for each in refused: each.close()"
    ));
    // One socket that is refused, then succeeds, is disconnected, and succeeds again: 1 and 2.
    client.run(&format!(
        "again = socket.socket()
try: again.connect(('127.0.0.1', {CLOSED_PORT})); assert False
except ConnectionRefusedError: pass
again.connect(('127.0.0.1', {OPEN_PORT}))
disconnect(again)
again.connect(('127.0.0.1', {OPEN_PORT}))
reset(again)"
    ));
    // IPv4 spoken through an IPv6 socket is IPv4: 3.
    client
        .run(&format!("for n in range(3): reset(connect('::ffff:127.0.0.1', {OPEN_PORT}, socket.AF_INET6))"));
    // IPv6: 4 and 6.
    client.run(&format!(
        "for n in range(4): reset(connect('::1', {OPEN_PORT}))
for n in range(6):
    try: connect('::1', {CLOSED_PORT}); assert False
    except ConnectionRefusedError: pass"
    ));
    // What is no outbound TCP connection counts as none.
    client.run(&format!(
        "udp = socket.socket(type=socket.SOCK_DGRAM); udp.connect(('127.0.0.1', {OPEN_PORT})); udp.send(b'?')
one, two = socket.socketpair()
never = socket.socket(); never.bind(('127.0.0.1', 0)); never.close()"
    ));
    let wall = began.elapsed().as_secs_f64();
    let metrics = agent.scrape();
    assert_eq!(destination(&metrics, SUCCESSES, &container, &open), Some(23.0));
    assert_eq!(destination(&metrics, FAILURES, &container, &closed), Some(56.0));
    let six = (format!("[::1]:{OPEN_PORT}"), format!("[::1]:{CLOSED_PORT}"));
    assert_eq!(destination(&metrics, SUCCESSES, &container, &six.0), Some(4.0));
    assert_eq!(destination(&metrics, FAILURES, &container, &six.1), Some(6.0));
    assert_eq!(of_container(&metrics, SUCCESSES, &container), 27.0);
    assert_eq!(of_container(&metrics, FAILURES, &container), 62.0);
    let mut labels: Vec<&str> = metrics
        .series(SUCCESSES)
        .into_iter()
        .filter(|series| series.label("container_id") == container && series.value > 0.0)
        .map(|series| series.label("destination"))
        .collect();
    labels.sort_unstable();
    assert_eq!(labels, [open.as_str(), six.0.as_str()]);
    for series in metrics.series(SUCCESSES) {
        if series.label("container_id") == container && series.value > 0.0 {
            assert_eq!(series.label("actual_destination"), series.label("destination"));
        }
    }
    becomes(&agent, ACTIVE, of!(container), 0.0);
    let took = agent.scrape().sum(SECONDS, of!(container));
    println!("27 connects took {:.0} us in all, their program {:.0} us", took * 1e6, wall * 1e6);
    assert!(took > 0.0 && took < wall, "{took} s of {wall} s");
}

/// A socket that is bound to where it connects to, and is answered by itself.
#[test]
fn a_connection_to_itself_is_one() {
    let _turn = turn();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let mut client = Puppet::start(Some(&cgroup), None);
    client.run(&format!(
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', {HELD_PORT}))
s.connect(('127.0.0.1', {HELD_PORT})); s.send(b'12345'); assert s.recv(9) == b'12345'"
    ));
    let labels = (cgroup.container_id(), format!("127.0.0.1:{HELD_PORT}"));
    let metrics = agent.scrape();
    assert_eq!(metrics.sum(SUCCESSES, of!(labels.0, labels.1)), 1.0);
    assert_eq!(metrics.sum(ACTIVE, of!(labels.0, labels.1)), 1.0);
    client.run("reset(s)");
    becomes(&agent, ACTIVE, of!(labels.0), 0.0);
    let metrics = agent.scrape();
    assert_eq!(metrics.sum(FAILURES, of!(labels.0)), 0.0);
    assert_eq!(metrics.sum(SENT, of!(labels.0)), 5.0);
    assert_eq!(metrics.sum(RECEIVED, of!(labels.0)), 5.0);
}

#[test]
fn connects_between_namespaces_time_out_are_given_up_and_opened_fast() {
    let _turn = turn();
    let (near, far) = two_hosts();
    near.sysctl("ipv4/tcp_syn_retries", "1");
    near.sysctl("ipv4/tcp_fastopen", "1");
    far.sysctl("ipv4/tcp_fastopen", "2");
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut server = Puppet::start(None, Some(&far));
    server.run(&format!(
        "four, six = listen('10.77.1.2', {OPEN_PORT}), listen('fd77:1::2', {OPEN_PORT})
four.setsockopt(socket.IPPROTO_TCP, 23, 64)  # TCP_FASTOPEN
def answer(client):
    count = to_the_end(client); client.send(b'x' * 10); client.close(); return count
done = [serve(four, answer), serve(six, answer)]"
    ));
    let mut client = Puppet::start(Some(&cgroup), Some(&near));
    // In the dark: one that times out, one that is given up, and one of a process that is killed.
    let began = Instant::now();
    client.order(&format!(
        "try: connect('10.77.1.2', {BLACK_HOLE}); assert False
except TimeoutError: pass"
    ));
    let mut other = Puppet::start(Some(&cgroup), Some(&near));
    other.run(&format!("given_up = connecting('10.77.1.2', {BLACK_HOLE}); given_up.close()"));
    other.run(&format!("pending = connecting('10.77.1.2', {BLACK_HOLE})"));
    let dark = format!("10.77.1.2:{BLACK_HOLE}");
    let metrics = agent.scrape();
    assert_eq!(metrics.sum(FAILURES, of!(container, dark)), 1.0, "one is given up, two are pending");
    assert_eq!(metrics.sum(SUCCESSES, of!(container, dark)), 0.0);
    other.kill();
    becomes(&agent, FAILURES, of!(container, dark), 2.0);
    client.answer();
    println!("the connect timed out after {:?}", began.elapsed());
    becomes(&agent, FAILURES, of!(container, dark), 3.0);
    let truth = near.snmp("Tcp", "RetransSegs");
    assert!(truth >= 1, "{truth} retransmits in the namespace");
    becomes(&agent, RETRANSMITS, of!(container, dark), truth as f64);
    let dropped = far.nft("list chain inet t in");
    assert!(dropped.contains(&format!("packets {} ", 3 + truth)), "{dropped}");

    // Fast Open: the first connect fetches a cookie, the second sends its data with the SYN, the third has it done by connect.
    let light = format!("10.77.1.2:{OPEN_PORT}");
    client.run(&format!(
        "for n in range(2):
    s = socket.socket(); s.sendto(b'f' * 100, 0x20000000, ('10.77.1.2', {OPEN_PORT}))  # MSG_FASTOPEN
    s.shutdown(socket.SHUT_WR); assert to_the_end(s) == 10; s.close()
s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
s.connect(('10.77.1.2', {OPEN_PORT})); s.send(b'f' * 100)
s.shutdown(socket.SHUT_WR); assert to_the_end(s) == 10; s.close()"
    ));
    let fast = server.run("out = open('/proc/net/netstat').read()");
    assert_eq!(counter(&fast, "TcpExt", "TCPFastOpenPassive"), 2, "the server took data with the SYN");
    becomes(&agent, SUCCESSES, of!(container, light), 3.0);
    becomes(&agent, FAILURES, of!(container), 3.0);
    becomes(&agent, ACTIVE, of!(container), 0.0);
    becomes(&agent, SENT, of!(container, light), 300.0);
    becomes(&agent, RECEIVED, of!(container, light), 30.0);

    // IPv6 from a container.
    client.run(&format!(
        "for n in range(4):
    s = connect('fd77:1::2', {OPEN_PORT}); s.shutdown(socket.SHUT_WR); assert to_the_end(s) == 10; s.close()"
    ));
    becomes(&agent, SUCCESSES, of!(container, format!("[fd77:1::2]:{OPEN_PORT}")), 4.0);
    becomes(&agent, SUCCESSES, of!(container), 7.0);
}

/// A container's own loopback connects no services; that of the host's namespace does.
#[test]
fn loopback_counts_in_the_hosts_namespace_alone() {
    let _turn = turn();
    let (own, host) = (Netns::new("container"), Netns::new("host"));
    let as_host = AsHost::new(&host);
    // The agent serves in there too.
    host.enter_thread();
    let agent = Agent::start_binary(&as_host.binary(), &[]);
    let mut left_out = Vec::new();
    for (netns, truth) in [(&own, None), (&host, Some(3.0))] {
        let cgroup = Cgroup::docker(None);
        let mut client = Puppet::start(Some(&cgroup), Some(netns));
        for (address, label) in [("127.0.0.1", "127.0.0.1"), ("127.9.9.9", "127.9.9.9"), ("::1", "[::1]")] {
            client.run(&format!(
                "server = listen('{address}', {OPEN_PORT})
for n in range(3): reset(connect('{address}', {OPEN_PORT}))"
            ));
            let label = format!("{label}:{OPEN_PORT}");
            match truth {
                Some(truth) => drop(becomes(&agent, SUCCESSES, of!(cgroup.container_id(), label), truth)),
                None => left_out.push((cgroup.container_id(), label)),
            }
        }
    }
    // What came after them is counted by now.
    for (container, label) in left_out {
        assert_eq!(agent.scrape().value(SUCCESSES, of!(container, label)), None, "{label}");
    }
}

#[test]
fn a_connection_is_active_until_its_last_copy_is_closed() {
    let _turn = turn();
    let _server = Server::start(OPEN_PORT, true);
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let active = |count| becomes(&agent, ACTIVE, of!(container), count);
    let mut client = Puppet::start(Some(&cgroup), None);
    client.run(&format!("first = connect('127.0.0.1', {OPEN_PORT}); copy = first.dup()"));
    active(1.0);
    client.run("first.close()");
    active(1.0);
    // A child inherits the copy, and its parent closes it.
    client.run(
        "inherit, go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go); os.read(inherit, 1); os._exit(0)
os.close(inherit); copy.close()",
    );
    active(1.0);
    client.run("os.close(go); os.waitpid(child, 0)");
    active(0.0);
    assert!(destination(&agent.scrape(), ACTIVE, &container, &format!("127.0.0.1:{OPEN_PORT}")).is_none());
    // Half-closed by this side is not established any more, and closed is not either.
    client.run(&format!("made = [connect('127.0.0.1', {OPEN_PORT}) for n in range(9)]"));
    active(9.0);
    client.run("for each in made[:4]: each.close()");
    active(5.0);
    client.kill();
    active(0.0);
    assert_eq!(of_container(&agent.scrape(), SUCCESSES, &container), 10.0);
}

/// Connections and listeners that are older than the agent.
#[test]
fn what_was_there_before_is_found() {
    let _turn = turn();
    let (near, far) = two_hosts();
    let groups: Vec<Cgroup> = (0..4).map(|_| Cgroup::docker(None)).collect();
    let [here, server_here, there, server_there] = &groups[..] else { unreachable!() };
    let mut servers = [Puppet::start(Some(server_here), None), Puppet::start(Some(server_there), Some(&far))];
    for server in &mut servers {
        server.run(&format!(
            "server = listen('0.0.0.0', {HELD_PORT}); kept = hold(server)
def greet(client): client.send(b'y' * 7); return exactly(client, 1)"
        ));
    }
    let mut clients = [Puppet::start(Some(here), None), Puppet::start(Some(there), Some(&near))];
    clients[0].run(&format!(
        "made = [connect('127.0.0.1', {HELD_PORT}) for n in range(3)]; own = listen('127.0.0.1', 18084)
for each in made: each.send(b'x' * 1000); settled(each)"
    ));
    clients[1].run(&format!("made = [connect('10.77.1.2', {HELD_PORT}) for n in range(2)]"));
    let agent = Agent::start(&[]);
    let local = format!("127.0.0.1:{HELD_PORT}");
    let distant = format!("10.77.1.2:{HELD_PORT}");
    for (cgroup, to, count) in [(here, &local, 3.0), (there, &distant, 2.0)] {
        becomes(&agent, ACTIVE, of!(cgroup.container_id(), to), count);
        let metrics = becomes(&agent, SUCCESSES, of!(cgroup.container_id(), to), count);
        assert_eq!(metrics.sum(FAILURES, of!(cgroup.container_id())), 0.0);
        assert_eq!(metrics.sum(SECONDS, of!(cgroup.container_id(), to)), 0.0, "nobody timed them");
    }
    let sent = agent.scrape().sum(SENT, of!(here.container_id()));
    println!("of 3000 bytes that were sent before the start {sent} are exported");
    let listens = |metrics: &Metrics, cgroup: &Cgroup, address: &str| {
        metrics.value(LISTENERS, &[("container_id", &cgroup.container_id()), ("listen_addr", address)])
    };
    let metrics = agent.scrape();
    assert_eq!(listens(&metrics, here, "127.0.0.1:18084"), Some(1.0));
    assert_eq!(listens(&metrics, server_here, &local), Some(1.0));
    assert_eq!(listens(&metrics, server_there, &distant), Some(1.0));
    // Connections that came in have no destination, those that come now neither.
    clients[0].run(&format!("later = [connect('127.0.0.1', {HELD_PORT}) for n in range(5)]"));
    clients[1].run(&format!("later = [connect('10.77.1.2', {HELD_PORT}) for n in range(5)]"));
    becomes(&agent, ACTIVE, of!(here.container_id(), local), 8.0);
    let metrics = becomes(&agent, ACTIVE, of!(there.container_id(), distant), 7.0);
    for cgroup in [server_here, server_there] {
        for family in [SUCCESSES, FAILURES, ACTIVE, SECONDS, SENT, RECEIVED, RETRANSMITS] {
            let inbound = metrics
                .series(family)
                .into_iter()
                .find(|series| series.label("container_id") == cgroup.container_id());
            assert!(inbound.is_none(), "{inbound:?}");
        }
    }
    // What is sent from now on is counted, and they end as others do.
    clients[0].run("for each in made: each.send(b'x' * 500); settled(each)");
    let after = sent + 1500.0;
    becomes(&agent, SENT, of!(here.container_id()), after);
    for client in &mut clients {
        client.run("for each in made + later: each.close()");
    }
    for cgroup in [here, there] {
        becomes(&agent, ACTIVE, of!(cgroup.container_id()), 0.0);
    }
    let metrics = agent.scrape();
    assert_eq!(metrics.sum(SUCCESSES, of!(here.container_id())), 8.0);
    assert_eq!(metrics.sum(SUCCESSES, of!(there.container_id())), 7.0);
    assert_eq!(metrics.sum(SENT, of!(here.container_id())), after);
}

#[test]
fn ports_and_public_networks_are_left_out_as_asked() {
    let _turn = turn();
    let (near, far) = two_hosts();
    near.ip("route add default via 10.77.1.2");
    for address in ["8.8.8.8/32", "8.8.4.4/32", "1.1.1.1/32", "172.16.9.9/32"] {
        far.ip(&format!("addr add {address} dev lo"));
    }
    let ports = [OPEN_PORT, 30_500, 40_000, 50_051, 60_999, 61_000];
    let mut server = Puppet::start(None, Some(&far));
    server.run(&format!(
        "servers = [listen('0.0.0.0', port) for port in {ports:?}]; kept = [hold(each) for each in servers]"
    ));
    let to = [
        ("10.77.1.2", OPEN_PORT),
        ("10.77.1.2", 30_500),
        ("10.77.1.2", 40_000),
        ("10.77.1.2", 50_051),
        ("10.77.1.2", 60_999),
        ("10.77.1.2", 61_000),
        ("172.16.9.9", OPEN_PORT),
        ("8.8.8.8", OPEN_PORT),
        ("8.8.4.4", OPEN_PORT),
        ("1.1.1.1", OPEN_PORT),
    ];
    let usual = [0, 1, 3, 5, 6];
    // Flags, and which of the destinations above are kept.
    let cases: [(&[&str], Vec<usize>); 5] = [
        (&[], [&usual[..], &[7, 8, 9]].concat()),
        (&["--ephemeral-port-range=30000-31000"], vec![0, 2, 3, 4, 5, 6, 7, 8, 9]),
        (&["--track-public-network=8.8.8.0/24"], [&usual[..], &[7]].concat()),
        (
            &["--track-public-network=8.8.8.0/24", "--track-public-network=1.1.1.1/32"],
            [&usual[..], &[7, 9]].concat(),
        ),
        (&["--track-public-network=8.8.4.0/24,1.0.0.0/8"], [&usual[..], &[8, 9]].concat()),
    ];
    let mut wrong = Vec::new();
    for (flags, kept) in cases {
        let agent = Agent::start(flags);
        let cgroup = Cgroup::docker(None);
        let mut client = Puppet::start(Some(&cgroup), Some(&near));
        for (address, port) in to {
            client.run(&format!("for n in range(2): reset(connect('{address}', {port}))"));
        }
        let metrics = agent.scrape();
        for (number, (address, port)) in to.into_iter().enumerate() {
            let label = format!("{address}:{port}");
            let counted = metrics.value(SUCCESSES, of!(cgroup.container_id(), label));
            let truth = kept.contains(&number).then_some(2.0);
            if counted != truth {
                wrong.push(format!("{flags:?} {label}: {counted:?}, not {truth:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_hundred_thousand_destinations_cost_no_more_than_the_cap() {
    const COUNT: f64 = 100_000.0;
    const CAP: usize = 128;
    let _turn = turn();
    let storm = Storm::new();
    let _server = storm.serve(OPEN_PORT);
    let agent = Agent::start(&[]);
    let memory = || agent.scrape().sum("nodeprobe_bpf_map_memory_bytes", &[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let before = (memory(), agent.rss());
    let began = Instant::now();
    let running =
        storm.start(Some(&cgroup), &["spread", "127.1.0.0", &COUNT.to_string(), &OPEN_PORT.to_string()]);
    let (made, failed) = running.made();
    assert_eq!((made, failed), (COUNT, 0.0));
    let took = began.elapsed();
    let metrics = agent.scrape();
    let series: Vec<_> = metrics
        .series(SUCCESSES)
        .into_iter()
        .filter(|series| series.label("container_id") == container)
        .collect();
    assert_eq!(of_container(&metrics, SUCCESSES, &container), COUNT);
    let other = series.iter().find(|series| series.label("destination") == "~other").expect("~other");
    println!(
        "{COUNT} destinations in {took:?}: {} series, {} in ~other; maps {} bytes, then {}; RSS {}, then {}",
        series.len(),
        other.value,
        before.0,
        memory(),
        before.1,
        agent.rss()
    );
    assert_eq!(other.label("actual_destination"), "~other");
    assert!(series.len() <= CAP + 1, "{} series", series.len());
    assert!(before.0 > 0.0);
    assert_eq!(memory(), before.0);
    becomes(&agent, ACTIVE, of!(container), 0.0);
}
