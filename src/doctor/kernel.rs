//! Checks of kernel interfaces that are files, netlink or system calls.

use std::fs::File;
use std::io::{self, Read};

use super::{Context, Outcome};
use crate::error::{Context as _, Error, Reason, Result};
use crate::host::read_bounded;
use crate::limits;
use crate::netlink::message::{self, Message, Outcome as Answer};
use crate::netlink::{generic, taskstats as stats};
use crate::procfs::pressure;
use crate::sys::capabilities::Capability;
use crate::sys::netlink::NetlinkSocket;
use crate::sys::process;

/// The most important first.
const CAPABILITIES: [(Capability, &str); 7] = [
    (Capability::Bpf, "cap_bpf"),
    (Capability::Perfmon, "cap_perfmon"),
    (Capability::SysAdmin, "cap_sys_admin"),
    (Capability::NetAdmin, "cap_net_admin"),
    (Capability::SysPtrace, "cap_sys_ptrace"),
    (Capability::DacReadSearch, "cap_dac_read_search"),
    (Capability::SysResource, "cap_sys_resource"),
];

impl Context {
    pub(super) fn has(&self, capability: Capability) -> bool {
        self.capabilities & capability.bit() != 0
    }

    /// A small file below /proc, without the final newline.
    fn proc_text(&self, relative: &str) -> io::Result<String> {
        let bytes = read_bounded(&self.host.proc(relative), limits::KERNEL_FILE_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

pub(super) fn capabilities(context: &Context) -> Outcome {
    let (held, lacking): (Vec<_>, Vec<_>) =
        CAPABILITIES.iter().partition(|(capability, _)| context.has(*capability));
    let names = |all: &[(Capability, &str)]| {
        let names: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        names.join(" ")
    };
    let detail = match (held.len(), lacking.len()) {
        (_, 0) => return Outcome::ok(format!("all {} that matter", CAPABILITIES.len())),
        (0, _) => format!("none of {}", names(&CAPABILITIES)),
        (_, 1..=4) => format!("lacks {}", names(&lacking)),
        _ => format!("only {}", names(&held)),
    };
    if !context.has(Capability::Bpf) && !context.has(Capability::SysAdmin) {
        return Outcome::missing(detail, "run as root, or grant CAP_BPF CAP_PERFMON");
    }
    // Without this one nothing is lost but higher limits.
    if lacking.iter().all(|(capability, _)| *capability == Capability::SysResource) {
        return Outcome::ok(detail);
    }
    let remedy = if lacking.len() <= 4 { "grant it" } else { "grant the others, or run as root" };
    Outcome::note(detail, remedy)
}

pub(super) fn btf(context: &Context) -> Outcome {
    /// `BTF_MAGIC` (linux/btf.h), in the byte order of the machine.
    const MAGIC: u16 = 0xeb9f;
    const REMEDY: &str = "a kernel with CONFIG_DEBUG_INFO_BTF=y";
    let mut magic = [0; 2];
    let path = context.host.sys("kernel/btf/vmlinux");
    let what = path.display();
    let read = File::open(&path).and_then(|mut file| {
        file.read_exact(&mut magic)?;
        file.metadata()
    });
    match read {
        Ok(file) if u16::from_ne_bytes(magic) == MAGIC => {
            Outcome::ok(format!("{what}, {} KiB", file.len() / 1024))
        }
        Ok(_) => Outcome::missing(format!("{what} is not BTF"), REMEDY),
        Err(error) => Outcome::unreadable(&what.to_string(), &error, REMEDY),
    }
}

pub(super) fn tracefs(context: &Context) -> Outcome {
    const FORMAT: &str = "events/sched/sched_process_exit/format";
    let mut outcome = Outcome::missing("not mounted", "mount -t tracefs nodev /sys/kernel/tracing");
    // Older distributions mount it below debugfs only, which others than root may not enter, mounted or not.
    for mount in ["kernel/debug/tracing", "kernel/tracing"] {
        let mount = context.host.sys(mount);
        match read_bounded(&mount.join(FORMAT), limits::KERNEL_FILE_BYTES) {
            Ok(_) => return Outcome::ok(mount.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => outcome = Outcome::unreadable(&mount.display().to_string(), &error, ""),
        }
    }
    outcome
}

pub(super) fn perf_event_paranoid(context: &Context) -> Outcome {
    let value = match context.proc_text("sys/kernel/perf_event_paranoid") {
        Ok(value) => value,
        Err(error) => {
            let needs = "a kernel with CONFIG_PERF_EVENTS=y";
            return Outcome::unreadable("kernel.perf_event_paranoid", &error, needs);
        }
    };
    // Values above 2 are Debian's and Android's; there CAP_PERFMON is not enough.
    match value.parse() {
        Ok(3i32..) if !context.has(Capability::SysAdmin) => Outcome::note(
            format!("{value}: tracepoint and probes need CAP_SYS_ADMIN"),
            "sysctl kernel.perf_event_paranoid=2",
        ),
        _ => Outcome::ok(value),
    }
}

pub(super) fn lockdown(context: &Context) -> Outcome {
    let path = context.host.sys("kernel/security/lockdown");
    match read_bounded(&path, limits::KERNEL_FILE_BYTES) {
        Ok(levels) => {
            let levels = String::from_utf8_lossy(&levels);
            let level = levels.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
            match level {
                Some("confidentiality") => Outcome::missing(
                    "confidentiality: BPF may not read kernel memory",
                    "boot with lockdown=integrity",
                ),
                Some(level) => Outcome::ok(level),
                None => Outcome::note(format!("{} has no level", path.display()), ""),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // `lsm` is there whichever security modules are on.
            if context.host.sys("kernel/security/lsm").exists() {
                Outcome::ok("not active")
            } else {
                Outcome::note(
                    "cannot tell without securityfs",
                    "mount -t securityfs nodev /sys/kernel/security",
                )
            }
        }
        Err(error) => Outcome::unreadable(&path.display().to_string(), &error, ""),
    }
}

pub(super) fn bpf_stats(context: &Context) -> Outcome {
    match context.proc_text("sys/kernel/bpf_stats_enabled") {
        Ok(value) if value == "0" => {
            Outcome::note("0, run times of BPF programs are not counted", "sysctl kernel.bpf_stats_enabled=1")
        }
        Ok(value) => Outcome::ok(value),
        Err(error) => Outcome::unreadable(
            "kernel.bpf_stats_enabled",
            &error,
            "a kernel with CONFIG_BPF_SYSCALL=y, from 5.1",
        ),
    }
}

pub(super) fn psi(context: &Context) -> Outcome {
    let path = context.host.proc("pressure/cpu");
    let what = path.display().to_string();
    match read_bounded(&path, limits::KERNEL_FILE_BYTES) {
        Ok(text) if pressure::parse(&text).some_us.is_some() => Outcome::ok(what),
        Ok(_) => Outcome::missing(format!("{what} has no total"), "boot with psi=1"),
        // The files exist and cannot be read when it is off by default (psi=0).
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Outcome::missing(format!("{what}: {error}"), "boot with psi=1")
        }
        Err(error) => Outcome::unreadable(&what, &error, "a kernel with CONFIG_PSI=y"),
    }
}

pub(super) fn taskstats(_: &Context) -> Outcome {
    match own_taskstats() {
        Ok(version) => Outcome::ok(format!("the kernel told of this process, record version {version}")),
        Err(error) => {
            let remedy = match error.reason() {
                Reason::NoPermission => "grant CAP_NET_ADMIN in the initial namespaces",
                _ => "a kernel with CONFIG_TASKSTATS=y",
            };
            Outcome::missing(error.to_string(), remedy)
        }
    }
}

/// Asks about this process; gives the version of the record.
fn own_taskstats() -> Result<u16> {
    let socket = NetlinkSocket::open(libc::NETLINK_GENERIC).context("generic netlink")?;
    let mut request = Vec::new();
    generic::request_family(&mut request, 1, stats::FAMILY);
    let family =
        ask(&socket, &request, 1, |message| Some(generic::parse(message)?.id)).context("family TASKSTATS")?;
    stats::request_tgid(&mut request, family, 2, std::process::id());
    ask(&socket, &request, 2, |message| stats::parse(message, family)?.version()).context("query")
}

/// Sends one request and takes what `pick` finds in the answer.
fn ask<T>(
    socket: &NetlinkSocket,
    request: &[u8],
    sequence: u32,
    pick: impl Fn(&Message<'_>) -> Option<T>,
) -> Result<T> {
    socket.send(request)?;
    let mut buffer = vec![0; 16 * 1024];
    let datagram = socket.receive(&mut buffer)?;
    for message in message::parse(datagram).filter(|message| message.sequence == sequence) {
        if let Answer::Failed(errno) = message.outcome() {
            return Err(Error::from_errno(errno));
        }
        if let Some(found) = pick(&message) {
            return Ok(found);
        }
    }
    Err(Error::new(Reason::Failed, "an answer of an unknown kind"))
}

pub(super) fn task_delayacct(context: &Context) -> Outcome {
    match context.proc_text("sys/kernel/task_delayacct") {
        Ok(value) if value == "0" => Outcome::note(
            "0, delays but by CPU stay 0",
            "sysctl kernel.task_delayacct=1, or --enable-delayacct",
        ),
        Ok(value) => Outcome::ok(value),
        // The sysctl came when the default became off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && context.host.is_live() => {
            Outcome::ok("no such sysctl: on, unless booted with nodelayacct")
        }
        Err(error) => {
            Outcome::unreadable("kernel.task_delayacct", &error, "a kernel with CONFIG_TASK_DELAY_ACCT=y")
        }
    }
}

pub(super) fn conntrack(context: &Context) -> Outcome {
    let count = context.proc_text("sys/net/netfilter/nf_conntrack_count");
    match count {
        Ok(count) => {
            let max =
                context.proc_text("sys/net/netfilter/nf_conntrack_max").unwrap_or_else(|_| "?".to_owned());
            Outcome::ok(format!("{count} of {max} entries in our network namespace"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Outcome::note("not loaded", "where NAT is used, modprobe nf_conntrack")
        }
        Err(error) => Outcome::unreadable("net.netfilter.nf_conntrack_count", &error, ""),
    }
}

pub(super) fn open_files(_: &Context) -> Outcome {
    /// Enough for the agent, its clients and a kept file or two for each of some 100 containers.
    const PLENTY: u64 = 1024;
    match process::raise_open_files() {
        limit @ PLENTY.. => Outcome::ok(format!("{limit}, the soft limit raised to the hard one")),
        limit => Outcome::note(
            format!("{limit}, so cgroup files are opened again for every scrape"),
            "LimitNOFILE=8192, or ulimit -Hn 8192",
        ),
    }
}
