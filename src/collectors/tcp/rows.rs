//! What the collector knows as plain numbers, for who shows it otherwise than as metrics (`nodeprobe top`).

use super::Tcp;
use super::total::{Actual, OTHER_LABEL, Target, Total, measured_address};
use crate::containers::IdentityId;
use crate::world::World;

/// What a row is about, as long as it is there: whose it is, where to, and who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey(Option<IdentityId>, Target, Actual);

/// A container, a destination, and who answers there, with counts since the collector was opened.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// What it is about.
    pub key: RowKey,
    /// Label `container_id`.
    pub container: &'a str,
    /// Label `destination`.
    pub destination: &'a str,
    /// Label `actual_destination`; empty when it could not be found out.
    pub actual: &'a str,
    /// Connections established.
    pub connects: u64,
    /// Nanoseconds that took.
    pub connect_ns: u64,
    /// Connects that failed; those of a destination are all in the first of its rows.
    pub failures: u64,
    /// Bytes of payload sent.
    pub sent: u64,
    /// Bytes of payload received.
    pub received: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Connections established now.
    pub active: u64,
    /// The smallest round trip in the last minute, in microseconds.
    pub rtt_us: Option<u32>,
}

impl Tcp {
    /// Hands out every destination of every container, as of the last refresh, in the order of their keys.
    pub fn each_row<'a>(&'a self, world: &'a World, mut each: impl FnMut(Row<'a>)) {
        if let Some(stray) = &self.table.stray {
            self.rows_of(None, OTHER_LABEL, None, stray, &mut each);
        }
        for ((identity, target), total) in &self.table.totals {
            if let Some(named) = world.containers.identity(*identity) {
                self.rows_of(Some(*identity), &named.id, *target, total, &mut each);
            }
        }
    }

    fn rows_of<'a>(
        &'a self,
        identity: Option<IdentityId>,
        container: &'a str,
        target: Target,
        total: &'a Total,
        each: &mut dyn FnMut(Row<'a>),
    ) {
        let mut splits: Vec<_> = total.splits.iter().collect();
        splits.sort_unstable_by_key(|split| split.actual);
        for (at, split) in splits.into_iter().enumerate() {
            let address = identity.zip(measured_address(target, split.actual));
            each(Row {
                key: RowKey(identity, target, split.actual),
                container,
                destination: &total.label,
                actual: &split.label,
                connects: split.values.successes,
                connect_ns: split.values.connect_ns,
                failures: if at == 0 { total.failures } else { 0 },
                sent: split.values.sent,
                received: split.values.received,
                retransmits: split.values.retransmits,
                active: split.active,
                rtt_us: address.and_then(|key| self.table.latencies.get(&key).copied()),
            });
        }
    }
}
