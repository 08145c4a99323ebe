//! Bucket arithmetic, exactly as ebpf_exporter's configs and programs expect it (`docs/CONFIG.md`).
//!
//! A histogram's map has a count per bucket number, and behind the last bucket the sum of all observations in the unit of the
//! numbers. Bounds are inclusive; `bucket_max` is the last bucket, not one behind it.

use super::config::{Buckets, Scale};

/// Which numbers are buckets, and what their bounds are.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Bucket numbers, ascending, when they are not just `first`, `first + 1`, ...
    keys: Option<Box<[u64]>>,
    first: u64,
    /// The key of the sum.
    sum_key: u64,
    /// Upper bounds, ascending.
    bounds: Box<[f64]>,
    multiplier: f64,
}

impl Layout {
    /// The layout a config describes.
    pub fn new(buckets: &Buckets) -> Layout {
        let multiplier = buckets.multiplier;
        let range = |min: i64, max: i64, bound: &dyn Fn(u64) -> f64| {
            let (min, max) = (min.max(0) as u64, max.max(0) as u64);
            let bounds = (min..=max).map(|key| bound(key) * multiplier).collect();
            Layout { keys: None, first: min, sum_key: max.saturating_add(1), bounds, multiplier }
        };
        let power = |key: u64| f64::powi(2.0, i32::try_from(key).unwrap_or(i32::MAX));
        match buckets.scale {
            Scale::Exp2 { min, max } => range(min, max, &power),
            Scale::Exp2Zero { min, max } => range(min, max, &|key| key.checked_sub(1).map_or(0.0, power)),
            Scale::Linear { min, max } => range(min, max, &|key| key as f64),
            Scale::Fixed(ref keys) => Layout::fixed(keys, multiplier),
        }
    }

    /// A key that is no whole number can never be met; its bucket is there all the same.
    fn fixed(keys: &[f64], multiplier: f64) -> Layout {
        let mut keys = keys.to_vec();
        keys.sort_by(f64::total_cmp);
        keys.dedup();
        let number = |key: &f64| if key.fract() == 0.0 && *key >= 0.0 { *key as u64 } else { NEVER };
        let last = keys.last().copied().unwrap_or(0.0);
        Layout {
            bounds: keys.iter().map(|key| key * multiplier).collect(),
            keys: Some(keys.iter().map(number).collect()),
            first: 0,
            sum_key: if last.fract() == 0.0 { (last + 1.0) as u64 } else { NEVER },
            multiplier,
        }
    }

    /// Numbers a row needs: one per bucket and the sum.
    pub fn stride(&self) -> usize {
        self.bounds.len() + 1
    }

    /// Where in a row the map's key `key` counts; `None` for one that is no bucket.
    pub fn slot(&self, key: u64) -> Option<usize> {
        let buckets = self.bounds.len();
        if key == self.sum_key {
            return Some(buckets);
        }
        match &self.keys {
            Some(keys) => keys.iter().position(|&known| known == key && known != NEVER),
            None => {
                let at = key.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                at.filter(|&at| at < buckets)
            }
        }
    }

    /// Bounds with cumulative counts, the sum, and the count of a row.
    pub fn summarise<'a>(
        &'a self,
        row: &'a [u64],
    ) -> (impl ExactSizeIterator<Item = (f64, u64)> + 'a, f64, u64) {
        let counts = &row[..self.bounds.len()];
        let mut total = 0u64;
        let buckets = self.bounds.iter().zip(counts).map(move |(&bound, &count)| {
            total = total.wrapping_add(count);
            (bound, total)
        });
        let count = counts.iter().fold(0u64, |all, &count| all.wrapping_add(count));
        (buckets, row[self.bounds.len()] as f64 * self.multiplier, count)
    }
}

/// A key no map has.
const NEVER: u64 = u64::MAX;

/// The bucket number a decoded label stands for: unsigned, in any base Go's `strconv.ParseUint` takes with base 0.
pub fn bucket_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    // Nearly always plain digits.
    if !text.starts_with(['0', '+'])
        && let Ok(number) = text.parse()
    {
        return Some(number);
    }
    let text = text.replace('_', "");
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    // Rust would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| u64::from_str_radix(digits, base).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;

    /// The worked examples of ebpf_exporter's arithmetic: buckets `le=count`, then sum and count.
    #[track_caller]
    fn check(scale: Scale, multiplier: f64, entries: &[(u64, u64)], expected: &str) {
        let layout = Layout::new(&Buckets { scale, multiplier });
        let mut row = vec![0; layout.stride()];
        for &(key, count) in entries {
            if let Some(slot) = layout.slot(key) {
                row[slot] += count;
            }
        }
        let (buckets, sum, count) = layout.summarise(&row);
        let mut text = Vec::new();
        for (bound, total) in buckets {
            number::write(&mut text, bound);
            text.extend_from_slice(format!("={total} ").as_bytes());
        }
        number::write(&mut text, sum);
        assert_eq!(format!("{} {count}", String::from_utf8(text).unwrap()), expected);
    }

    #[test]
    fn exp2() {
        let entries = [(0, 2), (2, 5), (3, 1), (4, 123), (9, 7)];
        let expected = "1e-06=2 2e-06=2 4e-06=7 8e-06=8 0.00012299999999999998 8";
        check(Scale::Exp2 { min: 0, max: 3 }, 0.000001, &entries, expected);
        check(Scale::Exp2 { min: 2, max: 2 }, 1.0, &[(1, 5), (2, 3), (3, 40)], "4=3 40 3");
        check(
            Scale::Exp2 { min: 0, max: 1 },
            0.000001,
            &[(2, 1824)],
            "1e-06=0 2e-06=0 0.0018239999999999999 0",
        );
    }

    #[test]
    fn exp2zero() {
        let entries = [(0, 4), (1, 1), (3, 2), (4, 11)];
        check(Scale::Exp2Zero { min: 0, max: 3 }, 1.0, &entries, "0=4 1=5 2=5 4=7 11 7");
    }

    #[test]
    fn linear() {
        check(
            Scale::Linear { min: 0, max: 3 },
            50.0,
            &[(0, 1), (3, 2), (4, 9)],
            "0=1 50=1 100=1 150=3 450 3",
        );
        // Not where 32 bits of it would be.
        check(Scale::Linear { min: 0, max: 1 }, 1.0, &[(0, 1), (1 << 32, 7)], "0=1 1=1 0 1");
        check(Scale::Linear { min: 2, max: 4 }, 1.0, &[(1, 100), (2, 1), (4, 1)], "2=1 3=1 4=2 0 2");
    }

    #[test]
    fn fixed() {
        let entries = [(1, 2), (10, 3), (11, 40)];
        check(Scale::Fixed(vec![1.0, 5.0, 10.0]), 0.5, &entries, "0.5=2 2.5=2 5=5 20 5");
        check(Scale::Fixed(vec![10.0, 1.0, 5.0, 5.0]), 0.5, &entries, "0.5=2 2.5=2 5=5 20 5");
        check(Scale::Fixed(vec![0.5, 2.0]), 1.0, &[(0, 9), (2, 1), (3, 6)], "0.5=0 2=1 6 1");
    }

    #[test]
    fn bucket_numbers_in_any_base() {
        for (text, number) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("0x1F", Some(31)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("+1", None),
            ("0x", None),
            ("08", None),
            ("", None),
            ("eth0", None),
        ] {
            assert_eq!(bucket_number(text.as_bytes()), number, "{text:?}");
        }
        assert_eq!(bucket_number(b"\xff"), None);
    }
}
