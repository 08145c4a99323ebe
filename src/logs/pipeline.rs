//! From the bytes of a record to counts: format, pieces, messages, level, pattern.

use super::formats::{Format, Joined, Stream};
use super::level::Level;
use super::message::{self, Buffers};
use super::multiline::Messages;
use super::pattern::{Caps, Patterns};
use crate::sys::clock::MonotonicNs;

/// One source of records, such as the files of a container.
pub struct Pipeline {
    format: &'static Format,
    joined: Joined,
    messages: [Messages; 2],
    buffer: Vec<u8>,
    counts: Counts,
}

/// What becomes of messages.
struct Counts {
    buffers: Buffers,
    patterns: Patterns,
    by_level: [u64; Level::COUNT],
    broken: u64,
}

impl Pipeline {
    /// A pipeline that has seen nothing.
    pub fn new(format: &'static Format, caps: Caps) -> Pipeline {
        Pipeline::with_patterns(format, Patterns::new(caps))
    }

    /// A pipeline that goes on with patterns that were saved.
    pub fn with_patterns(format: &'static Format, patterns: Patterns) -> Pipeline {
        Pipeline {
            format,
            joined: Joined::default(),
            messages: Default::default(),
            buffer: Vec::new(),
            counts: Counts { buffers: Buffers::default(), patterns, by_level: [0; Level::COUNT], broken: 0 },
        }
    }

    /// How records are read.
    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// Reads records in another format from now on.
    pub fn set_format(&mut self, format: &'static Format) {
        self.format = format;
    }

    /// Learns no more patterns, for want of memory, or learns again.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.counts.patterns.freeze(is_frozen);
    }

    /// Takes one record without its newline.
    pub fn record(&mut self, record: &[u8], now_ns: MonotonicNs) {
        let Some(piece) = (self.format.decode)(record, &mut self.buffer) else {
            self.counts.broken += 1;
            return;
        };
        let stream = piece.stream as usize;
        if let Some(line) = self.joined.push(piece) {
            let counts = &mut self.counts;
            self.messages[stream].push(line, now_ns, |line| counts.add(line, Level::Unknown, now_ns));
        }
    }

    /// Takes a whole message, of which only the first line counts, with the level it has if it does not say: what journald has.
    pub fn message(&mut self, text: &[u8], level: Level, now_ns: MonotonicNs) {
        let text = text.trim_ascii();
        let line = &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())];
        if !line.is_empty() {
            self.counts.add(line, level, now_ns);
        }
    }

    /// Ends messages that have waited for more lines; to be called about every second.
    pub fn flush(&mut self, now_ns: MonotonicNs) {
        let counts = &mut self.counts;
        for messages in &mut self.messages {
            messages.flush(now_ns, |line| counts.add(line, Level::Unknown, now_ns));
        }
    }

    /// Ends everything, as at the end of a file.
    pub fn finish(&mut self, now_ns: MonotonicNs) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(line) = self.joined.flush(stream) {
                let counts = &mut self.counts;
                self.messages[stream as usize]
                    .push(&line, now_ns, |line| counts.add(line, Level::Unknown, now_ns));
            }
        }
        self.flush(MonotonicNs::MAX);
    }

    /// Patterns with their counts.
    pub fn patterns(&self) -> &Patterns {
        &self.counts.patterns
    }

    /// Messages of a level, whatever their pattern.
    pub fn messages_of(&self, level: Level) -> u64 {
        self.counts.by_level[level as usize]
    }

    /// Records that could not be read.
    pub fn broken(&self) -> u64 {
        self.counts.broken
    }

    /// Bytes of lines that were too long.
    pub fn dropped_bytes(&self) -> u64 {
        self.joined.dropped()
    }

    /// Lines that belong to a message that began before.
    pub fn continued(&self) -> u64 {
        self.messages.iter().map(Messages::joined).sum()
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Pipeline>()
            + self.joined.bytes()
            + self.buffer.capacity()
            + self.counts.buffers.bytes()
            + self.messages.iter().map(Messages::bytes).sum::<usize>()
            + self.counts.patterns.bytes()
    }
}

impl Counts {
    fn add(&mut self, line: &[u8], fallback: Level, now_ns: MonotonicNs) {
        let message = message::read(line, &mut self.buffers);
        let level = if message.level == Level::Unknown { fallback } else { message.level };
        self.by_level[level as usize] += 1;
        self.patterns.add(level, message.text, now_ns / 1_000_000_000);
    }
}

#[cfg(test)]
mod tests {
    use super::super::formats::by_name;
    use super::*;

    fn templates(format: &str, records: &[&str]) -> Vec<(Level, String, u64)> {
        let mut pipeline = Pipeline::new(by_name(format).unwrap(), Caps::CONTAINER);
        for record in records {
            pipeline.record(record.as_bytes(), 0);
        }
        pipeline.finish(0);
        let mut all: Vec<_> =
            pipeline.patterns().all().map(|p| (p.level, p.template.to_owned(), p.count)).collect();
        all.sort();
        all
    }

    #[test]
    fn records_become_counts() {
        let records = [
            r#"{"log":"2026-01-02 10:00:00 ERROR [main] lost conn","stream":"stderr","time":"t"}"#,
            r#"{"log":"2026-01-02 10:00:00 INFO ready in 3 ms\n","stream":"stdout","time":"t"}"#,
            r#"{"log":"ection 17\n","stream":"stderr","time":"t"}"#,
            r#"{"log":"\tat org.example.App\n","stream":"stderr","time":"t"}"#,
            r#"{"log":"2026-01-02 10:00:00 INFO ready in 4 ms\n","stream":"stdout","time":"t"}"#,
            "broken",
        ];
        assert_eq!(
            templates("docker", &records),
            [
                (Level::Error, "lost connection <*>".to_owned(), 1),
                (Level::Info, "ready in <*>".to_owned(), 2)
            ]
        );
    }

    #[test]
    fn a_level_from_outside_counts_if_there_is_none_inside() {
        let mut pipeline = Pipeline::new(by_name("plain").unwrap(), Caps::CONTAINER);
        pipeline.message(b"it broke\nhere", Level::Error, 0);
        pipeline.message(b"WARN: maybe", Level::Info, 0);
        pipeline.message(b"", Level::Info, 0);
        assert_eq!(pipeline.messages_of(Level::Error), 1);
        assert_eq!(pipeline.messages_of(Level::Warning), 1);
        assert_eq!(pipeline.messages_of(Level::Info), 0);
    }
}
