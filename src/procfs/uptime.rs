//! `/proc/uptime`: seconds since boot.
//!
//! Kernel document: Documentation/filesystems/proc.rst, "uptime". Two numbers in seconds: time
//! since boot, and idle time summed over all processors.

use super::text;

/// Time since boot in seconds; `None` unless the file has exactly two numbers.
pub fn parse(bytes: &[u8]) -> Option<f64> {
    let mut fields = text::fields(bytes);
    let uptime = seconds(fields.next()?)?;
    seconds(fields.next()?)?;
    match fields.next() {
        None => Some(uptime),
        Some(_) => None,
    }
}

/// Digits and a point only: Rust would also read `inf`, `nan` and exponents.
fn seconds(field: &[u8]) -> Option<f64> {
    if !field.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
        return None;
    }
    let seconds: f64 = text::utf8(field)?.parse().ok()?;
    seconds.is_finite().then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn first_of_two_numbers() {
        assert_eq!(parse(b"866.81 1637.36\n"), Some(866.81));
        assert_eq!(parse(b"0.00 0.00\n"), Some(0.0));
    }

    #[test]
    fn anything_else_is_none() {
        for bad in ["", "\n", "1.0\n", "1.0 2.0 3.0\n", "inf 1\n", "-1 2\n", "1 nan\n", ". .\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(b"866.81 1637.36\n", |bytes| {
            if let Some(uptime) = parse(bytes) {
                assert!(uptime.is_finite() && uptime >= 0.0);
            }
        });
    }
}
