//! containerd's and CRI-O's files, and podman's `k8s-file`: `TIME STREAM TAGS TEXT`. Of the tags, which colons separate, `P` says
//! that the line goes on in the next record of its stream, `F` that it does not (kubernetes,
//! pkg/kubelet/kuberuntime/logs/logs.go).

use memchr::memchr;

use super::{Format, Framing, Piece, Stream};

/// The format.
pub const FORMAT: Format = Format { name: "cri", framing: Framing::Lines, decode };

fn decode<'a>(record: &'a [u8], _: &'a mut Vec<u8>) -> Option<Piece<'a>> {
    let (_, rest) = record.split_at_checked(memchr(b' ', record)? + 1)?;
    let (stream, rest) = rest.split_at_checked(memchr(b' ', rest)?)?;
    if !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    let rest = rest.get(1..)?;
    // An empty line may have no blank after its tag.
    let (tags, text) = rest.split_at(memchr(b' ', rest).unwrap_or(rest.len()));
    let partial = match tags.split(|&byte| byte == b':').next() {
        Some(b"P") => true,
        Some(b"F") => false,
        _ => return None,
    };
    Some(Piece { text: text.get(1..).unwrap_or_default(), stream: Stream::of_word(stream), partial })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stream_and_tag_are_read() {
        for (record, expected) in [
            ("2026-01-02T10:00:00.1Z stdout F a line", Some(("a line", Stream::Stdout, false))),
            ("2026-01-02T10:00:00+01:00 stderr P a piece ", Some(("a piece ", Stream::Stderr, true))),
            ("2026-01-02T10:00:00Z stdout P:x  two", Some((" two", Stream::Stdout, true))),
            ("2026-01-02T10:00:00Z stdout F ", Some(("", Stream::Stdout, false))),
            ("2026-01-02T10:00:00Z stdout F", Some(("", Stream::Stdout, false))),
            ("2026-01-02T10:00:00Z stdin F x", None),
            ("2026-01-02T10:00:00Z stdout Q x", None),
            ("words", None),
            ("", None),
        ] {
            let mut buffer = Vec::new();
            let expected =
                expected.map(|(text, stream, partial)| Piece { text: text.as_bytes(), stream, partial });
            assert_eq!(decode(record.as_bytes(), &mut buffer), expected, "{record}");
        }
    }
}
