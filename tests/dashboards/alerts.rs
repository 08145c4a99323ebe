//! Alerts of `deploy/prometheus/alerts.yaml`, each with series under which it must fire, and series under which it must not.

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody is to look at once: something is gone or is about to fail.
    Critical,
    /// Somebody is to look today.
    Warning,
    /// To be known.
    Info,
}

/// Alerts about one topic.
pub struct Group {
    pub name: &'static str,
    pub alerts: &'static [Alert],
}

/// One alert.
pub struct Alert {
    pub name: &'static str,
    pub severity: Severity,
    /// How long it must be so.
    pub wait: &'static str,
    pub query: &'static str,
    /// One line that names the node or the container.
    pub summary: &'static str,
    /// What to look at, or to do.
    pub action: &'static str,
    /// Series, in promtool's notation at one value a minute, under which it fires after two hours.
    pub fires: &'static [(&'static str, &'static str)],
    /// The same under which it does not.
    pub quiet: &'static [(&'static str, &'static str)],
}

use Severity::{Critical, Info, Warning};

/// All of them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "nodeprobe-containers",
        alerts: &[
            Alert {
                name: "ContainerOomKilled",
                severity: Warning,
                wait: "0m",
                query: "sum by (instance, container_id) (increase(container_oom_kills_total[10m])) > 0",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: processes killed for want of memory",
                action: "Compare its working set with its limit; raise the limit or find what takes the memory.",
                fires: &[("container_oom_kills_total{instance=\"n\", container_id=\"c\"}", "0x115 1x20")],
                quiet: &[("container_oom_kills_total{instance=\"n\", container_id=\"c\"}", "7x140")],
            },
            Alert {
                name: "ContainerRestarting",
                severity: Warning,
                wait: "5m",
                query: "sum by (instance, container_id) (increase(container_restarts_total[15m])) > 3",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $value | humanize }} restarts in 15 minutes",
                action: "Read the last lines of its log, and look for kills for want of memory.",
                fires: &[("container_restarts_total{instance=\"n\", container_id=\"c\"}", "0+1x140")],
                quiet: &[("container_restarts_total{instance=\"n\", container_id=\"c\"}", "0x100 2x40")],
            },
            Alert {
                name: "ContainerCpuThrottled",
                severity: Warning,
                wait: "15m",
                query: "sum by (instance, container_id) (rate(container_resources_cpu_throttled_seconds_total[5m])) > 0.5",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: held back by its CPU limit for \
                          {{ $value | humanizePercentage }} of the time",
                action: "Raise its CPU limit, or let it run fewer threads than the limit has cores.",
                fires: &[(
                    "container_resources_cpu_throttled_seconds_total{instance=\"n\", container_id=\"c\"}",
                    "0+40x140",
                )],
                quiet: &[(
                    "container_resources_cpu_throttled_seconds_total{instance=\"n\", container_id=\"c\"}",
                    "0+20x140",
                )],
            },
            Alert {
                name: "ContainerMemoryNearLimit",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, container_id) (container_resources_memory_working_set_bytes) \
                        / sum by (instance, container_id) (container_resources_memory_limit_bytes) > 0.9",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: working set at \
                          {{ $value | humanizePercentage }} of its memory limit",
                action: "Raise the limit before the kernel kills, or find what takes the memory.",
                fires: &[
                    (
                        "container_resources_memory_working_set_bytes{instance=\"n\", container_id=\"c\"}",
                        "95x140",
                    ),
                    ("container_resources_memory_limit_bytes{instance=\"n\", container_id=\"c\"}", "100x140"),
                ],
                quiet: &[
                    (
                        "container_resources_memory_working_set_bytes{instance=\"n\", container_id=\"c\"}",
                        "85x140",
                    ),
                    ("container_resources_memory_limit_bytes{instance=\"n\", container_id=\"c\"}", "100x140"),
                    // No limit.
                    (
                        "container_resources_memory_working_set_bytes{instance=\"n\", container_id=\"d\"}",
                        "999x140",
                    ),
                ],
            },
            Alert {
                name: "ContainerProcessesNearLimit",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, container_id) (container_resources_pids) \
                        / sum by (instance, container_id) (container_resources_pids_limit) > 0.9",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $value | humanizePercentage }} of its limit \
                          of processes and threads",
                action: "At the limit it can start no more threads: look for processes that are not waited for.",
                fires: &[
                    ("container_resources_pids{instance=\"n\", container_id=\"c\"}", "95x140"),
                    ("container_resources_pids_limit{instance=\"n\", container_id=\"c\"}", "100x140"),
                ],
                quiet: &[
                    ("container_resources_pids{instance=\"n\", container_id=\"c\"}", "5x140"),
                    ("container_resources_pids_limit{instance=\"n\", container_id=\"c\"}", "100x140"),
                ],
            },
            Alert {
                name: "ContainerDiskFillsUp",
                severity: Warning,
                wait: "15m",
                query: "predict_linear(container_resources_disk_used_bytes[1h], 86400) > container_resources_disk_size_bytes \
                        and container_resources_disk_used_bytes / container_resources_disk_size_bytes > 0.7",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $labels.mount_point }} will be full within \
                          a day",
                action: "Free or add space. The forecast goes on the growth of the last hour.",
                fires: &[
                    (
                        "container_resources_disk_used_bytes{instance=\"n\", container_id=\"c\", mount_point=\"/\"}",
                        "700+1x140",
                    ),
                    (
                        "container_resources_disk_size_bytes{instance=\"n\", container_id=\"c\", mount_point=\"/\"}",
                        "1000x140",
                    ),
                ],
                quiet: &[
                    // Grows, but has room; nearly full, but does not grow.
                    (
                        "container_resources_disk_used_bytes{instance=\"n\", container_id=\"c\", mount_point=\"/\"}",
                        "100+1x140",
                    ),
                    (
                        "container_resources_disk_size_bytes{instance=\"n\", container_id=\"c\", mount_point=\"/\"}",
                        "1000x140",
                    ),
                    (
                        "container_resources_disk_used_bytes{instance=\"n\", container_id=\"d\", mount_point=\"/\"}",
                        "900x140",
                    ),
                    (
                        "container_resources_disk_size_bytes{instance=\"n\", container_id=\"d\", mount_point=\"/\"}",
                        "1000x140",
                    ),
                ],
            },
            Alert {
                name: "ContainerDiskFull",
                severity: Critical,
                wait: "5m",
                query: "(container_resources_disk_used_bytes + container_resources_disk_reserved_bytes) \
                        / container_resources_disk_size_bytes > 0.95",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $labels.mount_point }} is \
                          {{ $value | humanizePercentage }} full",
                action: "Free or add space; writes are about to fail.",
                fires: &[
                    ("container_resources_disk_used_bytes{instance=\"n\", container_id=\"c\"}", "92x140"),
                    ("container_resources_disk_reserved_bytes{instance=\"n\", container_id=\"c\"}", "5x140"),
                    ("container_resources_disk_size_bytes{instance=\"n\", container_id=\"c\"}", "100x140"),
                ],
                quiet: &[
                    ("container_resources_disk_used_bytes{instance=\"n\", container_id=\"c\"}", "92x140"),
                    ("container_resources_disk_reserved_bytes{instance=\"n\", container_id=\"c\"}", "0x140"),
                    ("container_resources_disk_size_bytes{instance=\"n\", container_id=\"c\"}", "100x140"),
                ],
            },
            Alert {
                name: "ContainerWaitsForCpu",
                severity: Info,
                wait: "15m",
                query: "sum by (instance, container_id) (rate(container_resources_cpu_delay_seconds_total[5m])) \
                        / (sum by (instance, container_id) (rate(container_resources_cpu_usage_seconds_total[5m])) \
                        + sum by (instance, container_id) (rate(container_resources_cpu_delay_seconds_total[5m]))) > 0.5 \
                        and sum by (instance, container_id) (rate(container_resources_cpu_delay_seconds_total[5m])) > 0.5",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: its threads wait for a processor longer than they \
                          run on one",
                action: "The node has too few processors for what runs on it, or the container's share is too small.",
                fires: &[
                    (
                        "container_resources_cpu_delay_seconds_total{instance=\"n\", container_id=\"c\"}",
                        "0+90x140",
                    ),
                    (
                        "container_resources_cpu_usage_seconds_total{instance=\"n\", container_id=\"c\"}",
                        "0+60x140",
                    ),
                ],
                quiet: &[
                    (
                        "container_resources_cpu_delay_seconds_total{instance=\"n\", container_id=\"c\"}",
                        "0+40x140",
                    ),
                    (
                        "container_resources_cpu_usage_seconds_total{instance=\"n\", container_id=\"c\"}",
                        "0+60x140",
                    ),
                    (
                        "container_resources_cpu_delay_seconds_total{instance=\"n\", container_id=\"d\"}",
                        "0+2x140",
                    ),
                    (
                        "container_resources_cpu_usage_seconds_total{instance=\"n\", container_id=\"d\"}",
                        "0+1x140",
                    ),
                ],
            },
            Alert {
                name: "ContainerMemoryPressure",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, container_id) \
                        (rate(container_resources_memory_pressure_waiting_seconds_total{kind=\"some\"}[5m])) > 0.2",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: waits for memory {{ $value | humanizePercentage }} \
                          of the time",
                action: "Raise its memory limit, or find what takes the memory; it is slow long before it is killed.",
                fires: &[(
                    "container_resources_memory_pressure_waiting_seconds_total{instance=\"n\", container_id=\"c\", kind=\"some\"}",
                    "0+30x140",
                )],
                quiet: &[(
                    "container_resources_memory_pressure_waiting_seconds_total{instance=\"n\", container_id=\"c\", kind=\"some\"}",
                    "0+3x140",
                )],
            },
        ],
    },
    Group {
        name: "nodeprobe-connections",
        alerts: &[
            Alert {
                name: "ConnectsFail",
                severity: Warning,
                wait: "5m",
                // Where nothing ever succeeded there is no counter of successes.
                query: "sum by (instance, container_id, destination) (rate(container_net_tcp_failed_connects_total[5m])) \
                        / (sum by (instance, container_id, destination) (rate(container_net_tcp_failed_connects_total[5m])) \
                        + (sum by (instance, container_id, destination) (rate(container_net_tcp_successful_connects_total[5m])) \
                        or sum by (instance, container_id, destination) (rate(container_net_tcp_failed_connects_total[5m])) * 0)) \
                        > 0.1 and sum by (instance, container_id, destination) \
                        (rate(container_net_tcp_failed_connects_total[5m])) > 0.02",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $value | humanizePercentage }} of connects to \
                          {{ $labels.destination }} fail",
                action: "Is the destination up, and may this container reach it? Refused: nobody listens; slow to fail: packets are \
                         lost.",
                fires: &[(
                    "container_net_tcp_failed_connects_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                    "0+6x140",
                )],
                quiet: &[
                    (
                        "container_net_tcp_failed_connects_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                        "0+6x140",
                    ),
                    (
                        "container_net_tcp_successful_connects_total{instance=\"n\", container_id=\"c\", destination=\"d:1\", \
                         actual_destination=\"e:1\"}",
                        "0+600x140",
                    ),
                ],
            },
            Alert {
                name: "ConnectsSlow",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, container_id, destination) (rate(container_net_tcp_connection_time_seconds_total[5m])) \
                        / sum by (instance, container_id, destination) (rate(container_net_tcp_successful_connects_total[5m])) > 0.5",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: connects to {{ $labels.destination }} take \
                          {{ $value | humanizeDuration }}",
                action: "One second and more are lost first packets; look at packets sent again, and at the destination's backlog.",
                fires: &[
                    (
                        "container_net_tcp_connection_time_seconds_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                        "0+60x140",
                    ),
                    (
                        "container_net_tcp_successful_connects_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                        "0+60x140",
                    ),
                ],
                quiet: &[
                    (
                        "container_net_tcp_connection_time_seconds_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                        "0+1x140",
                    ),
                    (
                        "container_net_tcp_successful_connects_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                        "0+60x140",
                    ),
                ],
            },
            Alert {
                name: "SegmentsSentAgain",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, container_id, destination) (rate(container_net_tcp_retransmits_total[5m])) > 5",
                summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $value | humanize }} segments a second sent again \
                          to {{ $labels.destination }}",
                action: "Packets are lost on the way: look at drops and errors of interfaces, and at the destination's load.",
                fires: &[(
                    "container_net_tcp_retransmits_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                    "0+600x140",
                )],
                quiet: &[(
                    "container_net_tcp_retransmits_total{instance=\"n\", container_id=\"c\", destination=\"d:1\"}",
                    "0+60x140",
                )],
            },
        ],
    },
    Group {
        name: "nodeprobe-logs",
        alerts: &[Alert {
            name: "LogErrorsJump",
            severity: Warning,
            wait: "5m",
            query: "sum by (instance, container_id) (rate(container_log_messages_total{level=~\"error|critical\"}[5m])) > 0.1 \
                    and sum by (instance, container_id) (rate(container_log_messages_total{level=~\"error|critical\"}[5m])) \
                    > 5 * sum by (instance, container_id) \
                    (rate(container_log_messages_total{level=~\"error|critical\"}[1h] offset 10m))",
            summary: "{{ $labels.container_id }} on {{ $labels.instance }}: {{ $value | humanize }} errors a second in its log, more \
                      than five times those of the hour before",
            action: "The dashboard of logs shows which messages these are.",
            fires: &[(
                "container_log_messages_total{instance=\"n\", container_id=\"c\", level=\"error\"}",
                "0+1x110 200+60x30",
            )],
            quiet: &[
                // As many as ever; many more, but few all the same.
                (
                    "container_log_messages_total{instance=\"n\", container_id=\"c\", level=\"error\"}",
                    "0+60x140",
                ),
                (
                    "container_log_messages_total{instance=\"n\", container_id=\"d\", level=\"error\"}",
                    "0x110 1+1x30",
                ),
            ],
        }],
    },
    Group {
        name: "nodeprobe-nodes",
        alerts: &[
            Alert {
                name: "NodeMemoryPressure",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance) (rate(node_resources_memory_pressure_waiting_seconds_total{kind=\"full\"}[5m])) > 0.1",
                summary: "{{ $labels.instance }}: all tasks wait for memory {{ $value | humanizePercentage }} of the time",
                action: "Find the containers with the largest working sets; move some away or limit them.",
                fires: &[(
                    "node_resources_memory_pressure_waiting_seconds_total{instance=\"n\", kind=\"full\"}",
                    "0+12x140",
                )],
                quiet: &[
                    (
                        "node_resources_memory_pressure_waiting_seconds_total{instance=\"n\", kind=\"full\"}",
                        "0+1x140",
                    ),
                    (
                        "node_resources_memory_pressure_waiting_seconds_total{instance=\"n\", kind=\"some\"}",
                        "0+30x140",
                    ),
                ],
            },
            Alert {
                name: "NodeIoPressure",
                severity: Warning,
                wait: "15m",
                query: "sum by (instance) (rate(node_resources_io_pressure_waiting_seconds_total{kind=\"full\"}[5m])) > 0.3",
                summary: "{{ $labels.instance }}: all tasks wait for disks {{ $value | humanizePercentage }} of the time",
                action: "Find the containers that read and write most.",
                fires: &[(
                    "node_resources_io_pressure_waiting_seconds_total{instance=\"n\", kind=\"full\"}",
                    "0+30x140",
                )],
                quiet: &[(
                    "node_resources_io_pressure_waiting_seconds_total{instance=\"n\", kind=\"full\"}",
                    "0+6x140",
                )],
            },
            Alert {
                name: "NodeCpuPressure",
                severity: Warning,
                wait: "15m",
                query: "sum by (instance) (rate(node_resources_cpu_pressure_waiting_seconds_total{kind=\"some\"}[5m])) > 0.7",
                summary: "{{ $labels.instance }}: some tasks wait for a processor {{ $value | humanizePercentage }} of the time",
                action: "Find the containers that use most, and those that wait most.",
                fires: &[(
                    "node_resources_cpu_pressure_waiting_seconds_total{instance=\"n\", kind=\"some\"}",
                    "0+50x140",
                )],
                quiet: &[(
                    "node_resources_cpu_pressure_waiting_seconds_total{instance=\"n\", kind=\"some\"}",
                    "0+20x140",
                )],
            },
            Alert {
                name: "NodeWillBeTakenAway",
                severity: Critical,
                wait: "0m",
                query: "max by (instance) (node_cloud_interruption_notice) > 0",
                summary: "{{ $labels.instance }}: the cloud will take this instance away",
                action: "Minutes are left: drain the node.",
                fires: &[("node_cloud_interruption_notice{instance=\"n\"}", "0x118 1x20")],
                quiet: &[("node_cloud_interruption_notice{instance=\"n\"}", "0x140")],
            },
            Alert {
                name: "NodeDown",
                severity: Critical,
                wait: "3m",
                // Whatever the job is called: targets that were a nodeprobe within the last hours.
                query: "up == 0 and on (instance, job) last_over_time(nodeprobe_build_info[6h])",
                summary: "{{ $labels.instance }}: nodeprobe does not answer",
                action: "Is the node up? If it is: `systemctl status nodeprobe`, or the pod's log.",
                fires: &[
                    ("up{instance=\"n\", job=\"j\"}", "1x100 0x40"),
                    ("nodeprobe_build_info{instance=\"n\", job=\"j\"}", "1x100"),
                ],
                quiet: &[
                    ("up{instance=\"n\", job=\"j\"}", "1x140"),
                    ("nodeprobe_build_info{instance=\"n\", job=\"j\"}", "1x140"),
                    // Something else.
                    ("up{instance=\"m\", job=\"k\"}", "0x140"),
                ],
            },
            Alert {
                name: "NodeprobeAbsent",
                severity: Critical,
                wait: "10m",
                query: "absent(nodeprobe_build_info)",
                summary: "No nodeprobe is scraped at all",
                action: "Look at the scrape configuration, and whether Prometheus finds its targets.",
                fires: &[("up{instance=\"m\", job=\"k\"}", "1x140")],
                quiet: &[("nodeprobe_build_info{instance=\"n\"}", "1x140")],
            },
        ],
    },
    Group {
        name: "nodeprobe-agent",
        alerts: &[
            Alert {
                name: "NodeprobeCollectorAbsent",
                severity: Warning,
                wait: "10m",
                // Those that never worked on this node are no news: the dashboard says why.
                query: "min by (instance, collector) (nodeprobe_collector_up) == 0 \
                        and on (instance, collector) max by (instance, collector) (max_over_time(nodeprobe_collector_up[1d])) == 1",
                summary: "{{ $labels.instance }}: collector {{ $labels.collector }} works no more",
                action: "`nodeprobe doctor` on the node says what is missing; nodeprobe_collector_info has the reason in a word.",
                fires: &[("nodeprobe_collector_up{instance=\"n\", collector=\"tcp\"}", "1x60 0x80")],
                quiet: &[
                    ("nodeprobe_collector_up{instance=\"n\", collector=\"tcp\"}", "0x140"),
                    ("nodeprobe_collector_up{instance=\"n\", collector=\"oom\"}", "1x140"),
                ],
            },
            Alert {
                name: "NodeprobeSeriesDropped",
                severity: Warning,
                wait: "0m",
                query: "sum by (instance, metric) (increase(nodeprobe_series_dropped_total[15m])) > 0",
                summary: "{{ $labels.instance }}: {{ $labels.metric }} has more series than --series-limit",
                action: "Find the label that has too many values; leave containers out, or raise the limit.",
                fires: &[("nodeprobe_series_dropped_total{instance=\"n\", metric=\"m\"}", "0+5x140")],
                quiet: &[("nodeprobe_series_dropped_total{instance=\"n\", metric=\"m\"}", "5x140")],
            },
            Alert {
                name: "NodeprobeLimitReached",
                severity: Info,
                wait: "15m",
                query: "sum by (instance, limit) (increase(nodeprobe_limit_reached_total[15m])) > 0",
                summary: "{{ $labels.instance }}: limit {{ $labels.limit }} is reached again and again",
                action: "Something is left out of the metrics; the limit's name says what.",
                fires: &[("nodeprobe_limit_reached_total{instance=\"n\", limit=\"l\"}", "0+1x140")],
                quiet: &[("nodeprobe_limit_reached_total{instance=\"n\", limit=\"l\"}", "0x100 1x40")],
            },
            Alert {
                name: "NodeprobeEventsLost",
                severity: Info,
                wait: "5m",
                query: "sum by (instance) (increase(nodeprobe_process_events_lost_total[15m])) > 0 \
                        or sum by (instance) (increase(nodeprobe_oom_kills_lost_total[15m])) > 0 \
                        or sum by (instance) (increase(nodeprobe_tcp_connections_lost_total[15m])) > 0 \
                        or sum by (instance) (increase(nodeprobe_taskstats_unattributed_total[15m])) > 100",
                summary: "{{ $labels.instance }}: the kernel had no room for all events; some are not counted",
                action: "Counts of processes, kills or connections of this time are too low: nodeprobe_*_lost_total says which.",
                fires: &[("nodeprobe_tcp_connections_lost_total{instance=\"n\"}", "0+1x140")],
                quiet: &[
                    ("nodeprobe_process_events_lost_total{instance=\"n\"}", "3x140"),
                    ("nodeprobe_tcp_connections_lost_total{instance=\"n\"}", "0x140"),
                ],
            },
            Alert {
                name: "NodeprobeTcpTableFull",
                severity: Warning,
                wait: "5m",
                query: "sum by (instance) (nodeprobe_tcp_destinations) / sum by (instance) (nodeprobe_tcp_destinations_limit) > 0.9",
                summary: "{{ $labels.instance }}: {{ $value | humanizePercentage }} of the room for TCP destinations is taken",
                action: "Further ones count as ~other: raise --tcp-destinations, or leave public ones out by --track-public-network.",
                fires: &[
                    ("nodeprobe_tcp_destinations{instance=\"n\"}", "95x140"),
                    ("nodeprobe_tcp_destinations_limit{instance=\"n\"}", "100x140"),
                ],
                quiet: &[
                    ("nodeprobe_tcp_destinations{instance=\"n\"}", "5x140"),
                    ("nodeprobe_tcp_destinations_limit{instance=\"n\"}", "100x140"),
                ],
            },
            Alert {
                name: "NodeprobeLogsFallBehind",
                severity: Warning,
                wait: "15m",
                query: "sum by (instance) (nodeprobe_log_lag_bytes) > 67108864 \
                        or sum by (instance) (increase(nodeprobe_log_lost_bytes_total[15m])) > 0",
                summary: "{{ $labels.instance }}: logs are written faster than they are read",
                action: "Find the container that writes so much; rotate later, so that files are read before they go.",
                fires: &[("nodeprobe_log_lag_bytes{instance=\"n\"}", "99999999x140")],
                quiet: &[
                    ("nodeprobe_log_lag_bytes{instance=\"n\"}", "1000x140"),
                    ("nodeprobe_log_lost_bytes_total{instance=\"n\"}", "0x140"),
                ],
            },
            Alert {
                name: "NodeprobeConfigProblems",
                severity: Warning,
                wait: "10m",
                query: "sum by (instance, config) (nodeprobe_config_problems) > 0",
                summary: "{{ $labels.instance }}: {{ $value }} programs or metrics of {{ $labels.config }} do not work",
                action: "`nodeprobe check` and the log say which and why.",
                fires: &[("nodeprobe_config_problems{instance=\"n\", config=\"c\"}", "1x140")],
                quiet: &[("nodeprobe_config_problems{instance=\"n\", config=\"c\"}", "0x140")],
            },
            Alert {
                name: "NodeprobeReloadFailed",
                severity: Warning,
                wait: "0m",
                query: "min by (instance) (nodeprobe_config_last_reload_success) == 0",
                summary: "{{ $labels.instance }}: the last reload left an old eBPF config in place",
                action: "The log says which file is wrong; mend it and reload again.",
                fires: &[("nodeprobe_config_last_reload_success{instance=\"n\"}", "1x60 0x80")],
                quiet: &[("nodeprobe_config_last_reload_success{instance=\"n\"}", "1x140")],
            },
            Alert {
                name: "NodeprobeSlow",
                severity: Warning,
                wait: "10m",
                query: "max by (instance) (scrape_duration_seconds and on (instance, job) nodeprobe_build_info) > 2 \
                        or histogram_quantile(0.99, sum by (instance, le) (rate(nodeprobe_loop_turn_seconds_bucket[5m]))) > 1",
                summary: "{{ $labels.instance }}: nodeprobe takes {{ $value | humanizeDuration }} to answer",
                action: "nodeprobe_collector_seconds says which collector is slow.",
                fires: &[
                    ("scrape_duration_seconds{instance=\"n\", job=\"j\"}", "3x140"),
                    ("nodeprobe_build_info{instance=\"n\", job=\"j\"}", "1x140"),
                ],
                quiet: &[
                    ("scrape_duration_seconds{instance=\"n\", job=\"j\"}", "0.1x140"),
                    ("nodeprobe_build_info{instance=\"n\", job=\"j\"}", "1x140"),
                    ("scrape_duration_seconds{instance=\"m\", job=\"k\"}", "9x140"),
                ],
            },
            Alert {
                name: "NodeprobeTakesMuch",
                severity: Warning,
                wait: "15m",
                query: "sum by (instance) (nodeprobe_resident_memory_bytes) > 268435456 \
                        or sum by (instance) (rate(nodeprobe_cpu_seconds_total[5m])) > 0.5",
                summary: "{{ $labels.instance }}: nodeprobe takes more than 256 MiB or half a processor",
                action: "Look at nodeprobe_series and nodeprobe_collector_seconds, and report it.",
                fires: &[("nodeprobe_cpu_seconds_total{instance=\"n\"}", "0+40x140")],
                quiet: &[
                    ("nodeprobe_cpu_seconds_total{instance=\"n\"}", "0+1x140"),
                    ("nodeprobe_resident_memory_bytes{instance=\"n\"}", "20000000x140"),
                ],
            },
        ],
    },
];
