//! Bytes, retransmits and round trips of containers' TCP connections, against what both ends say themselves. Needs root and a
//! cgroup mount.

mod support;

use support::cgroup::{Cgroup, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::tcp::{ACTIVE, LATENCY, OPEN_PORT, RECEIVED, RETRANSMITS, SENT, SUCCESSES, becomes};
use support::{Agent, until};

/// Connections whose bytes are counted, over all ways.
const CONNECTIONS: usize = 80;

/// Answers as a client's first bytes tell it: a way, how much comes, how much to send. The list gets what came, what was sent.
const SERVER: &str = r"
def answer(client):
    way, up, down = struct.unpack('!BQQ', exactly(client, 17))
    if way == BOTH_AT_ONCE:
        sender = threading.Thread(target=client.sendall, args=(bytes(down),)); sender.start()
        exactly(client, up); sender.join()
    else:
        if way == HALF_CLOSED:
            assert to_the_end(client) == up
        else:
            exactly(client, up)
        client.sendall(bytes(down))
    if way != SERVER_FIRST and way != HALF_CLOSED:
        # The client closes first, or resets what it has not read.
        try: assert client.recv(1) == b''
        except ConnectionResetError: pass
    client.close()
    return (17 + up, down)
";

const WAYS: &str = r"
PLAIN, HALF_CLOSED, SERVER_FIRST, SENDFILE, GONE_AT_ONCE, BOTH_AT_ONCE, UNREAD, SMALL = range(8)
";

/// What was sent, what was received, all connections together.
const CLIENT: &str = r"
def one(number):
    dice = random.Random(number)
    way = number % 8
    up, down = dice.randrange(300_000), dice.randrange(300_000)
    if way == GONE_AT_ONCE: down = 0
    if way == UNREAD: down = dice.randrange(1, 5_000)
    if way == SMALL: up, down = dice.randrange(2), dice.randrange(2)
    client = connect(ADDRESS, PORT)
    client.sendall(struct.pack('!BQQ', way, up, down))
    if way == SENDFILE:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(up)); file.flush()
            sent = 0
            while sent < up: sent += os.sendfile(client.fileno(), file.fileno(), sent, up - sent)
    elif way == BOTH_AT_ONCE:
        sender = threading.Thread(target=client.sendall, args=(bytes(up),)); sender.start()
        exactly(client, down); sender.join()
    elif way == SMALL:
        for n in range(up): client.send(b'1')
    else:
        client.sendall(bytes(up))
    if way == HALF_CLOSED:
        client.shutdown(socket.SHUT_WR)
        time.sleep(dice.random() / 50)
        assert to_the_end(client) == down
    elif way == SERVER_FIRST:
        assert to_the_end(client) == down
    elif way == UNREAD:
        while info(client)['bytes_received'] < down: time.sleep(0.001)
    elif way in (PLAIN, SENDFILE, SMALL):
        exactly(client, down)
    client.close()
    return (17 + up, down)
results = all_threads(COUNT, one)
out = [sum(result[0] for result in results), sum(result[1] for result in results)]
";

/// Moves bytes between a container and a server every way there is, and wants them all.
fn bytes_are_exact(near: Option<&Netns>, far: Option<&Netns>, address: &str) {
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let mut server = Puppet::start(None, far);
    let prelude = format!("{WAYS}\nADDRESS, PORT, COUNT = '{address}', {OPEN_PORT}, {CONNECTIONS}\n");
    server.run(&format!("{prelude}{SERVER}done = serve(listen(ADDRESS, PORT), answer)"));
    let mut client = Puppet::start(Some(&cgroup), near);
    let moved = client.numbers(&format!("{prelude}{CLIENT}"));
    until("the server has seen all ends", support::ANSWER, || {
        let ended = server.run("out = sum(type(each) == tuple for each in done)");
        (ended == CONNECTIONS.to_string()).then_some(())
    });
    let seen = server.numbers("out = [sum(each[0] for each in done), sum(each[1] for each in done)]");
    assert_eq!(moved, seen, "both ends agree");
    let to = format!("{address}:{OPEN_PORT}");
    let container = cgroup.container_id();
    // Nothing translates addresses here, so where it goes is where it arrives.
    let labels = [("container_id", &*container), ("destination", &*to), ("actual_destination", &*to)];
    becomes(&agent, SUCCESSES, &labels, CONNECTIONS as f64);
    becomes(&agent, ACTIVE, &labels, 0.0);
    becomes(&agent, SENT, &labels, moved[0]);
    becomes(&agent, RECEIVED, &labels, moved[1]);
    println!("{CONNECTIONS} connections to {to}: {} bytes sent, {} received", moved[0], moved[1]);

    // One that stays open: what has been moved so far is there at each scrape.
    let (mut sent, mut received) = (moved[0], moved[1]);
    client.run(
        "live = connect(ADDRESS, PORT); live.sendall(struct.pack('!BQQ', PLAIN, 12_345 + 1_000_000, 54_321))",
    );
    sent += 17.0;
    for part in [12_345, 400_000, 600_000] {
        client.run(&format!("live.sendall(bytes({part})); settled(live)"));
        sent += f64::from(part);
        becomes(&agent, SENT, &labels, sent);
    }
    client.run("exactly(live, 54_321)");
    received += 54_321.0;
    becomes(&agent, RECEIVED, &labels, received);
    becomes(&agent, ACTIVE, &labels, 1.0);
    client.run("live.close()");
    becomes(&agent, ACTIVE, &labels, 0.0);
    for _ in 0..3 {
        becomes(&agent, SENT, &labels, sent);
        becomes(&agent, RECEIVED, &labels, received);
    }
    // A process that ends without a word leaves its bytes behind.
    client.run("last = connect(ADDRESS, PORT); last.sendall(struct.pack('!BQQ', PLAIN, 1, 99_999) + b'1'); exactly(last, 99_999)");
    client.kill();
    becomes(&agent, ACTIVE, &labels, 0.0);
    becomes(&agent, SENT, &labels, sent + 18.0);
    becomes(&agent, RECEIVED, &labels, received + 99_999.0);
}

