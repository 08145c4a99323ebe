//! Where a line's header ends: date, clock, host, process, thread, level and component, in whatever order programs put them.
//!
//! One scan of at most [`TOKENS`] tokens. Each token is of a kind that belongs to headers, or the message begins with it. The
//! level comes out of the same scan, so a word such as "error" in the text of a message is never taken for one.

use memchr::memchr;

use super::class::{DIGIT, LETTER, MONTHS_AND_DAYS, class, is_blank, trim};
use crate::logs::level::Level;

/// Tokens of a header at most.
const TOKENS: usize = 14;
/// Bytes of a group in brackets at most.
const GROUP_BYTES: usize = 200;
/// How far is looked ahead for a level, in bytes and in tokens.
const AHEAD_BYTES: usize = 100;
const AHEAD_TOKENS: usize = 5;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where the message begins; 0 if all would be header.
    pub end: usize,
    /// The level it names.
    pub level: Option<Level>,
    /// Whether a date, clock or number was in it.
    pub timed: bool,
}

/// Reads the header of a line.
pub fn scan(line: &[u8]) -> Header {
    let (start, priority) = priority(line);
    let mut scan = Scan { line, at: start, end: start, level: None, timed: false, component: false };
    if let Some((level, end)) = glog(&line[start..]) {
        (scan.level, scan.timed, scan.end) = (Some(level), true, start + end);
    } else {
        for _ in 0..TOKENS {
            if !scan.step() {
                break;
            }
        }
    }
    let end = scan.end + line[scan.end..].iter().take_while(|&&byte| is_joint(byte)).count();
    Header { end: if end < line.len() { end } else { 0 }, level: scan.level.or(priority), timed: scan.timed }
}

/// What may stand between header and message.
fn is_joint(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'|' | b'-' | b':')
}

/// `<134>` of syslog: where it ends, and the level.
fn priority(line: &[u8]) -> (usize, Option<Level>) {
    let [b'<', rest @ ..] = line else {
        return (0, None);
    };
    let digits = rest.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=3).contains(&digits) || rest.get(digits) != Some(&b'>') {
        return (0, None);
    }
    let number = rest[..digits].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    (digits + 2, Some(Level::of_priority(number)))
}

/// `I0102 15:04:05.000000       1 file.go:12] ` of glog and klog: the level and where the header ends.
fn glog(line: &[u8]) -> Option<(Level, usize)> {
    let [letter @ (b'I' | b'W' | b'E' | b'F'), rest @ ..] = line else {
        return None;
    };
    if rest.len() < 5 || !rest[..4].iter().all(u8::is_ascii_digit) || rest[4] != b' ' {
        return None;
    }
    let end = rest[..rest.len().min(GROUP_BYTES)].windows(2).position(|pair| pair == b"] ")?;
    Some((Level::of_letter(*letter)?, end + 3))
}

struct Scan<'a> {
    line: &'a [u8],
    /// Where the scan is.
    at: usize,
    /// Where the header ends, as far as is known.
    end: usize,
    level: Option<Level>,
    timed: bool,
    component: bool,
}

/// A token and what it is made of.
struct Token<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
    digits: u32,
    letters: u32,
}

impl<'a> Scan<'a> {
    /// Takes one token; false when the header has ended.
    fn step(&mut self) -> bool {
        let dashed = self.skip_joints();
        if self.at >= self.line.len() {
            return false;
        }
        let begun = self.timed || self.level.is_some();
        // After `... - ` the message follows, unless a group or a level does.
        if dashed && begun && self.line[self.at] != b'[' && !self.is_level_next() {
            return false;
        }
        if self.line[self.at] == b'[' {
            return self.group();
        }
        let token = self.token();
        if self.is_field(&token) {
            return self.skip_to(token.end);
        }
        if token.digits > 0 && (token.letters == 0 || token.digits >= 8 && token.letters <= 4) {
            self.timed = true;
            return self.skip_to(token.end);
        }
        if self.is_date_word(&token) {
            return self.skip_to(token.end);
        }
        if self.level.is_none()
            && let Some(end) = self.level_word(&token)
        {
            return self.skip_to(end);
        }
        let begun = self.timed || self.level.is_some();
        if !begun && token.digits == 0 {
            return false;
        }
        if !self.component && is_component(token.text) {
            self.end = token.end;
            return false;
        }
        if token.digits > 0 && !self.component && self.level.is_none() {
            return self.skip_to(token.end);
        }
        if self.level.is_none() && self.is_before_level(&token) {
            return self.skip_to(token.end);
        }
        if self.level.is_some() && !self.component && is_logger(token.text) {
            self.component = true;
            return self.skip_to(token.end);
        }
        false
    }

