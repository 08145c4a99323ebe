//! The ways into the kernel: one tiny BPF program each, loaded and attached on its own and detached again.

use std::fs;

use super::kernel;
use super::{Context, Outcome, State};
use crate::error::{Context as _, Error, Reason, Result};
use crate::host::Host;
use crate::sys::bpf::{Links, Loaded, Object, Ring};
use crate::sys::capabilities::Capability;
use crate::sys::perf;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/doctor.bpf.o.gz"));

/// All programs of `bpf/doctor.bpf.c`: libbpf loads all it is not told to leave out.
const PROGRAMS: &[&str] = &[
    "typed_tracepoint",
    "raw_tracepoint",
    "classic_tracepoint",
    "function_entry",
    "kernel_probe",
    "user_probe",
    "sampler",
    "to_ring",
    "socket_storage",
];
const MAPS: &[&str] = &["ring", "sockets"];

/// Slow enough to cost nothing: the event lives for less than a period.
const SAMPLE_PERIOD_NS: u64 = 100_000_000;

/// A way into the kernel.
pub(super) struct Door {
    program: &'static str,
    map: Option<&'static str>,
    /// What helps one who has CAP_BPF and CAP_PERFMON, but not CAP_SYS_ADMIN.
    refused: &'static str,
    /// What the kernel must have.
    needs: &'static str,
    attach: fn(&Loaded) -> Result<Links>,
}

const POLICY: &str = "allow it in seccomp, lockdown, LSM or host policy";
/// Values above 2, which Debian and Android have, keep perf_event_open(2) from CAP_PERFMON.
const PARANOID: &str = "CAP_SYS_ADMIN or sysctl kernel.perf_event_paranoid=2";

const DOOR: Door = Door { program: "", map: None, refused: POLICY, needs: "", attach: Loaded::attach };

pub(super) const TP_BTF: Door = Door {
    program: "typed_tracepoint",
    needs: "a kernel with CONFIG_DEBUG_INFO_BTF=y, 5.5 or later",
    ..DOOR
};
pub(super) const RAW_TRACEPOINT: Door =
    Door { program: "raw_tracepoint", needs: "a kernel with CONFIG_BPF_EVENTS=y, 4.17 or later", ..DOOR };
pub(super) const TRACEPOINT: Door = Door {
    program: "classic_tracepoint",
    refused: PARANOID,
    needs: "a kernel with CONFIG_EVENT_TRACING=y",
    ..DOOR
};
pub(super) const FENTRY: Door =
    Door { program: "function_entry", needs: "CONFIG_FUNCTION_TRACER=y; on arm64 Linux 6.4", ..DOOR };
pub(super) const KPROBE: Door = Door {
    program: "kernel_probe",
    refused: PARANOID,
    needs: "a kernel with CONFIG_KPROBE_EVENTS=y",
    ..DOOR
};
pub(super) const UPROBE: Door = Door {
    program: "user_probe",
    // CAP_PERFMON was enough until somebody noticed that a probe can split an instruction.
    refused: "grant CAP_SYS_ADMIN",
    needs: "a kernel with CONFIG_UPROBE_EVENTS=y",
    attach: attach_to_ourselves,
    ..DOOR
};
pub(super) const PERF_EVENT: Door = Door {
    program: "sampler",
    refused: PARANOID,
    needs: "a kernel with CONFIG_PERF_EVENTS=y",
    attach: |loaded| {
        let clock = perf::Event::cpu_clock(SAMPLE_PERIOD_NS).open(0).context("perf_event_open")?;
        loaded.attach_to_event("sampler", clock)
    },
    ..DOOR
};
pub(super) const RINGBUF: Door = Door {
    program: "to_ring",
    map: Some("ring"),
    needs: "Linux 5.8 or later",
    attach: |loaded| {
        Ring::open(&loaded.map("ring")?)?;
        loaded.attach()
    },
    ..DOOR
};
pub(super) const SK_STORAGE: Door = Door {
    program: "socket_storage",
    map: Some("sockets"),
    needs: "a kernel with BTF, 5.11 or later",
    ..DOOR
};

/// Goes through a door and back.
pub(super) fn attempt(context: &Context, door: &Door) -> Outcome {
    match pass(door) {
        Ok(()) => Outcome::ok("loads and attaches"),
        Err(error) => {
            // The program's name says nothing that the check's does not.
            let detail = error.to_string().replacen(&format!(" {}:", door.program), ":", 1);
            if door.program == TRACEPOINT.program && detail.starts_with("attach") {
                // libbpf looks up the tracepoint's number there.
                let tracefs = kernel::tracefs(context);
                if tracefs.state != State::Ok {
                    return Outcome::missing(detail, tracefs.remedy);
                }
            }
            Outcome::missing(detail, remedy(context, door, &error))
        }
    }
}

fn pass(door: &Door) -> Result<()> {
    let mut object = Object::open("doctor", OBJECT)?;
    for program in PROGRAMS {
        object.set_enabled(program, *program == door.program)?;
    }
    for map in MAPS {
        object.set_map_enabled(map, door.map == Some(*map))?;
    }
    let loaded = object.load()?;
    (door.attach)(&loaded).map(drop)
}

fn remedy(context: &Context, door: &Door, error: &Error) -> &'static str {
    let admin = context.has(Capability::SysAdmin);
    let tracing = admin || (context.has(Capability::Bpf) && context.has(Capability::Perfmon));
    match error.reason() {
        Reason::NoPermission if !tracing => "grant CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN",
        Reason::NoPermission if !admin => door.refused,
        Reason::NoPermission => POLICY,
        Reason::NoBtf => "a kernel with CONFIG_DEBUG_INFO_BTF=y",
        Reason::ResourceLimit => "raise RLIMIT_MEMLOCK, RLIMIT_NOFILE, memory.max",
        _ => door.needs,
    }
}

/// Nobody calls it: it is an instruction that may become a breakpoint.
#[inline(never)]
extern "C" fn probed() {
    std::hint::black_box(());
}

fn attach_to_ourselves(loaded: &Loaded) -> Result<Links> {
    let maps = fs::read_to_string(Host::own("maps")).context("/proc/self/maps")?;
    let offset = file_offset(&maps, probed as *const () as u64)
        .ok_or_else(|| Error::new(Reason::Failed, "/proc/self/maps does not know our own code"))?;
    loaded.attach_to_file("user_probe", &Host::own("exe"), offset)
}

/// Where in its file the code at `address` is, from the text of /proc/PID/maps.
fn file_offset(maps: &str, address: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        (start..end).contains(&address).then(|| address - start + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_in_its_file() {
        let maps = "00400000-00401000 r--p 00000000 08:01 12 /a b\n\
                    00401000-00500000 r-xp 00001000 08:01 12 /a b\n\
                    7ffd1000-7ffd2000 rw-p 00000000 00:00 0 [stack]\n";
        assert_eq!(file_offset(maps, 0x401234), Some(0x1234));
        assert_eq!(file_offset(maps, 0x500000), None);
        assert_eq!(file_offset("garbage\n-\n1-2\n", 1), None);
    }

    #[test]
    fn every_program_and_map_of_the_object_is_known() {
        // One that is not would be loaded with each of the others.
        let source = include_str!("../../bpf/doctor.bpf.c");
        assert_eq!(source.matches("SEC(\".maps\")").count(), MAPS.len());
        // The license is a section, too.
        let sections = source.matches("SEC(\"").count() - MAPS.len() - 1;
        assert_eq!(sections, PROGRAMS.len());
    }
}
