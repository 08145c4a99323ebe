//! What is exported of one container and one destination.

use std::net::IpAddr;

use super::layout::Destination;
use crate::limits;
use crate::sys::clock::MonotonicNs;

/// The destination of what is beyond a cap, and the container of what no table had room for.
pub const OTHER_LABEL: &str = "~other";

/// What a series is about: `None` is `~other`.
pub type Target = Option<Destination>;

/// Who answers for a destination: label `actual_destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actual {
    /// The destination itself.
    Same,
    /// Somebody else: addresses are translated on the way.
    At(Destination),
    /// It could not be found out.
    Unknown,
    /// One of those beyond a cap.
    Other,
}

/// Counters that are split by who answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Values {
    /// Connections established.
    pub successes: u64,
    /// Nanoseconds that took.
    pub connect_ns: u64,
    /// Bytes of payload sent.
    pub sent: u64,
    /// Bytes of payload received.
    pub received: u64,
    /// Segments sent again.
    pub retransmits: u64,
}

impl Values {
    /// Applies `f` to each of the counters of both.
    fn zip(self, other: Values, f: impl Fn(u64, u64) -> u64) -> Values {
        Values {
            successes: f(self.successes, other.successes),
            connect_ns: f(self.connect_ns, other.connect_ns),
            sent: f(self.sent, other.sent),
            received: f(self.received, other.received),
            retransmits: f(self.retransmits, other.retransmits),
        }
    }

    /// The sums.
    pub fn plus(self, other: Values) -> Values {
        self.zip(other, u64::saturating_add)
    }

    /// The differences, or 0.
    pub fn minus(self, other: Values) -> Values {
        self.zip(other, u64::saturating_sub)
    }

    /// The smaller of each two.
    pub fn least(self, other: Values) -> Values {
        self.zip(other, u64::min)
    }

    /// The larger of each two.
    pub fn most(self, other: Values) -> Values {
        self.zip(other, u64::max)
    }

    /// True without any count.
    pub fn is_zero(&self) -> bool {
        *self == Values::default()
    }
}

/// The part of a total that one peer answered for.
#[derive(Debug, Clone)]
pub struct Split {
    /// Who answers.
    pub actual: Actual,
    /// Label `actual_destination`.
    pub label: Box<str>,
    /// What was counted.
    pub values: Values,
    /// Connections established now.
    pub active: u64,
    /// When it last had any part in what was counted.
    pub changed_ns: MonotonicNs,
}

/// What a container has done with one target, all its instances together.
#[derive(Debug, Clone)]
pub struct Total {
    /// Label `destination`.
    pub label: Box<str>,
    /// Connects that failed.
    pub failures: u64,
    /// The rest, by who answers; never empty.
    pub splits: Vec<Split>,
    /// When somebody last tried to connect.
    pub attempted_ns: MonotonicNs,
}

impl Total {
    /// Nothing counted yet.
    pub fn new(target: Target, now_ns: MonotonicNs) -> Total {
        let label: Box<str> = target.map_or_else(|| OTHER_LABEL.into(), |target| target.to_string().into());
        let actual = if target.is_some() { Actual::Same } else { Actual::Other };
        let split =
            Split { actual, label: label.clone(), values: Values::default(), active: 0, changed_ns: now_ns };
        Total { label, failures: 0, splits: vec![split], attempted_ns: now_ns }
    }

    /// The part `actual` answers for, to be changed now.
    pub fn split(&mut self, actual: Actual, now_ns: MonotonicNs) -> &mut Split {
        let is_known = |split: &Split| split.actual == actual;
        let at = match self.splits.iter().position(is_known) {
            Some(at) => at,
            // What `~other` stands for has many peers.
            None if self.splits[0].actual == Actual::Other => 0,
            None if self.splits.len() >= limits::TCP_ACTUAL_DESTINATIONS && actual != Actual::Other => {
                return self.split(Actual::Other, now_ns);
            }
            None => {
                let label = match actual {
                    Actual::Same => self.label.clone(),
                    Actual::At(peer) => peer.to_string().into(),
                    Actual::Unknown => "".into(),
                    Actual::Other => OTHER_LABEL.into(),
                };
                self.splits.push(Split {
                    actual,
                    label,
                    values: Values::default(),
                    active: 0,
                    changed_ns: now_ns,
                });
                self.splits.len() - 1
            }
        };
        let split = &mut self.splits[at];
        split.changed_ns = now_ns;
        split
    }

    /// Ends the series of those who have not answered for `idle_ns`, but for the first: backends come and go.
    pub fn forget_idle(&mut self, idle_ns: u64, now_ns: MonotonicNs) {
        let mut is_first = true;
        self.splits.retain(|split| {
            let is_kept = split.active > 0 || now_ns.saturating_sub(split.changed_ns) < idle_ns;
            is_kept || std::mem::take(&mut is_first)
        });
    }

    /// Connections established now.
    pub fn active(&self) -> u64 {
        self.splits.iter().map(|split| split.active).sum()
    }
}

/// The address that says something about the latency of `actual`, unless it is this host.
pub fn measured_address(target: Target, actual: Actual) -> Option<IpAddr> {
    let address = match actual {
        Actual::Same => target?.address,
        Actual::At(peer) => peer.address,
        Actual::Unknown | Actual::Other => return None,
    };
    (!address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(last: u8) -> Destination {
        Destination { address: Ipv4Addr::new(10, 0, 0, last).into(), port: 80 }
    }

    #[test]
    fn peers_beyond_the_cap_are_one() {
        let mut total = Total::new(Some(at(1)), 0);
        for n in 2..=200 {
            total.split(Actual::At(at(n)), 0).values.successes += 1;
        }
        assert_eq!(total.splits.len(), limits::TCP_ACTUAL_DESTINATIONS + 1);
        assert_eq!(total.splits.iter().map(|split| split.values.successes).sum::<u64>(), 199);
        assert_eq!(&*total.split(Actual::Other, 0).label, OTHER_LABEL);
        assert_eq!(&*total.split(Actual::Same, 0).label, "10.0.0.1:80");
        let mut other = Total::new(None, 0);
        other.split(Actual::Unknown, 0).active = 3;
        assert_eq!((other.splits.len(), other.active()), (1, 3));
    }

    #[test]
    fn backends_that_are_gone_end() {
        let mut total = Total::new(Some(at(1)), 0);
        total.split(Actual::At(at(2)), 5).active = 1;
        total.split(Actual::At(at(3)), 5);
        total.split(Actual::At(at(4)), 90);
        total.forget_idle(50, 100);
        let left: Vec<&str> = total.splits.iter().map(|split| &*split.label).collect();
        assert_eq!(left, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.4:80"]);
    }

    #[test]
    fn only_other_hosts_have_a_latency() {
        let local = Destination { address: Ipv4Addr::LOCALHOST.into(), port: 80 };
        assert_eq!(measured_address(Some(at(1)), Actual::Same), Some(at(1).address));
        assert_eq!(measured_address(Some(at(1)), Actual::At(at(2))), Some(at(2).address));
        assert_eq!(measured_address(Some(local), Actual::Same), None);
        assert_eq!(measured_address(Some(at(1)), Actual::Unknown), None);
        assert_eq!(measured_address(None, Actual::Same), None);
    }
}
