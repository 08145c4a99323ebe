//! Numbers as Go prints them with `strconv.FormatFloat(v, 'g', -1, 64)`, which is what existing scrapers have seen from
//! every other exporter: the shortest digits that read back as the same value, with an exponent below 1e-4 and from 1e6 on.

use std::io::Write;

use crate::sys::text::append;

/// Decimal digits that any `f64` represents faithfully (DBL_DIG): a decimal of at most this many digits that converts to a
/// value is the shortest one that does.
const FAITHFUL: u64 = 1_000_000_000_000_000;

/// From which power of ten on the exponent form is used: Go's rule for 'g' with the shortest precision.
const EXPONENT_FROM: i32 = 6;

/// Appends `value` in Go's shortest form; `NaN`, `+Inf` and `-Inf` as the text format spells them.
pub fn write(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return out.push(b'0');
    }
    // Nearly every value is a count, or a count of micro- or nanoseconds: those need no general algorithm.
    if magnitude < FAITHFUL as f64 {
        for (scale, exponent) in [(1.0, 0), (1e6, -6), (1e9, -9)] {
            // To the next whole number; that it is the right one is checked below.
            let scaled = (magnitude * scale + 0.5) as u64;
            if scaled >= FAITHFUL {
                break;
            }
            if scaled as f64 / scale == magnitude {
                return layout(out, scaled, exponent);
            }
        }
    }
    general(out, magnitude);
}

/// Any finite positive value, through the standard library's shortest digits.
fn general(out: &mut Vec<u8>, magnitude: f64) {
    let mut text = [0u8; 32];
    let mut rest = &mut text[..];
    // 17 digits, a point and an exponent fit into 32 bytes.
    let _ = write!(rest, "{magnitude:e}");
    let left = rest.len();
    let text = &text[..32 - left];
    let (mut digits, mut fraction, mut exponent, mut negative) = (0u64, 0, 0i32, false);
    let (mut in_fraction, mut in_exponent) = (false, false);
    for &byte in text {
        match byte {
            b'.' => in_fraction = true,
            b'e' => in_exponent = true,
            b'-' => negative = true,
            _ if in_exponent => exponent = exponent * 10 + i32::from(byte - b'0'),
            _ => {
                digits = digits * 10 + u64::from(byte - b'0');
                fraction += i32::from(in_fraction);
            }
        }
    }
    layout(out, digits, if negative { -exponent } else { exponent } - fraction);
}

/// `number` without its last digit, and that digit. Compiled for size, a division by ten would be the processor's own, which
/// takes five times as long as this multiplication by the reciprocal (exact for every `u64`).
pub(crate) fn split_digit(number: u64) -> (u64, u8) {
    let rest = ((u128::from(number) * 0xcccc_cccc_cccc_cccd) >> 67) as u64;
    (rest, (number - rest * 10) as u8)
}

/// Writes `digits` x 10^`exponent`.
fn layout(out: &mut Vec<u8>, mut digits: u64, mut exponent: i32) {
    let mut text = [0u8; 20];
    let mut start = text.len();
    let mut end = start;
    while digits != 0 {
        let (rest, digit) = split_digit(digits);
        digits = rest;
        start -= 1;
        text[start] = b'0' + digit;
        // Zeros at the end go into the exponent.
        if digit == 0 && start + 1 == end {
            end = start;
            exponent += 1;
        }
    }
    let digits = &text[start..end];
    let count = digits.len() as i32;
    // The power of ten of the first digit.
    let leading = count - 1 + exponent;
    if !(-4..EXPONENT_FROM).contains(&leading) {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            append(out, &digits[1..]);
        }
        out.extend_from_slice(if leading < 0 { b"e-" } else { b"e+" });
        let power = leading.unsigned_abs();
        if power >= 100 {
            out.push(b'0' + (power / 100) as u8);
        }
        out.extend_from_slice(&[b'0' + (power / 10 % 10) as u8, b'0' + (power % 10) as u8]);
    } else if leading < 0 {
        append(out, &b"0.000"[..(1 - leading) as usize]);
        append(out, digits);
    } else if exponent >= 0 {
        append(out, digits);
        append(out, &b"00000000000000000000"[..exponent as usize]);
    } else {
        let (whole, part) = digits.split_at((leading + 1) as usize);
        append(out, whole);
        out.push(b'.');
        append(out, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_as_go_does() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (1048576.0, "1.048576e+06"),
            (258048.0, "258048"),
            (1e15, "1e+15"),
            (123456789.25, "1.2345678925e+08"),
            (16e-6, "1.6e-05"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.1, "0.1"),
            (0.30000000000000004, "0.30000000000000004"),
            (26778.913418, "26778.913418"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (18446744073709551615.0, "1.8446744073709552e+19"),
            (9007199254740993.0, "9.007199254740992e+15"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value), expected, "{value:e}");
        }
    }

    /// The fast path and the general one must agree, and both must read back as the same value.
    #[test]
    fn every_value_reads_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..200_000u64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = match round % 4 {
                0 => f64::from_bits(state & !(1 << 63)),
                1 => (state >> 20) as f64,
                2 => (state >> 24) as f64 / 1e6,
                _ => (state >> 20) as f64 / 1e9,
            };
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let printed = text(value);
            assert_eq!(printed.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{printed}");
            let mut slow = Vec::new();
            general(&mut slow, value);
            assert_eq!(printed.as_bytes(), slow, "{value:e}");
        }
    }
}
