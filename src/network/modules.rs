//! What may be asked of the kernel without making it load a module, and whether it can do NAT at all.
//!
//! The kernel loads a module for whoever asks for what it lacks: nf_conntrack_netlink for a message to it
//! (net/netfilter/nfnetlink.c, `nfnetlink_rcv_msg`), tcp_diag for a dump of sockets (net/ipv4/inet_diag.c). An agent that
//! watches must not change what it watches, so it looks first. Loaded modules are directories of /sys/module; those that are
//! built in are there only if they have parameters, and are looked up in the list of the kernel's build, else in its symbols.

use std::fs::File;
use std::io::{BufRead, BufReader};

use crate::host::{Host, read_bounded};
use crate::limits;
use crate::procfs::kallsyms;

/// Whether an answer of conntrack can be had, and can matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    /// Connections may be translated, and the kernel can be asked.
    InUse,
    /// Nothing that translates addresses is loaded.
    Idle,
    /// The kernel cannot be asked: there is no connection tracking.
    NotLoaded,
    /// The kernel cannot be asked: connection tracking is there, its netlink part is not.
    NoNetlink,
}

impl Conntrack {
    /// Why, in a word for a label.
    pub fn word(self) -> &'static str {
        match self {
            Conntrack::InUse => "in_use",
            Conntrack::Idle => "no_nat",
            Conntrack::NotLoaded => "no_conntrack",
            Conntrack::NoNetlink => "no_conntrack_netlink",
        }
    }

    /// Whether the kernel cannot be asked.
    pub fn is_absent(self) -> bool {
        matches!(self, Conntrack::NotLoaded | Conntrack::NoNetlink)
    }
}

/// A part of the kernel that may be a module, or built in without a trace in /sys/module: its name, and a function of it.
struct Part {
    name: &'static str,
    function: &'static [u8],
}

const CONNTRACK_NETLINK: Part = Part { name: "nf_conntrack_netlink", function: b"ctnetlink_get_conntrack" };
const NAT: Part = Part { name: "nf_nat", function: b"nf_nat_setup_info" };
const TCP_DIAG: Part = Part { name: "tcp_diag", function: b"tcp_diag_dump" };

/// What is built into the kernel; it does not change.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    /// The kernel has modules; without them it can load none, and what it has is built in.
    modular: bool,
    /// Names of the parts that are built in.
    names: Vec<&'static str>,
}

impl BuiltIn {
    /// Looks: a file of some tens of KiB, or all of /proc/kallsyms where that is missing, which takes 50 ms or more.
    pub fn read(host: &Host) -> BuiltIn {
        let parts = [CONNTRACK_NETLINK, NAT, TCP_DIAG];
        // CONFIG_MODULES makes it.
        if !host.proc("modules").exists() {
            return BuiltIn { modular: false, names: parts.map(|part| part.name).to_vec() };
        }
        let names = match list(host) {
            Some(list) => {
                parts.iter().filter(|part| is_listed(&list, part.name)).map(|part| part.name).collect()
            }
            None => from_symbols(host, &parts),
        };
        BuiltIn { modular: true, names }
    }

    /// Whether the part is loaded or built in, so that asking for it loads nothing.
    fn has(&self, host: &Host, part: &Part) -> bool {
        self.names.contains(&part.name) || is_loaded(host, part.name)
    }

    /// Whether sockets can be dumped through netlink without a module being loaded for it.
    pub fn has_tcp_diag(&self, host: &Host) -> bool {
        self.has(host, &TCP_DIAG)
    }

    /// Whether conntrack can be asked, and has anything to say, now. Some looks into /sys/module.
    pub fn conntrack(&self, host: &Host) -> Conntrack {
        // Files of /proc/sys/net are those of the reader's network namespace, and those of unprivileged users lack this one; the
        // directory is there for its parameters wherever the code is.
        let tracks =
            host.proc("sys/net/netfilter/nf_conntrack_max").exists() || is_loaded(host, "nf_conntrack");
        if !tracks {
            return Conntrack::NotLoaded;
        }
        if !self.has(host, &CONNTRACK_NETLINK) {
            return Conntrack::NoNetlink;
        }
        // IPVS has parameters: built in or loaded, its directory is there.
        match self.has(host, &NAT) || is_loaded(host, "ip_vs") {
            true => Conntrack::InUse,
            false => Conntrack::Idle,
        }
    }

    /// Whether the kernel has modules at all.
    pub fn is_modular(&self) -> bool {
        self.modular
    }
}

/// [`BuiltIn::conntrack`] for who asks once.
pub fn conntrack_state(host: &Host) -> Conntrack {
    BuiltIn::read(host).conntrack(host)
}

fn is_loaded(host: &Host, name: &str) -> bool {
    host.sys("module").join(name).exists()
}

/// The list of what was built in instead of as a module: `kernel/net/netfilter/nf_nat.ko` and so on.
fn list(host: &Host) -> Option<Vec<u8>> {
    let release = read_bounded(&host.proc("sys/kernel/osrelease"), 256).ok()?;
    let release = std::str::from_utf8(release.trim_ascii()).ok()?;
    // A name that is no single part of a path is none of a kernel.
    if release.is_empty() || release.starts_with('.') || release.contains('/') {
        return None;
    }
    let path = host.rootfs(&format!("/lib/modules/{release}/modules.builtin"));
    read_bounded(&path, limits::KERNEL_FILE_BYTES).ok().filter(|list| !list.is_empty())
}

