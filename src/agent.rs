//! The loop: gather descriptors, wait, dispatch, drain events, run what is due, answer scrapes. One thread, one poll(2).

use std::fmt::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::args::{Config, Enable};
use crate::collectors::{COLLECTORS, Collector, Opened, Spec, When};
use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::http::{Http, Page};
use crate::kernel_file::KernelFile;
use crate::limits;
use crate::memory;
use crate::procfs::self_status;
use crate::registry::{Body, Registry};
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::poll::{Interest, PollSet};
use crate::sys::process;
use crate::sys::signal::Signals;
use crate::systemd::Manager;
use crate::world::{Status, World};
use crate::{debug, info, warning};

/// How long `once` waits for collectors that are busy.
const ONCE_PATIENCE: Duration = Duration::from_secs(6);

/// All collectors and the state they share.
pub struct Agent {
    world: World,
    slots: Vec<Slot>,
    registry: Registry,
    poll: PollSet,
    /// When somebody scraped last.
    scraped_ns: Option<MonotonicNs>,
    /// When the budget of kept files is tried in full again.
    restore_files_ns: MonotonicNs,
    /// When it is looked again how much memory is resident.
    look_ns: MonotonicNs,
    /// So much is in use that it was said.
    is_short: bool,
    status_file: KernelFile,
    /// Who is told how it goes.
    manager: Manager,
}

/// A collector in its place of the table; `None` when absent.
struct Slot {
    spec: &'static Spec,
    collector: Option<Box<dyn Collector>>,
    /// Where its descriptors are in the poll set.
    polled: std::ops::Range<usize>,
    /// A scrape could not wait for its refresh.
    is_due: bool,
    /// CPU time of the last refresh, in nanoseconds: what it takes however busy the machine is with other things.
    cost_ns: u64,
}

impl Agent {
    /// Opens all collectors.
    ///
    /// # Errors
    /// A collector that was switched on by name and cannot work.
    pub fn open(config: Config) -> Result<Agent> {
        let mut world = World::new(config, process::raise_open_files());
        let registry = Registry::new(
            COLLECTORS.iter().flat_map(|spec| spec.metrics.iter().copied()),
            world.node.labels.clone(),
            world.config.series_limit,
        );
        let mut slots = Vec::with_capacity(COLLECTORS.len());
        for spec in COLLECTORS.iter().copied() {
            // What later ones may take depends on it.
            memory::set_maps(map_bytes(&slots));
            let (collector, reason, detail) = match open_collector(spec, &mut world)? {
                Opened::Ready(collector) => (Some(collector), Reason::Ok, String::new()),
                Opened::Absent(reason, line) => (None, reason, line),
                Opened::CannotStart(error) => return Err(error),
            };
            world.status.push(Status {
                name: spec.name,
                reason,
                detail,
                success: collector.is_some(),
                took_ns: 0,
                succeeded_ns: None,
                refreshed_ns: None,
            });
            slots.push(Slot { spec, collector, polled: 0..0, is_due: false, cost_ns: 0 });
        }
        let poll = PollSet::default();
        let manager = Manager::default();
        let mut agent = Agent {
            world,
            slots,
            registry,
            poll,
            scraped_ns: None,
            restore_files_ns: 0,
            look_ns: 0,
            is_short: false,
            manager,
            status_file: KernelFile::one_piece(Host::own("status")),
        };
        agent.count_map_bytes();
        agent.look_at_memory();
        Ok(agent)
    }

    /// How the collectors fare, in table order.
    pub fn status(&self) -> &[Status] {
        &self.world.status
    }

