//! Users' eBPF programs against this kernel: real objects, real events, exact counts. Needs root.

mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::{ANSWER, Agent, BINARY, Metrics, TempDir, compile_bpf, run, run_command, until};

/// `probe.bpf.c` counts what anybody on this machine does, so one test at a time does it.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAGIC: libc::c_long = 0x6e6f_6465;

/// What the probe counts: `getppid` with two arguments too many.
fn call(a: i64, b: u32) {
    // SAFETY: getppid takes no arguments and reads none.
    unsafe { libc::syscall(libc::SYS_getppid, MAGIC, a, libc::c_long::from(b)) };
}

/// A directory with the probe as config `name`, compiled with `defines`.
fn probe(name: &str, defines: &[&str]) -> TempDir {
    let directory = TempDir::new(name);
    add_probe(&directory, name, defines);
    directory
}

fn add_probe(directory: &TempDir, name: &str, defines: &[&str]) {
    compile_bpf("probe.bpf.c", defines, &directory.path().join(format!("{name}.bpf.o")));
    directory.write(&format!("{name}.yaml"), include_str!("programs/probe.yaml"));
}

fn flag(directory: &TempDir) -> String {
    format!("--config.dir={}", directory.path().display())
}

/// Without what it does not need: fewer programs, quicker tests.
const ALONE: [&str; 2] = ["--collector.tcp=off", "--collector.containers=off"];

fn start(arguments: &[&str]) -> Agent {
    Agent::start(&[&ALONE, arguments].concat())
}

fn count(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics.value(&format!("ebpf_exporter_{name}"), labels).unwrap_or(0.0)
}

/// A scrape in which the metric has come to `expected`.
#[track_caller]
fn until_count(agent: &Agent, name: &str, labels: &[(&str, &str)], expected: f64) -> Metrics {
    until(&format!("{name} is {expected}"), ANSWER, || {
        let metrics = agent.scrape();
        (count(&metrics, name, labels) == expected).then_some(metrics)
    })
}

fn said(agent: &Agent, word: &str) -> bool {
    agent.stderr().iter().any(|line| line.contains(word))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_kind_of_map_counts_exactly() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    let agent = start(&[&flag(&directory)]);
    std::thread::Builder::new()
        .name("caller \u{e9}\u{e9}\u{e9}\u{e9}".to_owned())
        .spawn(|| {
            for _ in 0..1000 {
                call(3, 1);
            }
            for _ in 0..10 {
                call(-5, 7);
            }
        })
        .unwrap()
        .join()
        .unwrap();
    let metrics = until_count(&agent, "probe_all_total", &[], 1010.0);
    let comm = "caller \u{e9}\u{e9}\u{e9}\u{e9}";
    assert_eq!(count(&metrics, "probe_calls_total", &[("a", "3"), ("b", "one"), ("comm", comm)]), 1000.0);
    let below_zero = (-5i64).cast_unsigned().to_string();
    assert_eq!(count(&metrics, "probe_calls_total", &[("a", &below_zero), ("b", "7")]), 10.0);
    assert_eq!(metrics.sum("ebpf_exporter_probe_cpus_total", &[("b", "1")]), 1000.0);
    let cpus = metrics.series("ebpf_exporter_probe_cpus_total");
    let online = std::thread::available_parallelism().unwrap().get();
    assert!(cpus.iter().filter(|series| series.label("b") == "1").count() >= online, "{cpus:?}");
    assert_eq!(count(&metrics, "probe_sums_total", &[("b", "1")]), 1000.0);
    assert_eq!(count(&metrics, "probe_all_total", &[]), 1010.0);
    assert_eq!(metrics.kind("ebpf_exporter_probe_level"), Some("gauge"));
    assert_eq!(count(&metrics, "probe_level", &[("b", "1")]), 3000.0);
    assert_eq!(count(&metrics, "probe_level", &[("b", "7")]), -50.0);
    // 3 is in the bucket up to 4, 0xfffb beyond all of them, and so in the last.
    for (le, total) in
        [("1", 0.0), ("2", 0.0), ("4", 1000.0), ("128", 1000.0), ("256", 1010.0), ("+Inf", 1010.0)]
    {
        assert_eq!(count(&metrics, "probe_size_bucket", &[("le", le)]), total, "le={le}");
    }
    assert_eq!(count(&metrics, "probe_size_sum", &[]), 3.0 * 1000.0 + 65531.0 * 10.0);
    assert_eq!(count(&metrics, "probe_size_count", &[]), 1010.0);
    assert_eq!(count(&metrics, "probe_events_total", &[("a", "3"), ("b", "1")]), 1000.0);
    assert_eq!(metrics.value("nodeprobe_perf_events_lost_total", &[("config", "probe")]), Some(0.0));
    // The function that is called once when all are attached was called once.
    assert_eq!(count(&metrics, "probe_marks_total", &[]), 1.0);
    assert_eq!(count(&metrics, "probe_version", &[]), 1.0);
    assert_eq!(metrics.value("nodeprobe_config_problems", &[("config", "probe")]), Some(0.0));
    let programs = metrics.series("ebpf_exporter_ebpf_program_info");
    assert_eq!(programs.len(), 2, "{programs:?}");
    for program in programs {
        let id = program.label("id");
        assert!(id.parse::<u32>().unwrap() > 0 && program.label("tag").len() == 16, "{program:?}");
        assert_eq!(count(&metrics, "ebpf_program_attached", &[("id", id)]), 1.0);
    }
}

