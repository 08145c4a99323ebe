//! `--ping-upstreams`: echoes from a container's network namespace, and none without the flag. Needs root and a cgroup mount.

mod support;

use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::tcp::{CLOSED_PORT, FAILURES, LATENCY, OPEN_PORT, SUCCESSES, becomes};
use support::{Agent, Metrics, until};

const NEAR: [&str; 2] = ["10.79.1.1/24", "fd79::1/64"];
const FAR: [&str; 3] = ["10.79.1.2/24", "10.79.1.3/24", "fd79::2/64"];
const SERVER: &str = "10.79.1.2";
const SERVER_V6: &str = "fd79::2";

/// All that the rest needs.
const NO_RAW: &str =
    "--capabilities.keep=cap_bpf,cap_perfmon,cap_sys_admin,cap_net_admin,cap_sys_ptrace,cap_dac_read_search";
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers echoes in the kernel's place as `mode` says, 40 ms late.
const RESPONDER: &str = r"
mode, seen = 'silent', 0
taker = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
stranger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
stranger.bind(('10.79.1.3', 0))
right = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
right.bind(('10.79.1.2', 0))

def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return 0xffff - total

def respond():
    global seen
    while True:
        packet, (source, _) = taker.recvfrom(2000)
        message = packet[(packet[0] & 15) * 4:]
        if message[0] != 8 or packet[16:20] != bytes([10, 79, 1, 2]): continue
        seen += 1
        time.sleep(0.04)
        identifier, sequence, payload = message[4:6], message[6:8], message[8:]
        if mode == 'silent': continue
        if mode == 'cookie': payload = bytes([payload[0] ^ 1]) + payload[1:]
        if mode == 'sequence': sequence = bytes([sequence[0] ^ 1, sequence[1]])
        if mode == 'id': identifier = bytes([identifier[0], identifier[1] ^ 1])
        body = identifier + sequence + payload
        kind = b'\0\0'
        sums = checksum(kind + b'\0\0' + body) ^ (0x40 if mode == 'checksum' else 0)
        (stranger if mode == 'source' else right).sendto(kind + struct.pack('!H', sums) + body, (source, 0))

threading.Thread(target=respond, daemon=True).start()
";

fn two_hosts() -> (Netns, Netns) {
    let (near, far) = (Netns::new("near"), Netns::new("far"));
    near.cable("eth0", &NEAR, &far, "to-client", &FAR);
    (near, far)
}

/// Of no containers but this one.
fn start(cgroup: &Cgroup, args: &[&str]) -> Agent {
    let only = format!("--container-allowlist=^{}$", cgroup.container_id());
    Agent::start(&[&[&*only], args].concat())
}

fn pings(metrics: &Metrics, result: &str) -> Option<f64> {
    metrics.value("nodeprobe_pings_total", &[("result", result)])
}

fn latency(metrics: &Metrics, cgroup: &Cgroup, address: &str) -> Option<f64> {
    metrics.value(LATENCY, &[("container_id", &cgroup.container_id()), ("destination_ip", address)])
}

/// Echo requests that were sent from a namespace, IPv4 and IPv6.
fn echoes_sent(netns: &Netns, inside: &mut Puppet) -> u64 {
    let v6 = inside.numbers(
        "lines = [line.split() for line in open('/proc/net/snmp6')]
out = [value for name, value in lines if name == 'Icmp6OutEchos']",
    );
    netns.snmp("Icmp", "OutEchos") + v6[0] as u64
}

/// Two connections that stay, one of them over IPv6; the smaller round trip over IPv4 in seconds.
fn connect(server: &mut Puppet, client: &mut Puppet) -> f64 {
    server.run(&format!(
        "kept = [hold(listen('{SERVER}', {OPEN_PORT})), hold(listen('{SERVER_V6}', {OPEN_PORT}))]"
    ));
    let rtt_us = client.numbers(&format!(
        "clients = [connect('{SERVER}', {OPEN_PORT}), connect('{SERVER_V6}', {OPEN_PORT})]
for each in clients: each.sendall(b'x'); settled(each)
out = [info(clients[0])['min_rtt_us']]"
    ));
    rtt_us[0] / 1e6
}

