//! All configs together: opened at the start, read in turn, exchanged one by one when files have changed.

use std::os::fd::RawFd;

use super::config::Config;
use super::running::{Options, Running};
use super::sources::{Source, Sources};
use super::{RESERVED_NAMES, parse};
use crate::args::Config as Flags;
use crate::containers::hierarchies::Place;
use crate::containers::paths::Change;
use crate::decoders::{self, Names, Tables};
use crate::error::{Context, Error, Reason, Result};
use crate::host::read_bounded;
use crate::metric::{DynamicDesc, Kind};
use crate::registry::Registry;
use crate::sys::bpf::Map;
use crate::sys::process;
use crate::world::World;
use crate::{error, info, warning};

/// All configs at work.
pub struct Set {
    running: Vec<Running>,
    options: Options,
    tables: Tables,
    /// Whether the kernel measures programs.
    pub has_statistics: bool,
    /// Whether the last reload did all it was asked for; `None` before the first.
    pub reloaded: Option<bool>,
    /// Metrics that several configs have.
    shared: Vec<Box<str>>,
    /// Configs of which nothing works.
    failed: Vec<Box<str>>,
}

/// What decoders may ask, from the parts of the world that are not being changed.
macro_rules! names {
    ($self:ident, $world:ident) => {
        Names {
            host: &$world.host,
            containers: &$world.containers,
            now_ns: $world.now_ns,
            tables: &mut $self.tables,
        }
    };
}

impl Set {
    /// Loads and attaches all configs the flags ask for.
    ///
    /// # Errors
    /// A file that cannot be read or is no config; with `--config.strict` anything that does not work.
    pub fn open(world: &mut World) -> Result<Set> {
        let flags = world.config.clone();
        let options = Options {
            btf: flags.btf_path.clone(),
            decoders: decoders::Options { kernel_syscall_names: flags.kernel_syscall_names },
            series_limit: flags.series_limit,
        };
        let mut set = Set {
            running: Vec::new(),
            options,
            tables: Tables::default(),
            has_statistics: false,
            reloaded: None,
            shared: Vec::new(),
            failed: Vec::new(),
        };
        let sources = Sources::open(&flags)?;
        for name in sources.names() {
            let source = sources.read(name)?;
            let (config, problems) = parsed(&source, flags.config_strict)?;
            match Running::load(source, config, problems, &set.options, &world.host) {
                Ok(mut running) => {
                    set.attach(&mut running, world);
                    set.take_in(running, None, world);
                }
                Err(error) if flags.config_strict => {
                    return Err(error).context(format_args!("config {name}"));
                }
                Err(error) => {
                    error!("config {name} is not loaded: {error}");
                    set.failed.push(name.as_str().into());
                }
            }
        }
        set.check_strictly(&flags)?;
        set.know_shared();
        if !set.running.is_empty() {
            process::post_attach_mark();
        }
        Ok(set)
    }

    fn check_strictly(&self, flags: &Flags) -> Result<()> {
        if !flags.config_strict {
            return Ok(());
        }
        let missed = |running: &Running| {
            running.missed().map(|program| format!("{}:{program}", running.name)).collect::<Vec<_>>()
        };
        let missed: Vec<String> = self.running.iter().flat_map(missed).collect();
        if !missed.is_empty() {
            let line = format!("missed attachments (config:program): {}", missed.join(", "));
            return Err(Error::new(Reason::Failed, line));
        }
        match self.running.iter().find_map(|running| running.problems.first()) {
            Some(problem) => Err(Error::new(Reason::Failed, problem.clone())),
            None => Ok(()),
        }
    }

    /// Attaches a config that is loaded.
    fn attach(&self, running: &mut Running, world: &World) {
        let others: Vec<&DynamicDesc> = self.running.iter().flat_map(Running::descs).collect();
        running.leave_out(|desc| clash(desc, &others));
        running.attach(&world.host);
    }

    /// Takes an attached config in, at place `at` of the list.
    fn take_in(&mut self, running: Running, at: Option<usize>, world: &mut World) {
        if running.asks_for_cgroups()
            && let Some(mount) = world.hierarchies.directory(Place::V2)
        {
            world.containers.want_paths(&mount.to_string_lossy());
        }
        if running.follows_cgroups() {
            world.containers.paths.follow();
            running.fill_cgroup_ids(&world.containers.paths);
        }
        for problem in &running.problems {
            error!("config {}: {problem}", running.name);
        }
        if running.has_tracing() {
            info!("config {}: tracing: spans are not exported", running.name);
        }
        self.failed.retain(|name| *name != running.name);
        self.running.insert(at.unwrap_or(self.running.len()), running);
    }

