//! Whose the entries of journals are: by the id of the container a runtime has put there, else by the writer's cgroup.

use std::collections::HashMap;

use crate::containers::{Containers, IdentityId, InstanceId};
use crate::logs::journal::record::{Field, Record};
use crate::logs::level::Level;

/// Containers by their runtime's id and by their cgroup, those that ended a while ago among them: their last words come late.
#[derive(Default)]
pub struct Owners {
    by_id: HashMap<Box<str>, IdentityId>,
    by_root: HashMap<Box<str>, IdentityId>,
}

impl Owners {
    /// Takes note of an instance and its name.
    pub fn begin(&mut self, containers: &Containers, id: InstanceId) {
        let Some(instance) = containers.instance(id) else { return };
        let Some(identity) = instance.identity else { return };
        self.by_root.insert(instance.path.clone(), identity);
        self.by_id.insert(instance.runtime_id().into(), identity);
    }

    /// Forgets a container.
    pub fn end(&mut self, identity: IdentityId) {
        self.by_root.retain(|_, known| *known != identity);
        self.by_id.retain(|_, known| *known != identity);
    }

    /// Whose an entry is.
    pub fn of(&self, containers: &Containers, record: &Record) -> Option<IdentityId> {
        let text = |field| record.field(field).and_then(|bytes| std::str::from_utf8(bytes).ok());
        if let Some(id) = text(Field::ContainerIdFull) {
            return self.by_id.get(id).copied();
        }
        let path = text(Field::SystemdCgroup)?;
        // Most write from their unit's own cgroup.
        self.by_root.get(path).copied().or_else(|| {
            let mut own_id = String::new();
            self.by_root.get(containers.root_of(path, &mut own_id)?).copied()
        })
    }
}

/// The level an entry has if its text does not say. Runtimes have only two priorities, one for each output, which says nothing.
pub fn level_of(record: &Record) -> Level {
    let is_output = record.field(Field::ContainerIdFull).is_some();
    let priority = record.field(Field::Priority).filter(|_| !is_output);
    match priority {
        Some([digit @ b'0'..=b'7']) => Level::of_priority(u32::from(digit - b'0')),
        _ => Level::Unknown,
    }
}