#[test]
fn perf_events_are_counted_between_scrapes() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    let agent = start(&[&flag(&directory)]);
    // More than the rings hold at once, in portions that they do hold.
    for _ in 0..40 {
        for _ in 0..500 {
            call(9, 9);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    until("each is counted or lost", ANSWER, || {
        let metrics = agent.scrape();
        let lost = metrics.sum("nodeprobe_perf_events_lost_total", &[]);
        let counted = count(&metrics, "probe_events_total", &[("a", "9"), ("b", "9")]);
        assert!(counted + lost <= 20_000.0, "{counted} counted, {lost} lost");
        (counted + lost == 20_000.0).then_some(())
    });
}

#[test]
fn what_the_kernel_refuses_costs_only_itself() {
    let _turn = turn();
    let directory = probe("probe", &["REFUSED"]);
    directory.write("narrow.yaml", NARROW);
    fs::copy(directory.path().join("probe.bpf.o"), directory.path().join("narrow.bpf.o")).unwrap();
    let agent = start(&[&flag(&directory)]);
    call(1, 2);
    let metrics = until_count(&agent, "probe_sums_total", &[("b", "2")], 2.0);
    assert_eq!(count(&metrics, "probe_all_total", &[]), 1.0, "the sums are those of both configs");
    assert_eq!(metrics.value("nodeprobe_config_problems", &[("config", "probe")]), Some(3.0));
    let attached = |program: &str| {
        let labels = [("config", "probe"), ("program", program)];
        let info = metrics.series("ebpf_exporter_ebpf_program_info");
        let id = info.iter().find(|series| labels.iter().all(|(name, value)| series.label(name) == *value));
        count(&metrics, "ebpf_program_attached", &[("id", id.expect("its info").label("id"))])
    };
    let all = ["on_call", "on_mark", "refused", "missing", "lost"].map(attached);
    assert_eq!(all, [1.0, 1.0, 0.0, 0.0, 0.0]);
    let lines = agent.stderr().join("\n");
    for word in [
        "program refused is not loaded",
        "the verifier refuses it",
        "invalid mem access",
        "program missing",
        "program lost",
    ] {
        assert!(lines.contains(word), "{word}: {lines}");
    }
    // Of the other config one metric is as it should be.
    for word in
        ["no map probe_nothing_total", "narrow.yaml:3:13", "value size", "4 bytes", "keys of map probe_level"]
    {
        assert!(lines.contains(word), "{word}: {lines}");
    }
    // Whoever is strict does not start.
    let strict = run(&[&flag(&directory), "--config.strict", "--config.check"], ANSWER);
    assert_eq!(strict.status.code(), Some(2), "{}", stderr(&strict));
    assert!(stderr(&strict).contains("probe:refused"), "{}", stderr(&strict));
    let check = run(&[&flag(&directory), "--config.check"], ANSWER);
    assert!(
        check.status.success() && stderr(&check).contains("Config check successful"),
        "{}",
        stderr(&check)
    );
}

const NARROW: &str = "metrics:
  counters:
    - name: probe_nothing_total
      help: There is no such map
    - name: probe_narrow_total
      help: Values of this map are too small
      labels: [{ name: b, size: 4, decoders: [{ name: uint }] }]
    - name: probe_level
      help: And keys of this one
      labels: [{ name: b, size: 8, decoders: [{ name: uint }] }]
    - name: probe_sums_total
      help: Calls of all processors together
      labels: [{ name: b, size: 4, decoders: [{ name: uint }] }]
";

#[test]
fn a_key_that_cannot_be_decoded_costs_only_itself() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    let yaml = |comm: &str| {
        format!(
            "metrics:
  counters:
    - name: probe_calls_total
      help: Calls
      labels:
        - {{ name: a, size: 8, decoders: [{{ name: uint }}, {{ name: regexp, regexps: ['^1(.)$', '^2$'] }}] }}
        - {{ name: b, size: 4, decoders: [{{ name: uint }}] }}
        - {{ name: comm, size: 16, padding: 4, decoders: [{{ name: string }}{comm}] }}
"
        )
    };
    directory.write("probe.yaml", yaml(""));
    let agent = start(&[&flag(&directory)]);
    for a in [1, 2, 12, 13, 22, 13] {
        call(a, 1);
    }
    let metrics = until_count(&agent, "probe_calls_total", &[("a", "3")], 2.0);
    let series = metrics.series("ebpf_exporter_probe_calls_total");
    // 12 is called 2 and adds to 2; 1 and 22 match nothing and are left out, which is no error.
    let mut values: Vec<(&str, f64)> =
        series.iter().map(|series| (series.label("a"), series.value)).collect();
    values.sort_by(|one, other| one.0.cmp(other.0));
    assert_eq!(values, [("2", 2.0), ("3", 2.0)]);
    assert_eq!(count(&metrics, "decoder_errors_total", &[("config", "probe")]), 0.0);
    drop(agent);

    // The names of threads are no numbers, but for one.
    directory.write("probe.yaml", yaml(", { name: cgroup }"));
    let agent = start(&[&flag(&directory)]);
    for name in ["1", "other"] {
        std::thread::Builder::new().name(name.to_owned()).spawn(|| call(2, 1)).unwrap().join().unwrap();
    }
    // The map may have been read between the two.
    let metrics = until("both keys are read", ANSWER, || {
        let metrics = agent.scrape();
        (count(&metrics, "decoder_errors_total", &[("config", "probe")]) >= 1.0).then_some(metrics)
    });
    let series = metrics.series("ebpf_exporter_probe_calls_total");
    assert_eq!(series.len(), 1, "{series:?}");
    assert!(series[0].label("comm").starts_with("/sys/fs/cgroup"), "{series:?}");
    // The scrape may come before the line.
    until("the error is told", ANSWER, || {
        said(&agent, "error decoding with decoder \"cgroup\"").then_some(())
    });
}

