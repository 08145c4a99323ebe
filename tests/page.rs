//! The page at `/`: what is sent, and, in a real browser with a real agent, what is seen.
//!
//! The tests with a browser are part of `make test-parts`; they leave pictures in `target/page`.

#[path = "../build/script.rs"]
mod script;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nodeprobe::sys::zlib;
use support::browser::Browser;
use support::cgroup::{Cgroup, container_id, turn};
use support::netns::Netns;
use support::puppet::Puppet;
use support::{ANSWER, Agent, BINARY, TempDir, until};

/// Bytes of the document, and of what a browser is sent.
const PAGE_BYTES: usize = 32 << 10;
const PACKED_BYTES: usize = 16 << 10;

fn still_agent(args: &[&str]) -> Agent {
    Agent::start(
        &[&[concat!("--root=", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker-v2")], args].concat(),
    )
}

#[test]
fn the_page_is_one_small_document() {
    let agent = still_agent(&[]);
    let plain = agent.get("/");
    let page = plain.text();
    assert!(page.len() <= PAGE_BYTES, "{} bytes", page.len());
    let packed = agent.connect().ask("GET / HTTP/1.1\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() <= PACKED_BYTES, "{} bytes", packed.body.len());
    assert_eq!(zlib::gunzip(&packed.body, PAGE_BYTES).as_deref(), Some(page.as_bytes()));
    println!("page: {} bytes, {} as gzip", page.len(), packed.body.len());
    // Nothing from elsewhere: no address but that of a namespace, and no attribute that loads something.
    let foreign = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "@import", "url(//", "<iframe", "<object", "{{"] {
        assert!(!foreign.contains(word), "{word}");
    }
    let links: Vec<&str> =
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let outside = |link: &&&str| !link.starts_with('#') && !link.starts_with("data:");
    assert_eq!(links.iter().filter(outside).collect::<Vec<_>>(), [&"/metrics", &"/metrics", &"/healthz"]);
}

#[test]
fn scripts_get_shorter_and_do_the_same() {
    for (source, short) in [
        ("// Nothing.\nconst long = 1;\nconst other = long + 0.5;\n", "let a=1,b=a+.5;\n"),
        ("function f(x) {\n\treturn x;\n}\nf(2);\n", "let b=a=>{return a};b(2);\n"),
        ("const f = (one, two) => one - -two;\n", "let c=(a,b)=>a- -b;\n"),
        ("let n = 1;\nn++;\nconst m = n;\n", "let a=1;a++;let b=a;\n"),
        // Keys and fields are not variables.
        (
            "const key = 1;\nconst o = { key, key: key, 'key': 2 };\no.key = o?.key;\n",
            "let a=1,b={key:a,key:a,'key':2};b.key=b?.key;\n",
        ),
        ("const g = ({ key, other: it = key }) => it;\n", "let c=({key:b,other:a=b})=>a;\n"),
        // What `tests/page.rs` asks for, and the browser's.
        (
            "const all = document.all;\nconst f = () => all(Math.PI);\n",
            "let all=document.all,a=()=>all(Math.PI);\n",
        ),
        // Text stays, but for what is no text in a template.
        (
            "const it = 1;\nconst t = `it ${it} // ${`${it}`} it`;\nconst s = ' it // ';\n",
            "let a=1,c=`it ${a} // ${`${a}`} it`,b=' it // ';\n",
        ),
        ("const r = /[/ ']  it/g;\nconst q = 4 / 2 / 1;\n", "let b=/[/ ']  it/g,a=4/2/1;\n"),
        // Where variables are told apart by where they are, they still are; a name is used again where it can be.
        ("const f = a => a;\nconst g = b => f(b);\nconst h = f => f;\n", "let b=a=>a,c=a=>b(a),d=b=>b;\n"),
        (
            "for (const one of [1]) {\n\tf(one);\n}\nconst f = x => x;\n",
            "for(let a of[1]){b(a)}let b=a=>a;\n",
        ),
    ] {
        assert_eq!(script::squeeze(source), short, "{source}");
    }
    for doubtful in [
        "const a = 1\nconst b = 2;\n",
        "unknown(1);\n",
        "const f = x => x;\nconst g = () => x;\n",
        "const Math = 1;\n",
        "const a = { b() {} };\n",
        "class A {}\n",
        "const a = 'open;\n",
        "const a = (1;\n",
        "let a = 1, b = 2;\n",
        "function f() { function g() {} }\n",
        "const a = 1 && { a: 2 };\n",
    ] {
        let squeezed = std::panic::catch_unwind(|| script::squeeze(doubtful));
        assert!(squeezed.is_err(), "{doubtful} became {squeezed:?}");
    }
}

#[test]
fn text_can_only_be_text() {
    for name in ["metrics.js", "draw.js", "map.js", "page.js", "page.html"] {
        let path = format!("{}/src/page/{name}", env!("CARGO_MANIFEST_DIR"));
        let source = fs::read_to_string(&path).unwrap();
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "DOMParser",
            "srcdoc",
            "createContextualFragment",
            "setTimeout('",
            "onclick",
            "onload=",
            "onerror=",
            "cookie",
            "localStorage",
            "style=",
        ] {
            assert!(!source.contains(word), "{name}: {word}");
        }
    }
}

#[test]
fn the_policy_allows_this_script_and_nothing_else() {
    let agent = still_agent(&[]);
    let answer = agent.get("/");
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    for part in ["connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{part}");
    }
    for (begin, end, rule) in [("<script>", "</script>", "script-src"), ("<style>", "</style>", "style-src")]
    {
        let text = answer.text().split_once(begin).unwrap().1.split_once(end).unwrap().0;
        assert!(policy.contains(&format!("{rule} 'sha256-{}'", sha256_base64(text))), "{rule}: {policy}");
    }
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(agent.get("/metrics").header("content-security-policy"), None);
}

fn sha256_base64(text: &str) -> String {
    let directory = TempDir::new("digest");
    let file = directory.write("text", text);
    let mut command = std::process::Command::new("python3");
    let code = "import base64,hashlib,sys; print(base64.b64encode(hashlib.sha256(open(sys.argv[1],'rb').read()).digest()).decode())";
    let output = command.args(["-c", code]).arg(file).env_remove("LD_LIBRARY_PATH").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn who_has_the_page_is_not_sent_it_again() {
    let agent = still_agent(&[]);
    let first = agent.get("/");
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    assert_eq!(first.header("vary"), Some("Accept-Encoding"));
    let mut client = agent.connect();
    for (known, status) in [
        (tag.clone(), 304),
        (format!("\"x\", {tag}"), 304),
        (tag.trim_start_matches("W/").to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        (String::new(), 200),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {known}\r\n\r\n")).unwrap();
        if status == 304 {
            let head = client.response_head().unwrap();
            assert_eq!((head.status, head.header("etag")), (304, Some(&*tag)), "{known}");
        } else {
            assert_eq!(client.response().unwrap().status, 200, "{known}");
        }
    }
    // No byte of a body was sent: the connection goes on with the next answer.
    assert_eq!(client.get("/healthz").text(), "ok\n");
    // A tag of the page says nothing about metrics.
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")).unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    let other = still_agent(&["--web.telemetry-path=/a/b", "--debug"]);
    let page = other.get("/");
    assert_ne!(page.header("etag"), Some(&*tag));
    assert!(page.text().contains("href=\"/a/b\"") && page.text().contains("href=\"/maps\""));
}

// What follows needs a browser.

/// Where pictures go.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("page")
}

const LIVE: &str = "document.getElementById('state').dataset.state == 'live'";

/// Waits for `count` answers more to be drawn.
#[track_caller]
fn drawn(browser: &mut Browser, count: u32) {
    for _ in 0..count {
        browser.until("!asking");
        browser.js("ask()");
    }
    browser.until("!asking");
}

#[track_caller]
fn assert_no_overflow(browser: &mut Browser) {
    let sizes = browser.js("[document.documentElement.scrollWidth, innerWidth].join(' ')");
    let (wide, window) = sizes.split_once(' ').unwrap();
    assert_eq!(wide, window, "the page scrolls sideways");
}

/// Names, heads and contrast of everything that can be seen.
#[track_caller]
fn assert_accessible(browser: &mut Browser) {
    let complaints = browser.js(
        r#"(() => {
        const bad = [];
        const name = e => (e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent
            || document.getElementById(e.getAttribute('aria-labelledby'))?.textContent || '').trim();
        for (const e of document.querySelectorAll('a, button, input, [tabindex="0"], summary'))
            if (e.checkVisibility() && !name(e)) bad.push('no name: ' + e.outerHTML.slice(0, 90));
        for (const e of document.querySelectorAll('th')) if (!/^(row|col)$/.test(e.scope)) bad.push('no scope: ' + e.textContent);
        for (const e of document.querySelectorAll('[aria-labelledby]'))
            for (const id of e.getAttribute('aria-labelledby').split(' ')) if (!document.getElementById(id)) bad.push('no element: ' + id);
        const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        if (new Set(ids).size != ids.length) bad.push('an id twice');
        const levels = [...document.querySelectorAll('h1, h2, h3')].map(e => +e.tagName[1]);
        levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) bad.push('a heading is left out'); });
        const colour = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
        const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
        const behind = e => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255]; };
        const seen = new Set();
        for (const e of document.querySelectorAll('body *')) {
            if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.checkVisibility() || ['SCRIPT', 'STYLE', 'title', 'desc', 'NOSCRIPT'].includes(e.tagName)) continue;
            const style = getComputedStyle(e);
            const front = colour(e instanceof SVGElement ? style.fill : style.color);
            const [a, b] = [light(front), light(behind(e))].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            const what = e.tagName + '.' + (e.getAttribute('class') || '');
            if (ratio < 4.5 && !seen.has(what)) { seen.add(what); bad.push(`contrast ${ratio.toFixed(2)}: ${what} ${e.textContent.slice(0, 30)}`); }
        }
        if (document.querySelectorAll('[aria-live], [role=status], [role=alert]').length != 1) bad.push('more than the state is announced');
        return bad.join('; ');
        })()"#,
    );
    assert_eq!(complaints, "");
}

