//! Docker's `json-file`: `{"log":"text\n","stream":"stdout","time":"..."}`. Docker cuts lines at 16 KiB; a piece without a
//! newline at its end goes on in the next record of its stream (moby, daemon/logger/copier.go).

use super::flat::{Flat, Value, unescape};
use super::{Format, Framing, Piece, Stream};

/// The format.
pub const FORMAT: Format = Format { name: "docker", framing: Framing::Lines, decode };

fn decode<'a>(record: &'a [u8], buffer: &'a mut Vec<u8>) -> Option<Piece<'a>> {
    let (mut log, mut stream) = (None, Stream::Stdout);
    for (key, value) in Flat::new(record)? {
        match (key, value) {
            (b"log", Value::String(text)) => log = Some(text),
            (b"stream", Value::String(word)) => {
                stream = Stream::of_word(word.raw);
                // Docker writes the text before; what follows is time and attributes.
                if log.is_some() {
                    break;
                }
            }
            _ => {}
        }
    }
    let log = log?;
    // Mostly the newline is all there is to unescape.
    match log.escape {
        None => return Some(Piece { text: log.raw, stream, partial: true }),
        Some(at) if log.raw.get(at..) == Some(br"\n") => {
            return Some(Piece { text: &log.raw[..at], stream, partial: false });
        }
        Some(_) => {}
    }
    unescape(log.raw, buffer);
    Some(match buffer.strip_suffix(b"\n") {
        Some(text) => Piece { text, stream, partial: false },
        None => Piece { text: buffer, stream, partial: true },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stream_and_newline_are_read() {
        for (record, expected) in [
            (r#"{"log":"plain\n","stream":"stdout","time":"t"}"#, Some(("plain", Stream::Stdout, false))),
            (r#"{"log":"a \"b\"\n","stream":"stderr","time":"t"}"#, Some(("a \"b\"", Stream::Stderr, false))),
            (r#"{"log":"piece","stream":"stderr","time":"t"}"#, Some(("piece", Stream::Stderr, true))),
            (r#"{"log":"C:\\n","stream":"stdout"}"#, Some(("C:\\n", Stream::Stdout, true))),
            (r#"{"log":"\u003cx\u003e\n","stream":"stdout"}"#, Some(("<x>", Stream::Stdout, false))),
            (r#"{"stream":"stderr","attrs":{"log":"no"},"log":"x\n"}"#, Some(("x", Stream::Stderr, false))),
            (r#"{"log":"\n","stream":"stdout"}"#, Some(("", Stream::Stdout, false))),
            (r#"{"stream":"stdout"}"#, None),
            (r#"{"log":"cut of"#, None),
            ("text", None),
        ] {
            let mut buffer = Vec::new();
            let piece = decode(record.as_bytes(), &mut buffer);
            let expected =
                expected.map(|(text, stream, partial)| Piece { text: text.as_bytes(), stream, partial });
            assert_eq!(piece, expected, "{record}");
        }
    }
}