/// A config with one counter of the probe.
fn one_counter(metric: &str, labels: &str) -> String {
    format!("metrics:\n  counters:\n    - {{ name: {metric}, help: Calls, labels: [{labels}] }}\n")
}

fn reload(agent: &Agent, success: f64) {
    agent.signal(libc::SIGHUP);
    let before = agent.stderr().iter().filter(|line| line.contains("reloading")).count();
    until("the reload is done", ANSWER, || {
        let is_done = agent.scrape().value("nodeprobe_config_last_reload_success", &[]) == Some(success);
        let lines = agent.stderr().iter().filter(|line| line.contains("reloading")).count();
        (is_done && lines >= before).then_some(())
    });
}

/// Numbers the kernel gave to the programs of `config`.
fn program_ids(metrics: &Metrics, config: &str) -> Vec<String> {
    let programs = metrics.series("ebpf_exporter_ebpf_program_info");
    let of_config = programs.iter().filter(|program| program.label("config") == config);
    of_config.map(|program| program.label("id").to_owned()).collect()
}

#[test]
fn a_reload_changes_what_changed_and_nothing_else() {
    let _turn = turn();
    let directory = TempDir::new("reload");
    for name in ["one", "two", "three"] {
        add_probe(&directory, name, &[]);
    }
    const B: &str = "{ name: b, size: 4, decoders: [{ name: uint }] }";
    directory.write("one.yaml", one_counter("probe_all_total", ""));
    directory.write("two.yaml", one_counter("probe_sums_total", B));
    directory.write("three.yaml", one_counter("probe_version", ""));
    let agent = start(&[&flag(&directory)]);
    let calls = std::cell::Cell::new(0.0);
    let check = |what: &str| {
        let metrics = until_count(&agent, "probe_all_total", &[], calls.get());
        assert_eq!(count(&metrics, "probe_all_total", &[]), calls.get(), "{what}: config one counts on");
        assert_eq!(
            count(&metrics, "probe_sums_total", &[("b", "5")]),
            calls.get(),
            "{what}: config two counts on"
        );
        metrics
    };
    // Calls all the time while `change` happens.
    let under_load = |change: &dyn Fn()| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let made = std::thread::scope(|scope| {
            let over = support::SetAtEnd(&stop);
            let caller = scope.spawn(|| {
                let mut made = 0.0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    call(1, 5);
                    made += 1.0;
                }
                made
            });
            change();
            drop(over);
            caller.join().unwrap()
        });
        calls.set(calls.get() + made);
    };
    under_load(&|| std::thread::sleep(Duration::from_millis(50)));
    let before = check("at the start");
    assert_eq!(count(&before, "probe_version", &[]), 1.0);

    under_load(&|| {
        compile_bpf("probe.bpf.c", &["VERSION=2"], &directory.path().join("three.bpf.o"));
        reload(&agent, 1.0);
    });
    let after = check("another object");
    assert_eq!(count(&after, "probe_marks_total", &[]), 0.0, "not a metric here");
    assert_eq!(
        count(&after, "probe_version", &[]),
        2.0,
        "three is the new one, and was told that all are attached"
    );
    for config in ["one", "two"] {
        assert_eq!(program_ids(&before, config), program_ids(&after, config), "{config}");
    }
    assert_ne!(program_ids(&before, "three"), program_ids(&after, "three"));

    // Other metrics from the same object: its programs and counts stay.
    directory.write(
        "two.yaml",
        one_counter(
            "probe_sums_total",
            &B.replace("uint }", "uint }, { name: static_map, static_map: { 5: five } }"),
        ),
    );
    under_load(&|| reload(&agent, 1.0));
    let metrics = until_count(&agent, "probe_sums_total", &[("b", "five")], calls.get());
    assert_eq!(program_ids(&metrics, "two"), program_ids(&before, "two"));
    directory.write("two.yaml", one_counter("probe_sums_total", B));
    reload(&agent, 1.0);
    check("metrics back again");

    // What is broken changes nothing, and says why.
    for (file, content, word) in [
        ("two.yaml", "metrics: [".as_bytes(), "two.yaml:"),
        ("two.yaml", one_counter("probe_no_total", "").as_bytes(), "no map probe_no_total"),
        ("two.yaml", one_counter("probe_sums_total", &B.replace('4', "8")).as_bytes(), "add up to 8"),
        ("two.bpf.o", b"no ELF at all", "two.bpf.o"),
    ] {
        let path = directory.path().join(file);
        let old = fs::read(&path).unwrap();
        directory.write(file, content);
        under_load(&|| reload(&agent, 0.0));
        check(word);
        let lines = agent.stderr();
        let told = lines.iter().any(|line| line.contains(word) && line.contains("the old one goes on"));
        assert!(told, "{word}: {lines:#?}");
        fs::write(&path, old).unwrap();
        reload(&agent, 1.0);
        check("as before");
    }

    // One more, and one less.
    add_probe(&directory, "four", &[]);
    directory.write("four.yaml", one_counter("probe_marks_total", ""));
    fs::remove_file(directory.path().join("three.yaml")).unwrap();
    reload(&agent, 1.0);
    let metrics = check("one more, one less");
    assert_eq!(count(&metrics, "probe_marks_total", &[]), 1.0);
    assert_eq!(metrics.value("ebpf_exporter_enabled_configs", &[("name", "three")]), None);
    assert!(program_ids(&metrics, "three").is_empty() && program_ids(&metrics, "four").len() == 2);
    let fds = agent.open_fds();
    for _ in 0..5 {
        reload(&agent, 1.0);
    }
    until("nothing piles up", ANSWER, || (agent.open_fds() <= fds).then_some(()));
}