fn is_listed(list: &[u8], name: &str) -> bool {
    let file =
        |line: &[u8]| line.rsplit(|byte| *byte == b'/').next().is_some_and(|file| is_file_of(file, name));
    list.split(|byte| *byte == b'\n').any(file)
}

/// Whether `file` is `name`.ko; files may have dashes where modules have underscores.
fn is_file_of(file: &[u8], name: &str) -> bool {
    let Some(stem) = file.strip_suffix(b".ko") else { return false };
    let plain = stem.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte });
    plain.eq(name.bytes())
}

/// Those of `parts` whose function is the kernel's own; a module's has the module's name behind it.
fn from_symbols(host: &Host, parts: &[Part]) -> Vec<&'static str> {
    let Ok(file) = File::open(host.proc("kallsyms")) else { return Vec::new() };
    let mut found = Vec::new();
    let mut lines = BufReader::with_capacity(64 * 1024, file);
    let mut line = Vec::new();
    for _ in 0..limits::KERNEL_SYMBOLS {
        line.clear();
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            break;
        }
        let Some(symbol) = kallsyms::parse(line.trim_ascii_end()) else { continue };
        if let Some(part) = parts.iter().find(|part| part.function == symbol.name) {
            found.push(part.name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A host of files, removed when dropped.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Files {
            let root = std::env::temp_dir().join(format!("nodeprobe-modules-{name}-{}", std::process::id()));
            let files_of = Files(root);
            for (path, text) in files {
                let path = files_of.0.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            files_of
        }

        fn host(&self) -> Host {
            Host::new(&self.0, None)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MAX: (&str, &str) = ("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    const MODULAR: (&str, &str) = ("proc/modules", "");
    const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "6.1.0-1-amd64\n");
    const LIST: &str = "lib/modules/6.1.0-1-amd64/modules.builtin";
    const TRACKING: (&str, &str) = ("sys/module/nf_conntrack/initstate", "live\n");
    const NETLINK: (&str, &str) = ("sys/module/nf_conntrack_netlink/initstate", "live\n");

    fn state(name: &str, files: &[(&str, &str)]) -> Conntrack {
        conntrack_state(&Files::new(name, files).host())
    }

    #[test]
    fn modules_are_there_when_loaded() {
        let list = (LIST, "kernel/fs/ext4/ext4.ko\n");
        assert_eq!(state("none", &[MODULAR, RELEASE, list]), Conntrack::NotLoaded);
        assert_eq!(state("no-netlink", &[MODULAR, RELEASE, list, MAX, TRACKING]), Conntrack::NoNetlink);
        let loaded = [MODULAR, RELEASE, list, MAX, TRACKING, NETLINK];
        assert_eq!(state("idle", &loaded), Conntrack::Idle);
        for (at, nat) in ["sys/module/nf_nat/initstate", "sys/module/ip_vs/initstate"].into_iter().enumerate()
        {
            let with_nat: Vec<_> = loaded.into_iter().chain([(nat, "live\n")]).collect();
            assert_eq!(state(&format!("nat-{at}"), &with_nat), Conntrack::InUse);
        }
    }

    #[test]
    fn what_is_built_in_is_listed() {
        let parameters = ("sys/module/nf_conntrack/parameters/hashsize", "65536\n");
        let some =
            (LIST, "kernel/net/netfilter/nf_conntrack.ko\nkernel/net/netfilter/nf-conntrack-netlink.ko\n");
        assert_eq!(state("listed", &[MODULAR, RELEASE, some, MAX, parameters]), Conntrack::Idle);
        let all = (LIST, "kernel/net/netfilter/nf_conntrack_netlink.ko\nkernel/net/netfilter/nf_nat.ko\n");
        assert_eq!(state("listed-nat", &[MODULAR, RELEASE, all, MAX, parameters]), Conntrack::InUse);
        let other = (LIST, "kernel/net/netfilter/nf_nat_ftp.ko\n");
        assert_eq!(state("not-listed", &[MODULAR, RELEASE, other, MAX, parameters]), Conntrack::NoNetlink);
    }

    #[test]
    fn without_the_list_the_symbols_tell() {
        let symbols = |text| [MODULAR, MAX, ("proc/kallsyms", text)];
        let netlink =
            "ffffffff81000000 t ctnetlink_get_conntrack\n0000000000000000 T tcp_diag_dump\t[tcp_diag]\n";
        let files = Files::new("symbols", &symbols(netlink));
        let built_in = BuiltIn::read(&files.host());
        assert_eq!(built_in.conntrack(&files.host()), Conntrack::Idle);
        assert!(built_in.is_modular() && !built_in.has_tcp_diag(&files.host()));
        let both = "0000000000000000 t ctnetlink_get_conntrack\n0000000000000000 T nf_nat_setup_info\n";
        assert_eq!(state("symbols-nat", &symbols(both)), Conntrack::InUse);
        assert_eq!(state("no-symbols", &[MODULAR, MAX]), Conntrack::NoNetlink);
    }

    #[test]
    fn a_kernel_without_modules_loads_none() {
        assert_eq!(state("fixed", &[MAX]), Conntrack::InUse);
        assert_eq!(state("fixed-none", &[]), Conntrack::NotLoaded);
    }
}
