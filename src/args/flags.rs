//! The table of flags, and how their values are read.

use std::path::PathBuf;
use std::time::Duration;

use super::logs::{Glob, Samples};
use super::network::Network;
use super::{Command, Config, Enable, TcpDoor};
use crate::limits;
use crate::logs::formats::{self, FORMATS};
use crate::logs::level as log;
use crate::stderr::Level;
use crate::sys::capabilities;

/// One flag.
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// What its value is called; a flag without one is a switch.
    pub value: Option<&'static str>,
    /// One sentence, with the default.
    pub help: &'static str,
    /// What it does.
    pub effect: Effect,
}

/// What giving a flag does.
pub enum Effect {
    /// Changes the configuration; a message if the value is bad.
    Set(fn(&mut Config, &str) -> Result<(), String>),
    /// Adds to a list each time it is given; the first on the command line replaces what the environment has put there.
    Add {
        /// Empties the list.
        clear: fn(&mut Config),
        /// Adds to it; a message if the value is bad.
        add: fn(&mut Config, &str) -> Result<(), String>,
    },
    /// Switches something on (or off, as `--no-NAME`).
    Switch(fn(&mut Config, bool)),
    /// Accepted so that command lines written for the agents nodeprobe replaces keep working; said once at the start.
    Inert,
}

const fn set(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    effect: fn(&mut Config, &str) -> Result<(), String>,
) -> Flag {
    Flag { name, value: Some(value), help, effect: Effect::Set(effect) }
}

const fn list(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    clear: fn(&mut Config),
    add: fn(&mut Config, &str) -> Result<(), String>,
) -> Flag {
    Flag { name, value: Some(value), help, effect: Effect::Add { clear, add } }
}

const fn switch(name: &'static str, help: &'static str, effect: fn(&mut Config, bool)) -> Flag {
    Flag { name, value: None, help, effect: Effect::Switch(effect) }
}

const fn inert(name: &'static str, value: Option<&'static str>, help: &'static str) -> Flag {
    Flag { name, value, help, effect: Effect::Inert }
}