#[test]
fn edits_of_a_config_keep_what_they_can() {
    let _turn = turn();
    const B: &str = "{ name: b, size: 4, decoders: [{ name: uint }] }";
    let both =
        format!("{}    - {{ name: probe_all_total, help: Calls }}\n", one_counter("probe_sums_total", B));
    let directory = TempDir::new("edits");
    for name in ["x", "y"] {
        add_probe(&directory, name, &[]);
        directory.write(&format!("{name}.yaml"), one_counter("probe_sums_total", B));
    }
    directory.write("y.yaml", &both);
    let agent = start(&[&flag(&directory)]);
    (0..10).for_each(|_| call(1, 5));
    let before = until_count(&agent, "probe_all_total", &[], 10.0);
    assert_eq!(count(&before, "probe_sums_total", &[("b", "5")]), 20.0, "of both");
    let ids = |metrics: &Metrics| [program_ids(metrics, "x"), program_ids(metrics, "y")];

    // A metric goes and comes back: its counts were never lost.
    directory.write("y.yaml", one_counter("probe_sums_total", B));
    reload(&agent, 1.0);
    until_count(&agent, "probe_all_total", &[], 0.0);
    directory.write("y.yaml", &both);
    reload(&agent, 1.0);
    assert_eq!(ids(&until_count(&agent, "probe_all_total", &[], 10.0)), ids(&before));

    // Other labels under a name that x has too: refused, and y goes on as it was.
    let other = both.replace("{ name: b,", "{ name: other,");
    directory.write("y.yaml", other);
    reload(&agent, 0.0);
    let metrics = agent.scrape();
    assert_eq!(count(&metrics, "probe_sums_total", &[("b", "5")]), 20.0);
    assert!(said(&agent, "in another config too"), "{:#?}", agent.stderr());

    // While a directory is written to, a file may be missing.
    let object = directory.path().join("y.bpf.o");
    directory.write("y.yaml", &both);
    let kept = directory.path().join("kept");
    fs::rename(&object, &kept).unwrap();
    reload(&agent, 0.0);
    assert_eq!(ids(&agent.scrape()), ids(&before));
    fs::rename(&kept, &object).unwrap();
    reload(&agent, 1.0);

    // Two configs exchange their metrics at once.
    directory.write("x.yaml", one_counter("probe_all_total", ""));
    directory.write("y.yaml", one_counter("probe_sums_total", B));
    reload(&agent, 1.0);
    let metrics = until_count(&agent, "probe_sums_total", &[("b", "5")], 10.0);
    assert_eq!((count(&metrics, "probe_all_total", &[]), ids(&metrics)), (10.0, ids(&before)));

    // A decoder that asks for paths of cgroups finds them although nobody did before.
    drop(agent);
    let agent = Agent::start(&["--collector.tcp=off", &flag(&directory)]);
    (0..3).for_each(|_| call(1, 1));
    until_count(&agent, "probe_sums_total", &[("b", "1")], 3.0);
    let cgroup = "{ name: b, size: 4, decoders: [{ name: uint }, { name: cgroup }] }";
    directory.write("y.yaml", one_counter("probe_sums_total", cgroup));
    reload(&agent, 1.0);
    until("the root has a name", ANSWER, || {
        let metrics = agent.scrape();
        let series = metrics.series("ebpf_exporter_probe_sums_total");
        series.iter().any(|series| series.label("b").starts_with("/sys/fs/cgroup")).then_some(())
    });
}

