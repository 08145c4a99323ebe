//! Who lives, whose it is and who has ended, from events of the kernel as they come.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::commands::Stamp;
use crate::containers::InstanceId;
use crate::limits;
use crate::memory::{self, Use};
use crate::netlink::proc_events::{Event, Told};
use crate::sys::clock::MonotonicNs;

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it has ended.
    Gone,
    /// In this container, or in none.
    In(Option<InstanceId>),
    /// It could not be looked at: what is known of it stays.
    Unknown,
}

/// What can be seen of processes at this moment.
pub trait Sight {
    /// Where a process is.
    fn place(&mut self, pid: u32) -> Place;
    /// When it began; `None` when it is gone or could not be looked at.
    fn start_ns(&mut self, pid: u32) -> Option<MonotonicNs>;
    /// The living processes in the cgroup of an instance; `None` when they could not be listed.
    fn members(&mut self, id: InstanceId) -> Option<Vec<u32>>;
    /// Now.
    fn now_ns(&self) -> MonotonicNs;
}

/// What the processes of an instance have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processes that live.
    pub living: u64,
    /// Processes that have ended.
    pub ended: u64,
    /// Programs executed.
    pub execs: u64,
    /// Times there was a process after there was none.
    pub runs: u64,
}

#[derive(Debug)]
struct Process {
    owner: Option<InstanceId>,
    /// Who it is a child of, if that is known.
    parent: Option<u32>,
    stamp: Stamp,
    /// Threads that have not ended; `None` when nobody counted them from the first one on.
    threads: Option<u32>,
    /// When it was seen; 0 when its beginning was told.
    seen_ns: MonotonicNs,
}

/// The processes of this host, those of no container too: what they have in common with their children is where they are.
#[derive(Debug, Default)]
pub struct Table {
    processes: HashMap<u32, Process>,
    tallies: BTreeMap<InstanceId, Tally>,
    /// Processes of containers there was no room for.
    pub refused: u64,
}

impl Table {
    /// Takes an event.
    pub fn apply(&mut self, told: Told, sight: &mut impl Sight) {
        match told.event {
            Event::Fork { parent_tgid, child_pid, child_tgid } if child_pid == child_tgid => {
                self.fork(parent_tgid, child_tgid, told.at_ns, sight);
            }
            Event::Fork { child_tgid, .. } => {
                if let Some(Process { threads: Some(threads), .. }) = self.processes.get_mut(&child_tgid) {
                    *threads = threads.saturating_add(1);
                }
            }
            Event::Exec { tgid, .. } => self.exec(tgid, sight),
            Event::Exit { pid, tgid } => self.exit(pid, tgid),
            Event::Answer { .. } => {}
        }
    }

    /// A child is where its parent is, until it executes a program: whoever makes containers moves it before that.
    fn fork(&mut self, parent: u32, child: u32, at_ns: MonotonicNs, sight: &mut impl Sight) {
        if let Some(known) = self.processes.get_mut(&child) {
            if known.seen_ns > at_ns {
                // It was in a list before its event was read.
                known.parent = Some(parent);
                return;
            }
            self.end(child);
        }
        let owner = match self.processes.get(&parent) {
            Some(parent) => parent.owner,
            None => match self.see(parent, sight) {
                Place::In(owner) => owner,
                Place::Gone | Place::Unknown => match self.look(child, sight) {
                    Place::In(owner) => owner,
                    Place::Gone | Place::Unknown => None,
                },
            },
        };
        let stamp = Stamp { start_ns: at_ns, executed: 0 };
        self.insert(child, Process { owner, parent: Some(parent), stamp, threads: Some(1), seen_ns: 0 });
    }

