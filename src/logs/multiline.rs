//! Which lines belong to the message before: stack traces of Java, Python, Go, Node and .NET.
//!
//! Only the first line of a message counts, so nothing is collected: a line that begins a message is passed on at once, and one
//! that goes on with it is not. Two kinds of first lines say too little and are held until the line that says it: Python's
//! `Traceback` waits for the exception, the head of .NET's console logger for its text.

use memchr::{memchr_iter, memmem};

use super::formats::LINE_BYTES;
use crate::sys::clock::MonotonicNs;

/// How long a message waits for more lines.
const TIMEOUT_NS: u64 = 1_000_000_000;
/// How far a clock is looked for.
const CLOCK_BYTES: usize = 100;
/// Messages with a clock in one place after which lines without one are believed to go on.
const CLOCKED: u8 = 2;

/// What is held of a message that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Held {
    #[default]
    Nothing,
    /// A traceback: the first line that is not indented says what happened.
    Traceback,
    /// A head of .NET's console logger: the first line that is indented is the text.
    Head,
}

/// Lines of one stream on their way to messages.
#[derive(Debug, Default)]
pub struct Messages {
    held: Held,
    text: Vec<u8>,
    /// Whether a message is open, and since when nothing has come.
    open: bool,
    last_ns: MonotonicNs,
    /// Where the clock of the last first line was, and how many in a row had it there.
    clock: Option<usize>,
    clocked: u8,
    /// A traceback is within the open message: the exception is still to come.
    in_traceback: bool,
    /// Within a panic of Go, whose goroutines are not indented.
    in_panic: bool,
    joined: u64,
}

impl Messages {
    /// Takes a line. `take` gets the line that stands for each message that is known with it.
    pub fn push(&mut self, line: &[u8], now_ns: MonotonicNs, mut take: impl FnMut(&[u8])) {
        self.flush(now_ns, &mut take);
        if line.trim_ascii().is_empty() {
            return;
        }
        self.last_ns = now_ns;
        let indented = matches!(line, [b'\t', ..] | [b' ', b' ', ..]);
        match std::mem::take(&mut self.held) {
            Held::Nothing => {}
            Held::Traceback if indented || is_part_of_traceback(line) => {
                self.held = Held::Traceback;
                self.joined += 1;
                return;
            }
            // The exception stands for the whole, and its level is known.
            Held::Traceback => {
                self.text.clear();
                self.hold(b"ERROR ");
                self.hold(line);
                self.joined += 1;
                take(&self.text);
                return;
            }
            Held::Head if indented => {
                self.hold(b" ");
                self.hold(line.trim_ascii_start());
                self.joined += 1;
                take(&self.text);
                return;
            }
            Held::Head => take(&self.text),
        }
        if self.open && (indented || self.goes_on(line)) {
            self.joined += 1;
            return;
        }
        self.begin(line);
        match self.held {
            Held::Nothing => take(line),
            _ => {
                self.text.clear();
                self.hold(line);
            }
        }
    }

    /// Ends what has waited for too long.
    #[inline]
    pub fn flush(&mut self, now_ns: MonotonicNs, mut take: impl FnMut(&[u8])) {
        if !self.open || now_ns.saturating_sub(self.last_ns) < TIMEOUT_NS {
            return;
        }
        self.open = false;
        if std::mem::take(&mut self.held) != Held::Nothing {
            take(&self.text);
        }
        self.text = Vec::new();
    }

    /// Lines that were not the first of their message.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.capacity()
    }

    fn hold(&mut self, text: &[u8]) {
        let room = LINE_BYTES - self.text.len().min(LINE_BYTES);
        self.text.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn begin(&mut self, line: &[u8]) {
        self.open = true;
        self.in_traceback = false;
        self.in_panic = line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ");
        self.held = match () {
            () if is_traceback(line) => Held::Traceback,
            () if is_head(line) => Held::Head,
            () => Held::Nothing,
        };
        let clock = clock(line);
        if clock.is_some() && clock == self.clock {
            self.clocked = self.clocked.saturating_add(1);
        } else {
            (self.clock, self.clocked) = (clock, u8::from(clock.is_some()));
        }
    }

    /// Whether a line that is not indented goes on with the open message.
    fn goes_on(&mut self, line: &[u8]) -> bool {
        if line == b"}"
            || line.starts_with(b"Caused by: ")
            || line.starts_with(b"for call at")
            || is_chained(line)
        {
            return true;
        }
        if self.in_panic && is_of_panic(line) {
            return true;
        }
        if std::mem::take(&mut self.in_traceback) {
            self.in_traceback = is_traceback(line);
            return true;
        }
        if self.clocked < CLOCKED || !(is_continuation(line) || is_exception(line)) || clock(line).is_some() {
            return false;
        }
        self.in_traceback = is_traceback(line);
        true
    }
}

fn is_traceback(line: &[u8]) -> bool {
    line.starts_with(b"Traceback (most recent call last)")
}

/// Python's sentences between exceptions of a chain.
fn is_chained(line: &[u8]) -> bool {
    line.starts_with(b"The above exception was the direct cause")
        || line.starts_with(b"During handling of the above exception")
}

fn is_part_of_traceback(line: &[u8]) -> bool {
    is_traceback(line) || is_chained(line)
}

