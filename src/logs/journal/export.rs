//! Entries in the Journal Export Format, as `journalctl -o export` of systemd 252 prints them.

use std::fmt::Write as _;

use super::format::Id;
use super::record::Record;

/// Appends the entry with all its fields and an empty line.
pub fn export(record: &Record, out: &mut Vec<u8>) {
    let head = record.head();
    let boot = hex(&head.boot_id);
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "__CURSOR=s={};i={:x};b={boot};m={:x};t={:x};x={:x}\n__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot}\n",
        hex(record.seqnum_id()),
        head.seqnum,
        head.monotonic_us,
        head.realtime_us,
        head.xor_hash,
        head.realtime_us,
        head.monotonic_us,
    );
    out.extend_from_slice(text.as_bytes());
    for (name, value) in record.fields() {
        // It stands in the entry itself.
        if name == b"_BOOT_ID" {
            continue;
        }
        out.extend_from_slice(name);
        if is_line(value) {
            out.push(b'=');
        } else {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// An id as journald writes it.
pub fn hex(id: &Id) -> String {
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a value is text that fits one line (`utf8_is_printable_newline` of systemd, without newlines).
fn is_line(value: &[u8]) -> bool {
    let is_plain = |character: char| {
        let code = u32::from(character);
        let is_control = (code < 0x20 && code != 0x09) || (0x7f..=0x9f).contains(&code);
        let is_no_character = (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe;
        !is_control && !is_no_character
    };
    std::str::from_utf8(value).is_ok_and(|text| text.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_is_written_with_its_length() {
        assert!(is_line("a\tü 中".as_bytes()) && is_line(b""));
        for binary in [&b"a\nb"[..], b"\0", b"\x1b[1m", b"\xff", "\u{85}".as_bytes(), "\u{ffff}".as_bytes()] {
            assert!(!is_line(binary));
        }
        let mut record = Record::default();
        record.push(None, b"A=1");
        record.push(None, b"_BOOT_ID=x");
        record.push(None, b"B=2\n3");
        let mut out = Vec::new();
        export(&record, &mut out);
        let zero = "0".repeat(32);
        let head = format!(
            "__CURSOR=s={zero};i=0;b={zero};m=0;t=0;x=0\n__REALTIME_TIMESTAMP=0\n__MONOTONIC_TIMESTAMP=0\n_BOOT_ID={zero}\n"
        );
        assert_eq!(out, [head.as_bytes(), b"A=1\nB\n\x03\0\0\0\0\0\0\x002\n3\n\n"].concat());
    }
}
