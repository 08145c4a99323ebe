//! `cgroup`: the path of a cgroup.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "cgroup",
    about: "the id of a v2 cgroup to its path, `/sys/fs/cgroup` and all, or `unknown_cgroup_id:N`",
    takes: Takes::Decimal,
    gives: Gives::Text,
    keeps: Keeps::LastKnown,
    asks: Asks::Paths,
    build: plain::<Cgroup>,
};

#[derive(Default)]
struct Cgroup;

impl Decoder for Cgroup {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let number = input::signed(input)?;
        match u64::try_from(number).ok().and_then(|id| names.containers.paths.get(id, names.now_ns)) {
            Some(path) => {
                append(out, path.as_bytes());
                Ok(Answer::TextForNow)
            }
            None => {
                append(out, format!("unknown_cgroup_id:{number}").as_bytes());
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
    fn paths() {
        let mut bed = Bed::new();
        bed.containers.want_paths("/sys/fs/cgroup");
        bed.containers.paths.appeared(7, "/system.slice/ssh.service");
        assert_eq!(bed.decode(&SPEC, "1").unwrap(), "/sys/fs/cgroup");
        assert_eq!(bed.decode(&SPEC, "7").unwrap(), "/sys/fs/cgroup/system.slice/ssh.service");
        assert_eq!(bed.decode(&SPEC, "8").unwrap(), "unknown_cgroup_id:8");
        assert_eq!(bed.decode(&SPEC, "-1").unwrap(), "unknown_cgroup_id:-1");
        for bad in [&b""[..], b"x", b"\x07\0\0\0\0\0\0\0", b"\xff", b"9223372036854775808"] {
            assert!(bed.decode(&SPEC, bad).unwrap_err().ends_with(" is not a decimal number"));
        }
    }
}