/// How lines begin that are seldom a message in a stream whose messages have clocks.
fn is_continuation(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 7] = [b" ", b"at ", b"Caused by", b"...", b"}", b")", b"Traceback"];
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
}

/// `java.lang.IllegalStateException: text` and `ValueError: text`.
fn is_exception(line: &[u8]) -> bool {
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$');
    let end = line.iter().take_while(is_name).count();
    let name = &line[..end];
    matches!(line.get(end), None | Some(b':'))
        && (name.ends_with(b"Exception") || name.ends_with(b"Error"))
        && !matches!(name, b"Error" | b"Exception")
}

/// Lines of a panic of Go that are not indented.
fn is_of_panic(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 6] =
        [b"goroutine ", b"[signal ", b"created by ", b"exit status ", b"panic(", b"runtime."];
    let is_call = || {
        line.last() == Some(&b')') && memmem::find(line, b"(").is_some_and(|at| !line[..at].contains(&b' '))
    };
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) || is_call()
}

/// `info: Microsoft.Hosting.Lifetime[14]` and nothing else.
fn is_head(line: &[u8]) -> bool {
    const WORDS: [&[u8]; 6] = [b"trce: ", b"dbug: ", b"info: ", b"warn: ", b"fail: ", b"crit: "];
    WORDS.iter().any(|word| line.starts_with(word))
        && line.trim_ascii_end().last() == Some(&b']')
        && !line.trim_ascii_end()[6..].contains(&b' ')
}

/// Where three pairs of digits stand with colons between them.
fn clock(line: &[u8]) -> Option<usize> {
    let line = &line[..line.len().min(CLOCK_BYTES)];
    let is_pair = |at: usize| {
        matches!(line.get(at..at + 2), Some([a, b]) if a.is_ascii_digit() && b.is_ascii_digit())
            && !line.get(at + 2).is_some_and(u8::is_ascii_digit)
    };
    memchr_iter(b':', line).find(|&colon| {
        colon >= 2
            && is_pair(colon - 2)
            && is_pair(colon + 1)
            && line.get(colon + 3) == Some(&b':')
            && is_pair(colon + 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(lines: &[&str]) -> Vec<String> {
        let (mut messages, mut state) = (Vec::new(), Messages::default());
        let mut take = |line: &[u8]| messages.push(String::from_utf8_lossy(line).into_owned());
        for line in lines {
            state.push(line.as_bytes(), 1, &mut take);
        }
        state.flush(10_000_000_000, &mut take);
        messages
    }

    #[test]
    fn traces_are_one_message() {
        for (lines, expected) in [
            (&["one", "two", "", "three"][..], &["one", "two", "three"][..]),
            (
                &[
                    "2026-01-02 10:00:00 INFO ready",
                    "2026-01-02 10:00:01 ERROR failed",
                    "java.lang.IllegalStateException: no",
                    "\tat org.example.App.run(App.java:1)",
                    "Caused by: java.io.IOException: gone",
                    "\t... 12 more",
                    "2026-01-02 10:00:02 INFO on",
                ],
                &[
                    "2026-01-02 10:00:00 INFO ready",
                    "2026-01-02 10:00:01 ERROR failed",
                    "2026-01-02 10:00:02 INFO on",
                ],
            ),
            (
                &[
                    "Traceback (most recent call last):",
                    "  File \"a.py\", line 1, in f",
                    "KeyError: 'x'",
                    "after",
                ],
                &["ERROR KeyError: 'x'", "after"],
            ),
            (
                &[
                    "[10:00:00] a",
                    "[10:00:01] b",
                    "Traceback (most recent call last):",
                    "  File \"a.py\"",
                    "KeyError: 'x'",
                    "c",
                ],
                &["[10:00:00] a", "[10:00:01] b", "c"],
            ),
            (
                &[
                    "panic: oh",
                    "",
                    "goroutine 1 [running]:",
                    "main.main()",
                    "\t/app/main.go:3 +0x1d",
                    "exit status 2",
                ],
                &["panic: oh"],
            ),
            (&["Error: boom", "    at foo (a.js:1:2)", "}", "next"], &["Error: boom", "next"]),
            (
                &[
                    "info: Microsoft.Hosting.Lifetime[14]",
                    "      Now listening",
                    "      more",
                    "fail: A[1]",
                    "x",
                ],
                &["info: Microsoft.Hosting.Lifetime[14] Now listening", "fail: A[1]", "x"],
            ),
            (&["Traceback (most recent call last):"], &["Traceback (most recent call last):"]),
            // Without clocks nothing tells that these belong together.
            (&["a", "java.lang.Exception: x"], &["a", "java.lang.Exception: x"]),
        ] {
            assert_eq!(messages(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_message_waits_for_a_second() {
        let (mut count, mut state) = (0, Messages::default());
        state.push(b"first", 0, |_| count += 1);
        state.push(b"  more", TIMEOUT_NS / 2, |_| count += 1);
        state.push(b"  banner", TIMEOUT_NS * 2, |_| count += 1);
        assert_eq!((count, state.joined()), (2, 1));
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut state = Messages::default();
        let seed = b"10:00:00 a\nTraceback (most recent call last):\n  x\nE: y\npanic: z\ngoroutine 1\nf()\ninfo: A[1]\n  b";
        crate::procfs::fuzz::hammer(seed, |data| {
            for line in data.split(|&byte| byte == b'\n') {
                state.push(line, 0, |_| {});
            }
        });
    }
}
