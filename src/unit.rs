//! `nodeprobe unit`: a systemd unit that may do what the flags need, and no more. `deploy/nodeprobe.service` is the one without
//! flags.
//!
//! What a collector needs stands beside it, in its `Spec`; what follows from that for the sandbox is here. Pure.

use std::fmt::Write;
use std::path::Path;

use crate::args::{Config, Enable};
use crate::collectors::{COLLECTORS, Need, Spec};
use crate::sys::capabilities::Capability;

/// Where `make install` puts the program.
pub const PROGRAM: &str = "/usr/local/bin/nodeprobe";

/// Where positions in logs are kept unless a flag says where.
const STATE: &str = "/var/lib/nodeprobe";

/// What the unit has to allow.
struct Allowed<'a> {
    config: &'a Config,
    /// Collectors that may run.
    collectors: Vec<&'static Spec>,
    /// Capabilities, each with those that need it.
    needs: Vec<(Capability, Vec<(&'static str, &'static str)>)>,
    /// Paths the flags name, and the program's own.
    paths: Vec<&'a Path>,
}

/// The arguments without the word that is the command, such that `is_run` says of them that they serve metrics.
pub fn without_command(arguments: Vec<String>, is_run: impl Fn(&[String]) -> bool) -> Vec<String> {
    for at in (0..arguments.len()).filter(|&at| arguments[at] == "unit") {
        let mut rest = arguments.clone();
        rest.remove(at);
        if is_run(&rest) {
            return rest;
        }
    }
    arguments
}

