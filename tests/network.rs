//! Network namespaces against this kernel: addresses, sockets and NAT in namespaces made for it. Needs root.
//!
//! client 10.1.1.1 -- 10.1.1.254 router 10.1.2.254 -- 10.1.2.2 server, and the same in IPv6. The router stands for the host:
//! what is observed is a directory whose `proc/1` is the router's.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nodeprobe::error::{Error, Reason};
use nodeprobe::host::Host;
use nodeprobe::netlink::conntrack::Tuple;
use nodeprobe::netlink::socket_diag::state;
use nodeprobe::network::modules::{Conntrack, conntrack_state};
use nodeprobe::network::{Answer, Namespaces, Socket};
use nodeprobe::sys::namespace::NetworkNamespace;

mod support;

/// A command of the system.
fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    // Cargo's, with musl's libraries in it.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// A network namespace with one process in it, which ends when dropped or when the test does.
struct Space {
    process: Child,
    namespace: NetworkNamespace,
    home: NetworkNamespace,
}

impl Space {
    fn new() -> Space {
        // It ends at the end of its input.
        let process = command("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn();
        let process = process.expect("unshare");
        let home = NetworkNamespace::own().expect("own");
        let path = PathBuf::from(format!("/proc/{}/ns/net", process.id()));
        let namespace = support::until("a network namespace (as root)", Duration::from_secs(5), || {
            NetworkNamespace::open(&path).ok().filter(|namespace| namespace.inode() != home.inode())
        });
        Space { process, namespace, home }
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn inode(&self) -> u64 {
        self.namespace.inode()
    }

    /// Runs a shell script inside.
    #[track_caller]
    fn shell(&self, script: &str) {
        let namespace = format!("--net=/proc/{}/ns/net", self.pid());
        let done = command("nsenter").args([&namespace, "sh", "-ec", script]).output().expect("nsenter");
        assert!(done.status.success(), "{script}\n{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Runs `action` inside.
    fn run<T>(&self, action: impl FnOnce() -> T) -> T {
        self.namespace.run(&self.home, action).expect("setns")
    }

    fn connect(&self, to: &str) -> (TcpStream, Tuple) {
        let to: SocketAddr = to.parse().expect("an address");
        let stream = self.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
        let stream = stream.unwrap_or_else(|error| panic!("{to}: {error}"));
        let tuple = Tuple::new(stream.local_addr().expect("local"), to);
        (stream, tuple)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The three namespaces, connected.
struct Net {
    client: Space,
    router: Space,
    server: Space,
    /// What the observed host's files are.
    root: PathBuf,
}

impl Net {
    fn new(name: &str) -> Net {
        let (client, router, server) = (Space::new(), Space::new(), Space::new());
        router.shell(&format!(
            "ip link add c type veth peer name eth0 netns {}; ip link add s type veth peer name eth0 netns {}
             ip addr add 10.1.1.254/24 dev c; ip addr add fd00:1::fe/64 dev c nodad; ip link set c up
             ip addr add 10.1.2.254/24 dev s; ip addr add fd00:2::fe/64 dev s nodad; ip link set s up
             ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
            client.pid(),
            server.pid(),
        ));
        for (space, net, end) in [(&client, 1, 1), (&server, 2, 2)] {
            space.shell(&format!(
                "ip link set lo up; ip addr add 10.1.{net}.{end}/24 dev eth0; ip link set eth0 up
                 ip addr add fd00:{net}::{end}/64 dev eth0 nodad
                 ip route add default via 10.1.{net}.254; ip -6 route add default via fd00:{net}::fe"
            ));
        }
        let root = std::env::temp_dir().join(format!("nodeprobe-network-{name}-{}", std::process::id()));
        let net = Net { client, router, server, root };
        let proc = net.root.join("proc");
        fs::create_dir_all(&proc).expect("proc");
        net.link("/sys", "sys");
        net.link("/lib", "lib");
        for file in ["sys", "modules", "kallsyms"] {
            net.link(&format!("/proc/{file}"), &format!("proc/{file}"));
        }
        net.link(&format!("/proc/{}", net.router.pid()), "proc/1");
        for space in [&net.client, &net.server] {
            net.link(&format!("/proc/{}", space.pid()), &format!("proc/{}", space.pid()));
        }
        net
    }

    /// Makes `to`, if it is there, a file of the observed host.
    fn link(&self, to: &str, name: &str) {
        if Path::new(to).exists() {
            symlink(to, self.root.join(name)).expect("symlink");
        }
    }

    fn host(&self) -> Host {
        Host::new(&self.root, None)
    }

    fn namespaces(&self) -> Namespaces {
        let mut namespaces = Namespaces::new(&self.host()).expect("namespaces");
        assert_eq!(namespaces.host(), self.router.inode());
        namespaces.note(&self.host(), self.client.inode(), self.client.pid());
        namespaces.note(&self.host(), self.server.inode(), self.server.pid());
        namespaces
    }

    /// Where a connection from the client is said to go.
    fn answer(&self, namespaces: &mut Namespaces, tuple: Tuple) -> Answer {
        namespaces.lookup_many(&self.host(), self.client.inode(), &[tuple]).expect("lookup")[0]
    }

    fn translate(&self) {
        self.client.shell(
            "nft -f - <<END
table ip nat {
	chain out {
		type nat hook output priority -100;
		ip daddr 10.96.0.11 tcp dport 80 dnat to 10.1.2.2:8080
		ip daddr 10.96.0.13 tcp dport 80 dnat to 10.96.0.12:80
	}
	chain post {
		type nat hook postrouting priority 100;
		ip daddr 10.96.0.12 tcp dport 81 masquerade to :30000-40000
	}
}
table ip6 nat {
	chain out {
		type nat hook output priority -100;
		ip6 daddr fd00:96::11 tcp dport 80 dnat to [fd00:2::2]:8080
	}
}
END",
        );
        self.router.shell(
            "nft -f - <<END
table ip nat {
	chain in {
		type nat hook prerouting priority -100;
		ip daddr 10.96.0.12 tcp dport 80-81 dnat to 10.1.2.2:8080
	}
	chain out {
		type nat hook postrouting priority 100;
		ip saddr 10.1.1.0/24 masquerade
	}
}
END",
        );
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn listen(space: &Space, at: &str) -> TcpListener {
    space.run(|| TcpListener::bind(at)).expect("bind")
}

fn translated(to: &str) -> Answer {
    Answer::Translated(to.parse().expect("an address"))
}

#[test]
fn connections_are_found_where_they_go() {
    let net = Net::new("nat");
    let _listener = listen(&net.server, "[::]:8080");
    // Before anything looks at connections.
    let (_untracked, untracked) = net.client.connect("10.1.2.2:8080");
    let mut namespaces = net.namespaces();
    assert_eq!(net.answer(&mut namespaces, untracked), Answer::Unknown);
    net.translate();
    assert_eq!(conntrack_state(&net.host()), Conntrack::InUse);
    for (to, wanted) in [
        ("10.96.0.11:80", translated("10.1.2.2:8080")),
        ("10.96.0.12:80", translated("10.1.2.2:8080")),
        // On both, one after the other; and on the router, once the client has changed its own end.
        ("10.96.0.13:80", translated("10.1.2.2:8080")),
        ("10.96.0.12:81", translated("10.1.2.2:8080")),
        ("10.1.2.2:8080", Answer::Same),
        ("[fd00:96::11]:80", translated("[fd00:2::2]:8080")),
        ("[fd00:2::2]:8080", Answer::Same),
    ] {
        let (_stream, tuple) = net.client.connect(to);
        assert_eq!(net.answer(&mut namespaces, tuple), wanted, "{to}");
        // Another connection's end does not answer for it.
        let other = Tuple { source: SocketAddr::new(tuple.source.ip(), 1), ..tuple };
        assert_eq!(net.answer(&mut namespaces, other), Answer::Unknown, "{to}");
    }
    // The router's own, asked about as the host's.
    let (_stream, tuple) = net.router.connect("10.1.2.2:8080");
    let host = net.host();
    assert_eq!(namespaces.lookup_many(&host, namespaces.host(), &[tuple]).unwrap(), [Answer::Same]);
    // More than one batch, with what cannot be asked in between; in order.
    let (_stream, good) = net.client.connect("10.96.0.11:80");
    let mixed = Tuple { source: "[::1]:1".parse().unwrap(), ..good };
    let bad = Tuple { source: "10.1.1.1:1".parse().unwrap(), ..good };
    let tuples: Vec<Tuple> = (0..100).map(|at| [good, mixed, bad][at % 3]).collect();
    let answers = namespaces.lookup_many(&host, net.client.inode(), &tuples).unwrap();
    for (at, answer) in answers.into_iter().enumerate() {
        let wanted = [translated("10.1.2.2:8080"), Answer::Unknown, Answer::Unknown][at % 3];
        assert_eq!(answer, wanted, "{at}");
    }
    assert_eq!(NetworkNamespace::own().unwrap().inode(), net.client.home.inode(), "at home again");
}

#[test]
fn addresses_are_those_that_can_be_reached() {
    let net = Net::new("addresses");
    net.client.shell(
        "ip link add off type veth peer name other; ip addr add 10.9.9.9/32 dev off; ip addr add 10.1.7.7/32 dev lo
         ip addr add 169.254.7.7/16 dev eth0",
    );
    let (host, mut namespaces) = (net.host(), net.namespaces());
    let sorted = |addresses: Option<&[IpAddr]>| {
        let mut texts: Vec<String> = addresses.expect("known").iter().map(IpAddr::to_string).collect();
        texts.sort();
        texts
    };
    assert_eq!(
        sorted(namespaces.addresses(&host, net.client.inode())),
        ["10.1.1.1", "10.1.7.7", "fd00:1::1"]
    );
    assert_eq!(sorted(namespaces.loopback_addresses(&host, net.client.inode())), ["127.0.0.1", "::1"]);
    assert_eq!(
        sorted(namespaces.addresses(&host, namespaces.host())),
        ["10.1.1.254", "10.1.2.254", "fd00:1::fe", "fd00:2::fe"]
    );
    assert_eq!(namespaces.addresses(&host, 1), None);
    // A number used by a process elsewhere, and one that is gone.
    for pid in [net.server.pid(), u32::MAX] {
        namespaces.note(&host, 7, pid);
        assert_eq!(namespaces.addresses(&host, 7), None);
        assert!(namespaces.list_sockets(&host, 7, state::ALL).unwrap().is_empty());
    }
    // A process that is gone already takes nobody's place.
    namespaces.note(&host, net.client.inode(), u32::MAX);
    assert!(namespaces.addresses(&host, net.client.inode()).is_some());
    let tuple = Tuple::new("10.1.1.1:1".parse().unwrap(), "10.1.2.2:1".parse().unwrap());
    assert_eq!(net.answer(&mut namespaces, tuple), Answer::Unknown);
}

#[test]
fn sockets_are_listed() {
    let net = Net::new("sockets");
    let all = listen(&net.server, "[::]:8080");
    let own = listen(&net.server, "127.0.0.1:9000");
    let (_v4, v4) = net.client.connect("10.1.2.2:8080");
    let (_v6, v6) = net.client.connect("[fd00:2::2]:8080");
    let listening = state::mask(state::LISTEN);
    let check = |namespaces: &mut Namespaces, host: &Host, detailed: bool| {
        let inode_of = |listener: &TcpListener| {
            use std::os::fd::AsRawFd;
            let fd = format!("/proc/self/fd/{}", listener.as_raw_fd());
            fs::metadata(fd).expect("a descriptor").ino() as u32
        };
        let found = namespaces.list_sockets(host, net.server.inode(), listening).unwrap();
        let ends: Vec<(String, u32)> =
            found.iter().map(|socket| (socket.local.to_string(), socket.inode)).collect();
        assert_eq!(
            ends,
            [("127.0.0.1:9000".to_owned(), inode_of(&own)), ("[::]:8080".to_owned(), inode_of(&all))]
        );
        assert!(found.iter().all(|socket| socket.cookie.is_some() == detailed));
        assert_eq!(found[1].is_v6_only, detailed.then_some(false));
        let connected = |socket: &Socket| Tuple::new(socket.remote, socket.local);
        let established = state::mask(state::ESTABLISHED);
        let found = namespaces.list_sockets(host, net.server.inode(), established).unwrap();
        let mut ends: Vec<Tuple> = found.iter().map(connected).collect();
        ends.sort_by_key(|tuple| tuple.source);
        assert_eq!(ends, [v4, v6]);
        let found = namespaces.list_sockets(host, net.client.inode(), state::ALL).unwrap();
        assert_eq!(found.len(), 2);
    };
    check(&mut net.namespaces(), &net.host(), true);
    // Where the kernel would have to load a module for it.
    for file in ["proc/modules", "sys", "lib", "proc/kallsyms"] {
        let _ = fs::remove_file(net.root.join(file));
    }
    fs::write(net.root.join("proc/modules"), "").expect("written");
    check(&mut net.namespaces(), &net.host(), false);
}

/// Capabilities are a thread's, so that another one can go without.
#[test]
fn without_rights_it_says_so() {
    let net = Net::new("rights");
    let _listener = listen(&net.server, "[::]:8080");
    net.translate();
    let (host, mut namespaces) = (net.host(), net.namespaces());
    let (_stream, tuple) = net.client.connect("10.96.0.11:80");
    // The socket in the host's namespace is open from here on.
    assert_eq!(net.answer(&mut namespaces, tuple), translated("10.1.2.2:8080"));
    let (client, of_host) = (net.client.inode(), namespaces.host());
    let path = PathBuf::from(format!("/proc/{}/ns/net", net.client.pid()));
    let other = NetworkNamespace::open(&path).expect("opened");
    std::thread::spawn(move || {
        nodeprobe::sys::capabilities::keep_capabilities(0).expect("given up");
        let home = NetworkNamespace::own().expect("own");
        assert_eq!(home.run(&home, || 7).expect("no system call"), 7);
        let denied = Error::from(other.run(&home, || ()).expect_err("not allowed"));
        assert_eq!(denied.reason(), Reason::NoPermission, "{denied}");
        for inode in [of_host, client] {
            let denied = namespaces.lookup_many(&host, inode, &[tuple]).expect_err("not allowed");
            assert_eq!(denied.reason(), Reason::NoPermission, "{denied}");
            let denied = namespaces.list_sockets(&host, inode, state::ALL).expect_err("not allowed");
            assert_eq!(denied.reason(), Reason::NoPermission, "{denied}");
            assert_eq!(namespaces.addresses(&host, inode), None);
        }
    })
    .join()
    .expect("no panic");
}

/// No assertion about time: the numbers are for people (`--nocapture`).
#[test]
fn lookups_are_quick() {
    const CONNECTIONS: usize = 128;
    let net = Net::new("speed");
    let listener = listen(&net.server, "[::]:8080");
    nodeprobe::sys::socket::set_backlog(&listener, 4 * CONNECTIONS as i32).expect("listening");
    net.translate();
    let (host, mut namespaces) = (net.host(), net.namespaces());
    for (place, to) in [("host", "10.96.0.12:80"), ("own namespace", "10.96.0.11:80")] {
        let made: Vec<(TcpStream, Tuple)> = (0..CONNECTIONS).map(|_| net.client.connect(to)).collect();
        let tuples: Vec<Tuple> = made.iter().map(|(_, tuple)| *tuple).collect();
        for size in [1, 32, CONNECTIONS] {
            let rounds = 20;
            let start = Instant::now();
            for chunk in (0..rounds).flat_map(|_| tuples.chunks(size)) {
                let answers = namespaces.lookup_many(&host, net.client.inode(), chunk).unwrap();
                assert!(answers.iter().all(|answer| *answer == translated("10.1.2.2:8080")), "{answers:?}");
            }
            let each_us = start.elapsed().as_secs_f64() * 1e6 / (rounds * CONNECTIONS) as f64;
            println!(
                "translated in the {place}, {size} at once: {each_us:.2} us each, {:.0}/s",
                1e6 / each_us
            );
        }
    }
    for (what, states) in [("all", state::ALL), ("listening", state::mask(state::LISTEN))] {
        let start = Instant::now();
        for _ in 0..100 {
            namespaces.list_sockets(&host, net.server.inode(), states).unwrap();
        }
        let listed = namespaces.list_sockets(&host, net.server.inode(), states).unwrap().len();
        println!("{what} sockets, {listed}: {:.0} us", start.elapsed().as_secs_f64() * 1e4);
    }
    let start = Instant::now();
    for _ in 0..1000 {
        net.client.run(|| ());
    }
    println!("into a namespace and back: {:.2} us", start.elapsed().as_secs_f64() * 1e3);
}
