//! Logs of containers: from files to what is counted.

pub mod tail;