/// The unit for `config`, which came of `flags` and, maybe, of the environment; `program` is the path of the binary.
pub fn unit(config: &Config, flags: &[String], program: &str) -> String {
    let allowed = Allowed::of(config, program);
    let mut text = format!(
        "# Printed by `nodeprobe unit{}`: what these flags need, and no more.\n",
        flags.iter().map(|flag| format!(" {flag}")).collect::<String>().replace(['\n', '\r'], " ")
    );
    allowed.head(&mut text, flags, program);
    allowed.capabilities(&mut text);
    allowed.files(&mut text);
    allowed.kernel(&mut text);
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

impl<'a> Allowed<'a> {
    fn of(config: &'a Config, program: &'a str) -> Allowed<'a> {
        let is_on = |spec: &&&Spec| config.collector(spec.name).unwrap_or(spec.default) != Enable::Off;
        let collectors: Vec<&'static Spec> = COLLECTORS.iter().filter(is_on).copied().collect();
        let mut needs: Vec<(Capability, Vec<_>)> = Vec::new();
        for spec in &collectors {
            for Need { capability, purpose, .. } in spec.needs.iter().filter(|need| (need.wanted)(config)) {
                match needs.iter_mut().find(|(known, _)| known == capability) {
                    Some((_, uses)) => uses.push((spec.name, *purpose)),
                    None => needs.push((*capability, vec![(spec.name, *purpose)])),
                }
            }
        }
        if is_privileged_port(&config.listen) {
            needs.push((Capability::NetBindService, vec![("the server", "a port below 1024")]));
        }
        needs.sort_by_key(|(capability, _)| *capability);
        let logs = &config.logs;
        let named = [&config.config_dir, &config.container_rules, &config.btf_path, &config.cgroupfs_root];
        let mut paths: Vec<&Path> = named.into_iter().flatten().map(|path| path.as_path()).collect();
        paths.extend([Path::new(program), config.root.as_path()]);
        paths.extend(logs.state_dir.as_deref());
        paths.extend(logs.files.iter().map(|glob| Path::new(glob.text())));
        Allowed { config, collectors, needs, paths }
    }

    fn runs(&self, name: &str) -> bool {
        self.collectors.iter().any(|spec| spec.name == name)
    }

    fn needs(&self, capability: Capability) -> bool {
        self.needs.iter().any(|(known, _)| *known == capability)
    }

    fn names_below(&self, directories: &[&str]) -> bool {
        self.paths.iter().any(|path| directories.iter().any(|directory| path.starts_with(directory)))
    }

    /// What systemd is to start, and how it knows that it runs.
    fn head(&self, text: &mut String, flags: &[String], program: &str) {
        let line: Vec<String> =
            std::iter::once(program).chain(flags.iter().map(String::as_str)).map(quoted).collect();
        text.push_str(
            "\n[Unit]\nDescription=nodeprobe: node, container and eBPF metrics for Prometheus\n\
             After=network.target local-fs.target\n\n[Service]\n\
             # It says when it serves, how it fares, and twice in this time that its loop still turns.\n\
             Type=notify\nWatchdogSec=60\n",
        );
        if !self.config.is_listen_given {
            text.push_str(
                "# Whoever scrapes is elsewhere. There is no authentication: keep it behind a firewall, or set another address in\n\
                 # the file below. A socket that systemd passes (nodeprobe.socket) takes its place.\n\
                 Environment=NODEPROBE_LISTEN=0.0.0.0:9435\n",
            );
        }
        if self.runs("logs") {
            match &self.config.logs.state_dir {
                None => {
                    let _ = write!(
                        text,
                        "# Positions in logs and their patterns, from one start to the next.\nStateDirectory=nodeprobe\n\
                         Environment=NODEPROBE_STATE_DIR={STATE}\n"
                    );
                }
                Some(directory) => {
                    let directory = directory.display().to_string();
                    let name = directory.strip_prefix("/var/lib/").filter(|name| is_plain(name));
                    text.push_str("# Positions in logs and their patterns, from one start to the next.\n");
                    let _ = match name {
                        Some(name) => writeln!(text, "StateDirectory={name}"),
                        None => {
                            text.push_str("# This directory must be there before the start.\n");
                            writeln!(text, "ReadWritePaths={}", quoted(&directory))
                        }
                    };
                }
            }
        }
        let _ = write!(
            text,
            "# Every flag has a variable, NODEPROBE_LISTEN for --listen; what stands here wins over what stands above.\n\
             EnvironmentFile=-/etc/default/nodeprobe\nExecStart={}\n\
             # Reads eBPF configs and rules for containers again.\nExecReload=/bin/kill -HUP $MAINPID\n\
             Restart=always\nRestartSec=5\n\n\
             # BPF programs hold many descriptors, and kernels before 5.11 charge BPF maps to the locked-memory limit.\n\
             LimitNOFILE=65536\nLimitMEMLOCK=infinity\n\
             # A ceiling for the worst case. BPF maps count too from kernel 5.11 on, so leave room for them.\n\
             #MemoryMax=256M\n#CPUQuota=50%\n",
            line.join(" ")
        );
    }

    /// Root, with what is needed.
    fn capabilities(&self, text: &mut String) {
        text.push_str("\n# Root, with these rights and no others:\n");
        for (capability, uses) in &self.needs {
            let _ = write!(text, "# {}", capability.name().to_uppercase());
            let mut last = "";
            for (collector, purpose) in uses {
                let purpose = if *purpose == last || *purpose == "the same" { "" } else { purpose };
                let _ = match purpose {
                    "" => write!(text, "\n#   {collector}"),
                    _ => write!(text, "\n#   {collector}: {purpose}"),
                };
                last = purpose;
            }
            text.push('\n');
        }
        if self.needs(Capability::Bpf) && !self.needs(Capability::SysAdmin) {
            text.push_str("# Before Linux 5.8 there is no CAP_BPF and no CAP_PERFMON: CAP_SYS_ADMIN takes their place.\n");
        }
        let names: Vec<String> =
            self.needs.iter().map(|(capability, _)| capability.name().to_uppercase()).collect();
        let _ = write!(text, "CapabilityBoundingSet={}\nNoNewPrivileges=yes\n", names.join(" "));
    }

    /// What of the file system it sees.
    fn files(&self, text: &mut String) {
        text.push_str(
            "\n# Nothing is written but the state directory, and nothing executed.\nProtectSystem=strict\n",
        );
        let looks_at_homes = self.runs("containers") || self.runs("logs");
        if looks_at_homes || self.names_below(&["/home", "/root", "/run/user"]) {
            text.push_str(
                "# Users' own containers have their metadata and logs below /home.\nProtectHome=read-only\n",
            );
        } else {
            text.push_str("ProtectHome=yes\n");
        }
        if self.names_below(&["/tmp", "/var/tmp"]) {
            text.push_str("# A flag names a file there.\nPrivateTmp=no\n");
        } else {
            text.push_str("# Nothing is looked for in /tmp, unless a flag says so.\nPrivateTmp=yes\n");
        }
        text.push_str(
            "# Disks are read about in /proc and /sys, not in /dev.\nPrivateDevices=yes\n\
             # Cgroups are read; nothing is written there.\nProtectControlGroups=yes\nPrivateMounts=yes\nUMask=0077\n",
        );
    }

    /// What of the kernel it may use.
    fn kernel(&self, text: &mut String) {
        let has_bpf = self.needs(Capability::Bpf);
        text.push_str("\n# ProtectProc=, ProcSubset= and PrivatePIDs= would hide what is measured, PrivateNetwork= the network.\n");
        if self.runs("programs") || self.config.enable_delayacct {
            text.push_str(
                "# ProtectKernelTunables= would hide /proc/kallsyms, where decoders find names, and make tracefs read-only, where\n\
                 # old kernels want probes registered, and kernel.task_delayacct, which --enable-delayacct sets.\n",
            );
        } else {
            text.push_str("ProtectKernelTunables=yes\n");
        }
        if has_bpf {
            text.push_str(
                "# ProtectKernelModules= would hide /lib/modules: some kernels keep their types there, and the list of what is\n\
                 # built in. No module can be loaded all the same: neither the capability nor the system calls are allowed.\n",
            );
        } else {
            text.push_str("ProtectKernelModules=yes\n");
        }
        if self.needs(Capability::Syslog) {
            text.push_str("# ProtectKernelLogs= would take CAP_SYSLOG away.\n");
        } else {
            text.push_str("ProtectKernelLogs=yes\n");
        }
        text.push_str(
            "ProtectHostname=yes\nProtectClock=yes\nLockPersonality=yes\nMemoryDenyWriteExecute=yes\n",
        );
        text.push_str("RestrictRealtime=yes\nRestrictSUIDSGID=yes\nKeyringMode=private\n");
        if self.needs(Capability::SysAdmin) {
            text.push_str("# Network namespaces of containers are entered.\nRestrictNamespaces=net\n");
        } else {
            text.push_str("RestrictNamespaces=yes\n");
        }
        text.push_str(
            "# Scrapes and clouds' metadata by IP; the kernel's answers by netlink; systemd by a local socket.\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\nSystemCallArchitectures=native\n",
        );
        let extra = if has_bpf { " bpf perf_event_open" } else { "" };
        let _ = write!(
            text,
            "SystemCallFilter=@system-service{extra}\nSystemCallFilter=~@chown @keyring @resources\n\
             SystemCallErrorNumber=EPERM\n"
        );
    }
}

