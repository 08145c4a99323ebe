//! The numbers of the kernel's counts: whose they are, what of them is exported, and when they are given back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::kernel::Kernel;
use super::layout::{Counts, Destination, Living, Mark};
use super::peers::Peers;
use super::total::{Actual, Target, Total, Values, measured_address};
pub use crate::containers::owners::instance_of;
use crate::containers::{Containers, IdentityId, InstanceId};
use crate::error::Result;
use crate::limits;
use crate::memory::{self, Use};
use crate::sys::clock::MonotonicNs;

/// How long a number whose key is removed is kept at least: no program that found it before that still runs then.
const GRACE_NS: u64 = 1_000_000_000;

/// The tasks of one set of cgroups that have connected.
#[derive(Debug)]
struct Owner {
    /// `struct cgroup_ids`, its key in the kernel.
    key: Box<[u8]>,
    /// The container, once it is known.
    instance: Option<InstanceId>,
    /// Numbers that are its, the one of `~other` included.
    numbers: u32,
    /// Keys of destinations it has lost.
    removed: u32,
    /// Attempts and ends of all its numbers, as read last, and since when it is that.
    activity: u64,
    unchanged_ns: MonotonicNs,
    state: OwnerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Present,
    /// Nobody will miss it; it goes if the next read finds it unchanged.
    Idle,
    /// Its keys are removed.
    Removed,
}

/// A number in use.
#[derive(Debug)]
struct Entry {
    owner: u64,
    target: Target,
    counts: Counts,
    living: Living,
    /// What of it was exported, or what was there when nobody wanted it.
    counted: Values,
    attempts: u64,
    failures: u64,
    /// Attempts as read last, attributed or not, and since when it is that.
    read_attempts: u64,
    attempted_ns: MonotonicNs,
    /// Counts into `~other` because its container has too many destinations already.
    folded: bool,
    /// Since when its key is removed.
    leaving_ns: Option<MonotonicNs>,
}

impl Entry {
    fn new(owner: u64, target: Target, now_ns: MonotonicNs) -> Entry {
        Entry {
            owner,
            target,
            counts: Counts::default(),
            living: Living::default(),
            counted: Values::default(),
            attempts: 0,
            failures: 0,
            read_attempts: 0,
            attempted_ns: now_ns,
            folded: false,
            leaving_ns: None,
        }
    }

    fn values(&self) -> Values {
        Values {
            successes: self.counts.successes,
            connect_ns: self.counts.connect_ns,
            sent: self.counts.sent + self.living.sent,
            received: self.counts.received + self.living.received,
            retransmits: self.counts.retransmits + self.living.retransmits,
        }
    }
}

/// All numbers in use, and what came of them.
#[derive(Debug, Default)]
pub struct Table {
    owners: HashMap<u64, Owner>,
    entries: Vec<Option<Entry>>,
    /// What is exported.
    pub totals: BTreeMap<(IdentityId, Target), Total>,
    /// What owners beyond the kernel's cap have done; there once there was one.
    pub stray: Option<Total>,
    /// The smallest round trip of a container to an address in the last minute, in microseconds.
    pub latencies: BTreeMap<(IdentityId, IpAddr), u32>,
    /// Attempts of containers counted into `~other`.
    pub overflow: u64,
    /// Keys of destinations in the kernel.
    pub destinations: u64,
    /// There are connections over loopback of containers nobody knows the network namespace of.
    pub is_unplaced: bool,
    /// Keys whose owner was not known in the last read.
    orphans: HashSet<(u64, Destination)>,
}

