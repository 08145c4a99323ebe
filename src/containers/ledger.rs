//! Counters of instances, summed per identity so that no exported counter ever falls.
//!
//! The kernel counts per cgroup, and a restarted container is a new cgroup. What is exported for an identity is the sum of all
//! growth seen in any of its instances: when one is replaced, its last value stays in the sum and the new one's is added.

use std::collections::BTreeMap;

use super::{IdentityId, InstanceId};
use crate::event::Event;

/// `N` counters for each part (`u64`, such as a device; 0 where there is only one) of each container.
#[derive(Debug)]
pub struct Ledger<const N: usize> {
    last: BTreeMap<(InstanceId, u64), [u64; N]>,
    totals: BTreeMap<(IdentityId, u64), [u64; N]>,
}

impl<const N: usize> Default for Ledger<N> {
    fn default() -> Self {
        Ledger { last: BTreeMap::new(), totals: BTreeMap::new() }
    }
}

impl<const N: usize> Ledger<N> {
    /// Takes the counters of a part of an instance as read just now.
    pub fn observe(&mut self, instance: InstanceId, identity: IdentityId, part: u64, values: [u64; N]) {
        let last = self.last.entry((instance, part)).or_insert([0; N]);
        let total = self.totals.entry((identity, part)).or_insert([0; N]);
        for ((value, last), total) in values.into_iter().zip(last).zip(total) {
            // An instance is one life of a cgroup, so a counter that fell did not begin anew: v1 sums over the children that
            // are alive, and one of them ended. Only what comes on top of it is growth.
            *total = total.saturating_add(value.saturating_sub(*last));
            *last = value;
        }
    }

    /// Takes counters that are read from another file than last time: where they stand, nothing of it growth.
    pub fn rebase(&mut self, instance: InstanceId, part: u64, values: [u64; N]) {
        self.last.insert((instance, part), values);
    }

    /// Forgets instances and identities that ended. Growth of a renamed instance goes to its new name from now on.
    pub fn event(&mut self, event: &Event) {
        match *event {
            Event::InstanceEnded(instance) => remove_parts(&mut self.last, instance),
            Event::IdentityEnded(identity) => remove_parts(&mut self.totals, identity),
            Event::InstanceStarted(_) | Event::InstanceRenamed(_) | Event::CgroupsChanged => {}
        }
    }

    /// The sums, ordered by identity and part.
    pub fn totals(&self) -> impl Iterator<Item = (IdentityId, u64, &[u64; N])> {
        self.totals.iter().map(|(&(identity, part), total)| (identity, part, total))
    }
}

/// Removes all parts of one owner, without a look at the others: there may be thousands, and they may end together.
fn remove_parts<K: Copy + Ord, V>(map: &mut BTreeMap<(K, u64), V>, owner: K) {
    while let Some((&key, _)) = map.range((owner, 0)..=(owner, u64::MAX)).next() {
        map.remove(&key);
    }
}

/// Two instances and two identities, for tests elsewhere.
#[cfg(test)]
pub fn test_ids() -> ([InstanceId; 2], [IdentityId; 2]) {
    ([InstanceId(1), InstanceId(2)], [IdentityId(3), IdentityId(4)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InstanceId = InstanceId(1);
    const B: InstanceId = InstanceId(2);
    const WEB: IdentityId = IdentityId(3);
    const DB: IdentityId = IdentityId(4);

    fn total(ledger: &Ledger<1>, identity: IdentityId) -> Option<u64> {
        ledger.totals().find(|(known, ..)| *known == identity).map(|(.., total)| total[0])
    }

    #[test]
    fn replacement_and_overlap_are_invisible() {
        let mut ledger = Ledger::<1>::default();
        ledger.observe(A, WEB, 0, [100]);
        ledger.observe(B, WEB, 0, [5]);
        ledger.observe(A, WEB, 0, [110]);
        assert_eq!(total(&ledger, WEB), Some(115));
        ledger.event(&Event::InstanceEnded(A));
        ledger.observe(B, WEB, 0, [6]);
        assert_eq!(total(&ledger, WEB), Some(116));
        ledger.event(&Event::InstanceEnded(B));
        assert_eq!(total(&ledger, WEB), Some(116), "counters outlive the container");
        ledger.event(&Event::IdentityEnded(WEB));
        assert_eq!(total(&ledger, WEB), None);
    }

    #[test]
    fn a_counter_that_falls_adds_nothing_twice() {
        let mut ledger = Ledger::<1>::default();
        for value in [10, 15, 2, 3] {
            ledger.observe(A, WEB, 0, [value]);
        }
        assert_eq!(total(&ledger, WEB), Some(16));
    }

    #[test]
    fn another_source_of_the_same_counter_is_no_growth() {
        let mut ledger = Ledger::<1>::default();
        ledger.observe(A, WEB, 0, [10]);
        ledger.rebase(A, 0, [9]);
        ledger.observe(A, WEB, 0, [12]);
        assert_eq!(total(&ledger, WEB), Some(13));
    }

    #[test]
    fn nothing_past_moves_to_a_new_name() {
        let mut ledger = Ledger::<1>::default();
        ledger.observe(A, WEB, 0, [10]);
        ledger.observe(A, DB, 0, [12]);
        assert_eq!((total(&ledger, WEB), total(&ledger, DB)), (Some(10), Some(2)));
    }

    /// Random creation, growth, reset, overlap, renaming and removal: no total ever falls while it is exported.
    #[test]
    fn no_total_ever_falls() {
        let mut state = 42u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut ledger = Ledger::<2>::default();
        let mut seen: BTreeMap<(IdentityId, u64), [u64; 2]> = BTreeMap::new();
        for _ in 0..200_000 {
            let instance = InstanceId(next(12) as u32);
            let identity = IdentityId(100 + next(5) as u32);
            match next(20) {
                0 => ledger.event(&Event::InstanceEnded(instance)),
                1 => {
                    ledger.event(&Event::IdentityEnded(identity));
                    seen.retain(|(known, _), _| *known != identity);
                }
                _ => ledger.observe(instance, identity, next(3), [next(1_000_000), next(1 << 40)]),
            }
            for (identity, part, total) in ledger.totals() {
                let before = seen.insert((identity, part), *total).unwrap_or_default();
                assert!(before.iter().zip(total).all(|(before, now)| before <= now), "{before:?} {total:?}");
            }
        }
    }
}
