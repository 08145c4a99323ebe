//! `nodeprobe doctor`: what this machine offers, found out by trying it, with a remedy for what is missing.
//!
//! No line comes from a version number: distributions add features to old kernels and switch them off in new ones.

mod doors;
mod kernel;
mod node;
mod render;

use std::io;

use crate::agent::Agent;
use crate::args::{Config, Enable};
use crate::containers::hierarchies::Hierarchies;
use crate::error::{Error, Reason};
use crate::host::Host;
use crate::stderr::{self, Level};
use crate::sys::capabilities;
use crate::world::Status;

/// What checks may look at.
pub struct Context {
    /// Where files are.
    pub host: Host,
    /// Where cgroup controllers are mounted.
    pub hierarchies: Hierarchies,
    /// Effective capabilities, a bit each.
    pub capabilities: u64,
}

impl Context {
    fn new(config: &Config) -> Context {
        let host = Host::new(&config.root, config.cgroupfs_root.as_deref());
        Context {
            hierarchies: Hierarchies::detect(&host),
            host,
            capabilities: capabilities::effective_capabilities(),
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ok,
    /// It works with a restriction, is switched off, or is not needed everywhere.
    Note,
    /// It does not work.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "missing",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Note => "!!",
            State::Missing => "--",
        }
    }
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// In a word.
    pub state: State,
    /// In a line.
    pub detail: String,
    /// What a person can do about it; empty when there is nothing to do.
    pub remedy: String,
}

impl Outcome {
    fn ok(detail: impl Into<String>) -> Outcome {
        Outcome { state: State::Ok, detail: detail.into(), remedy: String::new() }
    }

    fn note(detail: impl Into<String>, remedy: impl Into<String>) -> Outcome {
        Outcome { state: State::Note, detail: detail.into(), remedy: remedy.into() }
    }

    fn missing(detail: impl Into<String>, remedy: impl Into<String>) -> Outcome {
        Outcome { state: State::Missing, detail: detail.into(), remedy: remedy.into() }
    }

    /// `what`, a file of the host or a sysctl, cannot be read; `remedy` is for the case that it does not exist.
    fn unreadable(what: &str, error: &io::Error, remedy: &str) -> Outcome {
        match error.kind() {
            io::ErrorKind::NotFound => Outcome::missing(format!("no {what}"), remedy),
            io::ErrorKind::PermissionDenied => {
                Outcome::missing(format!("{what}: {error}"), "grant CAP_DAC_READ_SEARCH")
            }
            _ => Outcome::missing(format!("{what}: {error}"), "look into the kernel's log"),
        }
    }
}

/// One thing that is tried.
pub struct Check {
    /// Its name, unique and for machines.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub about: &'static str,
    /// Tries it.
    pub run: fn(&Context) -> Outcome,
}

const fn check(name: &'static str, about: &'static str, run: fn(&Context) -> Outcome) -> Check {
    Check { name, about, run }
}

/// Every check, in the order they are printed.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    check("tp_btf", "typed tracepoints: TCP, cgroups", |c| doors::attempt(c, &doors::TP_BTF)),
    check("raw_tracepoint", "tracepoints without types", |c| doors::attempt(c, &doors::RAW_TRACEPOINT)),
    check("tracepoint", "tracepoints through tracefs and perf", |c| doors::attempt(c, &doors::TRACEPOINT)),
    check("fentry", "kernel functions through BPF trampolines", |c| doors::attempt(c, &doors::FENTRY)),
    check("kprobe", "kernel functions through breakpoints", |c| doors::attempt(c, &doors::KPROBE)),
    check("uprobe", "functions of programs", |c| doors::attempt(c, &doors::UPROBE)),
    check("perf_event", "samples by time", |c| doors::attempt(c, &doors::PERF_EVENT)),
    check("ringbuf", "events in order", |c| doors::attempt(c, &doors::RINGBUF)),
    check("sk_storage", "memory of a socket", |c| doors::attempt(c, &doors::SK_STORAGE)),
    check("btf", "types of this kernel", kernel::btf),
    check("tracefs", "formats of tracepoints", kernel::tracefs),
    check("capabilities", "what this process may", kernel::capabilities),
    check("perf_event_paranoid", "who may use perf", kernel::perf_event_paranoid),
    check("lockdown", "what even root may not", kernel::lockdown),
    check("bpf_stats", "run time of BPF programs", kernel::bpf_stats),
    check("cgroups", "where controllers are", node::cgroups),
    check("psi", "time lost to shortage", kernel::psi),
    check("taskstats", "delays of processes", kernel::taskstats),
    check("task_delayacct", "their block I/O part", kernel::task_delayacct),
    check("conntrack", "translated addresses", kernel::conntrack),
    check("open_files", "this process's limit", kernel::open_files),
    check("runtimes", "container runtimes", node::runtimes),
    check("journald", "the system's journal", node::journald),
    check("cloud", "vendor by DMI", node::cloud),
];

