//! HTTP from outside: what clients may ask, and what hostile, broken and slow clients may not do to the others.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{ANSWER, Agent, Client, Dice, Metrics, Response, until};

const MIB: u64 = 1 << 20;

/// An agent that observes a fixture host: every scrape has the same values and needs the same descriptors.
#[track_caller]
fn agent() -> Agent {
    nodeprobe::sys::process::raise_open_files();
    let agent = Agent::start(&[&format!("--root={FIXTURE}")]);
    assert_complete(&agent.settled_scrape());
    // The connection of that scrape is gone: what is open now stays open.
    until("only the listener is left", ANSWER, || {
        let is_socket = |link: &&String| link.starts_with("socket:");
        (agent.descriptors().iter().filter(is_socket).count() == 1).then_some(())
    });
    agent
}

/// Its descriptors without pipes: one comes and goes with the child that measures file systems.
#[track_caller]
fn lasting_fds(agent: &Agent) -> usize {
    agent.descriptors().iter().filter(|link| !link.starts_with("pipe:")).count()
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker-v2");

/// All of the first and the last collectors is there, and a value is what the fixture says.
#[track_caller]
fn assert_complete(metrics: &Metrics) {
    let modes = metrics.series("node_resources_cpu_usage_seconds_total");
    assert_eq!(modes.len(), 8, "{modes:?}");
    let meminfo = fs::read_to_string(format!("{FIXTURE}/proc/meminfo")).expect("the fixture");
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total_kib: f64 =
        total.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).expect("MemTotal");
    assert_eq!(metrics.value("node_resources_memory_total_bytes", &[]), Some(total_kib * 1024.0));
    assert!(!metrics.series("container_resources_cpu_usage_seconds_total").is_empty());
    assert_eq!(metrics.value("nodeprobe_collector_up", &[("collector", "agent")]), Some(1.0));
}