    fn skip_to(&mut self, end: usize) -> bool {
        (self.at, self.end) = (end, end);
        true
    }

    /// Skips blanks, bars and dashes; whether a dash stood alone among them.
    fn skip_joints(&mut self) -> bool {
        let (line, mut dashed) = (self.line, false);
        while let Some(&byte) = line.get(self.at)
            && (is_blank(byte) || byte == b'|' || byte == b'-')
        {
            dashed |= byte == b'-'
                && line.get(self.at + 1) == Some(&b' ')
                && self.at > 0
                && is_blank(line[self.at - 1]);
            self.at += 1;
        }
        dashed
    }

    /// Whether a level comes next, or `name - LEVEL` as Python's logging has it.
    fn is_level_next(&self) -> bool {
        let rest = &self.line[self.at..self.line.len().min(self.at + AHEAD_BYTES)];
        let mut words = rest.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty());
        let is_level = |word: &[u8]| {
            let word = trim(word, b":,");
            is_upper(word) && Level::of_word(word).is_some()
        };
        words.next().is_some_and(is_level)
            || words.next() == Some(&b"-"[..]) && words.next().is_some_and(is_level)
    }

    /// `[...]` at the start of a line, or after a time or level.
    fn group(&mut self) -> bool {
        let (line, start) = (self.line, self.at);
        if start > 0 && !self.timed && self.level.is_none() && self.end != start {
            return false;
        }
        let limit = line.len().min(start + GROUP_BYTES);
        let (mut depth, mut clock, mut close) = (0u32, false, None);
        for at in start..limit {
            match line[at] {
                b'[' => depth += 1,
                b']' => {
                    depth -= 1;
                    if depth == 0 {
                        close = Some(at);
                        break;
                    }
                }
                b':' | b'.' => {
                    clock |= at > start
                        && line[at - 1].is_ascii_digit()
                        && matches!(&line[at + 1..], [a, b, ..] if a.is_ascii_digit() && b.is_ascii_digit());
                }
                _ => {}
            }
        }
        let Some(close) = close else {
            return false;
        };
        let inside = trim(&line[start + 1..close], b" \t");
        if self.level.is_none() {
            self.level = if clock {
                // As env_logger of Rust writes it: `[2026-01-02T15:04:05Z INFO  app::server]`.
                let mut words = inside.split(|&byte| is_blank(byte)).skip(1);
                words.find(|word| is_upper(word)).and_then(Level::of_word)
            } else {
                Level::of_group(inside)
            };
        }
        self.timed |= clock;
        let end = close + 1;
        self.skip_to(if line.get(end) == Some(&b':') { end + 1 } else { end })
    }

    fn token(&self) -> Token<'a> {
        let (line, start) = (self.line, self.at);
        let (mut end, mut digits, mut letters) = (start, 0, 0);
        while let Some(&byte) = line.get(end)
            && !is_blank(byte)
            && byte != b'|'
        {
            let class = class(byte);
            digits += u32::from(class & DIGIT != 0);
            letters += u32::from(class & LETTER != 0);
            end += 1;
        }
        Token { text: &line[start..end], start, end, digits, letters }
    }

    /// A field of `time|field|field|message`.
    fn is_field(&self, token: &Token<'_>) -> bool {
        self.timed && self.line.get(token.end) == Some(&b'|')
    }

    /// A month or day in front of a number, or of the other of both.
    fn is_date_word(&self, token: &Token<'_>) -> bool {
        let word = trim(token.text, b",:");
        if word.len() != 3 || !MONTHS_AND_DAYS.contains(word) {
            return false;
        }
        let rest = &self.line[token.end..];
        let gap = rest.iter().take_while(|&&byte| is_blank(byte) || byte == b',').count();
        gap <= 3
            && match &rest[gap..] {
                [digit, ..] if digit.is_ascii_digit() => true,
                [a, b, c, blank, ..] => {
                    gap > 0
                        && a.is_ascii_uppercase()
                        && b.is_ascii_lowercase()
                        && c.is_ascii_lowercase()
                        && is_blank(*blank)
                }
                _ => false,
            }
    }

    /// A level: in capitals, or as it likes after a time; one letter after a time; `WARNING:logger:` as Python writes it. Where it
    /// ends.
    fn level_word(&mut self, token: &Token<'_>) -> Option<usize> {
        let text = token.text;
        if text.len() == 1 {
            self.level = Level::of_letter(text[0]).filter(|_| self.timed);
            return self.level.map(|_| token.end);
        }
        let colon = if text.len() > 8 { memchr(b':', &text[..text.len().min(12)]) } else { None };
        let word = trim(&text[..colon.unwrap_or(text.len())], b",:");
        if word.len() > 8 || !(self.timed || is_upper(word)) {
            return None;
        }
        if self.timed
            && let Some(level) = Level::of_postgres(text)
        {
            self.level = Some(level);
            return Some(token.end);
        }
        let level = Level::of_word(word)?;
        match colon {
            None => {
                self.level = Some(level);
                Some(token.end)
            }
            Some(colon) => {
                let name = &text[colon + 1..];
                let end = name.iter().position(|&byte| byte == b':')?;
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
                if !is_upper(word) || end == 0 || !name[..end].iter().all(is_name) {
                    return None;
                }
                self.level = Some(level);
                Some(token.start + colon + 1 + end + 1)
            }
        }
    }

    /// Whether a token without a digit still belongs to the header, since more of the header follows it.
    fn is_before_level(&self, token: &Token<'_>) -> bool {
        let line = &self.line[..self.line.len().min(token.end + AHEAD_BYTES)];
        let mut ahead: [&[u8]; AHEAD_TOKENS] = [&[]; AHEAD_TOKENS];
        let (mut count, mut at) = (0, token.end);
        while count < AHEAD_TOKENS {
            at += line[at..].iter().take_while(|&&byte| is_blank(byte)).count();
            if at >= line.len() {
                break;
            }
            let end = at + line[at..].iter().take_while(|&&byte| !is_blank(byte)).count();
            ahead[count] = &line[at..end];
            (count, at) = (count + 1, end);
        }
        let ahead = &ahead[..count];
        let level = ahead.iter().position(|word| is_level_in_capitals(word, self.timed));
        let is_of_header = |word: &&[u8]| is_upper(word) || !word.iter().all(u8::is_ascii_alphabetic);
        if level.is_some_and(|level| ahead[..level].iter().all(is_of_header)) {
            return true;
        }
        if !self.timed {
            return false;
        }
        if let Some(first) = ahead.first()
            && token.text.last() != Some(&b':')
        {
            // `host tag[pid]:` and `host process[pid] (component):`
            let in_parentheses =
                |word: &&[u8]| word.first() == Some(&b'(') && word.last() == Some(&b':') && word.len() > 1;
            if is_component(first) || first.last() == Some(&b']') && ahead.get(1).is_some_and(in_parentheses)
            {
                return true;
            }
        }
        // `name - message`
        ahead.iter().take(2).any(|word| *word == b"-")
    }
}

