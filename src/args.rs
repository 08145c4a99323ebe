//! The command line: one table of flags, from which parsing, `--help`, environment variables and `docs/FLAGS.md` follow.

mod flags;
pub mod logs;
pub mod network;

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, ValueExt};

use crate::collectors::COLLECTORS;
use crate::containers::filter::Filter;
use crate::containers::labels::LabelKeys;
use crate::limits;
use crate::logs::formats::{self, Format};
use crate::spelling::{did_you_mean, did_you_mean_with};
use crate::stderr::Level;
pub use flags::{Effect, FLAGS, Flag};
use network::Network;

/// What nodeprobe is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Command {
    /// Serve metrics until told to stop.
    #[default]
    Run,
    /// Print the metrics once.
    Once,
    /// Show TCP connections by container, again and again.
    Top,
    /// Say what this machine offers.
    Doctor,
    /// Say what is wrong with eBPF configs.
    Check,
    /// Print the JSON schema of eBPF configs.
    Schema,
    /// Say what is in logs, by pattern.
    Logs,
    /// Print a systemd unit.
    Unit,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Whether a collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enable {
    /// If it can; its reason is exported if not.
    Auto,
    /// It must: exit 2 if it cannot.
    On,
    /// No.
    Off,
}

/// How the TCP collector follows connections in the kernel, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpDoor {
    /// In the storage of their sockets.
    Storage,
    /// In a table by socket.
    Table,
    /// In a table, by what the classic tracepoint says of them.
    Tracepoint,
}

impl TcpDoor {
    /// All of them.
    pub const ALL: [TcpDoor; 3] = [TcpDoor::Storage, TcpDoor::Table, TcpDoor::Tracepoint];

    /// The word for flags and labels.
    pub fn word(self) -> &'static str {
        match self {
            TcpDoor::Storage => "storage",
            TcpDoor::Table => "table",
            TcpDoor::Tracepoint => "tracepoint",
        }
    }
}

