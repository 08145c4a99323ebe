//! Coming from the agents nodeprobe replaces: their flags, families, variables and command lines. What they have stands in
//! `tests/fixtures/peers`; what is not here must be named in the docs, with a reason.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nodeprobe::collectors::COLLECTORS;
use support::{BINARY, Client, Metrics, TempDir, compile_bpf, run, run_command};

const COROOT: &str = "docs/COROOT_NODE_AGENT.md";
const EXPORTER: &str = "docs/EBPF_EXPORTER.md";

/// Families that are nowhere here, by the start of their names, and why.
const ABSENT: [(&str, &str); 27] = [
    ("container_cassandra_", PROTOCOLS),
    ("container_clickhouse_", PROTOCOLS),
    ("container_dns_", PROTOCOLS),
    ("container_dubbo_", PROTOCOLS),
    ("container_foundationdb_", PROTOCOLS),
    ("container_http_", PROTOCOLS),
    ("container_kafka_", PROTOCOLS),
    ("container_memcached_", PROTOCOLS),
    ("container_mongo_", PROTOCOLS),
    ("container_mysql_", PROTOCOLS),
    ("container_nats_", PROTOCOLS),
    ("container_postgres_", PROTOCOLS),
    ("container_rabbitmq_", PROTOCOLS),
    ("container_redis_", PROTOCOLS),
    ("container_zookeeper_", PROTOCOLS),
    ("ip_to_fqdn", PROTOCOLS),
    ("container_dotnet_", INSIDE),
    ("container_go_", INSIDE),
    ("container_jvm_", INSIDE),
    ("container_nodejs_", INSIDE),
    ("container_python_", INSIDE),
    ("container_resources_gpu_", GPU),
    ("node_gpu_", GPU),
    ("node_resources_gpu_", GPU),
    ("up", "the peer sends it with remote write; Prometheus adds it to what it scrapes"),
    ("promhttp_metric_handler_requests_in_flight", HANDLER),
    ("promhttp_metric_handler_requests_total", HANDLER),
];
const PROTOCOLS: &str = "application protocols, and DNS answers, are not read from sockets";
const INSIDE: &str = "nodeprobe does not look into processes: no uprobes, no sockets of runtimes";
const GPU: &str = "vendors' libraries would have to be loaded; a static program loads none";
const HANDLER: &str = "`nodeprobe_http_*` and `nodeprobe_*` say it";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names in a list, without its comments.
fn names(list: &str) -> Vec<String> {
    let text = fs::read_to_string(file("tests/fixtures/peers").join(list)).expect(list);
    let names: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert!(names.len() > 5 && names.is_sorted(), "{list}");
    names
}

/// Compares the part of `document` between `<!-- name -->` and `<!-- /name -->` with `text`.
#[track_caller]
fn part_is_up_to_date(document: &str, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let whole = fs::read_to_string(file(document)).expect(document);
    let (before, rest) = whole.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in {document}"));
    let (part, behind) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end} in {document}"));
    if std::env::var_os("NODEPROBE_UPDATE").is_some() {
        fs::write(file(document), format!("{before}{begin}{text}{end}{behind}")).expect(document);
        return;
    }
    assert!(part == text, "{document} is not what the code says; NODEPROBE_UPDATE=1 renews it");
}

/// Every flag of a peer with what it does here; panics where there is none.
fn flags(list: &str) -> String {
    // Generated from the table of flags.
    let document = nodeprobe::args::document();
    let (working, inert) = document.split_once("## Accepted without effect").expect("two tables");
    let help = |table: &str, name: &str| {
        let mut rows = table.lines().filter_map(|line| {
            let (flag, rest) = line.strip_prefix("| `--")?.split_once('`')?;
            (flag.split('=').next()? == name).then(|| rest.trim_end_matches(" |").to_owned())
        });
        rows.next()
    };
    let mut text = String::from("\n| flag | here |\n|---|---|\n");
    for name in names(list) {
        // Behind the variable stands what it does.
        let works =
            help(working, &name).map(|rest| rest.splitn(3, " | ").last().unwrap_or_default().to_owned());
        let accepted = help(inert, &name).map(|rest| format!("without effect: {}", &rest[3..]));
        let here = works.or(accepted).unwrap_or_else(|| panic!("--{name} of {list} is not taken"));
        text += &format!("| `--{name}` | {here} |\n");
    }
    text + "\n"
}

