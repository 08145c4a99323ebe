//! Patterns of lines as containers write them today: `fixtures/logs/labelled.txt` has a label and a line in each row, and lines
//! with one label belong to one pattern.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use nodeprobe::logs::formats::{FORMATS, by_name};
use nodeprobe::logs::level::Level;
use nodeprobe::logs::message::{self, Buffers};
use nodeprobe::logs::pattern::{Caps, Patterns};
use nodeprobe::logs::pipeline::Pipeline;
use support::Dice;

const LABELLED: &str = include_str!("fixtures/logs/labelled.txt");

/// Labels with their lines.
fn rows() -> Vec<(&'static str, &'static str)> {
    LABELLED.lines().map(|row| row.split_once('\t').expect("a label and a line")).collect()
}

/// The id each line has once all are known.
fn ids(lines: &[&str]) -> Vec<u64> {
    let (mut patterns, mut buffers) = (Patterns::new(Caps::CONTAINER), Buffers::default());
    for line in lines {
        let message = message::read(line.as_bytes(), &mut buffers);
        patterns.add(message.level, message.text, 0);
    }
    lines.iter().map(|line| patterns.id_of(message::read(line.as_bytes(), &mut buffers).text)).collect()
}

/// Grouping accuracy: the share of lines whose pattern has exactly the lines of their label.
#[test]
fn lines_of_one_label_have_one_pattern() {
    let rows = rows();
    assert!(rows.len() >= 300);
    let lines: Vec<&str> = rows.iter().map(|row| row.1).collect();
    let ids = ids(&lines);
    let (mut of_label, mut of_id) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for (at, ((label, _), id)) in rows.iter().zip(&ids).enumerate() {
        of_label.entry(label).or_default().insert(at);
        of_id.entry(id).or_default().insert(at);
    }
    let mut right = 0;
    for (label, members) in &of_label {
        if of_id.values().any(|lines| lines == members) {
            right += members.len();
        } else {
            let first = *members.first().expect("a line");
            println!("not one pattern: {label}: {}", lines[first]);
        }
    }
    let accuracy = right as f64 / rows.len() as f64;
    println!("grouping accuracy {accuracy:.4} of {} lines, {} labels", rows.len(), of_label.len());
    assert!(accuracy >= 0.95, "{accuracy}");
}

#[test]
fn the_order_of_lines_changes_no_id() {
    let mut lines: Vec<&str> = rows().into_iter().map(|row| row.1).collect();
    let expected: BTreeMap<&str, u64> = lines.iter().copied().zip(ids(&lines)).collect();
    let mut dice = Dice::new(3);
    for _ in 0..10 {
        for at in (1..lines.len()).rev() {
            lines.swap(at, dice.below(at + 1));
        }
        for (line, id) in lines.iter().zip(ids(&lines)) {
            assert_eq!(expected[line], id, "{line}");
        }
    }
}

/// Levels are in the header, or in a member of JSON.
#[test]
fn levels_are_read_from_all_of_these_programs() {
    let expected = [
        ("pg-auth", Level::Critical),
        ("pg-ready", Level::Info),
        ("pg-relation", Level::Error),
        ("nginx-upstream", Level::Error),
        ("nginx-buffered", Level::Warning),
        ("nginx-access-get", Level::Unknown),
        ("redis-ready", Level::Info),
        ("redis-oom", Level::Warning),
        ("etcd-slow", Level::Warning),
        ("zap-retry", Level::Error),
        ("klog-watch", Level::Warning),
        ("klog-err", Level::Error),
        ("envoy-grpc", Level::Warning),
        ("logback-pay", Level::Error),
        ("spring-started", Level::Info),
        ("py-retry", Level::Warning),
        ("py-basic", Level::Error),
        ("gunicorn-timeout", Level::Critical),
        ("uvicorn-access", Level::Info),
        ("pino-err", Level::Error),
        ("winston-conn", Level::Error),
        ("dotnet-life", Level::Info),
        ("serilog-job", Level::Error),
        ("logrus-fail", Level::Error),
        ("slog-prom", Level::Info),
        ("rust-slow", Level::Warning),
        ("rust-env", Level::Error),
        ("mysql-abort", Level::Info),
        ("mysql-depr", Level::Warning),
        ("mysql-ready", Level::Info),
        ("kafka-disc", Level::Warning),
        ("rabbit-closed", Level::Warning),
        ("traefik-acme", Level::Error),
        ("coredns-err", Level::Error),
        ("haproxy-down", Level::Warning),
        ("haproxy-access", Level::Info),
        ("panic-go", Level::Critical),
        ("mongo-conn", Level::Info),
        ("es-gc", Level::Warning),
        ("kernel-oom", Level::Unknown),
    ];
    let (mut buffers, mut wrong) = (Buffers::default(), Vec::new());
    for (label, level) in expected {
        let lines: Vec<&str> = rows().into_iter().filter(|row| row.0 == label).map(|row| row.1).collect();
        assert!(!lines.is_empty(), "{label}");
        for line in lines {
            let read = message::read(line.as_bytes(), &mut buffers).level;
            if read != level {
                wrong.push(format!("{}, not {}: {line}", read.word(), level.word()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same lines in the wrapping of each runtime give the same patterns.
#[test]
fn the_format_changes_no_pattern() {
    let lines: Vec<&str> = rows().into_iter().map(|row| row.1).collect();
    let wrapped = |format: &str, line: &str| match format {
        "plain" => line.as_bytes().to_vec(),
        "cri" => format!("2026-01-02T10:00:00.000000000Z stdout F {line}").into_bytes(),
        "docker" => {
            let mut record = b"{\"log\":".to_vec();
            nodeprobe::json::write_string(&mut record, &format!("{line}\n"));
            record.extend(b",\"stream\":\"stdout\",\"time\":\"2026-01-02T10:00:00.000000000Z\"}");
            record
        }
        "local" => {
            let mut record = b"\x0a\x06stdout\x1a".to_vec();
            record.extend([line.len() as u8 | 0x80, (line.len() >> 7) as u8]);
            record.extend(line.as_bytes());
            record
        }
        other => panic!("{other} has no wrapping here"),
    };
    let counted = |format: &str| -> Vec<(Level, String, u64)> {
        let mut pipeline = Pipeline::new(by_name(format).expect("a format"), Caps::CONTAINER);
        for line in &lines {
            pipeline.record(&wrapped(format, line), 0);
        }
        pipeline.finish(0);
        assert_eq!(pipeline.broken(), 0);
        let mut all: Vec<_> =
            pipeline.patterns().all().map(|p| (p.level, p.template.to_owned(), p.count)).collect();
        all.sort();
        all
    };
    let expected = counted("plain");
    for format in FORMATS {
        assert_eq!(counted(format.name), expected, "{}", format.name);
    }
}

fn logs(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nodeprobe"))
        .arg("logs")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nodeprobe");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_command_prints_a_table_or_ids() {
    let input: String = rows().into_iter().map(|row| format!("{}\n", row.1)).collect();
    let table = logs(&[], &input);
    assert!(table.contains("database system is ready to accept connections"), "{table}");
    assert!(table.contains(&format!("{} records, ", rows().len())), "{table}");
    let printed = logs(&["--ids"], &input);
    let lines: Vec<&str> = rows().into_iter().map(|row| row.1).collect();
    let expected: Vec<String> = ids(&lines).into_iter().map(|id| format!("{id:016x}")).collect();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
    let cri = logs(&["--format=cri", "--ids"], "2026-01-02T10:00:00Z stdout F it is ready\n");
    assert_eq!(cri, logs(&["--ids"], "it is ready\n"));
}
