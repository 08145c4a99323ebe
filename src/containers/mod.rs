//! The containers of this node: which cgroups there are, which of them are containers, and what those are called.
//!
//! An *instance* is one cgroup path with its directories in one or more hierarchies, from its creation to its removal. An
//! *identity* is what people call it (`/docker/web`, `/system.slice/nginx.service`): a restarted service or a recreated
//! container is a new instance of an old identity, and for a while both may exist.

pub mod classify;
pub mod filter;
pub mod hierarchies;
pub mod identity;
pub mod labels;
pub mod ledger;
pub mod mounts;
mod naming;
pub mod owners;
pub mod paths;
pub mod rules;
pub mod runtimes;
pub mod sweep;
#[cfg(test)]
pub(crate) mod test;
pub mod units;
pub mod walk;
pub mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;
use std::time::Duration;

use crate::event::Event;
use crate::host::Host;
use crate::limits;
use crate::memory::{self, Growing, Use};
use crate::registry::ConstLabels;
use crate::sys::clock::MonotonicNs;
use classify::Runtime;
use filter::Filter;
use hierarchies::Place;
use identity::LogFile;
use labels::LabelKeys;
use owners::CgroupIds;
use rules::Rules;
use units::{Unit, Units};

/// An instance's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(u32);

impl InstanceId {
    /// Some time below `period`, in nanoseconds, another for each of neighbouring instances: what is due for all of them now and
    /// then is not due for all at once.
    pub fn phase_ns(self, period: Duration) -> u64 {
        let share = u64::from(self.0.wrapping_mul(0x9e37_79b1));
        // Scaled down before, so that the product of 32 bits and a period of minutes fits.
        (share * (period.as_nanos() as u64 >> 10)) >> 22
    }
}

#[cfg(test)]
impl InstanceId {
    /// One that no container has.
    pub fn for_test(number: u32) -> InstanceId {
        InstanceId(number)
    }
}

/// An identity's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(u32);

/// How long a removed cgroup can still be asked for: longer than any source lags behind.
const RETENTION_NS: u64 = 60_000_000_000;

/// One life of a container's cgroup.
#[derive(Debug)]
pub struct Instance {
    /// Path below each hierarchy's mount, with the leading slash.
    pub path: Box<str>,
    /// Who runs it.
    pub runtime: Runtime,
    /// What it is called now; `None` for what is never exported: pause containers, and what the filter leaves out. Its cgroups
    /// are known all the same, so that what they did is not taken for another container's.
    pub identity: Option<IdentityId>,
    /// The runtime's id for it.
    runtime_id: Box<str>,
    /// Ids of its own directory in each place, 0 where it has none (yet).
    roots: [u64; Place::ALL.len()],
    /// Which of those directories exist.
    alive: u8,
    ended_ns: Option<MonotonicNs>,
    /// Reads of its metadata left before a provisional name stays, and when the next one is due.
    tries_left: u32,
    next_try_ns: MonotonicNs,
    /// Where its runtime writes what it says, if that is a file.
    pub log: Option<LogFile>,
    published: Box<[SocketAddr]>,
    /// Reads of its published ports so far, and whether there is to be another.
    port_reads: u32,
    awaits_ports: bool,
}

impl Instance {
    /// False once all its directories are gone.
    pub fn is_alive(&self) -> bool {
        self.ended_ns.is_none()
    }

    /// Whether it has a directory in `place`.
    pub fn is_in(&self, place: Place) -> bool {
        self.alive & 1 << place as u8 != 0
    }

    /// Its runtime's id for it: 64 digits, or a name.
    pub fn runtime_id(&self) -> &str {
        &self.runtime_id
    }

    /// True until its metadata have been looked for.
    fn is_new(&self) -> bool {
        self.tries_left == limits::METADATA_TRIES
    }

