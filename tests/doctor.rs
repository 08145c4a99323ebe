//! `nodeprobe doctor`: that its two forms agree with each other and with what the agent then does.

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use nodeprobe::collectors::COLLECTORS;
use nodeprobe::doctor::CHECKS;
use nodeprobe::json::Json;
use nodeprobe::sys::process::is_root;

const NOBODY: u32 = 65534;
const COLUMNS: usize = 110;

/// Where the binary is run from: nobody may not enter every target directory.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Copy {
        let path = env::temp_dir().join(format!("nodeprobe-{test}-{}", process::id()));
        fs::copy(env!("CARGO_BIN_EXE_nodeprobe"), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Copy(path)
    }

    /// Runs it; what it prints on stdout.
    fn run(&self, uid: Option<u32>, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.0);
        command.args(arguments).stderr(Stdio::null());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The objects of array `list`, as pairs of key and string; other values are left out.
fn objects(text: &str, list: &str) -> Vec<Vec<(String, String)>> {
    let mut json = Json::new(text.as_bytes());
    let mut objects = Vec::new();
    let mut key = String::new();
    json.begin_object().unwrap();
    while json.next_key(&mut key).unwrap() {
        if key != list {
            json.skip().unwrap();
            continue;
        }
        json.begin_array().unwrap();
        while json.next_element().unwrap() {
            let mut object = Vec::new();
            json.begin_object().unwrap();
            while json.next_key(&mut key).unwrap() {
                let mut value = String::new();
                if json.string_or_skip(&mut value).unwrap() {
                    object.push((key.clone(), value));
                }
            }
            objects.push(object);
        }
    }
    json.end().unwrap();
    objects
}

fn field<'a>(object: &'a [(String, String)], key: &str) -> &'a str {
    let found = object.iter().find(|(name, _)| name == key);
    found.map_or_else(|| panic!("no {key} in {object:?}"), |(_, value)| value)
}

fn check<'a>(all: &'a [Vec<(String, String)>], name: &str) -> &'a [(String, String)] {
    all.iter().find(|object| field(object, "name") == name).unwrap()
}

/// Another reader than ours.
fn assert_python_reads(json: &str) {
    let mut child = Command::new("python3")
        .args(["-m", "json.tool"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{json}");
}

/// Users and roots the report is made for.
fn conditions() -> Vec<(Option<u32>, String)> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut roots: Vec<String> = ["docker-v1", "docker-v2", "hybrid", "empty"]
        .iter()
        .map(|name| fixtures.join(name).display().to_string())
        .collect();
    roots.push("/".to_owned());
    roots.push("/nonexistent".to_owned());
    let mut conditions: Vec<_> = roots.into_iter().map(|root| (None, root)).collect();
    if is_root() {
        conditions.push((Some(NOBODY), "/".to_owned()));
    }
    conditions
}

#[test]
fn both_forms_say_the_same_in_one_screen() {
    let binary = Copy::new("doctor-forms");
    for (uid, root) in conditions() {
        let root = format!("--root={root}");
        let text = binary.run(uid, &["doctor", &root]);
        let json = binary.run(uid, &["doctor", "--json", &root]);
        assert_python_reads(&json);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() <= CHECKS.len() + COLLECTORS.len() + 2, "{text}");
        for line in &lines {
            assert!(line.len() <= COLUMNS && line.is_ascii(), "{line}");
        }
        let line_of = |name: &str, mark: &str| {
            let start = format!("{mark} {name:19} ");
            let line = lines.iter().find(|line| line.starts_with(&start));
            *line.unwrap_or_else(|| panic!("no line {start:?} in\n{text}"))
        };
        let checks = objects(&json, "checks");
        let names: Vec<&str> = checks.iter().map(|object| field(object, "name")).collect();
        assert_eq!(names, CHECKS.iter().map(|check| check.name).collect::<Vec<_>>());
        for object in &checks {
            let state = field(object, "state");
            let mark = match state {
                "ok" => "ok",
                "note" => "!!",
                "missing" => "--",
                _ => panic!("{object:?}"),
            };
            assert!(!field(object, "detail").is_empty(), "{object:?}");
            let remedy = field(object, "remedy");
            assert!(state != "missing" || !remedy.is_empty(), "{object:?}");
            assert!(state != "ok" || remedy.is_empty(), "{object:?}");
            let line = line_of(field(object, "name"), mark);
            assert!(line.ends_with(remedy), "a remedy cut off: {line}");
        }
        for object in &objects(&json, "collectors") {
            let name = field(object, "name");
            let marks = match field(object, "reason") {
                "ok" => "ok",
                "disabled" | "not_live" => "!!",
                _ => "--",
            };
            line_of(name, marks);
        }
    }
}

#[test]
fn collectors_are_absent_for_the_reasons_the_metrics_give() {
    let binary = Copy::new("doctor-reasons");
    for (uid, root) in conditions() {
        let root = format!("--root={root}");
        for flag in ["--collector.node_cpu=off", "--collector.tcp=auto"] {
            let json = binary.run(uid, &["doctor", "--json", &root, flag]);
            let said: Vec<(String, String)> = objects(&json, "collectors")
                .iter()
                .map(|object| (field(object, "name").to_owned(), field(object, "reason").to_owned()))
                .collect();
            let metrics = binary.run(uid, &["once", &root, flag]);
            let mut exported: Vec<(String, String)> = Vec::new();
            for line in metrics.lines() {
                if let Some(labels) = line.strip_prefix("nodeprobe_collector_info{") {
                    let quoted: Vec<&str> = labels.split('"').collect();
                    exported.push((quoted[1].to_owned(), quoted[3].to_owned()));
                }
            }
            assert_eq!(said, exported, "{uid:?} {root} {flag}");
            assert_eq!(said.len(), COLLECTORS.len());
        }
    }
}

#[test]
fn a_collector_that_must_work_and_cannot_fails_no_report() {
    let binary = Copy::new("doctor-must");
    let arguments = ["doctor", "--json", "--root=/nonexistent", "--collector.node_cpu=on"];
    let json = binary.run(None, &arguments);
    let collectors = objects(&json, "collectors");
    assert_eq!(field(check(&collectors, "node_cpu"), "reason"), "not_found");
}

#[test]
fn typed_tracepoints_need_a_capability() {
    if !is_root() || !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return support::skip("needs root and BTF");
    }
    let binary = Copy::new("doctor-nobody");
    let checks = objects(&binary.run(None, &["doctor", "--json"]), "checks");
    for name in ["tp_btf", "ringbuf", "btf"] {
        let found = check(&checks, name);
        assert_eq!(field(found, "state"), "ok", "{found:?}");
    }
    let checks = objects(&binary.run(Some(NOBODY), &["doctor", "--json"]), "checks");
    for name in ["tp_btf", "capabilities"] {
        let found = check(&checks, name);
        assert_eq!(field(found, "state"), "missing", "{found:?}");
        assert!(field(found, "remedy").contains("CAP_BPF"), "{found:?}");
    }
}