/// After an abuse: it lives, the next scrape is complete, and its descriptors are no more than they were (after a lack of
/// them it keeps fewer files open for a minute).
#[track_caller]
fn assert_recovers(agent: &mut Agent, fds: usize) {
    assert!(agent.is_alive(), "{:?}", agent.stderr());
    assert_complete(&agent.scrape());
    let began = Instant::now();
    while lasting_fds(agent) > fds {
        assert!(began.elapsed() < ANSWER, "not {fds} descriptors or fewer but {:#?}", agent.descriptors());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_complete(&agent.scrape());
    assert!(agent.is_alive());
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Waits until the server has accepted `count` connections more than when it said `before`.
#[track_caller]
fn await_accepted(agent: &Agent, before: &Metrics, count: f64) {
    const ACCEPTED: &str = "nodeprobe_http_connections_total";
    let before = before.sum(ACCEPTED, &[]);
    until("all connections are accepted", ANSWER, || {
        let now = agent.scrape().sum(ACCEPTED, &[]);
        (now >= before + count).then_some(())
    });
}

fn closed(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("nodeprobe_http_connections_closed_total", &[("reason", reason)])
}

#[test]
fn the_three_pages_and_nothing_else() {
    let agent = agent();
    let metrics = agent.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(metrics.header("content-encoding"), None);
    assert_eq!(metrics.version, "HTTP/1.1");
    assert_complete(&Metrics::parse(metrics.text()));
    assert_eq!(agent.get("/metrics?name=x&y=%20").status, 200);

    let health = agent.get("/healthz");
    assert_eq!((health.status, health.text()), (200, "ok\n"));

    let index = agent.get("/");
    assert_eq!(index.status, 200);
    assert!(index.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(index.text().contains("href=\"/metrics\""));

    for path in ["/nothing", "/metrics/", "/metricsx", "/Metrics", "/..", "/healthz/"] {
        assert_eq!(agent.get(path).status, 404, "{path}");
    }
    let counts = agent.scrape();
    assert_eq!(counts.value("nodeprobe_http_responses_total", &[("code", "404")]), Some(6.0));
}

#[test]
fn another_telemetry_path() {
    let agent = Agent::start(&[&format!("--root={FIXTURE}"), "--web.telemetry-path=/a/b"]);
    assert_complete(&Metrics::parse(agent.get("/a/b").text()));
    assert_eq!(agent.get("/metrics").status, 404);
    assert!(agent.get("/").text().contains("href=\"/a/b\""));
}

#[test]
fn head_is_get_without_a_body() {
    let agent = agent();
    let mut client = agent.connect();
    for path in ["/metrics", "/healthz", "/", "/nothing"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
        let head = client.response_head().unwrap();
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        // What comes next is the answer to the next request: no byte of a body was sent.
        let body = client.get(path);
        assert_eq!((head.status, &head.version), (body.status, &body.version), "{path}");
        assert!(length > 0, "{path}");
        if path != "/metrics" {
            assert_eq!(length, body.body.len(), "{path}");
        }
    }
}

#[test]
fn other_methods_are_not_allowed() {
    let agent = agent();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW"] {
        let answer = agent.connect().ask(&format!("{method} /metrics HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
}

#[test]
fn http_1_0_closes_unless_asked() {
    let agent = agent();
    let mut client = agent.connect();
    let answer = client.ask("GET /metrics HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, answer.version.as_str()), (200, "HTTP/1.0"));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_complete(&Metrics::parse(answer.text()));
    assert!(client.closes());

    let mut client = agent.connect();
    for _ in 0..3 {
        let answer = client.ask("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    let answer = agent.connect().ask("GET / HTTP/2.0\r\n\r\n");
    assert_eq!(answer.status, 505);
}

#[test]
fn many_requests_on_one_connection() {
    let agent = agent();
    let before = agent.scrape_once();
    let mut client = agent.connect();
    for round in 0..50 {
        match round % 4 {
            0 => assert_complete(&Metrics::parse(client.get("/metrics").text())),
            1 => assert_eq!(client.get("/healthz").text(), "ok\n"),
            2 => assert_eq!(client.get("/").status, 200),
            _ => assert_eq!(client.get("/nothing").status, 404),
        }
    }
    let answer = client.ask("GET /healthz HTTP/1.1\r\nConnection: foo, Close\r\n\r\n");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.closes());
    let accepted = agent.scrape_once().sum("nodeprobe_http_connections_total", &[])
        - before.sum("nodeprobe_http_connections_total", &[]);
    assert_eq!(accepted, 2.0, "one connection for all, one to ask");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let agent = agent();
    let mut client = agent.connect();
    let paths = ["/healthz", "/metrics", "/nothing", "/", "/metrics", "/healthz"];
    for _ in 0..5 {
        client.send(paths.map(request).concat()).unwrap();
        for path in paths {
            let answer = client.response().unwrap();
            let expected = if path == "/nothing" { 404 } else { 200 };
            assert_eq!(answer.status, expected, "{path}");
            match path {
                "/metrics" => assert_complete(&Metrics::parse(answer.text())),
                "/healthz" => assert_eq!(answer.text(), "ok\n"),
                _ => {}
            }
        }
    }
    // A request in pieces, cut at every byte.
    for byte in request("/healthz").bytes() {
        client.send([byte]).unwrap();
    }
    assert_eq!(client.response().unwrap().text(), "ok\n");
}

#[test]
fn requests_before_the_end_of_the_stream_are_answered() {
    let agent = agent();
    let mut client = agent.connect();
    client.send(["/healthz", "/metrics", "/"].map(request).concat()).unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().unwrap().text(), "ok\n");
    assert_complete(&Metrics::parse(client.response().unwrap().text()));
    assert_eq!(client.response().unwrap().status, 200);
    assert!(client.closes());
}

#[test]
fn gzip_is_the_same_text_packed() {
    let agent = agent();
    let ask = |accept: &str| -> Response {
        let head = format!("GET /metrics HTTP/1.1\r\nAccept-Encoding: {accept}\r\n\r\n");
        agent.connect().ask(&head)
    };
    let plain = ask("identity");
    assert_eq!(plain.header("content-encoding"), None);
    let plain_length = plain.body.len();
    let plain = Metrics::parse(plain.text());
    for accept in ["gzip", "deflate, gzip;q=0.5", "gzip, deflate, br", "*"] {
        let packed = ask(accept);
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{accept}");
        assert!(packed.body.len() * 3 < plain_length, "packed to {}", packed.body.len());
        let text = Metrics::parse(&gunzip(&packed.body));
        assert_eq!(text.families(), plain.families(), "{accept}");
        assert_complete(&text);
    }
    for accept in ["gzip;q=0", "deflate", "", "br, gzip;q=0.0"] {
        let answer = ask(accept);
        assert_eq!(answer.header("content-encoding"), None, "{accept}");
        assert_complete(&Metrics::parse(answer.text()));
    }
}

#[track_caller]
fn gunzip(packed: &[u8]) -> String {
    let mut child = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is in every base system");
    let mut stdin = child.stdin.take().expect("a pipe");
    let packed = packed.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&packed));
    let output = child.wait_with_output().expect("gzip ends");
    feeder.join().expect("no panic").expect("gzip reads all");
    assert!(output.status.success(), "gzip: {}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn absolute_form_and_odd_but_legal_heads() {
    let agent = agent();
    for head in [
        "GET http://localhost:9435/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://[::1]/metrics?a=b HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nX:\r\nY: \t \r\nConnection:close\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ] {
        let answer = agent.connect().ask(head);
        assert_eq!(answer.status, 200, "{head:?}");
        assert_complete(&Metrics::parse(answer.text()));
    }
    assert_eq!(agent.connect().ask("GET http://localhost HTTP/1.1\r\n\r\n").status, 200);
    for head in [
        "GET\r\n\r\n",
        "GET /metrics\r\n\r\n",
        "GET /metrics FTP/1.1\r\n\r\n",
        "GET  /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /metrics HTTP/1.1 x\r\n\r\n",
    ] {
        assert_eq!(agent.connect().ask(head).status, 400, "{head:?}");
    }
}

#[test]
fn a_head_beyond_8_kib_is_refused() {
    let agent = agent();
    let head = |padding: usize| format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(padding));
    let fixed = head(0).len();
    assert_eq!(agent.connect().ask(&head(8192 - fixed)).status, 200, "8 KiB are allowed");
    for padding in [8193 - fixed, 9000, 20_000] {
        let mut client = agent.connect();
        let answer = client.ask(&head(padding));
        assert_eq!(answer.status, 431, "{padding} bytes");
        assert!(client.closes());
    }
}

#[test]
fn a_header_of_60_mb_costs_no_memory() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    let piece = [b'x'; 64 * 1024];
    for start in ["GET /metrics HTTP/1.1\r\nX: ", "", "GET /metrics HTTP/1.1\r\n"] {
        let mut client = agent.connect();
        client.send(start).unwrap();
        let mut sent = 0;
        while sent < 60_000_000 && client.send(piece).is_ok() {
            sent += piece.len();
        }
        assert!(client.closes(), "after {sent} bytes");
    }
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 4 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
    let refused = agent.scrape().sum("nodeprobe_http_responses_total", &[("code", "431")]);
    assert_eq!(refused, 3.0);
}

#[test]
fn request_bodies_are_refused() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    for header in [
        "Content-Length: 5",
        "Content-Length: 99999999999999999999",
        "Content-Length: -1",
        "Content-Length: 0, 5",
        "Transfer-Encoding: chunked",
        "content-length: 60000000",
    ] {
        let mut client = agent.connect();
        client.send(format!("GET /metrics HTTP/1.1\r\n{header}\r\n\r\n")).unwrap();
        // The body is never read, so writing it may fail at any time; the refusal must have come all the same.
        let refusal = client.response().unwrap();
        assert_eq!(refusal.status, 413, "{header}");
        let piece = [b'G'; 64 * 1024];
        while client.send(piece).is_ok() {}
        assert!(client.closes());
    }
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 4 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
}

/// A client that sends all of a large refused request before it reads must still learn why.
#[test]
fn the_refusal_reaches_a_client_that_is_still_sending() {
    let agent = agent();
    let head = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let body = format!("POST /metrics HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    for _ in 0..20 {
        for (request, status) in [(&head, 431), (&body, 405)] {
            let mut client = agent.connect();
            client.send(request).unwrap_or_else(|error| panic!("{status}: sending: {error}"));
            let answer = client.response().unwrap_or_else(|error| panic!("{status}: reading: {error}"));
            assert_eq!(answer.status, status);
        }
    }
}

#[test]
fn half_a_head_is_closed_after_5_seconds() {
    let agent = agent();
    let began = Instant::now();
    let mut silent = agent.connect();
    let mut half = agent.connect();
    half.send("GET /metrics HT").unwrap();
    let mut drip = agent.connect();
    drip.stream().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // A byte now and then does not buy time.
    let dripping = until("a dripping client is cut off", ANSWER, || {
        let _ = drip.send("x");
        drip.closes().then(|| began.elapsed())
    });
    assert!(half.closes() && silent.closes());
    for elapsed in [dripping, began.elapsed()] {
        assert!(elapsed >= Duration::from_millis(4900), "closed early: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(9), "closed late: {elapsed:?}");
    }
    let metrics = agent.scrape();
    assert_eq!(closed(&metrics, "head_timeout"), 2.0);
    assert_eq!(closed(&metrics, "idle"), 1.0);
}

#[test]
fn half_open_clients_do_not_block_a_scrape() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    let before = agent.scrape();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..500 {
        let mut client = agent.connect();
        client.send(&request("/metrics")[..number % 20]).expect("sent");
        clients.push(client);
        if number % 25 == 0 {
            assert_complete(&agent.scrape());
        }
    }
    await_accepted(&agent, &before, 500.0);
    let began = Instant::now();
    for _ in 0..10 {
        assert_complete(&agent.scrape());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "ten scrapes took {:?}", began.elapsed());
    let held = lasting_fds(&agent) - fds;
    assert!(held <= nodeprobe::limits::HTTP_CONNECTIONS, "{held} connections are held");
    assert!(closed(&agent.scrape(), "evicted") >= 400.0);
    drop(clients);
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 4 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
}

#[test]
fn clients_that_do_not_read_do_not_block_a_scrape() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    let before = agent.scrape();
    // So many scrapes on one connection that no socket buffer takes them all.
    let greedy = request("/metrics").repeat(8000 / request("/metrics").len());
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..500 {
        let mut client = agent.connect();
        client.send(&greedy).expect("sent");
        clients.push(client);
        if number % 50 == 0 {
            assert_complete(&agent.scrape());
        }
    }
    await_accepted(&agent, &before, 500.0);
    let began = Instant::now();
    let mut scrapes = 0;
    // Beyond the second after which those who take nothing must make way.
    while began.elapsed() < Duration::from_millis(2500) {
        assert_complete(&agent.scrape());
        scrapes += 1;
    }
    assert!(scrapes >= 3, "only {scrapes} scrapes in {:?}", began.elapsed());
    let held = lasting_fds(&agent) - fds;
    assert!(held <= nodeprobe::limits::HTTP_CONNECTIONS, "{held} connections are held");
    drop(clients);
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 8 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
}

#[test]
fn ten_thousand_resets() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    let whole = request("/metrics");
    let parts = ["", "GET /met", "GET /healthz HTTP/1.1\r\n\r\n", whole.as_str()];
    for number in 0..10_000 {
        let mut client = agent.connect();
        // The other side may have closed already, to make place.
        let _ = client.send(parts[number % parts.len()]);
        client.reset();
        // Connections are accepted in order: when this one is answered, the kernel's queue of them is empty again.
        if number % 100 == 0 {
            assert_eq!(agent.get("/healthz").status, 200);
        }
    }
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 8 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
}