    /// The addresses of the host at which its TCP ports are published, as its runtime says; every address of the host where one
    /// is unspecified (`0.0.0.0`, `::`). Known some seconds after its start, since docker writes them down at the end of that.
    pub fn published(&self) -> &[SocketAddr] {
        &self.published
    }
}

/// What a container is called, for as long as it or its counters live.
#[derive(Debug)]
pub struct Named {
    /// Label `container_id`.
    pub id: Box<str>,
    /// Label `image` of `container_info`; empty when unknown.
    pub image: Box<str>,
    /// What systemd's files say of it, if it is a unit.
    pub unit: Unit,
    /// Labels that users want in `container_info`.
    extra: Extra,
    /// The constant labels with those.
    info: ConstLabels,
    /// The constant labels of its series.
    pub labels: ConstLabels,
    /// Living instances.
    instances: u32,
    ended_ns: Option<MonotonicNs>,
}

/// Names and values of labels.
type Extra = Box<[(Box<str>, Box<str>)]>;

impl Named {
    /// The constant labels of `container_info`, if there is anything to say in it.
    pub fn info(&self) -> Option<&ConstLabels> {
        let is_known = !self.image.is_empty() || !self.unit.kind.is_empty() || !self.extra.is_empty();
        is_known.then_some(&self.info)
    }

    fn set_labels(&mut self, all: &ConstLabels) {
        self.labels = all.with(&[("container_id", &self.id), ("app_id", &identity::app_id(&self.id))]);
        let extra: Vec<(&str, &str)> = self.extra.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.info = self.labels.with(&extra);
    }
}

/// All containers.
#[derive(Debug)]
pub struct Containers {
    instances: BTreeMap<InstanceId, Instance>,
    identities: BTreeMap<IdentityId, Named>,
    by_path: HashMap<Box<str>, InstanceId>,
    by_name: HashMap<Box<str>, IdentityId>,
    cgroups: HashMap<(Place, u64), InstanceId>,
    /// Paths of all cgroups of the v2 hierarchy, if somebody wants them.
    pub paths: paths::CgroupPaths,
    /// Instances that ended since the collectors were told last.
    ended: Vec<InstanceId>,
    /// Some are new still, for want of time.
    is_naming: bool,
    growing: Growing,
    /// Cgroups removed, to be forgotten at a time.
    leaving: VecDeque<(MonotonicNs, Place, u64)>,
    next: u32,
    linger_ns: u64,
    /// The labels that all have.
    labels: ConstLabels,
    filter: Filter,
    /// Containers of the user's own.
    pub rules: Rules,
    /// Which of the containers' labels are shown.
    shown: LabelKeys,
    units: Units,
    skip_system_services: bool,
    /// Cgroups and containers not taken in because of a cap, and whether a walk might find them again.
    refused: u64,
    has_missed: bool,
}

impl Containers {
    /// No containers yet. Each will have `labels`; counters of a dead one stay for `linger`.
    pub fn new(labels: ConstLabels, linger: Duration) -> Containers {
        Containers {
            instances: BTreeMap::new(),
            identities: BTreeMap::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            cgroups: HashMap::new(),
            paths: paths::CgroupPaths::default(),
            ended: Vec::new(),
            is_naming: false,
            growing: Growing::default(),
            leaving: VecDeque::new(),
            next: 0,
            linger_ns: u64::try_from(linger.as_nanos()).unwrap_or(u64::MAX),
            labels,
            filter: Filter::default(),
            rules: Rules::default(),
            shown: LabelKeys::default(),
            units: Units::default(),
            skip_system_services: false,
            refused: 0,
            has_missed: false,
        }
    }

    /// Exports only containers that `filter` keeps.
    pub fn filtered(mut self, filter: Filter) -> Containers {
        self.filter = filter;
        self
    }

    /// Shows the labels `shown` of containers, and leaves systemd's own services out if told so.
    pub fn labelled(mut self, shown: LabelKeys, skip_system_services: bool) -> Containers {
        self.shown = shown;
        self.skip_system_services = skip_system_services;
        self
    }

