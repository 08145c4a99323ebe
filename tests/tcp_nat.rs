//! Connections to an address that stands for others, as that of a Kubernetes service does: which of them it was. Needs root
//! and a cgroup mount.

mod support;

use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::netns::{AsHost, Netns};
use support::puppet::{Puppet, numbers};
use support::tcp::{ACTIVE, FAILURES, RECEIVED, RETRANSMITS, SENT, SUCCESSES, becomes};
use support::{Agent, Metrics};

/// Of the service.
const VIP: &str = "10.96.0.11:80";
/// Of a service nobody stands behind.
const DEAD_VIP: &str = "10.96.0.12:80";
/// Behind the service, each with the port below.
const BACKENDS: [&str; 3] = ["10.80.2.11", "10.80.2.12", "10.80.2.13"];
const BACKEND_PORT: u16 = 8080;
const CONNECTS: usize = 1000;

/// A client, the way it goes, and the servers: the namespace with the addresses behind the service last.
struct Net {
    client: Netns,
    /// Translates what goes through it, if the client does not.
    router: Option<Netns>,
    servers: Netns,
}

/// Has connects to the service go to one backend after the other.
fn translate(netns: &Netns, hook: &str) {
    let backends: Vec<String> = BACKENDS
        .iter()
        .enumerate()
        .map(|(number, backend)| format!("{number} : {backend} . {BACKEND_PORT}"))
        .collect();
    netns.nft(&format!("add table ip t; add chain ip t n {{ type nat hook {hook} priority -100; }}"));
    netns.nft(&format!(
        "add rule ip t n ip daddr 10.96.0.11 tcp dport 80 dnat to numgen inc mod 3 map {{ {} }}",
        backends.join(", ")
    ));
    netns.nft("add rule ip t n ip daddr 10.96.0.12 tcp dport 80 dnat to 10.80.2.11:1");
}

impl Net {
    /// The client's own namespace translates.
    fn own() -> Net {
        let (client, servers) = (Netns::new("client"), Netns::new("servers"));
        client.cable("eth0", &["10.80.1.1/24"], &servers, "eth0", &["10.80.1.2/24"]);
        client.ip("route add default via 10.80.1.2");
        translate(&client, "output");
        Net { client, router: None, servers }.backends()
    }

    /// Another one on the way does, as a node's does for its pods.
    fn routed() -> Net {
        let (client, router, servers) = (Netns::new("client"), Netns::new("router"), Netns::new("servers"));
        client.cable("eth0", &["10.80.1.1/24"], &router, "to-client", &["10.80.1.2/24"]);
        router.cable("to-servers", &["10.80.3.1/24"], &servers, "eth0", &["10.80.3.2/24"]);
        client.ip("route add default via 10.80.1.2");
        router.ip("route add 10.80.2.0/24 via 10.80.3.2");
        servers.ip("route add default via 10.80.3.1");
        router.sysctl("ipv4/ip_forward", "1");
        translate(&router, "prerouting");
        Net { client, router: Some(router), servers }.backends()
    }

    fn backends(self) -> Net {
        for backend in BACKENDS {
            self.servers.ip(&format!("addr add {backend}/32 dev lo"));
        }
        self
    }

    /// One per backend; each counts the bytes that come and that go.
    fn serve(&self) -> Vec<Puppet> {
        let start = |(number, backend): (usize, &&str)| {
            let mut server = Puppet::start(None, Some(&self.servers));
            server.run(&format!(
                "def answer(client):
    up, down, first = struct.unpack('!IIB', exactly(client, 9))
    exactly(client, up)
    client.sendall(b'{number}' + bytes(down))
    if not first: to_the_end(client)
    client.close()
    return (9 + up, 1 + down)
done = serve(listen('{backend}', {BACKEND_PORT}), answer)"
            ));
            server
        };
        BACKENDS.iter().enumerate().map(start).collect()
    }
}

/// What a backend has seen: connections, bytes that came, bytes that went.
fn seen(server: &mut Puppet) -> Vec<f64> {
    server.numbers("out = [len(done), sum(each[0] for each in done), sum(each[1] for each in done)]")
}

fn actual(backend: usize) -> String {
    format!("{}:{BACKEND_PORT}", BACKENDS[backend])
}

/// Short connections at 1,000 a second, closed by either side; what they sent and received, and the seconds they took.
const CLIENT: &str = r"
def short(dice, host, port):
    client = connect(host, port)
    up, down, first = dice.randrange(2_000), dice.randrange(2_000), dice.randrange(2)
    client.sendall(struct.pack('!IIB', up, down, first) + bytes(up))
    exactly(client, 1 + down)
    if first: assert to_the_end(client) == 0
    client.close()
    return (9 + up, 1 + down)