/// A port below 1024.
fn is_privileged_port(listen: &str) -> bool {
    let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.is_some_and(|port| (1..1024).contains(&port))
}

/// A directory's name without surprises for systemd.
fn is_plain(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !name.is_empty()
        && name.chars().all(is_fit)
        && !name.split('/').any(|part| part.is_empty() || part == "..")
}

/// A word of a command line (systemd.service(5), COMMAND LINES).
fn quoted(word: &str) -> String {
    let mut text = String::new();
    for c in word.chars() {
        match c {
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            _ => text.push(c),
        }
    }
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%$*[]".contains(c);
    if !word.is_empty() && word.chars().all(is_safe) { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn of(arguments: &[&str]) -> String {
        let words: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let config = args::parse([&["nodeprobe"], arguments].concat(), |_| None).unwrap();
        unit(&config, &words, PROGRAM)
    }

    fn value<'a>(unit: &'a str, key: &str) -> Option<&'a str> {
        unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    #[test]
    fn the_command_is_taken_off() {
        let is_run = |rest: &[String]| {
            let words = ["nodeprobe".to_owned()].into_iter().chain(rest.iter().cloned());
            args::parse(words, |_| None).is_ok_and(|config| config.command == args::Command::Run)
        };
        for (given, rest) in [
            ("unit", ""),
            ("unit --debug", "--debug"),
            ("--provider unit unit --debug", "--provider unit --debug"),
            ("--provider unit --debug unit", "--provider unit --debug"),
        ] {
            let words = given.split(' ').map(str::to_owned).collect();
            assert_eq!(without_command(words, is_run).join(" "), rest, "{given}");
        }
    }

    #[test]
    fn capabilities_are_those_of_the_collectors_that_run() {
        let off: Vec<String> =
            COLLECTORS.iter().map(|spec| format!("--collector.{}=off", spec.name)).collect();
        let capabilities = |on: &[&str]| {
            let mut arguments: Vec<&str> = off.iter().map(String::as_str).collect();
            arguments.extend(on);
            value(&of(&arguments), "CapabilityBoundingSet").unwrap().to_owned()
        };
        assert_eq!(capabilities(&[]), "");
        for spec in COLLECTORS {
            let shown = capabilities(&[&format!("--collector.{}=auto", spec.name)]);
            let wanted = spec.needs.iter().filter(|need| need.capability != Capability::NetRaw);
            let mut wanted: Vec<Capability> = wanted.map(|need| need.capability).collect();
            wanted.sort();
            let wanted: Vec<String> = wanted.into_iter().map(|need| need.name().to_uppercase()).collect();
            assert_eq!(shown, wanted.join(" "), "{}", spec.name);
        }
        assert_eq!(capabilities(&["--listen=:80"]), "CAP_NET_BIND_SERVICE");
        assert!(capabilities(&["--collector.tcp=auto", "--ping-upstreams"]).contains("CAP_NET_RAW"));
        assert_eq!(capabilities(&["--ping-upstreams"]), "");
    }

    #[test]
    fn the_sandbox_leaves_what_the_flags_name() {
        let unit = of(&[]);
        assert_eq!(value(&unit, "ExecStart"), Some(PROGRAM));
        assert_eq!(value(&unit, "PrivateTmp"), Some("yes"));
        assert_eq!(value(&unit, "ProtectKernelTunables"), None);
        let unit = of(&["--config.dir=/tmp/x", "--log-file=/srv/100% $x/*.log", "--state-dir=/srv/a b"]);
        assert_eq!(value(&unit, "PrivateTmp"), Some("no"));
        assert_eq!(value(&unit, "ReadWritePaths"), Some("\"/srv/a b\""));
        assert_eq!(value(&unit, "StateDirectory"), None);
        let line = "/usr/local/bin/nodeprobe --config.dir=/tmp/x \"--log-file=/srv/100%% $$x/*.log\" \"--state-dir=/srv/a b\"";
        assert_eq!(value(&unit, "ExecStart"), Some(line));
        let unit = of(&["--state-dir=/var/lib/np/x", "--listen=127.0.0.1:1"]);
        assert_eq!(value(&unit, "StateDirectory"), Some("np/x"));
        assert!(!unit.contains("Environment=NODEPROBE_"), "{unit}");
        let off = ["tcp", "programs", "delays", "containers", "oom", "processes", "logs"];
        let off: Vec<String> = off.iter().map(|name| format!("--collector.{name}=off")).collect();
        let unit = of(&off.iter().map(String::as_str).collect::<Vec<_>>());
        for key in ["ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs"] {
            assert_eq!(value(&unit, key), Some("yes"), "{key}");
        }
        assert_eq!(value(&unit, "RestrictNamespaces"), Some("yes"));
        assert!(!unit.contains("perf_event_open"), "{unit}");
    }

    /// systemd would read the rest of a line as settings.
    #[test]
    fn no_flag_becomes_a_setting() {
        let unit =
            of(&["--provider=x\nUser=nobody", "--region", "\"\\", "--log-file=/a\nExecStart=/bin/false"]);
        assert!(
            !unit.lines().any(|line| line.starts_with("User=") || line.starts_with("ExecStart=/bin/")),
            "{unit}"
        );
    }
}