/// What sits in a docker container of a scene.
struct Part {
    name: &'static str,
    id: String,
    address: String,
    cgroup: Cgroup,
    _netns: Netns,
    puppets: Vec<Puppet>,
}

/// A shop of containers on a network of their own, with names, images and logs as docker writes them, below a root directory
/// that is otherwise this host.
struct Shop {
    parts: Vec<Part>,
    hub: Netns,
    root: TempDir,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Name, image, port, and to whom it talks how often in a second.
type Plan = (&'static str, &'static str, u16, &'static [(&'static str, u32)]);

const PLANS: [Plan; 10] = [
    ("gateway", "nginx:1.27", 80, &[("storefront", 30), ("checkout", 8)]),
    ("storefront", "shop/storefront:4.2", 3000, &[("catalog", 40), ("cart", 15), ("sessions", 25)]),
    ("catalog", "shop/catalog:2.9", 8080, &[("postgres", 20), ("search", 12)]),
    ("cart", "shop/cart:1.14", 8080, &[("sessions", 10)]),
    ("checkout", "shop/checkout:3.3", 8080, &[("cart", 6), ("payments", 5), ("postgres", 8)]),
    ("payments", "shop/payments:2.0", 8443, &[("postgres", 4)]),
    ("search", "opensearch:2.18", 9200, &[]),
    ("sessions", "redis:7.4", 6379, &[]),
    ("postgres", "postgres:17", 5432, &[]),
    ("reports", "shop/reports:0.8", 8080, &[("postgres", 2)]),
];
/// Nobody answers there.
const DEAD_PORT: u16 = 9443;
/// Of a bank, which is no container.
const BANK: &str = "10.99.0.1";

