//! Pure encoding and decoding of the netlink messages nodeprobe exchanges with the kernel.
//!
//! No sockets here: requests are written into a caller's buffer, replies are read from one. Like
//! the parsers of [`crate::procfs`], nothing panics on any input, and lengths in a message are
//! checked against the bytes that are really there.

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

pub mod address;
pub mod attribute;
pub mod conntrack;
pub mod generic;
pub mod link;
pub mod message;
pub mod proc_events;
pub mod request;
pub mod socket_diag;
pub mod taskstats;
