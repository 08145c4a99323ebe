//! Capabilities of this process (capabilities(7)): which it has, and giving them up.

use std::io;

/// Names of capabilities by number (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A capability nodeprobe makes use of, by its number in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the kernel's names")]
pub enum Capability {
    DacReadSearch = 2,
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Syslog = 34,
    Perfmon = 38,
    Bpf = 39,
}

impl Capability {
    /// Its bit in a set.
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// As in capabilities(7), in small letters: `cap_bpf`.
    pub fn name(self) -> String {
        format!("cap_{}", CAPABILITIES[self as usize])
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`; process 0 is this one.
#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`: half of each set, the lower one first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Effective capabilities, a bit each; none when the kernel does not tell.
pub fn effective_capabilities() -> u64 {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: header and both halves are laid out as in linux/capability.h, and the kernel writes no more than two halves for
    // this version.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    let [lower, upper] = halves.map(|half| u64::from(half.effective));
    if result < 0 { 0 } else { lower | upper << 32 }
}

/// The set of the capabilities called `names` (`cap_bpf`, in any case), a bit each.
///
/// # Errors
/// The name that is none.
pub fn capability_set(names: &[String]) -> Result<u64, String> {
    names.iter().try_fold(0, |set, name| {
        let lower = name.trim().to_ascii_lowercase();
        let number =
            lower.strip_prefix("cap_").and_then(|word| CAPABILITIES.iter().position(|known| *known == word));
        number.map(|number| set | 1 << number).ok_or_else(|| format!("{name:?} is not a capability"))
    })
}

/// Gives up all capabilities but those in `kept`: permitted, effective and inheritable (capset(2)).
///
/// # Errors
/// One in `kept` that this process does not have.
pub fn keep_capabilities(kept: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u32| Half { effective: bits, permitted: bits, inheritable: 0 };
    let halves = [half(kept as u32), half((kept >> 32) as u32)];
    // SAFETY: header and both halves are laid out as in linux/capability.h; there are no other threads.
    super::check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) as libc::c_int })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_numbers() {
        let set =
            |names: &[&str]| capability_set(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(set(&["cap_chown", "CAP_BPF"]), Ok(1 | 1 << 39));
        assert_eq!(set(&["cap_syslog"]), Ok(1 << 34));
        assert!(set(&["bpf"]).unwrap_err().contains("bpf"));
    }

    #[test]
    fn names_follow_from_numbers() {
        use Capability::{
            Bpf, DacReadSearch, NetBindService, NetRaw, SysAdmin, SysPtrace, SysResource, Syslog,
        };
        let names = [DacReadSearch, NetBindService, NetRaw, SysPtrace, SysAdmin, SysResource, Syslog, Bpf]
            .map(Capability::name);
        assert_eq!(
            names.join(" "),
            "cap_dac_read_search cap_net_bind_service cap_net_raw cap_sys_ptrace cap_sys_admin cap_sys_resource cap_syslog cap_bpf"
        );
    }

    #[test]
    fn what_this_process_has_is_what_proc_says() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        assert_eq!(effective_capabilities(), u64::from_str_radix(line.trim(), 16).unwrap());
    }
}