impl Shop {
    fn open() -> Shop {
        let root = TempDir::new("shop");
        for directory in ["proc", "sys", "etc", "var/lib/docker/containers"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let hub = Netns::new("hub");
        hub.ip("link add bridge type bridge");
        hub.ip("link set bridge up");
        hub.ip("addr add 10.99.0.254/24 dev bridge");
        hub.ip(&format!("addr add {BANK}/32 dev bridge"));
        let mut shop = Shop {
            parts: Vec::new(),
            hub,
            root,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for (name, image, port, _) in PLANS {
            shop.add(name, image);
            let address = shop.part(name).address.clone();
            shop.puppet(name).run(&format!(
                "def handle(client):\n    client.recv(4000); sum(range(3000)); client.sendall(b'x' * 3000); client.close()\n\
                 done = serve(listen('{address}', {port}), handle)"
            ));
        }
        let mut bank = Puppet::start(None, Some(&shop.hub));
        bank.run(&format!("done = serve(listen('{BANK}', 443), lambda client: client.close())"));
        shop.parts[0].puppets.push(bank);
        for (name, _, _, calls) in PLANS {
            for (to, rate) in calls {
                let port = PLANS.iter().find(|plan| plan.0 == *to).unwrap().2;
                let address = shop.part(to).address.clone();
                shop.call(name, &address, port, *rate);
            }
        }
        // Where the kernel can, some answers take a while.
        for (port, milliseconds) in [("port9", 1), ("port7", 3)] {
            shop.hub.delay(port, milliseconds);
        }
        shop.call("payments", BANK, 443, 5);
        shop.call("payments", BANK, DEAD_PORT, 2);
        // A connection that stays.
        let database = shop.part("postgres").address.clone();
        let kept = format!("kept = [connect('{database}', 5432) for n in range(4)]");
        shop.puppet("reports").run(&kept);
        shop.limit("search", "cpu.cfs_quota_us", "4000", "cpu.max", "4000 100000");
        shop.limit("search", "memory.limit_in_bytes", "80M", "memory.max", "80M");
        shop.limit("sessions", "memory.limit_in_bytes", "64M", "memory.max", "64M");
        shop.puppet("search").run(
            "def work():\n    while True: sum(range(20000))\nthreading.Thread(target=work, daemon=True).start()\nkept = os.urandom(1 << 20) * 50",
        );
        shop
    }

    /// Tests of other trees may run on this machine.
    fn filter() -> String {
        let names: Vec<&str> = PLANS.iter().map(|plan| plan.0).chain(["trap"]).collect();
        format!("--container-allowlist=^/docker/({})$", names.join("|"))
    }

    fn part(&self, name: &str) -> &Part {
        self.parts.iter().find(|part| part.name == name).unwrap()
    }

    fn container(&self, name: &str) -> PathBuf {
        self.root.path().join("var/lib/docker/containers").join(&self.part(name).id)
    }

    /// A container and what docker would have written about it.
    fn add(&mut self, name: &'static str, image: &str) {
        let id = container_id();
        let directory = self.root.path().join("var/lib/docker/containers").join(&id);
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "{{\"ID\":\"{id}\",\"Name\":\"/{name}\",\"Config\":{{\"Image\":\"{image}\",\"Labels\":{{}}}},\
             \"LogPath\":\"/var/lib/docker/containers/{id}/{id}-json.log\"}}"
        );
        fs::write(directory.join(format!("{id}-json.log")), "").unwrap();
        fs::write(
            directory.join("hostconfig.json"),
            "{\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{}}}",
        )
        .unwrap();
        fs::write(directory.join("config.v2.json"), text).unwrap();
        let number = self.parts.len() + 1;
        let (netns, address) = (Netns::new("part"), format!("10.99.0.{}", 10 + number));
        let port = format!("port{number}");
        netns.cable("eth0", &[&format!("{address}/24")], &self.hub, &port, &[]);
        self.hub.ip(&format!("link set {port} master bridge"));
        let cgroup = Cgroup::make(&format!("/docker/{id}"), None);
        let puppet = Puppet::start(Some(&cgroup), Some(&netns));
        self.parts.push(Part { name, id, address, cgroup, _netns: netns, puppets: vec![puppet] });
    }

    fn puppet(&mut self, name: &str) -> &mut Puppet {
        &mut self.parts.iter_mut().find(|part| part.name == name).unwrap().puppets[0]
    }

    /// Has a container connect so many times a second, for ever.
    fn call(&mut self, from: &str, address: &str, port: u16, rate: u32) {
        self.puppet(from).run(&format!(
            "def call():
    while True:
        time.sleep(random.uniform(0.5, 1.5) / {rate})
        try:
            client = connect('{address}', {port}); client.sendall(b'GET / ' * 20); to_the_end(client); client.close()
        except OSError: pass
threading.Thread(target=call, daemon=True).start()"
        ));
    }

    /// Writes a limit where this host has the controller.
    fn limit(&self, name: &str, v1: &str, one: &str, v2: &str, two: &str) {
        for directory in &self.part(name).cgroup.directories {
            for (file, value) in [(v1, one), (v2, two)] {
                if directory.join(file).exists() {
                    let _ = fs::write(directory.join(file), value);
                }
            }
        }
    }

    /// Writes lines to logs until it is closed, and now and then files to the disk.
    fn talk(&mut self, lines: &'static [(&'static str, &'static str, u32)]) {
        let logs: Vec<PathBuf> = lines
            .iter()
            .map(|(name, ..)| self.container(name).join(format!("{}-json.log", self.part(name).id)))
            .collect();
        let stop = Arc::clone(&self.stop);
        let file = self.root.path().join("written");
        self.threads.push(std::thread::spawn(move || {
            for round in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                for ((_, line, each), log) in lines.iter().zip(&logs) {
                    if round % each == 0 {
                        let text = line.replace('#', &(round * 7919 % 10_007).to_string());
                        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                        let mut log = fs::OpenOptions::new().append(true).open(log).unwrap();
                        let time = "2026-11-22T09:00:00.000000000Z";
                        writeln!(log, "{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}")
                            .unwrap();
                    }
                }
                if round % 5 == 0 {
                    let mut file = fs::File::create(&file).unwrap();
                    file.write_all(&vec![1; 4096 * (1 + round as usize % 40)]).unwrap();
                    file.sync_all().unwrap();
                }
                std::thread::sleep(Duration::from_millis(40));
            }
        }));
    }

