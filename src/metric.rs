//! What a metric family is called, means and carries: the `Desc` each collector declares at the top of its file.

use std::sync::atomic::{AtomicU32, Ordering};

/// The type line of a family (Prometheus text format 0.0.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with `le`, a sum and a count.
    Histogram,
}

/// Which labels a family carries beside its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// None: metrics of nodeprobe itself.
    Agent,
    /// `machine_id` and `system_uuid`: families named `node_*`.
    Node,
    /// Those of the node, `az` and `region` where both are known, `container_id` and `app_id`: families named `container_*`.
    Container,
}

/// What happens when one series of a gauge is given twice in a scrape. Counters and histograms always add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicate {
    /// The values add up, as bytes in use by two cgroups of one service do.
    Add,
    /// The larger value stands, as for a limit or an information metric that is always 1.
    Max,
}

/// One metric family.
#[derive(Debug)]
pub struct Desc {
    /// The family's name.
    pub name: &'static str,
    /// The help line: one sentence with the unit and, where it helps, the kernel file.
    pub help: &'static str,
    /// The type line.
    pub kind: Kind,
    /// The family's own label names, in the order `Registry::add` takes their values.
    pub labels: &'static [&'static str],
    /// The rule for two values of one series.
    pub duplicate: Duplicate,
    /// Where the registry keeps the family; 0 until it is registered.
    slot: AtomicU32,
}

/// A metric family that a config declares; its series have no constant labels, and those with the same labels add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicDesc {
    /// The family's name.
    pub name: Box<str>,
    /// The help line.
    pub help: Box<str>,
    /// The type line.
    pub kind: Kind,
    /// The label names, in the order in which a `Writer` takes their values.
    pub labels: Box<[Box<str>]>,
}

impl Desc {
    /// A family whose value only grows.
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Desc {
        Desc::new(name, help, Kind::Counter, labels, Duplicate::Add)
    }

    /// A family whose value is a quantity; two values of one series add up.
    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Desc {
        Desc::new(name, help, Kind::Gauge, labels, Duplicate::Add)
    }

    /// A family whose value is a state, a limit or the constant 1; of two values the larger stands.
    pub const fn state(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Desc {
        Desc::new(name, help, Kind::Gauge, labels, Duplicate::Max)
    }

    /// A family of cumulative buckets.
    pub const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Desc {
        Desc::new(name, help, Kind::Histogram, labels, Duplicate::Add)
    }

    const fn new(
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: &'static [&'static str],
        duplicate: Duplicate,
    ) -> Desc {
        Desc { name, help, kind, labels, duplicate, slot: AtomicU32::new(0) }
    }

    /// The scope follows from the name, so a family cannot miss its constant labels.
    pub fn scope(&self) -> Scope {
        if self.name.starts_with("node_") {
            Scope::Node
        } else if self.name.starts_with("container_") {
            Scope::Container
        } else {
            Scope::Agent
        }
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn set_slot(&self, slot: usize) {
        self.slot.store(u32::try_from(slot).unwrap_or(0), Ordering::Relaxed);
    }
}
