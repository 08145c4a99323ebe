//! The dashboard of eBPF programs: how they are, and what some of those that come along count.

use crate::model::{Dashboard, NODE, Row, Variable, heatmap, lines, stat, table};

/// Configs of programs.
const CONFIG: Variable =
    Variable { name: "config", title: "Config", label: "config", of: "nodeprobe_config_problems" };

/// What [`DASHBOARD`] shows, as `--programs` takes it.
pub const SHOWN: &str = "biolatency,runqlat,softirq-latency,accept-latency,syscalls,exec,page-faults,cachestat,oomkill,\
    tcp-retransmit,kfree_skb,timers,bpf-jit,cgroup";

pub const DASHBOARD: Dashboard = Dashboard {
    name: "programs",
    title: "eBPF programs",
    about: "eBPF programs of --config.dir and --programs: whether they work, and what those that come along count.",
    variables: &[NODE, CONFIG],
    rows: &[
        Row {
            title: "Whether they work",
            panels: &[
                stat("Configs", 4, &[("", "count(ebpf_exporter_enabled_configs)")]),
                stat("Programs attached", 4, &[("", "sum(ebpf_exporter_ebpf_program_attached)")]),
                stat("Problems", 4, &[("", "sum(nodeprobe_config_problems)")]).limits(1.0, 1.0),
                stat("Last reload worked", 4, &[("", "min(nodeprobe_config_last_reload_success)")]).state(),
                stat("Decoder errors", 4, &[(
                    "",
                    "sum(rate(ebpf_exporter_decoder_errors_total[$__rate_interval]))",
                )])
                .limits(0.01, 1.0),
                stat("Kernel memory of maps", 4, &[("", "sum(nodeprobe_bpf_map_memory_bytes)")]),
                table("Configs", 12, &[
                    ("Problems", "sum by (instance, config) (nodeprobe_config_problems)"),
                    ("Decoder errors", "sum by (instance, config) (increase(ebpf_exporter_decoder_errors_total[$__range]))"),
                    ("Keys out of range", "sum by (instance, config) (nodeprobe_bucket_keys_out_of_range)"),
                ])
                .limits(1.0, 1.0),
                table("Programs", 12, &[(
                    "Attached",
                    "max by (instance, config, program, id) (ebpf_exporter_ebpf_program_info \
                     * on (instance, id) group_left () ebpf_exporter_ebpf_program_attached)",
                )])
                .state(),
                lines("Time in programs", 12, &[(
                    "{{config}} {{program}}",
                    "sum by (config, program) (ebpf_exporter_ebpf_program_info * on (instance, id) group_left () \
                     rate(ebpf_exporter_ebpf_program_run_time_seconds[$__rate_interval]))",
                )])
                .unit("percentunit")
                .note("Where the kernel counts it: `sysctl kernel.bpf_stats_enabled=1`. 100 % is one processor."),
                lines("Runs of programs", 12, &[(
                    "{{config}} {{program}}",
                    "sum by (config, program) (ebpf_exporter_ebpf_program_info * on (instance, id) group_left () \
                     rate(ebpf_exporter_ebpf_program_run_count_total[$__rate_interval]))",
                )])
                .unit("cps")
                .note("Where the kernel counts them: `sysctl kernel.bpf_stats_enabled=1`."),
                lines("Perf events lost", 12, &[(
                    "{{config}} {{metric}}",
                    "sum by (config, metric) (rate(nodeprobe_perf_events_lost_total[$__rate_interval]))",
                )]),
            ],
        },
        Row {
            title: "Disks: --programs=biolatency",
            panels: &[
                heatmap("Time of block requests", 12, &[(
                    "{{le}}",
                    "sum by (le) (increase(ebpf_exporter_bio_latency_seconds_bucket[$__rate_interval]))",
                )])
                .unit("s"),
                lines("Time of block requests", 12, &[
                    (
                        "{{device}} {{operation}} 50 %",
                        "histogram_quantile(0.5, sum by (device, operation, le) \
                         (rate(ebpf_exporter_bio_latency_seconds_bucket[$__rate_interval])))",
                    ),
                    (
                        "{{device}} {{operation}} 99 %",
                        "histogram_quantile(0.99, sum by (device, operation, le) \
                         (rate(ebpf_exporter_bio_latency_seconds_bucket[$__rate_interval])))",
                    ),
                ]),
            ],
        },
        Row {
            title: "Processors: --programs=runqlat,softirq-latency,timers,cgroup",
            panels: &[
                heatmap("Waiting for a processor", 12, &[(
                    "{{le}}",
                    "sum by (le) (increase(ebpf_exporter_run_queue_latency_seconds_bucket[$__rate_interval]))",
                )])
                .unit("s"),
                lines("Waiting for a processor", 12, &[
                    (
                        "{{instance}} 50 %",
                        "histogram_quantile(0.5, sum by (instance, le) \
                         (rate(ebpf_exporter_run_queue_latency_seconds_bucket[$__rate_interval])))",
                    ),
                    (
                        "{{instance}} 99 %",
                        "histogram_quantile(0.99, sum by (instance, le) \
                         (rate(ebpf_exporter_run_queue_latency_seconds_bucket[$__rate_interval])))",
                    ),
                ]),
                lines("Softirqs waiting, 99 %", 8, &[(
                    "{{kind}}",
                    "histogram_quantile(0.99, sum by (kind, le) \
                     (rate(ebpf_exporter_softirq_wait_seconds_bucket[$__rate_interval])))",
                )]),
                lines("Timers started", 8, &[(
                    "{{function}}",
                    "topk(10, sum by (function) (rate(ebpf_exporter_timer_starts_total[$__rate_interval])))",
                )]),
                lines("Threads moved to another processor", 8, &[(
                    "{{cgroup}}",
                    "topk(10, sum by (cgroup) (rate(ebpf_exporter_sched_migrations_total[$__rate_interval])))",
                )]),
            ],
        },
        Row {
            title: "Programs and system calls: --programs=exec,syscalls",
            panels: &[
                lines("Programs started", 8, &[(
                    "{{cgroup}}",
                    "topk(10, sum by (cgroup) (rate(ebpf_exporter_execs_total[$__rate_interval])))",
                )]),
                lines("System calls", 8, &[(
                    "{{syscall}}",
                    "topk(10, sum by (syscall) (rate(ebpf_exporter_syscalls_total[$__rate_interval])))",
                )]),
                lines("System calls that failed", 8, &[(
                    "{{syscall}} {{errno}}",
                    "topk(10, sum by (syscall, errno) (rate(ebpf_exporter_syscall_errors_total[$__rate_interval])))",
                )]),
            ],
        },
        Row {
            title: "Memory: --programs=page-faults,cachestat,oomkill,bpf-jit",
            panels: &[
                lines("Page faults", 8, &[(
                    "{{cgroup}} {{kind}}",
                    "topk(10, sum by (cgroup, kind) (rate(ebpf_exporter_page_faults_total[$__rate_interval])))",
                )]),
                lines("Page cache", 8, &[(
                    "{{operation}}",
                    "sum by (operation) (rate(ebpf_exporter_page_cache_operations_total[$__rate_interval]))",
                )]),
                lines("Killed for want of memory", 8, &[(
                    "{{cgroup}}",
                    "sum by (cgroup) (increase(ebpf_exporter_oom_kills_total[$__rate_interval]))",
                )]),
                lines("Compiled BPF programs", 8, &[(
                    "{{instance}}",
                    "sum by (instance) (ebpf_exporter_bpf_jit_bytes)",
                )]),
            ],
        },
        Row {
            title: "Network: --programs=accept-latency,tcp-retransmit,kfree_skb",
            panels: &[
                lines("Waiting to be accepted, 99 %", 8, &[(
                    "port {{port}}",
                    "histogram_quantile(0.99, sum by (port, le) \
                     (rate(ebpf_exporter_accept_latency_seconds_bucket[$__rate_interval])))",
                )]),
                lines("TCP segments sent again", 8, &[(
                    "{{address}} {{remote_port}}",
                    "topk(10, sum by (address, remote_port) (rate(ebpf_exporter_tcp_retransmits_total[$__rate_interval])))",
                )]),
                lines("Packets dropped", 8, &[(
                    "{{reason}} in {{function}}",
                    "topk(10, sum by (reason, function) (rate(ebpf_exporter_packet_drops_total[$__rate_interval])))",
                )]),
            ],
        },
    ],
};
