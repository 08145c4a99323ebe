//! The dashboard of containers.

use crate::model::{CONTAINER, Dashboard, NODE, Row, areas, lines, stat, table};

pub const DASHBOARD: Dashboard = Dashboard {
    name: "containers",
    title: "Containers",
    about: "What containers use, wait for and suffer: processors, memory, disks, network, restarts, kills.",
    variables: &[NODE, CONTAINER],
    rows: &[
        Row {
            title: "At a glance",
            panels: &[
                stat("Containers", 4, &[("", "count(container_resources_cpu_usage_seconds_total)")]),
                stat("Restarts", 4, &[("", "sum(increase(container_restarts_total[$__range]))")]).limits(1.0, 10.0),
                stat("Killed for want of memory", 4, &[("", "sum(increase(container_oom_kills_total[$__range]))")])
                    .limits(1.0, 5.0),
                stat("CPU in use", 4, &[(
                    "",
                    "sum(rate(container_resources_cpu_usage_seconds_total[$__rate_interval]))",
                )])
                .unit("suffix: cores"),
                stat("Working sets", 4, &[("", "sum(container_resources_memory_working_set_bytes)")]),
                stat("Processes", 4, &[("", "sum(container_processes)")]),
                table("Containers", 24, &[
                    (
                        "CPU",
                        "sum by (instance, container_id) (rate(container_resources_cpu_usage_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "Throttled",
                        "sum by (instance, container_id) (rate(container_resources_cpu_throttled_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "Working set",
                        "sum by (instance, container_id) (container_resources_memory_working_set_bytes)",
                    ),
                    (
                        "Of its limit",
                        "sum by (instance, container_id) (container_resources_memory_working_set_bytes) \
                         / sum by (instance, container_id) (container_resources_memory_limit_bytes)",
                    ),
                    (
                        "Received",
                        "sum by (instance, container_id) (rate(container_net_received_bytes_total[$__rate_interval]))",
                    ),
                    (
                        "Transmitted",
                        "sum by (instance, container_id) (rate(container_net_transmitted_bytes_total[$__rate_interval]))",
                    ),
                    ("Restarts", "sum by (instance, container_id) (increase(container_restarts_total[$__range]))"),
                    ("OOM kills", "sum by (instance, container_id) (increase(container_oom_kills_total[$__range]))"),
                    ("Processes", "sum by (instance, container_id) (container_processes)"),
                ])
                .note("CPU: 100 % is one processor. Restarts and kills: in the time on the screen."),
                table("Images and services", 12, &[(
                    "Info",
                    "max by (instance, container_id, image, systemd_type, systemd_triggered_by) (container_info)",
                )]),
                table("Applications", 12, &[(
                    "Is one",
                    "max by (instance, container_id, application_type) (container_application_type)",
                )]),
            ],
        },
        Row {
            title: "Processors",
            panels: &[
                areas("CPU", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_resources_cpu_usage_seconds_total[$__rate_interval]))",
                )])
                .unit("suffix: cores"),
                lines("CPU of its limit", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_resources_cpu_usage_seconds_total[$__rate_interval])) \
                     / sum by (container_id) (container_resources_cpu_limit_cores)",
                )])
                .unit("percentunit")
                .limits(0.8, 0.95),
                lines("Throttled", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_resources_cpu_throttled_seconds_total[$__rate_interval]))",
                )])
                .limits(0.1, 0.5),
                lines("Waiting for a processor, all threads", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_resources_cpu_delay_seconds_total[$__rate_interval]))",
                )]),
                lines("CPU pressure", 8, &[(
                    "{{container_id}} {{kind}}",
                    "sum by (container_id, kind) (rate(container_resources_cpu_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.3, 0.6),
            ],
        },
        Row {
            title: "Memory",
            panels: &[
                areas("Working set", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (container_resources_memory_working_set_bytes)",
                )]),
                lines("Of its limit", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (container_resources_memory_working_set_bytes) \
                     / sum by (container_id) (container_resources_memory_limit_bytes)",
                )])
                .limits(0.8, 0.9),
                lines("Resident, page cache, swap", 8, &[
                    ("{{container_id}} resident", "sum by (container_id) (container_resources_memory_rss_bytes)"),
                    ("{{container_id}} page cache", "sum by (container_id) (container_resources_memory_cache_bytes)"),
                    ("{{container_id}} swap", "sum by (container_id) (container_resources_memory_swap_bytes)"),
                ]),
                lines("Killed for want of memory", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (increase(container_oom_kills_total[$__rate_interval]))",
                )]),
                lines("Memory pressure", 8, &[(
                    "{{container_id}} {{kind}}",
                    "sum by (container_id, kind) (rate(container_resources_memory_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.05, 0.2),
                lines("Waiting for memory, all threads", 8, &[
                    (
                        "{{container_id}} swap",
                        "sum by (container_id) (rate(container_resources_swapin_delay_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} reclaim",
                        "sum by (container_id) (rate(container_resources_reclaim_delay_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} thrashing",
                        "sum by (container_id) (rate(container_resources_thrashing_delay_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} compaction",
                        "sum by (container_id) (rate(container_resources_compact_delay_seconds_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} copies",
                        "sum by (container_id) (rate(container_resources_wpcopy_delay_seconds_total[$__rate_interval]))",
                    ),
                ])
                .note("Where the kernel accounts for delays: `kernel.task_delayacct=1` or `--enable-delayacct`."),
            ],
        },
        Row {
            title: "Disks",
            panels: &[
                lines("Space in use", 12, &[(
                    "{{container_id}} {{mount_point}}",
                    "max by (container_id, mount_point) (container_resources_disk_used_bytes) \
                     / max by (container_id, mount_point) (container_resources_disk_size_bytes)",
                )])
                .limits(0.8, 0.9),
                table("File systems", 12, &[
                    (
                        "Used",
                        "max by (container_id, mount_point, device) (container_resources_disk_used_bytes)",
                    ),
                    (
                        "Size",
                        "max by (container_id, mount_point, device) (container_resources_disk_size_bytes)",
                    ),
                    (
                        "Reserved",
                        "max by (container_id, mount_point, device) (container_resources_disk_reserved_bytes)",
                    ),
                ]),
                lines("Throughput", 8, &[
                    (
                        "{{container_id}} {{device}} read",
                        "sum by (container_id, device) (rate(container_resources_disk_read_bytes_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} {{device}} written",
                        "sum by (container_id, device) (rate(container_resources_disk_written_bytes_total[$__rate_interval]))",
                    ),
                ]),
                lines("Operations", 8, &[
                    (
                        "{{container_id}} {{device}} reads",
                        "sum by (container_id, device) (rate(container_resources_disk_reads_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} {{device}} writes",
                        "sum by (container_id, device) (rate(container_resources_disk_writes_total[$__rate_interval]))",
                    ),
                ]),
                lines("I/O pressure", 8, &[(
                    "{{container_id}} {{kind}}",
                    "sum by (container_id, kind) (rate(container_resources_io_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.2, 0.5),
                lines("Waiting for disks, all threads", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_resources_disk_delay_seconds_total[$__rate_interval]))",
                )])
                .note("Where the kernel accounts for delays: `kernel.task_delayacct=1` or `--enable-delayacct`."),
            ],
        },
        Row {
            title: "Network",
            panels: &[
                lines("Traffic", 8, &[
                    (
                        "{{container_id}} received",
                        "sum by (container_id) (rate(container_net_received_bytes_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} transmitted",
                        "sum by (container_id) (rate(container_net_transmitted_bytes_total[$__rate_interval]))",
                    ),
                ]),
                lines("Packets", 8, &[
                    (
                        "{{container_id}} received",
                        "sum by (container_id) (rate(container_net_received_packets_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} transmitted",
                        "sum by (container_id) (rate(container_net_transmitted_packets_total[$__rate_interval]))",
                    ),
                ]),
                lines("Drops and errors", 8, &[
                    (
                        "{{container_id}} received, dropped",
                        "sum by (container_id) (rate(container_net_received_drops_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} transmitted, dropped",
                        "sum by (container_id) (rate(container_net_transmitted_drops_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} received, errors",
                        "sum by (container_id) (rate(container_net_received_errors_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} transmitted, errors",
                        "sum by (container_id) (rate(container_net_transmitted_errors_total[$__rate_interval]))",
                    ),
                ]),
            ],
        },
        Row {
            title: "Processes",
            panels: &[
                lines("Restarts", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (increase(container_restarts_total[$__rate_interval]))",
                )]),
                lines("Living processes", 8, &[("{{container_id}}", "sum by (container_id) (container_processes)")]),
                lines("Of the limit of processes and threads", 8, &[(
                    "{{container_id}}",
                    "sum by (container_id) (container_resources_pids) \
                     / sum by (container_id) (container_resources_pids_limit)",
                )])
                .limits(0.8, 0.9),
                lines("Started and ended", 12, &[
                    (
                        "{{container_id}} started",
                        "sum by (container_id) (rate(container_processes_started_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} ended",
                        "sum by (container_id) (rate(container_processes_exited_total[$__rate_interval]))",
                    ),
                ]),
                lines("Programs executed", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_process_execs_total[$__rate_interval]))",
                )]),
            ],
        },
    ],
};
