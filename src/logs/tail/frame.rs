//! Where one record ends and the next begins. Pure.

/// Bytes of one record; of longer ones this much is looked at. What the peer joins lines up to.
pub const MAX_RECORD: usize = 64 * 1024;

/// How records stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Lines, each with a newline at its end, which is no part of the record.
    Lines,
    /// Docker's `local` driver: the length as 32 bits big-endian, the record, and the length once more
    /// (moby `daemon/logger/local`).
    Lengths,
}

/// What is to be passed over before the next record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Skip {
    /// Nothing.
    #[default]
    Nothing,
    /// The rest of a line that is too long.
    Line,
    /// So many bytes of a record that is too long.
    Bytes(u64),
}

/// One record of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its bytes, any bytes, at most [`MAX_RECORD`].
    pub data: &'a [u8],
    /// Only the beginning: the record was longer than the bound.
    pub cut: bool,
}

/// What became of a stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Bytes that need not be looked at again; those behind them are the beginning of a record.
    pub bytes: usize,
    /// Records that were too long.
    pub too_long: u64,
    /// Bytes left out because they make no sense in this framing.
    pub damaged: u64,
}

/// The largest length that is taken for one: what lies between it and the bound is passed over as a record.
const MAX_LENGTH: usize = 16 << 20;

/// Hands the whole records at the beginning of `data` to `each`.
///
/// With more than [`MAX_RECORD`] + 8 bytes of data something is always taken.
pub fn split(framing: Framing, skip: &mut Skip, data: &[u8], mut each: impl FnMut(Record<'_>)) -> Taken {
    match framing {
        Framing::Lines => lines(skip, data, &mut each),
        Framing::Lengths => lengths(skip, data, &mut each),
    }
}

/// What a file ends with that was not ended: a line without a newline is one, half a record of known length is not.
pub fn rest<'a>(framing: Framing, skip: Skip, data: &'a [u8]) -> Option<Record<'a>> {
    (framing == Framing::Lines && skip == Skip::Nothing && !data.is_empty())
        .then_some(Record { data, cut: false })
}