    /// An agent that sees this host with the shop's docker.
    fn agent(&self, args: &[&str]) -> Agent {
        let path = self.root.path().display();
        let text = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --rbind /proc {path}/proc && mount --rbind /sys {path}/sys && \
             exec {BINARY} --root={path} \"$@\"' sh \"$@\"\n"
        );
        let script = self.root.write("nodeprobe", text);
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Agent::start_binary(&script, args)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for part in &mut self.parts {
            part.puppets.clear();
        }
    }
}

const LINES: &[(&str, &str, u32)] = &[
    ("gateway", "10.1.2.3 - - \"GET /products/# HTTP/1.1\" 200 #", 1),
    ("storefront", "INFO rendered page product-# in # ms", 2),
    ("catalog", "WARN slow query on table products took # ms", 17),
    ("checkout", "ERROR could not charge order #: payment declined by bank", 23),
    ("payments", "ERROR connect to bank:9443 failed: connection refused (attempt #)", 12),
    ("sessions", "INFO # changes in 60 seconds. Saving...", 30),
    ("postgres", "LOG:  checkpoint complete: wrote # buffers", 40),
    ("reports", "FATAL out of memory while building report #", 60),
];

#[test]
#[ignore = "make test-parts"]
fn a_browser_shows_what_a_real_host_does() {
    let _turn = turn();
    let mut shop = Shop::open();
    shop.talk(LINES);
    let agent = shop.agent(&["--programs=biolatency,cachestat", &Shop::filter()]);
    // Ends of processes for want of memory, each a new beginning too.
    shop.limit("reports", "memory.limit_in_bytes", "60M", "memory.max", "60M");
    for _ in 0..2 {
        shop.part("reports").cgroup.run("python3 -c 'x = bytearray(200 << 20)'; true");
    }
    until("logs and connections are there", ANSWER, || {
        let metrics = agent.scrape();
        let there = |family: &str| !metrics.series(family).is_empty();
        (there("container_log_messages_total") && there("container_net_tcp_failed_connects_total"))
            .then_some(())
    });
    let mut browser = Browser::start();
    browser.view(1440, 900, 1, false);
    browser.open(&format!("http://{}/", agent.address()));
    browser.until(LIVE);
    browser.until("document.querySelectorAll('#table tbody:not(.gap) tr').length >= 10");
    assert_eq!(browser.js("document.activeElement.tagName"), "BODY");
    browser.key("Tab", 9, "");
    assert_eq!(browser.js("document.activeElement.className"), "skip");
    browser.js("document.activeElement.blur()");

    // Rows change by themselves.
    let before = browser.js("document.querySelector('#table').textContent");
    browser.until(&format!("document.querySelector('#table').textContent != {before:?}"));
    let names =
        browser.js("[...document.querySelectorAll('#table .link')].map(e => e.textContent).join(' ')");
    for (name, ..) in PLANS {
        assert!(names.split(' ').any(|shown| shown == name), "{name} is not in {names}");
    }
    // Enough answers for lines to be lines; the fetches are the page's own.
    for _ in 0..12 {
        let heard = browser.js("heard");
        browser.until(&format!("heard > {heard}"));
    }

    // The map.
    let edges =
        browser.js("[...document.querySelectorAll('#map-box g > title')].map(e => e.textContent).join('|')");
    for (from, _, _, calls) in PLANS {
        for (to, _) in calls {
            let edge = format!("/docker/{from} to /docker/{to}: ");
            assert!(edges.contains(&edge), "{edge} is not in {edges}");
        }
    }
    assert!(edges.contains(&format!("/docker/payments to {BANK}:443: ")), "{edges}");
    let failing = edges.split('|').find(|edge| edge.contains(&format!("{BANK}:{DEAD_PORT}"))).unwrap();
    assert!(failing.starts_with("/docker/payments to ") && failing.contains("failed"), "{failing}");
    let width = |browser: &mut Browser, from: &str, to: &str| {
        let title = format!("/docker/{from} to /docker/{to}: ");
        browser.number(&format!(
            "[...document.querySelectorAll('#map-box g')].find(g => g.firstElementChild.textContent.startsWith({title:?}) \
             || g.lastElementChild.textContent.startsWith({title:?})).querySelector('path').getAttribute('stroke-width')"
        ))
    };
    assert!(width(&mut browser, "storefront", "catalog") > width(&mut browser, "payments", "postgres"));
    // No label is on another, or on a box.
    let overlaps = browser.js(
        "(() => { const boxes = [...document.querySelectorAll('#map-box rect')].map(e => e.getBoundingClientRect()); \
         return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length; })()",
    );
    assert_eq!(overlaps, "0");

    println!(
        "rates of uptime and CPU: {}",
        browser.js("[only('node_uptime_seconds').rate, sum(all('node_resources_cpu_usage_seconds_total'), 'rate'), performance.now(), turn].join(' ')")
    );
    for (name, dark) in [("desktop", false), ("dark", true)] {
        browser.view(1440, 900, 1, dark);
        browser.picture(&pictures().join(format!("{name}.png")));
        let height = browser.number("document.documentElement.scrollHeight");
        browser.view(1440, height as u32, 1, dark);
        drawn(&mut browser, 1);
        browser.picture(&pictures().join(format!("{name}-whole.png")));
        assert_accessible(&mut browser);
    }
    browser.view(1440, 1190, 1, false);
    browser.picture(&pictures().join("readme.png"));
    browser.view(360, 780, 2, false);
    drawn(&mut browser, 1);
    assert_no_overflow(&mut browser);
    browser.picture(&pictures().join("phone.png"));
    browser.js("document.getElementById('map').scrollIntoView({behavior: 'instant'})");
    browser.picture(&pictures().join("phone-map.png"));
    browser.js("document.getElementById('logs').scrollIntoView({behavior: 'instant'})");
    browser.picture(&pictures().join("phone-logs.png"));
    browser.js("document.getElementById('containers').scrollIntoView({behavior: 'instant'})");
    browser.picture(&pictures().join("phone-containers.png"));
    assert_accessible(&mut browser);
    browser.view(1920, 1080, 1, false);
    drawn(&mut browser, 1);
    assert_no_overflow(&mut browser);
    browser.picture(&pictures().join("wide.png"));
    browser.view(1440, 900, 1, false);

    // Sorting by keyboard.
    browser.js(
        "[...document.querySelectorAll('#table thead button')].find(e => e.textContent == 'Memory').focus()",
    );
    browser.key("Enter", 13, "\r");
    let sorted = "document.querySelector('#table th[aria-sort]')";
    assert_eq!(browser.js(&format!("{sorted}.textContent + ' ' + {sorted}.ariaSort")), "Memory descending");
    let falling = "shown.every((c, at) => !at || !(c.memory > shown[at - 1].memory))";
    assert_eq!(browser.js(falling), "true");
    browser.key(" ", 32, " ");
    assert_eq!(browser.js(&format!("{sorted}.ariaSort")), "ascending");
    assert_eq!(browser.js(&falling.replace('>', "<").replace("=<", "=>")), "true");

    // The filter, by keyboard too, and from a name.
    browser.key("/", 191, "/");
    browser.type_text("postgres");
    assert_eq!(browser.js("document.querySelectorAll('#table .link').length"), "1");
    assert_eq!(
        browser.js("document.getElementById('containers-n').textContent").split(' ').next(),
        Some("1")
    );
    browser.key("Escape", 27, "");
    assert_eq!(browser.js("document.getElementById('filter').value"), "");
    browser
        .js("[...document.querySelectorAll('#table .link')].find(e => e.textContent == 'payments').click()");
    assert_eq!(browser.js("document.getElementById('filter').value"), "/docker/payments");
    browser.until("document.querySelectorAll('#map-box .box').length == 5");
    browser.key("Escape", 27, "");
    browser.js("document.querySelector('details').open = true");
    browser.until("document.querySelectorAll('#edges tbody tr').length >= 15");

    // What restarts and kills there were, patterns, programs.
    let row = browser.js("[...document.querySelectorAll('#table tr')].find(e => e.textContent.startsWith('reports')).textContent");
    println!("{row}");
    browser.until("document.querySelector('#patterns tbody').textContent.includes('could not charge order')");
    browser.until("document.querySelectorAll('#families .heat i').length >= 10");

    // A container, an image and a line that want to be more than text.
    shop.add("trap", "<img src=x onerror=alert(1)>");
    let log = shop.container("trap").join(format!("{}-json.log", shop.part("trap").id));
    let mut log = fs::OpenOptions::new().append(true).open(log).unwrap();
    for _ in 0..20 {
        let line = "{\"log\":\"ERROR <img src=x onerror=alert(2)> is no image\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-22T09:00:00Z\"}";
        writeln!(log, "{line}").unwrap();
    }
    browser.until("document.querySelector('#table').textContent.includes('<img src=x onerror=alert(1)>')");
    browser.until("document.querySelector('#patterns').textContent.includes('is no image')");
    assert_eq!(browser.js("document.querySelectorAll('img').length"), "0");
    assert_eq!(browser.problems(), "");
}