    /// Changes the labels that all have.
    pub fn set_labels(&mut self, labels: ConstLabels) {
        self.labels = labels;
        for named in self.identities.values_mut() {
            named.set_labels(&self.labels);
        }
    }

    /// Living instances that have an identity.
    pub fn living(&self) -> impl Iterator<Item = (InstanceId, &Instance, &Named)> {
        self.instances
            .iter()
            .filter(|(_, instance)| instance.is_alive())
            .filter_map(|(&id, instance)| Some((id, instance, self.identities.get(&instance.identity?)?)))
    }

    /// Living instances that have an identity, those behind `done` in the order they were met.
    pub fn living_after(&self, done: Option<InstanceId>) -> impl Iterator<Item = (InstanceId, IdentityId)> {
        let from = done.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.instances.range((from, Bound::Unbounded));
        behind
            .filter(|(_, instance)| instance.is_alive())
            .filter_map(|(&id, instance)| Some((id, instance.identity?)))
            .filter(|(_, identity)| self.identities.contains_key(identity))
    }

    /// An instance, alive or not long gone.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// An identity whose counters are still exported.
    pub fn identity(&self, id: IdentityId) -> Option<&Named> {
        self.identities.get(&id)
    }

    /// The instance a cgroup belongs to, by the id of its directory; also of one not long gone.
    pub fn of_cgroup(&self, place: Place, id: u64) -> Option<InstanceId> {
        self.cgroups.get(&(place, id)).copied()
    }

    /// The container's own cgroup of which `path` is a part, `None` for what is no container's; `id` is room for a rule's id.
    pub fn root_of<'a>(&self, path: &'a str, id: &'a mut String) -> Option<&'a str> {
        self.rules.classify(path, id).map(|class| class.root)
    }

    /// The instance a task in these cgroups belongs to, given by place, 0 where it is in none but the root: the first known one,
    /// most preferred place first. A unit only if there is nothing else: on hybrid hosts runtimes leave the tasks of containers
    /// in v2 where the runtime's own service is.
    pub fn of_task(&self, ids: &CgroupIds) -> Option<InstanceId> {
        let known = || Place::ALL.into_iter().zip(ids).filter_map(|(place, &id)| self.of_cgroup(place, id));
        known().find(|&id| !self.is_unit(id)).or_else(|| known().next())
    }

    /// True while the container's cgroup exists.
    pub fn is_alive(&self, id: InstanceId) -> bool {
        self.instance(id).is_some_and(Instance::is_alive)
    }

    /// True for a unit of systemd, which may turn out to be a container's runtime once the container is known.
    pub fn is_unit(&self, id: InstanceId) -> bool {
        self.instance(id).is_some_and(|instance| instance.runtime.is_unit())
    }

    /// The instance whose own directory this is; `None` for one below it.
    pub fn of_root(&self, place: Place, id: u64) -> Option<InstanceId> {
        self.of_cgroup(place, id)
            .filter(|owner| self.instances.get(owner).is_some_and(|known| known.roots[place as usize] == id))
    }

    /// Cgroups of containers that are known.
    pub fn cgroup_count(&self) -> usize {
        self.cgroups.len()
    }

    /// Cgroups not taken in because of a cap.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Has the paths of all cgroups below `mount`, the v2 hierarchy's directory, remembered from the next walk on.
    pub fn want_paths(&mut self, mount: &str) {
        self.paths.want(mount);
    }

    /// True once, when something was refused and there is room again, or paths are wanted now: time for a walk.
    pub fn take_missed(&mut self) -> bool {
        let paths = self.paths.take_missed();
        let room = self.cgroups.len() < limits::CGROUPS / 8 * 7
            && self.instances.len() < limits::CONTAINERS / 8 * 7
            && memory::has_recovered();
        paths || room && std::mem::take(&mut self.has_missed)
    }

