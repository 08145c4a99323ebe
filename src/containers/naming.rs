//! What instances are called, and where their ports are published: what runtimes have written about them is read in turns.

use std::collections::VecDeque;

use super::identity::{self, Identity, Metadata};
use super::labels::LabelKeys;
use super::rules::Rules;
use super::sweep::Slice;
use super::{Containers, Extra, IdentityId, Instance, InstanceId, Named, classify, runtimes};
use crate::containers::classify::Runtime;
use crate::containers::units::Unit;
use crate::event::Event;
use crate::host::Host;
use crate::limits;
use crate::registry::ConstLabels;
use crate::sys::clock::{self, MonotonicNs};
use crate::warning;

/// The first pause between two reads of an instance's metadata.
const METADATA_PAUSE_NS: u64 = 1_000_000_000;

/// The first pause between two reads of an instance's published ports.
const PORTS_PAUSE_NS: u64 = 3_000_000_000;

impl Instance {
    /// Takes over which ports are published, and decides when to read them again.
    fn take_ports(&mut self, metadata: Option<&Metadata>, now_ns: MonotonicNs) {
        if let Some(metadata) = metadata {
            self.published = metadata.published.as_slice().into();
        }
        let is_known = match metadata {
            // It makes the cgroup first and publishes the ports then. Where there are none, a second look makes sure.
            Some(docker) if docker.source == Runtime::Docker => {
                !docker.starting && (self.port_reads > 0 || !docker.published.is_empty())
            }
            Some(_) => true,
            None => self.port_reads == 0,
        };
        self.port_reads += 1;
        self.awaits_ports = !is_known && self.port_reads < limits::PORT_READS;
        self.next_try_ns = now_ns + u64::from(self.port_reads) * PORTS_PAUSE_NS;
    }
}

impl Containers {
    /// True while new containers are left without a name, because reading what their runtimes say of the others took all the time
    /// of a turn: [`Containers::settle`] is to be called again at once.
    pub fn is_naming(&self) -> bool {
        self.is_naming
    }