def many(count, seed, host, port):
    dice, began, moved = random.Random(seed), time.monotonic(), []
    for number in range(count):
        wait = began + number / 1000 - time.monotonic()
        if wait > 0: time.sleep(wait)
        moved.append(short(dice, host, port))
    return [sum(each[0] for each in moved), sum(each[1] for each in moved), time.monotonic() - began]
";

/// A connection that stays; `out` is the backend it got.
const LONG: &str = r"
long = connect('10.96.0.11', 80)
long.sendall(struct.pack('!IIB', 5, 0, 0) + b'12345')
out = exactly(long, 1).decode()
";

/// Values of a family for the service by where it really went, and the sum.
fn by_actual(metrics: &Metrics, family: &str, container: &str) -> (Vec<f64>, f64, f64) {
    let of = |actual: &str| {
        metrics
            .sum(family, &[("container_id", container), ("destination", VIP), ("actual_destination", actual)])
    };
    let each: Vec<f64> = (0..BACKENDS.len()).map(|backend| of(&actual(backend))).collect();
    let all = metrics.sum(family, &[("container_id", container), ("destination", VIP)]);
    (each, of(""), all)
}

/// The whole test where the agent can see the translation.
fn backends_are_told_apart(net: &Net, start: &dyn Fn() -> Agent) {
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut servers = net.serve();
    // One is older than the agent.
    let mut old = Puppet::start(Some(&cgroup), Some(&net.client));
    let old_backend: usize = old.run(LONG).parse().unwrap();
    let agent = start();
    let of = |actual: &str| {
        [
            ("container_id", container.clone()),
            ("destination", VIP.to_owned()),
            ("actual_destination", actual.to_owned()),
        ]
    };
    let is = |family: &str, actual: &str, truth: f64| {
        let labels = of(actual);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        becomes(&agent, family, &labels, truth)
    };
    is(ACTIVE, &actual(old_backend), 1.0);
    is(SUCCESSES, &actual(old_backend), 1.0);
    let before: Vec<Vec<f64>> =
        [SUCCESSES, SENT, RECEIVED].map(|family| by_actual(&agent.scrape(), family, &container).0).to_vec();

    let mut client = Puppet::start(Some(&cgroup), Some(&net.client));
    client.run(CLIENT);
    let moved = client.numbers(&format!("out = many({CONNECTS}, 1, '10.96.0.11', 80)"));
    std::thread::sleep(Duration::from_millis(50));
    let truth: Vec<Vec<f64>> = servers.iter_mut().map(seen).collect();
    let sum = |at: usize| truth.iter().map(|each| each[at]).sum::<f64>();
    assert_eq!([sum(0), sum(1), sum(2)], [CONNECTS as f64, moved[0], moved[1]], "both ends agree");
    let vip = [("container_id", &*container), ("destination", VIP)];
    let old_sums: Vec<f64> = before.iter().map(|each| each.iter().sum()).collect();
    becomes(&agent, SUCCESSES, &vip, old_sums[0] + CONNECTS as f64);
    becomes(&agent, SENT, &vip, old_sums[1] + moved[0]);
    becomes(&agent, RECEIVED, &vip, old_sums[2] + moved[1]);
    becomes(&agent, ACTIVE, &vip, 1.0);
    let metrics = agent.scrape();
    for (at, family) in [SUCCESSES, SENT, RECEIVED].into_iter().enumerate() {
        let (each, unresolved, all) = by_actual(&metrics, family, &container);
        let share = unresolved / (all - old_sums[at]) * 100.0;
        println!(
            "{family}: {all} at {:.0}/s, by backend {each:?}, unresolved {unresolved} ({share:.2} %)",
            CONNECTS as f64 / moved[2]
        );
        assert_eq!(each.iter().sum::<f64>() + unresolved, all, "nowhere else");
        assert!(share < 5.0, "{share} %");
        for backend in 0..BACKENDS.len() {
            let counted = each[backend] - before[at][backend];
            let truth = truth[backend][at];
            // The sum is exact. Whose a connection was may be mistaken for some that are in flight while the counts are read.
            assert!((counted - truth).abs() <= truth / 100.0 + unresolved, "{counted}, {truth}");
        }
    }

    // One stays and one is refused; one goes to a backend by its own name.
    let backend: usize = client.run(LONG).parse().unwrap();
    let count = |of: usize| f64::from(u8::from(of == backend) + u8::from(of == old_backend));
    for each in 0..BACKENDS.len() {
        is(ACTIVE, &actual(each), count(each));
    }
    is(ACTIVE, "", 0.0);
    client.run(
        "for n in range(3):
    try: connect('10.96.0.12', 80); assert False
    except ConnectionRefusedError: pass",
    );
    becomes(&agent, FAILURES, &[("container_id", &container), ("destination", DEAD_VIP)], 3.0);
    let direct = client.numbers(&format!("out = many(10, 2, '{}', {BACKEND_PORT})", BACKENDS[1]));
    let to = actual(1);
    let labels = [("container_id", &*container), ("destination", &*to), ("actual_destination", &*to)];
    becomes(&agent, SUCCESSES, &labels, 10.0);
    becomes(&agent, SENT, &labels, direct[0]);
    becomes(&agent, RECEIVED, &labels, direct[1]);
    client.run("long.close()");
    old.kill();
    becomes(&agent, ACTIVE, &[("container_id", &container)], 0.0);
    becomes(&agent, SUCCESSES, &vip, old_sums[0] + CONNECTS as f64 + 1.0);
    assert_eq!(agent.scrape().sum(RETRANSMITS, &vip), 0.0);
}

