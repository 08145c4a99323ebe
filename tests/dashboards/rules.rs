//! From the table of alerts to Prometheus' rules, and to promtool's tests of them.

use std::fmt::Write;

use crate::alerts::{Alert, GROUPS, Severity};
use crate::promql::{self, Query};

impl Severity {
    /// As label `severity` has it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// All alerts.
pub fn all() -> impl Iterator<Item = &'static Alert> {
    GROUPS.iter().flat_map(|group| group.alerts)
}

/// What is known of an alert's query; labels in its texts must be there.
#[track_caller]
pub fn query(alert: &Alert) -> Query {
    let query = promql::check(alert.query).unwrap_or_else(|problem| panic!("{}: {problem}", alert.name));
    for text in [alert.summary, alert.action] {
        for label in text.split("$labels.").skip(1) {
            let label: String = label.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(query.labels.contains(&label), "{}: no label {label}", alert.name);
        }
    }
    query
}

/// A text between double quotes, as YAML and JSON have it.
fn quoted(text: &str) -> String {
    let mut bytes = Vec::new();
    nodeprobe::json::write_string(&mut bytes, text);
    String::from_utf8(bytes).expect("UTF-8")
}

/// `deploy/prometheus/alerts.yaml`.
#[track_caller]
pub fn document() -> String {
    let mut text =
        "# Generated from tests/dashboards/alerts.rs; `make docs` renews it.\ngroups:\n".to_owned();
    for group in GROUPS {
        let _ = write!(text, "  - name: {}\n    rules:\n", group.name);
        for alert in group.alerts {
            query(alert);
            let _ = write!(
                text,
                "      - alert: {}\n        expr: |-\n          {}\n        for: {}\n        labels:\n          severity: {}\n        \
                 annotations:\n          summary: {}\n          description: {}\n",
                alert.name,
                alert.query,
                alert.wait,
                alert.severity.word(),
                quoted(alert.summary),
                quoted(alert.action),
            );
        }
    }
    text
}

/// A test for `promtool test rules`: every alert fires under its series, on nodes of its own, and none does under the others.
pub fn tests(rules: &str) -> String {
    let mut text = format!("rule_files: [{}]\nevaluation_interval: 1m\ntests:\n", quoted(rules));
    // That there is nothing at all goes with no other series.
    let (alone, others): (Vec<&Alert>, Vec<&Alert>) =
        all().partition(|alert| alert.query.starts_with("absent"));
    for alerts in [alone, others] {
        for fires in [true, false] {
            let _ = write!(text, "  - name: fires={fires}\n    interval: 1m\n    input_series:\n");
            for alert in &alerts {
                for (name, values) in if fires { alert.fires } else { alert.quiet } {
                    let own = name.replace("instance=\"", &format!("instance=\"{}-", alert.name));
                    let _ = write!(
                        text,
                        "      - series: {}\n        values: {}\n",
                        quoted(&own),
                        quoted(values)
                    );
                }
            }
            text += "    promql_expr_test:\n";
            for alert in &alerts {
                let nodes = if alert.query.starts_with("absent") { "" } else { alert.name };
                let expression = format!(
                    "count(ALERTS{{alertname=\"{}\", alertstate=\"firing\", instance=~\"{nodes}.*\"}})",
                    alert.name
                );
                let _ = write!(
                    text,
                    "      - expr: {}\n        eval_time: 2h\n        exp_samples: [{}]\n",
                    quoted(&expression),
                    if fires { "{labels: '{}', value: 1}" } else { "" }
                );
            }
        }
    }
    text
}
