//! `syscall`: names of system calls.
//!
//! The peer prints the names strace has inside for the functions that print a call's arguments. They differ from the kernel's
//! where calls share such a function: `exit_group` is `exit`, `poll` is `poll_time64`. Existing dashboards know them, so
//! they are the default; the kernel's own are a flag away.

use super::words::{Words, room};
use super::{Answer, Asks, Built, Decoder, Gives, Keeps, Names, Options, Spec, Takes, input, syscall_names};
use crate::programs::config;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "syscall",
    about: "the number of a system call to its name as strace sorts them, or with `--syscall-names=kernel` as the kernel calls \
            it; or `unknown_syscall:N`",
    takes: Takes::Decimal,
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build,
};

/// Names of one architecture.
struct Architecture<const N: usize> {
    kernel: Words<N>,
    /// Where strace's names are other ones, by number.
    strace: &'static [(u16, &'static str)],
}

/// Of strace 6.8 on x86_64.
#[cfg(any(test, target_arch = "x86_64"))]
#[rustfmt::skip]
const STRACE_X86_64: &[(u16, &str)] = &[
    (7, "poll_time64"), (17, "pread"), (18, "pwrite"), (35, "nanosleep_time64"), (40, "sendfile64"), (94, "chown"),
    (128, "rt_sigtimedwait_time64"), (148, "sched_rr_get_interval_time64"), (155, "pivotroot"), (156, "sysctl"),
    (159, "adjtimex64"), (189, "setxattr"), (192, "getxattr"), (195, "listxattr"), (198, "removexattr"),
    (202, "futex_time64"), (208, "io_getevents_time64"), (214, "printargs"), (215, "printargs"),
    (220, "semtimedop_time64"), (223, "timer_settime64"), (224, "timer_gettime64"), (227, "clock_settime64"),
    (228, "clock_gettime64"), (229, "clock_getres_time64"), (230, "clock_nanosleep_time64"), (231, "exit"),
    (242, "mq_timedsend_time64"), (243, "mq_timedreceive_time64"), (270, "pselect6_time64"), (271, "ppoll_time64"),
    (280, "utimensat_time64"), (286, "timerfd_settime64"), (287, "timerfd_gettime64"), (299, "recvmmsg_time64"),
    (305, "clock_adjtime64"), (333, "io_pgetevents_time64"),
];

/// Of strace 6.8 on aarch64.
#[cfg(any(test, target_arch = "aarch64"))]
#[rustfmt::skip]
const STRACE_AARCH64: &[(u16, &str)] = &[
    (4, "io_getevents_time64"), (6, "setxattr"), (9, "getxattr"), (12, "listxattr"), (15, "removexattr"),
    (41, "pivotroot"), (67, "pread"), (68, "pwrite"), (71, "sendfile64"), (72, "pselect6_time64"), (73, "ppoll_time64"),
    (79, "newfstatat"), (84, "sync_file_range"), (86, "timerfd_settime64"), (87, "timerfd_gettime64"),
    (88, "utimensat_time64"), (94, "exit"), (98, "futex_time64"), (101, "nanosleep_time64"), (108, "timer_gettime64"),
    (110, "timer_settime64"), (112, "clock_settime64"), (113, "clock_gettime64"), (114, "clock_getres_time64"),
    (115, "clock_nanosleep_time64"), (127, "sched_rr_get_interval_time64"), (137, "rt_sigtimedwait_time64"),
    (171, "adjtimex64"), (182, "mq_timedsend_time64"), (183, "mq_timedreceive_time64"), (192, "semtimedop_time64"),
    (243, "recvmmsg_time64"), (266, "clock_adjtime64"), (292, "io_pgetevents_time64"),
];

#[cfg(any(test, target_arch = "x86_64"))]
static X86_64: Architecture<{ room(syscall_names::X86_64) }> =
    Architecture { kernel: Words::new(syscall_names::X86_64), strace: STRACE_X86_64 };
#[cfg(any(test, target_arch = "aarch64"))]
static AARCH64: Architecture<{ room(syscall_names::AARCH64) }> =
    Architecture { kernel: Words::new(syscall_names::AARCH64), strace: STRACE_AARCH64 };

/// The kernel's names alone: of strace's there is no table.
#[cfg(any(test, target_arch = "arm"))]
static ARM: Architecture<{ room(syscall_names::ARM) }> =
    Architecture { kernel: Words::new(syscall_names::ARM), strace: &[] };

use crate::sys::text::append;
#[cfg(target_arch = "aarch64")]
use AARCH64 as HERE;
#[cfg(target_arch = "arm")]
use ARM as HERE;
#[cfg(target_arch = "x86_64")]
use X86_64 as HERE;
/// No names are known for other architectures.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
static HERE: Architecture<{ room("-") }> = Architecture { kernel: Words::new("-"), strace: &[] };