/// Everything the flags say.
#[derive(Debug, Clone)]
pub struct Config {
    /// The sub-command.
    pub command: Command,
    /// Where to serve, as `host:port` or `:port`.
    pub listen: String,
    /// Whether the command line says where.
    pub is_listen_given: bool,
    /// The path metrics are served at.
    pub telemetry_path: String,
    /// The root of the observed host.
    pub root: PathBuf,
    /// Where cgroup file systems are mounted, if not below the root.
    pub cgroupfs_root: Option<PathBuf>,
    /// `--collector.NAME`, in the order given.
    pub collectors: Vec<(&'static str, Enable)>,
    /// Time between refreshes when nobody scrapes.
    pub interval: Duration,
    /// Time between the screens of `top`: `--interval`, if it was given.
    pub screen_interval: Duration,
    /// After how many screens `top` ends; `None` for never.
    pub screens: Option<u64>,
    /// How long counters of a dead container stay.
    pub linger: Duration,
    /// The least important lines printed.
    pub log_level: Level,
    /// Lines per second on stderr.
    pub log_per_second: f64,
    /// Lines on stderr at once.
    pub log_burst: f64,
    /// Which containers are exported.
    pub container_filter: Filter,
    /// Rules for containers of the user's own.
    pub container_rules: Option<PathBuf>,
    /// Which labels of containers are shown.
    pub container_labels: LabelKeys,
    /// Whether systemd's own services are left out.
    pub skip_system_services: bool,
    /// Series of one family.
    pub series_limit: u32,
    /// Memory in all, in bytes; `u64::MAX` for no limit.
    pub memory_limit: u64,
    /// Destination ports left out of TCP metrics.
    pub ephemeral_ports: Vec<(u16, u16)>,
    /// Capacity of the TCP destination map.
    pub tcp_destinations: u32,
    /// Destinations of one container.
    pub tcp_destinations_per_container: u32,
    /// How TCP connections are followed; `None` for the best way that works.
    pub tcp_door: Option<TcpDoor>,
    /// Networks whose public addresses are kept as destinations; `None` for all.
    pub public_networks: Option<Vec<Network>>,
    /// Whether latency to destinations is measured with ICMP echo too.
    pub ping_upstreams: bool,
    /// Whether to switch delay accounting on while running.
    pub enable_delayacct: bool,
    /// Receive buffer for records of exits, in bytes.
    pub taskstats_buffer: u32,
    /// Directory of eBPF configs.
    pub config_dir: Option<PathBuf>,
    /// Which of them; all unless given.
    pub config_names: Option<Vec<String>>,
    /// eBPF programs of nodeprobe's own to run.
    pub programs: Vec<String>,
    /// Whether a program that does not attach is fatal.
    pub config_strict: bool,
    /// Whether to exit once all is attached.
    pub config_check: bool,
    /// A file with the kernel's types.
    pub btf_path: Option<PathBuf>,
    /// Whether to serve /maps and to print what libbpf says.
    pub debug: bool,
    /// Whether label values of decoder `syscall` are the kernel's names rather than strace's.
    pub kernel_syscall_names: bool,
    /// Capabilities to keep once all is attached, a bit each; `None` for all.
    pub kept_capabilities: Option<u64>,
    /// What `check` or `logs` is to look at.
    pub paths: Vec<PathBuf>,
    /// `logs --format`: how the records of logs are written.
    pub log_format: &'static Format,
    /// What `logs` reads are journals.
    pub reads_journals: bool,
    /// What is done with containers' logs.
    pub logs: logs::Settings,
    /// `logs --ids`.
    pub ids: bool,
    /// `check --kernel`.
    pub with_kernel: bool,
    /// `doctor --json`.
    pub json: bool,
    /// Overrides for the labels of `node_cloud_info`.
    pub cloud: CloudLabels,
    /// Flags given that have no effect yet.
    pub inert: Vec<&'static str>,
}

/// Overrides for the labels of `node_cloud_info`.
#[derive(Debug, Clone, Default)]
pub struct CloudLabels {
    /// `--provider`.
    pub provider: String,
    /// `--region`.
    pub region: String,
    /// `--availability-zone`.
    pub availability_zone: String,
    /// `--instance-type`.
    pub instance_type: String,
    /// `--instance-life-cycle`.
    pub instance_life_cycle: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            command: Command::Run,
            listen: "127.0.0.1:9435".to_owned(),
            is_listen_given: false,
            telemetry_path: "/metrics".to_owned(),
            root: PathBuf::from("/"),
            cgroupfs_root: None,
            collectors: Vec::new(),
            interval: Duration::from_secs(15),
            screen_interval: Duration::from_secs(2),
            screens: None,
            linger: Duration::from_secs(60),
            log_level: Level::Info,
            log_per_second: 10.0,
            log_burst: 100.0,
            container_filter: Filter::default(),
            container_rules: None,
            container_labels: LabelKeys::default(),
            skip_system_services: false,
            series_limit: limits::SERIES_PER_METRIC,
            memory_limit: limits::MEMORY,
            ephemeral_ports: vec![(32768, 60999)],
            tcp_destinations: limits::TCP_DESTINATIONS,
            tcp_destinations_per_container: limits::TCP_DESTINATIONS_PER_CONTAINER,
            tcp_door: None,
            public_networks: None,
            ping_upstreams: false,
            enable_delayacct: false,
            taskstats_buffer: limits::TASKSTATS_BUFFER,
            config_dir: None,
            config_names: None,
            programs: Vec::new(),
            config_strict: false,
            config_check: false,
            btf_path: None,
            debug: false,
            kernel_syscall_names: false,
            kept_capabilities: None,
            paths: Vec::new(),
            log_format: &formats::plain::FORMAT,
            reads_journals: false,
            logs: logs::Settings::default(),
            ids: false,
            with_kernel: false,
            json: false,
            cloud: CloudLabels::default(),
            inert: Vec::new(),
        }
    }
}