#[test]
fn without_descriptors_a_scrape_is_still_answered() {
    let mut agent = agent();
    let fds = lasting_fds(&agent);
    let containers = agent.scrape().value("nodeprobe_containers", &[]);
    // Nothing above the descriptors that are open now, and no gap below.
    let contiguous = (0..).take_while(|fd| agent.proc(&format!("fd/{fd}")).symlink_metadata().is_ok());
    let present = contiguous.count() as u64;
    let usual = agent.limit_open_files(present);
    // They take what becomes free, and make way for those who ask.
    let silent: Vec<Client> = (0..4).map(|_| agent.connect()).collect();
    let began = Instant::now();
    // Long enough that every source is read anew, without descriptors to spare.
    while began.elapsed() < Duration::from_millis(1500) {
        let answer = agent.get("/metrics");
        assert_eq!(answer.status, 200);
        let metrics = Metrics::parse(answer.text());
        assert_complete(&metrics);
        let alive = metrics.value("nodeprobe_containers", &[]);
        assert_eq!(alive, containers, "containers are not gone because nobody could look");
    }
    drop(silent);
    // Many at once: each is answered or closed, none hangs.
    let mut clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = agent.connect();
            let _ = client.send("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
            client
        })
        .collect();
    agent.limit_open_files(usual);
    let answered = clients
        .iter_mut()
        .filter_map(|client| client.response().ok())
        .filter(|answer| answer.status == 200)
        .count();
    assert!(answered >= 50, "of 100 waiting clients only {answered} were answered");
    drop(clients);
    let errors = agent.scrape().sum("nodeprobe_http_accept_errors_total", &[]);
    assert!(errors > 0.0, "failures of accept are not counted");
    assert_recovers(&mut agent, fds);
}

