//! What can be asked for: the metrics of all collectors, of the programs that come along, and Prometheus' own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use nodeprobe::collectors::COLLECTORS;
use nodeprobe::metric::{self, Scope};
use nodeprobe::programs::config;
use nodeprobe::programs::{builtin, parse};

/// Of a series: what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// Series of one name.
#[derive(Debug, Clone)]
pub struct Family {
    /// As in the table: without `_bucket`, `_sum`, `_count`.
    pub name: String,
    pub help: String,
    pub kind: Kind,
    /// With those that every series has, and those that Prometheus adds.
    pub labels: BTreeSet<String>,
}

/// Labels Prometheus gives to everything it scrapes.
const OF_TARGETS: [&str; 2] = ["instance", "job"];

/// Their labels are those of their target.
const OF_PROMETHEUS: [(&str, &str); 2] = [
    ("up", "1 if the last scrape worked."),
    ("scrape_duration_seconds", "Duration of the scrape, in seconds."),
];

static FAMILIES: LazyLock<BTreeMap<String, Family>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, help: &str, kind: metric::Kind, labels: Vec<&str>| {
        let labels: BTreeSet<String> = labels.into_iter().chain(OF_TARGETS).map(str::to_owned).collect();
        let family = |kind, labels| Family { name: name.to_owned(), help: help.to_owned(), kind, labels };
        match kind {
            metric::Kind::Counter => drop(all.insert(name.to_owned(), family(Kind::Counter, labels))),
            metric::Kind::Gauge => drop(all.insert(name.to_owned(), family(Kind::Gauge, labels))),
            metric::Kind::Histogram => {
                for suffix in ["_sum", "_count"] {
                    all.insert(format!("{name}{suffix}"), family(Kind::Counter, labels.clone()));
                }
                let labels = labels.into_iter().chain(["le".to_owned()]).collect();
                all.insert(format!("{name}_bucket"), family(Kind::Counter, labels));
            }
        }
    };
    for desc in COLLECTORS.iter().flat_map(|spec| spec.metrics) {
        let constant: &[&str] = match desc.scope() {
            Scope::Agent => &[],
            Scope::Node => &["machine_id", "system_uuid"],
            Scope::Container => &["machine_id", "system_uuid", "container_id", "app_id", "az", "region"],
        };
        add(desc.name, desc.help, desc.kind, desc.labels.iter().chain(constant).copied().collect());
    }
    let names = builtin::names();
    for program in builtin::get(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
        let (parsed, findings) = parse::parse(&program.name, &program.name, program.config.as_bytes());
        for found in parsed.unwrap_or_else(|| panic!("{findings:?}")).metrics {
            let (kind, own) = match found.kind {
                config::Kind::Counter | config::Kind::Events { .. } => {
                    (metric::Kind::Counter, &found.labels[..])
                }
                config::Kind::Gauge => (metric::Kind::Gauge, &found.labels[..]),
                // The last one is the bucket.
                config::Kind::Histogram(_) => {
                    (metric::Kind::Histogram, &found.labels[..found.labels.len() - 1])
                }
            };
            let own = own.iter().map(|label| &*label.name).collect();
            add(&format!("ebpf_exporter_{}", found.name), &found.help, kind, own);
        }
    }
    for (name, help) in OF_PROMETHEUS {
        add(name, help, metric::Kind::Gauge, Vec::new());
    }
    all
});

/// The family of series with this name.
pub fn find(name: &str) -> Option<Family> {
    FAMILIES.get(name).cloned()
}
