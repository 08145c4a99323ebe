//! Documents that follow from the code are up to date, and the source keeps its own rules.

use std::fs;
use std::path::{Path, PathBuf};

use nodeprobe::programs::parse::parse;
use nodeprobe::programs::schema;

/// Lines a source file may have: a screenful of topics, not a book.
const LINES: usize = 700;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `directory` with one of these extensions, with their text.
fn files(directory: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![repository().join(directory)];
    while let Some(directory) = waiting.pop() {
        for entry in
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| extensions.iter().any(|wanted| end == *wanted)) {
                let name = path.strip_prefix(repository()).expect("inside").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {extensions:?} in {directory}");
    found
}

/// The text in front of the unit tests of a file.
fn without_unit_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
}

/// Lines of a file that are no comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
fn assert_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[track_caller]
fn is_up_to_date(document: &str, text: &str) {
    let path = repository().join(document);
    if std::env::var_os("NODEPROBE_UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("docs")).expect("docs");
        // Another test may be reading it.
        let new = path.with_extension("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, &path).expect("renamed");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{document} is not what the code says; `make docs` renews it");
}

/// Compares the part of `document` between `<!-- name -->` and `<!-- /name -->` with `text`.
#[track_caller]
fn part_is_up_to_date(document: &str, name: &str, text: &str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let whole = fs::read_to_string(repository().join(document)).expect(document);
    let (before, rest) = whole.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in {document}"));
    let (_, behind) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end} in {document}"));
    is_up_to_date(document, &format!("{before}{begin}{text}{end}{behind}"));
}

#[test]
fn the_list_of_metrics_is_up_to_date() {
    is_up_to_date("docs/METRICS.md", &nodeprobe::collectors::document());
}

#[test]
fn the_list_of_flags_is_up_to_date() {
    is_up_to_date("docs/FLAGS.md", &nodeprobe::args::document());
}

#[test]
fn the_systemd_unit_is_the_one_that_is_printed() {
    let unit = nodeprobe::unit::unit(&nodeprobe::args::Config::default(), &[], nodeprobe::unit::PROGRAM);
    is_up_to_date("deploy/nodeprobe.service", &unit);
}

/// Both in one test: they rewrite the same file.
#[test]
fn the_lists_of_keys_and_decoders_are_up_to_date() {
    part_is_up_to_date("docs/CONFIG.md", "keys", &keys());
    part_is_up_to_date("docs/CONFIG.md", "decoders", &nodeprobe::decoders::document());
}

/// All keys of configs, a table for each mapping.
fn keys() -> String {
    let objects = [
        &schema::CONFIG,
        &schema::METRICS,
        &schema::COUNTER,
        &schema::GAUGE,
        &schema::HISTOGRAM,
        &schema::LABEL,
        &schema::DECODER,
        &schema::CGROUP_ID_MAP,
        &schema::TRACING,
        &schema::SPAN,
    ];
    let mut text = String::new();
    for object in objects {
        text += &format!("\n| `{}` | value | |\n|---|---|---|\n", object.name);
        for key in object.keys {
            let mark = if key.required { "**" } else { "" };
            let value = match key.kind {
                schema::Type::Object(inner) => format!("a mapping, `{}` below", inner.name),
                schema::Type::Objects(inner) => format!("a list, of `{}` below", inner.name),
                schema::Type::Decoder => "a decoder's name".to_owned(),
                ref kind => kind.to_string(),
            };
            text += &format!("| {mark}`{}`{mark} | {value} | {} |\n", key.name, key.help);
        }
    }
    text + "\n"
}

/// What the docs show of whole configs is right, as far as that can be seen without an object.
#[test]
fn configs_in_the_docs_are_right() {
    let mut found = 0;
    for (name, text) in files("docs", &["md"]) {
        for block in text.split("```yaml\n").skip(1) {
            let (block, _) = block.split_once("```").expect("an end");
            if block.starts_with("metrics:") {
                let (config, findings) = parse("docs", &name, block.as_bytes());
                assert!(config.is_some() && findings.is_empty(), "{name}: {findings:?}");
                found += 1;
            }
        }
    }
    assert!(found > 0, "no config in the docs");
}

#[test]
fn no_source_file_is_too_long() {
    let long = files("src", &["rs"])
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"));
    assert_none(&format!("more than {LINES} lines"), long.collect());
}

#[test]
fn unsafe_is_only_in_sys() {
    let mut found = Vec::new();
    for (name, text) in files("src", &["rs"]) {
        if name.starts_with("src/sys/") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                found.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert_none("unsafe outside src/sys", found);
}

#[test]
fn nothing_is_unfinished() {
    // Put together here, or this file would find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("dbg", "!("),
        concat!("#[ig", "nore"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    let mut found = Vec::new();
    for directory in ["src", "tests", "bpf"] {
        for (name, text) in files(directory, &["rs", "c", "h"]) {
            for (at, line) in text.lines().enumerate() {
                // What is left to another target is finished.
                let is_elsewhere =
                    ["make test-parts", "make test-vm"].iter().any(|target| line.contains(target));
                if !is_elsewhere && words.iter().any(|word| line.contains(word)) {
                    found.push(format!("{name}:{}: {}", at + 1, line.trim()));
                }
            }
        }
    }
    assert_none("unfinished", found);
}

#[test]
fn modules_are_named_for_their_topic() {
    let vague = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "stuff"];
    let found = files("src", &["rs"])
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.split(['/', '.']).any(|part| vague.contains(&part)));
    assert_none("a name that says nothing", found.collect());
}

#[test]
fn every_module_says_what_it_is() {
    let found =
        files("src", &["rs"]).into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name);
    assert_none("no //! line at the top", found.collect());
}

#[test]
fn bpf_programs_state_their_licence() {
    for (name, text) in files("bpf", &["c", "h"]) {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains("SPDX-License-Identifier: "), "{name}: {first}");
    }
}

/// `--root` works because every path of the observed host is joined in host.rs.
#[test]
fn paths_of_the_host_are_joined_in_one_place() {
    let mut found = Vec::new();
    for (name, text) in files("src", &["rs"]) {
        // What nodeprobe asks about itself and the running kernel, whatever host it observes, is in sys.
        if name == "src/host.rs" || name.starts_with("src/sys/") {
            continue;
        }
        for (number, line) in code_lines(without_unit_tests(&text)) {
            // Texts for people name paths too: error contexts, and whatever has blanks.
            let code = line.replace("context(\"/", "context(\"");
            let mut literals = code.split('"').skip(1).step_by(2);
            if literals
                .any(|text| (text.starts_with("/proc") || text.starts_with("/sys/")) && !text.contains(' '))
            {
                found.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none("a path past host.rs", found);
}