#[test]
#[ignore = "make test-parts"]
fn hostile_text_is_shown_as_text() {
    let agent = still_agent(&[]);
    let mut browser = Browser::start();
    browser.view(360, 780, 2, false);
    browser.open_stage(agent.address(), "hostile");
    browser.until(LIVE);
    drawn(&mut browser, 2);
    assert_no_overflow(&mut browser);
    browser.js("document.querySelector('details').open = true");
    for place in ["table", "map-box", "edges", "patterns", "families", "collectors", "tiles"] {
        let shown = browser.js(&format!(
            "document.getElementById('{place}').textContent.includes('<img src=x onerror=alert(1)>')"
        ));
        assert_eq!(shown, "true", "{place}");
    }
    assert_eq!(
        browser.js("document.querySelectorAll('img, iframe, b[onmouseover], svg[onload]').length"),
        "0"
    );
    assert_eq!(browser.js("document.querySelectorAll('script').length"), "1");
    assert_accessible(&mut browser);
    // A script that gets in does not run: the policy knows only one.
    browser.js("(() => { const e = document.createElement('script'); e.textContent = 'window.ran = 1'; document.body.append(e); })()");
    assert_eq!(browser.js("String(window.ran)"), "undefined");
    let problems = browser.problems();
    assert!(problems.lines().all(|line| line.contains("ontent") && line.contains("ecurity")), "{problems}");
}