    fn know_shared(&mut self) {
        let mut names: Vec<&str> =
            self.running.iter().flat_map(Running::descs).map(|desc| &*desc.name).collect();
        names.sort_unstable();
        self.shared = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].into()).collect();
    }

    /// Reads all files again. What did not change goes on as it is; what changed is exchanged; what is wrong is said, and the
    /// old one goes on.
    pub fn reload(&mut self, world: &mut World) {
        let sources = match Sources::open(&world.config) {
            Ok(sources) => sources,
            Err(error) => {
                error!("reload: {error}; the old configs go on");
                self.reloaded = Some(false);
                return;
            }
        };
        let (mut is_whole, mut wants_mark) = (true, false);
        self.running.retain(|running| {
            let stays = sources.names().iter().any(|name| **name == *running.name);
            if !stays {
                info!("reload: config {} is gone", running.name);
            }
            stays
        });
        self.failed.retain(|failed| sources.names().iter().any(|name| **name == **failed));
        for name in sources.names() {
            match self.exchange(name, &sources, world) {
                Ok(mark) => wants_mark |= mark,
                Err(error) => {
                    is_whole = false;
                    if self.position(name).is_some() {
                        error!("reload: {error}; the old one goes on");
                        continue;
                    }
                    error!("reload: {error}");
                    if self.failed.iter().all(|failed| **failed != **name) {
                        self.failed.push(name.as_str().into());
                    }
                }
            }
        }
        self.know_shared();
        if wants_mark {
            process::post_attach_mark();
        }
        self.reloaded = Some(is_whole);
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.running.iter().position(|running| *running.name == *name)
    }

    /// Makes config `name` what its files say now. True when a new program waits for the mark.
    fn exchange(&mut self, name: &str, sources: &Sources, world: &mut World) -> Result<bool> {
        let source = sources.read(name)?;
        let at = self.position(name);
        let stamp = source.stamp();
        // Of what is attached counts would be lost; what is not at all may be by now.
        let is_same = |running: &Running| running.stamp == stamp && running.is_alive();
        if at.is_some_and(|at| is_same(&self.running[at])) {
            return Ok(false);
        }
        let (config, problems) = parsed(&source, false)?;
        if let Some(at) = at
            && problems.is_empty()
            && self.running[at].change_metrics(config.clone(), stamp, &self.options)?
        {
            info!("reload: metrics of config {name} changed, its programs and maps stay");
            return Ok(false);
        }
        let mut new =
            Running::load(source, config, problems, &self.options, &world.host).map_err(hint(world))?;
        // The old one counts until the new one does; but two programs on one interface do not go together.
        let mut old = at.map(|at| self.running.remove(at));
        let may_be_worse = old.as_ref().is_none_or(|old| new.problems.len() <= old.problems.len());
        if let Some(old) = old.as_mut().filter(|_| may_be_worse && new.is_exclusive()) {
            old.detach();
        }
        if may_be_worse {
            self.attach(&mut new, world);
        }
        match old {
            Some(old) if new.problems.len() > old.problems.len() && old.is_attached() => {
                self.running.insert(at.unwrap_or(0), old);
                let problem = new.problems.first().map_or("", String::as_str);
                return Err(Error::new(Reason::Failed, format!("config {name}: {problem}")));
            }
            old => info!("reload: config {name} is {}", if old.is_some() { "exchanged" } else { "new" }),
        }
        let wants_mark = new.wants_mark();
        self.take_in(new, at, world);
        Ok(wants_mark)
    }

    /// All configs.
    pub fn running(&self) -> &[Running] {
        &self.running
    }

    /// Names of configs of which nothing works.
    pub fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.iter().map(|name| &**name)
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.running.iter().flat_map(Running::fds)
    }

    /// Maps that are metrics.
    pub fn maps(&self) -> impl Iterator<Item = &Map> {
        self.running.iter().flat_map(Running::maps)
    }

    /// Takes what the perf buffer `fd` has.
    pub fn ready(&mut self, world: &World, fd: RawFd) {
        for running in &mut self.running {
            running.ready(&mut names!(self, world), fd);
        }
    }

    /// Reads all maps.
    pub fn refresh(&mut self, world: &World) {
        let enabled = read_bounded(&world.host.proc("sys/kernel/bpf_stats_enabled"), 16);
        self.has_statistics = enabled.is_ok_and(|text| text.first() == Some(&b'1'));
        for running in &mut self.running {
            running.refresh(&mut names!(self, world), self.has_statistics);
        }
    }

    /// Passes on what happened to cgroups.
    pub fn follow_cgroups(&self, world: &mut World) {
        let changes: Vec<Change> = world.containers.paths.take_changes();
        for running in &self.running {
            running.follow_cgroups(&changes, &world.containers.paths);
        }
    }

    /// Says the configs' metrics.
    pub fn collect(&self, out: &mut Registry) {
        for running in &self.running {
            running.collect(out, |name| self.shared.iter().any(|shared| **shared == *name));
        }
    }

    /// The page `/maps`.
    pub fn print_maps(&mut self, world: &World) -> String {
        let mut text = String::new();
        for running in &mut self.running {
            if let Err(error) = running.print_maps(&mut names!(self, world), &mut text) {
                text.push_str(&format!("{error}\n```\n\n"));
            }
        }
        text
    }
}

