//! Appending short texts, which is most of what rendering does.

/// Appends `piece`, as `extend_from_slice` does. The copies of short pieces have constant lengths and become a load and a
/// store each; musl's memcpy is `rep movs`, whose start costs more than a short copy itself.
#[inline]
pub fn append(out: &mut Vec<u8>, piece: &[u8]) {
    match piece.len() {
        0 => {}
        1..4 => piece.iter().for_each(|&byte| out.push(byte)),
        4..8 => in_steps::<4>(out, piece),
        8..16 => in_steps::<8>(out, piece),
        16..=128 => in_steps::<16>(out, piece),
        _ => out.extend_from_slice(piece),
    }
}

/// Appends a piece of at least `N` bytes. The last step overlaps the one before it.
#[inline(always)]
fn in_steps<const N: usize>(out: &mut Vec<u8>, piece: &[u8]) {
    let Some(last) = piece.len().checked_sub(N) else { return };
    out.reserve(piece.len());
    // SAFETY: the vector has room for the piece behind its length, and cannot overlap what is borrowed beside it. Every step
    // copies N bytes from at most `last` on, the last one from just there, so that all bytes of the piece are written and
    // none beyond it.
    unsafe {
        let (from, to) = (piece.as_ptr(), out.as_mut_ptr().add(out.len()));
        let mut at = 0;
        while at < last {
            std::ptr::copy_nonoverlapping(from.add(at), to.add(at), N);
            at += N;
        }
        std::ptr::copy_nonoverlapping(from.add(last), to.add(last), N);
        out.set_len(out.len() + piece.len());
    }
}

/// Asks for large pages behind the room of a buffer of megabytes: a fault for each 4 KiB of a large scrape costs more than
/// formatting what is written there. Without large pages nothing changes.
pub fn expect_much(buffer: &mut Vec<u8>) {
    const PAGE: usize = 4096;
    let room = buffer.spare_capacity_mut();
    let skip = room.as_ptr().align_offset(PAGE);
    let length = room.len().saturating_sub(skip) / PAGE * PAGE;
    if length > 0 {
        // SAFETY: advice about whole pages inside the buffer's own room; it changes no content.
        unsafe { libc::madvise(room.as_mut_ptr().add(skip).cast(), length, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_arrives_whole() {
        let text: Vec<u8> = (0..=255).collect();
        for length in 0..text.len() {
            let mut out = b"before".to_vec();
            append(&mut out, &text[..length]);
            assert_eq!(&out[..6], b"before");
            assert_eq!(&out[6..], &text[..length]);
        }
    }
}