/// Whether letters of a word are all capitals, and there is one.
fn is_upper(word: &[u8]) -> bool {
    word.iter().any(u8::is_ascii_uppercase) && !word.iter().any(u8::is_ascii_lowercase)
}

fn is_level_in_capitals(word: &[u8], timed: bool) -> bool {
    let bare = trim(word, b"[]:,");
    is_upper(bare) && (Level::of_word(bare).is_some() || timed && Level::of_postgres(word).is_some())
}

/// `name:`, `path::name:`, `name[pid]:`, `name(x)[pid]:`
fn is_component(text: &[u8]) -> bool {
    let [first, name @ .., b':'] = text else {
        return false;
    };
    if !(first.is_ascii_alphabetic() || *first == b'_') {
        return false;
    }
    let is_name = |byte: &&u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'_' | b'.' | b'$' | b'/' | b'(' | b')' | b'<' | b'>' | b'@' | b'*' | b'#' | b'-'
            )
    };
    let mut rest = name;
    loop {
        rest = &rest[rest.iter().take_while(is_name).count()..];
        // `app::server:` of Rust.
        match rest.strip_prefix(b"::") {
            Some(path) => rest = path,
            None => break,
        }
    }
    for (open, close) in [(b'[', b']'), (b'(', b')')] {
        if rest.first() == Some(&open) {
            match memchr(close, rest) {
                Some(end) => rest = &rest[end + 1..],
                None => return false,
            }
        }
    }
    rest.is_empty()
}