/// Every family of a peer: which collector has it, or why none has; panics where there is neither.
fn families(list: &str) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |key: String, name: String| match rows.iter_mut().find(|(known, _)| *known == key) {
        Some((_, names)) => names.push(name),
        None => rows.push((key, vec![name])),
    };
    let mut absent = Vec::new();
    for name in names(list) {
        let owner = COLLECTORS.iter().find(|spec| spec.metrics.iter().any(|desc| desc.name == name));
        match owner {
            Some(spec) => add(format!("collector `{}`", spec.name), format!("`{name}`")),
            None => absent.push(name),
        }
    }
    for name in absent {
        let why = ABSENT.iter().find(|(start, _)| name.starts_with(start));
        let (_, why) =
            why.unwrap_or_else(|| panic!("{name} of {list} is neither here nor said to be absent"));
        add(format!("**absent**: {why}"), format!("`{name}`"));
    }
    let mut text = String::from("\n| here | families |\n|---|---|\n");
    for (key, names) in rows {
        text += &format!("| {key} | {} |\n", names.join(", "));
    }
    text + "\n"
}

/// One test for each document: they rewrite the same file.
#[test]
fn coroot_node_agents_flags_and_families_are_here_or_said_to_be_absent() {
    part_is_up_to_date(COROOT, "flags", &flags("coroot-node-agent.flags"));
    part_is_up_to_date(COROOT, "families", &families("coroot-node-agent.metrics"));
}

#[test]
fn ebpf_exporters_flags_and_families_are_here_or_said_to_be_absent() {
    part_is_up_to_date(EXPORTER, "flags", &flags("ebpf_exporter.flags"));
    part_is_up_to_date(EXPORTER, "families", &families("ebpf_exporter.metrics"));
}

#[test]
fn no_reason_for_an_absence_is_left_over() {
    let all = [names("coroot-node-agent.metrics"), names("ebpf_exporter.metrics")].concat();
    for (start, _) in ABSENT {
        assert!(all.iter().any(|name| name.starts_with(start)), "{start}");
    }
}

/// nodeprobe under a peer's command line and environment; killed when dropped.
struct Started {
    child: Child,
    said: Vec<String>,
    address: std::net::SocketAddr,
}

/// Starts it as somebody's unit file or `docker run` would, and waits until it says where it serves.
#[track_caller]
fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Started {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().envs(environment.iter().copied());
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect(BINARY);
    let mut started = Started { child, said: Vec::new(), address: ([127, 0, 0, 1], 0).into() };
    let stderr = started.child.stderr.take().expect("a pipe");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        started.said.push(line.clone());
        if let Some((_, url)) = line.split_once(" serves http://") {
            started.address = url.split('/').next().unwrap_or_default().parse().expect("an address");
            return started;
        }
    }
    panic!("{arguments:?} {environment:?}: {:#?}", started.said);
}

impl Started {
    #[track_caller]
    fn scrape(&self, path: &str) -> Metrics {
        let mut client = Client::connect(self.address).expect("it accepts");
        let response = client.get(path);
        assert_eq!(response.status, 200);
        Metrics::parse(response.text())
    }

