//! What understanding logs costs: bytes of records to counts, in one thread.

use nodeprobe::logs::formats::{self, by_name};
use nodeprobe::logs::level::Level;
use nodeprobe::logs::pattern::{Caps, Patterns};
use nodeprobe::logs::pipeline::Pipeline;

use super::*;

/// A file of lines to measure with, instead of those of the tests.
const CORPUS: &str = "NODEPROBE_BENCH_LOGS";
const LINES: usize = 200_000;

/// Lines and where they are from.
fn corpus() -> io::Result<(Vec<u8>, String)> {
    match std::env::var_os(CORPUS) {
        Some(path) => Ok((fs::read(&path)?, path.to_string_lossy().into_owned())),
        None => {
            let rows = include_str!("../../tests/fixtures/logs/labelled.txt").lines();
            let lines = rows.filter_map(|row| row.split_once('\t')).map(|row| format!("{}\n", row.1));
            Ok((lines.collect::<String>().into_bytes(), format!("generated; {CORPUS}=FILE for another")))
        }
    }
}

/// One line in the wrapping of a format.
fn wrapped(format: &str, line: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    match format {
        "cri" => record.extend(b"2026-01-02T10:00:00.000000000Z stdout F "),
        "docker" => {
            record.extend(b"{\"log\":");
            nodeprobe::json::write_string(&mut record, &format!("{}\n", String::from_utf8_lossy(line)));
            record.extend(b",\"stream\":\"stdout\",\"time\":\"2026-01-02T10:00:00.000000000Z\"}\n");
            return record;
        }
        _ => {}
    }
    record.extend(line);
    record.push(b'\n');
    record
}

/// Lines and bytes per second of CPU time for each format, and memory.
pub fn logs(options: &Options) -> io::Result<()> {
    let (corpus, origin) = corpus()?;
    println!("logs: lines: {origin}");
    let lines: Vec<&[u8]> = corpus.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return Err(io::Error::other("no lines"));
    }
    for (name, lines_goal, bytes_goal) in
        [("plain", 1_000_000.0, Some(AtLeast(120.0))), ("docker", 500_000.0, None), ("cri", 500_000.0, None)]
    {
        let format = by_name(name).ok_or_else(|| io::Error::other("no such format"))?;
        let data: Vec<u8> = lines.iter().cycle().take(LINES).flat_map(|line| wrapped(name, line)).collect();
        let mut costs = Vec::new();
        let mut memory = 0;
        for _ in 0..if options.quick { 5 } else { 15 } {
            let mut pipeline = Pipeline::new(format, Caps::CONTAINER);
            let began_ns = clock::process_cpu_ns();
            let mut rest = &data[..];
            while let Some((record, taken)) = formats::record(format.framing, rest) {
                pipeline.record(record, 0);
                rest = &rest[taken..];
            }
            pipeline.finish(0);
            costs.push((clock::process_cpu_ns() - began_ns) as f64 / 1e9);
            memory = pipeline.bytes();
        }
        let rate = |amount: usize, share: f64| amount as f64 / quantile(&costs, share);
        let lines_per_s = rate(LINES, 0.5).round();
        figure(
            &format!("logs: {name}: lines per CPU second, median"),
            lines_per_s,
            "1/s",
            Some(AtLeast(lines_goal)),
        );
        figure(&format!("logs: {name}: the same, best"), rate(LINES, 0.0).round(), "1/s", None);
        figure(
            &format!("logs: {name}: bytes per CPU second, median"),
            rate(data.len(), 0.5) / 1e6,
            "MB/s",
            bytes_goal,
        );
        figure(&format!("logs: {name}: memory"), memory as f64 / 1024.0, "KiB", None);
    }
    figure("logs: memory at the caps", at_caps() as f64 / MIB, "MiB", Some(AtMost(4.0)));
    Ok(())
}

/// Memory of patterns that are as many as there may be, of long lines without an end of new words.
fn at_caps() -> usize {
    let mut patterns = Patterns::new(Caps::CONTAINER);
    let (mut state, mut most) = (1u64, 0);
    for number in 0..20_000usize {
        let mut line = String::new();
        for _ in 0..45 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = state >> 40;
            line.extend((0..5).map(|at| char::from(b'g' + (word >> (4 * at) & 15) as u8)));
            line.push(' ');
        }
        patterns.add(Level::ALL[number % Level::COUNT], line.as_bytes(), 0);
        most = most.max(patterns.bytes());
    }
    most
}