/// A client's namespace with a cable to that of a server.
fn two_hosts() -> (Netns, Netns) {
    let (near, far) = (Netns::new("client"), Netns::new("server"));
    near.cable("to-server", &["10.78.1.1/24"], &far, "to-client", &["10.78.1.2/24"]);
    (near, far)
}

#[test]
fn bytes_over_the_hosts_loopback_are_exact() {
    let _turn = turn();
    bytes_are_exact(None, None, "127.0.0.1");
}

#[test]
fn bytes_between_namespaces_are_exact() {
    let _turn = turn();
    let (near, far) = two_hosts();
    bytes_are_exact(Some(&near), Some(&far), "10.78.1.2");
}

/// Sends through loss; what each socket had sent again when the other side had all: segments, bytes.
const LOSSY_CLIENT: &str = r"
def one(number):
    client = connect('10.78.1.2', PORT)
    client.sendall(bytes(20_000 + number))
    exactly(client, 100)
    settled(client)
    had = info(client)
    assert had['bytes_sent'] - had['bytes_retrans'] == 20_000 + number, had
    reset(client)
    return (had['total_retrans'], had['bytes_retrans'])
results = all_threads(COUNT, one)
out = [sum(result[0] for result in results), sum(result[1] for result in results)]
";

#[test]
fn retransmits_are_the_sockets_own() {
    const COUNT: usize = 24;
    let _turn = turn();
    let (near, far) = two_hosts();
    // What is lost is sent again soon.
    near.ip("route replace 10.78.1.0/24 dev to-server proto kernel src 10.78.1.1 rto_min 20ms");
    let agent = Agent::start(&[]);
    let (lossy, clean) = (Cgroup::docker(None), Cgroup::docker(None));
    let mut server = Puppet::start(None, Some(&far));
    server.run(&format!(
        "def answer(client):
    exactly(client, 20_000); client.sendall(bytes(100)); return to_the_end(client)
done = serve(listen('10.78.1.2', {OPEN_PORT}), answer)"
    ));
    let to = format!("10.78.1.2:{OPEN_PORT}");
    let client = format!("PORT, COUNT = {OPEN_PORT}, {COUNT}\n{LOSSY_CLIENT}");

    // Nothing is lost yet, and nothing sent again.
    let nothing = Puppet::start(Some(&clean), Some(&near)).numbers(&client);
    assert_eq!(nothing, [0.0, 0.0]);

    far.nft("add table ip t; add chain ip t in { type filter hook input priority 0; }");
    far.nft("add rule ip t in numgen random mod 100 < 25 counter drop");
    let mut truth = 0.0;
    for round in ["many segments at a time", "one segment at a time"] {
        let already = near.snmp("Tcp", "RetransSegs") as f64;
        let again = Puppet::start(Some(&lossy), Some(&near)).numbers(&client);
        let kernels = near.snmp("Tcp", "RetransSegs") as f64 - already;
        println!("{round}: {COUNT} connections sent {} segments again, {} bytes", again[0], again[1]);
        assert_eq!(again[0], kernels, "the namespace's own count");
        assert!(again[0] >= COUNT as f64 / 4.0, "25 % are lost");
        truth += again[0];
        // Ethernet devices of this kind take several segments in one packet, unless told otherwise.
        near.ip("link set to-server gso_max_segs 1");
    }
    let labels = [("container_id", &*lossy.container_id()), ("destination", &*to)];
    becomes(&agent, RETRANSMITS, &labels, truth);
    becomes(&agent, SUCCESSES, &labels, 2.0 * COUNT as f64);
    let bytes = (0..COUNT).map(|number| 20_000 + number).sum::<usize>() as f64;
    becomes(&agent, SENT, &labels, 2.0 * bytes);
    let metrics = becomes(&agent, RECEIVED, &labels, 200.0 * COUNT as f64);
    let of_clean = [("container_id", &*clean.container_id())];
    assert_eq!(metrics.value(RETRANSMITS, &of_clean), None, "absent while 0");
    assert_eq!(metrics.sum(SENT, &of_clean), bytes);
}

