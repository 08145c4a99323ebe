//! `nodeprobe logs`: what is in logs, by pattern. It goes through the pipeline that the agent has for containers, with more room.

mod journal;
pub mod redact;

use std::fs::File;
use std::io::{self, Read, Write};

use super::formats::{self, Format, Framing};
use super::level::Level;
use super::message::{self, Buffers};
use super::pattern::{Caps, Pattern, Patterns};
use super::pipeline::Pipeline;
use crate::args::Config;
use crate::error::{Context, Result};
use crate::sys::clock;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a record; of a longer one only the beginning counts.
const RECORD_BYTES: usize = 2 << 20;

/// Reads the files of `config`, or standard input, and writes what is in them to `out`.
///
/// # Errors
/// Those of files. A reader of `out` that went away is none.
pub fn run(config: &Config, out: &mut impl Write) -> Result<()> {
    let written = if config.ids { ids(config, out)? } else { table(config, out)? };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The table of patterns. The inner result is that of writing.
fn table(config: &Config, out: &mut impl Write) -> Result<io::Result<()>> {
    let mut pipeline = Pipeline::new(config.log_format, Caps::FILES);
    let mut records = 0u64;
    // Files are read as fast as they can be: of the time between their lines nothing is known, so all are of one moment.
    let now_ns = clock::monotonic_ns();
    if config.reads_journals {
        journal::each_message(config, |text, level| {
            records += 1;
            pipeline.message(text, level, now_ns);
        })?;
        return Ok(write_table(&pipeline, records, out));
    }
    each_source(config, |source| {
        each_record(source, config.log_format.framing, |record| {
            records += 1;
            pipeline.record(record, now_ns);
        })?;
        pipeline.finish(now_ns);
        Ok(())
    })?;
    Ok(write_table(&pipeline, records, out))
}

fn write_table(pipeline: &Pipeline, records: u64, out: &mut impl Write) -> io::Result<()> {
    let mut patterns: Vec<Pattern<'_>> = pipeline.patterns().all().collect();
    patterns.sort_by_key(|pattern| (std::cmp::Reverse(pattern.count), pattern.level, pattern.id));
    let messages: u64 = Level::ALL.into_iter().map(|level| pipeline.messages_of(level)).sum();
    let share = |count: u64| count as f64 * 100.0 / messages.max(1) as f64;
    writeln!(out, "{:>10} {:>6}  {:<8}  {:<16}  pattern", "count", "share", "level", "id")?;
    for pattern in &patterns {
        let (count, level, template) =
            (pattern.count, pattern.level.word(), redact::printable(pattern.template));
        writeln!(out, "{count:>10} {:>5.1}%  {level:<8}  {:016x}  {template}", share(count), pattern.id)?;
        if pattern.template.contains("<*>") {
            writeln!(out, "{:47}{}", "", redact::shown(pattern.example))?;
        }
    }
    for level in Level::ALL {
        let count = pipeline.patterns().other(level);
        if count > 0 {
            writeln!(
                out,
                "{count:>10} {:>5.1}%  {:<8}  {:<16}  (too many patterns)",
                share(count),
                level.word(),
                "~other"
            )?;
        }
    }
    let (count, broken) = (patterns.len(), pipeline.broken());
    writeln!(out, "\n{records} records, {messages} messages, {count} patterns")?;
    if broken > 0 {
        writeln!(out, "{broken} records are not of the format; see --format")?;
    }
    Ok(())
}

/// The id of the pattern of each record, which is a line by itself. What the last line says may fold what the first one was, so
/// nothing is written before all is read.
fn ids(config: &Config, out: &mut impl Write) -> Result<io::Result<()>> {
    let mut learner = Learner { format: config.log_format, buffer: Vec::new(), buffers: Buffers::default() };
    let mut patterns = Patterns::new(Caps::FILES);
    // Messages without their headers: all that is needed for another look.
    let (mut messages, mut ends) = (Vec::new(), Vec::new());
    let mut take = |record: &[u8]| {
        let (level, text) = learner.read(record);
        patterns.add(level, text, 0);
        messages.extend_from_slice(text);
        ends.push(messages.len());
    };
    if config.reads_journals {
        journal::each_message(config, |text, _| take(text))?;
    } else {
        each_source(config, |source| each_record(source, config.log_format.framing, &mut take))?;
    }
    let mut start = 0;
    for end in ends {
        if let Err(error) = writeln!(out, "{:016x}", patterns.id_of(&messages[start..end])) {
            return Ok(Err(error));
        }
        start = end;
    }
    Ok(Ok(()))
}

struct Learner {
    format: &'static Format,
    buffer: Vec<u8>,
    buffers: Buffers,
}

impl Learner {
    /// Level and message of a record; one that is broken is taken as it is.
    fn read<'a>(&'a mut self, record: &'a [u8]) -> (Level, &'a [u8]) {
        let line = (self.format.decode)(record, &mut self.buffer).map_or(record, |piece| piece.text);
        let message = message::read(line, &mut self.buffers);
        (message.level, message.text)
    }
}

