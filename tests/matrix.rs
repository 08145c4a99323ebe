//! The agent on a matrix of kernels, and on one kernel that misses one thing after the other, in machines without disks
//! (`tests/vm/matrix.sh`). What it can do on each stands in `tests/vm/expected.txt`, and for people in `docs/KERNELS.md`.
//!
//! `make test` boots the rows of [`SMALL`]; `make test-vm` those of K, names of `tests/vm/kernels.txt` or `all`. With
//! `NODEPROBE_UPDATE=1` the rows that were run are written anew, and so is the page.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use nodeprobe::collectors::COLLECTORS;
use nodeprobe::json::Json;
use support::{Metrics, TempDir};

/// Rows that `make test` boots: the kernel of Debian's oldest suite in use, and what most often misses.
const SMALL: &[&str] = &["6.1", "6.1/no_btf", "6.1/no_caps"];

/// The kernel that is booted with one thing missing each time.
const VARIED: &str = "6.12";

/// Test programs that run in a machine of their own, row `KERNEL/tests`: on kernels for amd64.
const TESTS: &[&str] = &["kernel", "life", "oom"];

/// What is missing in turn, and how.
const VARIANTS: &[(&str, &str)] = &[
    ("no_btf", "no type information: an empty file system over `/sys/kernel/btf`"),
    ("lockdown", "`lockdown=confidentiality`"),
    ("no_psi", "`psi=0`"),
    ("no_tracefs", "neither tracefs nor debugfs mounted"),
    ("no_taskstats", "no taskstats: no sockets of generic netlink, by seccomp"),
    ("no_memory", "no memory controller: `cgroup_disable=memory`, as Raspberry Pi OS has it"),
    ("no_bpf", "`bpf(2)` refused by seccomp, as container runtimes do it"),
    ("bpf_caps", "root with CAP_BPF and CAP_PERFMON only"),
    ("no_caps", "root without any capability"),
    ("nobody", "user 65534 without any capability"),
];

/// What happens in the containers of each machine: name, family, labels in their order, how often, what it is.
const EVENTS: &[Event] = &[
    event(
        "cgroup",
        "container_info",
        &[("container_id", "/docker/web")],
        Some(1.0),
        "a container found and named",
    ),
    event(
        "cpu",
        "container_resources_cpu_usage_seconds_total",
        &[("container_id", "/docker/web")],
        None,
        "its CPU time",
    ),
    event(
        "memory",
        "container_resources_memory_rss_bytes",
        &[("container_id", "/docker/web")],
        None,
        "its memory",
    ),
    event(
        "pressure",
        "container_resources_cpu_pressure_waiting_seconds_total",
        &[("container_id", "/docker/web"), ("kind", "some")],
        None,
        "pressure of its processors",
    ),
    event(
        "connect",
        "container_net_tcp_successful_connects_total",
        &[("container_id", "/docker/web"), ("destination", "127.0.0.1:8080")],
        Some(5.0),
        "5 connections made",
    ),
    event(
        "refused",
        "container_net_tcp_failed_connects_total",
        &[("container_id", "/docker/web"), ("destination", "127.0.0.1:8081")],
        Some(3.0),
        "3 connections refused",
    ),
    event(
        "bytes",
        "container_net_tcp_bytes_received_total",
        &[("container_id", "/docker/web"), ("destination", "127.0.0.1:8080")],
        None,
        "bytes of connections",
    ),
    event(
        "listen",
        "container_net_tcp_listen_info",
        &[("container_id", "/docker/web"), ("listen_addr", "127.0.0.1:8080")],
        Some(1.0),
        "a socket that listens",
    ),
    event(
        "exit",
        "container_processes_exited_total",
        &[("container_id", "/docker/batch")],
        Some(4.0),
        "4 processes of milliseconds ended",
    ),
    event(
        "living",
        "container_processes",
        &[("container_id", "/docker/web")],
        Some(2.0),
        "2 processes that live",
    ),
    event(
        "oom",
        "container_oom_kills_total",
        &[("container_id", "/docker/greedy")],
        Some(1.0),
        "a kill for want of memory",
    ),
    event(
        "delay",
        "container_resources_cpu_delay_seconds_total",
        &[("container_id", "/docker/web")],
        None,
        "waiting for processors",
    ),
    event(
        "log",
        "container_log_messages_total",
        &[("container_id", "/docker/web"), ("level", "error")],
        Some(4.0),
        "4 error messages of a log",
    ),
];

