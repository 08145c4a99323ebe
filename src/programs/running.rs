//! One config at work: its object loaded, its programs attached, its maps read.

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use super::cgroup_ids::{self, CgroupIds};
use super::config::{Config, Kind, Mark, Metric};
use super::events::Events;
use super::keys::Keys;
use super::program::ProgramState;
use super::sources::{Source, Stamp};
use super::table::{Table, check_shape};
use super::{METRIC_PREFIX, attach, elf};
use crate::containers::paths::{CgroupPaths, Change};
use crate::decoders::{self, Asks, Names};
use crate::error::{Context, Error, Reason, Result};
use crate::host::Host;
use crate::limits;
use crate::memory;
use crate::metric::{self, DynamicDesc};
use crate::registry::Registry;
use crate::sys::bpf::{self, Loaded, Map, MapShape, MapType, Program};
use crate::warning;

/// What is the same for all configs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--btf.path`.
    pub btf: Option<PathBuf>,
    /// Choices of decoders.
    pub decoders: decoders::Options,
    /// Series of one metric.
    pub series_limit: u32,
}

/// One config at work.
pub struct Running {
    /// The config's name.
    pub name: Box<str>,
    /// What it was made from.
    stamp: Stamp,
    config: Config,
    /// Its programs, in file order. Before the object, to which their links may refer.
    programs: Vec<ProgramState>,
    /// The object, as long as a program needs it: it is by far the largest part.
    object: Option<Loaded>,
    /// Every map that may become a metric, so that other metrics need no other object.
    maps: Vec<(MapShape, Map)>,
    /// The others, to be asked what they take.
    other_maps: Vec<Map>,
    /// What they take with those that are no metrics, at least.
    map_bytes: u64,
    metrics: Vec<MetricState>,
    cgroup_ids: Option<CgroupIds>,
    /// What is wrong with the config, a line each; what is wrong with a program, that knows itself.
    problems: Vec<String>,
    /// Keys that could not be decoded, and metrics that could not be read, since the start.
    pub decoder_errors: u64,
    /// Keys of histograms that were no bucket when last read.
    pub strangers: u64,
}

struct MetricState {
    desc: DynamicDesc,
    values: Values,
    /// The last reading worked.
    is_read: bool,
}

impl MetricState {
    /// Whether it is the open rings of `metric`.
    fn is_events_of(&self, metric: &Metric) -> bool {
        matches!(self.values, Values::Events(_)) && self.desc.name == full_name(metric)
    }
}

enum Values {
    Table(Table),
    Events(Events),
}

impl Running {
    /// Loads the object of `source`; nothing is attached yet. `problems` are those that `config` has already.
    ///
    /// # Errors
    /// An object that is none, or that the kernel refuses as a whole. What is wrong with single programs and metrics is in
    /// [`Running::problems`] instead.
    pub fn load(
        source: Source,
        config: Config,
        problems: Vec<String>,
        options: &Options,
        host: &Host,
    ) -> Result<Running> {
        let stamp = source.stamp();
        let addresses = addresses(&config, host)?;
        let Object { loaded, programs, shapes, map_bytes, mut refusals } = load(source, &addresses, options)?;
        let mut refusal = |program: &Program| {
            let at = refusals.iter().position(|(name, _)| *name == program.name)?;
            Some(refusals.swap_remove(at).1)
        };
        let state = |program: Program| {
            let refusal = refusal(&program);
            ProgramState::new(&loaded, program, refusal)
        };
        let programs = programs.into_iter().map(state).collect();
        let ids = config.cgroup_id_map.as_ref().map(|ids| ids.name.clone());
        let (mut maps, mut other_maps) = (Vec::new(), Vec::new());
        for shape in shapes {
            let is_events = shape.kind == MapType::PERF_EVENT_ARRAY;
            if shape.kind.is_table() || is_events || Some(&*shape.name) == ids.as_deref() {
                let map = loaded.map(&shape.name)?;
                maps.push((shape, map));
            } else {
                other_maps.extend(loaded.map(&shape.name));
            }
        }
        let mut running = Running {
            name: config.name.clone(),
            stamp,
            programs,
            object: Some(loaded),
            maps,
            other_maps,
            map_bytes,
            metrics: Vec::new(),
            cgroup_ids: None,
            problems,
            decoder_errors: 0,
            strangers: 0,
            config,
        };
        for metric in &running.config.metrics {
            match open_metric(&running.config.path, metric, &running.maps, options) {
                Ok(state) => running.metrics.push(state),
                Err(error) => running.problems.push(error.to_string()),
            }
        }
        running.open_cgroup_ids();
        Ok(running)
    }

