//! How often containers began anew.
//!
//! A *run* is the time from a container's first process to the end of its last one. A container that gets a process while it has
//! none begins another run, be it in the same cgroup or in one that took its place; all runs of an identity but the first are
//! restarts.

use std::collections::BTreeMap;

use crate::containers::{IdentityId, InstanceId};

/// Runs of instances and of identities.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Where the runs of an instance are counted, and how many there were.
    instances: BTreeMap<InstanceId, (IdentityId, u64)>,
    identities: BTreeMap<IdentityId, u64>,
}

impl Restarts {
    /// The identity is known: it has not been restarted yet.
    pub fn begin(&mut self, identity: IdentityId) {
        self.identities.entry(identity).or_insert(0);
    }

    /// An instance has had this many runs so far. What was its under another name counts under the new one too: otherwise the
    /// first run of each replacement, whose name is not known in its first moments, would be nobody's.
    pub fn observe(&mut self, instance: InstanceId, identity: IdentityId, runs: u64) {
        let known = self.instances.entry(instance).or_insert((identity, 0));
        if known.0 != identity {
            *known = (identity, 0);
        }
        let total = self.identities.entry(identity).or_insert(0);
        *total = total.saturating_add(runs.saturating_sub(known.1));
        known.1 = known.1.max(runs);
    }

    /// Forgets an instance.
    pub fn end_instance(&mut self, instance: InstanceId) {
        self.instances.remove(&instance);
    }

    /// Forgets an identity.
    pub fn end_identity(&mut self, identity: IdentityId) {
        self.identities.remove(&identity);
    }

    /// Identities with their restarts.
    pub fn totals(&self) -> impl Iterator<Item = (IdentityId, u64)> {
        self.identities.iter().map(|(&identity, &runs)| (identity, runs.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::ledger::test_ids;

    fn restarts(restarts: &Restarts, identity: IdentityId) -> Option<u64> {
        restarts.totals().find(|(known, _)| *known == identity).map(|(_, count)| count)
    }

    #[test]
    fn the_first_run_is_no_restart_and_each_other_one_is() {
        let ([a, b], [web, _]) = test_ids();
        let mut all = Restarts::default();
        all.begin(web);
        assert_eq!(restarts(&all, web), Some(0));
        all.observe(a, web, 1);
        assert_eq!(restarts(&all, web), Some(0));
        all.observe(a, web, 3);
        all.observe(a, web, 3);
        assert_eq!(restarts(&all, web), Some(2), "in the same cgroup");
        all.end_instance(a);
        all.observe(b, web, 1);
        assert_eq!(restarts(&all, web), Some(3), "in another one");
        all.end_identity(web);
        assert_eq!(restarts(&all, web), None);
    }

    #[test]
    fn what_began_under_a_provisional_name_counts_under_the_final_one() {
        let ([a, b], [web, provisional]) = test_ids();
        let mut all = Restarts::default();
        all.observe(a, web, 1);
        all.observe(b, provisional, 1);
        assert_eq!((restarts(&all, web), restarts(&all, provisional)), (Some(0), Some(0)));
        all.observe(b, web, 1);
        assert_eq!((restarts(&all, web), restarts(&all, provisional)), (Some(1), Some(0)));
        all.observe(b, web, 1);
        assert_eq!(restarts(&all, web), Some(1));
    }
}