struct Event {
    name: &'static str,
    family: &'static str,
    labels: &'static [(&'static str, &'static str)],
    /// Exactly; or more than nothing.
    count: Option<f64>,
    about: &'static str,
}

const fn event(
    name: &'static str,
    family: &'static str,
    labels: &'static [(&'static str, &'static str)],
    count: Option<f64>,
    about: &'static str,
) -> Event {
    Event { name, family, labels, count, about }
}

impl Event {
    /// What is written in the table when it came out as it should.
    fn counted(&self) -> String {
        self.count.map_or_else(|| "counted".to_owned(), |count| count.to_string())
    }

    /// What the metrics say of it.
    fn result(&self, metrics: &Metrics) -> String {
        let said = metrics.series(self.family);
        let has = |name, value| move |series: &&&support::Series| series.label(name) == value;
        let mut found: Vec<_> = said.iter().collect();
        for (name, value) in self.labels {
            found.retain(|series| has(name, *value)(series));
        }
        if found.is_empty() {
            return "absent".to_owned();
        }
        let sum: f64 = found.iter().map(|series| series.value).sum();
        match self.count {
            None if sum > 0.0 => self.counted(),
            _ => sum.to_string(),
        }
    }

    /// The same as a pattern of grep -E, for who waits in the machine.
    fn pattern(&self) -> String {
        let mut pattern = format!("^{}[{{]", self.family);
        for (name, value) in self.labels {
            let _ = write!(pattern, ".*{name}=\"{}\"", value.replace('.', "[.]"));
        }
        pattern +=
            &self.count.map_or_else(|| ".*} [0-9.]*[1-9]".to_owned(), |count| format!(".*}} {count}$"));
        pattern
    }
}

/// Programs that say nothing here: no emulated machine has counters of caches, and whether a python3 has probes is its
/// distribution's choice. `tests/programs.rs` has both.
const NOT_JUDGED: &[&str] = &["llcstat", "usdt"];

/// A cell: kind and name.
type Cell = (String, String);
/// The table: results by row and cell.
type Table = BTreeMap<String, BTreeMap<Cell, String>>;

