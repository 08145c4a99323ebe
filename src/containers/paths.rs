//! The path of every cgroup of the v2 hierarchy, for programs whose keys hold ids of any cgroup, not only of containers.
//! Empty until somebody wants it.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

use crate::limits;
use crate::memory::{self, Use};
use crate::sys::clock::MonotonicNs;

/// How long the path of a removed cgroup stays after its removal and after it was asked for last: counts of it stay in maps.
const RETENTION_NS: u64 = 600_000_000_000;

/// So much of the table must be free before a walk looks for what found no room in it.
const FREE_SHARE: usize = 8;

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
    /// When it may be forgotten, for one that is gone: its place in [`CgroupPaths::leaving`].
    leaves_ns: Option<MonotonicNs>,
    /// When it was asked for last.
    used_ns: Cell<MonotonicNs>,
}

/// Paths by id.
#[derive(Debug, Default)]
pub struct CgroupPaths {
    /// The directory the hierarchy is mounted at, once somebody wants paths.
    mount: Option<Box<str>>,
    by_id: HashMap<u64, Known>,
    /// Removed ones, in the order in which they may be forgotten.
    leaving: BTreeSet<(MonotonicNs, u64)>,
    /// What happened since it was last asked, if somebody asks.
    changes: Option<Vec<Change>>,
    /// Only a walk can tell what there is: paths are wanted now, and were not before.
    needs_walk: bool,
    /// Some found no room, and a walk might find them again.
    has_missed: bool,
}

impl CgroupPaths {
    /// Starts to remember paths below `mount`, from the next walk on.
    pub fn want(&mut self, mount: &str) {
        // Paths below it begin with a slash.
        let mount = mount.trim_end_matches('/');
        if self.mount.is_none() {
            self.add(ROOT, mount.into());
            self.mount = Some(mount.into());
            self.needs_walk = true;
        }
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

    /// The full path of cgroup `id`, also of one that is gone, which is not forgotten while it is asked for.
    pub fn get(&self, id: u64, now_ns: MonotonicNs) -> Option<&str> {
        let known = self.by_id.get(&id)?;
        known.used_ns.set(now_ns);
        Some(&known.path)
    }

    /// The full path of cgroup `id` if it is there.
    pub fn living(&self, id: u64) -> Option<&str> {
        self.by_id.get(&id).filter(|known| known.leaves_ns.is_none()).map(|known| &*known.path)
    }

    /// All ids with full paths, but those of cgroups that are gone.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.by_id
            .iter()
            .filter(|(_, known)| known.leaves_ns.is_none())
            .map(|(&id, known)| (id, &*known.path))
    }

    /// True once, when only a walk can tell what there is, or when some found no room and now there is some.
    pub fn take_missed(&mut self) -> bool {
        let living = self.by_id.len() - self.leaving.len();
        let has_room = living < limits::CGROUPS - limits::CGROUPS / FREE_SHARE && memory::has_recovered();
        let is_back = has_room && std::mem::take(&mut self.has_missed);
        std::mem::take(&mut self.needs_walk) || is_back
    }

    /// Takes note of cgroup `id` at `path` below the mount; false when there is no room for it.
    pub fn appeared(&mut self, id: u64, path: &str) -> bool {
        let Some(mount) = &self.mount else { return true };
        if let Some(known) = self.by_id.get(&id) {
            match known.leaves_ns {
                // One that was taken for gone and is not.
                Some(at_ns) => {
                    self.leaving.remove(&(at_ns, id));
                }
                None if known.path.strip_prefix(&**mount) == Some(path) => return true,
                None => {}
            }
        } else if self.by_id.len() >= limits::CGROUPS || !memory::admits(Use::Keys) {
            // The dead make room, longest gone first.
            let Some((_, oldest)) = self.leaving.pop_first() else {
                self.has_missed = true;
                return false;
            };
            self.by_id.remove(&oldest);
        }
        self.add(id, format!("{mount}{path}"));
        self.note(Change::Appeared(id));
        true
    }

    fn add(&mut self, id: u64, path: String) {
        let known = Known { path: path.into(), leaves_ns: None, used_ns: Cell::new(0) };
        self.by_id.insert(id, known);
    }

    /// Takes note that cgroup `id` is gone.
    pub fn removed(&mut self, id: u64, now_ns: MonotonicNs) {
        let Some(known) = self.by_id.get_mut(&id).filter(|known| known.leaves_ns.is_none()) else { return };
        let at_ns = now_ns + RETENTION_NS;
        known.leaves_ns = Some(at_ns);
        self.leaving.insert((at_ns, id));
        self.note(Change::Removed(id));
    }

    /// Removes all but those a walk has found (sorted). A walk that `is_cut` says nothing of directories below
    /// [`limits::CGROUP_DEPTH`].
    pub fn keep_only(&mut self, found: &[u64], is_cut: bool, now_ns: MonotonicNs) {
        let mount = self.mount.as_deref().unwrap_or_default();
        let is_hidden = |path: &str| {
            let below = path.strip_prefix(mount).unwrap_or(path);
            is_cut && below.bytes().filter(|&byte| byte == b'/').count() > limits::CGROUP_DEPTH
        };
        let is_gone =
            |&(id, path): &(u64, &str)| id != ROOT && found.binary_search(&id).is_err() && !is_hidden(path);
        let gone: Vec<u64> = self.iter().filter(is_gone).map(|(id, _)| id).collect();
        gone.into_iter().for_each(|id| self.removed(id, now_ns));
    }

