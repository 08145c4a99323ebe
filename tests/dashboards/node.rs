//! The dashboard of nodes.

use crate::model::{Dashboard, NODE, Row, areas, lines, stat, table};

pub const DASHBOARD: Dashboard = Dashboard {
    name: "node",
    title: "Node",
    about: "Processors, memory, pressure, disks and network of nodes, and the agent on them.",
    variables: &[NODE],
    rows: &[
        Row {
            title: "At a glance",
            panels: &[
                stat("Nodes", 3, &[("", "count(node_info)")]),
                stat("CPU in use", 4, &[(
                    "{{instance}}",
                    "sum by (instance) (rate(node_resources_cpu_usage_seconds_total{mode!~\"idle|iowait\"}[$__rate_interval])) \
                     / sum by (instance) (node_resources_cpu_logical_cores)",
                )])
                .unit("percentunit")
                .limits(0.8, 0.95),
                stat("Memory in use", 4, &[(
                    "{{instance}}",
                    "1 - sum by (instance) (node_resources_memory_available_bytes) \
                     / sum by (instance) (node_resources_memory_total_bytes)",
                )])
                .unit("percentunit")
                .limits(0.85, 0.95),
                stat("Containers", 3, &[("{{instance}}", "sum by (instance) (nodeprobe_containers)")]),
                stat("Uptime", 4, &[("{{instance}}", "max by (instance) (node_uptime_seconds)")]),
                stat("Working collectors", 3, &[("{{instance}}", "sum by (instance) (nodeprobe_collector_up)")]),
                stat("Notice of interruption", 3, &[(
                    "{{instance}}",
                    "max by (instance) (node_cloud_interruption_notice)",
                )])
                .limits(0.5, 1.0),
                table("Nodes", 24, &[
                    ("Uptime", "max by (instance) (node_uptime_seconds)"),
                    ("CPUs", "max by (instance) (node_resources_cpu_logical_cores)"),
                    ("Memory", "max by (instance) (node_resources_memory_total_bytes)"),
                    ("Available", "max by (instance) (node_resources_memory_available_bytes)"),
                    ("Containers", "max by (instance) (nodeprobe_containers)"),
                ]),
                table("Names and versions", 12, &[(
                    "Node",
                    "max by (instance, hostname, kernel_version) (node_info)",
                )]),
                table("Cloud", 12, &[(
                    "Node",
                    "max by (instance, provider, instance_type, instance_life_cycle, region, availability_zone) \
                     (node_cloud_info)",
                )]),
            ],
        },
        Row {
            title: "Processors",
            panels: &[
                areas("CPU by mode", 12, &[(
                    "{{mode}}",
                    "sum by (mode) (rate(node_resources_cpu_usage_seconds_total{mode!=\"idle\"}[$__rate_interval]))",
                )])
                .unit("suffix: cores"),
                lines("CPU in use by node", 12, &[(
                    "{{instance}}",
                    "sum by (instance) (rate(node_resources_cpu_usage_seconds_total{mode!~\"idle|iowait\"}[$__rate_interval])) \
                     / sum by (instance) (node_resources_cpu_logical_cores)",
                )])
                .unit("percentunit")
                .limits(0.8, 0.95),
                lines("CPU pressure", 12, &[(
                    "{{instance}} {{kind}}",
                    "sum by (instance, kind) (rate(node_resources_cpu_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.3, 0.6),
                lines("Interrupt pressure", 12, &[(
                    "{{instance}} {{kind}}",
                    "sum by (instance, kind) (rate(node_resources_irq_pressure_waiting_seconds_total[$__rate_interval]))",
                )]),
            ],
        },
        Row {
            title: "Memory",
            panels: &[
                lines("Memory", 12, &[
                    ("{{instance}} total", "sum by (instance) (node_resources_memory_total_bytes)"),
                    ("{{instance}} available", "sum by (instance) (node_resources_memory_available_bytes)"),
                    ("{{instance}} free", "sum by (instance) (node_resources_memory_free_bytes)"),
                    ("{{instance}} page cache", "sum by (instance) (node_resources_memory_cached_bytes)"),
                ]),
                lines("Memory pressure", 12, &[(
                    "{{instance}} {{kind}}",
                    "sum by (instance, kind) (rate(node_resources_memory_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.05, 0.2),
            ],
        },
        Row {
            title: "Disks",
            panels: &[
                lines("Throughput", 12, &[
                    (
                        "{{instance}} {{device}} read",
                        "sum by (instance, device) (rate(node_resources_disk_read_bytes_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{device}} written",
                        "sum by (instance, device) (rate(node_resources_disk_written_bytes_total[$__rate_interval]))",
                    ),
                ]),
                lines("Operations", 12, &[
                    (
                        "{{instance}} {{device}} reads",
                        "sum by (instance, device) (rate(node_resources_disk_reads_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{device}} writes",
                        "sum by (instance, device) (rate(node_resources_disk_writes_total[$__rate_interval]))",
                    ),
                ]),
                lines("Busy", 8, &[(
                    "{{instance}} {{device}}",
                    "sum by (instance, device) (rate(node_resources_disk_io_time_seconds_total[$__rate_interval]))",
                )])
                .limits(0.7, 0.9),
                lines("Time of an operation", 8, &[
                    (
                        "{{instance}} {{device}} read",
                        "sum by (instance, device) (rate(node_resources_disk_read_time_seconds_total[$__rate_interval])) \
                         / sum by (instance, device) (rate(node_resources_disk_reads_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{device}} write",
                        "sum by (instance, device) (rate(node_resources_disk_write_time_seconds_total[$__rate_interval])) \
                         / sum by (instance, device) (rate(node_resources_disk_writes_total[$__rate_interval]))",
                    ),
                ]),
                lines("I/O pressure", 8, &[(
                    "{{instance}} {{kind}}",
                    "sum by (instance, kind) (rate(node_resources_io_pressure_waiting_seconds_total[$__rate_interval]))",
                )])
                .limits(0.2, 0.5),
            ],
        },
        Row {
            title: "Network",
            panels: &[
                lines("Traffic", 8, &[
                    (
                        "{{instance}} {{interface}} received",
                        "sum by (instance, interface) (rate(node_net_received_bytes_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{interface}} transmitted",
                        "sum by (instance, interface) (rate(node_net_transmitted_bytes_total[$__rate_interval]))",
                    ),
                ]),
                lines("Packets", 8, &[
                    (
                        "{{instance}} {{interface}} received",
                        "sum by (instance, interface) (rate(node_net_received_packets_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{interface}} transmitted",
                        "sum by (instance, interface) (rate(node_net_transmitted_packets_total[$__rate_interval]))",
                    ),
                ]),
                table("Interfaces", 8, &[(
                    "Up",
                    "max by (instance, interface) (node_net_interface_up)",
                )])
                .state(),
                table("Addresses", 8, &[("Addresses", "sum by (instance, interface, ip) (node_net_interface_ip)")]),
            ],
        },
        Row {
            title: "The agent",
            panels: &[
                table("Collectors", 12, &[("Up", "min by (instance, collector) (nodeprobe_collector_up)")])
                    .state(),
                table("Why collectors are absent", 12, &[(
                    "Collectors",
                    "sum by (instance, collector, reason) (nodeprobe_collector_info)",
                )]),
                lines("CPU of the agent", 8, &[(
                    "{{instance}}",
                    "sum by (instance) (rate(nodeprobe_cpu_seconds_total[$__rate_interval]))",
                )])
                .note("100 % is one processor."),
                lines("Memory of the agent", 8, &[
                    ("{{instance}} resident", "sum by (instance) (nodeprobe_resident_memory_bytes)"),
                    ("{{instance}} peak", "sum by (instance) (nodeprobe_resident_memory_peak_bytes)"),
                    ("{{instance}} BPF maps", "sum by (instance) (nodeprobe_bpf_map_memory_bytes)"),
                ]),
                lines("Turns of its loop", 8, &[
                    (
                        "{{instance}} 99 %",
                        "histogram_quantile(0.99, sum by (instance, le) (rate(nodeprobe_loop_turn_seconds_bucket[$__rate_interval])))",
                    ),
                    ("{{instance}} scrape", "max by (instance) (scrape_duration_seconds and on (instance) nodeprobe_build_info)"),
                ]),
                lines("Refreshes of collectors", 8, &[(
                    "{{instance}} {{collector}}",
                    "max by (instance, collector) (nodeprobe_collector_seconds)",
                )]),
                lines("Age of what they know", 8, &[(
                    "{{instance}} {{collector}}",
                    "max by (instance, collector) (nodeprobe_collector_last_success_age_seconds)",
                )]),
                lines("Series", 8, &[("{{instance}}", "sum by (instance) (nodeprobe_series)")]),
                lines("Limits reached, series dropped", 8, &[
                    (
                        "{{instance}} {{limit}}",
                        "sum by (instance, limit) (rate(nodeprobe_limit_reached_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} {{metric}}",
                        "sum by (instance, metric) (rate(nodeprobe_series_dropped_total[$__rate_interval]))",
                    ),
                ]),
                lines("Lost in the kernel", 8, &[
                    (
                        "{{instance}} events of processes",
                        "sum by (instance) (rate(nodeprobe_process_events_lost_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} records of exits",
                        "sum by (instance) (rate(nodeprobe_taskstats_lost_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} kills for want of memory",
                        "sum by (instance) (rate(nodeprobe_oom_kills_lost_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} connections",
                        "sum by (instance) (rate(nodeprobe_tcp_connections_lost_total[$__rate_interval]))",
                    ),
                ]),
                lines("HTTP responses", 8, &[(
                    "{{instance}} {{code}}",
                    "sum by (instance, code) (rate(nodeprobe_http_responses_total[$__rate_interval]))",
                )]),
            ],
        },
    ],
};
