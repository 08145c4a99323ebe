//! logfmt: `key=value key="quoted value"`, as Go's log/slog, logrus and go-kit write it.

use memchr::{memchr, memchr2};

use super::flat::Text;

/// What is wanted of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    /// `level`, if it is there.
    pub level: Option<&'a [u8]>,
    /// `msg` or `message`.
    pub message: Text<'a>,
}

/// Fields of a line that are looked at.
const FIELDS: usize = 64;
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// The fields of a line that is logfmt from its first byte and has a message.
pub fn fields(line: &[u8]) -> Option<Fields<'_>> {
    let (mut level, mut message) = (None, None);
    let mut rest = line;
    for _ in 0..FIELDS {
        let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
        rest = &rest[blanks..];
        let Some(end) = key(rest) else {
            break;
        };
        let (name, behind) = rest.split_at(end);
        let (value, behind) = value(&behind[1..])?;
        match name {
            b"level" | b"lvl" | b"severity" if level.is_none() => level = Some(value.raw),
            b"msg" | b"message" if message.is_none() => message = Some(value),
            _ => {}
        }
        if level.is_some() && message.is_some() {
            break;
        }
        rest = behind;
    }
    Some(Fields { level, message: message? })
}

/// The length of the key that `text` begins with, up to its `=`.
fn key(text: &[u8]) -> Option<usize> {
    let is_key = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@');
    let end = text.iter().take(KEY_BYTES).take_while(is_key).count();
    (end > 0 && text.get(end) == Some(&b'=')).then_some(end)
}

fn value(text: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let (raw, rest) = text.split_at(memchr(b' ', text).unwrap_or(text.len()));
        return Some((Text { raw, escape: None }, rest));
    };
    let (mut at, mut escape) = (0, None);
    loop {
        at += memchr2(b'"', b'\\', quoted.get(at..)?)?;
        if quoted[at] == b'"' {
            return Some((Text { raw: &quoted[..at], escape }, &quoted[at + 1..]));
        }
        escape.get_or_insert(at);
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_order() {
        for (line, expected) in [
            ("level=info msg=hello", Some((Some("info"), "hello"))),
            (r#"ts=1 msg="a \"b\" c" level=warn x=y"#, Some((Some("warn"), r#"a \"b\" c"#))),
            ("msg=x", Some((None, "x"))),
            ("level=info x=1", None),
            ("text level=info msg=x", None),
            ("msg=\"open", None),
            ("", None),
        ] {
            let found = fields(line.as_bytes());
            let found = found.map(|fields| (fields.level, fields.message.raw));
            let expected = expected.map(|(level, text)| (level.map(str::as_bytes), text.as_bytes()));
            assert_eq!(found, expected, "{line}");
        }
    }
}
