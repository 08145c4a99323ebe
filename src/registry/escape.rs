//! Label values and help texts as the text format wants them.

use crate::limits;
use crate::sys::text::append;

/// True when a label value has a backslash, a quote or a line feed: eight bytes at once, as most values are too short for
/// memchr's set-up to pay.
#[inline]
fn needs_escape(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let has = |word: u64, byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero & (ONES << 7)
    };
    let any = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        has(word, b'\\') | has(word, b'"') | has(word, b'\n')
    };
    match bytes.last_chunk::<8>() {
        Some(last) => bytes.as_chunks::<8>().0.iter().fold(any(last), |all, bytes| all | any(bytes)) != 0,
        None => bytes.iter().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')),
    }
}

/// Appends a label value: backslash, quote and line feed escaped, too long ones cut at a character.
#[inline]
pub(super) fn escape_label(out: &mut Vec<u8>, value: &str) {
    let value = if value.len() <= limits::LABEL_BYTES { value } else { cut(value, limits::LABEL_BYTES) };
    let bytes = value.as_bytes();
    if !needs_escape(bytes) {
        return append(out, bytes);
    }
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// Appends a help text: backslash and line feed escaped.
pub(super) fn escape_help(out: &mut Vec<u8>, help: &str) {
    for &byte in help.as_bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// The longest start of `text` of at most `max` bytes that ends between two characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