#[test]
fn what_the_clients_namespace_translates_is_told_apart() {
    let _turn = turn();
    let net = Net::own();
    backends_are_told_apart(&net, &|| Agent::start(&[]));
}

/// As on a Kubernetes node: the client is a pod, the translation is the host's.
#[test]
fn what_the_hosts_namespace_translates_is_told_apart() {
    let _turn = turn();
    let net = Net::routed();
    let host = net.router.as_ref().unwrap();
    let binary = AsHost::new(host);
    // The agent serves in there too.
    host.enter_thread();
    backends_are_told_apart(&net, &|| Agent::start_binary(&binary.binary(), &[]));
}

/// Somebody on the way translates whom the agent cannot ask: nothing is lost, and nothing is made up.
#[test]
fn what_somebody_else_translates_is_counted_all_the_same() {
    let _turn = turn();
    let net = Net::routed();
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let container = cgroup.container_id();
    let mut servers = net.serve();
    let mut client = Puppet::start(Some(&cgroup), Some(&net.client));
    client.run(CLIENT);
    let moved = client.numbers(&format!("out = many({CONNECTS}, 3, '10.96.0.11', 80)"));
    let long = client.run(LONG);
    println!("the one that stays got backend {long}");
    std::thread::sleep(Duration::from_millis(50));
    let truth: Vec<Vec<f64>> = servers.iter_mut().map(seen).collect();
    assert_eq!(truth.iter().map(|each| each[0]).sum::<f64>(), CONNECTS as f64);
    let vip = [("container_id", &*container), ("destination", VIP)];
    becomes(&agent, SUCCESSES, &vip, CONNECTS as f64 + 1.0);
    becomes(&agent, ACTIVE, &vip, 1.0);
    becomes(&agent, SENT, &vip, moved[0] + 14.0);
    let metrics = becomes(&agent, RECEIVED, &vip, moved[1] + 1.0);
    for family in [SUCCESSES, SENT, RECEIVED] {
        let (each, unresolved, all) = by_actual(&metrics, family, &container);
        let same = [("container_id", &*container), ("destination", VIP), ("actual_destination", VIP)];
        let same = metrics.sum(family, &same);
        println!("{family}: {all}, unresolved {unresolved}, as if nobody translated {same}");
        assert_eq!(each, [0.0; 3]);
        assert_eq!(unresolved + same, all);
    }
}

/// The load itself, so that the tests above are believed: three backends in turn, and a rate.
#[test]
fn the_load_is_what_it_says() {
    let _turn = turn();
    for net in [Net::own(), Net::routed()] {
        let mut servers = net.serve();
        let mut client = Puppet::start(None, Some(&net.client));
        let began = Instant::now();
        client.run(CLIENT);
        client.run("out = many(300, 4, '10.96.0.11', 80)");
        std::thread::sleep(Duration::from_millis(50));
        for server in &mut servers {
            assert_eq!(seen(server)[0], 100.0);
        }
        let opens = net.client.snmp("Tcp", "ActiveOpens");
        assert_eq!(opens, 300);
        println!("300 connects in {:?}", began.elapsed());
    }
    assert_eq!(numbers("1 2.5"), [1.0, 2.5]);
}