#[test]
#[ignore = "make test-parts"]
fn a_thousand_containers() {
    let agent = still_agent(&[]);
    let mut browser = Browser::start();
    browser.view(1440, 900, 1, false);
    browser.open_stage(agent.address(), "many(1000)");
    browser.until(LIVE);
    let mut times: Vec<f64> = Vec::new();
    let first =
        browser.js("performance.getEntriesByType('measure').map(e => Math.round(e.duration)).join(' + ')");
    for _ in 0..5 {
        drawn(&mut browser, 1);
        times.push(
            browser.number("performance.getEntriesByType('measure').reduce((sum, e) => sum + e.duration, 0)"),
        );
    }
    times.sort_by(f64::total_cmp);
    println!(
        "1,000 containers, {} series in {} bytes: read + drawn in {first} ms at first, then in {:.0} to {:.0} ms",
        browser.js("known.size"),
        browser.js("size"),
        times[0],
        times[4]
    );
    // What is not seen is not there, and comes when it is scrolled to.
    let rows = "document.querySelectorAll('#table tbody:not(.gap) tr').length";
    assert!(browser.number(rows) < 80.0);
    assert_eq!(browser.js("document.querySelector('#table').getAttribute('aria-rowcount')"), "1001");
    browser.picture(&pictures().join("many.png"));
    browser.js("document.getElementById('window').scrollTop = 1e9");
    browser.until(
        "[...document.querySelectorAll('#table tbody:not(.gap) tr')].some(e => e.ariaRowIndex == 1001)",
    );
    assert!(browser.number(rows) < 80.0);
    browser.js("document.getElementById('window').scrollTop = 500 * 38");
    browser.until(
        "[...document.querySelectorAll('#table tbody:not(.gap) tr')].some(e => e.ariaRowIndex == 505)",
    );
    // The map shows some and says how many more there are.
    assert_eq!(browser.js("document.querySelectorAll('#map-box .box').length"), "24");
    assert_eq!(
        browser.js("document.querySelector('#map-more span').textContent"),
        "The busiest 24 of them, and 976 more."
    );
    browser.js("document.querySelector('#map-more button').click()");
    browser.until("document.querySelectorAll('#map-box .box').length == 48");
    browser.js("filter('team-7')");
    browser.until("document.querySelectorAll('#table tbody:not(.gap) tr').length == 44");
    browser.view(360, 780, 2, false);
    assert_no_overflow(&mut browser);
    assert_eq!(browser.problems(), "");
}