    fn open_cgroup_ids(&mut self) {
        let Some(wanted) = &self.config.cgroup_id_map else { return };
        let path = &self.config.path;
        let open = || {
            let place = wanted.mark.in_file(path);
            let (shape, map) = map_of(&self.maps, &wanted.name).map_err(failed).context(&place)?;
            cgroup_ids::check_shape(wanted, shape).map_err(failed).context(&place)?;
            CgroupIds::new(path, wanted, map.again()?)
        };
        match open() {
            Ok(opened) => self.cgroup_ids = Some(opened),
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    /// Attaches all programs that are loaded and not attached yet.
    pub fn attach(&mut self, host: &Host) {
        let Some(loaded) = &self.object else { return };
        self.programs.iter_mut().for_each(|program| program.attach(loaded, host));
        if !self.programs.iter().any(|program| program.is_waiting() || program.needs_object()) {
            self.object = None;
        }
    }

    /// Leaves the interfaces its programs have to others; [`Running::attach`] takes them again.
    pub fn leave_interfaces(&mut self) {
        self.programs.iter_mut().filter(|program| program.is_exclusive()).for_each(ProgramState::detach);
    }

    /// The function that is called once all are attached was called.
    pub fn mark_passed(&mut self) {
        self.programs.iter_mut().for_each(ProgramState::mark_passed);
    }

    /// True when one of its programs waits for that function.
    pub fn wants_mark(&self) -> bool {
        self.programs.iter().any(|program| program.wants_mark() && program.is_attached())
    }

    /// Its programs, in file order.
    pub fn programs(&self) -> &[ProgramState] {
        &self.programs
    }

    /// What does not work, a line each.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let of_programs = self.programs.iter().filter_map(ProgramState::problem);
        self.problems.iter().map(String::as_str).chain(of_programs)
    }

    /// True when something can be counted: a program is attached, or there are none to attach.
    fn is_alive(&self) -> bool {
        self.programs.is_empty() || self.programs.iter().any(ProgramState::is_attached)
    }

    /// True when the config wants spans.
    pub fn has_tracing(&self) -> bool {
        self.config.has_tracing
    }

    /// True when the config wants to be told of cgroups.
    pub fn follows_cgroups(&self) -> bool {
        self.cgroup_ids.is_some()
    }

    /// True when a decoder asks for `what` to be known.
    pub fn asks(&self, what: Asks) -> bool {
        self.metrics.iter().any(|metric| match &metric.values {
            Values::Table(table) => table.keys().ask(what),
            Values::Events(events) => events.keys().ask(what),
        })
    }

    /// Puts all cgroups there are into its `cgroup_id_map`.
    pub fn fill_cgroup_ids(&self, paths: &CgroupPaths, host: &Host) {
        if let Some(ids) = &self.cgroup_ids {
            ids.fill(paths, host);
        }
    }

    /// Tells its `cgroup_id_map` what happened.
    pub fn follow_cgroups(&self, changes: &[Change], paths: &CgroupPaths, host: &Host) {
        if let Some(ids) = &self.cgroup_ids {
            changes.iter().for_each(|change| ids.follow(change, paths, host));
        }
    }

    /// The metrics' families.
    pub fn descs(&self) -> impl Iterator<Item = &DynamicDesc> {
        self.metrics.iter().map(|metric| &metric.desc)
    }

    /// Leaves out metrics for which `clash` has a line.
    pub fn leave_out(&mut self, clash: impl Fn(&DynamicDesc) -> Option<String>) {
        leave_out(&mut self.metrics, &mut self.problems, clash);
    }

    /// True when it was made from just this, and all its metrics are there.
    pub fn is_made_from(&self, stamp: Stamp) -> bool {
        self.stamp == stamp && self.problems.is_empty()
    }

    /// If the object is still the same, makes the metrics those of `config`, whose own `problems` are given: programs stay
    /// attached and maps keep their counts. False when another object, or another use of this one, is wanted.
    ///
    /// # Errors
    /// More problems than there were; everything stays as it was then.
    pub fn change_metrics(
        &mut self,
        config: &Config,
        mut problems: Vec<String>,
        stamp: Stamp,
        options: &Options,
        clash: impl Fn(&DynamicDesc) -> Option<String>,
    ) -> Result<bool> {
        if stamp.object != self.stamp.object || !self.is_alive() || !config.uses_object_like(&self.config) {
            return Ok(false);
        }
        let mut metrics = Vec::new();
        for metric in &config.metrics {
            if !metric.kind.is_events() {
                match open_metric(&config.path, metric, &self.maps, options) {
                    Ok(state) => metrics.push(state),
                    Err(error) => problems.push(error.to_string()),
                }
            } else if !self.config.metrics.iter().any(|old| old.is_like(metric))
                || !self.metrics.iter().any(|state| state.is_events_of(metric))
            {
                // The rings of a map can be opened once only.
                return Ok(false);
            }
        }
        leave_out(&mut metrics, &mut problems, clash);
        if problems.len() > self.problems.len() {
            return Err(failed(problems.swap_remove(0)));
        }
        let is_kept = |state: &MetricState| config.metrics.iter().any(|metric| state.is_events_of(metric));
        metrics.extend(std::mem::take(&mut self.metrics).into_iter().filter(is_kept));
        (self.metrics, self.problems) = (metrics, problems);
        (self.config, self.stamp) = (config.clone(), stamp);
        Ok(true)
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.metrics.iter().filter_map(|metric| match &metric.values {
            Values::Events(events) => Some(events.as_raw_fd()),
            Values::Table(_) => None,
        })
    }

    /// Kernel memory of its maps, at least.
    pub fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// All its maps.
    pub fn maps(&self) -> impl Iterator<Item = &Map> {
        self.maps.iter().map(|(_, map)| map).chain(&self.other_maps)
    }

    /// Takes what the perf buffer `fd` has.
    pub fn ready(&mut self, names: &mut Names<'_>, fd: RawFd) {
        for metric in &mut self.metrics {
            if let Values::Events(events) = &mut metric.values
                && events.as_raw_fd() == fd
            {
                let errors = events.read(names);
                self.decoder_errors += errors;
                if let Some(problem) = events.problem.take() {
                    warning!("config {}: metric {}: event: {problem}", self.name, metric.desc.name);
                }
            }
        }
    }

    /// Reads all maps.
    pub fn refresh(&mut self, names: &mut Names<'_>, with_statistics: bool) {
        self.strangers = 0;
        let is_alive = self.is_alive();
        for metric in &mut self.metrics {
            metric.is_read = false;
            let problem = match &mut metric.values {
                _ if !is_alive => continue,
                Values::Events(events) => {
                    self.decoder_errors += events.read(names);
                    events.flush(names.now_ns);
                    metric.is_read = true;
                    events.problem.take()
                }
                Values::Table(table) => match table.read(names) {
                    Ok(outcomes) => {
                        metric.is_read = true;
                        self.decoder_errors += outcomes.errors;
                        self.strangers += outcomes.strangers;
                        table.problem.take()
                    }
                    Err(error) => {
                        self.decoder_errors += 1;
                        Some(error.to_string())
                    }
                },
            };
            if let Some(problem) = problem {
                warning!("config {}: metric {}: {problem}", self.name, metric.desc.name);
            }
        }
        if with_statistics {
            self.programs.iter_mut().for_each(ProgramState::refresh);
        }
    }

    /// Says its metrics; `is_shared` tells whether another config has a metric of this name.
    pub fn collect(&self, out: &mut Registry, is_shared: impl Fn(&str) -> bool) {
        for metric in self.metrics.iter().filter(|metric| metric.is_read) {
            let Some(mut writer) = out.dynamic(&metric.desc, !is_shared(&metric.desc.name)) else { continue };
            match &metric.values {
                Values::Table(table) => table.write(&mut writer),
                Values::Events(events) => events.write(&mut writer),
            }
        }
    }

    /// Events that found a ring full, per metric of events.
    pub fn lost_events(&self) -> impl Iterator<Item = (&str, u64)> {
        self.metrics.iter().filter_map(|metric| match &metric.values {
            Values::Events(events) => Some((&*metric.desc.name, events.lost())),
            Values::Table(_) => None,
        })
    }

    /// All entries of all tables, as ebpf_exporter's `/maps` prints them.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn print_maps(&mut self, names: &mut Names<'_>, out: &mut String) -> Result<()> {
        use std::fmt::Write;

        let _ = write!(out, "## Config: {}\n\n", self.name);
        for metric in &mut self.metrics {
            let Values::Table(table) = &mut metric.values else { continue };
            let name = metric.desc.name.strip_prefix(METRIC_PREFIX).unwrap_or_default();
            let _ = write!(out, "### Map: {name}\n\n```\n");
            let listed = table.list(names, |key, labels, value| {
                let bytes: Vec<String> = key.iter().map(|byte| format!("{byte:#x}")).collect();
                let bytes = bytes.join(", ");
                let _ = writeln!(out, "[]byte{{{bytes}}} (labels: [{}]) -> {value}", labels.join(" "));
            });
            listed.context(format_args!("map {name} of config {}", self.name))?;
            out.push_str("```\n\n");
        }
        Ok(())
    }
}

