//! nodeprobe about itself: what it costs, which collectors work, how many series there are.

use std::path::Path;

use super::{COLLECTORS, Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Result};
use crate::host::Host;
use crate::http::Closed;
use crate::kernel_file::KernelFile;
use crate::memory;
use crate::metric::Desc;
use crate::procfs::self_status::{self, SelfStatus};
use crate::registry::Registry;
use crate::stderr;
use crate::sys::{clock, heap};
use crate::world::{TurnTimes, World};

static BUILD: Desc =
    Desc::state("nodeprobe_build_info", "Version and architecture; always 1.", &["version", "arch"]);
static UP: Desc = Desc::state(
    "nodeprobe_collector_up",
    "1 if the collector is open and its last refresh worked.",
    &["collector"],
);
static INFO: Desc = Desc::state(
    "nodeprobe_collector_info",
    "Why the collector is absent, or ok; always 1. `nodeprobe doctor` says more.",
    &["collector", "reason"],
);
static SECONDS: Desc =
    Desc::state("nodeprobe_collector_seconds", "Duration of the last refresh, in seconds.", &["collector"]);
static AGE: Desc = Desc::state(
    "nodeprobe_collector_last_success_age_seconds",
    "Time since the last refresh that worked, in seconds.",
    &["collector"],
);
static CPU: Desc = Desc::counter(
    "nodeprobe_cpu_seconds_total",
    "CPU time of the process, user and system, in seconds.",
    &[],
);
static RSS: Desc = Desc::state("nodeprobe_resident_memory_bytes", "Resident memory, in bytes (VmRSS).", &[]);
static PEAK: Desc =
    Desc::state("nodeprobe_resident_memory_peak_bytes", "Largest resident memory, in bytes (VmHWM).", &[]);
static BPF: Desc = Desc::state(
    "nodeprobe_bpf_map_memory_bytes",
    "Kernel memory of BPF maps, in bytes (memlock in fdinfo).",
    &[],
);
static LIMIT: Desc = Desc::state(
    "nodeprobe_memory_limit_bytes",
    "Memory that may be in use, in bytes (--memory-limit); absent without a limit.",
    &[],
);
static USED: Desc = Desc::state(
    "nodeprobe_memory_used_bytes",
    "Memory held against the limit, in bytes: RssAnon, BPF maps, kernel memory of files kept open, and what containers met lately are going to take.",
    &[],
);
static HEAP: Desc = Desc::state("nodeprobe_heap_bytes", "Memory of the heap in use, in bytes.", &[]);
static REFUSED: Desc = Desc::counter(
    "nodeprobe_memory_refusals_total",
    "Times something was not taken in for want of memory under the limit: files (kept open, to save time), patterns (of logs), keys (containers, processes, destinations, rows), series.",
    &["what"],
);
static FDS: Desc = Desc::state("nodeprobe_open_fds", "Open file descriptors.", &[]);
static KEPT: Desc = Desc::state(
    "nodeprobe_kept_files",
    "Cgroup and /proc files kept open for quick reading; about 5 KiB of kernel memory each.",
    &[],
);
static UNWRITTEN: Desc = Desc::counter(
    "nodeprobe_stderr_lines_lost_total",
    "Lines for people that were dropped because nobody read those before from stderr.",
    &[],
);
static UPTIME: Desc =
    Desc::state("nodeprobe_uptime_seconds", "Time since the start of the process, in seconds.", &[]);
static TURNS: Desc = Desc::histogram(
    "nodeprobe_loop_turn_seconds",
    "Time a turn of the loop took, without its wait, in seconds.",
    &[],
);
static ACCEPTED: Desc = Desc::counter("nodeprobe_http_connections_total", "HTTP connections accepted.", &[]);
static ACCEPT_ERRORS: Desc =
    Desc::counter("nodeprobe_http_accept_errors_total", "Failures of accept(2).", &[]);
static CLOSED: Desc = Desc::counter(
    "nodeprobe_http_connections_closed_total",
    "HTTP connections closed before their time, by reason.",
    &["reason"],
);
static RESPONSES: Desc =
    Desc::counter("nodeprobe_http_responses_total", "HTTP responses by status.", &["code"]);
