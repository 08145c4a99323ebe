//! The dashboard of connections: who talks to whom, and how well.

use crate::model::{CONTAINER, Dashboard, NODE, Row, graph, lines, stat, table};

/// Who listens at an address that others connect to: one container for each address. Loopback means another one in each
/// network namespace.
macro_rules! listeners {
    () => {
        "label_replace(label_replace(\
         topk by (listen_addr) (1, max by (listen_addr, container_id) (container_net_tcp_listen_info{listen_addr!~\"127.*|.::1.*\"} == 1)), \
         \"actual_destination\", \"$1\", \"listen_addr\", \"(.+)\"), \"target\", \"$1\", \"container_id\", \"(.+)\")"
    };
}

/// Connects by container and target: a container where one listens there, the address elsewhere.
macro_rules! connects {
    () => {
        concat!(
            "sum by (container_id, target) (",
            "sum by (container_id, actual_destination) (rate(container_net_tcp_successful_connects_total[$__rate_interval])) ",
            "* on (actual_destination) group_left (target) ",
            listeners!(),
            " or label_replace(",
            "sum by (container_id, actual_destination) (rate(container_net_tcp_successful_connects_total[$__rate_interval])) ",
            "unless on (actual_destination) ",
            listeners!(),
            ", \"target\", \"$1\", \"actual_destination\", \"(.*)\"))"
        )
    };
}

