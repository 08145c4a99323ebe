//! `unit`: the systemd unit of a cgroup.

use super::{Answer, Asks, Decoder, Gives, Keeps, Names, Spec, Takes, input, plain};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "unit",
    about: "the id of a v2 cgroup to the innermost systemd unit of its path, as `systemctl` writes it, or nothing",
    takes: Takes::Decimal,
    gives: Gives::Text,
    keeps: Keeps::LastKnown,
    asks: Asks::Paths,
    build: plain::<Unit>,
};

/// Units that have cgroups: systemd.unit(5).
const KINDS: &[&str] = &["service", "scope", "slice", "socket", "mount", "swap"];

#[derive(Default)]
struct Unit;

impl Decoder for Unit {
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let id = input::unsigned(input)?;
        let Some(path) = names.containers.paths.get(id, names.now_ns) else { return Ok(Answer::Unknown) };
        append(out, of_path(path).as_bytes());
        Ok(Answer::TextForNow)
    }
}

/// The last component that is the name of a unit.
fn of_path(path: &str) -> &str {
    let is_unit = |component: &&str| {
        component.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind))
    };
    path.rsplit('/').find(is_unit).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::Bed;

    #[test]
    fn innermost_units() {
        for (path, unit) in [
            ("/sys/fs/cgroup/system.slice/ssh.service", "ssh.service"),
            ("/sys/fs/cgroup/system.slice/docker.service/child", "docker.service"),
            ("/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope", "session-1.scope"),
            ("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", "a.service"),
            ("/sys/fs/cgroup/system.slice/system-serial\\x2dgetty.slice", "system-serial\\x2dgetty.slice"),
            ("/sys/fs/cgroup/-.slice", "-.slice"),
            ("/sys/fs/cgroup/.slice/x.slice.d", ""),
            ("/sys/fs/cgroup", ""),
            ("", ""),
        ] {
            assert_eq!(of_path(path), unit, "{path}");
        }
    }

    #[test]
    fn units_by_id() {
        let mut bed = Bed::new();
        bed.containers.want_paths("/sys/fs/cgroup");
        bed.containers.paths.appeared(7, "/system.slice/ssh.service");
        assert_eq!(bed.decode(&SPEC, "7").unwrap(), "ssh.service");
        assert_eq!(bed.decode(&SPEC, "1").unwrap(), "");
        assert_eq!(bed.decode(&SPEC, "8").unwrap(), "");
        for bad in [&b""[..], b"-7", b"\xff", b"\x07\0\0\0\0\0\0\0"] {
            assert!(bed.decode(&SPEC, bad).unwrap_err().ends_with(" is not a decimal number"));
        }
    }
}
