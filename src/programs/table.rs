//! Metrics made from maps that are tables: hash maps and arrays, per processor or not.

use super::config::{self, Kind};
use super::histogram::{Layout, bucket_number};
use super::keys::Keys;
use super::rows::{RowLabels, Rows};
use crate::decoders::{Names, Outcome};
use crate::error::{Error, Reason, Result};
use crate::registry::Writer;
use crate::sys::bpf::{Map, MapShape, MapType};

/// A label of this name, as the last one of a per-CPU map, is the processor's number, which is not in the key.
const CPU_LABEL: &str = "cpu";
/// Bytes the processor's number is decoded from.
const CPU_BYTES: usize = 2;
/// Bytes of every value.
const VALUE_BYTES: usize = 8;
/// Key of the only entry of an array, which is all there is when a metric has no labels.
const ONLY_KEY: [u8; 4] = [0; 4];
/// Labels that say nothing of the key.
const NO_LABELS: &str = "no labels";
const CPU_ALONE: &str = "label cpu alone";

/// What became of the keys of one reading.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// Keys a decoder could not read.
    pub errors: u64,
    /// Keys of a histogram that are no bucket.
    pub strangers: u64,
}

/// One map and what its entries mean.
pub struct Table {
    map: Map,
    keys: Keys,
    values: Values,
    cpu: Cpu,
    rows: Rows,
    /// Where each label is among the family's, which are in alphabetical order.
    places: Box<[usize]>,
    /// Label sets beyond the limit, those of all readings.
    refused: u64,
    /// What is wrong with the first key of this reading that was.
    pub problem: Option<String>,
}

enum Values {
    Counter,
    Gauge,
    Histogram(Layout),
}

/// What becomes of the values of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    /// There is one value only.
    None,
    /// They add up.
    Sum,
    /// Each has a label.
    Label,
    /// Each has a label, and there is no other: the key of the only entry says nothing.
    OnlyLabel,
}

impl Cpu {
    fn of(kind: MapType, labels: &[config::Label]) -> Cpu {
        match labels {
            _ if !kind.is_per_cpu() => Cpu::None,
            [only] if &*only.name == CPU_LABEL => Cpu::OnlyLabel,
            [.., last] if &*last.name == CPU_LABEL => Cpu::Label,
            _ => Cpu::Sum,
        }
    }
}

/// Checks that the map in the object is what the metric describes.
///
/// # Errors
/// What does not fit, with the numbers and the key's fields.
pub fn check_shape(metric: &config::Metric, shape: &MapShape) -> Result<(), String> {
    if metric.kind.is_events() {
        if shape.kind != MapType::PERF_EVENT_ARRAY {
            return Err(format!("perf_event_array: true, but map {} is {}", shape.name, shape.kind.word()));
        }
        return Ok(());
    }
    if !shape.kind.is_table() {
        return Err(format!("map {} is {}, which cannot be listed", shape.name, shape.kind.word()));
    }
    if shape.value_size != VALUE_BYTES {
        let size = shape.value_size;
        return Err(format!("value size of map {} is {size} bytes, expected 8 (u64)", shape.name));
    }
    let labels = &metric.labels;
    let size =
        |labels: &[config::Label]| -> usize { labels.iter().map(|label| label.size + label.padding).sum() };
    let (wanted, what) = match Cpu::of(shape.kind, labels) {
        Cpu::None | Cpu::Sum if labels.is_empty() => (ONLY_KEY.len(), NO_LABELS),
        Cpu::None | Cpu::Sum => (size(labels), "labels"),
        Cpu::OnlyLabel | Cpu::Label if labels[labels.len() - 1].size != CPU_BYTES => {
            return Err("label cpu of a per-CPU map has size 2: the processor's number is a u16".to_owned());
        }
        Cpu::OnlyLabel => (ONLY_KEY.len(), CPU_ALONE),
        Cpu::Label => (size(&labels[..labels.len() - 1]), "labels without cpu"),
    };
    if wanted != shape.key_size {
        return Err(format!(
            "{what}: sizes and paddings add up to {wanted} bytes, but keys of map {} have {}{}",
            shape.name,
            shape.key_size,
            layout(shape)
        ));
    }
    // Keys of an array are all there from the start, and those behind the first would be errors in every reading.
    if matches!(what, NO_LABELS | CPU_ALONE) && shape.kind.is_array() && shape.max_entries > 1 {
        return Err(format!(
            "{what}: only the entry with key 0 can be read, but map {} has {} entries",
            shape.name, shape.max_entries
        ));
    }
    Ok(())
}