impl Config {
    /// What the flags say about collector `name`.
    pub fn collector(&self, name: &str) -> Option<Enable> {
        self.collectors.iter().rev().find(|(known, _)| *known == name).map(|&(_, enable)| enable)
    }

    /// Whether a port is one of those that clients get, and so left out. 50051, gRPC's usual one, never is.
    pub fn is_ephemeral(&self, port: u16) -> bool {
        port != 50051 && self.ephemeral_ports.iter().any(|&(first, last)| (first..=last).contains(&port))
    }
}

/// Prefix of the flags that switch collectors.
const COLLECTOR_PREFIX: &str = "collector.";

/// Reads the command line and, for flags not on it, the environment.
///
/// # Errors
/// A one-line message that names the flag.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Config, String> {
    let mut config = Config::default();
    for flag in FLAGS.iter().filter(|flag| !is_of_one_call(flag.name)) {
        if let Some((variable, value)) =
            variables(flag.name).find_map(|name| Some((environment(&name)?, name)))
        {
            apply(&mut config, flag, Some(&variable), true).map_err(|error| format!("{value}: {error}"))?;
        }
    }
    for spec in COLLECTORS {
        let variable = variable(&format!("{COLLECTOR_PREFIX}{}", spec.name));
        if let Some(value) = environment(&variable) {
            let enable = enable(&value).map_err(|error| format!("{variable}: {error}"))?;
            config.collectors.push((spec.name, enable));
        }
    }
    config.is_listen_given = false;
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut given = Vec::new();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Short('h') => config.command = Command::Help,
            Arg::Short('V') => config.command = Command::Version,
            Arg::Short('n') => long_flag(&mut config, &mut parser, "screens", &mut given)?,
            Arg::Short(letter) => return Err(format!("unknown flag -{letter} (see --help)")),
            Arg::Long(name) => {
                let name = name.to_owned();
                long_flag(&mut config, &mut parser, &name, &mut given)?;
            }
            Arg::Value(value) if matches!(config.command, Command::Check | Command::Logs) => {
                config.paths.push(value.into());
            }
            Arg::Value(value) => {
                config.command = match value.to_str() {
                    Some("once") => Command::Once,
                    Some("top") => Command::Top,
                    Some("doctor") => Command::Doctor,
                    Some("check") => Command::Check,
                    Some("schema") => Command::Schema,
                    Some("logs") => Command::Logs,
                    Some("unit") => Command::Unit,
                    Some("run") => Command::Run,
                    Some("help") => Command::Help,
                    Some("version") => Command::Version,
                    _ => {
                        let known = "once top doctor check schema logs unit run help version";
                        let hint = did_you_mean(&value.to_string_lossy(), known.split(' '));
                        return Err(format!("unknown command {value:?}{hint} (see --help)"));
                    }
                };
            }
        }
    }
    if config.command == Command::Check && config.paths.is_empty() {
        return Err("check needs a directory, NAME.yaml or NAME.bpf.o".to_owned());
    }
    Ok(config)
}

/// Flags that are about one call, and so not taken from the environment.
fn is_of_one_call(flag: &str) -> bool {
    matches!(flag, "help" | "version" | "json" | "kernel" | "screens" | "format" | "ids")
}