#[test]
fn an_interface_stays_with_the_program_that_works() {
    let _turn = turn();
    let directory = TempDir::new("xdp");
    let write = |device: &str| {
        compile_bpf("xdp.bpf.c", &[&format!("DEVICE=\"{device}\"")], &directory.path().join("c.bpf.o"));
    };
    directory.write("c.yaml", "metrics:\n  counters:\n    - { name: probe_packets_total, help: Packets }\n");
    write("lo");
    let agent = start(&[&flag(&directory)]);
    assert!(kernel_has("net", "lo("));
    write("no_such_device");
    reload(&agent, 0.0);
    assert!(kernel_has("net", "lo("), "the old one has it again");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    until("it counts on", ANSWER, || {
        (count(&agent.scrape(), "probe_packets_total", &[]) > 0.0).then_some(())
    });
    write("lo");
    reload(&agent, 1.0);
    assert!(kernel_has("net", "lo("));
}

/// What bpftool says there is of `kind` whose program or name is `word`.
fn kernel_has(kind: &str, word: &str) -> bool {
    let mut command = Command::new("bpftool");
    command.args([kind, "show"]).env_remove("LD_LIBRARY_PATH").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = run_command(command, ANSWER);
    assert!(output.status.success(), "bpftool: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).contains(word)
}

#[test]
fn nothing_stays_behind() {
    let _turn = turn();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let directory = probe("probe", &[]);
        let mut agent = start(&["--programs=xdp", &flag(&directory)]);
        assert!(kernel_has("prog", "name on_call") && kernel_has("net", "lo("), "it is attached");
        agent.signal(signal);
        until("the agent ends", ANSWER, || (!agent.is_alive()).then_some(()));
        until("its programs go", ANSWER, || (!kernel_has("prog", "name on_call")).then_some(()));
        until("the interface is free", ANSWER, || (!kernel_has("net", "lo(")).then_some(()));
    }
}

