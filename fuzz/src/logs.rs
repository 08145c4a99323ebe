//! Logs: records of runtimes, the messages in them and their patterns, counted, saved and restored.

use nodeprobe::logs::formats::{self, by_name};
use nodeprobe::logs::level::Level;
use nodeprobe::logs::pattern::{Caps, Patterns};
use nodeprobe::logs::pipeline::Pipeline;

/// Small bounds, so that they are reached.
const CAPS: Caps = Caps { patterns: 8, signatures: 200, holes: 400, example_bytes: 20 };
const SECOND_NS: u64 = 1_000_000_000;

/// Takes `data` as a file of the format; lines are half a second, or half an hour, apart.
fn records(format: &str, data: &[u8]) {
    let Some(format) = by_name(format) else {
        panic!("no format {format}");
    };
    let mut pipeline = Pipeline::new(format, CAPS);
    let step_ns = if data.len().is_multiple_of(2) { SECOND_NS / 2 } else { SECOND_NS * 1800 };
    let (mut rest, mut now_ns, mut count) = (data, 0, 0);
    while let Some((record, taken)) = formats::record(format.framing, rest) {
        pipeline.record(record, now_ns);
        (rest, now_ns, count) = (&rest[taken..], now_ns + step_ns, count + 1);
    }
    pipeline.record(rest, now_ns);
    pipeline.finish(now_ns);
    let messages: u64 = Level::ALL.into_iter().map(|level| pipeline.messages_of(level)).sum();
    assert!(messages + pipeline.broken() + pipeline.continued() <= count + 3);
    let patterns = pipeline.patterns();
    let counted: u64 = patterns.all().map(|pattern| pattern.count).sum();
    let other: u64 = Level::ALL.into_iter().map(|level| patterns.other(level)).sum();
    // Patterns that ended took their counts with them.
    assert!(counted + other <= messages);
    let mut saved = String::new();
    patterns.save(&mut saved);
    let restored = Patterns::restore(CAPS, &saved, now_ns / SECOND_NS);
    assert_eq!(counted, restored.all().map(|pattern| pattern.count).sum::<u64>());
}

/// What libFuzzer calls for docker's files.
pub fn docker(data: &[u8]) {
    records("docker", data);
    records("local", data);
}

/// What libFuzzer calls for those of containerd and CRI-O.
pub fn cri(data: &[u8]) {
    records("cri", data);
}

/// What libFuzzer calls for lines, and for saved patterns.
pub fn pattern(data: &[u8]) {
    records("plain", data);
    let mut patterns = Patterns::restore(CAPS, &String::from_utf8_lossy(data), 0);
    patterns.add(Level::Error, data, 1);
    patterns.save(&mut String::new());
}
