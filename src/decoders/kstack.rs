//! `kstack`: the functions of a kernel stack.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "kstack",
    about: "a kernel stack, addresses of 8 bytes up to the first 0, to the functions they are in, one per line; `??` for what \
            is in none",
    takes: Takes::Multiple(8),
    gives: Gives::Text,
    keeps: Keeps::AnswersFromSymbols,
    asks: Asks::Nothing,
    build: plain::<Kstack>,
};

#[derive(Default)]
struct Kstack;

impl Decoder for Kstack {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let (frames, []) = input.as_chunks() else {
            return Err(format!("{} bytes are no multiple of 8", input.len()));
        };
        let mut answer = Answer::Text;
        let frames =
            frames.iter().map(|frame| u64::from_ne_bytes(*frame)).take_while(|address| *address != 0);
        for (number, address) in frames.enumerate() {
            if number > 0 {
                out.push(b'\n');
            }
            match names.tables.symbols.in_front_of(names.host, names.now_ns, address) {
                Some(symbol) => symbol.write(out),
                None => {
                    append(out, b"??");
                    answer = Answer::TextForNow;
                }
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn stacks() {
        let mut bed = Bed::new();
        bed.write("proc/kallsyms", "0000000000001000 T a\n0000000000002000 t b\t[m]\n");
        let mut stack = |addresses: &[u64]| {
            let bytes: Vec<u8> = addresses.iter().flat_map(|address| address.to_ne_bytes()).collect();
            bed.decode(&SPEC, bytes).unwrap()
        };
        assert_eq!(stack(&[]), "");
        assert_eq!(stack(&[0, 0x1000]), "");
        assert_eq!(stack(&[0x1fff, 0x2000, 0x2001, 0xfff, 0, 0x1000]), "a\nb\t[m]\nb\t[m]\n??");
        assert_eq!(stack(&[u64::MAX]), "b\t[m]");
        assert_eq!(bed.decode(&SPEC, [0xff; 12]), Err("12 bytes are no multiple of 8".to_owned()));
        assert_eq!(bed.decode(&SPEC, [1]), Err("1 bytes are no multiple of 8".to_owned()));
    }
}