    fn note(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change);
        }
    }

    /// Forgets what was removed long ago and nobody has asked for since.
    pub fn forget(&mut self, now_ns: MonotonicNs) {
        while let Some(&(at_ns, id)) = self.leaving.first().filter(|(at_ns, _)| *at_ns <= now_ns) {
            self.leaving.remove(&(at_ns, id));
            let Some(known) = self.by_id.get_mut(&id) else { continue };
            let later_ns = known.used_ns.get() + RETENTION_NS;
            if later_ns > now_ns {
                known.leaves_ns = Some(later_ns);
                self.leaving.insert((later_ns, id));
            } else {
                self.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> CgroupPaths {
        let mut paths = CgroupPaths::default();
        paths.want("/cg");
        assert!(paths.take_missed() && !paths.take_missed());
        paths.follow();
        paths
    }

    #[test]
    fn removed_ones_stay_for_a_while_and_are_told_once() {
        let mut paths = CgroupPaths::default();
        paths.appeared(2, "/a");
        assert_eq!(paths.get(2, 1), None, "nobody wanted it");
        paths.want("/cg/");
        assert!(paths.take_missed());
        paths.want("/cg/");
        assert!(!paths.take_missed(), "one walk is enough");
        paths.follow();
        paths.appeared(2, "/a");
        paths.appeared(2, "/a");
        paths.appeared(3, "/a/b");
        paths.keep_only(&[2], false, 5);
        paths.keep_only(&[2], false, 6);
        let all = [1, 2, 3].map(|id| paths.get(id, 0));
        assert_eq!(all, [Some("/cg"), Some("/cg/a"), Some("/cg/a/b")]);
        assert_eq!((paths.living(2), paths.living(3), paths.iter().count()), (Some("/cg/a"), None, 2));
        assert_eq!(paths.take_changes(), [Change::Appeared(2), Change::Appeared(3), Change::Removed(3)]);
        assert!(!paths.has_changes());
        paths.forget(RETENTION_NS + 4);
        assert_eq!(paths.get(3, 0), Some("/cg/a/b"));
        paths.forget(RETENTION_NS + 5);
        assert_eq!((paths.get(2, 0), paths.get(3, 0)), (Some("/cg/a"), None));
    }

    #[test]
    fn those_that_are_asked_for_are_not_forgotten() {
        let mut paths = wanted();
        for id in [2, 3, 4] {
            paths.appeared(id, &format!("/{id}"));
            paths.removed(id, 5);
        }
        paths.get(2, 100);
        paths.get(3, RETENTION_NS);
        paths.forget(RETENTION_NS + 5);
        assert_eq!((paths.by_id.len(), paths.leaving.len()), (3, 2), "4 is gone");
        paths.forget(RETENTION_NS + 100);
        assert_eq!((paths.by_id.len(), paths.leaving.len()), (2, 1), "2 is gone");
        paths.forget(2 * RETENTION_NS - 1);
        assert_eq!(paths.get(3, 2 * RETENTION_NS - 1), Some("/cg/3"));
        paths.forget(2 * RETENTION_NS);
        assert_eq!(paths.by_id.len(), 2);
        paths.forget(3 * RETENTION_NS - 1);
        assert_eq!((paths.by_id.len(), paths.leaving.len()), (1, 0));
    }

    #[test]
    fn one_that_comes_back_stays() {
        let mut paths = wanted();
        paths.appeared(2, "/a");
        paths.appeared(3, "/b");
        paths.removed(2, 5);
        paths.removed(3, 5);
        paths.take_changes();
        assert!(paths.appeared(2, "/a") && paths.appeared(3, "/c"));
        assert_eq!(paths.take_changes(), [Change::Appeared(2), Change::Appeared(3)]);
        paths.forget(9 * RETENTION_NS);
        assert_eq!((paths.living(2), paths.living(3)), (Some("/cg/a"), Some("/cg/c")));
        paths.removed(2, 10 * RETENTION_NS);
        assert_eq!(paths.take_changes(), [Change::Removed(2)]);
    }

    #[test]
    fn the_dead_make_room_and_the_refused_are_looked_for_again() {
        let mut paths = wanted();
        let last = limits::CGROUPS as u64;
        for id in 2..=last {
            assert!(paths.appeared(id, "/a"));
        }
        assert!(!paths.appeared(last + 1, "/b"), "the root and all others are {last}");
        assert!(paths.appeared(5, "/known") && !paths.take_missed(), "there is no room yet");
        paths.removed(8, 2);
        paths.removed(7, 1);
        assert!(paths.appeared(last + 2, "/c"));
        assert_eq!((paths.get(7, 0), paths.get(8, 0)), (None, Some("/cg/a")), "the longest gone makes room");
        assert!(paths.appeared(last + 3, "/d") && !paths.appeared(last + 4, "/e"));
        for id in 10..10 + last / 8 {
            assert!(!paths.take_missed());
            paths.removed(id, 3);
        }
        paths.removed(last, 3);
        assert!(paths.take_missed() && !paths.take_missed());
    }

    #[test]
    fn a_walk_that_was_cut_says_nothing_of_what_is_deeper() {
        let mut paths = wanted();
        let deepest = "/d".repeat(limits::CGROUP_DEPTH);
        paths.appeared(2, &deepest);
        paths.appeared(3, &format!("{deepest}/e"));
        paths.keep_only(&[], true, 1);
        assert_eq!(paths.iter().count(), 2, "the root and what is below the cut");
        assert!(paths.living(2).is_none() && paths.living(3).is_some());
        paths.keep_only(&[], false, 1);
        assert!(paths.living(3).is_none());
    }
}