#[test]
fn the_maps_page_shows_what_is_in_them() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    let agent = start(&[&flag(&directory)]);
    assert_eq!(agent.get("/maps").status, 404);
    drop(agent);
    let agent = start(&[&flag(&directory), "--debug"]);
    call(258, 2);
    let page = agent.get("/maps");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    let text = page.text();
    assert!(
        text.starts_with("## Config: probe\n\n### Map: probe_calls_total\n\n```\n[]byte{0x2, 0x1, 0x0, "),
        "{text}"
    );
    assert!(text.contains("(labels: [258 two ") && text.contains("]) -> 1\n```\n\n"), "{text}");
    assert!(
        text.contains(
            "### Map: probe_cpus_total\n\n```\n[]byte{0x2, 0x0, 0x0, 0x0, 0x0, 0x0} (labels: [2 0]) -> "
        ),
        "{text}"
    );
}

#[test]
fn systemd_hands_over_its_socket_and_is_told() {
    let directory = TempDir::new("systemd");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let socket = directory.path().join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    told.set_read_timeout(Some(ANSWER)).unwrap();
    let passed = |fd: RawFd| {
        let mut command = Command::new("/bin/sh");
        // Only the process that systemd starts knows its number.
        let script = format!("LISTEN_PID=$$ LISTEN_FDS=1 exec {BINARY} --listen=fd://0 {}", ALONE.join(" "));
        command.args(["-c", &script]).env_clear().env("NOTIFY_SOCKET", &socket).stderr(Stdio::null());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(fd, 3) == 3 && libc::fcntl(3, libc::F_SETFD, 0) == 0 {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            })
        };
        command
    };
    let mut child = passed(listener.as_raw_fd()).spawn().unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let length = told.recv(&mut buffer).expect("systemd is told something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    while !heard().contains("READY=1") {}
    let mut client = support::Client::connect(address).unwrap();
    assert_eq!(client.get("/healthz").status, 200);
    // SAFETY: the child was not waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    while !heard().contains("STOPPING=1") {}
    assert!(child.wait().unwrap().success());
    let path = directory.path().join("not-tcp");
    let listener = UnixListener::bind(&path).unwrap();
    let output = run_command(passed(listener.as_raw_fd()), ANSWER);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("systemd passed a socket that is not TCP"), "{}", stderr(&output));
    for (listen, word) in [("fd://1", "no listeners passed"), ("fd://x", "not the number")] {
        let output = run(&[&format!("--listen={listen}")], ANSWER);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

#[test]
fn capabilities_are_given_up() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    let effective = |agent: &Agent| {
        let status = fs::read_to_string(agent.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    let agent = start(&[&flag(&directory), "--capabilities.keep=none"]);
    call(1, 1);
    assert_eq!(effective(&agent), 0);
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_default();
    println!("unprivileged_bpf_disabled={}", unprivileged.trim());
    // Maps are read without any.
    until_count(&agent, "probe_all_total", &[], 1.0);
    drop(agent);
    let agent = start(&[&flag(&directory), "--capabilities.keep=cap_bpf,cap_perfmon"]);
    assert_eq!(effective(&agent), 1 << 39 | 1 << 38);
    drop(agent);
    let output = run(&["--capabilities.keep=cap_no"], ANSWER);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn bad_directories_are_told_at_once() {
    let directory = TempDir::new("bad");
    directory.write("empty.yaml", "");
    directory.write("empty.bpf.o", "");
    directory.write("alone.yaml", "metrics: { counters: [] }\n");
    for (arguments, word) in [
        (vec![flag(&directory)], "empty.yaml:1:1"),
        (vec![flag(&directory), "--config.names=alone".into()], "alone.bpf.o"),
        (vec![flag(&directory), "--config.names=none".into()], "none.yaml"),
        (vec![flag(&directory), "--config.names=alone,alone".into()], "multiple configs"),
        (vec!["--config.names=alone".into()], "needs --config.dir"),
        (vec!["--config.dir=/no/such".into()], "/no/such"),
        (vec!["--programs=tmers".into()], "did you mean timers?"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(&arguments, ANSWER);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
        let errors = stderr(&output).lines().filter(|line| line.contains(": error: ")).count();
        assert_eq!(errors, 1, "{}", stderr(&output));
    }
}

#[test]
fn series_beyond_the_limit_are_counted() {
    let _turn = turn();
    let directory = probe("probe", &[]);
    directory.write(
        "probe.yaml",
        one_counter("probe_sums_total", "{ name: b, size: 4, decoders: [{ name: uint }] }"),
    );
    let agent = start(&[&flag(&directory), "--series-limit=20"]);
    for b in 0..30 {
        call(1, b);
    }
    let limited = || {
        let metrics = agent.scrape();
        (metrics.series("ebpf_exporter_probe_sums_total").len() == 20).then_some(metrics)
    };
    let metrics = until("the limit is reached", ANSWER, limited);
    let dropped =
        metrics.sum("nodeprobe_series_dropped_total", &[("metric", "ebpf_exporter_probe_sums_total")]);
    assert!(dropped >= 10.0 && dropped % 10.0 == 0.0, "ten in each reading: {dropped}");
}

#[test]
fn check_finds_what_is_wrong_without_a_kernel() {
    let directory = probe("probe", &["REFUSED"]);
    let output = run(&["check", &directory.path().display().to_string()], ANSWER);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    directory.write("probe.yaml", WRONG);
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=65534", "--clear-groups", "--bounding-set=-all"]);
    // Where nobody may go, nobody may check.
    let public = TempDir::new("public");
    let binary = public.path().join("nodeprobe");
    fs::copy(BINARY, &binary).unwrap();
    command.arg(&binary).arg("check").arg(directory.path().join("probe.yaml"));
    let output = run_command(command, ANSWER);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    for (place, word) in [
        ("3:13", "no map probe_cals_total"),
        ("5:13", "12 bytes, but keys of map probe_calls_total have 32 (a: 8, b: 4, comm: 16, padding: 4)"),
        ("8:50", "did you mean uint?"),
        ("9:50", "put uint before"),
        ("10:13", "4 bytes, expected 8"),
        ("15:89", "without closing"),
        ("20:11", "did you mean padding?"),
        ("25:5", "kaddr_no_such"),
    ] {
        let found =
            text.lines().any(|line| line.contains(&format!("probe.yaml:{place}: ")) && line.contains(word));
        assert!(found, "{place} {word}: {text}");
    }
    let kernel =
        run(&["check", "--kernel", &directory.path().join("probe.bpf.o").display().to_string()], ANSWER);
    let text = String::from_utf8_lossy(&kernel.stdout).into_owned();
    assert!(kernel.status.code() == Some(1) && text.contains("kaddr"), "{text}");
}

const WRONG: &str = "metrics:
  counters:
    - name: probe_cals_total
      help: A map that is not there
    - name: probe_calls_total
      help: Too short
      labels:
        - { name: a, size: 8, decoders: [{ name: uimt }] }
        - { name: b, size: 4, decoders: [{ name: cgroup }] }
    - name: probe_narrow_total
      help: Values too small
      labels: [{ name: b, size: 4, decoders: [{ name: uint }] }]
    - name: probe_sums_total
      help: A pattern that cannot be compiled
      labels: [{ name: b, size: 4, decoders: [{ name: uint }, { name: regexp, regexps: ['('] }] }]
    - name: probe_cpus_total
      help: A key that does not exist
      labels:
        - name: b
          paddin: 1
          size: 4
          decoders: [{ name: uint }]
        - { name: cpu, size: 2, decoders: [{ name: uint }] }
kaddrs:
  - no_such
";

#[test]
fn udp_is_not_disturbed_by_xdp() {
    let _turn = turn();
    let agent = start(&["--programs=xdp"]);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(ANSWER)).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    let mut buffer = [0; 8];
    for _ in 0..100 {
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 1, "packets pass");
    }
    assert!(agent.scrape().value("nodeprobe_config_problems", &[("config", "xdp")]) == Some(0.0));
}

/// Everything that comes with nodeprobe is right as far as can be said without a kernel.
#[test]
fn own_programs_are_right() {
    use nodeprobe::programs::{builtin, check, sources::Source};
    let names = builtin::names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(names.len() >= 40, "{names:?}");
    for program in builtin::get(&names) {
        let mut report = check::Report::default();
        let source = Source {
            name: program.name.as_str().into(),
            path: format!("{}.yaml", program.name).into(),
            yaml: program.config.into_bytes(),
            object_path: format!("{}.bpf.o", program.name).into(),
            object: program.object,
        };
        check::check_source(source, None, &mut Vec::new(), &mut report);
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}
