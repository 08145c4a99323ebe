//! Who answers for destinations whose addresses are translated on the way (docker's published ports, Kubernetes services): the
//! kernel tells of such connections, conntrack of where each of them goes.
//!
//! What is counted does not depend on any of this: the kernel's counts say how much there was, and here is only found out how
//! to split it. What nobody could say the peer of, because the ring was full or there was no time to ask, has an empty one.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::kernel::Kernel;
use super::layout::{Destination, Mark, RTT_SPANS, Told, span};
use super::total::{Actual, Target, Total, Values};
use crate::error::Result;
use crate::host::Host;
use crate::limits;
use crate::memory::{self, Use};
use crate::netlink::conntrack::Tuple;
use crate::network::modules::Conntrack;
use crate::network::{Answer, Namespaces};
use crate::sys::clock::MonotonicNs;

/// Connections asked about at once.
const BATCH: usize = 32;

/// So many ended connections conntrack must know nothing of until their destination counts as not tracked.
const MISSES: u8 = 3;

/// What is known about a number.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    mark: Mark,
    /// When it was found out.
    checked_ns: MonotonicNs,
    /// Known, but the kernel tells of it again, to see whether it still holds.
    is_checked_again: bool,
    /// Ended connections conntrack knew nothing of.
    misses: u8,
}

/// A connection of a translated destination whose peer is known.
#[derive(Debug)]
struct Followed {
    number: u32,
    actual: Actual,
    /// What it had done when it was heard of last.
    values: Values,
    is_established: bool,
    /// The round of the kernel's telling it was heard of in.
    round: u32,
}

/// The smallest round trips to one peer by span.
#[derive(Debug, Default)]
struct Rtt([(u32, u32); RTT_SPANS]);

impl Rtt {
    fn note(&mut self, us: u32, now_ns: MonotonicNs) {
        let now = span(now_ns);
        let slot = &mut self.0[now as usize % RTT_SPANS];
        *slot = if slot.0 == now { (now, us.min(slot.1)) } else { (now, us) };
    }

    fn least(&self, now_ns: MonotonicNs) -> Option<u32> {
        let recent = self.0.iter().filter(|slot| span(now_ns).wrapping_sub(slot.0) < RTT_SPANS as u32);
        recent.map(|slot| slot.1).filter(|&us| us > 0).min()
    }
}

/// What connections were heard to have done, by who answered them.
#[derive(Debug, Default)]
struct Credits {
    /// Of the last round: it must be in the counts by now.
    old: Vec<(Actual, Values)>,
    /// Of this round: some of it may have happened after the counts were read.
    new: Vec<(Actual, Values)>,
}

/// What is known about peers.
#[derive(Debug, Default)]
pub struct Peers {
    nat: Option<Conntrack>,
    is_denied: bool,
    known: Vec<Known>,
    /// Told, but not asked about yet.
    pending: Vec<Told>,
    followed: HashMap<(MonotonicNs, u16), Followed>,
    /// By number what connections with known peers have done and nobody has been credited with yet.
    credits: HashMap<u32, Credits>,
    /// By number the connections that are established now.
    active: HashMap<u32, Vec<(Actual, u64)>>,
    rtts: HashMap<u32, Vec<(Actual, Rtt)>>,
    /// Numbers whose destination may be translated by now.
    doubtful: Vec<u32>,
    round: u32,
    round_ns: MonotonicNs,
    /// When the counts were read that were distributed last.
    distributed_ns: MonotonicNs,
    /// Questions that may still be asked, and when that was.
    budget: u64,
    budget_ns: MonotonicNs,
}

impl Peers {
    /// Whether any address of this host may be translated.
    pub fn is_nat_in_use(&self) -> bool {
        self.nat == Some(Conntrack::InUse) && !self.is_denied
    }

