//! Logs of containers: followed where runtimes, journald and the containers themselves write them, counted by level and pattern.

mod files;
mod journals;
mod sources;
mod state;

use std::collections::{BTreeSet, HashMap};
use std::os::fd::RawFd;

use self::files::{Files, OUTPUTS, OpenFiles, format_of};
use self::journals::{Owners, level_of};
use self::sources::Sources;
use self::state::State;
use super::{Collector, Need, Opened, Spec, When};
use crate::args::logs::{Samples, Settings};
use crate::args::{Command, Enable};
use crate::containers::InstanceId;
use crate::error::Result;
use crate::event::Event;
use crate::limits::{self, Limit};
use crate::logs::command::redact;
use crate::logs::formats::plain;
use crate::logs::journal::directory::Journals;
use crate::logs::journal::file::Budget;
use crate::logs::journal::record::{Field, Wanted};
use crate::logs::level::Level;
use crate::logs::pattern::Pattern;
use crate::logs::tail::{self, Start, Tail};
use crate::memory;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::file::birth_s;
use crate::warning;
use crate::world::World;

static MESSAGES: Desc = Desc::counter(
    "container_log_messages_total",
    "Messages in the container's logs, by source (stdout/stderr, journald, or the path of a file), level and pattern; those beyond the cap of patterns as ~other.",
    &["source", "level", "pattern_hash", "sample"],
);
static FILES: Desc = Desc::gauge("nodeprobe_log_files", "Log files of containers that are followed.", &[]);
static FILES_REFUSED: Desc = Desc::counter(
    "nodeprobe_log_files_refused_total",
    "Log files that were not followed because there were too many, counted each time one is met.",
    &[],
);
static BYTES: Desc = Desc::counter("nodeprobe_log_bytes_total", "Bytes of log files that were read.", &[]);
static RECORDS: Desc = Desc::counter(
    "nodeprobe_log_records_total",
    "Records of log files and entries of journals that were read.",
    &["source"],
);
static LAG: Desc =
    Desc::gauge("nodeprobe_log_lag_bytes", "Bytes of log files that are still to be read.", &[]);
static ROTATIONS: Desc = Desc::counter(
    "nodeprobe_log_rotations_total",
    "Log files that took the place of others that were renamed or removed.",
    &[],
);
static TRUNCATIONS: Desc = Desc::counter(
    "nodeprobe_log_truncations_total",
    "Log files found cut and written anew (copytruncate).",
    &[],
);
static LOST_BYTES: Desc = Desc::counter(
    "nodeprobe_log_lost_bytes_total",
    "Bytes of log files that were cut or removed before they were read.",
    &[],
);
static LOST_FILES: Desc = Desc::counter(
    "nodeprobe_log_lost_files_total",
    "Rotated log files that were compressed or removed before they were read.",
    &[],
);
static NOT_COUNTED: Desc = Desc::counter(
    "nodeprobe_log_records_refused_total",
    "Records that are not counted: too_long (only the beginning counts), broken, or damaged in a journal.",
    &["reason"],
);
static POLLING: Desc = Desc::state(
    "nodeprobe_log_polling",
    "1 while some files are only looked at every second, because there are no more inotify watches.",
    &[],
);
static PATTERN_BYTES: Desc = Desc::gauge(
    "nodeprobe_log_pattern_bytes",
    "Memory that patterns and lines in the making take, in bytes.",
    &[],
);
static JOURNAL_FILES: Desc = Desc::gauge("nodeprobe_log_journal_files", "Journals that are open.", &[]);
static NOBODYS: Desc = Desc::counter(
    "nodeprobe_log_journal_unattributed_total",
    "Entries of journals whose writer is in no container that is exported.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "logs",
    about: "Messages in the logs of containers, by level and pattern",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::less(Capability::SysPtrace, "finds the log files containers write themselves"),
        Need::less(
            Capability::DacReadSearch,
            "reads logs of users' containers, and those only their owner may read",
        ),
    ],
    metrics: &[
        &MESSAGES,
        &FILES,
        &FILES_REFUSED,
        &BYTES,
        &RECORDS,
        &LAG,
        &ROTATIONS,
        &TRUNCATIONS,
        &LOST_BYTES,
        &LOST_FILES,
        &NOT_COUNTED,
        &POLLING,
        &PATTERN_BYTES,
        &JOURNAL_FILES,
        &NOBODYS,
    ],
    open,
};

