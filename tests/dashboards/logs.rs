//! The dashboard of logs.

use crate::model::{CONTAINER, Dashboard, NODE, Row, Variable, areas, lines, stat, table};

/// Levels of messages.
const LEVEL: Variable =
    Variable { name: "level", title: "Level", label: "level", of: "container_log_messages_total" };

pub const DASHBOARD: Dashboard = Dashboard {
    name: "logs",
    title: "Logs",
    about: "Messages in the logs of containers, by level and pattern.",
    variables: &[NODE, CONTAINER, LEVEL],
    rows: &[
        Row {
            title: "At a glance",
            panels: &[
                stat("Messages", 6, &[("", "sum(rate(container_log_messages_total[$__rate_interval]))")]),
                stat("Errors", 6, &[(
                    "",
                    "sum(rate(container_log_messages_total{level=~\"error|critical\"}[$__rate_interval]))",
                )])
                .limits(0.1, 1.0),
                stat("Patterns", 6, &[(
                    "",
                    "count(count by (pattern_hash) (container_log_messages_total))",
                )]),
                stat("Files followed", 6, &[("", "sum(nodeprobe_log_files)")]),
            ],
        },
        Row {
            title: "Messages",
            panels: &[
                areas("By level", 12, &[(
                    "{{level}}",
                    "sum by (level) (rate(container_log_messages_total[$__rate_interval]))",
                )]),
                areas("By container", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_log_messages_total[$__rate_interval]))",
                )]),
                lines("Errors by container", 12, &[(
                    "{{container_id}}",
                    "sum by (container_id) (rate(container_log_messages_total{level=~\"error|critical\"}[$__rate_interval]))",
                )])
                .limits(0.1, 1.0),
                lines("By source", 12, &[(
                    "{{container_id}} {{source}}",
                    "sum by (container_id, source) (rate(container_log_messages_total[$__rate_interval]))",
                )]),
                table("Most frequent errors", 24, &[(
                    "Messages",
                    "topk(50, sum by (container_id, level, sample) \
                     (increase(container_log_messages_total{level=~\"error|critical\"}[$__range])))",
                )])
                .note("In the time on the screen."),
                table("Most frequent patterns", 24, &[(
                    "Messages",
                    "topk(50, sum by (container_id, level, sample) (increase(container_log_messages_total[$__range])))",
                )])
                .note("In the time on the screen."),
            ],
        },
        Row {
            title: "How logs are read",
            panels: &[
                lines("Still to be read", 8, &[("{{instance}}", "sum by (instance) (nodeprobe_log_lag_bytes)")]),
                lines("Read", 8, &[(
                    "{{instance}}",
                    "sum by (instance) (rate(nodeprobe_log_bytes_total[$__rate_interval]))",
                )]),
                lines("Records", 8, &[(
                    "{{instance}} {{source}}",
                    "sum by (instance, source) (rate(nodeprobe_log_records_total[$__rate_interval]))",
                )]),
                lines("Lost before they were read", 8, &[(
                    "{{instance}}",
                    "sum by (instance) (rate(nodeprobe_log_lost_bytes_total[$__rate_interval]))",
                )]),
                lines("Not counted", 8, &[
                    (
                        "{{instance}} {{reason}}",
                        "sum by (instance, reason) (rate(nodeprobe_log_records_refused_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} files refused",
                        "sum by (instance) (rate(nodeprobe_log_files_refused_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} rotated files lost",
                        "sum by (instance) (rate(nodeprobe_log_lost_files_total[$__rate_interval]))",
                    ),
                ]),
                lines("Memory of patterns", 8, &[(
                    "{{instance}}",
                    "sum by (instance) (nodeprobe_log_pattern_bytes)",
                )]),
                lines("Files and journals", 8, &[
                    ("{{instance}} files", "sum by (instance) (nodeprobe_log_files)"),
                    ("{{instance}} journals", "sum by (instance) (nodeprobe_log_journal_files)"),
                    ("{{instance}} only looked at every second", "sum by (instance) (nodeprobe_log_polling)"),
                ]),
                lines("Rotations", 8, &[
                    (
                        "{{instance}} renamed",
                        "sum by (instance) (rate(nodeprobe_log_rotations_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} cut",
                        "sum by (instance) (rate(nodeprobe_log_truncations_total[$__rate_interval]))",
                    ),
                ]),
            ],
        },
    ],
};