#[test]
fn random_requests_do_no_harm() {
    let mut agent = agent();
    let (fds, hwm) = (lasting_fds(&agent), agent.hwm());
    let mut dice = Dice::new(1);
    let valid = [
        request("/healthz"),
        request("/"),
        "HEAD /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
        "GET http://localhost/metrics?a HTTP/1.1\r\nAccept-Encoding: gzip;q=0.5, *\r\nHost: a\r\n\r\n"
            .to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789".to_owned(),
        ["/healthz", "/nothing", "/healthz"].map(request).concat(),
    ];
    let mut answers = 0;
    for number in 0..10_000 {
        let bytes = if number % 4 == 0 {
            let count = dice.below(200);
            let mut random = dice.bytes(count);
            random.extend_from_slice(b"\r\n\r\n");
            random
        } else {
            let mut bytes = valid[number % valid.len()].clone().into_bytes();
            for _ in 0..=dice.below(4) {
                dice.mutate(&mut bytes);
            }
            bytes
        };
        let mut client = agent.connect();
        // It may answer and close before all is sent.
        let _ = client.send(&bytes);
        let _ = client.stream().shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.stream().read_to_end(&mut answer);
        if !answer.is_empty() {
            answers += 1;
            assert!(
                answer.starts_with(b"HTTP/1.1 ") || answer.starts_with(b"HTTP/1.0 "),
                "{:?} was answered with {:?}",
                String::from_utf8_lossy(&bytes),
                String::from_utf8_lossy(&answer)
            );
        }
    }
    assert!(answers > 5000, "only {answers} of 10000 were answered");
    let grown = agent.hwm().saturating_sub(hwm);
    assert!(grown < 4 * MIB, "VmHWM grew by {grown} bytes");
    assert_recovers(&mut agent, fds);
}

