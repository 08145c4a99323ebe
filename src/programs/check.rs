//! `nodeprobe check`: what is wrong with configs, found without a kernel, without root, before they run anywhere.

use std::path::{Path, PathBuf};

use super::config::{Config, Finding, Kind, Mark, Metric, Scale};
use super::keys::Keys;
use super::running::{Options, Running, shape_of};
use super::set::clash_with;
use super::sources::Source;
use super::{attach, cgroup_ids, elf, parse, running, table};
use crate::decoders::Chain;
use crate::host::Host;
use crate::metric::DynamicDesc;
use crate::sys::bpf::{MapShape, Object, Program};

/// All that is wrong with the configs at `paths`: directories, `NAME.yaml` or `NAME.bpf.o`.
#[derive(Debug, Default)]
pub struct Report {
    /// Configs that were looked at.
    pub configs: usize,
    /// What is wrong, a line each.
    pub findings: Vec<String>,
}

/// Checks the configs at `paths`. With `kernel` their objects are also loaded, but not attached.
pub fn check(paths: &[PathBuf], kernel: Option<(&Options, &Host)>) -> Report {
    let mut report = Report::default();
    let mut families: Vec<DynamicDesc> = Vec::new();
    for (directory, name) in configs(paths, &mut report) {
        report.configs += 1;
        match Source::read(&directory, &name) {
            Ok(source) => check_source(source, kernel, &mut families, &mut report),
            Err(error) => report.findings.push(error.to_string()),
        }
    }
    report
}

/// Directory and name of each config at `paths`.
fn configs(paths: &[PathBuf], report: &mut Report) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in paths {
        let mut files = vec![path.clone()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).into_iter().flatten();
            files = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
            files.sort();
            if files.is_empty() {
                report.findings.push(format!("{}: no *.yaml in it", path.display()));
            }
        }
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = [".yaml", ".bpf.o"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let Some(stem) = stem else {
                report.findings.push(format!("{}: NAME.yaml or NAME.bpf.o expected", file.display()));
                continue;
            };
            let config = (file.parent().unwrap_or(Path::new("")).to_path_buf(), stem.to_owned());
            if !found.contains(&config) {
                found.push(config);
            }
        }
    }
    found
}

/// Checks one config. `families` are those of the configs before it.
pub fn check_source(
    source: Source,
    kernel: Option<(&Options, &Host)>,
    families: &mut Vec<DynamicDesc>,
    report: &mut Report,
) {
    let (config, findings) = parse::parse(&source.name, &source.path, &source.yaml);
    let mut findings: Vec<Finding> = findings;
    let object =
        elf::check(&source.object).and_then(|()| Object::parse(&source.name, source.object.clone(), None));
    if let Err(error) = &object {
        report.findings.push(format!("{}: {error}", source.object_path));
    }
    if let (Some(config), Ok(mut object)) = (&config, object) {
        let mut checker = Checker { config, shapes: object.maps(), findings: &mut findings };
        checker.check_metrics();
        checker.check_cgroup_ids();
        checker.check_kaddrs(&object);
        checker.check_families(families);
        let sections = object.programs().into_iter().filter_map(|program| section_problem(&program));
        report.findings.extend(sections.map(|line| format!("{}: {line}", source.object_path)));
        if let Err(error) = attach::prepare(&mut object) {
            report.findings.push(format!("{}: {error}", source.object_path));
        }
    }
    findings.sort_by_key(|finding| finding.mark);
    report.findings.extend(findings.iter().map(ToString::to_string));
    if let (Some((options, host)), Some(config)) = (kernel, config) {
        let path = source.path.clone();
        match Running::load(source, config, Vec::new(), options, host) {
            // What is wrong with the YAML has been said.
            Ok(running) => {
                let problems = running.problems().filter(|problem| !problem.starts_with(&*path));
                report.findings.extend(problems.map(str::to_owned));
            }
            Err(error) => report.findings.push(error.to_string()),
        }
    }
}

