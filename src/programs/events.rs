//! Counters whose map is a perf event array: every event adds one.

use std::os::fd::{AsRawFd, RawFd};

use super::keys::Keys;
use super::rows::{RowLabels, Rows};
use crate::decoders::{Names, Outcome};
use crate::error::Result;
use crate::limits;
use crate::registry::Writer;
use crate::sys::bpf::{Map, PerfBuffer, Record};
use crate::sys::clock::MonotonicNs;

/// The rings of one map, and what came out of them.
pub struct Events {
    buffer: PerfBuffer,
    keys: Keys,
    /// Per label set the count, and when the last event came.
    rows: Rows,
    places: Box<[usize]>,
    flush_interval_ns: u64,
    lost: u64,
    /// Events beyond the limit of series.
    refused: u64,
    /// What is wrong with the last event that could not be read.
    pub problem: Option<String>,
}

const COUNT: usize = 0;
const LAST_NS: usize = 1;

impl Events {
    /// Opens the rings of `map`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(map: &Map, mut keys: Keys, flush_interval_ns: u64, limit: u32) -> Result<Events> {
        let buffer = PerfBuffer::open(map, limits::PERF_BUFFER_PAGES)?;
        let rows = Rows::new(keys.len(), 2, limit);
        let (_, places) = keys.sorted_names(keys.len());
        keys.begin();
        Ok(Events { buffer, keys, rows, places, flush_interval_ns, lost: 0, refused: 0, problem: None })
    }

    /// Takes what is in the rings; gives how many events could not be read.
    pub fn read(&mut self, names: &mut Names<'_>) -> u64 {
        let Events { buffer, keys, rows, lost, problem, .. } = self;
        let mut errors = 0;
        let mut labels = RowLabels::default();
        buffer.consume(|record| {
            let data = match record {
                Record::Lost(count) => return *lost += count,
                Record::Sample(data) => data,
            };
            labels.clear();
            match keys.decode(names, keys.len(), data, &mut labels) {
                Ok(Outcome::Text) => {
                    if let Some(row) = rows.row(&labels) {
                        row[COUNT] += 1;
                        row[LAST_NS] = names.now_ns;
                    }
                }
                Ok(Outcome::Skip) => {}
                Err(error) => {
                    errors += 1;
                    *problem = Some(error);
                }
            }
        });
        self.refused += self.rows.take_refused();
        errors
    }

    /// Ends series that had no event for the flush interval; decoders forget what no event since the last call asked for.
    pub fn flush(&mut self, now_ns: MonotonicNs) {
        // Events are decoded as they come: what lies between two calls is what one reading is for a map.
        self.keys.end();
        self.keys.begin();
        let oldest_ns = now_ns.saturating_sub(self.flush_interval_ns);
        self.rows.retain(|row| row[LAST_NS] >= oldest_ns);
    }

    /// Events that found a ring full.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What decodes the events.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Adds all series.
    pub fn write(&self, out: &mut Writer<'_>) {
        self.rows.for_each(&self.places, |labels, row| out.add(labels, row[COUNT] as f64));
        out.refused_total(self.refused);
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.buffer.as_raw_fd()
    }
}