/// Every flag but `--collector.NAME`, which follows from the collector table.
pub const FLAGS: &[Flag] = &[
    set(
        "listen",
        "ADDRESS",
        "Address to serve on, `ip:port`, `:port`, or `fd://N` for systemd's socket N (default the socket systemd has passed, else 127.0.0.1:9435)",
        listen,
    ),
    set("web.listen-address", "ADDRESS", "The same as --listen, by ebpf_exporter's name", listen),
    set("web.telemetry-path", "PATH", "Path metrics are served at (default /metrics)", |config, value| {
        if !value.starts_with('/') {
            return Err("a path that starts with /".to_owned());
        }
        config.telemetry_path = value.to_owned();
        Ok(())
    }),
    set(
        "root",
        "DIR",
        "Root of the observed host, for containers and fixtures (default /)",
        |config, value| {
            config.root = PathBuf::from(value);
            Ok(())
        },
    ),
    set("cgroupfs-root", "DIR", "Where cgroups are mounted (default ROOT/sys/fs/cgroup)", |config, value| {
        config.cgroupfs_root = Some(PathBuf::from(value));
        Ok(())
    }),
    set(
        "interval",
        "TIME",
        "Time between refreshes when nobody scrapes (default 15s), and between the screens of `top` (default 2s)",
        |config, value| {
            config.interval = duration(value, Duration::from_secs(1))?;
            config.screen_interval = config.interval;
            Ok(())
        },
    ),
    set(
        "linger",
        "TIME",
        "How long counters of a dead container stay (default 60s); less than --interval loses its last counts",
        |config, value| {
            config.linger = duration(value, Duration::ZERO)?;
            Ok(())
        },
    ),
    set(
        "log-level",
        "LEVEL",
        "Least important lines on stderr: error, warning, info, debug (default info)",
        |config, value| {
            config.log_level = Level::of_word(value).ok_or("error, warning, info or debug")?;
            Ok(())
        },
    ),
    set("log-per-second", "NUMBER", "Lines per second on stderr (default 10)", |config, value| {
        config.log_per_second = number(value)?;
        Ok(())
    }),
    set("log-burst", "NUMBER", "Lines on stderr at once (default 100)", |config, value| {
        config.log_burst = number(value)?;
        Ok(())
    }),
    set(
        "series-limit",
        "NUMBER",
        "Series of one metric; what is beyond is dropped and counted (default 200000)",
        |config, value| {
            config.series_limit = value.parse().map_err(|_| "a whole number")?;
            Ok(())
        },
    ),
    set(
        "memory-limit",
        "BYTES",
        "Memory in all, BPF maps and kernel memory of open files included, as 64M or 1G: nearing it, nothing new is taken in; at least 16M, 0 for none (default 64M)",
        |config, value| {
            config.memory_limit = bytes(value)?;
            Ok(())
        },
    ),
    list(
        "container-allowlist",
        "REGEX",
        "Export only containers whose `container_id` a pattern matches somewhere; repeatable, in the environment a line each (default all)",
        |config| config.container_filter.clear_allowed(),
        |config, value| config.container_filter.allow(value),
    ),
    list(
        "container-denylist",
        "REGEX",
        "Leave out containers whose `container_id` a pattern matches somewhere, allowed or not; repeatable (default none)",
        |config| config.container_filter.clear_denied(),
        |config, value| config.container_filter.deny(value),
    ),
    set(
        "container-rules",
        "FILE",
        "Rules for containers of your own, YAML: cgroup path to `container_id` and labels (docs/CONTAINERS.md); SIGHUP reads it again",
        |config, value| {
            config.container_rules = (!value.is_empty()).then(|| PathBuf::from(value));
            Ok(())
        },
    ),
    list(
        "container-label",
        "NAME",
        "Labels of containers that `container_info` shows, as `label_NAME`, separated by commas; repeatable (default none)",
        |config| config.container_labels.clear(),
        |config, value| config.container_labels.add(value),
    ),
    switch(
        "skip-systemd-system-services",
        "Leave out services of type oneshot or dbus, those started by timers, and some of systemd's own (default off)",
        |config, on| config.skip_system_services = on,
    ),
    set(
        "ephemeral-port-range",
        "RANGES",
        "Destination ports left out of TCP metrics, `a-b,c-d`; empty keeps all; 50051 is always kept (default 32768-60999)",
        |config, value| {
            config.ephemeral_ports = port_ranges(value)?;
            Ok(())
        },
    ),
    set(
        "tcp-destinations",
        "NUMBER",
        "Capacity of the kernel's table of TCP destinations (default 8192)",
        |config, value| {
            config.tcp_destinations =
                value.parse().ok().filter(|&n| (1..=1 << 20).contains(&n)).ok_or("1 to 1048576")?;
            Ok(())
        },
    ),
    set(
        "tcp-destinations-per-container",
        "NUMBER",
        "TCP destinations of one container; connections to further ones count into `~other` (default 128)",
        |config, value| {
            config.tcp_destinations_per_container = value.parse().map_err(|_| "a whole number")?;
            Ok(())
        },
    ),
    list(
        "track-public-network",
        "CIDR",
        "Networks of the public destinations to keep, IPv4 and IPv6, separated by commas; repeatable (default all; private ones are always kept)",
        |config| config.public_networks = None,
        |config, value| public_networks(config.public_networks.get_or_insert_default(), value),
    ),
    switch(
        "ping-upstreams",
        "Measure latency to destinations with ICMP echo too, from containers' networks; wants CAP_NET_RAW (default off)",
        |config, on| config.ping_upstreams = on,
    ),
    // They only switch off: a DISABLE_PINGER=false in somebody's environment is no wish for ICMP here.
    switch("no-ping-upstreams", "Takes --ping-upstreams back, as does --disable-pinger", |config, on| {
        config.ping_upstreams &= !on;
    }),
    switch("disable-pinger", "The same, by coroot-node-agent's newer name", |config, on| {
        config.ping_upstreams &= !on;
    }),
    switch(
        "enable-delayacct",
        "Set kernel.task_delayacct, which delays of block I/O and memory need, and reset it at the end (default off)",
        |config, on| config.enable_delayacct = on,
    ),
    set(
        "taskstats-buffer",
        "BYTES",
        "Receive buffer for accounting records of processes that exit (default 4194304)",
        |config, value| {
            config.taskstats_buffer =
                value.parse().ok().filter(|&n| (4096..=1 << 30).contains(&n)).ok_or("4096 to 1073741824")?;
            Ok(())
        },
    ),
    set(
        "tcp-door",
        "WAY",
        "How TCP connections are followed: storage, table or tracepoint (default the best that works)",
        |config, value| {
            let door = TcpDoor::ALL.into_iter().find(|door| door.word() == value);
            config.tcp_door = Some(door.ok_or("storage, table or tracepoint")?);
            Ok(())
        },
    ),
    set(
        "config.dir",
        "DIR",
        "Directory of eBPF programs, `NAME.bpf.o` with `NAME.yaml` each; SIGHUP reads it again",
        |config, value| {
            config.config_dir = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    set("config.names", "NAMES", "Which of them, separated by commas (default all)", |config, value| {
        config.config_names = Some(words(value));
        Ok(())
    }),
    set(
        "programs",
        "NAMES",
        "eBPF programs that come with nodeprobe, separated by commas (docs/PROGRAMS.md)",
        |config, value| {
            config.programs = words(value);
            Ok(())
        },
    ),
    switch("config.strict", "Exit when any eBPF program does not attach", |config, on| {
        config.config_strict = on
    }),
    switch("config.check", "Load and attach eBPF programs, then exit", |config, on| config.config_check = on),
    set(
        "btf.path",
        "FILE",
        "The kernel's types (BTF), where the kernel does not export them",
        |config, value| {
            config.btf_path = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    set(
        "syscall-names",
        "WHOSE",
        "Names that decoder `syscall` gives: strace or kernel (default strace)",
        |config, value| {
            config.kernel_syscall_names = match value {
                "strace" => false,
                "kernel" => true,
                _ => return Err("strace or kernel".to_owned()),
            };
            Ok(())
        },
    ),
    set(
        "capabilities.keep",
        "NAMES",
        "Capabilities to keep once all is attached: all, none, or names such as cap_bpf (default all)",
        |config, value| {
            config.kept_capabilities = match value {
                "all" => None,
                "none" => Some(0),
                names => Some(
                    capabilities::capability_set(&words(names))
                        .map_err(|_| "all, none or names like cap_bpf")?,
                ),
            };
            Ok(())
        },
    ),
    switch("debug", "Serve /maps and print all that libbpf says (--log-level=debug)", |config, on| {
        config.debug = on;
        if on {
            config.log_level = Level::Debug;
        }
    }),
    set("provider", "NAME", "Overrides label provider of node_cloud_info", |config, value| {
        config.cloud.provider = value.to_owned();
        Ok(())
    }),
    set(
        "region",
        "NAME",
        "Overrides label region of node_cloud_info, and of containers where the zone is known too",
        |config, value| {
            config.cloud.region = value.to_owned();
            Ok(())
        },
    ),
    set(
        "availability-zone",
        "NAME",
        "Overrides label availability_zone of node_cloud_info, and az of containers where the region is known too",
        |config, value| {
            config.cloud.availability_zone = value.to_owned();
            Ok(())
        },
    ),
    set("instance-type", "NAME", "Overrides label instance_type of node_cloud_info", |config, value| {
        config.cloud.instance_type = value.to_owned();
        Ok(())
    }),
    set(
        "instance-life-cycle",
        "NAME",
        "Overrides label instance_life_cycle of node_cloud_info",
        |config, value| {
            config.cloud.instance_life_cycle = value.to_owned();
            Ok(())
        },
    ),
    switch("kernel", "With `check`: also load the objects, without attaching them", |config, on| {
        config.with_kernel = on;
    }),
    set("screens", "COUNT", "With `top`: end after so many screens; also -n COUNT", |config, value| {
        let count = value.parse().ok().filter(|&count: &u64| count > 0);
        config.screens = Some(count.ok_or("a number of screens, at least 1")?);
        Ok(())
    }),
    switch("disable-log-parsing", "The same as --collector.logs=off", |config, on| {
        config.collectors.extend(on.then_some(("logs", Enable::Off)));
    }),
    switch("no-parse-logs", "The same, by coroot-node-agent's older name", |config, on| {
        config.collectors.extend(on.then_some(("logs", Enable::Off)));
    }),
    set(
        "log-patterns-per-container",
        "NUMBER",
        "Log patterns of each level in each source of a container (default 256); more messages count as ~other",
        |config, value| {
            config.logs.patterns = value.parse().ok().filter(|&count| count <= 4_096).ok_or("0 to 4096")?;
            Ok(())
        },
    ),
    set(
        "log-levels",
        "LEVELS",
        "Levels whose messages are told apart by pattern, separated by commas (default all); others are only counted",
        |config, value| {
            config.logs.levels = [false; log::Level::COUNT];
            for word in words(value) {
                let level = log::Level::ALL.into_iter().find(|level| level.word() == word);
                let level = level.ok_or("unknown, critical, error, warning, info or debug")?;
                config.logs.levels[level as usize] = true;
            }
            Ok(())
        },
    ),
    set(
        "log-samples",
        "WHAT",
        "Label sample of log patterns: pattern, raw (a message, secrets left out) or none (default pattern)",
        |config, value| {
            config.logs.samples = match value {
                "pattern" => Samples::Pattern,
                "raw" => Samples::Raw,
                "none" => Samples::None,
                _ => return Err("pattern, raw or none".to_owned()),
            };
            Ok(())
        },
    ),
    list(
        "log-file",
        "GLOB",
        "Files outside /var/log that are logs when a container writes them, as /srv/*/app.log; ** crosses directories",
        |config| config.logs.files.clear(),
        |config, value| {
            config.logs.files.push(Glob::new(value).ok_or("an absolute path, with *, ** and ?")?);
            Ok(())
        },
    ),
    set(
        "state-dir",
        "DIR",
        "Where positions in logs and their patterns are kept from one start to the next (default nowhere)",
        |config, value| {
            config.logs.state_dir = Some(PathBuf::from(value));
            Ok(())
        },
    ),
    set(
        "format",
        "FORMAT",
        "With `logs`: plain, docker (json-file), cri (containerd, CRI-O, k8s-file), local (docker's) or journal (default plain)",
        |config, value| {
            config.reads_journals = value == "journal";
            if !config.reads_journals {
                config.log_format = formats::by_name(value).ok_or_else(|| {
                    let known: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
                    format!("one of {}, journal", known.join(", "))
                })?;
            }
            Ok(())
        },
    ),
    switch(
        "ids",
        "With `logs`: print the id of its pattern for each line, and nothing else",
        |config, on| {
            config.ids = on;
        },
    ),
    Flag {
        name: "json",
        value: None,
        help: "With `doctor`: print JSON",
        effect: Effect::Switch(|config, on| config.json = on),
    },
    Flag {
        name: "version",
        value: None,
        help: "Print the version and exit",
        effect: Effect::Switch(|config, _| config.command = Command::Version),
    },
    Flag {
        name: "help",
        value: None,
        help: "Print this help and exit",
        effect: Effect::Switch(|config, _| config.command = Command::Help),
    },
    // coroot-node-agent
    inert("disable-l7-tracing", None, "No application protocols; nodeprobe traces none"),
    inert("min-container-age", Some("TIME"), "Age from which a container is exported; 0 here"),
    inert("max-fqdns-per-container", Some("NUMBER"), "Cap of DNS names"),
    inert("log-pattern-extraction-limit", Some("NUMBER"), "Messages per second that get patterns"),
    inert("max-label-length", Some("NUMBER"), "Bytes of a label value; 4096 here"),
    inert("disable-json-log-parsing", None, "No JSON in log lines"),
    inert("exclude-http-requests-by-path", Some("GLOB"), "HTTP paths to leave out"),
    inert(
        "instrumentation-delay",
        Some("TIME"),
        "Age from which a process gets uprobes; nodeprobe sets none",
    ),
    inert("enable-java-tls", None, "TLS of Java"),
    inert("enable-java-async-profiler", None, "Java profiler"),
    inert("java-async-profiler-delay", Some("TIME"), "Java profiler"),
    inert("go-heap-profiler", Some("MODE"), "Go heap profiler"),
    inert("disable-gpu-monitoring", None, "No GPU metrics; nodeprobe has none"),
    inert("collector-endpoint", Some("URL"), "Push target; nodeprobe is scraped"),
    inert("metrics-endpoint", Some("URL"), "Push target; nodeprobe is scraped"),
    inert("logs-endpoint", Some("URL"), "Push target; nodeprobe is scraped"),
    inert("traces-endpoint", Some("URL"), "Push target; nodeprobe is scraped"),
    inert("profiles-endpoint", Some("URL"), "Push target; nodeprobe is scraped"),
    inert("api-key", Some("KEY"), "Of push targets"),
    inert("insecure-skip-verify", None, "Of push targets"),
    inert("ca-file", Some("FILE"), "Of push targets"),
    inert("traces-sampling", Some("NUMBER"), "Of push targets"),
    inert("profiles-prune-fraction", Some("NUMBER"), "Of push targets"),
    inert("scrape-interval", Some("TIME"), "Of push targets"),
    inert("wal-dir", Some("DIR"), "Of push targets"),
    inert("max-spool-size", Some("SIZE"), "Of push targets"),
    // ebpf_exporter
    inert("config.skip-cache-size", Some("NUMBER"), "Cache of skipped keys; nodeprobe's needs no size"),
    inert("log.no-timestamps", None, "No times on stderr; nodeprobe prints none"),
];

fn listen(config: &mut Config, value: &str) -> Result<(), String> {
    config.listen = value.to_owned();
    config.is_listen_given = true;
    Ok(())
}

fn words(value: &str) -> Vec<String> {
    value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn number(value: &str) -> Result<f64, String> {
    value
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| "a number".to_owned())
}

/// `64M`, `64MiB`, or plain bytes, as in systemd's units; 0 is no limit.
fn bytes(value: &str) -> Result<u64, String> {
    let expected = || "a size such as 64M or 1G, at least 16M, or 0".to_owned();
    let letters = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (amount, unit) = value.split_at(letters);
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(expected()),
    };
    let amount: u64 = amount.parse().map_err(|_| expected())?;
    match amount.checked_mul(1 << shift).ok_or_else(expected)? {
        0 => Ok(u64::MAX),
        size if size >= 16 << 20 => Ok(size),
        _ => Err(expected()),
    }
}

/// `1m30s`, `500ms`, or plain seconds.
fn duration(value: &str, least: Duration) -> Result<Duration, String> {
    let expected = || format!("a time such as 15s or 2m, at least {least:?}");
    let mut total_s = 0.0;
    let mut rest = value.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let amount: f64 = amount.parse().map_err(|_| expected())?;
        total_s += amount
            * match unit {
                "" | "s" => 1.0,
                "ms" => 1e-3,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(expected()),
            };
        rest = tail;
    }
    let total = Duration::try_from_secs_f64(total_s).map_err(|_| expected())?;
    // A year is beyond any use, and keeps sums of times far from their limits.
    if value.is_empty() || total < least || total_s > 31_536_000.0 { Err(expected()) } else { Ok(total) }
}

/// Networks separated by commas or blanks, at least one.
fn public_networks(networks: &mut Vec<Network>, value: &str) -> Result<(), String> {
    let words = value.split([',', ' ', '\n']).filter(|word| !word.is_empty());
    let before = networks.len();
    for word in words {
        let network = word
            .parse()
            .map_err(|problem| format!("a network such as 203.0.113.0/24: {word:?}: {problem}"))?;
        if networks.len() == limits::PUBLIC_NETWORKS {
            return Err(format!("at most {} networks, the others given included", limits::PUBLIC_NETWORKS));
        }
        networks.push(network);
    }
    if networks.len() == before { Err("a network such as 203.0.113.0/24".to_owned()) } else { Ok(()) }
}

/// `a-b` ranges separated by commas or blanks, at most four.
fn port_ranges(value: &str) -> Result<Vec<(u16, u16)>, String> {
    let expected = || "at most four port ranges such as 32768-60999".to_owned();
    let mut ranges = Vec::new();
    for range in value.split([',', ' ']).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').ok_or_else(expected)?;
        let (first, last) = (first.parse().map_err(|_| expected())?, last.parse().map_err(|_| expected())?);
        if first > last || ranges.len() == 4 {
            return Err(expected());
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}