fn here(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn expected() -> (Table, BTreeMap<String, String>) {
    let text = fs::read_to_string(here("tests/vm/expected.txt")).unwrap_or_default();
    let mut table = Table::new();
    let mut versions = BTreeMap::new();
    for line in text.lines() {
        if let Some((row, version)) = line.strip_prefix("# row ").and_then(|rest| rest.split_once(": ")) {
            versions.insert(row.to_owned(), version.to_owned());
        }
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        if let ([row, kind, name, result], false) = (&fields[..], line.starts_with('#')) {
            let cell = ((*kind).to_owned(), (*name).to_owned());
            table.entry((*row).to_owned()).or_default().insert(cell, result.trim().to_owned());
        }
    }
    (table, versions)
}

fn write_expected(table: &Table, versions: &BTreeMap<String, String>) {
    let mut text = String::from(
        "# What nodeprobe does on each kernel: row (tests/vm/kernels.txt, with /what it misses), kind, name, result.\n\
         # NODEPROBE_UPDATE=1 make test-vm K=all writes it anew, and docs/KERNELS.md. Read the difference: it is the review.\n",
    );
    for (row, cells) in table {
        let _ = writeln!(text, "# row {row}: {}", versions.get(row).map_or("", String::as_str));
        for ((kind, name), result) in cells {
            let _ = writeln!(text, "{row} {kind} {name} {result}");
        }
    }
    fs::write(here("tests/vm/expected.txt"), text).expect("expected.txt written");
}

/// The kernels of `tests/vm/kernels.txt` with their architectures.
fn kernels() -> Vec<(String, String)> {
    let text = fs::read_to_string(here("tests/vm/kernels.txt")).expect("tests/vm/kernels.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    fields.map(|fields| (fields[0].clone(), fields[1].clone())).collect()
}

/// The rows in which test programs run.
fn tested() -> Vec<String> {
    let own = kernels().into_iter().filter(|(_, arch)| arch == "amd64");
    own.map(|(name, _)| format!("{name}/tests")).collect()
}

/// All rows that K stands for.
fn rows(wanted: &str) -> Vec<String> {
    let variants = VARIANTS.iter().map(|(name, _)| format!("{VARIED}/{name}"));
    let mut all: Vec<String> = kernels().into_iter().map(|(name, _)| name).chain(variants).collect();
    all.extend(tested());
    all.extend(SMALL.iter().map(|row| (*row).to_owned()));
    let mut seen = BTreeSet::new();
    all.retain(|row| seen.insert(row.clone()));
    if wanted == "all" {
        return all;
    }
    let mut rows = Vec::new();
    for name in wanted.split([',', ' ']).filter(|name| !name.is_empty()) {
        let before = rows.len();
        // A kernel's name stands for its variants, too.
        let of_it = |row: &&String| *row == name || row.starts_with(&format!("{name}/"));
        rows.extend(all.iter().filter(of_it).cloned());
        assert!(rows.len() > before, "no kernel {name}: {all:?}");
    }
    rows
}

/// What came out of one machine.
#[derive(Default)]
struct Run {
    row: String,
    version: String,
    cells: BTreeMap<Cell, String>,
    /// What must not be on any kernel.
    wrong: Vec<String>,
}

/// Boots a row; with the programs that come along, if `with_programs`.
fn boot(row: &str, with_programs: bool, wanted: &[&Event], update: bool) -> Run {
    let directory = TempDir::new("matrix");
    let patterns: Vec<String> = wanted.iter().map(|event| event.pattern()).collect();
    let patterns = directory.write("wanted", patterns.join("\n") + "\n");
    let mut command = Command::new("bash");
    command.arg(here("tests/vm/matrix.sh")).args(["boot", row]).arg(directory.path());
    // cargo's own libraries are not for the programs it calls.
    command.env("WANTED", patterns).env_remove("LD_LIBRARY_PATH").stdin(Stdio::null()).current_dir(here(""));
    // make says which; without it the one that was compiled for this test.
    let binary = env::var("NODEPROBE_BINARY").unwrap_or_else(|_| support::BINARY.to_owned());
    command.env("BINARY", binary);
    if !with_programs {
        command.env("WITHOUT_PROGRAMS", "1");
    }
    if update {
        command.env("PATIENCE", "20");
    }
    let is_tests = row.ends_with("/tests");
    if is_tests {
        let files: Vec<String> = TESTS.iter().map(|name| test_program(name)).collect();
        command.env("TESTS", files.join(" ")).env("AGENT", support::BINARY);
        // Modules are not loaded by themselves in there.
        command.env(
            "MODULES",
            "virtio_pci virtio_blk ext4 veth nf_tables nft_chain_nat nf_conntrack_netlink tcp_diag",
        );
        command.env("MEMORY", "1536").env("SECONDS_MAX", "7200");
    }
    let kept = |kind: &str| {
        let directory = env::var_os("MATRIX_KEEP")?;
        Some(Path::new(&directory).join(format!("{}.{kind}", row.replace('/', "-"))))
    };
    if env::var_os("MATRIX_REPLAY").is_some() {
        let read = |kind| {
            fs::read(kept(kind).expect("MATRIX_KEEP"))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut run = Run { row: row.to_owned(), ..Run::default() };
        let (console, said) = (read("console").unwrap_or_default(), read("output").unwrap_or_default());
        if is_tests {
            judge_tests(&mut run, &console, &said);
        } else {
            judge(&mut run, &console, &said, with_programs);
        }
        return run;
    }
    let output = command.output().expect("bash");
    let mut run = Run { row: row.to_owned(), ..Run::default() };
    if !output.status.success() {
        run.wrong.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        return run;
    }
    let read = |name: &str| {
        let bytes = fs::read(directory.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (console, said) = (read("console"), read("output"));
    for (kind, text) in [("output", &said), ("console", &console)] {
        if let Some(path) = kept(kind) {
            fs::write(path, text).expect("MATRIX_KEEP is a directory");
        }
    }
    if is_tests {
        judge_tests(&mut run, &console, &said);
    } else {
        judge(&mut run, &console, &said, with_programs);
    }
    if !run.wrong.is_empty() {
        let tail: Vec<&str> = console.lines().rev().take(12).collect();
        run.wrong.push(format!("its console: {tail:#?}"));
    }
    run
}

/// The part of the machine's output behind `@@@ NAME`.
fn section<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = output.split_once(&format!("\n@@@ {name}\n"))?;
    Some(rest.split("\n@@@ ").next().unwrap_or(rest))
}

/// Whether the machine got to its end, and nothing was wrong with its kernel.
fn judge_kernel(run: &mut Run, console: &str, output: &str) {
    run.version = section(output, "uname").unwrap_or_default().trim().to_owned();
    if section(output, "end").is_none() {
        run.wrong
            .push(format!("the machine did not get to its end; its last words: {:?}", last_words(output)));
    }
    for line in console.lines().chain(section(output, "kernel").unwrap_or_default().lines()) {
        // A kill for want of memory prints a trace, too: that alone is no fault.
        let bad = ["WARNING", "BUG", "Oops", "Kernel panic", "cut here", "stall", "hung task", "lockup"];
        if bad.iter().any(|word| line.contains(word)) {
            run.wrong.push(format!("the kernel said: {line}"));
        }
    }
}

/// The newest file of test program `name` beside this one.
fn test_program(name: &str) -> String {
    let own = env::current_exe().expect("this program has a file");
    let beside = fs::read_dir(own.parent().expect("a directory")).expect("a directory");
    let files = beside.filter_map(|file| {
        let path = file.ok()?.path();
        let (start, hash) = path.file_name()?.to_str()?.rsplit_once('-')?;
        (start == name && !hash.contains('.'))
            .then(|| (fs::metadata(&path).and_then(|file| file.modified()).ok(), path))
    });
    let newest = files.max().unwrap_or_else(|| panic!("no test program {name} beside {}", own.display()));
    newest.1.display().to_string()
}

/// What the test programs said.
fn judge_tests(run: &mut Run, console: &str, output: &str) {
    judge_kernel(run, console, output);
    let (mut program, mut test) = ("", "");
    let mut ended = BTreeSet::new();
    for line in section(output, "tests").unwrap_or_default().lines() {
        let cell = |test: &str| ("test".to_owned(), format!("{program}::{test}"));
        if let Some(name) = line.strip_prefix("program ") {
            program = name;
        } else if let Some((name, result)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            match result {
                "ok" => drop(run.cells.insert(cell(name), result.to_owned())),
                _ if result.starts_with("ignored") => {}
                _ => run.wrong.push(format!("test {program}::{name}: {result}")),
            }
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.split_once(" stdout")) {
            test = name.0;
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            run.cells.insert(cell(test), format!("absent: {reason}"));
        } else if line.starts_with("test result: ") {
            ended.insert(program);
        } else if line.contains("panicked at") || line.starts_with("error") {
            run.wrong.push(line.to_owned());
        }
    }
    for program in TESTS.iter().filter(|program| !ended.contains(*program)) {
        run.wrong.push(format!("{program} did not get to its end: {:?}", last_words(output)));
    }
}

fn judge(run: &mut Run, console: &str, output: &str, with_programs: bool) {
    judge_kernel(run, console, output);
    let agents: &[&str] = if with_programs { &["agent", "programs-agent"] } else { &["agent"] };
    for agent in agents {
        if section(output, agent).map(str::trim) != Some("exit 0") {
            run.wrong.push(format!("{agent}: {:?}", section(output, agent)));
        }
    }
    if !section(output, "health").is_some_and(|text| text.contains(" 200 ")) {
        run.wrong.push(format!("/metrics answers {:?}", section(output, "health")));
    }
    let Some(metrics) = parse(run, output, "metrics") else { return };
    let reasons = reasons(&metrics);
    let doctor = section(output, "doctor").unwrap_or_default();
    let (report, status) = doctor.rsplit_once("exit ").unwrap_or((doctor, "never"));
    if status.trim() != "0" {
        run.wrong.push(format!("doctor: exit {status}"));
    }
    let checks = objects(report, "checks");
    let collectors = objects(report, "collectors");
    for spec in COLLECTORS {
        let reason = reasons.get(spec.name).map_or("missing", String::as_str);
        let told = collectors.iter().find(|object| object.get("name").is_some_and(|name| name == spec.name));
        let told_reason = told.and_then(|told| told.get("reason")).map_or("missing", String::as_str);
        if told_reason != reason {
            run.wrong
                .push(format!("{}: {reason} in the metrics, {told_reason} in doctor's report", spec.name));
        }
        let result = match reason {
            "ok" => ["ok", &door(&metrics, spec.name)].join(" ").trim().to_owned(),
            "disabled" => continue,
            _ => {
                let detail = told.and_then(|told| told.get("detail")).map_or("", String::as_str);
                format!("{reason}: {}", short(detail))
            }
        };
        run.cells.insert(("collector".to_owned(), spec.name.to_owned()), result);
    }
    for check in &checks {
        let of = |key: &str| check.get(key).cloned().unwrap_or_default();
        run.cells.insert(("doctor".to_owned(), of("name")), of("state"));
    }
    for event in EVENTS {
        let mut result = event.result(&metrics);
        // Events of processes say who ended, not where: of those that are gone before anybody has looked nothing is known.
        let is_late = event.name == "exit" && door(&metrics, "processes") == "connector";
        if is_late && result.parse::<f64>().is_ok_and(|seen| seen <= event.count.unwrap_or(0.0)) {
            result = "those seen in time".to_owned();
        }
        run.cells.insert(("event".to_owned(), event.name.to_owned()), result);
    }
    if with_programs {
        programs(run, output);
    }
}

fn parse(run: &mut Run, output: &str, name: &str) -> Option<Metrics> {
    let text = section(output, name).unwrap_or_default();
    match Metrics::try_parse(text) {
        Ok(metrics) if !metrics.all().is_empty() => Some(metrics),
        Ok(_) => {
            run.wrong.push(format!("nothing in {name}; it said {:?}", section(output, "said")));
            None
        }
        Err(problem) => {
            run.wrong.push(format!("{name}: {problem}"));
            None
        }
    }
}

fn last_words(output: &str) -> &str {
    let start = output.len().saturating_sub(300);
    output.get(start..).unwrap_or_default()
}

fn reasons(metrics: &Metrics) -> BTreeMap<String, String> {
    let series = metrics.series("nodeprobe_collector_info");
    series.iter().map(|one| (one.label("collector").to_owned(), one.label("reason").to_owned())).collect()
}

/// Which of several ways a collector takes.
fn door(metrics: &Metrics, collector: &str) -> String {
    let family = match collector {
        "containers" => "nodeprobe_cgroup_watch_info",
        "delays" => "nodeprobe_taskstats_door_info",
        "processes" => "nodeprobe_processes_door_info",
        "oom" => "nodeprobe_oom_door_info",
        "tcp" => "nodeprobe_tcp_door_info",
        _ => return String::new(),
    };
    metrics.series(family).first().map_or_else(String::new, |series| series.label("door").to_owned())
}

/// What a person needs of an error: without numbers of errno, libbpf's remarks and the verifier's.
fn short(detail: &str) -> String {
    let mut detail = detail.split(" (").next().unwrap_or_default().to_owned();
    if let Some((head, _)) = detail.split_once("; ") {
        detail = head.to_owned();
    }
    detail.chars().take(120).collect()
}

/// What became of the programs that come along.
fn programs(run: &mut Run, output: &str) {
    let Some(metrics) = parse(run, output, "programs") else { return };
    let said = section(output, "programs-said").unwrap_or_default();
    let reason = reasons(&metrics).remove("programs").unwrap_or_default();
    let listed = fs::read_to_string(here("tests/fixtures/programs.txt")).expect("programs.txt");
    for name in listed.lines().filter(|line| !line.starts_with('#')) {
        let name = name.split_whitespace().next().unwrap_or_default();
        if NOT_JUDGED.contains(&name) {
            continue;
        }
        let problems = metrics.value("nodeprobe_config_problems", &[("config", name)]);
        let starts = [format!("config {name}: "), format!("config {name} ")];
        let line =
            said.lines().find_map(|line| starts.iter().find_map(|start| Some(line.split_once(start)?.1)));
        let why = line.map(why).unwrap_or_default();
        let result = match problems {
            _ if reason != "ok" => format!("absent: {reason}"),
            Some(0.0) => "ok".to_owned(),
            Some(_) => format!("in part: {why}"),
            None => format!("absent: {why}"),
        };
        run.cells.insert(("program".to_owned(), name.to_owned()), result);
    }
}

/// From the line about a program that is not loaded or attached, what for.
fn why(line: &str) -> String {
    if let Some((_, types)) = line.split_once("failed to find kernel BTF type ID of '") {
        return format!("this kernel has no tracepoint {}", types.split('\'').next().unwrap_or_default());
    }
    if line.contains("failed to attach: -ENOTSUPP") {
        return "this kernel has no trampolines for functions".to_owned();
    }
    let marks = ["is not attached: ", "is not loaded: "];
    let line = marks.iter().find_map(|mark| line.split_once(mark)).map_or(line, |(_, rest)| rest);
    // Where in the config, or in which object.
    let line = line
        .rsplit_once(".yaml:")
        .map_or(line, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, rest)| rest));
    let line = line.rsplit_once(".bpf.o: ").map_or(line, |(_, rest)| rest).trim_start_matches("load: ");
    let line = line.split(" (").next().unwrap_or_default();
    let parts: Vec<&str> = line.split(": ").collect();
    // What the errno stands for is of use only if nothing else is said.
    let parts = if parts.len() > 1 && parts[parts.len() - 1].starts_with("No such") {
        &parts[..parts.len() - 1]
    } else {
        &parts
    };
    parts.join(": ").chars().take(100).collect()
}

/// The objects of an array in doctor's report, strings only.
fn objects(text: &str, list: &str) -> Vec<BTreeMap<String, String>> {
    let read = || -> Option<Vec<BTreeMap<String, String>>> {
        let mut json = Json::new(text.as_bytes());
        let mut objects = Vec::new();
        let mut key = String::new();
        json.begin_object().ok()?;
        while json.next_key(&mut key).ok()? {
            if key != list {
                json.skip().ok()?;
                continue;
            }
            json.begin_array().ok()?;
            while json.next_element().ok()? {
                let mut object = BTreeMap::new();
                json.begin_object().ok()?;
                while json.next_key(&mut key).ok()? {
                    let mut value = String::new();
                    if json.string_or_skip(&mut value).ok()? {
                        object.insert(key.clone(), value);
                    }
                }
                objects.push(object);
            }
        }
        Some(objects)
    };
    read().unwrap_or_default()
}

/// Boots all `rows`, two at a time, and compares them with the table.
fn run_rows(rows: &[String], with_programs: bool) {
    let update = env::var_os("NODEPROBE_UPDATE").is_some();
    let (mut table, mut versions) = expected();
    let next = AtomicUsize::new(0);
    let runs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let cells = table.get(row);
                    let wanted = EVENTS.iter().filter(|event| {
                        let cell = ("event".to_owned(), event.name.to_owned());
                        update || cells.is_some_and(|cells| cells.get(&cell) == Some(&event.counted()))
                    });
                    let wanted: Vec<&Event> = wanted.collect();
                    let with_programs = with_programs && !row.contains('/');
                    let began = std::time::Instant::now();
                    let run = boot(row, with_programs, &wanted, update);
                    println!("{row}: {} in {:.0?}", run.version, began.elapsed());
                    runs.lock().unwrap().push(run);
                }
            });
        }
    });
    let mut wrong = String::new();
    for run in runs.into_inner().unwrap() {
        let old = table.remove(&run.row).unwrap_or_default();
        for line in &run.wrong {
            let _ = writeln!(wrong, "{}: {line}", run.row);
        }
        if update && run.wrong.is_empty() {
            versions.insert(run.row.clone(), run.version);
            table.insert(run.row, run.cells);
            continue;
        }
        let all: BTreeSet<&Cell> = old.keys().chain(run.cells.keys()).collect();
        for cell in all {
            if cell.0 == "program" && !with_programs {
                continue;
            }
            let say =
                |cells: &BTreeMap<Cell, String>| cells.get(cell).cloned().unwrap_or("nothing".to_owned());
            if !update && old.get(cell) != run.cells.get(cell) {
                let (kind, name) = cell;
                let (old, new) = (say(&old), say(&run.cells));
                let _ = writeln!(wrong, "{} {kind} {name}: expected {old:?}, is {new:?}", run.row);
            }
        }
        // One that did not get to its end the first time is no row yet.
        if !old.is_empty() {
            table.insert(run.row, old);
        }
    }
    if update {
        write_expected(&table, &versions);
        fs::write(here("docs/KERNELS.md"), page(&table, &versions)).expect("KERNELS.md written");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `docs/KERNELS.md`.
fn page(table: &Table, versions: &BTreeMap<String, String>) -> String {
    let mut page = String::from(
        "# Kernels\n\nWhat nodeprobe does on which kernel. Written by `NODEPROBE_UPDATE=1 make test-vm K=all`, which boots each \
         in an emulated machine with a static nodeprobe (`tests/vm/matrix.sh`): it starts, things happen in containers, and \
         what it says of them is compared with `tests/vm/expected.txt`. In every machine it stays alive, `/metrics` answers \
         200 and is valid, `nodeprobe doctor` gives the reasons the metrics give, and the kernel's console has no WARNING, \
         BUG, Oops or stall; a run in which that is not so fails.\n\n## Booted\n\n| name | kernel | machine |\n|---|---|---|\n",
    );
    let kernels = kernels();
    let plain: Vec<&str> =
        kernels.iter().map(|(name, _)| &**name).filter(|name| table.contains_key(*name)).collect();
    for name in &plain {
        let (release, machine) =
            versions.get(*name).and_then(|version| version.split_once(' ')).unwrap_or(("?", "?"));
        let _ = writeln!(page, "| {name} | {release} | {machine} |");
    }
    for (name, _) in kernels.iter().filter(|(name, _)| !table.contains_key(name)) {
        let _ = writeln!(page, "| {name} | not run yet | |");
    }
    let head = |page: &mut String, first: &str| {
        let _ = writeln!(page, "| {first} | {} |\n|---{}|", plain.join(" | "), "|---".repeat(plain.len()));
    };
    let result = |row: &str, kind: &str, name: &str| {
        let cell = (kind.to_owned(), name.to_owned());
        table.get(row).and_then(|cells| cells.get(&cell)).map_or("", String::as_str)
    };
    page += "\n## Collectors\n\nWith the door each takes where there are several; otherwise the reason for which it is absent.\n\n";
    head(&mut page, "collector");
    for spec in COLLECTORS.iter().filter(|spec| !matches!(spec.name, "programs")) {
        let cells: Vec<&str> = plain.iter().map(|row| result(row, "collector", spec.name)).collect();
        let _ = writeln!(page, "| {} | {} |", spec.name, cells.join(" | "));
    }
    page += "\n## What was counted\n\nEvents in containers that were made for it, and how many of them came out.\n\n";
    head(&mut page, "what happened");
    for event in EVENTS {
        let cells: Vec<&str> = plain.iter().map(|row| result(row, "event", event.name)).collect();
        let _ = writeln!(page, "| {} | {} |", event.about, cells.join(" | "));
    }
    page += "\n## Programs that come along\n\nLoaded and attached all at once with `--programs`. Those not listed do on every \
             kernel above.\n\n";
    head(&mut page, "program");
    let programs: BTreeSet<&str> = table
        .values()
        .flat_map(|cells| cells.keys())
        .filter(|(kind, _)| kind == "program")
        .map(|(_, name)| &**name)
        .collect();
    for name in programs {
        let cells: Vec<&str> = plain.iter().map(|row| result(row, "program", name)).collect();
        if cells.iter().any(|cell| *cell != "ok") {
            let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
        }
    }
    let rows: Vec<String> = tested().into_iter().filter(|row| table.contains_key(row)).collect();
    let _ = writeln!(
        page,
        "\n## Test programs\n\nThe programs of `tests/` that need a kernel, as they are, in machines of their own.\n\n\
         | test | {} |\n|---{}|",
        rows.iter().map(|row| row.trim_end_matches("/tests")).collect::<Vec<_>>().join(" | "),
        "|---".repeat(rows.len())
    );
    let tests = rows.iter().flat_map(|row| table[row].keys()).filter(|(kind, _)| kind == "test");
    for (_, name) in tests.collect::<BTreeSet<&Cell>>() {
        let cells: Vec<&str> = rows.iter().map(|row| result(row, "test", name)).collect();
        let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
    }
    let _ = write!(
        page,
        "\n## One thing missing\n\nLinux {VARIED} without one thing at a time, and what differs from \
        the same kernel with all of it. What is not listed is the same.\n"
    );
    for (variant, how) in VARIANTS {
        let row = format!("{VARIED}/{variant}");
        let (Some(cells), Some(whole)) = (table.get(&row), table.get(VARIED)) else { continue };
        let _ = writeln!(page, "\n### {variant}: {how}\n\n| | with it | without |\n|---|---|---|");
        for ((kind, name), result) in cells {
            let before = whole.get(&(kind.clone(), name.clone())).map_or("", String::as_str);
            if before != result {
                let _ = writeln!(page, "| {kind} {name} | {before} | {result} |");
            }
        }
    }
    page + &older()
}

/// The page's part about kernels that cannot be booted, from the table of `tests/objects.rs`.
fn older() -> String {
    let mut page = String::from(
        "\n## 4.16, 4.18, 4.19 and 5.4: object-checked, not run\n\nKernels before 5.10 are on no mirror any more. \
         `tests/objects.rs` reads from each object in the binary what it needs: types of programs and maps, functions of the \
         kernel, instructions, their number, loops. On a kernel that misses something of it the kernel or libbpf refuses the \
         object, its collector takes the next door or is absent with a reason, and everything that reads files and netlink \
         works as above. Versions are mainline's; distributions add features to older kernels.\n\n",
    );
    let text = fs::read_to_string(here("tests/fixtures/objects.txt")).expect("objects.txt");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    let number = |version: &str| {
        let (major, minor) = version.split_once('.').expect("a version");
        (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number"))
    };
    for kernel in ["4.16", "4.18", "4.19", "5.4"] {
        let loads = lines.iter().filter(|line| number(line[1]) <= number(kernel)).map(|line| line[0]);
        let loads: Vec<&str> = loads.collect();
        let what = if loads.is_empty() { "none of the objects".to_owned() } else { loads.join(", ") };
        let _ = writeln!(page, "- Linux {kernel} has all that these need: {what}.");
    }
    page += "\n| object | first kernel | what older ones miss, since when it is there |\n|---|---|---|\n";
    for line in &lines {
        let _ = writeln!(page, "| {} | {} | {} |", line[0], line[1], line[2..].join(" "));
    }
    page
}

#[test]
fn the_page_says_what_the_table_says() {
    let (table, versions) = expected();
    let page = page(&table, &versions);
    let path = here("docs/KERNELS.md");
    if env::var_os("NODEPROBE_UPDATE").is_some() {
        fs::write(&path, &page).expect("KERNELS.md written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "NODEPROBE_UPDATE=1 make test T=matrix writes docs/KERNELS.md anew");
}

/// A cell that works on no kernel tests nothing.
#[test]
fn nothing_is_absent_everywhere() {
    let (table, _) = expected();
    let cells: BTreeSet<&Cell> = table.values().flat_map(|cells| cells.keys()).collect();
    for cell in cells.into_iter().filter(|(kind, _)| kind != "doctor") {
        let (kind, name) = cell;
        let good = EVENTS.iter().find(|event| kind == "event" && event.name == name).map(Event::counted);
        let is_good = |result: &String| match &good {
            Some(good) => result == good,
            None => result == "ok" || result.starts_with("ok "),
        };
        let somewhere = table.values().filter_map(|cells| cells.get(cell)).any(is_good);
        assert!(somewhere, "{kind} {name} works on no kernel");
    }
}

#[test]
fn the_small_matrix_is_as_expected() {
    let rows: Vec<String> = SMALL.iter().map(|row| (*row).to_owned()).collect();
    run_rows(&rows, false);
}

#[test]
#[ignore = "make test-vm"]
fn the_matrix_is_as_expected() {
    let wanted = env::var("K").ok().filter(|wanted| !wanted.is_empty()).unwrap_or_else(|| "6.1".to_owned());
    let mut rows = rows(&wanted);
    if wanted != "all" {
        // Binaries for other architectures are made by `make build ARCH=...`, which not everybody has run.
        for (name, arch) in kernels() {
            let kind = match &*arch {
                "arm64" => "aarch64",
                "armhf" => "armv7",
                _ => continue,
            };
            if rows.contains(&name) && !here("dist").join(kind).join("nodeprobe").exists() {
                support::skip(&format!("{name}: no dist/{kind}/nodeprobe, make build ARCH={kind}"));
                rows.retain(|row| *row != name);
            }
        }
    }
    run_rows(&rows, true);
}