impl<const N: usize> Architecture<N> {
    fn name(&self, number: u64, options: Options) -> Option<&'static str> {
        let kernel = self.kernel.get(number)?;
        if options.kernel_syscall_names {
            return Some(kernel);
        }
        let at = self.strace.binary_search_by_key(&number, |(number, _)| u64::from(*number));
        Some(at.map_or(kernel, |at| self.strace[at].1))
    }
}

struct Syscall(Options);

fn build(_: &config::Decoder, options: Options) -> Built {
    Ok(Box::new(Syscall(options)))
}

impl Decoder for Syscall {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let number = input::signed(input)?;
        match u64::try_from(number).ok().and_then(|number| HERE.name(number, self.0)) {
            Some(name) => append(out, name.as_bytes()),
            None => append(out, format!("unknown_syscall:{number}").as_bytes()),
        }
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::{Bed, run};

    const STRACE: Options = Options { kernel_syscall_names: false };
    const KERNEL: Options = Options { kernel_syscall_names: true };

    fn count<const N: usize>(architecture: &Architecture<N>) -> usize {
        (0..=461).filter(|number| architecture.name(*number, KERNEL).is_some()).count()
    }

    #[test]
    fn tables_are_as_long_as_the_peers() {
        // The peer is from before uretprobe, 335.
        assert_eq!((count(&X86_64), X86_64.name(335, KERNEL)), (373 + 1, Some("uretprobe")));
        assert_eq!(count(&AARCH64), 317);
    }

    #[test]
    fn names_of_both_kinds() {
        for (number, strace, kernel) in [
            (0, "read", "read"),
            (7, "poll_time64", "poll"),
            (17, "pread", "pread64"),
            (59, "execve", "execve"),
            (60, "exit", "exit"),
            (231, "exit", "exit_group"),
            (257, "openat", "openat"),
            (333, "io_pgetevents_time64", "io_pgetevents"),
            (461, "lsm_list_modules", "lsm_list_modules"),
        ] {
            assert_eq!(
                (X86_64.name(number, STRACE), X86_64.name(number, KERNEL)),
                (Some(strace), Some(kernel))
            );
        }
        for (number, strace, kernel) in [
            (25, "fcntl", "fcntl"),
            (62, "lseek", "lseek"),
            (79, "newfstatat", "newfstatat"),
            (94, "exit", "exit_group"),
            (222, "mmap", "mmap"),
            (435, "clone3", "clone3"),
        ] {
            assert_eq!(
                (AARCH64.name(number, STRACE), AARCH64.name(number, KERNEL)),
                (Some(strace), Some(kernel))
            );
        }
        assert_eq!(AARCH64.name(244, STRACE), None);
        // libc has the numbers of the architecture that is built for, which are those of the kernel.
        for (number, name) in [
            (libc::SYS_read, "read"),
            (libc::SYS_execve, "execve"),
            (libc::SYS_openat, "openat"),
            (libc::SYS_exit_group, "exit_group"),
            (libc::SYS_prlimit64, "prlimit64"),
            (libc::SYS_bpf, "bpf"),
            (libc::SYS_clone3, "clone3"),
        ] {
            assert_eq!(HERE.name(u64::try_from(number).unwrap(), KERNEL), Some(name));
        }
        for (number, name) in [(3, "read"), (4, "write"), (192, "mmap2"), (248, "exit_group"), (386, "bpf")] {
            assert_eq!((ARM.name(number, STRACE), ARM.name(number, KERNEL)), (Some(name), Some(name)));
        }
        for table in [STRACE_X86_64, STRACE_AARCH64] {
            assert!(table.is_sorted_by(|before, after| before.0 < after.0));
        }
        // strace knows no call that the kernel does not have.
        assert!(STRACE_X86_64.iter().all(|(number, _)| X86_64.kernel.get(u64::from(*number)).is_some()));
        assert!(STRACE_AARCH64.iter().all(|(number, _)| AARCH64.kernel.get(u64::from(*number)).is_some()));
    }

    #[test]
    fn numbers_and_others() {
        let mut bed = Bed::new();
        let mut kernel = build(&config::Decoder::default(), KERNEL).unwrap();
        let exit_group = libc::SYS_exit_group.to_string();
        let by_strace = if cfg!(target_arch = "arm") { "exit_group" } else { "exit" };
        assert_eq!(bed.decode(&SPEC, &exit_group).unwrap(), by_strace);
        assert_eq!(run(&mut *kernel, &mut bed.names(), exit_group.as_bytes()).unwrap(), "exit_group");
        assert_eq!(bed.decode(&SPEC, "402").unwrap(), "unknown_syscall:402");
        assert_eq!(bed.decode(&SPEC, "99999").unwrap(), "unknown_syscall:99999");
        assert_eq!(bed.decode(&SPEC, "-1").unwrap(), "unknown_syscall:-1");
        for bad in [&b""[..], b"read", b"\xff\0", b"9223372036854775808"] {
            assert!(bed.decode(&SPEC, bad).unwrap_err().ends_with(" is not a decimal number"));
        }
    }
}