/// `given` are the lists the command line has begun.
fn long_flag(
    config: &mut Config,
    parser: &mut lexopt::Parser,
    name: &str,
    given: &mut Vec<&'static str>,
) -> Result<(), String> {
    if let Some(collector) = name.strip_prefix(COLLECTOR_PREFIX) {
        let Some(spec) = COLLECTORS.iter().find(|spec| spec.name == collector) else {
            let hint = did_you_mean(collector, COLLECTORS.iter().map(|spec| spec.name));
            return Err(format!("unknown collector in --{name}{hint}"));
        };
        let value = value_of(parser, name)?;
        config.collectors.push((spec.name, enable(&value).map_err(|error| format!("--{name}: {error}"))?));
        return Ok(());
    }
    let negated = name.strip_prefix("no-");
    let flag = FLAGS.iter().find(|flag| flag.name == name);
    let (flag, on) = match (flag, negated) {
        (Some(flag), _) => (flag, true),
        (None, Some(positive)) => {
            match FLAGS.iter().find(|flag| flag.name == positive && flag.value.is_none()) {
                Some(flag) => (flag, false),
                None => return Err(unknown_flag(name)),
            }
        }
        (None, None) => return Err(unknown_flag(name)),
    };
    let value = match flag.value {
        Some(_) => Some(value_of(parser, name)?),
        None => match parser.optional_value().map(|value| value.into_string()) {
            None => None,
            Some(Ok(value)) if matches!(value.as_str(), "true" | "false") => Some(value),
            Some(_) => return Err(format!("--{name}: true or false expected, or no value")),
        },
    };
    if let Effect::Add { clear, .. } = flag.effect
        && !given.contains(&flag.name)
    {
        clear(config);
        given.push(flag.name);
    }
    apply(config, flag, value.as_deref(), on).map_err(|error| format!("--{name}: {error}"))
}

fn value_of(parser: &mut lexopt::Parser, name: &str) -> Result<String, String> {
    let value = parser.value().map_err(|_| format!("--{name} needs a value"))?;
    value.string().map_err(|_| format!("--{name}: the value is not UTF-8"))
}

fn apply(config: &mut Config, flag: &Flag, value: Option<&str>, on: bool) -> Result<(), String> {
    match (&flag.effect, value) {
        (Effect::Set(set) | Effect::Add { add: set, .. }, Some(value)) => {
            return set(config, value).map_err(|expected| format!("{value:?} is not {expected}"));
        }
        (Effect::Set(_) | Effect::Add { .. }, None) => return Err("needs a value".to_owned()),
        (Effect::Switch(switch), value) => switch(config, on == (value != Some("false"))),
        (Effect::Inert, _) => config.inert.push(flag.name),
    }
    Ok(())
}

fn unknown_flag(name: &str) -> String {
    let collectors: Vec<String> =
        COLLECTORS.iter().map(|spec| format!("{COLLECTOR_PREFIX}{}", spec.name)).collect();
    let known = FLAGS.iter().map(|flag| flag.name).chain(collectors.iter().map(String::as_str));
    format!("unknown flag --{name}{} (see --help)", did_you_mean_with(name, known, "--"))
}

/// The environment variables of a flag: ours, then the one coroot-node-agent reads.
fn variables(flag: &str) -> impl Iterator<Item = String> {
    let ours = variable(flag);
    let theirs = ours.strip_prefix("NODEPROBE_").filter(|_| !flag.contains('.')).map(str::to_owned);
    // Words so common that a container's environment may hold them for another purpose are taken only with our prefix.
    let common = matches!(flag, "root" | "debug" | "interval" | "linger" | "log-level");
    std::iter::once(ours).chain(theirs.filter(|_| !common))
}

/// `NODEPROBE_` and the flag's name in capitals.
fn variable(flag: &str) -> String {
    format!("NODEPROBE_{}", flag.to_uppercase().replace(['-', '.'], "_"))
}

