//! Users' eBPF programs: `NAME.bpf.o` with a `NAME.yaml` that says how its maps become metrics.

pub mod builtin;
pub mod config;
mod fields;
pub mod parse;
pub mod scalar;
pub mod schema;
pub mod yaml;
