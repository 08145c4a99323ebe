//! Pure parsers of the text files under `/proc`: bytes in, plain values out.
//!
//! One file of the kernel per module, each with a function called `parse`. None of them opens
//! anything, panics, or returns more than a fixed number of entries. Data the kernel did not give
//! is `None`, never 0. A last line without its newline was cut by a short read and is not used,
//! because the number at its end may be cut too; only files of a single line may come without it.

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

pub mod cgroups;
pub mod disk_name;
pub mod diskstats;
#[cfg(test)]
pub(crate) mod fuzz;
pub mod if_inet6;
pub mod interface;
pub mod kallsyms;
pub mod meminfo;
pub mod mountinfo;
pub mod net_dev;
pub mod net_tcp;
pub mod partitions;
pub mod pid_cgroup;
pub mod pid_stat;
pub mod pressure;
pub mod self_status;
pub mod stat;
pub(crate) mod text;
pub mod trace_format;
pub mod uptime;
