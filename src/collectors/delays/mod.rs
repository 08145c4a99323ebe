//! What containers waited for: processors, disks, memory. From the kernel's accounting records (taskstats), of every process
//! at its end and of living ones on the timer.

mod accounting;
mod owners;
mod processes;
mod round;
mod socket;
mod waiting;

use std::os::fd::{AsRawFd, RawFd};

use self::accounting::{Accounting, State};
use self::owners::Owners;
use self::processes::Processes;
use self::round::Rounds;
use self::socket::{ExitSocket, Queries};
use self::waiting::{Ending, Verdict, Waiting, Whereabouts};
use super::{Collector, Need, Opened, Spec, When};
use crate::args::{Command, Enable};
use crate::containers::InstanceId;
use crate::containers::ledger::Ledger;
use crate::containers::owners::of_process;
use crate::error::{Context, Error, Reason, Result};
use crate::event::Event;
use crate::metric::Desc;
use crate::netlink::taskstats::Delay;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::{self, MonotonicNs};
use crate::world::World;
use crate::{info, limits, warning};

static CPU: Desc = Desc::counter(
    "container_resources_cpu_delay_seconds_total",
    "Time its threads were ready to run and waited for a processor, in seconds.",
    &[],
);
static DISK: Desc = Desc::counter(
    "container_resources_disk_delay_seconds_total",
    "Time its threads waited for block I/O, in seconds; absent while the kernel does not account for it.",
    &[],
);
static SWAP_IN: Desc = Desc::counter(
    "container_resources_swapin_delay_seconds_total",
    "Time its threads waited for pages to come back from swap, in seconds; absent at 0.",
    &[],
);
static RECLAIM: Desc = Desc::counter(
    "container_resources_reclaim_delay_seconds_total",
    "Time its threads waited for memory to be reclaimed, in seconds; absent at 0.",
    &[],
);
static THRASHING: Desc = Desc::counter(
    "container_resources_thrashing_delay_seconds_total",
    "Time its threads waited for pages that had just been thrown out, in seconds; absent at 0.",
    &[],
);
static COMPACT: Desc = Desc::counter(
    "container_resources_compact_delay_seconds_total",
    "Time its threads waited for memory to be made contiguous, in seconds; absent at 0.",
    &[],
);
static WRITE_COPY: Desc = Desc::counter(
    "container_resources_wpcopy_delay_seconds_total",
    "Time its threads waited for copies of write-protected pages, in seconds; absent at 0.",
    &[],
);
static IRQ: Desc = Desc::counter(
    "container_resources_irq_delay_seconds_total",
    "Time interrupts took the processor from its threads, in seconds; absent at 0.",
    &[],
);
static ACCOUNTING: Desc = Desc::state(
    "nodeprobe_delayacct_info",
    "Whether the kernel accounts for delays other than by processors (on, off, unknown); always 1.",
    &["state"],
);
static DOOR: Desc = Desc::state(
    "nodeprobe_taskstats_door_info",
    "How it is known where a process was when it ended: bpf, or proc, which misses short-lived ones; always 1.",
    &["door"],
);
static RECORDS: Desc = Desc::counter(
    "nodeprobe_taskstats_records_total",
    "Records of exits read, one for each thread of the host.",
    &[],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_taskstats_lost_total",
    "Records of exits the kernel dropped because they were not read in time; processes that live are asked about anew.",
    &[],
);
static UNATTRIBUTED: Desc = Desc::counter(
    "nodeprobe_taskstats_unattributed_total",
    "Ends of processes of which it could not be found out whether they were in a container.",
    &[],
);
static QUERIES: Desc =
    Desc::counter("nodeprobe_taskstats_queries_total", "Questions about living processes.", &[]);
static KNOWN: Desc =
    Desc::state("nodeprobe_taskstats_processes", "Processes of containers that are known.", &[]);
static REFUSED: Desc = Desc::counter(
    "nodeprobe_taskstats_processes_refused_total",
    "Sights of processes that were not taken in because too many were known; they count when they end.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "delays",
    about: "What containers waited for: processors, disks, memory",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::absent(Capability::NetAdmin, "receives taskstats"),
        Need::less(Capability::Bpf, "knows where processes of milliseconds were"),
        Need::less(Capability::Perfmon, "the same"),
    ],
    metrics: &[
        &CPU,
        &DISK,
        &SWAP_IN,
        &RECLAIM,
        &THRASHING,
        &COMPACT,
        &WRITE_COPY,
        &IRQ,
        &ACCOUNTING,
        &DOOR,
        &RECORDS,
        &LOST,
        &UNATTRIBUTED,
        &QUERIES,
        &KNOWN,
        &REFUSED,
    ],
    open,
};