impl Table {
    /// Reads the kernel's tables: who connected, and what they did.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(
        &mut self,
        kernel: &mut Kernel,
        peers: &mut Peers,
        containers: &Containers,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        self.learn(kernel, containers, now_ns)?;
        let count = self.entries.len() as u32;
        // Counts of ended connections first: one that ends now is then missing for a moment instead of being there twice.
        kernel.each_counts(count, |number, counts| {
            if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
                (entry.counts, entry.living) = (counts, Living::default());
                if counts.attempts != entry.read_attempts {
                    (entry.read_attempts, entry.attempted_ns) = (counts.attempts, now_ns);
                }
            }
        })?;
        let is_nat_in_use = peers.is_nat_in_use();
        peers.begin_round(now_ns);
        kernel.each_living(
            count,
            is_nat_in_use,
            |connection| peers.observe(&connection),
            |number, living| {
                if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
                    entry.living = living;
                }
            },
        )
    }

    /// Finds out what the numbers in use stand for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn learn(&mut self, kernel: &mut Kernel, containers: &Containers, now_ns: MonotonicNs) -> Result<()> {
        self.learn_owners(kernel, containers, now_ns)?;
        self.learn_destinations(kernel, now_ns)
    }

    fn learn_owners(
        &mut self,
        kernel: &mut Kernel,
        containers: &Containers,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        if self.entries.is_empty() {
            self.entries.push(Some(Entry::new(0, None, now_ns)));
            kernel.mark(0, Mark::Same)?;
        }
        let mut new = Vec::new();
        kernel.each_owner(|key, owner| {
            let known = self.owners.entry(owner.id).or_insert_with(|| {
                new.push(owner);
                Owner {
                    key: key.into(),
                    instance: None,
                    numbers: 1,
                    removed: 0,
                    activity: 0,
                    unchanged_ns: now_ns,
                    state: OwnerState::Present,
                }
            });
            // A unit may turn out to be a container's runtime, once the container is known.
            if known.instance.is_none_or(|id| containers.is_unit(id)) {
                known.instance = instance_of(containers, key).or(known.instance);
            }
        })?;
        for owner in new {
            self.put(owner.other, Entry::new(owner.id, None, now_ns));
            kernel.mark(owner.other, Mark::Same)?;
        }
        Ok(())
    }

    fn learn_destinations(&mut self, kernel: &mut Kernel, now_ns: MonotonicNs) -> Result<()> {
        let mut orphans = HashSet::new();
        let mut left_over = Vec::new();
        let mut count = 0;
        kernel.each_destination(|owner, destination, number| {
            count += 1;
            if matches!(self.entries.get(number as usize), Some(Some(_))) {
                return;
            }
            match self.owners.get_mut(&owner) {
                Some(owner) if owner.state != OwnerState::Removed => owner.numbers += 1,
                // Made after the owners were read; or left over, if it is still so next time.
                _ if !self.orphans.contains(&(owner, destination)) => {
                    orphans.insert((owner, destination));
                    return;
                }
                known => {
                    left_over.push((owner, destination, number));
                    if let Some(owner) = known {
                        owner.numbers += 1;
                    }
                }
            }
            self.put(number, Entry::new(owner, Some(destination), now_ns));
        })?;
        self.destinations = count;
        self.orphans = orphans;
        for (owner, destination, number) in left_over {
            // What cannot be removed now is found again, as one that is not there.
            if let Err(error) = kernel.remove_destination(owner, destination) {
                self.entries[number as usize] = None;
                return Err(error);
            }
            if let Some(Some(entry)) = self.entries.get_mut(number as usize) {
                entry.leaving_ns = Some(now_ns);
            }
        }
        Ok(())
    }

    fn put(&mut self, number: u32, entry: Entry) {
        let at = number as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        self.entries[at] = Some(entry);
    }

    /// What a number stands for, if that is known.
    pub fn target(&self, number: u32) -> Option<Target> {
        Some(self.entries.get(number as usize)?.as_ref()?.target)
    }

    /// Adds what was counted since the last time to the identities that containers have now. Gives how many connections
    /// nobody could say the peer of. Where `at_home` is given, connections over loopback count only for instances that are in the
    /// host's network namespace.
    pub fn attribute(
        &mut self,
        peers: &mut Peers,
        containers: &Containers,
        at_home: Option<&HashMap<InstanceId, bool>>,
        now_ns: MonotonicNs,
    ) -> u64 {
        let mut unresolved = 0;
        self.is_unplaced = false;
        self.latencies.clear();
        for split in self.totals.values_mut().chain(&mut self.stray).flat_map(|total| &mut total.splits) {
            split.active = 0;
        }
        let numbered = (0..).zip(&mut self.entries);
        for (number, entry) in numbered.filter_map(|(number, entry)| Some((number, entry.as_mut()?))) {
            let attempts = entry.counts.attempts.saturating_sub(entry.attempts);
            let owner = self.owners.get(&entry.owner);
            let instance = owner.and_then(|owner| containers.instance(owner.instance?));
            let identity = instance.and_then(|instance| instance.identity);
            // Where counters have ended already, what is counted now would stay for ever.
            let identity = identity.filter(|&identity| containers.identity(identity).is_some());
            if let (Some(at_home), Some(id)) = (at_home, owner.and_then(|owner| owner.instance))
                && entry.target.is_some_and(|target| target.address.is_loopback())
            {
                // Whoever is gone before anybody looked is taken to have been there.
                let is_gone = instance.is_none_or(|instance| !instance.is_alive());
                let known = at_home.get(&id).copied();
                self.is_unplaced |= known.is_none() && !is_gone;
                if !known.unwrap_or(is_gone) {
                    continue;
                }
            }
            let total = match identity {
                _ if number == 0 && entry.counts.attempts == 0 => continue,
                _ if number == 0 => self.stray.get_or_insert_with(|| Total::new(None, now_ns)),
                None => continue,
                Some(identity) => {
                    if !entry.folded && !self.totals.contains_key(&(identity, entry.target)) {
                        // Its series has ended, and there is nothing new. There is where a container goes by another name
                        // since its connections were made.
                        let is_idle = attempts == 0 && entry.counts.active() == 0;
                        if is_idle && entry.values().minus(entry.counted).is_zero() {
                            continue;
                        }
                        let mine = (identity, None)..=(identity, Some(Destination::LAST));
                        let count = self.totals.range(mine).count();
                        entry.folded = entry.target.is_some()
                            && (count >= limits::TCP_DESTINATIONS_PER_IDENTITY || !memory::admits(Use::Keys));
                    }
                    let target = if entry.folded { None } else { entry.target };
                    self.totals.entry((identity, target)).or_insert_with(|| Total::new(target, now_ns))
                }
            };
            let values = entry.values();
            let growth = values.minus(entry.counted);
            entry.counted = entry.counted.most(values);
            total.failures += entry.counts.failures.saturating_sub(entry.failures);
            entry.failures = entry.counts.failures;
            entry.attempts = entry.counts.attempts;
            if attempts > 0 {
                total.attempted_ns = now_ns;
            }
            if entry.target.is_none() || entry.folded {
                self.overflow += attempts;
            }
            // What is beyond a cap has many peers.
            let is_other = entry.target.is_none() || entry.folded;
            if is_other && !growth.is_zero() {
                let split = total.split(Actual::Other, now_ns);
                split.values = split.values.plus(growth);
            } else if !is_other {
                unresolved += peers.distribute(number, growth, total, now_ns);
            }
            let Some(instance) = instance.filter(|instance| instance.is_alive()) else {
                // A gauge of what is dead would be nothing but the last value.
                if number == 0 {
                    total.splits[0].active = entry.counts.active();
                }
                continue;
            };
            if is_other {
                total.splits[0].active += entry.counts.active();
                continue;
            }
            peers.distribute_active(number, entry.counts.active(), total, now_ns);
            let ended = entry.counts.rtt_us(now_ns);
            let rtt_us = ended.into_iter().chain(Some(entry.living.rtt_us).filter(|&us| us > 0)).min();
            peers.each_rtt(number, rtt_us, now_ns, |actual, us| {
                let address = measured_address(entry.target, actual);
                if let (Some(identity), Some(address)) = (instance.identity, address) {
                    let least = self.latencies.entry((identity, address)).or_insert(us);
                    *least = us.min(*least);
                }
            });
        }
        unresolved
    }

    /// Ends series nothing was tried for in ten minutes, and gives back numbers that nothing can change any more: those of
    /// idle destinations, of dead containers without sockets, and of what is no container, so that nobody misses it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn release(
        &mut self,
        kernel: &Kernel,
        peers: &mut Peers,
        containers: &Containers,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let idle_ns = limits::TCP_DESTINATION_IDLE.as_nanos() as u64;
        self.totals.retain(|(_, target), total| {
            target.is_none() || total.active() > 0 || now_ns.saturating_sub(total.attempted_ns) < idle_ns
        });
        self.totals.values_mut().for_each(|total| total.forget_idle(idle_ns, now_ns));
        self.release_owners(kernel, containers, now_ns)?;
        let mut given_back = HashSet::new();
        for number in 0..self.entries.len() {
            let Some(entry) = self.entries[number].as_mut().filter(|_| number > 0) else {
                continue;
            };
            let settled = entry.counts.is_settled();
            match (entry.leaving_ns, entry.target) {
                (Some(since_ns), _) if settled && now_ns.saturating_sub(since_ns) >= GRACE_NS => {
                    self.give_back(number, kernel)?;
                    given_back.insert(number as u32);
                }
                (None, Some(target)) if settled && now_ns.saturating_sub(entry.attempted_ns) >= idle_ns => {
                    kernel.remove_destination(entry.owner, target)?;
                    entry.leaving_ns = Some(now_ns);
                    if let Some(owner) = self.owners.get_mut(&entry.owner) {
                        owner.removed += 1;
                        kernel.note_removed(entry.owner, owner.removed)?;
                    }
                }
                _ => {}
            }
        }
        peers.forget(&given_back);
        Ok(())
    }

    fn give_back(&mut self, number: usize, kernel: &Kernel) -> Result<()> {
        kernel.give_back(number as u32)?;
        let entry = self.entries[number].take();
        if let Some(id) = entry.map(|entry| entry.owner)
            && let Some(owner) = self.owners.get_mut(&id)
        {
            owner.numbers -= 1;
            if owner.numbers == 0 {
                self.owners.remove(&id);
            }
        }
        Ok(())
    }

    /// Removes the keys of owners nobody will miss. In two steps, so that what changed in between is seen.
    fn release_owners(
        &mut self,
        kernel: &Kernel,
        containers: &Containers,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let mut sums: HashMap<u64, (u64, bool)> = HashMap::new();
        for entry in self.entries.iter().flatten() {
            let (activity, settled) = sums.entry(entry.owner).or_insert((0, true));
            *activity += entry.counts.attempts + entry.counts.ends;
            *settled &= entry.counts.is_settled();
        }
        let mut removed = HashSet::new();
        for (&id, owner) in self.owners.iter_mut().filter(|(_, owner)| owner.state != OwnerState::Removed) {
            let (activity, settled) = sums.get(&id).copied().unwrap_or_default();
            if activity != owner.activity {
                (owner.activity, owner.unchanged_ns) = (activity, now_ns);
                owner.state = OwnerState::Present;
                continue;
            }
            if owner.state == OwnerState::Idle {
                removed.insert(id);
                continue;
            }
            let idle_ns = now_ns.saturating_sub(owner.unchanged_ns);
            let done = match owner.instance {
                Some(id) => containers.instance(id).is_none_or(|instance| !instance.is_alive()),
                None => idle_ns > limits::TCP_STRANGER_IDLE.as_nanos() as u64,
            };
            if done && settled {
                owner.state = OwnerState::Idle;
            }
        }
        if removed.is_empty() {
            return Ok(());
        }
        // Nobody new finds its numbers once the owner's key is gone; only then do they leave.
        for &id in &removed {
            if let Some(owner) = self.owners.get_mut(&id) {
                kernel.remove_owner(&owner.key, id)?;
                owner.state = OwnerState::Removed;
            }
        }
        for entry in self.entries.iter_mut().flatten().filter(|entry| removed.contains(&entry.owner)) {
            if let (Some(target), None) = (entry.target, entry.leaving_ns) {
                kernel.remove_destination(entry.owner, target)?;
            }
            entry.leaving_ns.get_or_insert(now_ns);
        }
        Ok(())
    }

    /// Forgets the series of an identity.
    pub fn end(&mut self, identity: IdentityId) {
        self.totals.retain(|(known, _), _| *known != identity);
        self.latencies.retain(|(known, _), _| *known != identity);
    }
}
