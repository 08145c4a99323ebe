//! Users' eBPF programs: `NAME.bpf.o` with a `NAME.yaml` that says how its maps become metrics.

pub mod config;
pub mod yaml;
