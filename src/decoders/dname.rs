//! `dname`: a domain name as DNS sends it, RFC 1035 section 3.1.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, plain};

/// Its row.
pub static SPEC: Spec = Spec {
    name: "dname",
    about: "a domain name as in a DNS question (lengths and labels), with dots; put `string` before it, or the zero at its \
            end becomes a dot",
    takes: Takes::Any,
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Dname>,
};

#[derive(Default)]
struct Dname;

impl Decoder for Dname {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        if input.is_empty() {
            out.push(b'.');
            return Ok(Answer::Text);
        }
        let start = out.len();
        let mut rest = input;
        while let Some((length, labels)) = rest.split_first() {
            let Some((label, behind)) = labels.split_at_checked(usize::from(*length)) else {
                // Not a name: as it came.
                out.truncate(start);
                out.extend_from_slice(input);
                return Ok(Answer::Text);
            };
            if rest.len() < input.len() {
                out.push(b'.');
            }
            out.extend_from_slice(label);
            rest = behind;
        }
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn names() {
        let mut bed = Bed::new();
        let mut name = |wire: &[u8]| bed.decode(&SPEC, wire).unwrap();
        assert_eq!(name(b"\x03www\x07example\x03com"), "www.example.com");
        assert_eq!(name(b"\x03com\0"), "com.");
        assert_eq!(name(b""), ".");
        assert_eq!(name(b"\0"), "");
        assert_eq!(name(b"\0\0"), ".");
        assert_eq!(name(b"\0\x01a"), ".a");
        assert_eq!(name(b"\x01a\0\x01b"), "a..b");
        assert_eq!(name(b"\x09short"), "\x09short");
        assert_eq!(name(b"\x01a\xc0"), "\x01a\u{fffd}");
        assert_eq!(name(b"\x02\xffa"), "\u{fffd}a");
    }
}