/// Why a program will never run, as far as its section says.
fn section_problem(program: &Program) -> Option<String> {
    let Program { name, section, is_enabled } = program;
    let is_one = |words: &[&str]| {
        words.iter().any(|word| {
            section.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    // Sections that libbpf loads but does not attach by themselves.
    let manual = [
        "socket",
        "sk_reuseport",
        "tc",
        "tcx",
        "netkit",
        "classifier",
        "action",
        "lsm_cgroup",
        "syscall",
        "xdp.frags",
        "sockops",
        "sk_msg",
        "lirc_mode2",
        "flow_dissector",
        "struct_ops",
        "sk_lookup",
        "netfilter",
        "cgroup",
        "cgroup_skb",
        "lwt_in",
        "lwt_out",
        "lwt_xmit",
        "lwt_seg6local",
        "sk_skb",
    ];
    let bare = [
        "perf_event",
        "xdp",
        "kprobe",
        "kretprobe",
        "uprobe",
        "uretprobe",
        "usdt",
        "tracepoint",
        "tp",
        "tp_btf",
        "raw_tp",
        "raw_tracepoint",
        "fentry",
        "fexit",
    ];
    if !is_enabled {
        return Some(format!("program {name}: section {section} says that it is not to be loaded"));
    }
    if bare.contains(&section.as_str()) {
        return Some(format!(
            "program {name}: section {section} does not say where to attach: {section}/TARGET"
        ));
    }
    // They attach, to a file that somebody would have to open.
    if is_one(&["iter", "iter.s"]) {
        return Some(format!(
            "program {name}: section {section} is an iterator, which runs when it is read, and nothing reads it"
        ));
    }
    is_one(&manual)
        .then(|| format!("program {name}: section {section} is of a kind that nothing attaches by itself"))
}

struct Checker<'a> {
    config: &'a Config,
    shapes: Vec<MapShape>,
    findings: &'a mut Vec<Finding>,
}

impl Checker<'_> {
    fn find(&mut self, mark: Mark, message: impl Into<String>) {
        let path = self.config.path.clone();
        self.findings.push(Finding { path, mark, fatal: true, message: message.into() });
    }

    fn check_metrics(&mut self) {
        for metric in &self.config.metrics {
            for label in &metric.labels {
                for (mark, message) in Chain::check(&label.decoders, label.size) {
                    self.find(mark, message);
                }
            }
            match shape_of(&self.shapes, &metric.name).cloned() {
                Ok(shape) => self.check_map(metric, &shape),
                Err(line) => self.find(metric.mark, line),
            }
        }
    }

    fn check_map(&mut self, metric: &Metric, shape: &MapShape) {
        if let Err(line) = table::check_shape(metric, shape) {
            self.find(metric.mark, line);
        }
        let Kind::Histogram(buckets) = &metric.kind else { return };
        let (Scale::Exp2 { max, .. } | Scale::Exp2Zero { max, .. } | Scale::Linear { max, .. }) =
            buckets.scale
        else {
            return;
        };
        let needed = max.saturating_add(2);
        if shape.kind.is_array() && i64::from(shape.max_entries) < needed {
            let entries = shape.max_entries;
            self.find(
                metric.mark,
                format!("map {} has {entries} entries, but bucket_max {max} needs {needed}: the last one is the sum", shape.name),
            );
        }
    }

    fn check_cgroup_ids(&mut self) {
        let Some(wanted) = &self.config.cgroup_id_map else { return };
        let shape =
            shape_of(&self.shapes, &wanted.name).and_then(|shape| cgroup_ids::check_shape(wanted, shape));
        if let Err(line) = shape {
            self.find(wanted.mark, line);
        }
        for (mark, line) in cgroup_ids::pattern_problems(wanted) {
            self.find(mark, line);
        }
    }

    fn check_kaddrs(&mut self, object: &Object) {
        for (name, mark) in &self.config.kaddrs {
            let variable = format!("kaddr_{name}");
            match object.variable_size(&variable) {
                Some(8) => {}
                Some(size) => self.find(*mark, format!("variable {variable} has {size} bytes, not 8")),
                None => self.find(*mark, format!("no variable {variable} in the object")),
            }
        }
    }

    fn check_families(&mut self, families: &mut Vec<DynamicDesc>) {
        for metric in &self.config.metrics {
            let Ok(keys) = Keys::build(&self.config.path, &metric.labels, Default::default()) else {
                continue;
            };
            let desc = running::desc_of(metric, &keys);
            if let Some(line) = clash_with(&desc, &families.iter().collect::<Vec<_>>()) {
                self.find(metric.mark, line);
            }
            families.push(desc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_never_run_are_told() {
        let problem = |section: &str| {
            let (name, section) = ("x".to_owned(), section.to_owned());
            let is_enabled = !section.starts_with('?');
            section_problem(&Program { name, section, is_enabled })
        };
        for (section, word) in [
            ("?kprobe/f", "is not to be loaded"),
            ("kprobe", "kprobe/TARGET"),
            ("xdp", "xdp/TARGET"),
            ("iter/task", "nothing reads it"),
            ("iter.s/task", "nothing reads it"),
            ("cgroup/skb", "nothing attaches by itself"),
            ("cgroup_skb/egress", "nothing attaches by itself"),
            ("tc", "nothing attaches by itself"),
        ] {
            let line = problem(section).unwrap_or_default();
            assert!(
                line.starts_with(&format!("program x: section {section} ")) && line.contains(word),
                "{line}"
            );
        }
        for section in ["kprobe/f", "tp_btf/a", "perf_event/type=1", "xdp/lo", "iterate/x", "tcp/x"] {
            assert_eq!(problem(section), None);
        }
    }
}