fn enable(value: &str) -> Result<Enable, String> {
    Ok(match value {
        "auto" => Enable::Auto,
        "on" => Enable::On,
        "off" => Enable::Off,
        _ => return Err(format!("{value:?} is not auto, on or off")),
    })
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "nodeprobe: metrics of this node, its containers and its kernel for Prometheus\n\n\
         Usage:\n  nodeprobe [FLAGS]          serve metrics\n  nodeprobe once [FLAGS]     print the metrics once\n  \
         nodeprobe top [-n COUNT]   show TCP connections by container, live\n  \
         nodeprobe doctor [--json]  say what this machine offers\n  \
         nodeprobe check [--kernel] DIR|FILE...   say what is wrong with eBPF configs\n  \
         nodeprobe schema           print the JSON schema of eBPF configs\n  \
         nodeprobe logs [--format=FORMAT] [FILE...]   say what is in logs, by pattern\n  \
         nodeprobe unit [FLAGS]     print a systemd unit that may do what these flags need, and no more\n\n\
         Flags (each also as an environment variable, NODEPROBE_LISTEN for --listen):\n",
    );
    let row = |text: &mut String, flag: &str, help: &str| {
        let _ = if flag.len() > 30 {
            writeln!(text, "  {flag}\n  {:32}{help}", "")
        } else {
            writeln!(text, "  {flag:32}{help}")
        };
    };
    for flag in FLAGS.iter().filter(|flag| !matches!(flag.effect, Effect::Inert)) {
        row(&mut text, &spelling(flag), flag.help);
    }
    text.push_str("\nCollectors (auto: if they can; on: exit 2 if they cannot; off):\n");
    for spec in COLLECTORS {
        row(&mut text, &format!("--{COLLECTOR_PREFIX}{}=auto|on|off", spec.name), spec.about);
    }
    text.push_str(
        "\nFlags of coroot-node-agent and ebpf_exporter without effect here are accepted: docs/FLAGS.md\n",
    );
    text
}

fn spelling(flag: &Flag) -> String {
    match flag.value {
        Some(value) => format!("--{}={value}", flag.name),
        None => format!("--{}", flag.name),
    }
}

