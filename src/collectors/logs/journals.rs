//! Whose the entries of journals are: by the id of the container a runtime has put there, else by the writer's cgroup.

use std::collections::{HashMap, VecDeque};

use crate::containers::{Containers, IdentityId, InstanceId};
use crate::logs::journal::record::{Field, Record};
use crate::logs::level::Level;
use crate::sys::clock::MonotonicNs;

/// Containers by their runtime's id and by their cgroup, those that ended a moment ago among them: their last words come late.
#[derive(Default)]
pub struct Owners {
    by_id: HashMap<Box<str>, Owner>,
    by_root: HashMap<Box<str>, Owner>,
    ended: VecDeque<(MonotonicNs, InstanceId, Box<str>, Box<str>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    identity: IdentityId,
    instance: InstanceId,
    is_unit: bool,
}

impl Owners {
    /// Takes note of an instance and its name.
    pub fn begin(&mut self, containers: &Containers, id: InstanceId) {
        let Some(instance) = containers.instance(id) else { return };
        let Some(identity) = instance.identity else { return };
        let owner = Owner { identity, instance: id, is_unit: instance.runtime.is_unit() };
        self.by_root.insert(instance.path.clone(), owner);
        if !owner.is_unit {
            self.by_id.insert(instance.runtime_id().into(), owner);
        }
    }

    /// The instance has ended: what it has said comes within moments.
    pub fn end_instance(&mut self, containers: &Containers, id: InstanceId, now_ns: MonotonicNs) {
        if let Some(instance) = containers.instance(id) {
            let names = (instance.path.clone(), instance.runtime_id().into());
            self.ended.push_back((now_ns + LAST_WORDS_NS, id, names.0, names.1));
        }
    }

    /// Forgets instances that ended a while ago.
    pub fn forget(&mut self, now_ns: MonotonicNs) {
        while let Some((_, id, root, name)) = self.ended.pop_front_if(|(until_ns, ..)| *until_ns <= now_ns) {
            for (map, key) in [(&mut self.by_root, root), (&mut self.by_id, name)] {
                if map.get(&key).is_some_and(|owner| owner.instance == id) {
                    map.remove(&key);
                }
            }
        }
    }

    /// Forgets a container.
    pub fn end(&mut self, identity: IdentityId) {
        self.by_root.retain(|_, known| known.identity != identity);
        self.by_id.retain(|_, known| known.identity != identity);
    }

    /// Whose an entry is. Anybody can say that an entry is a container's: whoever is in a container himself is not believed.
    pub fn of(&self, containers: &Containers, record: &Record) -> Option<IdentityId> {
        let text = |field| record.field(field).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let by_cgroup = text(Field::SystemdCgroup).and_then(|path| {
            // Most write from their unit's own cgroup.
            self.by_root.get(path).copied().or_else(|| {
                let mut own_id = String::new();
                self.by_root.get(containers.root_of(path, &mut own_id)?).copied()
            })
        });
        let by_id = || text(Field::ContainerIdFull).and_then(|id| self.by_id.get(id)).copied();
        let owner = by_cgroup.filter(|owner| !owner.is_unit).or_else(by_id).or(by_cgroup)?;
        Some(owner.identity)
    }
}

/// How long after the end of a container its entries are its own.
const LAST_WORDS_NS: u64 = 60_000_000_000;

/// The level an entry has if its text does not say. Runtimes have only two priorities, one for each output, which says nothing.
pub fn level_of(record: &Record) -> Level {
    let is_output = record.field(Field::ContainerIdFull).is_some();
    let priority = record.field(Field::Priority).filter(|_| !is_output);
    match priority {
        Some([digit @ b'0'..=b'7']) => Level::of_priority(u32::from(digit - b'0')),
        _ => Level::Unknown,
    }
}
