//! `uint`: an unsigned number.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};

/// Its row.
pub static SPEC: Spec = Spec {
    name: "uint",
    about: "an unsigned number in this machine's byte order, as decimal text",
    takes: Takes::Sizes(&[1, 2, 4, 8]),
    gives: Gives::Decimal,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Uint>,
};

#[derive(Default)]
struct Uint;

impl Decoder for Uint {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let number = match *input {
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_ne_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(format!("unknown value length {}", input.len())),
        };
        input::push_decimal(out, number);
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn numbers() {
        let mut bed = Bed::new();
        assert_eq!(bed.decode(&SPEC, [200]).unwrap(), "200");
        assert_eq!(bed.decode(&SPEC, 0xffffu16.to_ne_bytes()).unwrap(), "65535");
        assert_eq!(bed.decode(&SPEC, 7u32.to_ne_bytes()).unwrap(), "7");
        assert_eq!(bed.decode(&SPEC, u64::MAX.to_ne_bytes()).unwrap(), "18446744073709551615");
        for length in [0, 3, 5, 7, 9, 16] {
            let error = format!("unknown value length {length}");
            assert_eq!(bed.decode(&SPEC, vec![0xff; length]), Err(error));
        }
    }
}
