//! One config at work: its object loaded, its programs attached, its maps read.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use super::cgroup_ids::{self, CgroupIds};
use super::config::{Config, Kind, Metric};
use super::events::Events;
use super::keys::Keys;
use super::sources::{Source, Stamp};
use super::table::{Table, check_shape};
use super::{METRIC_PREFIX, attach, elf};
use crate::containers::paths::{CgroupPaths, Change};
use crate::decoders::{self, Asks, Names};
use crate::error::{Context, Error, Reason, Result};
use crate::host::Host;
use crate::limits;
use crate::metric::{self, DynamicDesc};
use crate::registry::Registry;
use crate::sys::bpf::{Links, Loaded, Map, MapShape, Object, Program, ProgramInfo};
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
    pub stamp: Stamp,
    config: Config,
    /// Before the object: a USDT link refers to its object.
    links: Links,
    object: Option<Loaded>,
    sections: Vec<Program>,
    /// Its programs, in file order.
    pub programs: Vec<ProgramState>,
    metrics: Vec<MetricState>,
    cgroup_ids: Option<CgroupIds>,
    /// What does not work, a line each.
    pub problems: Vec<String>,
    /// Keys that could not be decoded, and metrics that could not be read, since the start.
    pub decoder_errors: u64,
    /// Keys of histograms that were no bucket when last read.
    pub strangers: u64,
}

/// How one program fares.
pub struct ProgramState {
    /// The function's name.
    pub name: Box<str>,
    fd: Option<OwnedFd>,
    /// Whether it is attached.
    pub is_attached: bool,
    /// What the kernel said of it last.
    pub info: ProgramInfo,
}

struct MetricState {
    desc: DynamicDesc,
    values: Values,
    /// The last reading worked.
    is_read: bool,
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
    /// `problems` instead.
    pub fn load(
        source: Source,
        config: Config,
        mut problems: Vec<String>,
        options: &Options,
        host: &Host,
    ) -> Result<Running> {
        let stamp = source.stamp();
        let addresses = addresses(&config, host)?;
        let (loaded, sections, shapes) = load(source, &addresses, options, &mut problems)?;
        let programs = sections.iter().map(|program| ProgramState::new(&loaded, program)).collect();
        let mut running = Running {
            name: config.name.clone(),
            stamp,
            links: Links::default(),
            object: None,
            programs,
            metrics: Vec::new(),
            cgroup_ids: None,
            problems,
            decoder_errors: 0,
            strangers: 0,
            sections,
            config,
        };
        running.open_metrics(&loaded, &shapes, options);
        running.open_cgroup_ids(&loaded, &shapes);
        running.object = Some(loaded);
        Ok(running)
    }