#[test]
fn a_taken_port_and_bad_flags_exit_2_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = format!("--listen={}", taken.local_addr().expect("an address"));
    for (arguments, named) in [
        (&[taken.as_str()][..], "--listen"),
        (&["--listen=nonsense"], "--listen"),
        (&["--listen=:70000"], "--listen"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--interval=soon"], "--interval"),
        (&["--interval"], "--interval"),
        (&["--collector.tcp=perhaps"], "--collector.tcp"),
        (&["--collector.nothing=on"], "--collector.nothing"),
        (&["--ephemeral-port-range=5"], "--ephemeral-port-range"),
        (&["--web.telemetry-path=metrics"], "--web.telemetry-path"),
        (&["--log-level=loud"], "--log-level"),
        (&["serve"], "serve"),
        (&["-x"], "-x"),
    ] {
        let output = support::run(arguments, ANSWER);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_collector_that_must_work_and_cannot_exits_2() {
    let root = support::TempDir::new("empty-root");
    let output = support::run(
        &[
            "--listen=127.0.0.1:0",
            &format!("--root={}", root.path().display()),
            "--log-level=error",
            "--collector.node_cpu=on",
        ],
        ANSWER,
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--collector.node_cpu=on"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn signals_end_it_quickly_but_sighup_does_not() {
    let mut hardened = agent();
    hardened.signal(libc::SIGHUP);
    assert_complete(&hardened.scrape());
    assert!(hardened.is_alive());
    // Connections in every state do not delay the end.
    let mut half = hardened.connect();
    half.send("GET /").unwrap();
    let idle = hardened.connect();
    let (status, took, said) = hardened.stop();
    drop((half, idle));
    assert_eq!(status.code(), Some(0), "{said:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(said.iter().any(|line| line.contains("stopping")), "{said:?}");
}

/// This machine itself with every collector, not a fixture.
#[test]
fn the_live_host_is_served() {
    let mut agent = Agent::start(&[]);
    let metrics = agent.scrape();
    assert_eq!(metrics.series("node_resources_cpu_usage_seconds_total").len(), 8);
    assert!(metrics.value("node_uptime_seconds", &[]).is_some_and(|uptime| uptime > 0.0));
    let before = metrics.sum("node_resources_cpu_usage_seconds_total", &[]);
    until("CPU time goes on between scrapes", ANSWER, || {
        let now = agent.scrape().sum("node_resources_cpu_usage_seconds_total", &[]);
        assert!(now >= before);
        (now > before).then_some(())
    });
    assert!(agent.is_alive());
    let (status, ..) = agent.stop();
    assert_eq!(status.code(), Some(0));
}

/// Clients that take their answers slowly but steadily are no reason to refuse others.
#[test]
fn trickling_readers_do_not_block_a_scrape() {
    let mut agent = agent();
    let fds = lasting_fds(&agent);
    let greedy = request("/metrics").repeat(8000 / request("/metrics").len());
    let mut clients: Vec<Client> = (0..8).map(|_| agent.connect()).collect();
    let mut buffer = vec![0; 256 * 1024];
    let began = Instant::now();
    let mut turn = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let client = &mut clients[turn % 8];
        turn += 1;
        if turn <= 8 {
            client.send(&greedy).expect("sent");
        } else {
            client.stream().set_nonblocking(true).expect("a socket");
            let _ = client.stream().read(&mut buffer);
        }
        let answer = agent.get("/metrics");
        assert_eq!(answer.status, 200, "after {:?}", began.elapsed());
        assert_complete(&Metrics::parse(answer.text()));
    }
    drop(clients);
    assert_recovers(&mut agent, fds);
}
