//! What happened between two looks at counters, by container.

use crate::sys::clock::MonotonicNs;

/// What is shown of a destination, or of several together: totals, or their growth in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections established.
    pub connects: u64,
    /// Nanoseconds that took.
    pub connect_ns: u64,
    /// Connects that failed.
    pub failures: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Connections established now; no counter.
    pub active: u64,
    /// The smallest round trip in microseconds; no counter.
    pub rtt_us: Option<u32>,
}

impl Figures {
    /// The growth of the counters since `before`.
    fn since(self, before: &Figures) -> Figures {
        Figures {
            connects: self.connects.saturating_sub(before.connects),
            connect_ns: self.connect_ns.saturating_sub(before.connect_ns),
            failures: self.failures.saturating_sub(before.failures),
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
            retransmits: self.retransmits.saturating_sub(before.retransmits),
            ..self
        }
    }

    /// The sums, and the smaller round trip.
    pub fn plus(self, other: &Figures) -> Figures {
        Figures {
            connects: self.connects.saturating_add(other.connects),
            connect_ns: self.connect_ns.saturating_add(other.connect_ns),
            failures: self.failures.saturating_add(other.failures),
            sent: self.sent.saturating_add(other.sent),
            received: self.received.saturating_add(other.received),
            retransmits: self.retransmits.saturating_add(other.retransmits),
            active: self.active.saturating_add(other.active),
            rtt_us: self.rtt_us.into_iter().chain(other.rtt_us).min(),
        }
    }

    /// True when nothing happened and nothing is open.
    fn is_idle(&self) -> bool {
        Figures { rtt_us: None, ..*self } == Figures::default()
    }
}

/// A destination, and who answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where to.
    pub destination: String,
    /// Who answers; empty when it could not be found out.
    pub actual: String,
    /// What was done.
    pub figures: Figures,
}

/// A container with its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub container: String,
    /// All lines together.
    pub sum: Figures,
    /// Destinations that were not idle.
    pub lines: Vec<Line>,
}

/// What happened in a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// How long it was.
    pub seconds: f64,
    /// All containers together.
    pub sum: Figures,
    /// Containers that were not idle.
    pub groups: Vec<Group>,
}

/// The counters of the last look, in the order of what they are about.
#[derive(Debug)]
pub struct Rates<K> {
    totals: Vec<(K, Figures)>,
    taken_ns: MonotonicNs,
}

impl<K: Ord> Rates<K> {
    /// Nothing was counted until now.
    pub fn new(now_ns: MonotonicNs) -> Rates<K> {
        Rates { totals: Vec::new(), taken_ns: now_ns }
    }

    /// Takes the totals of now, in the order of their keys and so that those of a container are neighbours, and gives what is
    /// new since the last time. What was not there then began at 0.
    pub fn take(&mut self, lines: Vec<(K, &str, Line)>, now_ns: MonotonicNs) -> Interval {
        let mut old = std::mem::take(&mut self.totals).into_iter().peekable();
        let mut groups: Vec<Group> = Vec::new();
        let mut all = Figures::default();
        for (key, container, mut line) in lines {
            let total = line.figures;
            while old.next_if(|(known, _)| *known < key).is_some() {}
            if let Some((_, before)) = old.next_if(|(known, _)| *known == key) {
                line.figures = total.since(&before);
            }
            debug_assert!(self.totals.last().is_none_or(|(last, _)| *last < key));
            self.totals.push((key, total));
            if line.figures.is_idle() {
                continue;
            }
            all = all.plus(&line.figures);
            match groups.last_mut().filter(|group| group.container == container) {
                Some(group) => {
                    group.sum = group.sum.plus(&line.figures);
                    group.lines.push(line);
                }
                None => {
                    let sum = line.figures;
                    groups.push(Group { container: container.to_owned(), sum, lines: vec![line] });
                }
            }
        }
        let seconds = now_ns.saturating_sub(self.taken_ns).max(1) as f64 / 1e9;
        self.taken_ns = now_ns;
        Interval { seconds, sum: all, groups }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(destination: &str, figures: Figures) -> Line {
        Line { destination: destination.to_owned(), actual: destination.to_owned(), figures }
    }

    #[test]
    fn only_what_is_new_is_shown() {
        let mut rates = Rates::new(1_000_000_000);
        let of = |connects, sent| Figures { connects, sent, ..Figures::default() };
        let first = vec![
            (1, "/docker/a", line("10.0.0.1:1", of(3, 500))),
            (2, "/docker/a", line("10.0.0.2:1", of(1, 10))),
            (3, "/docker/b", line("10.0.0.1:1", of(0, 0))),
        ];
        let interval = rates.take(first, 3_000_000_000);
        assert!((interval.seconds - 2.0).abs() < 1e-9);
        assert_eq!(interval.groups.len(), 1);
        assert_eq!(interval.groups[0].sum, of(4, 510));

        let active = Figures { active: 2, rtt_us: Some(80), ..of(3, 500) };
        let second = vec![
            (1, "/docker/a", line("10.0.0.1:1", active)),
            (3, "/docker/b", line("10.0.0.1:1", Figures { rtt_us: Some(9), ..of(2, 7) })),
            // One that is new; the second of before is gone.
            (4, "/docker/b", line("10.0.0.2:1", of(1, 10))),
        ];
        let interval = rates.take(second, 3_500_000_000);
        assert!((interval.seconds - 0.5).abs() < 1e-9);
        let [a, b] = &interval.groups[..] else { panic!("{interval:?}") };
        assert_eq!(a.sum, Figures { active: 2, rtt_us: Some(80), ..Figures::default() });
        assert_eq!((b.lines.len(), b.sum), (2, Figures { rtt_us: Some(9), ..of(3, 17) }));
        assert_eq!(interval.sum, Figures { active: 2, rtt_us: Some(9), ..of(3, 17) });

        // Nothing at all, twice in the same nanosecond.
        let interval = rates.take(Vec::new(), 3_500_000_000);
        assert!(interval.seconds > 0.0 && interval.groups.is_empty());
    }

    #[test]
    fn a_counter_that_falls_is_no_flood() {
        let mut rates = Rates::new(0);
        let of = |connects| Figures { connects, ..Figures::default() };
        rates.take(vec![(1, "a", line("x", of(9)))], 1);
        let interval = rates.take(vec![(1, "a", line("x", of(3)))], 2);
        assert!(interval.groups.is_empty());
    }
}
