//! Lines on stderr: one line each, repeats collapsed, and no more than a few per second.
//!
//! An agent that fails the same way every second must not fill the journal: a message is printed once, then at most once a
//! minute with the number of times it came up in between. And an agent must not stand still because who reads its lines
//! does: a line that finds no room is dropped and counted.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use crate::limits;
use crate::sys::{clock, poll, terminal};

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work that was asked for.
    Error,
    /// Something is lost or left out.
    Warning,
    /// What a person wants to know at the start and at the end.
    Info,
    /// What a developer wants to know.
    Debug,
}

impl Level {
    /// The level of a `--log-level` word.
    pub fn of_word(word: &str) -> Option<Level> {
        Some(match word {
            "error" => Level::Error,
            "warning" | "warn" => Level::Warning,
            "info" => Level::Info,
            "debug" => Level::Debug,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Nanoseconds before a repeated message is printed again.
const REPEAT_NS: u64 = 60_000_000_000;

/// Bytes of a line: what a pipe with any room takes at once (PIPE_BUF).
const LINE_BYTES: usize = 4096;

/// How long a reader that was quick so far is waited for.
const PATIENCE_MS: i32 = 100;

struct Printer {
    level: Level,
    per_second: f64,
    burst: f64,
    tokens: f64,
    refilled_ns: u64,
    suppressed: u64,
    recent: Vec<Recent>,
    /// Lines that found no room, and whether the last one did not.
    dropped: u64,
    is_stuck: bool,
    /// Once it was looked: stderr, if it is a terminal.
    terminal: OnceCell<Option<File>>,
}

struct Recent {
    hash: u64,
    printed_ns: u64,
    repeats: u64,
}

thread_local! {
    static PRINTER: RefCell<Printer> = const {
        RefCell::new(Printer {
            level: Level::Info,
            per_second: 10.0,
            burst: 100.0,
            tokens: 100.0,
            refilled_ns: 0,
            suppressed: 0,
            recent: Vec::new(),
            dropped: 0,
            is_stuck: false,
            terminal: OnceCell::new(),
        })
    };
}

/// Sets the least important level printed, and the rate of lines.
pub fn configure(level: Level, per_second: f64, burst: f64) {
    PRINTER.with_borrow_mut(|printer| {
        (printer.level, printer.per_second, printer.burst, printer.tokens) =
            (level, per_second, burst, burst);
    });
}

/// Prints a line, unless it is too unimportant, a repeat, or one too many.
pub fn line(level: Level, message: fmt::Arguments<'_>) {
    PRINTER.with_borrow_mut(|printer| {
        if level > printer.level {
            return;
        }
        let message = message.to_string().replace(['\n', '\r'], " ");
        if let Some(text) = printer.admit(&message, clock::monotonic_ns()) {
            printer.write(level, &text);
        }
    });
}

/// Prints a line of somebody else's, however many there are: for people who asked to see all of them.
pub fn verbatim(text: &str) {
    PRINTER.with_borrow_mut(|printer| printer.write(Level::Debug, text));
}

/// Lines since the start that were dropped because nobody read those before.
pub fn dropped() -> u64 {
    PRINTER.with_borrow(|printer| printer.dropped)
}

impl Printer {
    fn write(&mut self, level: Level, text: &str) {
        let mut line = format!("nodeprobe: {}: {text}", level.word());
        line.truncate(line.floor_char_boundary(LINE_BYTES - 1));
        line.push('\n');
        let mut stderr = std::io::stderr();
        let patience_ms = if self.is_stuck { 0 } else { PATIENCE_MS };
        let terminal = self.terminal.get_or_init(|| terminal::without_waiting(stderr.as_fd()));
        let mut write = || match terminal {
            Some(terminal) => (&*terminal).write_all(line.as_bytes()),
            None => stderr.write_all(line.as_bytes()),
        };
        let is_told = poll::has_room(std::io::stderr().as_raw_fd(), patience_ms) && write().is_ok();
        self.is_stuck = !is_told;
        self.dropped += u64::from(!is_told);
    }

    fn admit(&mut self, message: &str, now_ns: u64) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let hash = hasher.finish();
        let mut text = message.to_owned();
        if let Some(recent) = self.recent.iter_mut().find(|recent| recent.hash == hash) {
            if now_ns.saturating_sub(recent.printed_ns) < REPEAT_NS {
                recent.repeats += 1;
                return None;
            }
            if recent.repeats > 0 {
                text.push_str(&format!(" ({} times in the last minutes)", recent.repeats + 1));
            }
            (recent.printed_ns, recent.repeats) = (now_ns, 0);
        } else {
            if self.recent.len() >= limits::STDERR_MESSAGES {
                self.recent.remove(0);
            }
            self.recent.push(Recent { hash, printed_ns: now_ns, repeats: 0 });
        }
        let elapsed_s = now_ns.saturating_sub(self.refilled_ns) as f64 / 1e9;
        self.tokens = (self.tokens + elapsed_s * self.per_second).min(self.burst);
        self.refilled_ns = now_ns;
        if self.tokens < 1.0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1.0;
        if self.suppressed > 0 {
            text.push_str(&format!(" ({} other lines left out)", std::mem::take(&mut self.suppressed)));
        }
        Some(text)
    }
}

/// Prints a line at level error.
#[macro_export]
macro_rules! error {
    ($($arguments:tt)*) => { $crate::stderr::line($crate::stderr::Level::Error, format_args!($($arguments)*)) };
}

/// Prints a line at level warning.
#[macro_export]
macro_rules! warning {
    ($($arguments:tt)*) => { $crate::stderr::line($crate::stderr::Level::Warning, format_args!($($arguments)*)) };
}

/// Prints a line at level info.
#[macro_export]
macro_rules! info {
    ($($arguments:tt)*) => { $crate::stderr::line($crate::stderr::Level::Info, format_args!($($arguments)*)) };
}

/// Prints a line at level debug.
#[macro_export]
macro_rules! debug {
    ($($arguments:tt)*) => { $crate::stderr::line($crate::stderr::Level::Debug, format_args!($($arguments)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer() -> Printer {
        Printer {
            level: Level::Info,
            per_second: 1.0,
            burst: 3.0,
            tokens: 3.0,
            refilled_ns: 0,
            suppressed: 0,
            recent: Vec::new(),
            dropped: 0,
            is_stuck: false,
            terminal: OnceCell::new(),
        }
    }

    #[test]
    fn repeats_collapse() {
        let mut printer = printer();
        assert_eq!(printer.admit("a", 1).as_deref(), Some("a"));
        assert_eq!(printer.admit("a", 2), None);
        assert_eq!(printer.admit("a", 3), None);
        let again = printer.admit("a", REPEAT_NS + 1);
        assert_eq!(again.as_deref(), Some("a (3 times in the last minutes)"));
    }

    #[test]
    fn a_flood_of_different_lines_is_cut() {
        let mut printer = printer();
        let printed = (0..1000).filter(|n| printer.admit(&format!("line {n}"), 1).is_some()).count();
        assert_eq!(printed, 3);
        assert!(printer.recent.len() <= limits::STDERR_MESSAGES);
        let next = printer.admit("later", 2_000_000_000).unwrap();
        assert_eq!(next, "later (997 other lines left out)");
    }
}