/// A dotted name such as `org.example.App`, also with `/` or `$`.
fn is_logger(text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else {
        return false;
    };
    if !(first.is_ascii_alphabetic() || *first == b'_') {
        return false;
    }
    let (mut separators, mut after_separator) = (0, false);
    for byte in rest {
        if matches!(byte, b'.' | b'/' | b'$') {
            if after_separator {
                return false;
            }
            (separators, after_separator) = (separators + 1, true);
        } else if byte.is_ascii_alphanumeric() || *byte == b'_' {
            after_separator = false;
        } else {
            return false;
        }
    }
    separators > 0 && !after_separator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_messages_begin() {
        for (line, level, message) in [
            ("2026-01-02 10:00:00,123 INFO [main] org.example.App: Started in 3 s", "info", "Started in 3 s"),
            ("Jan  2 10:00:00 host sshd[123]: Accepted publickey", "unknown", "Accepted publickey"),
            ("<3>Jan  2 10:00:00 host app[1]: broken", "error", "broken"),
            ("[2026-01-02 10:00:00 +0000] [7] [INFO] Booting worker", "info", "Booting worker"),
            ("[2026-01-02T10:00:00Z WARN  app::server] slow", "warning", "slow"),
            ("I0102 10:00:00.000000       1 server.go:12] Serving", "info", "Serving"),
            ("2026-01-02 10:00:00.000 UTC [12] LOG:  ready", "info", "ready"),
            ("2026-01-02 10:00:00.000 UTC [12] FATAL:  no", "critical", "no"),
            ("10:00:00.123 [main] WARN  c.e.App - Low", "warning", "Low"),
            ("2026/01/02 10:00:00 [error] 29#29: *1 open() failed", "error", "open() failed"),
            ("2026-01-02T10:00:00.1Z  INFO app::server: ready", "info", "ready"),
            ("2026-01-02 10:00:00,1 - celery.worker - WARNING - slow", "warning", "slow"),
            ("2026-01-02 10:00:00,1 - chrome - slow down", "unknown", "chrome - slow down"),
            ("WARNING:root:disk is low", "warning", "disk is low"),
            ("WARNING:urllib3.connectionpool:disk is low", "warning", "disk is low"),
            ("[Sun Dec 04 04:47:44 2025] [core:error] [pid 7] gone", "error", "gone"),
            ("E something", "unknown", "E something"),
            ("an error in the middle", "unknown", "an error in the middle"),
            ("", "unknown", ""),
            ("12:00:00", "unknown", "12:00:00"),
        ] {
            let header = scan(line.as_bytes());
            assert_eq!(&line[header.end..], message, "{line}");
            assert_eq!(header.level.unwrap_or_default().word(), level, "{line}");
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        crate::procfs::fuzz::hammer(b"[2026-01-02 10:00:00] <7> WARN [a[b]: x(y)[1]: - | Jan 2", |data| {
            assert!(scan(data).end <= data.len());
        });
    }
}