/// What the object's type information says of a key: ` (a: 4, b: 1, padding: 3)`.
fn layout(shape: &MapShape) -> String {
    if shape.key.len() < 2 {
        return String::new();
    }
    let mut parts = Vec::new();
    let mut end = 0;
    for field in &shape.key {
        if field.offset > end {
            parts.push(format!("padding: {}", field.offset - end));
        }
        parts.push(format!("{}: {}", field.name, field.size));
        end = field.offset + field.size;
    }
    if shape.key_size > end {
        parts.push(format!("padding: {}", shape.key_size - end));
    }
    format!(" ({})", parts.join(", "))
}

impl Table {
    /// A metric's table; `keys` are made from its labels, and `map` has the shape that [`check_shape`] accepted.
    ///
    /// # Errors
    /// A metric of perf events.
    pub fn new(metric: &config::Metric, keys: Keys, map: Map, limit: u32) -> Result<Table> {
        let cpu = Cpu::of(map.kind(), &metric.labels);
        let (values, rows) = match &metric.kind {
            Kind::Counter => (Values::Counter, Rows::new(keys.len(), 1, limit)),
            Kind::Gauge => (Values::Gauge, Rows::new(keys.len(), 1, limit)),
            Kind::Histogram(buckets) => {
                let layout = Layout::new(buckets);
                // A histogram has a series per bucket and three more; one that is larger than the limit has no place at all.
                let limit = limit / (layout.stride() as u32 + 2);
                let rows = Rows::new(keys.len().saturating_sub(1), layout.stride(), limit);
                (Values::Histogram(layout), rows)
            }
            Kind::Events { .. } => return Err(Error::new(Reason::Failed, "not a table")),
        };
        let (_, places) = keys.sorted_names(keys.len() - usize::from(matches!(values, Values::Histogram(_))));
        Ok(Table { map, keys, values, cpu, rows, places, refused: 0, problem: None })
    }

    /// Reads the whole map.
    ///
    /// # Errors
    /// What the kernel says; the rows are incomplete then.
    pub fn read(&mut self, names: &mut Names<'_>) -> Result<Outcomes> {
        let Table { map, keys, values, cpu, rows, refused, problem, .. } = self;
        let mut outcomes = Outcomes::default();
        let (labels, text) = (RowLabels::default(), Vec::new());
        let mut entry = Entry { keys, values, rows, labels, text, waiting: Waiting::default() };
        entry.rows.begin();
        entry.keys.begin();
        *problem = None;
        let read = map.for_each(|key, value| {
            if let Err(error) = entry.add(names, *cpu, key, value, &mut outcomes) {
                outcomes.errors += 1;
                problem.get_or_insert_with(|| format!("key {}: {error}", hex(key)));
            }
        });
        entry.finish();
        entry.keys.end();
        *refused += entry.rows.take_refused();
        read.map(|()| outcomes)
    }

    /// Adds all series.
    pub fn write(&self, out: &mut Writer<'_>) {
        match &self.values {
            Values::Counter => self.rows.for_each(&self.places, |labels, row| out.add(labels, row[0] as f64)),
            Values::Gauge => {
                self.rows.for_each(&self.places, |labels, row| out.add(labels, row[0].cast_signed() as f64))
            }
            Values::Histogram(layout) => self.rows.for_each(&self.places, |labels, row| {
                let (buckets, sum, count) = layout.summarise(row);
                out.histogram(labels, buckets, sum, count);
            }),
        }
        out.refused_total(self.refused);
    }

    /// What decodes the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Hands every entry to `each`: the key, its labels and its value, before anything is added up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list(&mut self, names: &mut Names<'_>, mut each: impl FnMut(&[u8], &[&str], u64)) -> Result<()> {
        let Table { map, keys, cpu, .. } = self;
        let mut labels = RowLabels::default();
        let mut row = Rows::new(keys.len(), 1, 1);
        let in_order: Vec<usize> = (0..keys.len()).collect();
        map.for_each(|key, value| {
            let (values, _) = value.as_chunks::<VALUE_BYTES>();
            for (number, value) in values.iter().enumerate() {
                let full = full_key(*cpu, key, number);
                labels.clear();
                if matches!(keys.decode(names, keys.len(), &full, &mut labels), Ok(Outcome::Text)) {
                    row.begin();
                    row.row(&labels);
                    row.for_each(&in_order, |labels, _| each(&full, labels, u64::from_ne_bytes(*value)));
                }
            }
        })
    }
}

/// The key of one processor's value, as the labels describe it.
fn full_key(cpu: Cpu, key: &[u8], number: usize) -> Vec<u8> {
    let mut full = if cpu == Cpu::OnlyLabel && key == ONLY_KEY { Vec::new() } else { key.to_vec() };
    if matches!(cpu, Cpu::Label | Cpu::OnlyLabel) {
        full.extend_from_slice(&(number as u16).to_ne_bytes());
    }
    full
}

/// Everything one entry needs to become part of a row.
struct Entry<'a> {
    keys: &'a mut Keys,
    values: &'a Values,
    rows: &'a mut Rows,
    labels: RowLabels,
    text: Vec<u8>,
    waiting: Waiting,
}

