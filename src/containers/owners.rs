//! Whose counts in the kernel are: BPF programs key them by the cgroups of a task (`struct cgroup_ids` of `bpf/cgroup_ids.h`),
//! and which of those is a container is decided when they are read.

use std::collections::HashMap;

use super::hierarchies::Place;
use super::{Containers, InstanceId};
use crate::limits;
use crate::sys::clock::MonotonicNs;

/// Bytes of `struct cgroup_ids`.
pub const CGROUP_IDS: usize = 32;

/// The container a task in these cgroups (`struct cgroup_ids`) belongs to: the first known one, most preferred place first.
///
/// A unit only if there is nothing else: on hybrid hosts runtimes leave the tasks of containers in v2 where the runtime's own
/// service is.
pub fn instance_of(containers: &Containers, key: &[u8]) -> Option<InstanceId> {
    let (ids, _) = key.as_chunks::<8>();
    let known = || {
        let places = Place::ALL.into_iter().zip(ids);
        places.filter_map(|(place, id)| containers.of_cgroup(place, u64::from_ne_bytes(*id)))
    };
    known().find(|&id| !is_unit(containers, id)).or_else(|| known().next())
}

/// True for a unit of systemd, which may turn out to be a container's runtime once the container is known.
pub fn is_unit(containers: &Containers, id: InstanceId) -> bool {
    containers.instance(id).is_some_and(|instance| instance.runtime.is_unit())
}

/// Keys in the kernel that belong to no container, and since when: after a while they make room. Should one count again, nobody
/// misses what it had.
#[derive(Debug, Default)]
pub struct Strangers {
    since: HashMap<Box<[u8]>, MonotonicNs>,
    seen: HashMap<Box<[u8]>, MonotonicNs>,
    due: Vec<Box<[u8]>>,
}

impl Strangers {
    /// Takes note of one in this reading.
    pub fn observe(&mut self, key: &[u8], now_ns: MonotonicNs) {
        let since = self.since.get(key).copied().unwrap_or(now_ns);
        if now_ns.saturating_sub(since) < limits::STRANGER_TIME.as_nanos() as u64 {
            self.seen.insert(key.into(), since);
        } else {
            self.due.push(key.into());
        }
    }

    /// Ends the reading: the keys to be removed.
    pub fn take_due(&mut self) -> Vec<Box<[u8]>> {
        self.since = std::mem::take(&mut self.seen);
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_go_after_a_while_unless_they_are_somebody_again() {
        let time = limits::STRANGER_TIME.as_nanos() as u64;
        let mut strangers = Strangers::default();
        strangers.observe(b"a", 0);
        strangers.observe(b"b", 0);
        assert!(strangers.take_due().is_empty());
        strangers.observe(b"a", time - 1);
        assert!(strangers.take_due().is_empty());
        strangers.observe(b"a", time);
        strangers.observe(b"b", time);
        assert_eq!(strangers.take_due(), [Box::from(*b"a")]);
        strangers.observe(b"a", time);
        assert!(strangers.take_due().is_empty());
    }
}
