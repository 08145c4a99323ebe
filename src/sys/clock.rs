//! Clocks, read through the project's own libc, whose `time_t` is what the C side has.

/// A point on the monotonic clock, in nanoseconds.
pub type MonotonicNs = u64;

/// A point on the wall clock, in nanoseconds since 1970. Somebody may set that clock.
pub type WallNs = u64;

fn read(clock: libc::clockid_t) -> u64 {
    // SAFETY: all zeros are a valid value of these numbers, which have padding between them on armv7.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: a valid pointer to a timespec; the clock ids used here exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Now on CLOCK_MONOTONIC.
pub fn monotonic_ns() -> MonotonicNs {
    read(libc::CLOCK_MONOTONIC)
}

/// Now on CLOCK_REALTIME, which the kernel's times of packets are of.
pub fn wall_ns() -> WallNs {
    read(libc::CLOCK_REALTIME)
}

/// Seconds since 1970, of the wall clock.
pub fn wall_s() -> u64 {
    read(libc::CLOCK_REALTIME) / 1_000_000_000
}

/// CPU time this process has used, user and system, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Clock ticks per second in /proc files (USER_HZ).
pub fn ticks_per_second() -> f64 {
    // SAFETY: sysconf takes no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}