    /// Whether conntrack is asked, in a word.
    pub fn state(&self) -> &'static str {
        if self.is_denied { "no_permission" } else { self.nat.map_or("unknown", Conntrack::word) }
    }

    /// Conntrack may not be asked, so it is not any more.
    pub fn deny(&mut self) {
        self.is_denied = true;
    }

    /// Looks whether addresses are translated on this host now.
    pub fn look(&mut self, conntrack: Conntrack) {
        self.nat = Some(conntrack);
    }

    /// Whether the kernel has something to tell of every now and then.
    pub fn has_translated(&self) -> bool {
        self.is_nat_in_use()
            && (!self.pending.is_empty() || self.known.iter().any(|known| known.mark == Mark::Translated))
    }

    fn of(&mut self, number: u32) -> &mut Known {
        let at = number as usize;
        if self.known.len() <= at {
            self.known.resize(at + 1, Known::default());
        }
        &mut self.known[at]
    }

    /// The kernel tells of all connections that have not ended from here on.
    pub fn begin_round(&mut self, now_ns: MonotonicNs) {
        self.round = self.round.wrapping_add(1);
        self.round_ns = now_ns;
    }

    /// Empties the kernel's ring, up to a bound; gives how many records there were.
    pub fn observe_ended(&mut self, kernel: &mut Kernel) -> usize {
        kernel.take_told(limits::TCP_TOLD_PER_TURN, |told| self.observe(&told))
    }

    /// Takes in what the kernel told of a connection.
    pub fn observe(&mut self, told: &Told) {
        match self.followed.get(&(told.since_ns, told.local.port)) {
            Some(followed) => {
                let actual = followed.actual;
                self.credit(told, actual);
                self.note_rtt(told, actual, self.round_ns);
            }
            None if self.pending.len() < limits::TCP_TOLD_PER_TURN => self.pending.push(*told),
            None => {}
        }
    }

    /// Whether `is` it any number there is a question about.
    pub fn is_any_pending(&self, is: impl Fn(u32) -> bool) -> bool {
        self.pending.iter().any(|told| is(told.number))
    }

    /// Asks conntrack about connections that are new, as far as the budget allows, and about nothing twice. `target` says what
    /// a number stands for; where it does not know yet, the connection waits for the next time.
    ///
    /// # Errors
    /// What the kernel says. What was not asked about stays without a peer.
    pub fn resolve(
        &mut self,
        kernel: &Kernel,
        host: &Host,
        namespaces: &mut Namespaces,
        target: impl Fn(u32) -> Option<Target>,
        now_ns: MonotonicNs,
    ) -> Result<()> {
        for number in std::mem::take(&mut self.doubtful) {
            self.of(number).is_checked_again = true;
            kernel.mark(number, Mark::Unknown)?;
        }
        let earned = now_ns.saturating_sub(self.budget_ns).saturating_mul(limits::TCP_LOOKUPS_PER_SECOND);
        self.budget = (self.budget + earned / 1_000_000_000).min(limits::TCP_LOOKUPS_PER_SECOND);
        self.budget_ns = now_ns;
        let (mut pending, waiting) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|told| target(told.number).is_some());
        self.pending = waiting;
        // Those of one namespace are asked about together.
        pending.sort_by_key(|told| told.netns);
        let mut result = Ok(());
        let mut rest = pending.as_slice();
        while let Some(first) = rest.first() {
            let mut batch: Vec<(Told, Destination)> = Vec::with_capacity(BATCH);
            let mut taken = 0;
            for told in rest.iter().take_while(|told| told.netns == first.netns) {
                if batch.len() == BATCH {
                    break;
                }
                taken += 1;
                let is_known =
                    self.of(told.number).mark == Mark::Same && !self.of(told.number).is_checked_again;
                // One answer is enough for what may turn out not to be translated.
                let is_asked = self.of(told.number).mark != Mark::Translated
                    && batch.iter().any(|(other, _)| other.number == told.number);
                if is_asked {
                    taken -= 1;
                    break;
                }
                if let Some(target) = target(told.number).flatten().filter(|_| !is_known) {
                    batch.push((*told, target));
                }
            }
            rest = &rest[taken..];
            if batch.is_empty() {
                continue;
            }
            if self.budget < batch.len() as u64 {
                break;
            }
            self.budget -= batch.len() as u64;
            let asked = self.ask(kernel, host, namespaces, &batch, now_ns);
            result = result.and(asked);
        }
        result
    }

    fn ask(
        &mut self,
        kernel: &Kernel,
        host: &Host,
        namespaces: &mut Namespaces,
        batch: &[(Told, Destination)],
        now_ns: MonotonicNs,
    ) -> Result<()> {
        let Some(netns) = batch.first().map(|(told, _)| u64::from(told.netns)) else {
            return Ok(());
        };
        namespaces.note(host, netns, batch[0].0.pid);
        let socket = |end: Destination| SocketAddr::new(end.address, end.port);
        let tuples: Vec<Tuple> =
            batch.iter().map(|(told, target)| Tuple::new(socket(told.local), socket(*target))).collect();
        let answers = namespaces.lookup_many(host, netns, &tuples)?;
        for ((told, _), answer) in batch.iter().zip(answers) {
            let mark = if matches!(answer, Answer::Translated(_)) { Mark::Translated } else { Mark::Same };
            let known = self.of(told.number);
            let was = known.mark;
            // Either nothing tracks it, or it is forgotten already.
            let is_miss = answer == Answer::Unknown && told.is_ended && known.misses < MISSES;
            known.misses += u8::from(is_miss);
            // One connection that is not translated does not mean that none is.
            if !is_miss && (was != Mark::Translated || mark == Mark::Translated) {
                *known = Known { mark, checked_ns: now_ns, ..Known::default() };
                if was != mark || mark == Mark::Same {
                    kernel.mark(told.number, mark)?;
                }
            }
            let actual = match answer {
                Answer::Translated(peer) => {
                    Actual::At(Destination { address: peer.ip().to_canonical(), port: peer.port() })
                }
                Answer::Same => Actual::Same,
                Answer::Unknown => continue,
            };
            if self.of(told.number).mark == Mark::Translated {
                self.credit(told, actual);
                self.note_rtt(told, actual, now_ns);
            }
        }
        Ok(())
    }

    fn note_rtt(&mut self, told: &Told, actual: Actual, now_ns: MonotonicNs) {
        if told.rtt_us == 0 {
            return;
        }
        let rtts = self.rtts.entry(told.number).or_default();
        if let Some((_, rtt)) = rtts.iter_mut().find(|(known, _)| *known == actual) {
            rtt.note(told.rtt_us, now_ns);
        } else if rtts.len() < limits::TCP_ACTUAL_DESTINATIONS {
            let mut rtt = Rtt::default();
            rtt.note(told.rtt_us, now_ns);
            rtts.push((actual, rtt));
        }
    }

    /// Credits `actual` with what a connection has done since it was heard of last.
    fn credit(&mut self, told: &Told, actual: Actual) {
        let key = (told.since_ns, told.local.port);
        let values = Values {
            successes: 1,
            connect_ns: told.connect_ns,
            sent: told.sent,
            received: told.received,
            retransmits: u64::from(told.retransmits),
        };
        // What was established before the last distribution and is heard of only now has had its growth given away already.
        let is_late = told.since_ns + told.connect_ns < self.distributed_ns;
        let unheard = if is_late { values } else { Values::default() };
        let before = self.followed.get(&key).map_or(unheard, |followed| followed.values);
        let credits = &mut self.credits.entry(told.number).or_default().new;
        let growth = values.minus(before);
        match credits.iter_mut().find(|(known, _)| *known == actual) {
            Some((_, credit)) => *credit = credit.plus(growth),
            None => credits.push((actual, growth)),
        }
        if told.is_ended {
            self.followed.remove(&key);
        } else if self.followed.contains_key(&key)
            || self.followed.len() < limits::TCP_FOLLOWED && memory::admits(Use::Keys)
        {
            let (number, is_established, round) = (told.number, told.is_established, self.round);
            let values = values.most(before);
            self.followed.insert(key, Followed { number, actual, values, is_established, round });
        }
    }

    /// Before what was counted is distributed: what is followed and was not told of in two rounds is gone.
    pub fn count_active(&mut self, now_ns: MonotonicNs) {
        let round = self.round;
        // The kernel may miss one now and then while others come and go.
        self.followed.retain(|_, followed| round.wrapping_sub(followed.round) <= 1);
        self.distributed_ns = self.round_ns;
        self.active.clear();
        for followed in self.followed.values().filter(|followed| followed.is_established) {
            let active = self.active.entry(followed.number).or_default();
            match active.iter_mut().find(|(actual, _)| *actual == followed.actual) {
                Some((_, count)) => *count += 1,
                None => active.push((followed.actual, 1)),
            }
        }
        self.rtts.retain(|_, rtts| {
            rtts.retain(|(_, rtt)| rtt.least(now_ns).is_some());
            !rtts.is_empty()
        });
    }

    /// Whether what a number counts is split by who answers. Where conntrack was asked and knew nothing, nobody translates.
    fn is_split(&self, number: u32) -> bool {
        let is_untracked = |known: &Known| known.mark == Mark::Unknown && known.misses > 0;
        self.is_nat_in_use()
            && self
                .known
                .get(number as usize)
                .is_none_or(|known| known.mark != Mark::Same && !is_untracked(known))
    }

    /// Adds `growth` of a number to who answered for it. Gives how many connections nobody is known to have answered.
    pub fn distribute(&mut self, number: u32, growth: Values, total: &mut Total, now_ns: MonotonicNs) -> u64 {
        if !self.is_split(number) {
            if !growth.is_zero() {
                let split = &mut total.split(Actual::Same, now_ns).values;
                *split = split.plus(growth);
            }
            let known = self.of(number);
            let age_ns = now_ns.saturating_sub(known.checked_ns);
            let is_old = age_ns > limits::TCP_TRANSLATION_AGE.as_nanos() as u64;
            let is_checked = known.mark == Mark::Same && known.checked_ns > 0;
            if growth.successes > 0 && is_checked && is_old && !known.is_checked_again {
                self.doubtful.push(number);
            }
            return 0;
        }
        let mut rest = growth;
        if let Some(credits) = self.credits.get_mut(&number) {
            for (actual, credit) in credits.old.iter_mut().chain(&mut credits.new) {
                let part = credit.least(rest);
                if part.is_zero() {
                    continue;
                }
                (rest, *credit) = (rest.minus(part), credit.minus(part));
                let split = &mut total.split(*actual, now_ns).values;
                *split = split.plus(part);
            }
            credits.new.retain(|(_, credit)| !credit.is_zero());
            credits.old = std::mem::take(&mut credits.new);
            if credits.old.is_empty() {
                self.credits.remove(&number);
            }
        }
        if rest.is_zero() {
            return 0;
        }
        // Connects that were never answered were translated by nobody.
        let is_unanswered =
            rest.successes == 0 && total.splits.iter().all(|split| split.values.successes == 0);
        let split = total.split(if is_unanswered { Actual::Same } else { Actual::Unknown }, now_ns);
        split.values = split.values.plus(rest);
        rest.successes
    }

    /// Adds connections established now to who answers for them.
    pub fn distribute_active(&self, number: u32, active: u64, total: &mut Total, now_ns: MonotonicNs) {
        let mut rest = active;
        if self.is_split(number) {
            for (actual, count) in self.active.get(&number).map_or(&[][..], Vec::as_slice) {
                let part = rest.min(*count);
                rest -= part;
                total.split(*actual, now_ns).active += part;
            }
            if rest > 0 {
                total.split(Actual::Unknown, now_ns).active += rest;
            }
            return;
        }
        if rest > 0 {
            total.split(Actual::Same, now_ns).active += rest;
        }
    }

    /// Hands out the round trips, in microseconds, to who answers for a number; `all_us` is the smallest of all of them.
    pub fn each_rtt(
        &self,
        number: u32,
        all_us: Option<u32>,
        now_ns: MonotonicNs,
        mut each: impl FnMut(Actual, u32),
    ) {
        if !self.is_split(number) {
            return all_us.into_iter().for_each(|us| each(Actual::Same, us));
        }
        for (actual, rtt) in self.rtts.get(&number).into_iter().flatten() {
            rtt.least(now_ns).into_iter().for_each(|us| each(*actual, us));
        }
    }

    /// These numbers stand for something else from now on.
    pub fn forget(&mut self, numbers: &HashSet<u32>) {
        for &number in numbers {
            *self.of(number) = Known::default();
            self.credits.remove(&number);
            self.rtts.remove(&number);
        }
        if !numbers.is_empty() {
            self.followed.retain(|_, followed| !numbers.contains(&followed.number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const NUMBER: u32 = 7;

    fn peer(last: u8) -> Actual {
        Actual::At(Destination { address: Ipv4Addr::new(10, 1, 1, last).into(), port: 8080 })
    }

    fn told(id: u64, sent: u64, is_ended: bool) -> Told {
        let local = Destination { address: Ipv4Addr::new(10, 0, 0, 1).into(), port: id as u16 };
        Told {
            since_ns: id,
            connect_ns: 1000,
            sent,
            received: 2 * sent,
            retransmits: 0,
            rtt_us: 0,
            number: NUMBER,
            netns: 1,
            pid: 1,
            is_established: !is_ended,
            is_ended,
            local,
        }
    }

    fn translated() -> (Peers, Total) {
        let mut peers = Peers::default();
        peers.look(Conntrack::InUse);
        peers.of(NUMBER).mark = Mark::Translated;
        let vip = Destination { address: Ipv4Addr::new(10, 96, 0, 1).into(), port: 80 };
        (peers, Total::new(Some(vip), 0))
    }

    fn successes(total: &Total, actual: Actual) -> u64 {
        total.splits.iter().filter(|split| split.actual == actual).map(|split| split.values.successes).sum()
    }

    /// Connections come, live and go in any order between what is counted and what is told of; those found full are not told
    /// of. What was counted is always all that is exported, and a peer never gets more than its own.
    #[test]
    fn sums_do_not_depend_on_what_was_told() {
        let mut state = 0x5eed_u64;
        let mut dice = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for round in 0..50 {
            let (mut peers, mut total) = translated();
            let loss = [0, 0, 5][round % 3];
            let (mut living, mut next) = (Vec::<(u64, u64)>::new(), 1);
            let (mut counted, mut by_peer) = (Values::default(), [0u64; 3]);
            let mut unresolved = 0;
            for _ in 0..40 {
                let mut growth = Values::default();
                // What happens before the counts are read, and what after it.
                for after in [false, true] {
                    let mut later = Values::default();
                    for _ in 0..dice(10) {
                        match dice(3) {
                            0 => {
                                living.push((next, 0));
                                by_peer[(next % 3) as usize] += 1;
                                next += 1;
                                later.successes += 1;
                                later.connect_ns += 1000;
                            }
                            1 if !living.is_empty() => {
                                let at = dice(living.len() as u64) as usize;
                                let (id, sent) = living.swap_remove(at);
                                if dice(100) >= loss {
                                    peers.credit(&told(id, sent, true), peer((id % 3) as u8));
                                }
                            }
                            _ if !living.is_empty() => {
                                let at = dice(living.len() as u64) as usize;
                                living[at].1 += 10;
                                later.sent += 10;
                                later.received += 20;
                            }
                            _ => {}
                        }
                    }
                    if after {
                        // Comes with the next reading.
                        counted = later;
                    } else {
                        growth = growth.plus(counted).plus(later);
                    }
                }
                peers.begin_round(0);
                for &(id, sent) in &living {
                    peers.credit(&told(id, sent, false), peer((id % 3) as u8));
                }
                peers.count_active(0);
                unresolved += peers.distribute(NUMBER, growth, &mut total, 0);
                assert!(
                    (0..3).all(|n| successes(&total, peer(n)) <= by_peer[usize::from(n)]),
                    "round {round}"
                );
            }
            unresolved += peers.distribute(NUMBER, counted, &mut total, 0);
            assert_eq!(total.splits.iter().map(|split| split.values.successes).sum::<u64>(), next - 1);
            assert_eq!(successes(&total, Actual::Unknown), unresolved);
            if loss == 0 {
                for n in 0..3 {
                    assert_eq!(successes(&total, peer(n)), by_peer[usize::from(n)], "round {round}");
                }
            }
            for split in &total.splits {
                assert_eq!(split.values.received, 2 * split.values.sent, "round {round}");
            }
        }
    }

    #[test]
    fn connections_that_are_gone_unheard_are_no_longer_active() {
        let (mut peers, mut total) = translated();
        peers.begin_round(0);
        peers.credit(&told(1, 5, false), peer(1));
        peers.credit(&told(2, 5, false), peer(2));
        peers.count_active(0);
        peers.distribute_active(NUMBER, 3, &mut total, 0);
        let active = |total: &Total, actual| {
            total.splits.iter().find(|split| split.actual == actual).map_or(0, |split| split.active)
        };
        assert_eq!([peer(1), peer(2), Actual::Unknown].map(|actual| active(&total, actual)), [1, 1, 1]);
        total.splits.iter_mut().for_each(|split| split.active = 0);
        // The kernel may miss one in a round, but not in two.
        for _ in 0..2 {
            peers.begin_round(0);
            peers.observe(&told(2, 6, false));
            peers.count_active(0);
        }
        peers.distribute_active(NUMBER, 1, &mut total, 0);
        assert_eq!([peer(1), peer(2), Actual::Unknown].map(|actual| active(&total, actual)), [0, 1, 0]);
        peers.forget(&HashSet::from([NUMBER]));
        assert!(peers.followed.is_empty() && peers.credits.is_empty());
    }

    #[test]
    fn without_translation_everything_is_the_destinations_own() {
        let (mut peers, mut total) = translated();
        let growth = Values { successes: 3, connect_ns: 30, sent: 5, received: 6, retransmits: 1 };
        peers.look(Conntrack::NotLoaded);
        assert_eq!(peers.distribute(NUMBER, growth, &mut total, 0), 0);
        peers.look(Conntrack::InUse);
        peers.of(NUMBER).mark = Mark::Same;
        assert_eq!(peers.distribute(NUMBER, growth, &mut total, 0), 0);
        assert_eq!((total.splits.len(), total.splits[0].values), (1, growth.plus(growth)));
        // Segments of connects that were never answered are nobody else's.
        let vip = Destination { address: Ipv4Addr::new(10, 96, 0, 2).into(), port: 80 };
        let mut silent = Total::new(Some(vip), 0);
        let growth = Values { retransmits: 2, ..Values::default() };
        assert_eq!(peers.distribute(NUMBER + 1, growth, &mut silent, 0), 0);
        assert_eq!((silent.splits.len(), silent.splits[0].values.retransmits), (1, 2));
        assert_eq!(peers.distribute(NUMBER + 1, Values { successes: 2, ..growth }, &mut silent, 0), 2);
    }

    #[test]
    fn round_trips_end_after_a_minute() {
        let mut rtt = Rtt::default();
        let second = 1_000_000_000;
        rtt.note(300, 100 * second);
        rtt.note(200, 101 * second);
        rtt.note(900, 130 * second);
        assert_eq!(rtt.least(131 * second), Some(200));
        assert_eq!(rtt.least(180 * second), Some(900));
        assert_eq!(rtt.least(250 * second), None);
    }
}
