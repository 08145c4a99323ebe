//! Users' eBPF programs: `NAME.bpf.o` with a `NAME.yaml` that says how its maps become metrics.

pub mod attach;
mod btf;
pub mod builtin;
pub mod cgroup_ids;
pub mod check;
pub mod config;
pub mod elf;
pub mod events;
pub(crate) mod fields;
pub mod histogram;
pub mod keys;
pub mod parse;
pub mod program;
pub mod rows;
pub mod running;
pub mod scalar;
pub mod schema;
pub mod set;
pub mod sources;
pub mod table;
pub mod yaml;

/// What the names of all metrics of configs begin with, whatever the config says.
pub const METRIC_PREFIX: &str = "ebpf_exporter_";

/// Families of [`METRIC_PREFIX`] that are about the programs themselves.
pub const RESERVED_NAMES: &[&str] = &[
    "ebpf_exporter_build_info",
    "ebpf_exporter_decoder_errors_total",
    "ebpf_exporter_ebpf_program_attached",
    "ebpf_exporter_ebpf_program_info",
    "ebpf_exporter_ebpf_program_run_count_total",
    "ebpf_exporter_ebpf_program_run_time_seconds",
    "ebpf_exporter_enabled_configs",
];
