//! The table of collectors and what a collector is. One file per topic; a new one is its file and a line in [`COLLECTORS`].

use std::os::fd::RawFd;

use crate::args::{Config, Enable};
use crate::error::{Error, Reason, Result};
use crate::event::Event;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::world::World;

pub mod agent;
pub mod cloud;
pub mod container_net;
pub mod containers;
pub mod delays;
pub mod disk;
pub mod logs;
pub mod node_cpu;
pub mod node_disk;
pub mod node_info;
pub mod node_memory;
pub mod node_net;
pub mod node_pressure;
pub mod oom;
pub mod processes;
pub mod programs;
pub mod resources;
pub mod tcp;

/// Every collector, in the order of the scrape. `containers` comes before those that ask whose a cgroup is, `agent` last,
/// because it counts the series of all others.
pub const COLLECTORS: &[&Spec] = &[
    &node_info::SPEC,
    &cloud::SPEC,
    &node_cpu::SPEC,
    &node_memory::SPEC,
    &node_pressure::SPEC,
    &node_disk::SPEC,
    &node_net::SPEC,
    &containers::SPEC,
    &resources::SPEC,
    &container_net::SPEC,
    &delays::SPEC,
    &disk::SPEC,
    &processes::SPEC,
    &oom::SPEC,
    &tcp::SPEC,
    &logs::SPEC,
    &programs::SPEC,
    &agent::SPEC,
];

/// One topic's source of metrics. All state changes come through the first four functions; `collect` only reads.
pub trait Collector {
    /// Descriptors to wait for, from now on and until asked again.
    fn fds(&self, _wait: &mut dyn FnMut(RawFd)) {}

    /// Descriptors to wait for until they can be written to, which is also when a connection is made.
    fn fds_to_write(&self, _wait: &mut dyn FnMut(RawFd)) {}

    /// One of them is ready. A bounded read: the rest comes in the next turn.
    ///
    /// # Errors
    /// What makes the collector's data stale.
    fn ready(&mut self, _world: &mut World, _fd: RawFd) -> Result<()> {
        Ok(())
    }

    /// Something happened elsewhere.
    fn event(&mut self, _world: &mut World, _event: &Event) {}

    /// Reads what can be read without waiting.
    ///
    /// # Errors
    /// What makes the collector's data stale.
    fn refresh(&mut self, _world: &mut World) -> Result<()> {
        Ok(())
    }

    /// When it wants `refresh` called although nobody scrapes and the interval is not over; on the monotonic clock.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// When it wants `tick` called; on the monotonic clock.
    fn tick_ns(&self) -> Option<u64> {
        None
    }

    /// Its time has come: a bounded piece of work that takes its turns independently of refreshes, which read everything, and
    /// of scrapes, which would have to wait for it.
    fn tick(&mut self, _world: &mut World) {}

    /// True while something it started will be worth waiting for (`nodeprobe once`).
    fn is_busy(&self) -> bool {
        false
    }

    /// SIGHUP: reads its configuration files again, if it has any.
    fn reload(&mut self, _world: &mut World) {}

    /// The process is about to end: what is to outlive it is written now.
    fn close(&mut self, _world: &mut World) {}

    /// Its part of the page for developers, `/maps`.
    fn debug_page(&mut self, _world: &World) -> Option<String> {
        None
    }

    /// BPF maps it keeps in the kernel, for the metric about their memory.
    fn maps(&self, _each: &mut dyn FnMut(RawFd)) {}

    /// Says its metrics. Pure: no I/O, cannot fail.
    fn collect(&self, world: &World, out: &mut Registry);
}

/// When a collector is refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Every `--interval` and before a scrape: it would lose something otherwise.
    Interval,
    /// Before a scrape only.
    BeforeScrape,
    /// Never but by deadlines of its own: it reads nothing after it was opened, or has a pace of its own.
    Never,
}

/// A collector's row in the table.
pub struct Spec {
    /// Its name in `--collector.NAME` and in labels.
    pub name: &'static str,
    /// One line for help and docs.
    pub about: &'static str,
    /// Whether it runs when no flag says so.
    pub default: Enable,
    /// When it is refreshed.
    pub refresh: When,
    /// Capabilities it makes use of; root's other rights, which files' modes give, are not among them.
    pub needs: &'static [Need],
    /// Every family it may emit.
    pub metrics: &'static [&'static Desc],
    /// Acquires what it needs.
    pub open: fn(&mut World) -> Result<Opened>,
}