/// The config of a source, and a line for each metric that is wrong; with `strictly` those are fatal too.
fn parsed(source: &Source, strictly: bool) -> Result<(Config, Vec<String>)> {
    let (config, findings) = parse::parse(&source.name, &source.path, &source.yaml);
    let (fatal, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.fatal);
    let Some(config) = config.filter(|_| !strictly || fatal.is_empty()) else {
        let line = fatal.first().map_or_else(|| source.path.to_string(), ToString::to_string);
        return Err(Error::new(Reason::Failed, line));
    };
    others.iter().for_each(|finding| warning!("{finding}"));
    Ok((config, fatal.iter().map(ToString::to_string).collect()))
}

/// Says why loading may be impossible now although it was not at the start.
fn hint(world: &World) -> impl Fn(Error) -> Error {
    let has_less = world.config.kept_capabilities.is_some();
    move |error| match error.reason() {
        Reason::NoPermission if has_less => Error::new(
            Reason::NoPermission,
            format!("{error} (--capabilities.keep gave up what loading needs)"),
        ),
        _ => error,
    }
}

/// Why a metric cannot stand beside `others`. Two configs may have one metric, if it is the same in both.
pub fn clash(desc: &DynamicDesc, others: &[&DynamicDesc]) -> Option<String> {
    let name = &desc.name;
    if RESERVED_NAMES.contains(&&**name) {
        return Some(format!("metric {name} is one of nodeprobe's own"));
    }
    let same = others.iter().find(|other| other.name == *name);
    if same.is_some_and(|other| *other != desc) {
        return Some(format!("metric {name} is in another config too, with another type, help or labels"));
    }
    let parts = |desc: &DynamicDesc| -> Vec<String> {
        let suffixes: &[&str] =
            if desc.kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        suffixes.iter().map(|suffix| format!("{}{suffix}", desc.name)).collect()
    };
    let mine = parts(desc);
    let meets =
        |other: &&&DynamicDesc| other.name != *name && parts(other).iter().any(|part| mine.contains(part));
    let other = others.iter().find(meets)?;
    Some(format!("metric {name} has a series of the same name as metric {}", other.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(name: &str, kind: Kind, labels: &[&str]) -> DynamicDesc {
        let labels = labels.iter().map(|&label| label.into()).collect();
        DynamicDesc { name: name.into(), help: "Help.".into(), kind, labels }
    }

    #[test]
    fn one_metric_in_two_configs_is_the_same_in_both() {
        let a = desc("ebpf_exporter_a", Kind::Counter, &["x"]);
        let h = desc("ebpf_exporter_h", Kind::Histogram, &[]);
        let others = [&a, &h];
        assert_eq!(clash(&a.clone(), &others), None);
        for (other, word) in [
            (desc("ebpf_exporter_a", Kind::Counter, &["y"]), "another config"),
            (desc("ebpf_exporter_a", Kind::Gauge, &["x"]), "another config"),
            (desc("ebpf_exporter_h_count", Kind::Counter, &[]), "same name"),
            (desc("ebpf_exporter_enabled_configs", Kind::Gauge, &[]), "own"),
        ] {
            assert!(clash(&other, &others).is_some_and(|line| line.contains(word)), "{other:?}");
        }
        assert_eq!(clash(&desc("ebpf_exporter_h_bytes", Kind::Counter, &[]), &others), None);
    }
}