/// Why TCP connections cannot be followed, and what can be done about it, in one line.
pub fn tcp_line(error: &Error, config: &Config) -> String {
    let context = Context::new(config);
    let needed = CHECKS.iter().filter(|check| matches!(check.name, "tp_btf" | "ringbuf" | "sk_storage"));
    let remedy = needed.map(|check| (check.run)(&context).remedy).find(|remedy| !remedy.is_empty());
    let said = render::plain(&error.to_string());
    // What libbpf adds in parentheses is for developers.
    let said = said.split_once(" (").map_or(&*said, |(said, _)| said);
    remedy.map_or_else(|| said.to_owned(), |remedy| format!("{said} -> {remedy}"))
}

/// Tries everything and says what came of it: a screen of text, or JSON with `--json`.
pub fn report(config: &Config) -> String {
    // What collectors say about their absence on stderr stands in the report.
    if config.log_level == Level::Info {
        stderr::configure(Level::Error, config.log_per_second, config.log_burst);
    }
    let context = Context::new(config);
    let outcomes: Vec<(&Check, Outcome)> =
        CHECKS.iter().map(|check| (check, (check.run)(&context))).collect();
    let collectors = collectors(config);
    if config.json {
        render::json(&outcomes, &collectors)
    } else {
        let root = (!context.host.is_live()).then_some(config.root.as_path());
        render::text(&outcomes, &collectors, root)
    }
}

/// Opens all collectors as the agent does, so that both give the same reasons.
fn collectors(config: &Config) -> Vec<Status> {
    let mut config = config.clone();
    // One that must work would hide all others; what it misses is said all the same.
    for (_, enable) in &mut config.collectors {
        if *enable == Enable::On {
            *enable = Enable::Auto;
        }
    }
    match Agent::open(config) {
        Ok(agent) => agent.status().to_vec(),
        Err(error) => vec![Status {
            name: "agent",
            reason: Reason::Failed,
            detail: error.to_string(),
            success: false,
            took_ns: 0,
            succeeded_ns: None,
            refreshed_ns: None,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_for_machines() {
        for (at, check) in CHECKS.iter().enumerate() {
            assert!(CHECKS[..at].iter().all(|other| other.name != check.name));
            assert!(check.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            assert!(check.name.len() <= render::NAME_WIDTH, "{}", check.name);
            assert!(!check.about.ends_with('.') && !check.about.is_empty());
        }
    }

    #[test]
    fn a_root_without_files_fails_no_check() {
        let host = Host::new(std::path::Path::new("/nonexistent"), None);
        let context = Context { hierarchies: Hierarchies::detect(&host), host, capabilities: 0 };
        for check in CHECKS {
            let outcome = (check.run)(&context);
            assert!(!outcome.detail.is_empty(), "{}", check.name);
            assert!(
                outcome.state != State::Missing || !outcome.remedy.is_empty(),
                "{}: {}",
                check.name,
                outcome.detail
            );
        }
    }

    #[test]
    fn remedies_for_any_capabilities_fit() {
        let mut context = Context {
            hierarchies: Hierarchies::default(),
            host: Host::new(std::path::Path::new("/nonexistent"), None),
            capabilities: 0,
        };
        let numbers = [2, 12, 19, 21, 24, 38, 39];
        for bits in 0..1u64 << numbers.len() {
            context.capabilities = (0..7).map(|at| (bits >> at & 1) << numbers[at]).sum();
            let outcome = kernel::capabilities(&context);
            let rest = render::rest(&outcome.detail, &outcome.remedy, "");
            assert!(rest.ends_with(&outcome.remedy), "{rest}");
            // Whatever is shortened, one name is there.
            assert!(rest.contains("cap_") || rest.starts_with("all"), "{rest}");
        }
    }
}
