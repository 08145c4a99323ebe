//! Docker's `local` driver: each record is a protobuf `LogEntry` with its length in front and behind, as 32 bits, big endian
//! (moby, daemon/logger/local/local.go; api/types/plugins/logdriver/entry.proto):
//!
//! ```text
//! 1 source (text)   2 time_nano   3 line (bytes)   4 partial (bool)   5 partial_log_metadata
//! ```

use super::{Format, Framing, Piece, Stream};

/// The format.
pub const FORMAT: Format = Format { name: "local", framing: Framing::Lengths, decode };

/// Bytes of a record at most: docker's pieces have 16 KiB, drivers of plug-ins may have more.
const RECORD_BYTES: usize = 1 << 20;
/// Bytes of a length.
const LENGTH: usize = 4;

/// The first record of a file, and how many bytes it takes up. What is no length is left behind byte by byte.
pub fn record(data: &[u8]) -> Option<(&[u8], usize)> {
    let length = length(data)?;
    if length > RECORD_BYTES {
        return Some((&[], 1));
    }
    let record = data.get(LENGTH..)?.get(..length)?;
    let behind = data.get(LENGTH + length..)?;
    if self::length(behind)? == length { Some((record, length + 2 * LENGTH)) } else { Some((&[], 1)) }
}

fn length(data: &[u8]) -> Option<usize> {
    data.first_chunk::<LENGTH>().map(|bytes| u32::from_be_bytes(*bytes) as usize)
}

fn decode<'a>(record: &'a [u8], _: &'a mut Vec<u8>) -> Option<Piece<'a>> {
    let (mut rest, mut text, mut stream, mut partial) = (record, None, Stream::Stdout, false);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                partial |= tag >> 3 == 4 && value != 0;
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, behind) = rest.split_at_checked(length)?;
                rest = behind;
                match tag >> 3 {
                    1 => stream = Stream::of_word(bytes),
                    3 => text = Some(bytes),
                    _ => {}
                }
            }
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    // An empty line is left out of its message; an empty record is none.
    let text = text.unwrap_or_default();
    (!record.is_empty()).then_some(Piece { text: text.strip_suffix(b"\n").unwrap_or(text), stream, partial })
}

/// A number of protobuf: seven bits in each byte, the lowest first.
fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_and_read() {
        let entry = b"\x0a\x06stderr\x10\x96\x01\x1a\x05hello\x20\x01";
        let mut file = Vec::new();
        for _ in 0..2 {
            file.extend((entry.len() as u32).to_be_bytes());
            file.extend(entry);
            file.extend((entry.len() as u32).to_be_bytes());
        }
        let (first, taken) = record(&file).unwrap();
        assert_eq!((first, taken), (&entry[..], file.len() / 2));
        let piece =
            decode(first, &mut Vec::new()).map(|piece| (piece.text.to_vec(), piece.stream, piece.partial));
        assert_eq!(piece, Some((b"hello".to_vec(), Stream::Stderr, true)));
        assert_eq!(record(&file[..20]), None);
        // A damaged length costs what is before the next one.
        assert_eq!(record(b"\xff\xff\xff\xff"), Some((&b""[..], 1)));
        assert_eq!(decode(b"", &mut Vec::new()), None);
        assert_eq!(decode(b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &mut Vec::new()), None);
    }
}