fn failed(line: String) -> Error {
    Error::new(Reason::Failed, line)
}

/// Leaves out metrics for which `clash` has a line, which becomes a problem.
fn leave_out(
    metrics: &mut Vec<MetricState>,
    problems: &mut Vec<String>,
    clash: impl Fn(&DynamicDesc) -> Option<String>,
) {
    metrics.retain(|metric| {
        let line = clash(&metric.desc);
        let stays = line.is_none();
        problems.extend(line);
        stays
    });
}

fn full_name(metric: &Metric) -> Box<str> {
    format!("{METRIC_PREFIX}{}", metric.name).into()
}

/// The shape of map `name`.
///
/// # Errors
/// A line with the maps there are.
pub fn shape_of<'a>(shapes: &'a [MapShape], name: &str) -> Result<&'a MapShape, String> {
    shapes.iter().find(|shape| shape.name == name).ok_or_else(|| no_map(name, shapes.iter()))
}

fn map_of<'a>(maps: &'a [(MapShape, Map)], name: &str) -> Result<(&'a MapShape, &'a Map), String> {
    let found = maps.iter().find(|(shape, _)| shape.name == name);
    found.map(|(shape, map)| (shape, map)).ok_or_else(|| no_map(name, maps.iter().map(|(shape, _)| shape)))
}

