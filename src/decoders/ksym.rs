//! `ksym`: the name of a function of the kernel.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "ksym",
    about: "the address of a kernel function to its name, with a tab and `[module]` behind it if it has one; or \
            `unknown_addr:0xADDRESS`",
    takes: Takes::AtLeast(8),
    gives: Gives::Text,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build: plain::<Ksym>,
};

#[derive(Default)]
struct Ksym;

impl Decoder for Ksym {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let address = input::u64_at_start(input)?;
        Ok(match names.tables.symbols.at(names.host, names.now_ns, address) {
            Some(symbol) => {
                symbol.write(out);
                Answer::Text
            }
            None => {
                append(out, format!("unknown_addr:{address:#x}").as_bytes());
                Answer::TextForNow
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn symbols() {
        let mut bed = Bed::new();
        let address = 0xffff_ffff_c0c2_f000_u64;
        assert_eq!(bed.decode(&SPEC, address.to_ne_bytes()).unwrap(), "unknown_addr:0xffffffffc0c2f000");
        bed.write("proc/kallsyms", "ffffffff81000000 T _text\nffffffffc0c2f000 t commit_timeout\t[jbd2]\n");
        bed.now_ns += 120_000_000_000;
        let mut name = |address: u64| bed.decode(&SPEC, address.to_ne_bytes()).unwrap();
        assert_eq!(name(address), "commit_timeout\t[jbd2]");
        assert_eq!(name(0xffff_ffff_8100_0000), "_text");
        assert_eq!(name(address + 1), "unknown_addr:0xffffffffc0c2f001");
        assert_eq!(name(0), "unknown_addr:0x0");
        let long = [&address.to_ne_bytes()[..], b"\xff\xff"].concat();
        assert_eq!(bed.decode(&SPEC, long).unwrap(), "commit_timeout\t[jbd2]");
        assert_eq!(bed.decode(&SPEC, [0xff; 7]), Err("7 bytes instead of 8".to_owned()));
        assert_eq!(bed.decode(&SPEC, ""), Err("0 bytes instead of 8".to_owned()));
    }
}