/// Between two looks at what has been written to journals: journald writes through a mapping, of which inotify says nothing.
const JOURNAL_INTERVAL_NS: u64 = 1_000_000_000;

/// Between two looks which journals there are.
const JOURNAL_LOOK_NS: u64 = 5_000_000_000;

/// How much earlier than a container its first log may be made.
const AHEAD_S: u64 = 5;

/// Between two ends of messages that wait for more lines.
const FLUSH_NS: u64 = 1_000_000_000;

/// Instances whose outputs found no room that are tried again in one refresh.
const AGAIN: usize = 1_024;

struct Logs {
    settings: Settings,
    files: Files,
    open_files: OpenFiles,
    journals: Journals,
    owners: Owners,
    sources: Sources,
    /// Instances whose outputs found no room.
    unfollowed: BTreeSet<InstanceId>,
    /// When instances were noticed, in seconds since 1970; 0 for those from before the start.
    began_s: HashMap<InstanceId, u64>,
    /// When this was opened, in seconds since 1970.
    opened_s: u64,
    /// The first refresh is over.
    is_settled: bool,
    /// Until when an earlier life has looked, in seconds since 1970; 0 without one.
    looked_s: u64,
    now_ns: MonotonicNs,
    journal_ns: MonotonicNs,
    journal_look_ns: MonotonicNs,
    flush_ns: MonotonicNs,
    save_ns: MonotonicNs,
    has_state_failed: bool,
    entries: u64,
    nobodys: u64,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_processes(world) {
        return Ok(absent);
    }
    let settings = world.config.logs.clone();
    let directory = settings.state_dir.as_ref().filter(|_| world.config.command == Command::Run);
    let state = directory.map(|directory| {
        let made = std::fs::create_dir_all(directory);
        made.and_then(|()| State::load(directory)).unwrap_or_else(|error| {
            warning!("logs: {}: {error}; begins anew", directory.display());
            State::default()
        })
    });
    let State { positions, journals: saved, patterns, is_found, saved_s } = state.unwrap_or_default();
    let mut journals = Journals::of_host(&world.host);
    if is_found {
        journals.restore(saved);
    }
    Ok(Opened::Ready(Box::new(Logs {
        sources: Sources::new(&settings, patterns),
        settings,
        files: Files::new(Tail::new(world.host.clone(), tail::Limits::default(), positions)),
        open_files: OpenFiles::default(),
        journals,
        owners: Owners::default(),
        unfollowed: BTreeSet::new(),
        began_s: HashMap::new(),
        opened_s: clock::wall_s(),
        is_settled: false,
        looked_s: if is_found { saved_s } else { 0 },
        now_ns: clock::monotonic_ns(),
        journal_ns: 0,
        journal_look_ns: 0,
        flush_ns: 0,
        save_ns: 0,
        has_state_failed: false,
        entries: 0,
        nobodys: 0,
    })))
}