    /// Takes note of the cgroup `path` with directory id `id` in `place`. `root_id` finds the id of the container's own
    /// directory when `path` lies below it and the container is not known yet.
    pub fn appeared(
        &mut self,
        place: Place,
        id: u64,
        path: &str,
        root_id: impl Fn(&str) -> Option<u64>,
        now_ns: MonotonicNs,
    ) {
        if place == Place::V2 && !self.paths.appeared(id, path) {
            self.refused += 1;
        }
        if self.cgroups.contains_key(&(place, id)) {
            return;
        }
        let mut own_id = String::new();
        let Some(class) = self.rules.classify(path, &mut own_id) else {
            return;
        };
        let full = self.cgroups.len() >= limits::CGROUPS || self.instances.len() >= limits::CONTAINERS;
        if full || !memory::admits(Use::Keys) {
            self.refused += 1;
            self.has_missed = true;
            return;
        }
        let own = (class.root.len() == path.len()).then_some(id);
        let known = self.by_path.get(class.root).copied();
        let instance = match (known, own) {
            // The directory was removed and made again: the old instance ends although another of its directories may linger.
            // News can be older than a walk, so the directory that is there now decides.
            (Some(old), Some(id))
                if self.is_replaced(old, place, id) && root_id(class.root).is_none_or(|now| now == id) =>
            {
                self.end(old, now_ns);
                self.begin(class.root, class.runtime, class.id, now_ns)
            }
            (Some(known), _) => known,
            (None, _) => self.begin(class.root, class.runtime, class.id, now_ns),
        };
        let is_stale = own.is_some() && self.is_replaced(instance, place, id);
        let own = own.filter(|_| !is_stale);
        if let Some(root) = own.or_else(|| known.is_none().then(|| root_id(class.root)).flatten()) {
            self.cgroups.insert((place, root), instance);
            if let Some(instance) = self.instances.get_mut(&instance) {
                instance.roots[place as usize] = root;
                instance.alive |= 1 << place as u8;
            }
        }
        self.cgroups.insert((place, id), instance);
        // News of a child that arrives when the container is gone: known for attribution, but not alive.
        if self.instances.get(&instance).is_some_and(|instance| instance.alive == 0) {
            self.leaving.push_back((now_ns + RETENTION_NS, place, id));
            self.end(instance, now_ns);
        }
    }

    fn is_replaced(&self, instance: InstanceId, place: Place, id: u64) -> bool {
        let root = self.instances.get(&instance).map_or(0, |instance| instance.roots[place as usize]);
        root != 0 && root != id
    }

    fn begin(&mut self, path: &str, runtime: Runtime, runtime_id: &str, now_ns: MonotonicNs) -> InstanceId {
        self.growing.begin(now_ns);
        self.next += 1;
        let id = InstanceId(self.next);
        self.by_path.insert(path.into(), id);
        let instance = Instance {
            path: path.into(),
            runtime,
            identity: None,
            runtime_id: runtime_id.into(),
            roots: [0; Place::ALL.len()],
            alive: 0,
            ended_ns: None,
            tries_left: limits::METADATA_TRIES,
            next_try_ns: 0,
            log: None,
            published: Box::default(),
            port_reads: 0,
            awaits_ports: false,
        };
        self.instances.insert(id, instance);
        id
    }

    /// Takes note that the directory with `id` is gone from `place`.
    pub fn removed(&mut self, place: Place, id: u64, now_ns: MonotonicNs) {
        if place == Place::V2 {
            self.paths.removed(id, now_ns);
        }
        let Some(&owner) = self.cgroups.get(&(place, id)) else {
            return;
        };
        self.leaving.push_back((now_ns + RETENTION_NS, place, id));
        let Some(instance) = self.instances.get_mut(&owner) else {
            return;
        };
        if instance.roots[place as usize] == id {
            instance.alive &= !(1 << place as u8);
            if instance.alive == 0 {
                self.end(owner, now_ns);
            }
        }
    }