    fn open_metrics(&mut self, loaded: &Loaded, shapes: &[MapShape], options: &Options) {
        for metric in &self.config.metrics {
            match open_metric(&self.config.path, metric, loaded, shapes, options) {
                Ok(state) => self.metrics.push(state),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
    }

    fn open_cgroup_ids(&mut self, loaded: &Loaded, shapes: &[MapShape]) {
        let Some(wanted) = &self.config.cgroup_id_map else { return };
        let path = &self.config.path;
        let open = || {
            let place = format!("{path}:{}:{}", wanted.mark.line, wanted.mark.column);
            let shape = shape_of(shapes, &wanted.name).map_err(failed).context(&place)?;
            cgroup_ids::check_shape(wanted, shape).map_err(failed).context(&place)?;
            CgroupIds::new(path, wanted, loaded.map(&wanted.name)?)
        };
        match open() {
            Ok(opened) => self.cgroup_ids = Some(opened),
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    /// Attaches all programs; those that do not attach are in `problems`.
    pub fn attach(&mut self, host: &Host) {
        let Some(loaded) = self.object.take() else { return };
        for (program, state) in self.sections.iter().zip(&mut self.programs) {
            if state.fd.is_none() {
                continue;
            }
            match attach::attach(&loaded, program, host) {
                Ok(links) => {
                    state.is_attached = true;
                    self.links.append(links);
                }
                Err(error) => {
                    self.problems.push(format!(
                        "program {} ({}) is not attached: {error}",
                        program.name, program.section
                    ));
                }
            }
        }
        // Only links of USDT probes refer to their object, which is by far the largest part.
        if self.sections.iter().any(|program| program.section.starts_with("usdt")) {
            self.object = Some(loaded);
        }
    }

    /// Detaches all programs; maps can still be read.
    pub fn detach(&mut self) {
        self.links = Links::default();
    }

    /// True unless it was detached, or nothing of it ever was attached.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// True when something can be counted: a program is attached, or there are none to attach.
    pub fn is_alive(&self) -> bool {
        self.programs.is_empty() || self.programs.iter().any(|program| program.is_attached)
    }

    /// True when the config wants spans.
    pub fn has_tracing(&self) -> bool {
        self.config.has_tracing
    }

    /// True when one of its programs wants an interface for itself.
    pub fn is_exclusive(&self) -> bool {
        self.sections.iter().any(|program| program.section.starts_with("xdp"))
    }

    /// True when one of its programs waits for the function that is called once all are attached.
    pub fn wants_mark(&self) -> bool {
        self.sections.iter().any(|program| program.section.ends_with(":post_attach_mark"))
    }

    /// Names of programs that are not attached.
    pub fn missed(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().filter(|program| !program.is_attached).map(|program| &*program.name)
    }

    /// True when the config wants to be told of cgroups.
    pub fn follows_cgroups(&self) -> bool {
        self.cgroup_ids.is_some()
    }

    /// True when something needs the paths of all cgroups.
    pub fn asks_for_cgroups(&self) -> bool {
        let asks = |metric: &MetricState| match &metric.values {
            Values::Table(table) => table.keys().ask(Asks::Paths),
            Values::Events(events) => events.keys().ask(Asks::Paths),
        };
        self.follows_cgroups() || self.metrics.iter().any(asks)
    }

    /// Puts all cgroups there are into its `cgroup_id_map`.
    pub fn fill_cgroup_ids(&self, paths: &CgroupPaths) {
        if let Some(ids) = &self.cgroup_ids {
            ids.fill(paths);
        }
    }

    /// Tells its `cgroup_id_map` what happened.
    pub fn follow_cgroups(&self, changes: &[Change], paths: &CgroupPaths) {
        if let Some(ids) = &self.cgroup_ids {
            changes.iter().for_each(|change| ids.follow(change, paths));
        }
    }

    /// The metrics' families.
    pub fn descs(&self) -> impl Iterator<Item = &DynamicDesc> {
        self.metrics.iter().map(|metric| &metric.desc)
    }

    /// Leaves out metrics for which `clash` has a line.
    pub fn leave_out(&mut self, mut clash: impl FnMut(&DynamicDesc) -> Option<String>) {
        let problems = &mut self.problems;
        self.metrics.retain(|metric| match clash(&metric.desc) {
            Some(line) => {
                problems.push(line);
                false
            }
            None => true,
        });
    }

    /// If the object is still the same, makes the metrics those of `config`: programs stay attached and maps keep
    /// their counts. False when that is not possible.
    ///
    /// # Errors
    /// What is wrong with the new metrics; the old ones stay then.
    pub fn change_metrics(&mut self, config: Config, stamp: Stamp, options: &Options) -> Result<bool> {
        let same_programs = stamp.object == self.stamp.object
            && config.kaddr_names().eq(self.config.kaddr_names())
            && config.cgroup_id_map.is_none()
            && self.config.cgroup_id_map.is_none();
        let tables = |name: &str| {
            self.metrics.iter().position(|metric| match &metric.values {
                Values::Table(_) => metric.desc.name.strip_prefix(METRIC_PREFIX) == Some(name),
                Values::Events(_) => false,
            })
        };
        let reusable = same_programs
            && self.problems.is_empty()
            && self.is_attached()
            && config.metrics.iter().all(|metric| !metric.kind.is_events() && tables(&metric.name).is_some());
        if !reusable {
            return Ok(false);
        }
        // Everything that can go wrong comes first.
        let mut prepared = Vec::new();
        for metric in &config.metrics {
            let Some(state) = tables(&metric.name).map(|at| &self.metrics[at]) else { return Ok(false) };
            let Values::Table(table) = &state.values else { return Ok(false) };
            let shape = table.map().shape(&metric.name);
            check_shape(metric, &shape).map_err(failed).context(place(&config.path, metric))?;
            prepared.push(Keys::build(&config.path, &metric.labels, options.decoders)?);
        }
        let mut maps: Vec<(Box<str>, Map)> = Vec::new();
        for state in std::mem::take(&mut self.metrics) {
            if let Values::Table(table) = state.values {
                maps.push((state.desc.name, table.into_map()));
            }
        }
        for (metric, keys) in config.metrics.iter().zip(prepared) {
            let name = full_name(metric);
            if let Some(at) = maps.iter().position(|(known, _)| *known == name) {
                let (_, map) = maps.swap_remove(at);
                self.metrics.push(table_metric(metric, keys, map, options.series_limit)?);
            }
        }
        self.config = config;
        self.stamp = stamp;
        Ok(true)
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.metrics.iter().filter_map(|metric| match &metric.values {
            Values::Events(events) => Some(events.as_raw_fd()),
            Values::Table(_) => None,
        })
    }

    /// Its maps that are metrics.
    pub fn maps(&self) -> impl Iterator<Item = &Map> {
        self.metrics.iter().map(|metric| match &metric.values {
            Values::Table(table) => table.map(),
            Values::Events(events) => events.map(),
        })
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
            let mut writer = out.dynamic(&metric.desc, !is_shared(&metric.desc.name));
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
            let name = metric.desc.name.trim_start_matches(METRIC_PREFIX);
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

impl ProgramState {
    fn new(loaded: &Loaded, program: &Program) -> ProgramState {
        let fd = loaded.program(&program.name).ok().flatten();
        let mut state = ProgramState {
            name: program.name.as_str().into(),
            fd,
            is_attached: false,
            info: ProgramInfo::default(),
        };
        state.refresh();
        state
    }

    fn refresh(&mut self) {
        if let Some(Ok(info)) = self.fd.as_ref().map(ProgramInfo::read) {
            self.info = info;
        }
    }
}

fn failed(line: String) -> Error {
    Error::new(Reason::Failed, line)
}

fn place(path: &str, metric: &Metric) -> String {
    format!("{path}:{}:{}: metric {}", metric.mark.line, metric.mark.column, metric.name)
}

fn full_name(metric: &Metric) -> Box<str> {
    format!("{METRIC_PREFIX}{}", metric.name).into()
}

/// The shape of map `name`.
///
/// # Errors
/// A line with the maps there are.
pub fn shape_of<'a>(shapes: &'a [MapShape], name: &str) -> Result<&'a MapShape, String> {
    shapes.iter().find(|shape| shape.name == name).ok_or_else(|| {
        let known: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        format!("no map {name} in the object, which has {}", known.join(", "))
    })
}

/// Addresses of the config's `kaddrs`, in its order.
fn addresses(config: &Config, host: &Host) -> Result<Vec<(String, u64)>> {
    if config.kaddrs.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = config.kaddr_names().collect();
    let found = decoders::kernel_addresses(host, &names).context("kaddrs: /proc/kallsyms")?;
    let address = |((name, mark), address): (&(Box<str>, _), Option<u64>)| {
        let mark: &super::config::Mark = mark;
        let place = format!("{}:{}:{}", config.path, mark.line, mark.column);
        let address = address.ok_or_else(|| failed(format!("{place}: kaddrs: no kernel symbol {name}")))?;
        if address == 0 {
            warning!("{place}: kaddrs: the address of {name} is hidden (CAP_SYSLOG, kernel.kptr_restrict)");
        }
        Ok((format!("kaddr_{name}"), address))
    };
    config.kaddrs.iter().zip(found).map(address).collect()
}

/// Loads the object without those of its programs that the kernel refuses.
fn load(
    source: Source,
    addresses: &[(String, u64)],
    options: &Options,
    problems: &mut Vec<String>,
) -> Result<(Loaded, Vec<Program>, Vec<MapShape>)> {
    let path = source.object_path;
    elf::check(&source.object).context(&path)?;
    let mut left_out: Vec<String> = Vec::new();
    loop {
        let mut object =
            Object::parse(&source.name, source.object.clone(), options.btf.as_deref()).context(&path)?;
        attach::prepare(&mut object).context(&path)?;
        for (variable, address) in addresses {
            object.set_variable(variable, *address).context(&path)?;
        }
        for program in &left_out {
            object.set_enabled(program, false).context(&path)?;
        }
        let (programs, shapes) = (object.programs(), object.maps());
        let refusal = match object.try_load() {
            Ok(loaded) => return Ok((loaded, programs, shapes)),
            Err(refusal) => refusal,
        };
        match refusal.program {
            Some(program)
                if left_out.len() < limits::PROGRAMS_LEFT_OUT
                    && !left_out.contains(&program)
                    && programs.iter().any(|known| known.name == program) =>
            {
                let said = match refusal.log.is_empty() {
                    true => refusal.error.to_string(),
                    false => format!("the verifier refuses it: {}", refusal.log.join(" | ")),
                };
                problems.push(format!("{path}: program {program} is not loaded: {said}"));
                left_out.push(program);
            }
            _ => return Err(refusal.error).context(&path),
        }
    }
}

fn open_metric(
    path: &str,
    metric: &Metric,
    loaded: &Loaded,
    shapes: &[MapShape],
    options: &Options,
) -> Result<MetricState> {
    let shape = shape_of(shapes, &metric.name).map_err(failed).context(place(path, metric))?;
    check_shape(metric, shape).map_err(failed).context(place(path, metric))?;
    let keys = Keys::build(path, &metric.labels, options.decoders)?;
    let map = loaded.map(&metric.name).context(place(path, metric))?;
    let Kind::Events { flush_interval_ns } = metric.kind else {
        return table_metric(metric, keys, map, options.series_limit);
    };
    let desc = desc_of(metric, &keys);
    let events =
        Events::open(map, keys, flush_interval_ns, options.series_limit).context(place(path, metric))?;
    Ok(MetricState { desc, values: Values::Events(events), is_read: true })
}

fn table_metric(metric: &Metric, keys: Keys, map: Map, limit: u32) -> Result<MetricState> {
    let desc = desc_of(metric, &keys);
    let table = Table::new(metric, keys, map, limit)?;
    Ok(MetricState { desc, values: Values::Table(table), is_read: false })
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