    fn exec(&mut self, tgid: u32, sight: &mut impl Sight) {
        match self.processes.get(&tgid) {
            None => drop(self.see(tgid, sight)),
            Some(&Process { owner, parent, .. }) => match self.look(tgid, sight) {
                Place::In(now) => self.set_owner(tgid, now),
                // It is gone and was nobody's. Its parent may have been moved since it was seen, without executing anything.
                Place::Gone if owner.is_none() => {
                    if let Some(parent) = parent
                        && let Place::In(now @ Some(_)) = self.look(parent, sight)
                    {
                        self.set_owner(parent, now);
                        self.set_owner(tgid, now);
                    }
                }
                Place::Gone | Place::Unknown => {}
            },
        }
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.stamp.executed += 1;
            if let Some(owner) = process.owner {
                self.tallies.entry(owner).or_default().execs += 1;
            }
        }
    }

    /// A process ends with its last thread. Threads of processes that were there before anybody counted are not known: there the
    /// end of the first one, which has the process's number, is taken for the end, as it is in all but a few programs.
    ///
    /// When another thread executes a program, the first one ends and it gets that one's number: it is the last, and the counts
    /// agree.
    fn exit(&mut self, pid: u32, tgid: u32) {
        let has_ended = match self.processes.get_mut(&tgid) {
            Some(Process { threads: Some(threads), .. }) => {
                *threads = threads.saturating_sub(1);
                *threads == 0
            }
            Some(_) => pid == tgid,
            None => false,
        };
        if has_ended {
            self.end(tgid);
        }
    }

    fn end(&mut self, pid: u32) {
        if let Some(owner) = self.processes.remove(&pid).and_then(|process| process.owner) {
            let tally = self.tallies.entry(owner).or_default();
            tally.living = tally.living.saturating_sub(1);
            tally.ended += 1;
        }
    }

    /// Where a process is now. Before the first of an instance comes in, those that were moved there unseen are taken in:
    /// otherwise each of their children would begin another run.
    fn look(&mut self, pid: u32, sight: &mut impl Sight) -> Place {
        let place = sight.place(pid);
        if let Place::In(Some(id)) = place
            && self.tallies.get(&id).is_none_or(|tally| tally.living == 0)
        {
            self.list(id, sight);
        }
        place
    }

    /// Takes in a process that was not known.
    fn see(&mut self, pid: u32, sight: &mut impl Sight) -> Place {
        let place = self.look(pid, sight);
        if let Place::In(owner) = place {
            self.settle(pid, owner, sight);
        }
        place
    }

    /// The process is there: takes it in, or notes that it has been moved.
    fn settle(&mut self, pid: u32, owner: Option<InstanceId>, sight: &mut impl Sight) {
        if self.processes.contains_key(&pid) {
            self.set_owner(pid, owner);
        } else if let Some(start_ns) = sight.start_ns(pid) {
            let stamp = Stamp { start_ns, executed: 0 };
            let seen_ns = sight.now_ns();
            self.insert(pid, Process { owner, parent: None, stamp, threads: None, seen_ns });
        }
    }

    /// Takes in the processes of an instance; gives all that are listed there, `None` when they could not be listed.
    pub fn list(&mut self, id: InstanceId, sight: &mut impl Sight) -> Option<Vec<u32>> {
        let members = sight.members(id)?;
        for &pid in &members {
            let is_known = self.processes.get(&pid).is_some_and(|process| process.owner == Some(id));
            // Not `id` without a look: the lists of units have processes of containers too, on hybrid hosts.
            if !is_known && let Place::In(owner @ Some(_)) = sight.place(pid) {
                self.settle(pid, owner, sight);
            }
        }
        Some(members)
    }

    /// Brings the table in line with the lists of the instances `ids`. `all` when events were lost: then processes of no container
    /// may have ended as well, and who has how many threads is not known any more. False when something could not be looked at,
    /// and may have changed.
    pub fn compare(&mut self, ids: &[InstanceId], all: bool, sight: &mut impl Sight) -> bool {
        let lists: Vec<_> = ids.iter().map(|&id| self.list(id, sight)).collect();
        let mut is_complete = lists.iter().all(Option::is_some);
        let listed: HashSet<u32> = lists.into_iter().flatten().flatten().collect();
        let missing = |(pid, process): &(&u32, &Process)| {
            (all || process.owner.is_some()) && !(process.owner.is_some() && listed.contains(pid))
        };
        let missing: Vec<u32> = self.processes.iter().filter(missing).map(|(&pid, _)| pid).collect();
        // Each is looked at itself: one that is missing in a list may only have been moved, or the list itself is missing.
        for pid in missing {
            match sight.place(pid) {
                Place::In(owner) => self.set_owner(pid, owner),
                Place::Gone => self.end(pid),
                Place::Unknown => is_complete = false,
            }
        }
        if all {
            self.processes.values_mut().for_each(|process| process.threads = None);
        }
        is_complete
    }

    fn insert(&mut self, pid: u32, process: Process) {
        if self.processes.len() >= limits::PROCESSES || !memory::admits(Use::Keys) {
            self.refused += u64::from(process.owner.is_some());
            return;
        }
        process.owner.into_iter().for_each(|owner| self.begin(owner));
        self.processes.insert(pid, process);
    }

    fn set_owner(&mut self, pid: u32, owner: Option<InstanceId>) {
        let Some(process) = self.processes.get_mut(&pid).filter(|process| process.owner != owner) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut process.owner, owner) {
            let tally = self.tallies.entry(before).or_default();
            tally.living = tally.living.saturating_sub(1);
        }
        owner.into_iter().for_each(|owner| self.begin(owner));
    }

    fn begin(&mut self, owner: InstanceId) {
        let tally = self.tallies.entry(owner).or_default();
        tally.runs += u64::from(tally.living == 0);
        tally.living += 1;
    }

    /// What each instance's processes have done.
    pub fn tallies(&self) -> impl Iterator<Item = (InstanceId, Tally)> {
        self.tallies.iter().map(|(&id, &tally)| (id, tally))
    }

    /// The living processes of containers.
    pub fn living(&self) -> impl Iterator<Item = (u32, InstanceId, Stamp)> {
        self.processes.iter().filter_map(|(&pid, process)| Some((pid, process.owner?, process.stamp)))
    }

    /// Forgets an instance.
    pub fn end_instance(&mut self, id: InstanceId) {
        self.tallies.remove(&id);
        self.processes.retain(|_, process| process.owner != Some(id));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::containers::ledger::test_ids;

    /// What cannot be looked at.
    #[derive(Default, Clone, Copy)]
    struct Hidden {
        places: bool,
        lists: bool,
    }

    /// Where living processes are.
    #[derive(Default)]
    struct Host(BTreeMap<u32, Option<InstanceId>>, Hidden);

    impl Sight for Host {
        fn place(&mut self, pid: u32) -> Place {
            if self.1.places {
                return Place::Unknown;
            }
            self.0.get(&pid).map_or(Place::Gone, |&owner| Place::In(owner))
        }

        fn start_ns(&mut self, pid: u32) -> Option<MonotonicNs> {
            self.0.get(&pid).map(|_| 1)
        }

        fn members(&mut self, id: InstanceId) -> Option<Vec<u32>> {
            let members = self.0.iter().filter(|(_, owner)| **owner == Some(id));
            (!self.1.lists).then(|| members.map(|(&pid, _)| pid).collect())
        }

        fn now_ns(&self) -> MonotonicNs {
            100
        }
    }

    #[derive(Default)]
    struct Test {
        table: Table,
        host: Host,
    }

    impl Test {
        fn at(&mut self, at_ns: MonotonicNs, event: Event) {
            self.table.apply(Told { at_ns, event }, &mut self.host);
        }

        fn fork(&mut self, parent: u32, child: u32) {
            self.at(200, Event::Fork { parent_tgid: parent, child_pid: child, child_tgid: child });
        }

        fn thread(&mut self, tgid: u32, pid: u32) {
            self.at(200, Event::Fork { parent_tgid: 1, child_pid: pid, child_tgid: tgid });
        }

        fn exec(&mut self, tgid: u32) {
            self.at(200, Event::Exec { pid: tgid, tgid });
        }

        fn exit(&mut self, tgid: u32, pid: u32) {
            self.at(200, Event::Exit { pid, tgid });
        }

        /// Living, ended, execs, runs.
        fn counts(&self, id: InstanceId) -> [u64; 4] {
            let tally = self.table.tallies.get(&id).copied().unwrap_or_default();
            [tally.living, tally.ended, tally.execs, tally.runs]
        }
    }

    #[test]
    fn children_of_milliseconds_are_their_parents() {
        let ([a, _], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(1, None), (10, Some(a))].into();
        test.fork(1, 10);
        assert_eq!(test.counts(a), [0; 4], "its parent is in none");
        test.exec(10);
        assert_eq!(test.counts(a), [1, 0, 1, 1]);
        for child in 11..111 {
            // Nobody is there when it is looked at.
            test.fork(10, child);
            test.exec(child);
            test.exit(child, child);
        }
        assert_eq!(test.counts(a), [1, 100, 101, 1]);
        test.exit(10, 10);
        test.exit(10, 10);
        assert_eq!(test.counts(a), [0, 101, 101, 1]);
    }

    #[test]
    fn who_is_moved_after_its_fork_counts_where_it_executes() {
        let ([runtime, container], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(2, Some(runtime)), (20, Some(container))].into();
        test.fork(2, 20);
        assert_eq!((test.counts(runtime)[0], test.counts(container)[0]), (2, 0));
        test.exec(20);
        assert_eq!((test.counts(runtime)[0], test.counts(container)), (1, [1, 0, 1, 1]));
        test.host.0.insert(20, None);
        test.exec(20);
        assert_eq!(test.counts(container), [0, 0, 1, 1], "moved out");
    }

    #[test]
    fn a_shell_that_enters_without_executing_is_found_through_its_children() {
        let ([a, _], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(1, None), (10, None)].into();
        test.fork(1, 10);
        test.exec(10);
        test.host.0.insert(10, Some(a));
        for child in 11..14 {
            test.fork(10, child);
            test.exec(child);
            test.exit(child, child);
        }
        assert_eq!(test.counts(a), [1, 3, 3, 1], "and is one run");
        let mut test = Test::default();
        test.host.0 = [(10, Some(a)), (11, Some(a))].into();
        test.exec(11);
        assert_eq!(test.counts(a), [2, 0, 1, 1], "also when the child is seen first");
    }

    #[test]
    fn runs_begin_when_nobody_lives() {
        let ([a, _], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(1, None)].into();
        for pid in 10..15 {
            test.host.0.insert(pid, Some(a));
            test.fork(1, pid);
            test.exec(pid);
            test.host.0.remove(&pid);
            test.exit(pid, pid);
        }
        assert_eq!(test.counts(a), [0, 5, 5, 5]);
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        let ([a, _], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(10, Some(a))].into();
        test.fork(10, 20);
        test.thread(20, 21);
        test.thread(20, 22);
        test.exit(20, 22);
        test.exit(20, 20);
        assert_eq!(test.counts(a)[..2], [2, 0], "21 is left");
        test.exit(20, 21);
        assert_eq!(test.counts(a)[..2], [1, 1]);
        // Another thread than the first executes a program, and gets the number of the first.
        test.fork(10, 30);
        test.thread(30, 31);
        test.exit(30, 30);
        test.exec(30);
        assert_eq!(test.counts(a), [2, 1, 1, 1]);
        test.exit(30, 30);
        // Of one that nobody counted, the first thread's end is the end.
        test.exit(10, 12);
        assert_eq!(test.counts(a)[..2], [1, 2]);
        test.exit(10, 10);
        assert_eq!(test.counts(a)[..2], [0, 3]);
    }

    #[test]
    fn who_was_listed_before_its_fork_was_read_is_one() {
        let ([a, _], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(10, Some(a)), (11, Some(a))].into();
        test.table.list(a, &mut test.host);
        test.at(50, Event::Fork { parent_tgid: 10, child_pid: 11, child_tgid: 11 });
        assert_eq!(test.counts(a), [2, 0, 0, 1]);
        test.at(150, Event::Fork { parent_tgid: 10, child_pid: 11, child_tgid: 11 });
        assert_eq!(test.counts(a), [2, 1, 0, 1], "the number is another's by now");
    }

    #[test]
    fn after_a_loss_the_lists_say_who_lives() {
        let ([a, b], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(1, None), (10, Some(a)), (11, Some(a)), (12, Some(a))].into();
        test.table.list(a, &mut test.host);
        test.exec(1);
        test.fork(1, 13);
        // 11 ends, 12 is moved, 14 begins, 13 was in no container and ends: nothing of it is told.
        test.host.0 = [(1, None), (10, Some(a)), (12, Some(b)), (14, Some(a))].into();
        test.table.compare(&[a, b], true, &mut test.host);
        assert_eq!((test.counts(a), test.counts(b)), ([2, 1, 0, 1], [1, 0, 0, 1]));
        let mut known: Vec<u32> = test.table.processes.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(known, [1, 10, 12, 14]);
        // Events that come late are about nobody.
        test.exit(11, 11);
        assert_eq!(test.counts(a), [2, 1, 0, 1]);
    }

    #[test]
    fn who_cannot_be_looked_at_stays_where_it_was() {
        let ([a, b], _) = test_ids();
        let mut test = Test::default();
        test.host.0 = [(1, None), (10, Some(a)), (11, Some(a)), (20, Some(b))].into();
        test.exec(1);
        for id in [a, b] {
            test.table.list(id, &mut test.host);
        }
        // 11 ends, and nobody tells.
        test.host.0.remove(&11);
        let hidden = [(true, false), (false, true), (true, true)];
        for hidden in hidden.map(|(places, lists)| Hidden { places, lists }) {
            test.host.1 = hidden;
            for all in [false, true] {
                let is_complete = test.table.compare(&[a, b], all, &mut test.host);
                assert!(!is_complete);
                let ended = u64::from(!hidden.places || test.counts(a)[1] > 0);
                assert_eq!((test.counts(a), test.counts(b)), ([2 - ended, ended, 0, 1], [1, 0, 0, 1]));
            }
        }
        test.host.1 = Hidden { places: true, lists: true };
        for pid in [1, 10, 20] {
            test.exec(pid);
        }
        assert_eq!((test.counts(a), test.counts(b)), ([1, 1, 1, 1], [1, 0, 1, 1]));
        test.fork(20, 21);
        test.fork(30, 31);
        assert_eq!(test.counts(b), [2, 0, 1, 1]);
        test.host.1 = Hidden::default();
        test.host.0.extend([(21, Some(b)), (31, None)]);
        assert!(test.table.compare(&[a, b], true, &mut test.host));
        assert_eq!((test.counts(a), test.counts(b)), ([1, 1, 1, 1], [2, 0, 1, 1]));
    }
}