fn no_map<'a>(name: &str, shapes: impl Iterator<Item = &'a MapShape>) -> String {
    let known: Vec<&str> = shapes.map(|shape| shape.name.as_str()).collect();
    format!("no map {name} in the object, which has {}", known.join(", "))
}

/// Addresses of the config's `kaddrs`, in its order.
fn addresses(config: &Config, host: &Host) -> Result<Vec<(String, u64)>> {
    if config.kaddrs.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = config.kaddr_names().collect();
    let found = decoders::kernel_addresses(host, &names).context("kaddrs: /proc/kallsyms")?;
    let address = |((name, mark), address): (&(Box<str>, Mark), Option<u64>)| {
        let place = mark.in_file(&config.path);
        let address = address.ok_or_else(|| failed(format!("{place}: kaddrs: no kernel symbol {name}")))?;
        if address == 0 {
            warning!("{place}: kaddrs: the address of {name} is hidden (CAP_SYSLOG, kernel.kptr_restrict)");
        }
        Ok((format!("kaddr_{name}"), address))
    };
    config.kaddrs.iter().zip(found).map(address).collect()
}

/// A loaded object.
struct Object {
    loaded: Loaded,
    programs: Vec<Program>,
    shapes: Vec<MapShape>,
    /// What its maps take, at least.
    map_bytes: u64,
    /// Programs the kernel did not take, and what it said.
    refusals: Vec<(String, String)>,
}

