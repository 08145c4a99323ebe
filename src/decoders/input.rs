//! Shapes that decoders share: numbers at the start of a key, numbers as text.

use crate::number::split_digit;

/// The number in the first four bytes, as this machine orders them.
pub fn u32_at_start(input: &[u8]) -> Result<u32, String> {
    let (bytes, _) = input.split_first_chunk().ok_or_else(|| too_short(input, 4))?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// The number in the first eight bytes, as this machine orders them.
pub fn u64_at_start(input: &[u8]) -> Result<u64, String> {
    let (bytes, _) = input.split_first_chunk().ok_or_else(|| too_short(input, 8))?;
    Ok(u64::from_ne_bytes(*bytes))
}

fn too_short(input: &[u8], wanted: usize) -> String {
    format!("{} bytes instead of {wanted}", input.len())
}

/// A decimal number of 64 bits as text, digits only.
pub fn unsigned(input: &[u8]) -> Result<u64, String> {
    digits(input).ok_or_else(|| not_a_number(input))
}

/// A decimal number of 64 bits as text, perhaps with a sign.
pub fn signed(input: &[u8]) -> Result<i64, String> {
    let (is_negative, magnitude) = match input {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, input),
    };
    let number = digits(magnitude).and_then(|magnitude| match is_negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    });
    number.ok_or_else(|| not_a_number(input))
}

/// A decimal number of digits only.
pub fn digits(input: &[u8]) -> Option<u64> {
    if input.is_empty() {
        return None;
    }
    input.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn not_a_number(input: &[u8]) -> String {
    format!("{:?} is not a decimal number", shown(input))
}

/// Input as a message shows it: the start of it, as text.
pub fn shown(input: &[u8]) -> String {
    const MOST: usize = 64;
    String::from_utf8_lossy(&input[..input.len().min(MOST)]).into_owned()
}

/// Appends `number` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0u8; 20];
    let mut start = text.len();
    loop {
        let (rest, digit) = split_digit(number);
        start -= 1;
        text[start] = b'0' + digit;
        number = rest;
        if number == 0 {
            break;
        }
    }
    crate::sys::text::append(out, &text[start..]);
}

/// Hexadecimal digits.
pub const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as hexadecimal digits, in their order.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_text() {
        assert_eq!(unsigned(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(signed(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!((signed(b"+7"), signed(b"9223372036854775807")), (Ok(7), Ok(i64::MAX)));
        for bad in [&b""[..], b"-", b"+", b"x", b"1 ", b"--1", b"9223372036854775808", b"\xff"] {
            assert!(signed(bad).is_err());
        }
        for bad in [&b""[..], b"-1", b"+1", b"18446744073709551616"] {
            assert!(unsigned(bad).is_err());
        }
        assert_eq!(unsigned(b"a\xffb").unwrap_err(), "\"a\u{fffd}b\" is not a decimal number");
    }

    #[test]
    fn text_of_numbers() {
        for number in [0, 9, 10, 65535, u64::MAX] {
            let mut out = b"=".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(out, format!("={number}").as_bytes());
        }
        let mut out = Vec::new();
        push_hex(&mut out, &[0xbc, 0x00, 0x1f]);
        assert_eq!(out, b"bc001f");
    }
}