/// A connect into the dark: its SYN is sent again, and that is all that ever is.
#[test]
fn retransmits_of_connects_that_come_to_nothing_count() {
    let _turn = turn();
    let (near, far) = two_hosts();
    far.nft("add table ip t; add chain ip t in { type filter hook input priority 0; }");
    far.nft(&format!("add rule ip t in tcp dport {OPEN_PORT} counter drop"));
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let mut client = Puppet::start(Some(&cgroup), Some(&near));
    // TCP_SYNCNT
    client.run(&format!(
        "def one(number):
    client = socket.socket(); client.setsockopt(socket.IPPROTO_TCP, 7, 1)
    try: client.connect(('10.78.1.2', {OPEN_PORT})); assert False
    except TimeoutError: pass
all_threads(5, one)"
    ));
    let truth = near.snmp("Tcp", "RetransSegs") as f64;
    let dropped = far.nft("list chain ip t in");
    println!("5 connects into the dark sent {truth} SYNs again; {}", dropped.replace(['\n', '\t'], " "));
    assert!(dropped.contains(&format!("packets {} ", 5.0 + truth)));
    assert!(truth >= 5.0);
    let labels =
        [("container_id", &*cgroup.container_id()), ("destination", &*format!("10.78.1.2:{OPEN_PORT}"))];
    becomes(&agent, "container_net_tcp_failed_connects_total", &labels, 5.0);
    becomes(&agent, RETRANSMITS, &labels, truth);
    becomes(&agent, SENT, &labels, 0.0);
    becomes(&agent, RECEIVED, &labels, 0.0);
}

#[test]
fn latency_is_that_of_sockets_that_are_heard_from() {
    let _turn = turn();
    let (near, far) = two_hosts();
    // Not every kernel has it.
    let delayed = far.delay("to-client", 30);
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let mut server = Puppet::start(None, Some(&far));
    server.run(&format!(
        "def echo(client):
    while got := client.recv(100): client.sendall(got)
serve(listen('10.78.1.2', {OPEN_PORT}), echo)"
    ));
    let mut local = Puppet::start(None, None);
    local.run(&format!("kept = hold(listen('127.0.0.1', {OPEN_PORT}))"));
    let mut client = Puppet::start(Some(&cgroup), Some(&near));
    let own = client.numbers(&format!(
        "client = connect('10.78.1.2', {OPEN_PORT})
for n in range(50):
    client.sendall(b'x'); exactly(client, 1)
out = [info(client)['min_rtt_us'], info(client)['rtt_us']]"
    ));
    let mut here = Puppet::start(Some(&cgroup), None);
    here.run(&format!("client = connect('127.0.0.1', {OPEN_PORT}); client.sendall(b'x'); settled(client)"));
    let container = cgroup.container_id();
    let found = until("a latency", support::ANSWER, || {
        let metrics = agent.scrape();
        let all = metrics.series(LATENCY).into_iter().cloned();
        let all: Vec<_> = all.filter(|series| series.label("container_id") == container).collect();
        (!all.is_empty()).then_some(all)
    });
    println!(
        "delayed: {delayed}; the socket: min_rtt {} us, rtt {} us; the metric: {} s",
        own[0], own[1], found[0].value
    );
    assert_eq!(found.len(), 1, "none of loopback: {found:?}");
    assert_eq!(found[0].label("destination_ip"), "10.78.1.2");
    let low = if delayed { 0.025 } else { 0.0 };
    assert!(found[0].value > low && found[0].value < 1.0, "{}", found[0].value);
    // No socket knew better than this one.
    assert!((found[0].value - own[0] / 1e6).abs() < 1.5e-6, "{} s, {} us", found[0].value, own[0]);
}