#[test]
fn echoes_that_are_answered_right_take_the_place_of_connections() {
    let _turn = turn();
    let (near, far) = two_hosts();
    far.sysctl("ipv4/icmp_echo_ignore_all", "1");
    let cgroup = Cgroup::docker(None);
    let agent = start(&cgroup, &["--interval=1s", "--ping-upstreams"]);
    let mut server = Puppet::start(None, Some(&far));
    server.run(RESPONDER);
    let mut client = Puppet::start(Some(&cgroup), Some(&near));
    let of_socket = connect(&mut server, &mut client);
    // What comes over IPv6 the kernel answers.
    let v6 = until("an echo over IPv6", PATIENCE, || {
        let metrics = agent.scrape();
        (pings(&metrics, "answered")? > 0.0).then(|| latency(&metrics, &cgroup, SERVER_V6).unwrap())
    });
    println!("IPv6: {v6} s");
    assert!(v6 > 0.0 && v6 < 0.03, "{v6}");
    for mode in ["silent", "id", "sequence", "cookie", "checksum", "source"] {
        let seen = server.numbers(&format!("mode = '{mode}'; out = seen"))[0];
        until("two echoes", PATIENCE, || (server.numbers("out = seen")[0] >= seen + 2.0).then_some(()));
        let metrics = agent.scrape();
        let tcp = latency(&metrics, &cgroup, SERVER).expect("TCP's own");
        println!("{mode}: {tcp} s, TCP says {of_socket} s");
        assert!((tcp - of_socket).abs() < 1.5e-6, "{mode}: {tcp} instead of {of_socket}");
        assert!(pings(&metrics, "unanswered").unwrap() >= 1.0);
    }
    server.run("mode = 'right'");
    let icmp = until("the echo's time", PATIENCE, || {
        latency(&agent.scrape(), &cgroup, SERVER).filter(|&seconds| seconds > 0.03)
    });
    println!("the echo took {icmp} s, TCP {of_socket} s");
    assert!((0.04..0.5).contains(&icmp), "{icmp}");
    let metrics = agent.scrape();
    assert_eq!(pings(&metrics, "failed"), Some(0.0));
    assert_eq!(metrics.series(LATENCY).len(), 2, "each address once");
}

#[test]
fn who_refuses_connections_may_still_answer() {
    let _turn = turn();
    let (near, far) = two_hosts();
    far.nft("add table ip t; add chain ip t in { type filter hook input priority 0; }");
    far.nft(&format!("add rule ip t in tcp dport {CLOSED_PORT} drop"));
    let cgroup = Cgroup::docker(None);
    let agent = start(&cgroup, &["--interval=3s", "--ping-upstreams"]);
    let sockets = || agent.descriptors().iter().filter(|name| name.starts_with("socket:")).count();
    let before = sockets();
    let mut client = Puppet::start(Some(&cgroup), Some(&near));
    client.run(&format!(
        "dark = socket.socket(); dark.settimeout(0.3)
try: dark.connect(('{SERVER}', {CLOSED_PORT})); assert False
except TimeoutError: pass
dark.close()
nowhere = socket.socket(); nowhere.settimeout(0.3)
try: nowhere.connect(('10.79.1.99', {CLOSED_PORT})); assert False
except OSError: pass
nowhere.close()"
    ));
    let container = cgroup.container_id();
    becomes(&agent, FAILURES, &[("container_id", &container)], 2.0);
    let seconds = until("a latency", PATIENCE, || latency(&agent.scrape(), &cgroup, SERVER));
    assert!(seconds > 0.0 && seconds < 0.1, "{seconds}");
    until("an echo nobody answers", PATIENCE, || pings(&agent.scrape(), "unanswered").filter(|&n| n > 0.0));
    assert_eq!(latency(&agent.scrape(), &cgroup, "10.79.1.99"), None);
    // Nothing but the scraper's connection, and what conntrack is asked by, stays open between two sweeps.
    until("closed sockets", PATIENCE, || (sockets() <= before + 1).then_some(()));
    // A container that is gone has no latency.
    drop(client);
    drop(cgroup);
    until("the end of its latency", PATIENCE, || agent.scrape().series(LATENCY).is_empty().then_some(()));
}

#[test]
fn nothing_is_sent_without_the_flag() {
    let _turn = turn();
    for (args, is_sent) in [
        (&[][..], false),
        (&["--ping-upstreams", "--no-ping-upstreams"][..], false),
        (&["--ping-upstreams", "--disable-pinger"][..], false),
        (&["--ping-upstreams", NO_RAW][..], false),
        (&["--ping-upstreams"][..], true),
    ] {
        let (near, far) = two_hosts();
        let cgroup = Cgroup::docker(None);
        let agent = start(&cgroup, &[&["--interval=1s"][..], args].concat());
        let mut server = Puppet::start(None, Some(&far));
        let mut client = Puppet::start(Some(&cgroup), Some(&near));
        let began = Instant::now();
        connect(&mut server, &mut client);
        becomes(&agent, SUCCESSES, &[("container_id", &cgroup.container_id())], 2.0);
        // Several intervals, in which there may be echoes.
        std::thread::sleep(Duration::from_secs(4));
        let metrics = agent.scrape();
        let sent = echoes_sent(&near, &mut client);
        println!("{args:?}: {sent} echoes");
        assert_eq!(sent > 0, is_sent, "{args:?}");
        // Two addresses a second.
        let most = 2 * (began.elapsed().as_secs() + 2);
        assert!(sent <= most, "{sent} of {most}");
        assert!(latency(&metrics, &cgroup, SERVER).is_some());
        let is_able = !args.iter().any(|arg| arg.starts_with("--capabilities"));
        let is_counted = is_sent || !is_able;
        assert_eq!(pings(&metrics, "answered").is_some(), is_counted, "{args:?}");
        let complaint = agent.stderr().iter().any(|line| line.contains("without CAP_NET_RAW"));
        assert_eq!(complaint, !is_able);
    }
}
