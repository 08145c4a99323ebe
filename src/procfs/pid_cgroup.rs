//! `/proc/PID/cgroup`: where a process stands in each cgroup hierarchy.
//!
//! Kernel documents: Documentation/admin-guide/cgroup-v1/cgroups.rst and cgroup-v2.rst,
//! "Processes". A line is `HIERARCHY:CONTROLLERS:PATH`.

use super::text;

/// Most lines given out: 32 controllers, the v2 line, and some named hierarchies.
pub const MAX_HIERARCHIES: usize = 64;
/// What the kernel puts after the path of a removed v2 cgroup.
const DELETED: &str = " (deleted)";

/// The place of a process in one hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// Id of the hierarchy; 0 is cgroup v2.
    pub hierarchy: u32,
    /// Controllers of a v1 hierarchy, separated by commas, or `name=NAME`; empty for v2.
    pub controllers: &'a str,
    /// Path of the cgroup below the mount point, without the mark of deletion.
    ///
    /// It starts with `/..` when the cgroup is outside the reader's cgroup namespace.
    pub path: &'a str,
    /// The cgroup has been removed; the process is a zombie.
    pub deleted: bool,
}

impl Membership<'_> {
    /// Whether this is the line of cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.hierarchy == 0
    }

    /// Whether this v1 hierarchy has `controller` (`memory`, `name=systemd`).
    pub fn has_controller(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }
}

/// The hierarchies in the file; lines that do not fit or are not UTF-8 are skipped.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Membership<'_>> {
    text::lines(bytes).filter_map(parse_line).take(MAX_HIERARCHIES)
}

fn parse_line(line: &[u8]) -> Option<Membership<'_>> {
    // The path comes last because it may hold colons itself.
    let mut fields = text::utf8(line)?.splitn(3, ':');
    let hierarchy = text::number32(fields.next()?.as_bytes())?;
    let controllers = fields.next()?;
    let path = fields.next().filter(|path| path.starts_with('/'))?;
    let live_path = path.strip_suffix(DELETED);
    Some(Membership { hierarchy, controllers, path: live_path.unwrap_or(path), deleted: live_path.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"9:name=systemd:/\n2:cpu,cpuacct:/docker/ab:cd\n\
        0::/system.slice/x.service (deleted)\n";

    #[test]
    fn reads_hierarchies() {
        let all: Vec<Membership<'_>> = parse(SAMPLE).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].has_controller("name=systemd") && !all[0].is_v2());
        assert!(all[1].has_controller("cpuacct") && all[1].has_controller("cpu"));
        assert!(!all[1].has_controller("acct"));
        assert_eq!((all[1].path, all[1].deleted), ("/docker/ab:cd", false));
        assert!(all[2].is_v2() && all[2].deleted);
        assert_eq!(all[2].path, "/system.slice/x.service");
    }

    #[test]
    fn lines_that_do_not_fit_are_skipped() {
        assert_eq!(parse(b"x::/\n0:/\n0::\n0::relative\n\n0::/\xff\n0::/cu").count(), 0);
        let many = "0::/\n".repeat(MAX_HIERARCHIES + 1);
        assert_eq!(parse(many.as_bytes()).count(), MAX_HIERARCHIES);
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes).count();
        });
    }
}