static HANDLER_ERRORS: Desc = Desc::counter(
    "promhttp_metric_handler_errors_total",
    "Always 0: for dashboards of agents that could fail to gather or encode.",
    &["cause"],
);
static REACHED: Desc = Desc::counter(
    "nodeprobe_limit_reached_total",
    "Times something was left out of a larger whole because of a limit.",
    &["limit"],
);
static SERIES: Desc = Desc::state("nodeprobe_series", "Series of the metric in this scrape.", &["metric"]);
static DROPPED: Desc = Desc::counter(
    "nodeprobe_series_dropped_total",
    "Series left out of scrapes because the metric was at --series-limit, or memory near --memory-limit.",
    &["metric"],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "agent",
    about: "nodeprobe itself",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[
        &BUILD,
        &UP,
        &INFO,
        &SECONDS,
        &AGE,
        &CPU,
        &RSS,
        &PEAK,
        &BPF,
        &LIMIT,
        &USED,
        &HEAP,
        &REFUSED,
        &FDS,
        &KEPT,
        &UNWRITTEN,
        &UPTIME,
        &TURNS,
        &ACCEPTED,
        &ACCEPT_ERRORS,
        &CLOSED,
        &RESPONSES,
        &HANDLER_ERRORS,
        &REACHED,
        &SERIES,
        &DROPPED,
    ],
    open,
};

struct Itself {
    status_file: KernelFile,
    status: SelfStatus,
    open_fds: Option<u64>,
}

fn open(_world: &mut World) -> Result<Opened> {
    let status_file = KernelFile::one_piece(Host::own("status"));
    Ok(Opened::Ready(Box::new(Itself { status_file, status: SelfStatus::default(), open_fds: None })))
}

/// The entries of the directory `fd`. Since Linux 6.2 they are its size; before that the size is 0, and listing thousands of
/// them costs milliseconds but has to be.
fn open_fds(fd: &Path) -> Option<u64> {
    match std::fs::metadata(fd).ok()?.len() {
        // The directory's own descriptor is among them.
        0 => Some(std::fs::read_dir(fd).ok()?.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

impl Collector for Itself {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        self.status = self_status::parse(
            self.status_file.read(&mut world.kept_files, &mut buffer).context("/proc/self/status")?,
        );
        self.open_fds = open_fds(&Host::own("fd"));
        Ok(())
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        out.add(&BUILD, &[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], 1.0);
        for status in &world.status {
            out.add(&UP, &[status.name], f64::from(u8::from(status.success)));
            out.add(&INFO, &[status.name, status.reason.word()], 1.0);
            if let Some(succeeded_ns) = status.succeeded_ns {
                out.add(&SECONDS, &[status.name], status.took_ns as f64 / 1e9);
                out.add(&AGE, &[status.name], world.now_ns.saturating_sub(succeeded_ns) as f64 / 1e9);
            }
        }
        out.add(&CPU, &[], clock::process_cpu_ns() as f64 / 1e9);
        for (desc, value) in [
            (&RSS, self.status.resident_bytes),
            (&PEAK, self.status.peak_resident_bytes),
            (&FDS, self.open_fds),
            (&BPF, Some(world.bpf_map_bytes)),
            (&LIMIT, Some(memory::limit()).filter(|&limit| limit != u64::MAX)),
            (&USED, Some(memory::used())),
            (&HEAP, Some(heap::bytes() as u64)),
            (&KEPT, Some(world.kept_files.used())),
        ] {
            if let Some(value) = value {
                out.add(desc, &[], value as f64);
            }
        }
        out.add(&UNWRITTEN, &[], stderr::dropped() as f64);
        out.add(&UPTIME, &[], world.now_ns.saturating_sub(world.started_ns) as f64 / 1e9);
        let turns: &TurnTimes = &world.turns;
        out.histogram(&TURNS, &[], &turns.buckets(), turns.sum_s, turns.count);
        out.add(&ACCEPTED, &[], world.http.accepted as f64);
        out.add(&ACCEPT_ERRORS, &[], world.http.accept_errors as f64);
        for why in Closed::ALL {
            out.add(&CLOSED, &[why.word()], world.http.closed[why as usize] as f64);
        }
        for (code, count) in &world.http.responses {
            out.add(&RESPONSES, &[&code.to_string()], *count as f64);
        }
        for (limit, count) in world.reached.counts() {
            out.add(&REACHED, &[limit], count as f64);
        }
        for (what, count) in memory::refused() {
            out.add(&REFUSED, &[what.word()], count as f64);
        }
        for cause in ["encoding", "gathering"] {
            out.add(&HANDLER_ERRORS, &[cause], 0.0);
        }
        for family in out.counts() {
            out.add(&SERIES, &[&family.name], f64::from(family.series));
            if family.dropped > 0 {
                out.add(&DROPPED, &[&family.name], family.dropped as f64);
            }
        }
        debug_assert_eq!(world.status.len(), COLLECTORS.len());
    }
}
