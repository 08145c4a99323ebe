//! `ifname`: names of network interfaces.

use std::collections::HashMap;

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::limits;
use crate::sys::clock::MonotonicNs;
use crate::sys::interface;
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "ifname",
    about: "the number of a network interface, in nodeprobe's own network namespace, to its name, or `unknown:N`",
    takes: Takes::AtLeast(4),
    gives: Gives::Text,
    keeps: Keeps::LastKnown,
    asks: Asks::Nothing,
    build: plain::<IfName>,
};

/// Names as of a moment ago: interfaces are renamed, and numbers of removed ones used again.
#[derive(Debug, Default)]
pub struct Interfaces {
    asked_ns: MonotonicNs,
    names: HashMap<u32, Option<Vec<u8>>>,
}

impl Interfaces {
    fn name(&mut self, index: u32, now_ns: MonotonicNs) -> Option<&[u8]> {
        let age_ns = u128::from(now_ns.abs_diff(self.asked_ns));
        if age_ns >= limits::INTERFACE_NAMES_AGE.as_nanos() || self.names.len() >= limits::INTERFACES * 16 {
            self.names.clear();
            self.asked_ns = now_ns;
        }
        self.names.entry(index).or_insert_with(|| interface::name(index)).as_deref()
    }
}

#[derive(Default)]
struct IfName;

impl Decoder for IfName {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let index = input::u32_at_start(input)?;
        match names.tables.interfaces.name(index, names.now_ns) {
            Some(name) => {
                append(out, name);
                Ok(Answer::TextForNow)
            }
            None => {
                append(out, b"unknown:");
                input::push_decimal(out, u64::from(index));
                Ok(Answer::Unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn interfaces_of_this_machine() {
        let mut bed = Bed::new();
        assert_eq!(bed.decode(&SPEC, 1u32.to_ne_bytes()).unwrap(), "lo");
        assert_eq!(bed.decode(&SPEC, 1u64.to_le_bytes()).unwrap(), "lo");
        assert_eq!(bed.decode(&SPEC, [0xff; 4]).unwrap(), "unknown:4294967295");
        assert_eq!(bed.decode(&SPEC, [1, 0, 0]), Err("3 bytes instead of 4".to_owned()));
        assert_eq!(bed.decode(&SPEC, ""), Err("0 bytes instead of 4".to_owned()));
    }

    #[test]
    fn names_are_asked_for_again() {
        let mut interfaces =
            Interfaces { asked_ns: 5, names: [(1, Some(b"old".to_vec())), (9, None)].into() };
        assert_eq!(interfaces.name(1, 1_000_000_004), Some(&b"old"[..]));
        assert_eq!(interfaces.name(1, 1_000_000_005), Some(&b"lo"[..]));
        assert_eq!(interfaces.names.len(), 1);
    }
}
