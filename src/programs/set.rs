//! All configs together: opened at the start, read in turn, exchanged one by one when files have changed.

use std::os::fd::RawFd;

use super::config::Config;
use super::running::{Options, Running};
use super::sources::{Source, Sources};
use super::{RESERVED_NAMES, parse};
use crate::args::{Config as Flags, Enable};
use crate::containers::hierarchies::Place;
use crate::containers::paths::Change;
use crate::decoders::{self, Asks, Names, Tables};
use crate::error::{Context, Error, Reason, Result};
use crate::host::read_bounded;
use crate::memory;
use crate::metric::{DynamicDesc, Kind};
use crate::registry::Registry;
use crate::sys::bpf::{self, Map};
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
        let sources = Sources::open(&flags, &[])?;
        for name in sources.names() {
            let source = sources.read(name)?;
            let (config, problems) = parsed(&source, flags.config_strict)?;
            match Running::load(source, config, problems, &set.options, &world.host) {
                Ok(mut running) => {
                    running.leave_out(|desc| clash(desc, &set.running));
                    running.attach(&world.host);
                    set.running.push(running);
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
        set.running.iter().for_each(tell);
        set.settle(world);
        Ok(set)
    }

    fn check_strictly(&self, flags: &Flags) -> Result<()> {
        if !flags.config_strict {
            return Ok(());
        }
        let missed = |running: &Running| {
            let missed = running.programs().iter().filter(|program| !program.is_attached());
            missed.map(|program| format!("{}:{}", running.name, program.name())).collect::<Vec<_>>()
        };
        let missed: Vec<String> = self.running.iter().flat_map(missed).collect();
        if !missed.is_empty() {
            let line = format!("missed attachments (config:program): {}", missed.join(", "));
            return Err(Error::new(Reason::Failed, line));
        }
        match self.running.iter().find_map(|running| running.problems().next()) {
            Some(problem) => Err(Error::new(Reason::Failed, problem)),
            None => Ok(()),
        }
    }

    /// After configs came, went or changed: what they need to know is asked for, and who waits for all to be attached is told.
    fn settle(&mut self, world: &mut World) {
        let asks = |what| self.running.iter().any(|running| running.asks(what));
        let (follows, paths) = (self.running.iter().any(Running::follows_cgroups), asks(Asks::Paths));
        let has_collector = world.config.collector("containers") != Some(Enable::Off);
        if (follows || paths || asks(Asks::Containers)) && !has_collector {
            warning!("cgroups and containers have no names with --collector.containers=off");
        }
        if follows {
            world.containers.paths.follow();
        }
        if (follows || paths)
            && let Some(mount) = world.hierarchies.directory(Place::V2)
        {
            world.containers.want_paths(&world.host.cgroup_as_seen(mount));
        }
        for running in &self.running {
            running.fill_cgroup_ids(&world.containers.paths, &world.host);
        }
        let mut names: Vec<&str> =
            self.running.iter().flat_map(Running::descs).map(|desc| &*desc.name).collect();
        names.sort_unstable();
        self.shared = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].into()).collect();
        if self.running.iter().any(Running::wants_mark) {
            bpf::post_attach_mark();
            self.running.iter_mut().for_each(Running::mark_passed);
        }
    }

    /// Reads all files again. What did not change goes on as it is; what changed is exchanged; what is wrong is said, and the
    /// old one goes on.
    pub fn reload(&mut self, world: &mut World) {
        let running: Vec<&str> = self.running.iter().map(|running| &*running.name).collect();
        let sources = match Sources::open(&world.config, &running) {
            Ok(sources) => sources,
            Err(error) => {
                error!("reload: {error}; the old configs go on");
                self.reloaded = Some(false);
                return;
            }
        };
        let mut before = std::mem::take(&mut self.running);
        self.failed.clear();
        let mut is_whole = true;
        for name in sources.names() {
            let old = before.iter().position(|running| *running.name == **name).map(|at| before.remove(at));
            let (now, result) = self.exchange(name, old, &sources, world);
            is_whole &= matches!(result, Ok(true));
            match (result, &now) {
                (Err(error), Some(_)) => error!("reload: {error}; the old one goes on"),
                (Err(error), None) => {
                    error!("reload: {error}");
                    self.failed.push(name.as_str().into());
                }
                (Ok(_), _) => {}
            }
            self.running.extend(now);
        }
        before.iter().for_each(|running| info!("reload: config {} is gone", running.name));
        drop(before);
        self.settle(world);
        self.reloaded = Some(is_whole);
    }

    /// What config `name` is from now on, and whether it is what its files say without a new problem; an error when `old` had
    /// to stay. Names of metrics belong to configs before it.
    fn exchange(
        &self,
        name: &str,
        mut old: Option<Running>,
        sources: &Sources,
        world: &World,
    ) -> (Option<Running>, Result<bool>) {
        let had = old.as_ref().map_or(0, |old| old.problems().count());
        let result = self.renewed(name, &mut old, sources, world);
        let (now, result) = match result {
            Ok(Some(new)) => (Some(new), Ok(())),
            Ok(None) => (old, Ok(())),
            Err(error) => (old, Err(error)),
        };
        let Some(mut now) = now else { return (None, result.map(|()| false)) };
        // A config before it may have taken one of its names.
        let before = now.problems().count();
        now.leave_out(|desc| clash(desc, &self.running));
        if now.problems().count() > before {
            tell(&now);
        }
        let is_well = now.problems().count() <= had;
        (Some(now), result.map(|()| is_well))
    }

    /// A new config in place of `old`, or none when `old` is, or has become, what the files say.
    fn renewed(
        &self,
        name: &str,
        old: &mut Option<Running>,
        sources: &Sources,
        world: &World,
    ) -> Result<Option<Running>> {
        let source = sources.read(name)?;
        let stamp = source.stamp();
        let named = |error: Error| Error::new(error.reason(), format!("config {name}: {error}"));
        if let Some(old) = old {
            // What did not attach before may attach now.
            old.attach(&world.host);
            if old.is_made_from(stamp) {
                return Ok(None);
            }
        }
        let (config, problems) = parsed(&source, false)?;
        if let Some(old) = old {
            let clash = |desc: &DynamicDesc| clash(desc, &self.running);
            let changed = old.change_metrics(&config, problems.clone(), stamp, &self.options, clash);
            if changed.map_err(named)? {
                info!("reload: config {name} has new metrics, its programs and maps stay");
                return Ok(None);
            }
        }
        let replaced = old.as_ref().map_or(0, Running::map_bytes);
        memory::leave_out_maps(replaced);
        let loaded = Running::load(source, config, problems, &self.options, &world.host);
        let mut new =
            loaded.map_err(hint(world)).map_err(named).inspect_err(|_| memory::add_maps(replaced))?;
        new.leave_out(|desc| clash(desc, &self.running));
        let limit = old.as_ref().map_or(usize::MAX, |old| old.problems().count());
        let refuse = |new: &Running| {
            memory::leave_out_maps(new.map_bytes());
            memory::add_maps(replaced);
            let problem = new.problems().next().unwrap_or_default();
            Err(Error::new(Reason::Failed, format!("config {name}: {problem}")))
        };
        if new.problems().count() > limit {
            return refuse(&new);
        }
        // The old one counts until the new one does; but two programs on one interface do not go together.
        if let Some(old) = old {
            old.leave_interfaces();
        }
        new.attach(&world.host);
        if new.problems().count() > limit {
            let refused = refuse(&new);
            drop(new);
            if let Some(old) = old {
                old.attach(&world.host);
            }
            return refused;
        }
        info!("reload: config {name} is {}", if old.is_some() { "exchanged" } else { "new" });
        tell(&new);
        Ok(Some(new))
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

    /// All maps.
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
            running.follow_cgroups(&changes, &world.containers.paths, &world.host);
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

/// Says what does not work.
fn tell(running: &Running) {
    for problem in running.problems() {
        error!("config {}: {problem}", running.name);
    }
    if running.has_tracing() {
        info!("config {}: tracing: spans are not exported", running.name);
    }
}

fn clash(desc: &DynamicDesc, others: &[Running]) -> Option<String> {
    clash_with(desc, &others.iter().flat_map(Running::descs).collect::<Vec<_>>())
}

/// Why a metric cannot stand beside `others`. Two configs may have one metric, if it is the same in both.
pub fn clash_with(desc: &DynamicDesc, others: &[&DynamicDesc]) -> Option<String> {
    let name = &desc.name;
    if RESERVED_NAMES.contains(&&**name) {
        return Some(format!("metric {name} is one of nodeprobe's own"));
    }
    if others.iter().any(|other| other.name == *name && *other != desc) {
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
        let clash = |desc: &DynamicDesc| clash_with(desc, &others);
        assert_eq!(clash(&a.clone()), None);
        for (other, word) in [
            (desc("ebpf_exporter_a", Kind::Counter, &["y"]), "another config"),
            (desc("ebpf_exporter_a", Kind::Gauge, &["x"]), "another config"),
            (desc("ebpf_exporter_h_count", Kind::Counter, &[]), "same name"),
            (desc("ebpf_exporter_enabled_configs", Kind::Gauge, &[]), "own"),
        ] {
            assert!(clash(&other).is_some_and(|line| line.contains(word)), "{other:?}");
        }
        assert_eq!(clash(&desc("ebpf_exporter_h_bytes", Kind::Counter, &[])), None);
    }
}