/// `docs/FLAGS.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Flags\n\nGenerated from the table in `src/args.rs`; `make docs` renews it.\n\nEvery flag is also an environment \
         variable: `NODEPROBE_` and the name in capitals, dashes and dots as underscores. `--flag=value` and `--flag value` \
         are the same; a switch can be turned off as `--no-switch` or `--switch=false`. The command line wins over the \
         environment.\n\n| flag | environment | meaning |\n|---|---|---|\n",
    );
    let row = |text: &mut String, name: &str, spelling: &str, help: &str| {
        let _ = writeln!(text, "| `{}` | `{}` | {help} |", spelling.replace('|', "\\|"), variable(name));
    };
    for flag in FLAGS.iter().filter(|flag| !matches!(flag.effect, Effect::Inert)) {
        row(&mut text, flag.name, &spelling(flag), flag.help);
    }
    for spec in COLLECTORS {
        let name = format!("{COLLECTOR_PREFIX}{}", spec.name);
        row(&mut text, &name, &format!("--{name}=auto|on|off"), spec.about);
    }
    text.push_str(
        "\n## Accepted without effect\n\nSo that command lines and unit files written for coroot-node-agent and ebpf_exporter \
         keep working. nodeprobe says once at the start which of them it was given.\n\n| flag | meaning there |\n|---|---|\n",
    );
    for flag in FLAGS.iter().filter(|flag| matches!(flag.effect, Effect::Inert)) {
        let _ = writeln!(text, "| `{}` | {} |", spelling(flag), flag.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, String> {
        parse([&["nodeprobe"], arguments].concat(), |_| None)
    }

    #[test]
    fn values_are_taken_in_both_spellings() {
        let config =
            read(&["once", "--listen", ":1", "--interval=1m30s", "--linger=0", "--root=/host"]).unwrap();
        assert_eq!(config.command, Command::Once);
        assert_eq!((config.listen.as_str(), config.interval), (":1", Duration::from_secs(90)));
        assert_eq!((config.linger, config.root), (Duration::ZERO, PathBuf::from("/host")));
    }

    #[test]
    fn screens_have_an_interval_of_their_own_unless_told() {
        let config = read(&["top", "-n", "3"]).unwrap();
        assert_eq!((config.command, config.screens), (Command::Top, Some(3)));
        assert_eq!(config.screen_interval, Duration::from_secs(2));
        let config = read(&["top", "--interval=5s", "--screens=1"]).unwrap();
        assert_eq!((config.screen_interval, config.screens), (Duration::from_secs(5), Some(1)));
        let environment = |name: &str| name.contains("SCREENS").then(|| "9".to_owned());
        assert_eq!(parse(["nodeprobe", "top"], environment).unwrap().screens, None);
    }

    #[test]
    fn the_environment_comes_second() {
        let environment = |name: &str| (name == "NODEPROBE_LISTEN").then(|| "[::1]:2".to_owned());
        assert_eq!(parse(["nodeprobe"], environment).unwrap().listen, "[::1]:2");
        assert_eq!(parse(["nodeprobe", "--listen=:3"], environment).unwrap().listen, ":3");
        let theirs = |name: &str| (name == "CGROUPFS_ROOT").then(|| "/cg".to_owned());
        assert_eq!(parse(["nodeprobe"], theirs).unwrap().cgroupfs_root, Some(PathBuf::from("/cg")));
        let bad = |name: &str| (name == "NODEPROBE_INTERVAL").then(|| "soon".to_owned());
        let error = parse(["nodeprobe"], bad).unwrap_err();
        assert!(error.contains("NODEPROBE_INTERVAL") && error.contains("soon"), "{error}");
    }

    #[test]
    fn lists_grow_and_the_command_line_replaces_the_environment() {
        let environment = |name: &str| match name {
            "CONTAINER_ALLOWLIST" => Some("^/docker/\n^/k8s/".to_owned()),
            "NODEPROBE_CONTAINER_DENYLIST" => Some("test".to_owned()),
            _ => None,
        };
        let keeps = |config: &Config| {
            let ids = ["/docker/a", "/k8s/a/b/c", "/docker/test", "/podman/a", "/podman/test", "/lxc/a"];
            ids.map(|id| config.container_filter.keeps(id))
        };
        let config = parse(["nodeprobe"], environment).unwrap();
        assert_eq!(keeps(&config), [true, true, false, false, false, false]);
        let arguments = ["nodeprobe", "--container-allowlist=podman", "--container-allowlist", "lxc"];
        let config = parse(arguments, environment).unwrap();
        assert_eq!(keeps(&config), [false, false, false, true, false, true]);
        let config =
            parse(["nodeprobe", "--container-allowlist=", "--container-denylist="], environment).unwrap();
        assert_eq!(keeps(&config), [true; 6]);
        let bad = |name: &str| (name == "CONTAINER_DENYLIST").then(|| "a\n*".to_owned());
        let error = parse(["nodeprobe"], bad).unwrap_err();
        assert!(error.starts_with("CONTAINER_DENYLIST: ") && error.contains(" line 2: "), "{error}");
    }

    #[test]
    fn public_networks_add_up() {
        let shown = |config: Config| {
            let networks = config.public_networks?;
            Some(networks.iter().map(Network::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown(read(&[]).unwrap()), None);
        let config = read(&[
            "--track-public-network=0.0.0.0/0",
            "--track-public-network",
            "2001:db8::/32, 1.2.3.4/31",
        ]);
        assert_eq!(shown(config.unwrap()).unwrap(), "0.0.0.0/0 2001:db8::/32 1.2.3.4/31");
        let environment =
            |name: &str| (name == "TRACK_PUBLIC_NETWORK").then(|| "9.0.0.0/8\n8.0.0.0/8".to_owned());
        assert_eq!(shown(parse(["nodeprobe"], environment).unwrap()).unwrap(), "9.0.0.0/8 8.0.0.0/8");
        let config = parse(["nodeprobe", "--track-public-network=::/0"], environment).unwrap();
        assert_eq!(shown(config).unwrap(), "::/0");
        let many = vec!["::/0"; limits::PUBLIC_NETWORKS].join(",");
        let networks = read(&["--track-public-network", &many]).unwrap().public_networks.unwrap();
        assert_eq!(networks.len(), limits::PUBLIC_NETWORKS);
        let error =
            read(&["--track-public-network", &many, "--track-public-network=10.0.0.0/8"]).unwrap_err();
        assert!(error.ends_with("at most 16 networks, the others given included"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, expected) in [
            (&["--lisen=:1"][..], "unknown flag --lisen, did you mean --listen?"),
            (&["--collector.tpc=on"], "unknown collector in --collector.tpc, did you mean tcp?"),
            (&["--collector.tcp=yes"], "--collector.tcp: \"yes\" is not auto, on or off"),
            (&["--interval=never"], "--interval: \"never\" is not a time such as 15s or 2m, at least 1s"),
            (&["--interval=0"], "--interval: \"0\" is not a time"),
            (
                &["--ephemeral-port-range=9-1"],
                "--ephemeral-port-range: \"9-1\" is not at most four port ranges",
            ),
            (
                &["--container-denylist=x", "--container-denylist=a("],
                "--container-denylist: \"a(\" is not a regular",
            ),
            (
                &["--track-public-network=10.0.0.0/8,::/129"],
                "--track-public-network: \"10.0.0.0/8,::/129\" is not a network such as 203.0.113.0/24: \"::/129\": the length of its prefix is 0 to 128",
            ),
            (&["--track-public-network="], "--track-public-network: \"\" is not a network"),
            (&["--listen"], "--listen needs a value"),
            (&["top", "-n"], "--screens needs a value"),
            (&["top", "-n0"], "--screens: \"0\" is not a number of screens, at least 1"),
            (&["--json=maybe"], "--json: true or false expected"),
            (&["onse"], "unknown command \"onse\", did you mean once?"),
            (&["-x"], "unknown flag -x"),
            (&["--zzzzzzzzzzzzzzz"], "unknown flag --zzzzzzzzzzzzzzz (see --help)"),
        ] {
            let error = read(arguments).unwrap_err();
            assert!(error.starts_with(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn every_flag_of_the_peers_is_accepted() {
        let config = read(&[
            "--config.dir=/etc/x",
            "--config.names",
            "a,b",
            "--no-parse-logs",
            "--disable-l7-tracing=false",
            "--no-debug",
            "--track-public-network=0.0.0.0/0",
        ])
        .unwrap();
        assert_eq!(config.inert, ["disable-l7-tracing"]);
        assert_eq!(config.collector("logs"), Some(Enable::Off));
        assert_eq!(config.config_names, Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn latency_is_measured_on_request() {
        let pings = |arguments: &[&str]| read(arguments).unwrap().ping_upstreams;
        assert!(pings(&["--ping-upstreams"]) && pings(&["--disable-pinger", "--ping-upstreams"]));
        assert!(pings(&["--ping-upstreams", "--disable-pinger=false"]));
        assert!(!pings(&[]) && !pings(&["--disable-pinger=false"]) && !pings(&["--no-disable-pinger"]));
        assert!(!pings(&["--ping-upstreams=false"]));
        for off in ["--no-ping-upstreams", "--disable-pinger"] {
            assert!(!pings(&[off]) && !pings(&["--ping-upstreams", off]));
        }
        let environment = |name: &str| (name == "NO_PING_UPSTREAMS").then(|| "true".to_owned());
        let config = parse(["nodeprobe"], environment).unwrap();
        assert!(!config.ping_upstreams && config.inert.is_empty());
    }

    #[test]
    fn flags_are_named_once() {
        for (index, flag) in FLAGS.iter().enumerate() {
            assert!(FLAGS[..index].iter().all(|other| other.name != flag.name), "{}", flag.name);
        }
    }

    #[test]
    fn random_values_never_panic() {
        let mut state = 7u64;
        for round in 0..10_000usize {
            let flag = &FLAGS[round % FLAGS.len()];
            let mut value = Vec::new();
            for _ in 0..round % 23 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                value.push((state >> 56) as u8);
            }
            let value = String::from_utf8_lossy(&value).into_owned();
            let _ = read(&[&format!("--{}={value}", flag.name)]);
            let _ = read(&[&format!("--{value}")]);
            let _ = read(&[&value]);
        }
    }
}