    /// Reads for the time of a [`Slice`]: what is read is the users' own, and they may start hundreds of containers at once and
    /// have written a mebibyte for each.
    pub(super) fn name_instances(&mut self, host: &Host, now_ns: MonotonicNs, events: &mut VecDeque<Event>) {
        let mut waiting: Vec<(MonotonicNs, InstanceId)> = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.tries_left > 0 || instance.awaits_ports)
            .filter(|(_, instance)| instance.next_try_ns <= now_ns)
            .map(|(&id, instance)| (instance.next_try_ns, id))
            .collect();
        // New ones first, whose time is 0: what their runtimes have written may be gone soon. Of the others those due longest.
        waiting.sort_unstable();
        let (new, again) = waiting.split_at(waiting.partition_point(|(at, _)| *at == 0));
        let mut slice = Slice::begin();
        self.is_naming = false;
        for &(_, id) in new {
            if !slice.has_room() {
                self.is_naming = true;
                break;
            }
            slice.count();
            self.name(id, host, now_ns, events);
        }
        // One at least, even where new ones come for ever.
        for (done, &(_, id)) in again.iter().take(limits::METADATA_READS_PER_TURN).enumerate() {
            if done > 0 && !slice.has_room() {
                break;
            }
            slice.count();
            self.name(id, host, now_ns, events);
        }
    }

    /// Reads what is known of one instance, and names it.
    fn name(&mut self, id: InstanceId, host: &Host, now_ns: MonotonicNs, events: &mut VecDeque<Event>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let class =
            classify::Class { runtime: instance.runtime, root: &instance.path, id: &instance.runtime_id };
        let rootless = instance.path.starts_with("/user.slice/");
        let read = runtimes::read(host, instance.runtime, &instance.runtime_id, rootless);
        let metadata = read.unwrap_or_else(|problem| {
            warning!("metadata of {}: {problem}", instance.path);
            None
        });
        if instance.tries_left == 0 {
            instance.take_ports(metadata.as_ref(), now_ns);
            return;
        }
        if let Some(metadata) = &metadata {
            instance.log.clone_from(&metadata.log);
        }
        let image = metadata.as_ref().map_or("", |metadata| &metadata.image).to_owned();
        let extra = extra(&self.rules, &self.shown, &instance.path, metadata.as_ref());
        let unit = match instance.runtime {
            Runtime::Systemd => self.units.of_cgroup(host, &instance.path, now_ns),
            _ => Unit::default(),
        };
        let is_skipped = self.skip_system_services
            && instance.runtime == Runtime::Systemd
            && instance.path.rsplit('/').next().is_some_and(|name| unit.is_system_service(name));
        instance.tries_left -= 1;
        // A second, then two, then three: quick while the runtime may be writing, cheap when it never will.
        let tried = limits::METADATA_TRIES - instance.tries_left;
        instance.next_try_ns = now_ns + u64::from(tried) * METADATA_PAUSE_NS;
        let (name, final_) = match identity::container_id(&class, metadata.as_ref(), clock::wall_s()) {
            Identity::Named(name) => (Some(name), true),
            Identity::Provisional(name) => (Some(name), false),
            Identity::Ignored => (None, true),
        };
        // Nobody can write the metadata of a container that is gone, or of one whose tries are used up.
        if final_ || !instance.is_alive() {
            instance.tries_left = 0;
        }
        let old = instance.identity;
        // Each name stands for itself: a provisional one says nothing of the final one. That one stays, so a container crosses
        // the line at most once, and no counter of it begins twice under one name.
        let name = name.filter(|name| !is_skipped && self.filter.keeps(name));
        if name.is_some() && final_ && instance.is_alive() {
            instance.take_ports(metadata.as_ref(), now_ns);
        }
        let new = name.map(|name| self.identity_named(&name, &image));
        self.describe(new, unit, extra);
        if new == old {
            return;
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.identity = new;
        let alive = instance.is_alive();
        self.count_instance(old, new, alive, now_ns);
        events.push_back(match (old, new) {
            (_, None) => Event::InstanceEnded(id),
            (None, Some(_)) => Event::InstanceStarted(id),
            (Some(_), Some(_)) => Event::InstanceRenamed(id),
        });
    }

    /// Moves one instance from the count of one identity to that of another.
    fn count_instance(
        &mut self,
        old: Option<IdentityId>,
        new: Option<IdentityId>,
        alive: bool,
        now_ns: MonotonicNs,
    ) {
        if let Some(named) = old.and_then(|id| self.identities.get_mut(&id)) {
            named.instances = named.instances.saturating_sub(u32::from(alive));
            if named.instances == 0 {
                named.ended_ns.get_or_insert(now_ns);
            }
        }
        if let Some(named) = new.and_then(|id| self.identities.get_mut(&id)) {
            named.instances += u32::from(alive);
            named.ended_ns = (named.instances == 0).then_some(now_ns);
        }
    }

    fn identity_named(&mut self, name: &str, image: &str) -> IdentityId {
        if let Some(&id) = self.by_name.get(name) {
            if let Some(named) = self.identities.get_mut(&id).filter(|_| !image.is_empty()) {
                named.image = image.into();
            }
            return id;
        }
        self.next += 1;
        let id = IdentityId(self.next);
        self.by_name.insert(name.into(), id);
        let mut named = Named {
            id: name.into(),
            image: image.into(),
            unit: Unit::default(),
            extra: Extra::default(),
            labels: ConstLabels::default(),
            info: ConstLabels::default(),
            instances: 0,
            ended_ns: None,
        };
        named.set_labels(&self.labels);
        self.identities.insert(id, named);
        id
    }

    /// Takes note of what there is to say in `container_info`.
    fn describe(&mut self, identity: Option<IdentityId>, unit: Unit, extra: Extra) {
        let Some(named) = identity.and_then(|id| self.identities.get_mut(&id)) else { return };
        named.unit = unit;
        if named.extra != extra {
            named.extra = extra;
            named.set_labels(&self.labels);
        }
    }
}

/// The labels for `container_info` of the container at `path`: those of rules, then those of its own that are shown.
fn extra(rules: &Rules, shown: &LabelKeys, path: &str, metadata: Option<&Metadata>) -> Extra {
    let mut extra: Vec<(Box<str>, Box<str>)> = Vec::new();
    rules.labels(path, |name, value| {
        if !value.is_empty() && extra.iter().all(|(known, _)| **known != *name) {
            extra.push((name.into(), value.into()));
        }
    });
    let own = metadata.into_iter().flat_map(|metadata| shown.of(metadata));
    extra.extend(own.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.into(), value.into())));
    extra.into()
}
