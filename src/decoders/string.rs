//! `string`: characters up to the first zero.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "string",
    about: "characters up to the first zero byte, or all of them",
    takes: Takes::Any,
    gives: Gives::Any,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Text>,
};

#[derive(Default)]
struct Text;

impl Decoder for Text {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let end = memchr::memchr(0, input).unwrap_or(input.len());
        append(out, &input[..end]);
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn characters() {
        let mut bed = Bed::new();
        assert_eq!(bed.decode(&SPEC, b"bash\0\0rest").unwrap(), "bash");
        assert_eq!(bed.decode(&SPEC, b"all").unwrap(), "all");
        assert_eq!(bed.decode(&SPEC, b"").unwrap(), "");
        assert_eq!(bed.decode(&SPEC, b"\0x").unwrap(), "");
        assert_eq!(bed.decode(&SPEC, b"caf\xe9\0").unwrap(), "caf\u{fffd}");
    }
}