/// By [`Delay`].
static FAMILIES: [&Desc; Delay::COUNT] =
    [&CPU, &DISK, &SWAP_IN, &RECLAIM, &THRASHING, &COMPACT, &WRITE_COPY, &IRQ];

/// The first version of records that says which thread was a process's last.
const SAYS_LAST: u16 = 12;

struct Accounts {
    exits: ExitSocket,
    /// `None` where the kernel takes no program of the kind.
    owners: Option<Owners>,
    waiting: Waiting,
    /// When exits are read again, while they gather.
    read_ns: Option<MonotonicNs>,
    processes: Processes,
    rounds: Rounds,
    /// `None` when the right to ask was given up.
    queries: Option<Queries>,
    /// When all processes are to be asked about, because records were lost.
    resync_ns: Option<MonotonicNs>,
    resynced_ns: MonotonicNs,
    ledger: Ledger<{ Delay::COUNT }>,
    accounting: Accounting,
    state: State,
    records: u64,
    lost: u64,
    unattributed: u64,
    /// What went wrong between two refreshes.
    problem: Option<Error>,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_processes(world) {
        return Ok(absent);
    }
    let (queries, version) = Queries::open(&world.host)?;
    // The program first: an exit whose record comes is then told of.
    let owners = Owners::open(version < SAYS_LAST)
        .inspect_err(|error| info!("delays: ends of short-lived processes may be missed: {error}"))
        .ok();
    let exits = ExitSocket::open(&world.host, &queries, world.config.taskstats_buffer)?;
    let rounds = Rounds::new(world)?;
    let mut accounting = Accounting::new(&world.host);
    if world.config.enable_delayacct && world.config.command == Command::Run {
        accounting.enable();
    }
    let state = accounting.state();
    Ok(Opened::Ready(Box::new(Accounts {
        exits,
        owners,
        waiting: Waiting::default(),
        read_ns: None,
        processes: Processes::default(),
        rounds,
        queries: Some(queries),
        resync_ns: None,
        resynced_ns: 0,
        ledger: Ledger::default(),
        accounting,
        state,
        records: 0,
        lost: 0,
        unattributed: 0,
        problem: None,
    })))
}

impl Accounts {
    /// Reads what has come, and decides when to read again.
    fn read(&mut self, world: &World) -> Result<()> {
        let now_ns = clock::monotonic_ns();
        let waiting = &mut self.waiting;
        let mut records = 0;
        let taken = self.exits.take(limits::EXITS_PER_TURN, |exit| {
            records += 1;
            if let Some(ending) = Ending::of(exit, now_ns) {
                waiting.push(ending);
            }
        });
        self.records += records;
        if let Some(owners) = &mut self.owners {
            // As many as there may be: threads are not told of, or are in both.
            owners.take(limits::EXITS_WAITING, |ended| waiting.tell(&ended, now_ns));
        }
        self.settle(world, now_ns);
        let (datagrams, lost) = taken?;
        if lost > 0 {
            self.lost += lost;
            let earliest_ns = self.resynced_ns + limits::DELAY_RESYNC_INTERVAL.as_nanos() as u64;
            self.resync_ns.get_or_insert(now_ns.max(earliest_ns));
        }
        let pause_ns = limits::EXITS_PAUSE.as_nanos() as u64;
        self.read_ns = match datagrams {
            limits::EXITS_PER_TURN => Some(now_ns),
            0 if self.waiting.is_empty() => None,
            _ => Some(now_ns + pause_ns),
        };
        Ok(())
    }

    fn settle(&mut self, world: &World, now_ns: MonotonicNs) {
        let agent_age_us = now_ns.saturating_sub(world.started_ns) / 1_000;
        let (processes, unattributed) = (&mut self.processes, &mut self.unattributed);
        self.waiting.settle(self.owners.is_some(), now_ns, |ending, at| {
            let owner = match at {
                Whereabouts::Known(ids) => match world.containers.of_task(&ids) {
                    Some(owner) => owner,
                    None => {
                        // It may have been in one before.
                        processes.forget(ending.id);
                        let is_in_root = ids.iter().all(|&id| id == 0);
                        return if is_in_root { Verdict::Done } else { Verdict::Later };
                    }
                },
                Whereabouts::Unknown if !ending.is_process => {
                    // It is as good as asking about the process, if it is one.
                    processes.observe(ending.id, &ending.delays);
                    *unattributed += u64::from(processes.instance(ending.id).is_none());
                    return Verdict::Done;
                }
                Whereabouts::Unknown => match last_seen(world, processes, ending) {
                    Some(owner) => owner,
                    None => {
                        *unattributed += 1;
                        return Verdict::Done;
                    }
                },
            };
            processes.end(ending.id, owner, &ending.delays, ending.age_us > agent_age_us);
            Verdict::Done
        });
    }

