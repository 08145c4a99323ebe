//! Pure parsers of the files in cgroup directories, v2 and v1: bytes in, plain values out.
//!
//! The same rules hold as in [`crate::procfs`]: no panic, no file access, bounded output, `None`
//! for what the kernel did not give, and no use of a last line that was cut (files of a single
//! value may come without their newline). They run for
//! thousands of cgroups per scrape, so nothing here allocates but the caller's own device list.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod blkio;
pub mod cgroup_events;
pub mod cpu_max;
pub mod cpu_stat;
pub mod io_stat;
pub mod memory_events;
pub mod memory_stat;
pub mod number;