/// Calls `read` with each file, or with standard input.
fn each_source(config: &Config, mut read: impl FnMut(&mut dyn Read) -> io::Result<()>) -> Result<()> {
    if config.paths.is_empty() {
        return read(&mut io::stdin().lock()).context("standard input");
    }
    for path in &config.paths {
        let name = path.display().to_string();
        let mut file = File::open(path).context(&name)?;
        read(&mut file).context(&name)?;
    }
    Ok(())
}

/// Calls `take` with each record, the last one also if its end is missing.
fn each_record(source: &mut dyn Read, framing: Framing, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut data = vec![0; READ_BYTES];
    let (mut filled, mut skipping) = (0, false);
    loop {
        let count = match source.read(&mut data[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += count;
        let mut at = 0;
        while let Some((record, taken)) = formats::record(framing, &data[at..filled]) {
            let is_rest = std::mem::take(&mut skipping);
            if !(is_rest || record.is_empty() && framing == Framing::Lengths) {
                take(record);
            }
            at += taken;
        }
        if count == 0 {
            if at < filled && !skipping && framing == Framing::Lines {
                take(&data[at..filled]);
            }
            return Ok(());
        }
        data.copy_within(at..filled, 0);
        filled -= at;
        if filled == data.len() {
            if filled < RECORD_BYTES {
                data.resize(filled * 2, 0);
            } else {
                if !skipping {
                    take(&data[..filled]);
                }
                (filled, skipping) = (0, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(data: &[u8], framing: Framing) -> Vec<usize> {
        let mut lengths = Vec::new();
        each_record(&mut &data[..], framing, |record| lengths.push(record.len())).unwrap();
        lengths
    }

    #[test]
    fn records_are_found_whatever_their_length() {
        assert_eq!(records(b"a\n\nbc", Framing::Lines), [1, 0, 2]);
        let mut long = vec![b'x'; 3 * RECORD_BYTES];
        long.extend(b"\nshort\n");
        assert_eq!(records(&long, Framing::Lines), [RECORD_BYTES, 5]);
        assert_eq!(
            records(b"\0\0\0\x02ab\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01c\0\0\0\x01", Framing::Lengths),
            [2, 1]
        );
    }

    #[test]
    fn the_table_is_sorted_and_hides_secrets() {
        let mut pipeline = Pipeline::new(&super::super::formats::plain::FORMAT, Caps::FILES);
        for line in
            ["INFO login 1 password=hunter2 \x1b]0;x\x07", "ERROR broken", "INFO login 2", "INFO login 3"]
        {
            pipeline.record(line.as_bytes(), 0);
        }
        let mut out = Vec::new();
        write_table(&pipeline, 4, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert!(rows[1].contains(" 2  50.0%  info ") && rows[1].ends_with("login <*>"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains('\x1b') && text.contains("<redacted>"), "{text}");
        assert!(text.contains("4 records, 4 messages, 3 patterns"), "{text}");
    }
}