    /// How many collectors run, and which do not though nobody switched them off: a line for `systemctl status`.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let with_reason = |status: &Status| format!("{} ({})", status.name, status.reason.word());
        let all = &self.world.status;
        let absent: Vec<String> = all
            .iter()
            .filter(|status| !matches!(status.reason, Reason::Ok | Reason::Disabled))
            .map(with_reason)
            .collect();
        let running = all.iter().filter(|status| status.reason == Reason::Ok);
        let failing: Vec<&str> =
            running.clone().filter(|status| !status.success).map(|status| status.name).collect();
        let _ = write!(text, "{} collectors run, {} absent", running.count(), absent.len());
        for (word, names) in [("absent", absent.join(", ")), ("failing", failing.join(", "))] {
            if !names.is_empty() {
                let _ = write!(text, "; {word}: {names}");
            }
        }
        text
    }

    /// Serves until a signal says to stop, and tells `manager` so.
    ///
    /// # Errors
    /// What makes serving impossible.
    pub fn run(&mut self, mut http: Http, signals: &Signals, manager: Manager) -> Result<()> {
        self.manager = manager;
        self.manager.ready(self.summary());
        let served = self.serve(&mut http, signals);
        info!("stopping");
        self.manager.stopping();
        for index in 0..self.slots.len() {
            self.attempt(index, |collector, world| {
                collector.close(world);
                Ok(())
            });
        }
        served
    }

    /// The loop.
    fn serve(&mut self, http: &mut Http, signals: &Signals) -> Result<()> {
        let mut stop = false;
        // Until when a client that is taking its answer is waited for: its pieces go out one after the other, and with work
        // between them a large answer would take as long as all that work.
        let (mut sending_until_ns, mut worked_ns) = (0, 0);
        while !stop {
            self.poll.clear();
            self.poll.add(signals.as_raw_fd(), Interest::Read);
            self.add_collectors();
            http.fds(&mut self.poll, self.world.now_ns);
            let deadline_ns = self.deadline_ns().max(sending_until_ns);
            let deadline_ns = deadline_ns.min(http.deadline_ns()).min(self.manager.deadline_ns());
            self.wait(deadline_ns)?;
            let began_ns = self.world.now_ns;
            self.manager.feed();

            if self.restore_files_ns <= began_ns {
                self.world.kept_files.restore();
                self.restore_files_ns = began_ns + limits::LIMITS_INTERVAL.as_nanos() as u64;
            }
            if self.look_ns <= began_ns {
                self.look_at_memory();
            }
            self.ready_collectors();
            // Clients that ask again and again do not keep it from its work.
            let waits_ns = began_ns.saturating_sub(worked_ns);
            if sending_until_ns <= began_ns || waits_ns >= limits::REFRESH_AGE.as_nanos() as u64 {
                worked_ns = began_ns;
                self.refresh_due();
                self.tick_due();
            }
            http.turn(&self.poll, self.world.now_ns, &mut self.world.http);
            if http.is_asked(Page::Maps) {
                let mut stats = std::mem::take(&mut self.world.http);
                http.answer(Page::Maps, self.world.now_ns, &mut stats, || self.debug_page());
                self.world.http = stats;
            }
            if http.is_asked(Page::Metrics) {
                self.refresh_for_scrape();
                self.scraped_ns = Some(self.world.now_ns);
                let mut stats = std::mem::take(&mut self.world.http);
                // The counts of before this scrape are what it says; those of answering it come with the next.
                self.world.http = stats.clone();
                let now_ns = self.world.now_ns;
                http.answer(Page::Metrics, now_ns, &mut stats, || self.collect());
                self.world.http = stats;
            }
            if http.is_taken(began_ns) {
                sending_until_ns = clock::monotonic_ns() + limits::HTTP_PACE.as_nanos() as u64;
            }
            while let Some(signal) = signals.next() {
                match signal {
                    libc::SIGHUP => self.reload(),
                    _ => stop = true,
                }
            }
            let mut manager = std::mem::take(&mut self.manager);
            manager.observe(self.world.now_ns, || self.summary());
            self.manager = manager;
            self.world.turns.observe(clock::monotonic_ns().saturating_sub(began_ns) as f64 / 1e9);
        }
        Ok(())
    }

    /// Has every collector read its configuration files again.
    fn reload(&mut self) {
        info!("reloading");
        self.manager.reloading();
        for index in 0..self.slots.len() {
            self.attempt(index, |collector, world| {
                collector.reload(world);
                Ok(())
            });
        }
        self.count_map_bytes();
        self.manager.ready(self.summary());
    }

    fn count_map_bytes(&mut self) {
        self.world.bpf_map_bytes = map_bytes(&self.slots);
        memory::set_maps(self.world.bpf_map_bytes);
    }

    /// Takes note of how much memory is resident, and says so where little is left.
    fn look_at_memory(&mut self) {
        self.look_ns = self.world.now_ns + limits::MEMORY_LOOK_INTERVAL.as_nanos() as u64;
        let mut buffer = Vec::new();
        if let Ok(status) = self.status_file.read(&mut self.world.kept_files, &mut buffer) {
            memory::look(self_status::parse(status).anonymous_bytes.unwrap_or(0));
        }
        if memory::is_short() && !std::mem::replace(&mut self.is_short, true) {
            let mib = |bytes: u64| bytes >> 20;
            warning!(
                "{} of {} MiB of memory are in use (--memory-limit): soon nothing new is taken in",
                mib(memory::used()),
                mib(memory::limit())
            );
        } else if memory::has_recovered() {
            self.is_short = false;
        }
    }

    /// The page for developers.
    fn debug_page(&mut self) -> Body {
        let world = &self.world;
        let pages = self.slots.iter_mut().filter_map(|slot| slot.collector.as_mut()?.debug_page(world));
        Body { pieces: pages.map(|page| page.into_bytes().into()).collect() }
    }

    /// One scrape without a server: refreshes everything, waits a little for what takes its time, and renders.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn once(&mut self) -> Result<Body> {
        self.refresh_for_scrape();
        let give_up_ns = self.world.now_ns + ONCE_PATIENCE.as_nanos() as u64;
        while self
            .slots
            .iter()
            .filter_map(|slot| slot.collector.as_ref())
            .any(|collector| collector.is_busy())
        {
            if self.world.now_ns >= give_up_ns {
                break;
            }
            self.poll.clear();
            self.add_collectors();
            self.wait(self.deadline_ns().min(give_up_ns))?;
            self.ready_collectors();
            self.refresh_due();
            self.tick_due();
        }
        Ok(self.collect())
    }

    fn wait(&mut self, deadline_ns: MonotonicNs) -> Result<()> {
        let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
        // Rounded up: waking early would only mean another turn. An hour is as good as for ever.
        let timeout_ms = left_ns.div_ceil(1_000_000).min(3_600_000) as i32;
        self.poll.wait(timeout_ms).context("poll")?;
        self.world.now_ns = clock::monotonic_ns();
        Ok(())
    }

    fn add_collectors(&mut self) {
        for slot in &mut self.slots {
            let start = self.poll.len();
            if let Some(collector) = &slot.collector {
                collector.fds(&mut |fd| self.poll.add(fd, Interest::Read));
                collector.fds_to_write(&mut |fd| self.poll.add(fd, Interest::Write));
            }
            slot.polled = start..self.poll.len();
        }
    }

    fn ready_collectors(&mut self) {
        for index in 0..self.slots.len() {
            for at in self.slots[index].polled.clone() {
                if let Some(fd) = self.poll.ready(at) {
                    // What one read could do says nothing of the last refresh; what it could not do does.
                    if self.attempt(index, |collector, world| collector.ready(world, fd)) == Some(false) {
                        self.world.status[index].success = false;
                    }
                }
            }
        }
    }

    /// When the next refresh or tick is due.
    fn deadline_ns(&self) -> MonotonicNs {
        let slots = self.slots.iter().zip(&self.world.status);
        let refreshes = slots.filter_map(|(slot, status)| self.due_ns(slot, status));
        let ticks = self.slots.iter().filter_map(|slot| slot.collector.as_ref()?.tick_ns());
        refreshes.chain(ticks).min().unwrap_or(MonotonicNs::MAX)
    }

    fn due_ns(&self, slot: &Slot, status: &Status) -> Option<MonotonicNs> {
        let collector = slot.collector.as_ref()?;
        if slot.is_due {
            return Some(0);
        }
        let interval_ns = self.world.config.interval.as_nanos() as u64;
        // A scraper with the same interval does the work: the timer must not do it again just before each scrape.
        let is_scraped =
            self.scraped_ns.is_some_and(|at| self.world.now_ns.saturating_sub(at) < 2 * interval_ns);
        let interval_ns = if is_scraped { interval_ns + interval_ns / 2 } else { interval_ns };
        let regular = (slot.spec.refresh == When::Interval)
            .then(|| status.refreshed_ns.map_or(0, |at| at + interval_ns));
        regular.into_iter().chain(collector.deadline_ns()).min()
    }

    fn refresh_due(&mut self) {
        for index in 0..self.slots.len() {
            let due = self.due_ns(&self.slots[index], &self.world.status[index]);
            if due.is_some_and(|due_ns| due_ns <= self.world.now_ns) {
                self.refresh(index);
            }
        }
    }

    /// Not in the turn's part for scrapes: nobody who scrapes waits for it.
    fn tick_due(&mut self) {
        for index in 0..self.slots.len() {
            let collector = self.slots[index].collector.as_ref();
            if collector.and_then(|collector| collector.tick_ns()).is_some_and(|at| at <= self.world.now_ns) {
                self.attempt(index, |collector, world| {
                    collector.tick(world);
                    Ok(())
                });
            }
        }
    }

    /// Refreshes what is older than a second, or than ten times what its refresh costs. What takes too long for somebody to
    /// wait for it is refreshed when that one has the answer, for the next.
    fn refresh_for_scrape(&mut self) {
        let began_ns = clock::process_cpu_ns();
        let (patience_ns, is_worth_it_ns) =
            (limits::REFRESH_IN_SCRAPE.as_nanos() as u64, limits::REFRESH_DEFERRED.as_nanos() as u64);
        for index in 0..self.slots.len() {
            let status = &self.world.status[index];
            let age_ns = status.took_ns * u64::from(limits::REFRESH_AGE_PER_COST);
            let age_ns = age_ns.min(limits::REFRESH_AGE.as_nanos() as u64);
            let now_ns = clock::monotonic_ns();
            let is_old = status.refreshed_ns.is_none_or(|at| now_ns.saturating_sub(at) >= age_ns);
            if !is_old || self.slots[index].spec.refresh == When::Never {
                continue;
            }
            let cost_ns = self.slots[index].cost_ns;
            let is_late = clock::process_cpu_ns().saturating_sub(began_ns) + cost_ns > patience_ns;
            if is_late && cost_ns >= is_worth_it_ns {
                self.slots[index].is_due = true;
            } else {
                self.refresh(index);
            }
        }
    }

    fn refresh(&mut self, index: usize) {
        let began_ns = clock::monotonic_ns();
        self.world.now_ns = began_ns;
        let began_cpu_ns = clock::process_cpu_ns();
        let success = self.attempt(index, |collector, world| collector.refresh(world));
        let ended_ns = clock::monotonic_ns();
        let slot = &mut self.slots[index];
        (slot.is_due, slot.cost_ns) = (false, clock::process_cpu_ns().saturating_sub(began_cpu_ns));
        let status = &mut self.world.status[index];
        status.success = success == Some(true);
        status.refreshed_ns = Some(began_ns);
        status.took_ns = ended_ns.saturating_sub(began_ns);
        if success == Some(true) {
            status.succeeded_ns = Some(ended_ns);
        }
    }

    /// Lets a collector act, notes whether it could, and tells all others what it pushed.
    fn attempt(
        &mut self,
        index: usize,
        action: impl FnOnce(&mut dyn Collector, &mut World) -> Result<()>,
    ) -> Option<bool> {
        let slot = &mut self.slots[index];
        let collector = slot.collector.as_mut()?;
        self.manager.feed();
        let result = action(collector.as_mut(), &mut self.world);
        let success = result.is_ok();
        if let Err(error) = result {
            warning!("{}: {error}", slot.spec.name);
        }
        self.drain_events();
        Some(success)
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.world.events.pop_front() {
            for collector in self.slots.iter_mut().filter_map(|slot| slot.collector.as_mut()) {
                collector.event(&mut self.world, &event);
            }
        }
    }

    fn collect(&mut self) -> Body {
        for slot in &self.slots {
            if let Some(collector) = &slot.collector {
                collector.collect(&self.world, &mut self.registry);
            }
        }
        self.registry.finish()
    }
}

