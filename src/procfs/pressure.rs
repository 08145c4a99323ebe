//! `/proc/pressure/{cpu,memory,io,irq}` and the `*.pressure` files of cgroups.
//!
//! Kernel document: Documentation/accounting/psi.rst. Totals are microseconds of stall. `irq` has
//! no `some` line, and kernels before 5.13 no `full` line for the processor.

use super::text;

/// Total stall times of one resource, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Time at least one task was stalled.
    pub some_us: Option<u64>,
    /// Time all non-idle tasks were stalled at once.
    pub full_us: Option<u64>,
}

/// Reads the totals of the `some` and `full` lines.
pub fn parse(bytes: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text::lines(bytes) {
        if let Some(values) = line.strip_prefix(b"some ") {
            pressure.some_us = total(values);
        } else if let Some(values) = line.strip_prefix(b"full ") {
            pressure.full_us = total(values);
        }
    }
    pressure
}

fn total(values: &[u8]) -> Option<u64> {
    let total = text::fields(values).find_map(|field| field.strip_prefix(b"total="))?;
    text::number(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"some avg10=0.12 avg60=1.05 avg300=0.40 total=123456789\n\
        full avg10=0.00 avg60=0.00 avg300=0.00 total=42\n";

    #[test]
    fn reads_both_totals() {
        let pressure = parse(SAMPLE);
        assert_eq!(pressure.some_us, Some(123_456_789));
        assert_eq!(pressure.full_us, Some(42));
    }

    #[test]
    fn a_missing_line_is_none() {
        assert_eq!(parse(b"some avg10=0.00 total=1\n").full_us, None);
        assert_eq!(parse(b"full avg10=0.00 total=1\n").some_us, None);
        assert_eq!(parse(b"some avg10=0.00\nfull total=x\n"), Pressure::default());
        assert_eq!(parse(b""), Pressure::default());
    }

    #[test]
    fn a_cut_total_is_not_used() {
        assert_eq!(parse(b"some avg10=0.00 total=1234"), Pressure::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