impl Logs {
    /// Follows what the runtime writes for an instance, if it has said where.
    fn follow_outputs(&mut self, world: &World, id: InstanceId) {
        let Some(instance) = world.containers.instance(id) else { return };
        let Some(identity) = instance.identity else { return };
        let (Some(named), Some(log)) = (world.containers.identity(identity), &instance.log) else { return };
        let format = format_of(log.format);
        if !self.files.has_room_for_outputs(id, &log.path) {
            self.files.refused += u64::from(self.unfollowed.insert(id));
            return;
        }
        self.unfollowed.remove(&id);
        let source = self.sources.of(identity, &named.id, OUTPUTS, format, world.now_ns);
        // A container's own file: what was rotated away before we knew of it is its too.
        let start = self.start(world, id, &log.path, Start::Oldest);
        // What users' own daemons write is as trustworthy as the user.
        let trusts_links = !instance.path.starts_with("/user.slice/");
        self.files.follow_outputs(id, source, &log.path, format, start, trusts_links);
    }

    /// Counts what an instance's files have from now on for the name it has now.
    fn move_files(&mut self, world: &World, id: InstanceId) {
        let Some(identity) = world.containers.instance(id).and_then(|instance| instance.identity) else {
            return;
        };
        let Some(named) = world.containers.identity(identity) else { return };
        let Logs { files, sources, .. } = self;
        files.move_instance(id, |source| {
            let old = sources.get(source).filter(|old| old.identity != identity)?;
            let (label, format) = (old.label.clone(), old.pipeline.format());
            Some(sources.of(identity, &named.id, &label, format, world.now_ns))
        });
    }

    /// Where reading a file of an instance begins if nothing is known of it: a file that is older than the container's life, or was
    /// there before us, has said what it has said. One that a container made since then is new, however old that is.
    fn start(&self, world: &World, id: InstanceId, path: &str, of_new: Start) -> Start {
        let began_s = self.began_s.get(&id).copied().unwrap_or(0);
        let (born_s, is_certain) = birth_s(&world.host.rootfs(path)).unwrap_or_default();
        let is_new = match began_s {
            // What was rotated away from it may be older than its youngest file.
            0 => is_certain && born_s > self.opened_s && of_new == Start::Beginning,
            _ => born_s + AHEAD_S >= began_s || born_s == 0,
        };
        if is_new { of_new } else { Start::End }
    }

    fn follow_open_files(&mut self, world: &World) {
        for file in self.open_files.look(world, &self.settings.files) {
            let Some(instance) = world.containers.instance(file.instance) else { continue };
            let Some(identity) = instance.identity else { continue };
            let Some(named) = world.containers.identity(identity) else { continue };
            let is_output = instance.log.as_ref().is_some_and(|log| log.path == file.path);
            if is_output
                || self.files.sees(&file, world.now_ns)
                || !self.files.has_room_for_own(file.instance)
            {
                continue;
            }
            let source = self.sources.of(identity, &named.id, &file.label, &plain::FORMAT, world.now_ns);
            let start = self.start(world, file.instance, &file.path, Start::Beginning);
            self.files.follow_own(&file, source, &plain::FORMAT, start, world.now_ns);
        }
    }

    /// Reads files; a bounded piece.
    fn read_files(&mut self, now_ns: MonotonicNs) {
        let sources = &mut self.sources;
        self.files.turn(now_ns, |source, record| {
            if let Some(pipeline) = sources.pipeline(source) {
                pipeline.record(record, now_ns);
            }
        });
    }

    /// Reads journals; a bounded piece.
    fn read_journals(&mut self, world: &World) {
        let now_ns = world.now_ns;
        if self.journal_look_ns <= now_ns {
            self.journal_look_ns = now_ns + JOURNAL_LOOK_NS;
            self.journals.look();
        }
        let Logs { sources, owners, entries, nobodys, .. } = self;
        let mut budget =
            Budget { entries: limits::JOURNAL_ENTRIES_PER_TURN, bytes: limits::JOURNAL_BYTES_PER_TURN };
        let is_behind = self.journals.read(&mut budget, Wanted::Named, &mut |record| {
            *entries += 1;
            let named = owners
                .of(&world.containers, record)
                .and_then(|identity| Some((identity, world.containers.identity(identity)?)));
            let (Some((identity, named)), Some(text)) = (named, record.field(Field::Message)) else {
                *nobodys += 1;
                return;
            };
            let source = sources.of_journal(identity, &named.id, now_ns);
            if let Some(pipeline) = sources.pipeline(source) {
                pipeline.message(text, level_of(record), now_ns);
            }
        });
        self.journal_ns = now_ns
            + match (is_behind, self.journals.open_files()) {
                (true, _) => 0,
                (false, 0) => JOURNAL_LOOK_NS,
                (false, _) => JOURNAL_INTERVAL_NS,
            };
        if let Some(error) = self.journals.take_error() {
            warning!("logs: {error}");
        }
    }