/// The entry before, whose row is on its way from memory while the next one is decoded.
#[derive(Default)]
struct Waiting {
    labels: RowLabels,
    hash: u64,
    value: Option<u64>,
}

impl Entry<'_> {
    fn add(
        &mut self,
        names: &mut Names<'_>,
        cpu: Cpu,
        key: &[u8],
        value: &[u8],
        outcomes: &mut Outcomes,
    ) -> Result<(), String> {
        let (values, _) = value.as_chunks::<VALUE_BYTES>();
        if matches!(cpu, Cpu::None | Cpu::Sum) {
            // Counts wrap in the kernel too, and gauges may be negative on one processor.
            let sum = values.iter().fold(0u64, |sum, value| sum.wrapping_add(u64::from_ne_bytes(*value)));
            return self.add_value(names, key, sum, outcomes);
        }
        for (number, value) in values.iter().enumerate() {
            self.add_value(names, &full_key(cpu, key, number), u64::from_ne_bytes(*value), outcomes)?;
        }
        Ok(())
    }

    /// Adds the entry that waits.
    fn finish(&mut self) {
        let Waiting { labels, hash, value } = &mut self.waiting;
        if let Some(value) = value.take()
            && let Some(row) = self.rows.row_of(*hash, labels)
        {
            row[0] = row[0].wrapping_add(value);
        }
    }

    fn add_value(
        &mut self,
        names: &mut Names<'_>,
        key: &[u8],
        value: u64,
        outcomes: &mut Outcomes,
    ) -> Result<(), String> {
        let fits = if self.keys.is_empty() { key == ONLY_KEY } else { key.len() == self.keys.size() };
        if !fits {
            return Err(format!("labels take {} bytes of {}", self.keys.size(), key.len()));
        }
        self.labels.clear();
        let Values::Histogram(layout) = self.values else {
            if self.keys.decode(names, self.keys.len(), key, &mut self.labels)? == Outcome::Text {
                let hash = self.rows.expect(&self.labels);
                self.finish();
                std::mem::swap(&mut self.labels, &mut self.waiting.labels);
                (self.waiting.hash, self.waiting.value) = (hash, Some(value));
            }
            return Ok(());
        };
        let bucket = self.keys.len() - 1;
        let (before, field) = key.split_at(self.keys.field(bucket).start);
        let field = &field[..self.keys.field(bucket).len()];
        if self.keys.decode(names, bucket, before, &mut self.labels)? == Outcome::Skip {
            return Ok(());
        }
        self.text.clear();
        if self.keys.decode_one(names, bucket, field, &mut self.text)? == Outcome::Skip {
            return Ok(());
        }
        let number = bucket_number(&self.text).ok_or_else(|| {
            format!("the last label, {:?}, is not a bucket's number", String::from_utf8_lossy(&self.text))
        })?;
        // A label set is there from its first key on, whichever that is.
        let row = self.rows.row(&self.labels);
        match (layout.slot(number), row) {
            (Some(slot), Some(row)) => row[slot] = row[slot].wrapping_add(value),
            (None, _) => outcomes.strangers += 1,
            (Some(_), None) => {}
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 64 {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_leave_the_key_out_want_a_single_entry() {
        let label = |name: &str, size| config::Label {
            name: name.into(),
            size,
            padding: 0,
            decoders: vec![],
            mark: Default::default(),
        };
        let check = |labels: Vec<config::Label>, kind, max_entries| {
            let (help, mark) = ("x".into(), config::Mark::default());
            let metric = config::Metric { name: "x".into(), help, kind: Kind::Counter, labels, mark };
            let (name, key) = ("x".to_owned(), Vec::new());
            check_shape(
                &metric,
                &MapShape { name, kind, key_size: 4, value_size: 8, max_entries, is_preallocated: true, key },
            )
        };
        for (kind, labels) in [
            (MapType::ARRAY, vec![]),
            (MapType::PERCPU_ARRAY, vec![]),
            (MapType::PERCPU_ARRAY, vec![label("cpu", 2)]),
        ] {
            assert_eq!(check(labels.clone(), kind, 1), Ok(()));
            let error = check(labels, kind, 2).unwrap_err();
            assert!(
                error.ends_with(": only the entry with key 0 can be read, but map x has 2 entries"),
                "{error}"
            );
        }
        assert_eq!(check(vec![], MapType::HASH, 64), Ok(()), "its keys are what the program makes");
        assert_eq!(check(vec![label("cpu", 4)], MapType::ARRAY, 64), Ok(()), "here it is the key");
        assert_eq!(check(vec![label("a", 4), label("cpu", 2)], MapType::PERCPU_ARRAY, 64), Ok(()));
    }
}
