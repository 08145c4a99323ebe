//! CPU time of the node, from /proc/stat.

use super::{Collector, Opened, Spec, When};
use crate::args::Enable;
use crate::error::{Context, Error, Reason, Result};
use crate::kernel_file::KernelFile;
use crate::metric::Desc;
use crate::procfs::stat::{self, CpuTimes};
use crate::registry::Registry;
use crate::sys::clock::{self, MonotonicNs};
use crate::world::World;

static USAGE: Desc = Desc::counter(
    "node_resources_cpu_usage_seconds_total",
    "CPU time of the node by mode, in seconds (/proc/stat).",
    &["mode"],
);
static CORES: Desc = Desc::state("node_resources_cpu_logical_cores", "Logical CPUs that are online.", &[]);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "node_cpu",
    about: "CPU time of the node",
    default: Enable::Auto,
    refresh: When::BeforeScrape,
    needs: &[],
    metrics: &[&USAGE, &CORES],
    open,
};

struct NodeCpu {
    file: KernelFile,
    ticks_per_second: f64,
    usage: Usage,
    /// When the last reading that worked began.
    read_ns: MonotonicNs,
    logical_cores: usize,
}

/// Values of the label `mode`, in the order of [`ticks`].
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

fn ticks(cpu: &CpuTimes) -> [u64; MODES.len()] {
    [cpu.user, cpu.nice, cpu.system, cpu.idle, cpu.iowait, cpu.irq, cpu.softirq, cpu.steal]
}

/// Ticks by mode, as totals that only grow. Those of the kernel fall (proc.rst, get_idle_time() in fs/proc/stat.c): what was
/// iowait becomes idle when the task is woken on another processor, and the idle time of a processor is another count while it is
/// offline, so that idle and iowait jump down or up by days. For Prometheus a counter that falls has begun anew.
#[derive(Debug, Default)]
struct Usage {
    totals: [u64; MODES.len()],
    /// The kernel's own at the last reading.
    last: Option<[u64; MODES.len()]>,
}

impl Usage {
    /// Adds what came since the last reading: nothing for a mode that fell, and nothing for one that grew by more than `possible`,
    /// all processors' time in between.
    fn take(&mut self, now: [u64; MODES.len()], possible: u64) {
        match self.last.replace(now) {
            None => self.totals = now,
            Some(last) => {
                for ((total, now), last) in self.totals.iter_mut().zip(now).zip(last) {
                    let grown = now.saturating_sub(last);
                    if grown <= possible {
                        *total = total.saturating_add(grown);
                    }
                }
            }
        }
    }
}

fn open(world: &mut World) -> Result<Opened> {
    let mut collector = NodeCpu {
        file: KernelFile::one_piece(world.host.proc("stat")),
        ticks_per_second: clock::ticks_per_second(),
        usage: Usage::default(),
        read_ns: 0,
        logical_cores: 0,
    };
    collector.refresh(world)?;
    Ok(Opened::Ready(Box::new(collector)))
}

impl Collector for NodeCpu {
    fn refresh(&mut self, world: &mut World) -> Result<()> {
        let mut buffer = Vec::new();
        let began_ns = clock::monotonic_ns();
        let stat = stat::parse(self.file.read(&mut world.kept_files, &mut buffer).context("/proc/stat")?);
        let Some(cpu) = &stat.cpu else {
            return Err(Error::new(Reason::Failed, "/proc/stat: no line of all CPUs"));
        };
        // A second more: the kernel counts some of it late.
        let elapsed_s = clock::monotonic_ns().saturating_sub(self.read_ns) as f64 / 1e9 + 1.0;
        let cores = stat.logical_cores.max(self.logical_cores).max(1);
        self.usage.take(ticks(cpu), (elapsed_s * self.ticks_per_second * cores as f64) as u64);
        (self.read_ns, self.logical_cores) = (began_ns, stat.logical_cores);
        Ok(())
    }

    fn collect(&self, _world: &World, out: &mut Registry) {
        for (mode, ticks) in MODES.iter().zip(self.usage.totals) {
            out.add(&USAGE, &[mode], ticks as f64 / self.ticks_per_second);
        }
        out.add(&CORES, &[], self.logical_cores as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Totals of idle and iowait after each of the texts of /proc/stat.
    fn totals(texts: &[&str], possible: u64) -> Vec<(u64, u64)> {
        let mut usage = Usage::default();
        let mut after = |text: &&str| {
            usage.take(ticks(&stat::parse(text.as_bytes()).cpu.unwrap()), possible);
            assert_eq!(usage.totals[..3], [1, 2, 3], "{text}");
            assert_eq!(usage.totals[5..], [6, 7, 8], "{text}");
            (usage.totals[3], usage.totals[4])
        };
        texts.iter().map(&mut after).collect()
    }

    #[test]
    fn a_mode_that_falls_a_little_stands_still_and_goes_on() {
        let texts = [
            "cpu  1 2 3 1000 500 6 7 8 0 0\n",
            "cpu  1 2 3 1010 497 6 7 8 0 0\n",
            "cpu  1 2 3 1009 497 6 7 8 0 0\n",
            "cpu  1 2 3 1019 507 6 7 8 0 0\n",
        ];
        assert_eq!(totals(&texts, 100), [(1000, 500), (1010, 500), (1010, 500), (1020, 510)]);
    }

    #[test]
    fn a_processor_that_goes_and_comes_back_takes_nothing_and_brings_nothing() {
        let texts = [
            "cpu  1 2 3 90000000 5000000 6 7 8 0 0\ncpu0 0 0\ncpu1 0 0\n",
            "cpu  1 2 3 45000000 9 6 7 8 0 0\ncpu0 0 0\n",
            "cpu  1 2 3 45000100 19 6 7 8 0 0\ncpu0 0 0\n",
            "cpu  1 2 3 90000100 5000019 6 7 8 0 0\ncpu0 0 0\ncpu1 0 0\n",
            "cpu  1 2 3 90000300 5000020 6 7 8 0 0\ncpu0 0 0\ncpu1 0 0\n",
        ];
        let expected = [(0, 0), (0, 0), (100, 10), (100, 10), (300, 11)];
        let expected = expected.map(|(idle, iowait)| (90_000_000 + idle, 5_000_000 + iowait));
        assert_eq!(totals(&texts, 400), expected);
    }

    #[test]
    fn totals_end_at_the_largest_number() {
        let mut usage = Usage::default();
        for ticks in [u64::MAX, 0, 5] {
            usage.take([ticks; MODES.len()], u64::MAX);
        }
        assert_eq!(usage.totals, [u64::MAX; MODES.len()]);
    }
}