fn lines(skip: &mut Skip, data: &[u8], each: &mut impl FnMut(Record<'_>)) -> Taken {
    let mut taken = Taken::default();
    while let Some(ahead) = data.get(taken.bytes..).filter(|ahead| !ahead.is_empty()) {
        if *skip != Skip::Nothing {
            let Some(end) = memchr::memchr(b'\n', ahead) else {
                taken.bytes = data.len();
                return taken;
            };
            *skip = Skip::Nothing;
            taken.bytes += end + 1;
            continue;
        }
        // A writer without O_APPEND leaves a hole where a cut file was: no line begins with its zeros.
        let zeros = ahead.iter().take_while(|&&byte| byte == 0).count();
        if zeros > 0 {
            taken.bytes += zeros;
            continue;
        }
        let bounded = ahead.get(..=MAX_RECORD);
        if let Some(end) = memchr::memchr(b'\n', bounded.unwrap_or(ahead)) {
            each(Record { data: ahead.get(..end).unwrap_or_default(), cut: false });
            taken.bytes += end + 1;
        } else if bounded.is_some() {
            each(Record { data: ahead.get(..MAX_RECORD).unwrap_or_default(), cut: true });
            *skip = Skip::Line;
            taken.bytes += MAX_RECORD;
            taken.too_long += 1;
        } else {
            return taken;
        }
    }
    taken
}

fn lengths(skip: &mut Skip, data: &[u8], each: &mut impl FnMut(Record<'_>)) -> Taken {
    let mut taken = Taken::default();
    while let Some(ahead) = data.get(taken.bytes..).filter(|ahead| !ahead.is_empty()) {
        if let Skip::Bytes(left) = *skip {
            let here = left.min(ahead.len() as u64);
            *skip = if here == left { Skip::Nothing } else { Skip::Bytes(left - here) };
            taken.bytes += here as usize;
            continue;
        }
        *skip = Skip::Nothing;
        let Some((length, behind)) = ahead.split_first_chunk::<4>() else {
            return taken;
        };
        let size = u32::from_be_bytes(*length) as usize;
        if size > MAX_RECORD && size <= MAX_LENGTH {
            *skip = Skip::Bytes(size as u64 + 8);
            taken.too_long += 1;
            continue;
        }
        let whole = behind.split_at_checked(size).filter(|_| size <= MAX_LENGTH);
        match whole.and_then(|(record, end)| Some((record, end.first_chunk::<4>()?))) {
            Some((record, end)) if end == length => {
                each(Record { data: record, cut: false });
                taken.bytes += size + 8;
            }
            None if size <= MAX_LENGTH => return taken,
            // The way back is unknown. What the writer appends next begins a record, so all that is here is passed over.
            _ => {
                taken.damaged += ahead.len() as u64;
                taken.bytes = data.len();
            }
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    fn all(framing: Framing, data: &[u8]) -> (Vec<Vec<u8>>, Taken, Skip) {
        let (mut records, mut skip) = (Vec::new(), Skip::Nothing);
        let taken = split(framing, &mut skip, data, |record| records.push(record.data.to_vec()));
        (records, taken, skip)
    }

    fn framed(record: &[u8]) -> Vec<u8> {
        let length = (record.len() as u32).to_be_bytes();
        [&length, record, &length].concat()
    }

    #[test]
    fn lines_end_with_a_newline() {
        let (records, taken, _) = all(Framing::Lines, b"a\n\n\xff\0b\nrest");
        assert_eq!(records, [&b"a"[..], b"", b"\xff\0b"]);
        assert_eq!(taken.bytes, 7);
        assert_eq!(rest(Framing::Lines, Skip::Nothing, b"rest").unwrap().data, b"rest");
        assert_eq!(rest(Framing::Lines, Skip::Line, b"rest"), None);
    }

    #[test]
    fn a_hole_is_no_line() {
        let (records, taken, _) = all(Framing::Lines, b"\0\0\0\0a\n\0\0");
        assert_eq!((records, taken.bytes), (vec![b"a".to_vec()], 8));
    }

    #[test]
    fn a_line_beyond_the_bound_is_cut_once() {
        let mut data = vec![b'x'; MAX_RECORD];
        data.extend_from_slice(b"\nshort\n");
        let (records, taken, _) = all(Framing::Lines, &data);
        assert_eq!((records.len(), taken.too_long, taken.bytes), (2, 0, data.len()));
        data.insert(0, b'x');
        let (records, taken, skip) = all(Framing::Lines, &data);
        assert_eq!((records.len(), taken.too_long, skip), (2, 1, Skip::Nothing));
        assert_eq!(records[0].len(), MAX_RECORD);
        assert_eq!(records[1], b"short");
    }

    #[test]
    fn lengths_stand_on_both_sides() {
        let mut data = framed(b"one");
        data.extend(framed(b""));
        data.extend(framed(&vec![7; MAX_RECORD + 1]));
        data.extend(framed(b"two"));
        let whole = data.len();
        data.extend(&framed(b"three")[..9]);
        let (records, taken, _) = all(Framing::Lengths, &data);
        assert_eq!(records, [&b"one"[..], b"", b"two"]);
        assert_eq!((taken.bytes, taken.too_long, taken.damaged), (whole, 1, 0));
    }

    #[test]
    fn lengths_that_differ_cost_what_is_there() {
        let mut data = framed(b"one");
        data.extend(framed(b"two"));
        data[10] = 9;
        let (records, taken, _) = all(Framing::Lengths, &data);
        assert_eq!((records.len(), taken.bytes, taken.damaged), (0, 22, 22));
        let (_, taken, _) = all(Framing::Lengths, &[0xff; 5]);
        assert_eq!(taken.damaged, 5);
    }

    #[test]
    fn any_bytes_are_split() {
        let sample = [framed(b"one"), b"a\nb\n".to_vec(), framed(b"two")].concat();
        fuzz::hammer(&sample, |data| {
            for framing in [Framing::Lines, Framing::Lengths] {
                let (_, taken, _) = all(framing, data);
                assert!(taken.bytes <= data.len());
            }
        });
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let long = vec![b'y'; 3 * MAX_RECORD];
        let text = [&b"a\nbc\n"[..], &long, b"\nd\n"].concat();
        let record = [framed(b"a"), framed(&long), framed(b"d")].concat();
        for (framing, data) in [(Framing::Lines, text), (Framing::Lengths, record)] {
            let (whole, _, _) = all(framing, &data);
            let (mut records, mut skip, mut from, mut to) = (Vec::new(), Skip::Nothing, 0, 0);
            while to < data.len() {
                to = (to + 4099).min(data.len());
                let piece = &data[from..to];
                from += split(framing, &mut skip, piece, |record| records.push(record.data.to_vec())).bytes;
            }
            assert_eq!((records, from), (whole, data.len()));
        }
    }
}