    /// Compares what is known with what a walk of `place` found (ids, sorted), and removes the rest. `is_cut`: the walk left
    /// out what was too deep.
    pub fn keep_only(&mut self, place: Place, found: &[u64], is_cut: bool, now_ns: MonotonicNs) {
        if place == Place::V2 {
            self.paths.keep_only(found, is_cut, now_ns);
        }
        let gone: Vec<u64> = self
            .cgroups
            .iter()
            .filter(|((known_place, id), owner)| {
                *known_place == place
                    && found.binary_search(id).is_err()
                    && self.instances.get(owner).is_some_and(Instance::is_alive)
            })
            .map(|((_, id), _)| *id)
            .collect();
        for id in gone {
            self.removed(place, id, now_ns);
        }
    }

    fn end(&mut self, id: InstanceId, now_ns: MonotonicNs) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if instance.ended_ns.is_some() {
            return;
        }
        instance.ended_ns = Some(now_ns);
        let alive = std::mem::take(&mut instance.alive);
        instance.awaits_ports = false;
        self.ended.push(id);
        if self.by_path.get(&instance.path) == Some(&id) {
            self.by_path.remove(&instance.path);
        }
        for (place, &root) in Place::ALL.into_iter().zip(&instance.roots) {
            // The others leave already.
            if alive & 1 << place as u8 != 0 {
                self.leaving.push_back((now_ns + RETENTION_NS, place, root));
            }
        }
        if let Some(named) = instance.identity.and_then(|identity| self.identities.get_mut(&identity)) {
            named.instances = named.instances.saturating_sub(1);
            if named.instances == 0 {
                named.ended_ns = Some(now_ns);
            }
        }
    }

    /// Finds names for instances that have none or a provisional one and published ports for those that may get some, and forgets
    /// what has been gone for long enough. What takes too long for one turn is left ([`Containers::is_naming`]).
    pub fn settle(&mut self, host: &Host, now_ns: MonotonicNs, events: &mut VecDeque<Event>) {
        self.name_instances(host, now_ns, events);
        for id in std::mem::take(&mut self.ended) {
            match self.instances.get_mut(&id) {
                // Its end is told once it has a name.
                Some(instance) if instance.is_new() => {
                    self.ended.push(id);
                    continue;
                }
                // Who was told of the end is not to hear of a new name, which would begin it anew.
                Some(instance) => instance.tries_left = 0,
                None => {}
            }
            events.push_back(Event::InstanceEnded(id));
        }
        if self.paths.has_changes() {
            events.push_back(Event::CgroupsChanged);
        }
        self.paths.forget(now_ns);
        self.forget(now_ns, events);
    }

    fn forget(&mut self, now_ns: MonotonicNs, events: &mut VecDeque<Event>) {
        self.growing.settle(now_ns);
        while let Some((_, place, id)) = self.leaving.pop_front_if(|(at, ..)| *at <= now_ns) {
            self.cgroups.remove(&(place, id));
        }
        let known = self.instances.len();
        self.instances.retain(|_, instance| instance.ended_ns.is_none_or(|at| at + RETENTION_NS > now_ns));
        if self.instances.len() < known {
            // Directories below the container's own whose removal nobody reported.
            self.cgroups.retain(|_, owner| self.instances.contains_key(owner));
        }
        let ended: Vec<IdentityId> = self
            .identities
            .iter()
            .filter(|(_, named)| named.ended_ns.is_some_and(|at| at.saturating_add(self.linger_ns) <= now_ns))
            .map(|(&id, _)| id)
            .collect();
        for id in ended {
            if let Some(named) = self.identities.remove(&id) {
                self.by_name.remove(&named.id);
                events.push_back(Event::IdentityEnded(id));
            }
        }
    }
}
