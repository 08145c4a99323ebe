//! The path of every cgroup of the v2 hierarchy, for programs whose keys hold ids of any cgroup, not only of containers.
//! Empty until somebody wants it.

use std::collections::{HashMap, VecDeque};

use crate::limits;
use crate::sys::clock::MonotonicNs;

/// How long the path of a removed cgroup can still be asked for: counts of it stay in maps.
const RETENTION_NS: u64 = 600_000_000_000;

/// The id of every hierarchy's root.
const ROOT: u64 = 1;

/// What happened to a cgroup, for those who follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Appeared(u64),
    /// It is gone.
    Removed(u64),
}

#[derive(Debug)]
struct Known {
    path: Box<str>,
    is_gone: bool,
}

/// Paths by id.
#[derive(Debug, Default)]
pub struct CgroupPaths {
    /// The directory the hierarchy is mounted at, once somebody wants paths.
    mount: Option<Box<str>>,
    by_id: HashMap<u64, Known>,
    /// Removed ones, to be forgotten at a time.
    leaving: VecDeque<(MonotonicNs, u64)>,
    /// What happened since it was last asked, if somebody asks.
    changes: Option<Vec<Change>>,
}

impl CgroupPaths {
    /// Starts to remember paths below `mount`; true when that is new and only a walk can tell what is there.
    pub fn want(&mut self, mount: &str) -> bool {
        let new = self.mount.is_none();
        // Paths below it begin with a slash.
        let mount = mount.trim_end_matches('/');
        if new {
            self.by_id.insert(ROOT, Known { path: mount.into(), is_gone: false });
            self.mount = Some(mount.into());
        }
        new
    }

    /// Starts to note changes; those of before are in [`CgroupPaths::iter`].
    pub fn follow(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// What happened since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// True when somebody follows and something happened.
    pub fn has_changes(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| !changes.is_empty())
    }

    /// The full path of cgroup `id`, also of one not long gone.
    pub fn get(&self, id: u64) -> Option<&str> {
        self.by_id.get(&id).map(|known| &*known.path)
    }

    /// All ids with full paths, but those of cgroups that are gone.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.by_id.iter().filter(|(_, known)| !known.is_gone).map(|(&id, known)| (id, &*known.path))
    }

    /// Takes note of cgroup `id` at `path` below the mount.
    pub fn appeared(&mut self, id: u64, path: &str) {
        let Some(mount) = &self.mount else { return };
        let known = self.by_id.get(&id);
        let is_full = known.is_none() && self.by_id.len() >= limits::CGROUPS;
        if is_full || known.is_some_and(|known| known.path.strip_prefix(&**mount) == Some(path)) {
            return;
        }
        self.by_id.insert(id, Known { path: format!("{mount}{path}").into(), is_gone: false });
        self.note(Change::Appeared(id));
    }

    /// Takes note that cgroup `id` is gone.
    pub fn removed(&mut self, id: u64, now_ns: MonotonicNs) {
        let Some(known) = self.by_id.get_mut(&id).filter(|known| !known.is_gone) else { return };
        known.is_gone = true;
        self.leaving.push_back((now_ns + RETENTION_NS, id));
        self.note(Change::Removed(id));
    }

    /// Removes all but those a walk has found (sorted).
    pub fn keep_only(&mut self, found: &[u64], now_ns: MonotonicNs) {
        let gone = |(&id, known): (&u64, &Known)| {
            (id != ROOT && !known.is_gone && found.binary_search(&id).is_err()).then_some(id)
        };
        let gone: Vec<u64> = self.by_id.iter().filter_map(gone).collect();
        gone.into_iter().for_each(|id| self.removed(id, now_ns));
    }

    fn note(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }

    /// Forgets what was removed long ago.
    pub fn forget(&mut self, now_ns: MonotonicNs) {
        while self.leaving.front().is_some_and(|&(at_ns, _)| at_ns <= now_ns) {
            if let Some((_, id)) = self.leaving.pop_front() {
                self.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_ones_stay_for_a_while_and_are_told_once() {
        let mut paths = CgroupPaths::default();
        paths.appeared(2, "/a");
        assert_eq!(paths.get(2), None, "nobody wanted it");
        assert!(paths.want("/cg/") && !paths.want("/cg/"));
        paths.follow();
        paths.appeared(2, "/a");
        paths.appeared(2, "/a");
        paths.appeared(3, "/a/b");
        paths.keep_only(&[2], 5);
        paths.keep_only(&[2], 6);
        assert_eq!((paths.get(1), paths.get(2), paths.get(3)), (Some("/cg"), Some("/cg/a"), Some("/cg/a/b")));
        assert_eq!(paths.iter().count(), 2);
        assert_eq!(paths.take_changes(), [Change::Appeared(2), Change::Appeared(3), Change::Removed(3)]);
        assert!(!paths.has_changes());
        paths.forget(RETENTION_NS + 5);
        assert_eq!((paths.get(2), paths.get(3)), (Some("/cg/a"), None));
    }
}
