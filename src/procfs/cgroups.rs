//! `/proc/cgroups`: the cgroup controllers the kernel has.
//!
//! Kernel document: Documentation/admin-guide/cgroup-v1/cgroups.rst, section 1. Controllers with
//! hierarchy 0 are on cgroup v2 or not mounted.

use super::text;

/// Most controllers given out; the kernel cannot have more than 32.
pub const MAX_CONTROLLERS: usize = 32;

/// One controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller<'a> {
    /// Controller name, such as `memory`.
    pub name: &'a str,
    /// Id of the v1 hierarchy it is mounted on, 0 if none.
    pub hierarchy: u32,
    /// Whether it was left enabled at boot.
    pub enabled: bool,
}

/// The controllers in the file; the heading and lines that do not fit are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Controller<'_>> {
    text::lines(bytes).filter(|line| !line.starts_with(b"#")).filter_map(parse_line).take(MAX_CONTROLLERS)
}

fn parse_line(line: &[u8]) -> Option<Controller<'_>> {
    let mut fields = text::fields(line);
    let name = text::utf8(fields.next()?)?;
    let hierarchy = text::number32(fields.next()?)?;
    // number of cgroups
    let enabled = text::number32(fields.nth(1)?)? != 0;
    Some(Controller { name, hierarchy, enabled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
        cpuset\t3\t1\t1\nmemory\t0\t120\t0\n";

    #[test]
    fn reads_controllers() {
        let all: Vec<Controller<'_>> = parse(SAMPLE).collect();
        let controller = |name, hierarchy, enabled| Controller { name, hierarchy, enabled };
        assert_eq!(all, [controller("cpuset", 3, true), controller("memory", 0, false)]);
    }

    #[test]
    fn lines_that_do_not_fit_are_skipped() {
        assert_eq!(parse(b"cpu\t1\t1\ncpu\tx\t1\t1\n\xff\t1\t1\t1\ncpu\t1\t1\t1").count(), 0);
        let many = "cpu\t1\t1\t1\n".repeat(MAX_CONTROLLERS + 1);
        assert_eq!(parse(many.as_bytes()).count(), MAX_CONTROLLERS);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