/// A capability a collector makes use of: `nodeprobe unit` grants it, with this reason.
pub struct Need {
    /// Which.
    pub capability: Capability,
    /// What it does with it.
    pub purpose: &'static str,
    /// Whether the collector is absent without it; otherwise it sees less.
    pub is_all: bool,
    /// Whether the flags make it one.
    pub wanted: fn(&Config) -> bool,
}

impl Need {
    /// The collector is absent without it.
    pub const fn absent(capability: Capability, purpose: &'static str) -> Need {
        Need { capability, purpose, is_all: true, wanted: |_| true }
    }

    /// The collector sees less without it.
    pub const fn less(capability: Capability, purpose: &'static str) -> Need {
        Need { capability, purpose, is_all: false, wanted: |_| true }
    }

    /// The same, but only of use with some flag.
    pub const fn flag(capability: Capability, purpose: &'static str, wanted: fn(&Config) -> bool) -> Need {
        Need { capability, purpose, is_all: false, wanted }
    }
}

/// What opening a collector gave.
pub enum Opened {
    /// It works.
    Ready(Box<dyn Collector>),
    /// It cannot work here; why, in a word and a line.
    Absent(Reason, String),
    /// The user asked for something that is wrong: nodeprobe does not start.
    CannotStart(Error),
}

impl Opened {
    /// Absent where there are no cgroups, and so no containers to be seen; `None` where there are.
    fn without_cgroups(world: &World) -> Option<Opened> {
        let is_absent = world.hierarchies.layout() == "none";
        is_absent.then(|| Opened::Absent(Reason::NotFound, "no cgroup hierarchy".to_owned()))
    }

    /// Absent also where the observed root is only files, without the processes they tell of.
    fn without_processes(world: &World) -> Option<Opened> {
        let line = "the observed root is not a running host";
        let is_absent = !world.host.is_live();
        let absent = is_absent.then(|| Opened::Absent(Reason::NotLive, line.to_owned()));
        absent.or_else(|| Opened::without_cgroups(world))
    }
}

/// `docs/METRICS.md`.
pub fn document() -> String {
    use crate::metric::{Kind, Scope};
    use std::fmt::Write;

    let mut text = String::from(
        "# Metrics\n\nGenerated from the tables in `src/collectors`; `make docs` renews it.\n\nEvery `node_*` series also has \
         the labels `machine_id` and `system_uuid`; every `container_*` series those, `container_id` and `app_id`, and, where \
         both are known of the cloud or by flags, `az` and `region`.\n",
    );
    for spec in COLLECTORS {
        let _ = write!(
            text,
            "\n## {}\n\n{}.\n\n{}| metric | type | labels | meaning |\n|---|---|---|---|\n",
            spec.name,
            spec.about,
            rights(spec)
        );
        for desc in spec.metrics {
            let kind = match desc.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            debug_assert!(
                desc.scope() != Scope::Agent
                    || desc.name.starts_with("nodeprobe_")
                    || desc.name.contains('_')
            );
            let _ =
                writeln!(text, "| `{}` | {kind} | {} | {} |", desc.name, desc.labels.join(", "), desc.help);
        }
    }
    text
}

/// Which capabilities a collector makes use of, a line each.
fn rights(spec: &Spec) -> String {
    let line = |need: &Need| {
        let without = if need.is_all { "absent without" } else { "sees less without" };
        format!("- `{}`, {without}: {}\n", need.capability.name().to_uppercase(), need.purpose)
    };
    let lines: String = spec.needs.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    /// Names as Prometheus wants them (<https://prometheus.io/docs/practices/naming/>), but for those that
    /// existing dashboards fix.
    #[test]
    fn every_family_is_well_named_and_owned_once() {
        let mut names = Vec::new();
        for spec in COLLECTORS {
            assert!(!spec.about.ends_with('.') && !spec.metrics.is_empty(), "{}", spec.name);
            for desc in spec.metrics {
                let name = desc.name;
                assert!(!names.contains(&name), "{name} has two owners");
                names.push(name);
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                    "{name}"
                );
                // ebpf_exporter's, as its users know them.
                if name.starts_with("ebpf_exporter_") {
                    continue;
                }
                assert_eq!(name.ends_with("_total"), desc.kind == Kind::Counter, "{name}");
                assert!(desc.help.ends_with('.') && desc.help.len() > 10, "{name}: {}", desc.help);
                assert!(
                    !["_ms", "_kb", "_us", "_percent"].iter().any(|unit| name.ends_with(unit)),
                    "{name}: base units"
                );
                assert!(desc.labels.iter().all(|label| !label.starts_with("__") && *label != "le"), "{name}");
            }
        }
    }
}
