//! The message in a line: of JSON and logfmt the member that has it, of all others what follows the header; and the level.

pub mod flat;
mod logfmt;

use self::flat::{Flat, Text, Value};
use super::level::{self, Level};
use super::pattern::header;

/// Keys of JSON with the message, best first, compared without case.
const MESSAGE_KEYS: [&[u8]; 8] =
    [b"msg", b"message", b"@m", b"@mt", b"body", b"log", b"event", b"MESSAGE_TEMPLATE"];
/// Keys of JSON with the level, compared without case. `s` is mongod's.
const LEVEL_KEYS: [&[u8]; 10] = [
    b"level",
    b"severity",
    b"loglevel",
    b"log.level",
    b"lvl",
    b"@l",
    b"severity_text",
    b"levelname",
    b"log_level",
    b"s",
];

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// How serious it is.
    pub level: Level,
    /// Its text without the header.
    pub text: &'a [u8],
}

/// Buffers that are used again for each line.
#[derive(Debug, Default)]
pub struct Buffers {
    /// The line without colours.
    plain: Vec<u8>,
    /// Strings without escapes.
    text: Vec<u8>,
}

impl Buffers {
    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.plain.capacity() + self.text.capacity()
    }
}

/// Reads a line. It allocates only when a buffer has to grow.
pub fn read<'a>(line: &'a [u8], buffers: &'a mut Buffers) -> Message<'a> {
    let Buffers { plain, text } = buffers;
    let line = without_colours(line, plain);
    let line = line.trim_ascii_end();
    if line.first() == Some(&b'{')
        && line.last() == Some(&b'}')
        && let Some((level, message)) = json(line)
    {
        return of_text(first_line(message.read(text)), level);
    }
    if let Some(fields) = logfmt::fields(line) {
        let level = fields.level.and_then(Level::of_value);
        return of_text(first_line(fields.message.read(text)), level);
    }
    of_text(line, None)
}

/// The message in text that may have a header of its own.
fn of_text(text: &[u8], level: Option<Level>) -> Message<'_> {
    let header = header::scan(text);
    let message = &text[header.end..];
    let level = level.or(header.level).unwrap_or_else(|| level::at_start(text, message));
    Message { level, text: message }
}

fn first_line(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())]
}

/// Level and message of an object; `None` if it has no message.
fn json(line: &[u8]) -> Option<(Option<Level>, Text<'_>)> {
    let (mut message, mut rank, mut level) = (None, MESSAGE_KEYS.len(), None);
    for (key, value) in Flat::new(line)? {
        match value {
            Value::String(text) => {
                let found = MESSAGE_KEYS[..rank].iter().position(|known| known.eq_ignore_ascii_case(key));
                if let Some(better) = found {
                    (message, rank) = (Some(text), better);
                } else if level.is_none() && is_level_key(key) {
                    level = Level::of_value(text.raw);
                }
            }
            Value::Word(word) if level.is_none() && is_level_key(key) => level = Level::of_value(word),
            _ => {}
        }
        if rank == 0 && level.is_some() {
            break;
        }
    }
    Some((level, message?))
}

fn is_level_key(key: &[u8]) -> bool {
    LEVEL_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key))
}

/// A line without the sequences that colour it on a terminal, `ESC [ ... letter`.
fn without_colours<'a>(line: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(first) = memchr::memchr(0x1b, line) else {
        return line;
    };
    buffer.clear();
    buffer.extend_from_slice(&line[..first]);
    let mut rest = &line[first..];
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match behind.strip_prefix(b"[").filter(|_| byte == 0x1b) {
            Some(sequence) => {
                let length = sequence.iter().take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
                rest = sequence.get(length + 1..).unwrap_or_default();
            }
            None => buffer.push(byte),
        }
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_messages_are_found() {
        for (line, level, text) in [
            (r#"{"level":30,"time":1,"msg":"ready"}"#, Level::Info, "ready"),
            (r#"{"level":"error","message":"it \"broke\"\nhere"}"#, Level::Error, r#"it "broke""#),
            (r#"{"message":"second","msg":"first","Severity":"WARNING"}"#, Level::Warning, "first"),
            (
                r#"{"t":{"$date":"x"},"s":"I","c":"NETWORK","msg":"Connection ended"}"#,
                Level::Info,
                "Connection ended",
            ),
            (r#"{"a":1}"#, Level::Unknown, r#"{"a":1}"#),
            (
                r#"time="2026-01-02T10:00:00Z" level=warning msg="disk is low" free=3"#,
                Level::Warning,
                "disk is low",
            ),
            ("ts=1 caller=x.go:1 level=info msg=ready", Level::Info, "ready"),
            ("\x1b[32m2026-01-02T10:00:00Z\x1b[0m \x1b[31mERROR\x1b[0m broke", Level::Error, "broke"),
            ("1:M 02 Jan 2026 10:00:00.000 # oh dear", Level::Warning, "# oh dear"),
            ("1:M 02 Jan 2026 10:00:00.000 * Ready", Level::Info, "* Ready"),
            ("fail: Microsoft.Hosting[1]", Level::Error, "fail: Microsoft.Hosting[1]"),
            ("error: cannot do it", Level::Error, "error: cannot do it"),
            ("it had an error: cannot do it", Level::Unknown, "it had an error: cannot do it"),
            ("the warning is this", Level::Unknown, "the warning is this"),
            ("", Level::Unknown, ""),
        ] {
            let mut buffers = Buffers::default();
            let message = read(line.as_bytes(), &mut buffers);
            assert_eq!(
                (message.level, String::from_utf8_lossy(message.text).as_ref()),
                (level, text),
                "{line}"
            );
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut buffers = Buffers::default();
        for line in [
            &br#"{"level":"x","msg":"\u00e9\n"}"#[..],
            b"\x1b[1;2mtime=x level=y msg=\"a\\\"b\" c=",
            b"1:M 02 # x",
        ] {
            crate::procfs::fuzz::hammer(line, |data| {
                read(data, &mut buffers);
            });
        }
    }
}