/// What the kernel says all maps take: `memlock` in their fdinfo.
fn map_bytes(slots: &[Slot]) -> u64 {
    let of = |fd: RawFd| -> u64 {
        let info = read_bounded(&Host::own(&format!("fdinfo/{fd}")), limits::KERNEL_FILE_BYTES);
        let info = info.unwrap_or_default();
        let info = String::from_utf8_lossy(&info);
        let memlock = info.lines().find_map(|line| line.strip_prefix("memlock:"));
        memlock.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
    };
    let mut bytes = 0;
    for collector in slots.iter().filter_map(|slot| slot.collector.as_ref()) {
        collector.maps(&mut |fd| bytes += of(fd));
    }
    bytes
}

fn open_collector(spec: &'static Spec, world: &mut World) -> Result<Opened> {
    let wanted = world.config.collector(spec.name).unwrap_or(spec.default);
    if wanted == Enable::Off {
        return Ok(Opened::Absent(Reason::Disabled, "switched off".to_owned()));
    }
    let (reason, line) = match (spec.open)(world) {
        Ok(Opened::Ready(collector)) => return Ok(Opened::Ready(collector)),
        Ok(Opened::Absent(reason, line)) => (reason, line),
        Ok(Opened::CannotStart(error)) => return Err(error),
        Err(error) => (error.reason(), error.to_string()),
    };
    if wanted == Enable::On {
        return Err(Error::new(reason, format!("--collector.{}=on: {line}", spec.name)));
    }
    match reason {
        Reason::NotLive | Reason::Disabled => debug!("collector {} is absent: {line}", spec.name),
        _ => info!("collector {} is absent: {line}", spec.name),
    }
    Ok(Opened::Absent(reason, line))
}