    /// Goes on with the round that is under way.
    fn ask(&mut self, world: &World) -> Result<()> {
        let Some(queries) = &mut self.queries else { return Ok(()) };
        match self.rounds.go_on(world, &mut self.processes, queries) {
            Err(error) if error.reason() == Reason::NoPermission => {
                warning!("delays: only processes that end are counted: {error}");
                self.queries = None;
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// Hands what instances have waited to the ledger.
    fn sum_up(&mut self, world: &World) {
        let mut ended = Vec::new();
        for (id, sum) in self.processes.sums() {
            let Some(instance) = world.containers.instance(id) else {
                ended.push(id);
                continue;
            };
            let identity =
                instance.identity.filter(|&identity| world.containers.identity(identity).is_some());
            if let Some(identity) = identity {
                self.ledger.observe(id, identity, 0, *sum);
            }
        }
        if !ended.is_empty() {
            ended.into_iter().for_each(|id| self.end_instance(id));
            self.processes.retain(|process| world.containers.instance(process.instance).is_some());
        }
    }

    fn end_instance(&mut self, id: InstanceId) {
        self.ledger.event(&Event::InstanceEnded(id));
        self.processes.end_instance(id);
        self.rounds.end_instance(id);
    }
}

/// The container of a process that ended, where the kernel did not say: where it was when it was asked about, is as a zombie,
/// or where its parent is.
fn last_seen(world: &World, processes: &Processes, ending: &Ending) -> Option<InstanceId> {
    let of = |pid| processes.instance(pid).or_else(|| of_process(world, pid).ok().flatten());
    of(ending.id).or_else(|| of(ending.parent?))
}

impl Collector for Accounts {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        if self.read_ns.is_none() {
            wait(self.exits.as_raw_fd());
        }
    }

    fn ready(&mut self, world: &mut World, _fd: RawFd) -> Result<()> {
        self.read(world)
    }

    fn event(&mut self, world: &mut World, event: &Event) {
        match *event {
            Event::InstanceEnded(id) => {
                // What it has waited to the last goes to the name it has; what is read later is news of its own.
                self.sum_up(world);
                self.end_instance(id);
            }
            _ => self.ledger.event(event),
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.state = self.accounting.state();
        self.read(world)?;
        for (id, ..) in world.containers.living() {
            self.processes.expect(id);
        }
        let now_ns = clock::monotonic_ns();
        let is_full = self.resync_ns.is_some_and(|at| at <= now_ns);
        if is_full {
            self.resync_ns = None;
            self.resynced_ns = now_ns;
        }
        self.rounds.begin(world, is_full);
        let asked = self.ask(world).context("living processes");
        self.sum_up(world);
        asked?;
        self.problem.take().map_or(Ok(()), Err)
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        self.resync_ns
    }

    fn tick_ns(&self) -> Option<MonotonicNs> {
        let round = (self.queries.is_some() && self.rounds.is_under_way()).then_some(0);
        self.read_ns.into_iter().chain(round).min()
    }

    fn tick(&mut self, world: &mut World) {
        let read = match self.read_ns {
            Some(at) if at <= world.now_ns => self.read(world),
            _ => Ok(()),
        };
        let asked = if self.rounds.is_under_way() { self.ask(world) } else { Ok(()) };
        if let Err(error) = read.and(asked) {
            self.problem = Some(error);
        }
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        self.owners.iter().for_each(|owners| each(owners.map().as_raw_fd()));
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (identity, _, totals) in self.ledger.totals() {
            let Some(named) = world.containers.identity(identity) else { continue };
            for (at, (desc, delay_ns)) in FAMILIES.into_iter().zip(totals).enumerate() {
                let is_expected =
                    at == Delay::Cpu as usize || at == Delay::BlockIo as usize && self.state == State::On;
                if is_expected || *delay_ns > 0 {
                    out.container(&named.labels, desc, &[], *delay_ns as f64 / 1e9);
                }
            }
        }
        out.add(&ACCOUNTING, &[self.state.word()], 1.0);
        out.add(&DOOR, &[if self.owners.is_some() { "bpf" } else { "proc" }], 1.0);
        out.add(&RECORDS, &[], self.records as f64);
        out.add(&LOST, &[], self.lost as f64);
        out.add(&UNATTRIBUTED, &[], self.unattributed as f64);
        out.add(&QUERIES, &[], self.rounds.queries as f64);
        out.add(&KNOWN, &[], self.processes.len() as f64);
        out.add(&REFUSED, &[], self.processes.refused as f64);
    }
}