    /// The line about flags that have no effect.
    fn without_effect(&self) -> String {
        self.said.iter().find(|line| line.contains("accepted without effect")).cloned().unwrap_or_default()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What two command lines both export: the families, but for those that come with time.
fn of_node(metrics: &Metrics) -> Vec<String> {
    let families = metrics.families().into_iter().filter(|family| family.starts_with("node_"));
    families.map(str::to_owned).collect()
}

/// The unit that its installer writes reads variables without a prefix from a file; `docker run` has a flag.
#[test]
fn coroot_node_agents_unit_and_docker_run_work() {
    let plain = start(&["--listen=127.0.0.1:0"], &[]);
    // ExecStart=/usr/bin/coroot-node-agent, and all that the installer would put into its environment file.
    let unit = [
        ("LISTEN", "127.0.0.1:0"),
        ("CGROUPFS_ROOT", "/sys/fs/cgroup"),
        ("DISABLE_LOG_PARSING", "true"),
        ("DISABLE_PINGER", "true"),
        ("DISABLE_L7_TRACING", "true"),
        ("DISABLE_GPU_MONITORING", "true"),
        ("TRACK_PUBLIC_NETWORK", "0.0.0.0/0"),
        ("EPHEMERAL_PORT_RANGE", "32768-60999"),
        ("PROVIDER", "metal"),
        ("REGION", "here"),
        ("AVAILABILITY_ZONE", "here-1"),
        ("INSTANCE_TYPE", "big"),
        ("INSTANCE_LIFE_CYCLE", "owned"),
        ("LOG_PER_SECOND", "10"),
        ("LOG_BURST", "100"),
        ("COLLECTOR_ENDPOINT", "http://127.0.0.1:1"),
        ("API_KEY", "secret"),
        ("METRICS_ENDPOINT", "http://127.0.0.1:1"),
        ("TRACES_ENDPOINT", "http://127.0.0.1:1"),
        ("LOGS_ENDPOINT", "http://127.0.0.1:1"),
        ("PROFILES_ENDPOINT", "http://127.0.0.1:1"),
        ("SCRAPE_INTERVAL", "15s"),
        ("WAL_DIR", "/tmp/wal"),
    ];
    let old = start(&[], &unit);
    let metrics = old.scrape("/metrics");
    assert_eq!(of_node(&metrics), of_node(&plain.scrape("/metrics")));
    let cloud = [("provider", "metal"), ("region", "here"), ("availability_zone", "here-1")];
    assert_eq!(metrics.value("node_cloud_info", &cloud), Some(1.0));
    let logs = [("collector", "logs"), ("reason", "disabled")];
    assert_eq!(metrics.value("nodeprobe_collector_info", &logs), Some(1.0));
    let line = old.without_effect();
    for flag in ["disable-l7-tracing", "collector-endpoint", "wal-dir", "scrape-interval", "api-key"] {
        assert!(line.contains(flag), "{flag}: {line}");
    }
    assert!(!line.contains("secret"), "{line}");

    // docker run ... coroot-node-agent --cgroupfs-root=/host/sys/fs/cgroup; a manifest has it as two words.
    for words in [&["--cgroupfs-root=/sys/fs/cgroup"][..], &["--cgroupfs-root", "/sys/fs/cgroup"]] {
        let docker = start(words, &[("LISTEN", "127.0.0.1:0")]);
        assert_eq!(of_node(&docker.scrape("/metrics")), of_node(&metrics), "{words:?}");
        assert_eq!(docker.without_effect(), "");
    }

    // Of 2022, with the names that were renamed since.
    let first = ["--listen", "127.0.0.1:0", "--no-parse-logs", "--no-ping-upstreams", "--provider=metal"];
    let first = start(&first, &[]).scrape("/metrics");
    assert_eq!(first.value("nodeprobe_collector_info", &logs), Some(1.0));
}

/// Its flags are required there: a directory with a config and its object, and names.
#[test]
fn ebpf_exporters_command_line_and_directory_work() {
    let directory = TempDir::new("peers");
    for name in ["probe", "other"] {
        compile_bpf("probe.bpf.c", &[], &directory.path().join(format!("{name}.bpf.o")));
        directory.write(&format!("{name}.yaml"), include_str!("programs/probe.yaml"));
    }
    let place = directory.path().display().to_string();
    let words = [
        "--config.dir",
        &place,
        "--config.names=probe",
        "--web.listen-address=127.0.0.1:0",
        "--web.telemetry-path=/ebpf",
        "--btf.path=/sys/kernel/btf/vmlinux",
        "--capabilities.keep=all",
        "--config.skip-cache-size=1024",
        "--log.no-timestamps",
        "--debug",
    ];
    let metrics = start(&words, &[]).scrape("/ebpf");
    let configs = metrics.series("ebpf_exporter_enabled_configs");
    let enabled: Vec<&str> = configs.iter().map(|series| series.label("name")).collect();
    assert_eq!(enabled, ["probe"], "those that were named, and no other");
    for family in names("ebpf_exporter.metrics") {
        // Run times are there where the kernel counts them, and the others are the language's.
        if !family.contains("run_") && !family.starts_with("promhttp_") {
            assert!(!metrics.series(&family).is_empty(), "{family}");
        }
    }

    let check = ["--config.dir", &place, "--config.names=probe,other", "--config.check", "--config.strict"];
    let output = run(&check, Duration::from_secs(60));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut misspelt = Command::new(BINARY);
    misspelt.args(["--config.dir", &place, "--config.names=prob", "--config.check"]).env_clear();
    assert!(!run_command(misspelt, Duration::from_secs(60)).status.success());
}