#[test]
#[ignore = "make test-parts"]
fn an_agent_that_goes_and_comes() {
    let agent = still_agent(&[]);
    let address = agent.address();
    let mut browser = Browser::start();
    browser.view(1440, 900, 1, true);
    browser.open(&format!("http://{address}/"));
    browser.until(LIVE);
    drawn(&mut browser, 2);
    drop(agent);
    browser.until("document.getElementById('state').dataset.state == 'away'");
    let state = browser.js("document.getElementById('state').textContent");
    assert!(state.starts_with("not reached since "), "{state}");
    assert_eq!(browser.js("document.getElementById('away').checkVisibility()"), "true");
    browser.picture(&pictures().join("away.png"));
    assert_accessible(&mut browser);
    let _agent = still_agent(&[&format!("--listen={address}")]);
    browser.until(LIVE);
    assert_eq!(browser.js("document.getElementById('away').checkVisibility()"), "false");
    // Nobody is asked while it pauses, and at most once at a time.
    let asked = "performance.getEntriesByType('resource').filter(e => e.name.endsWith('/metrics')).length";
    browser.js("document.getElementById('pause').click()");
    browser.until("!asking");
    let before = browser.number(asked);
    browser.js("[ask(), ask(), ask()].length");
    assert_eq!(browser.number(asked), before);
    browser.js("document.getElementById('pause').click()");
    browser.js("[ask(), ask(), ask()].length");
    browser.until("!asking");
    assert_eq!(browser.number(asked), before + 1.0);
    assert_eq!(browser.problems(), "");
}