    fn save(&mut self, world: &World) {
        let Some(directory) = &self.settings.state_dir else { return };
        let name_of =
            |source: &sources::Source| world.containers.identity(source.identity).map(|named| &*named.id);
        let positions = self.files.tail().positions();
        match state::save(directory, &positions, self.journals.positions(), &self.sources, name_of) {
            Ok(()) => self.has_state_failed = false,
            Err(error) if !self.has_state_failed => {
                warning!("logs: {}: {error}; positions and patterns are not saved", directory.display());
                self.has_state_failed = true;
            }
            Err(_) => {}
        }
    }

    fn is_saving(&self, world: &World) -> bool {
        self.settings.state_dir.is_some() && world.config.command == Command::Run
    }
}

impl Collector for Logs {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        self.files.fd(clock::monotonic_ns()).into_iter().for_each(wait);
    }

    fn ready(&mut self, world: &mut World, _fd: RawFd) -> Result<()> {
        self.now_ns = world.now_ns;
        self.read_files(world.now_ns);
        Ok(())
    }

    fn event(&mut self, world: &mut World, event: &Event) {
        match *event {
            Event::InstanceStarted(id) | Event::InstanceRenamed(id) => {
                // What was made since an earlier life has looked last is new.
                let began_s = if self.is_settled { clock::wall_s() } else { self.looked_s };
                self.began_s.entry(id).or_insert(began_s);
                self.owners.begin(&world.containers, id);
                self.move_files(world, id);
                self.follow_outputs(world, id);
                if self.is_settled && matches!(event, Event::InstanceStarted(_)) {
                    self.open_files.begin(id, world.now_ns);
                }
            }
            Event::InstanceEnded(id) => {
                self.began_s.remove(&id);
                self.unfollowed.remove(&id);
                self.owners.end_instance(&world.containers, id, world.now_ns);
                self.files.end_instance(id);
                self.open_files.end_instance(id);
            }
            Event::IdentityEnded(identity) => {
                self.owners.end(identity);
                self.sources.end(identity);
            }
            Event::CgroupsChanged => {}
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.now_ns = world.now_ns;
        if memory::has_recovered() {
            let again: Vec<InstanceId> = self.unfollowed.iter().take(AGAIN).copied().collect();
            again.into_iter().for_each(|id| self.follow_outputs(world, id));
        }
        self.follow_open_files(world);
        let Logs { files, sources, .. } = self;
        files.keep_sources(|source| sources.get(source).is_some());
        self.read_files(world.now_ns);
        if self.journal_ns <= world.now_ns {
            self.read_journals(world);
        }
        for source in self.files.sweep(world.now_ns) {
            if let Some(pipeline) = self.sources.pipeline(source) {
                pipeline.finish(world.now_ns);
            }
        }
        self.owners.forget(world.now_ns);
        for problem in self.files.take_problems() {
            warning!("logs: {problem}");
        }
        if self.sources.weigh() {
            world.reached.count(Limit::LogPatterns);
        }
        if self.is_saving(world) && self.save_ns <= world.now_ns {
            if self.save_ns != 0 {
                self.save(world);
            }
            self.save_ns = world.now_ns + limits::LOG_SAVE_INTERVAL.as_nanos() as u64;
        }
        if self.is_settled
            && world.now_ns.saturating_sub(world.started_ns) >= limits::LOG_SAVED_TIME.as_nanos() as u64
        {
            self.sources.forget_saved();
        }
        self.is_settled = true;
        Ok(())
    }

    fn tick_ns(&self) -> Option<MonotonicNs> {
        let tail = self.files.tail().deadline_ns(self.now_ns);
        let flush = (self.files.tail().files() > 0).then_some(self.flush_ns);
        let journal = self.is_settled.then_some(self.journal_ns);
        tail.into_iter().chain(flush).chain(journal).min()
    }

    fn tick(&mut self, world: &mut World) {
        self.now_ns = world.now_ns;
        self.read_files(world.now_ns);
        if self.is_settled && self.journal_ns <= world.now_ns {
            self.read_journals(world);
        }
        if self.flush_ns <= world.now_ns {
            self.flush_ns = world.now_ns + FLUSH_NS;
            self.sources.flush(world.now_ns);
        }
    }

    fn close(&mut self, world: &mut World) {
        if self.is_settled && self.is_saving(world) {
            self.read_files(clock::monotonic_ns());
            self.save(world);
        }
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        let now_s = world.now_ns / 1_000_000_000;
        let mut broken = 0;
        for source in self.sources.iter() {
            let pipeline = &source.pipeline;
            broken += pipeline.broken();
            let Some(named) = world.containers.identity(source.identity) else { continue };
            let mut add = |level: Level, hash: &str, sample: &str, count: u64| {
                out.container(
                    &named.labels,
                    &MESSAGES,
                    &[&source.label, level.word(), hash, sample],
                    count as f64,
                );
            };
            for pattern in pipeline.patterns().exported(now_s) {
                if self.settings.levels[pattern.level as usize] {
                    add(
                        pattern.level,
                        &format!("{:016x}", pattern.id),
                        &self.sample(&pattern),
                        pattern.count,
                    );
                }
            }
            for level in Level::ALL {
                let other = pipeline.patterns().other(level);
                let all = pipeline.messages_of(level);
                if !self.settings.levels[level as usize] {
                    if all > 0 {
                        add(level, "", "", all);
                    }
                } else if other > 0 {
                    add(level, "~other", "", other);
                }
            }
        }
        let counters = self.files.tail().counters();
        let journal = self.journals.counts();
        out.add(&FILES, &[], self.files.tail().files() as f64);
        out.add(&FILES_REFUSED, &[], self.files.refused as f64);
        out.add(&BYTES, &[], counters.bytes as f64);
        out.add(&RECORDS, &["file"], counters.records as f64);
        out.add(&RECORDS, &["journal"], self.entries as f64);
        out.add(&LAG, &[], self.files.tail().lag_bytes() as f64);
        out.add(&ROTATIONS, &[], counters.rotations as f64);
        out.add(&TRUNCATIONS, &[], counters.truncations as f64);
        out.add(&LOST_BYTES, &[], counters.lost_bytes as f64);
        out.add(&LOST_FILES, &[], (counters.lost_files + journal.broken_files) as f64);
        out.add(&NOT_COUNTED, &["too_long"], counters.too_long as f64);
        out.add(&NOT_COUNTED, &["broken"], broken as f64);
        out.add(&NOT_COUNTED, &["damaged"], journal.damaged_entries as f64);
        out.add(&POLLING, &[], f64::from(u8::from(self.files.tail().is_polling())));
        out.add(&PATTERN_BYTES, &[], self.sources.bytes as f64);
        out.add(&JOURNAL_FILES, &[], self.journals.open_files() as f64);
        out.add(&NOBODYS, &[], self.nobodys as f64);
    }
}

impl Logs {
    /// Label `sample` of a pattern.
    fn sample(&self, pattern: &Pattern<'_>) -> String {
        match self.settings.samples {
            Samples::Pattern => redact::printable(pattern.template),
            Samples::Raw => redact::shown(pattern.example),
            Samples::None => String::new(),
        }
    }
}
