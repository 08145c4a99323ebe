//! A flat scan of a JSON object: its keys and values in order, values of objects and arrays as one piece. It checks no more than
//! it has to, since a line that is no good JSON is read as text; it allocates nothing.

use memchr::{memchr, memchr2};

/// Members of an object that are looked at: more are in no line worth it.
const MEMBERS: usize = 128;

/// A string as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    /// Without its quotes.
    pub raw: &'a [u8],
    /// Where the first backslash is.
    pub escape: Option<usize>,
}

impl<'a> Text<'a> {
    /// The text itself, in `buffer` if it has escapes.
    pub fn read(self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.escape.is_none() {
            return self.raw;
        }
        unescape(self.raw, buffer);
        buffer
    }
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string.
    String(Text<'a>),
    /// A number, `true`, `false` or `null`.
    Word(&'a [u8]),
    /// An object or array.
    Nested(&'a [u8]),
}

/// The members of an object.
#[derive(Debug, Clone)]
pub struct Flat<'a> {
    data: &'a [u8],
    members: usize,
}

impl<'a> Flat<'a> {
    /// A scan of `data` if an object begins there.
    pub fn new(data: &'a [u8]) -> Option<Flat<'a>> {
        Some(Flat { data: skip_blanks(data).strip_prefix(b"{")?, members: 0 })
    }

    fn member(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let mut data = skip_blanks(self.data);
        if let Some(rest) = data.strip_prefix(b",") {
            data = skip_blanks(rest);
        }
        let (key, rest) = string(data.strip_prefix(b"\"")?)?;
        let rest = skip_blanks(skip_blanks(rest).strip_prefix(b":")?);
        let (value, rest) = match rest.first()? {
            b'"' => {
                let (text, rest) = string(&rest[1..])?;
                (Value::String(text), rest)
            }
            b'{' | b'[' => {
                let (nested, rest) = rest.split_at(nested(rest)?);
                (Value::Nested(nested), rest)
            }
            _ => {
                let end = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b' ' | b'\t'))?;
                let (word, rest) = rest.split_at(end);
                (Value::Word(word), rest)
            }
        };
        self.data = rest;
        Some((key.raw, value))
    }
}

impl<'a> Iterator for Flat<'a> {
    type Item = (&'a [u8], Value<'a>);

    /// The next member; none at the end, and where something is broken.
    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        self.members += 1;
        if self.members > MEMBERS { None } else { self.member() }
    }
}

fn skip_blanks(data: &[u8]) -> &[u8] {
    &data[data.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()..]
}

/// The string that `data` is the inside of, and what follows its end.
fn string(data: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let (mut at, mut escape) = (0, None);
    loop {
        at += memchr2(b'"', b'\\', &data[at..])?;
        if data[at] == b'"' {
            return Some((Text { raw: &data[..at], escape }, &data[at + 1..]));
        }
        escape.get_or_insert(at);
        // Whatever is escaped is no end.
        at += 2;
        if at > data.len() {
            return None;
        }
    }
}

/// The length of the object or array that `data` begins with.
fn nested(data: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0usize, 0usize);
    while let Some(byte) = data.get(at) {
        match byte {
            b'"' => {
                let (_, rest) = string(&data[at + 1..])?;
                at = data.len() - rest.len();
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Writes the text of a raw string to `buffer`, replacing what it held. What is no escape is taken as it is.
pub fn unescape(raw: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    let mut rest = raw;
    while let Some(at) = memchr(b'\\', rest) {
        buffer.extend_from_slice(&rest[..at]);
        let Some(&escaped) = rest.get(at + 1) else {
            rest = &rest[at..];
            break;
        };
        rest = &rest[at + 2..];
        let byte = match escaped {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                rest = code_point(rest, buffer);
                continue;
            }
            other => other,
        };
        buffer.push(byte);
    }
    buffer.extend_from_slice(rest);
}

/// The character of `\uXXXX`, whose digits `rest` begins with, and its other half; U+FFFD if it is none.
fn code_point<'a>(rest: &'a [u8], buffer: &mut Vec<u8>) -> &'a [u8] {
    let (Some(unit), Some(mut behind)) = (unit(rest), rest.get(4..)) else {
        buffer.extend_from_slice("\u{fffd}".as_bytes());
        return rest;
    };
    let mut point = unit;
    if (0xd800..0xdc00).contains(&unit)
        && let Some(more) = behind.strip_prefix(br"\u")
        && let Some(low @ 0xdc00..0xe000) = self::unit(more)
    {
        point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        behind = &more[4..];
    }
    let character = char::from_u32(point).unwrap_or('\u{fffd}');
    buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    behind
}

fn unit(digits: &[u8]) -> Option<u32> {
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_order() {
        let line = br#" {"a":"x\"y", "b" : -1.5e3,"c":{"d":["}",{"e":1}]},"f":[],"g":null} tail"#;
        let members: Vec<String> = Flat::new(line)
            .unwrap()
            .map(|(key, value)| {
                let mut buffer = Vec::new();
                let (kind, text) = match value {
                    Value::String(text) => ("string", text.read(&mut buffer)),
                    Value::Word(word) => ("word", word),
                    Value::Nested(nested) => ("nested", nested),
                };
                format!("{} {kind} {}", String::from_utf8_lossy(key), String::from_utf8_lossy(text))
            })
            .collect();
        let nested = r#"c nested {"d":["}",{"e":1}]}"#;
        assert_eq!(members, [r#"a string x"y"#, "b word -1.5e3", nested, "f nested []", "g word null"]);
        assert!(Flat::new(b"[1]").is_none());
    }

    #[test]
    fn escapes_are_undone() {
        for (raw, expected) in [
            (r"a\nb\t\/\\\q", "a\nb\t/\\q"),
            (r"\u00e9\ud83d\ude00", "é😀"),
            (r"\ud83dx\u12", "\u{fffd}x\u{fffd}12"),
            (r"end\", "end\\"),
            ("", ""),
        ] {
            let mut buffer = b"old".to_vec();
            unescape(raw.as_bytes(), &mut buffer);
            assert_eq!(String::from_utf8_lossy(&buffer), expected, "{raw}");
        }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut buffer = Vec::new();
        crate::procfs::fuzz::hammer(br#"{"a":"x\u00e9\\","b":{"c":[1,"\""]},"d":1}"#, |data| {
            unescape(data, &mut buffer);
            for (_, value) in Flat::new(data).into_iter().flatten() {
                if let Value::String(text) = value {
                    text.read(&mut buffer);
                }
            }
        });
    }
}