/// Loads the object without those of its programs that the kernel refuses.
fn load(source: Source, addresses: &[(String, u64)], options: &Options) -> Result<Object> {
    let path = source.object_path;
    elf::check(&source.object).context(&path)?;
    let mut refusals: Vec<(String, String)> = Vec::new();
    let cpus = bpf::possible_cpus().unwrap_or(1);
    loop {
        let mut object =
            bpf::Object::parse(&source.name, source.object.clone(), options.btf.as_deref()).context(&path)?;
        attach::prepare(&mut object).context(&path)?;
        for (variable, address) in addresses {
            object.set_variable(variable, *address).context(&path)?;
        }
        for (program, _) in &refusals {
            object.set_enabled(program, false).context(&path)?;
        }
        let (programs, shapes) = (object.programs(), object.maps());
        let map_bytes = shapes.iter().map(|shape| shape.least_bytes(cpus)).sum();
        memory::admit_maps(map_bytes)
            .map_err(|line| Error::new(Reason::ResourceLimit, line))
            .context(&path)?;
        let refusal = match object.try_load() {
            Ok(loaded) => {
                memory::add_maps(map_bytes);
                return Ok(Object { loaded, programs, shapes, map_bytes, refusals });
            }
            Err(refusal) => refusal,
        };
        match refusal.program {
            Some(program)
                if refusals.len() < limits::PROGRAMS_LEFT_OUT
                    && refusals.iter().all(|(known, _)| *known != program)
                    && programs.iter().any(|known| known.name == program) =>
            {
                let said = match refusal.log.is_empty() {
                    true => refusal.error.to_string(),
                    false => format!("the verifier refuses it: {}", refusal.log.join(" | ")),
                };
                let line = format!("{path}: program {program} is not loaded: {said}");
                refusals.push((program, line));
            }
            _ => return Err(refusal.error).context(&path),
        }
    }
}

fn open_metric(
    path: &str,
    metric: &Metric,
    maps: &[(MapShape, Map)],
    options: &Options,
) -> Result<MetricState> {
    let place = || format!("{}: metric {}", metric.mark.in_file(path), metric.name);
    let (shape, map) = map_of(maps, &metric.name).map_err(failed).context(place())?;
    check_shape(metric, shape).map_err(failed).context(place())?;
    let keys = Keys::build(path, &metric.labels, options.decoders)?;
    let desc = desc_of(metric, &keys);
    let limit = options.series_limit;
    let values = match metric.kind {
        Kind::Events { flush_interval_ns } => {
            Values::Events(Events::open(map, keys, flush_interval_ns, limit).context(place())?)
        }
        _ => Values::Table(Table::new(metric, keys, map.again().context(place())?, limit)?),
    };
    Ok(MetricState { desc, values, is_read: false })
}

/// The family of a metric whose labels are decoded by `keys`.
pub fn desc_of(metric: &Metric, keys: &Keys) -> DynamicDesc {
    let is_histogram = matches!(metric.kind, Kind::Histogram(_));
    let (labels, _) = keys.sorted_names(keys.len().saturating_sub(usize::from(is_histogram)));
    let kind = match metric.kind {
        Kind::Counter | Kind::Events { .. } => metric::Kind::Counter,
        Kind::Gauge => metric::Kind::Gauge,
        Kind::Histogram(_) => metric::Kind::Histogram,
    };
    DynamicDesc { name: full_name(metric), help: metric.help.clone(), kind, labels }
}