pub const DASHBOARD: Dashboard = Dashboard {
    name: "service-map",
    title: "Service map",
    about: "Who connects to whom over TCP, what fails, how long it takes, and what is sent again.",
    variables: &[NODE, CONTAINER],
    rows: &[
        Row {
            title: "At a glance",
            panels: &[
                stat("Connects", 6, &[(
                    "",
                    "sum(rate(container_net_tcp_successful_connects_total[$__rate_interval]))",
                )]),
                stat("Failed connects", 6, &[(
                    "",
                    "sum(rate(container_net_tcp_failed_connects_total[$__rate_interval]))",
                )])
                .limits(0.1, 1.0),
                stat("Active connections", 6, &[("", "sum(container_net_tcp_active_connections)")]),
                stat("Segments sent again", 6, &[(
                    "",
                    "sum(rate(container_net_tcp_retransmits_total[$__rate_interval]))",
                )])
                .limits(1.0, 10.0),
            ],
        },
        Row {
            title: "Map",
            panels: &[graph("Connects", 24, &[
                (
                    "nodes",
                    concat!(
                        "sum by (id, title) (label_replace(label_replace(",
                        connects!(),
                        ", \"id\", \"$1\", \"container_id\", \"(.+)\"), \"title\", \"$1\", \"container_id\", \"(.+)\")) ",
                        "or sum by (id, title) (label_replace(label_replace(",
                        connects!(),
                        ", \"id\", \"$1\", \"target\", \"(.+)\"), \"title\", \"$1\", \"target\", \"(.+)\"))"
                    ),
                ),
                (
                    "edges",
                    concat!(
                        "sum by (id, source, target) (label_replace(label_join(",
                        connects!(),
                        ", \"id\", \" > \", \"container_id\", \"target\"), \"source\", \"$1\", \"container_id\", \"(.+)\"))"
                    ),
                ),
            ])
            .note(
                "An edge is from a container to the container that listens at the actual destination, or to the address where \
                 none does. Numbers are connections established in a second; connections that stay open count once.",
            )],
        },
        Row {
            title: "Who connects to whom",
            panels: &[
                table("Connections", 24, &[
                    (
                        "Connects",
                        "sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_successful_connects_total[$__rate_interval]))",
                    ),
                    (
                        "Active",
                        "sum by (container_id, destination, actual_destination) (container_net_tcp_active_connections)",
                    ),
                    (
                        "Time to connect",
                        "sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_connection_time_seconds_total[$__rate_interval])) \
                         / sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_successful_connects_total[$__rate_interval]))",
                    ),
                    (
                        "Sent",
                        "sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_bytes_sent_total[$__rate_interval]))",
                    ),
                    (
                        "Received",
                        "sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_bytes_received_total[$__rate_interval]))",
                    ),
                    (
                        "Sent again",
                        "sum by (container_id, destination, actual_destination) \
                         (rate(container_net_tcp_retransmits_total[$__rate_interval]))",
                    ),
                ]),
                table("Failed connects", 12, &[
                    (
                        "Failed",
                        "sum by (container_id, destination) (rate(container_net_tcp_failed_connects_total[$__rate_interval]))",
                    ),
                    (
                        "In all",
                        "sum by (container_id, destination) (increase(container_net_tcp_failed_connects_total[$__range]))",
                    ),
                ])
                .limits(0.001, 0.1),
                table("Who listens where", 12, &[(
                    "Listens",
                    "max by (instance, container_id, listen_addr) (container_net_tcp_listen_info)",
                )])
                .note("0 for ten minutes after it stopped."),
            ],
        },
        Row {
            title: "How well",
            panels: &[
                lines("Connects", 12, &[(
                    "{{container_id}} to {{destination}}",
                    "sum by (container_id, destination) (rate(container_net_tcp_successful_connects_total[$__rate_interval]))",
                )]),
                lines("Failed connects", 12, &[(
                    "{{container_id}} to {{destination}}",
                    "sum by (container_id, destination) (rate(container_net_tcp_failed_connects_total[$__rate_interval]))",
                )])
                .limits(0.1, 1.0),
                lines("Time to connect", 12, &[(
                    "{{container_id}} to {{destination}}",
                    "sum by (container_id, destination) (rate(container_net_tcp_connection_time_seconds_total[$__rate_interval])) \
                     / sum by (container_id, destination) (rate(container_net_tcp_successful_connects_total[$__rate_interval]))",
                )])
                .limits(0.1, 0.5),
                lines("Round trips", 12, &[(
                    "{{container_id}} to {{destination_ip}}",
                    "max by (container_id, destination_ip) (container_net_latency_seconds)",
                )])
                .limits(0.1, 0.5),
                lines("Payload", 12, &[
                    (
                        "{{container_id}} to {{destination}}",
                        "sum by (container_id, destination) (rate(container_net_tcp_bytes_sent_total[$__rate_interval]))",
                    ),
                    (
                        "{{container_id}} from {{destination}}",
                        "sum by (container_id, destination) (rate(container_net_tcp_bytes_received_total[$__rate_interval]))",
                    ),
                ]),
                lines("Segments sent again", 12, &[(
                    "{{container_id}} to {{destination}}",
                    "sum by (container_id, destination) (rate(container_net_tcp_retransmits_total[$__rate_interval]))",
                )])
                .limits(1.0, 10.0),
                lines("Active connections", 12, &[(
                    "{{container_id}} to {{destination}}",
                    "sum by (container_id, destination) (container_net_tcp_active_connections)",
                )]),
                lines("Destinations in the kernel's table", 12, &[
                    ("{{instance}}", "sum by (instance) (nodeprobe_tcp_destinations)"),
                    ("{{instance}} room", "sum by (instance) (nodeprobe_tcp_destinations_limit)"),
                ]),
                lines("Not told apart", 12, &[
                    (
                        "{{instance}} connects to ~other",
                        "sum by (instance) (rate(nodeprobe_tcp_overflow_connects_total[$__rate_interval]))",
                    ),
                    (
                        "{{instance}} actual destination unknown",
                        "sum by (instance) (rate(nodeprobe_tcp_unresolved_connects_total[$__rate_interval]))",
                    ),
                ]),
                table("How connections are followed", 12, &[(
                    "Door",
                    "max by (instance, door) (nodeprobe_tcp_door_info)",
                )]),
            ],
        },
    ],
};
