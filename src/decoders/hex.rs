//! `hex`: bytes as hexadecimal digits.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};

/// Its row.
pub static SPEC: Spec = Spec {
    name: "hex",
    about: "bytes in memory order, as lower-case hexadecimal digits",
    takes: Takes::Any,
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Hex>,
};

#[derive(Default)]
struct Hex;

impl Decoder for Hex {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        input::push_hex(out, input);
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn any_bytes() {
        let mut bed = Bed::new();
        assert_eq!(bed.decode(&SPEC, b"").unwrap(), "");
        assert_eq!(bed.decode(&SPEC, [0x00, 0x0f, 0xf0, 0xff]).unwrap(), "000ff0ff");
        assert_eq!(bed.decode(&SPEC, "\u{e9}").unwrap(), "c3a9");
    }
}
