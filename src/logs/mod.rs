//! Logs of the node: where lines come from.

pub mod journal;
