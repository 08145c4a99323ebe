//! Lines as programs write them: a file of one's own, or what somebody pipes in.

use super::{Format, Framing, Piece, Stream};

/// The format.
pub const FORMAT: Format = Format { name: "plain", framing: Framing::Lines, decode };

fn decode<'a>(record: &'a [u8], _: &'a mut Vec<u8>) -> Option<Piece<'a>> {
    Some(Piece { text: record, stream: Stream::Stdout, partial: false })
}
