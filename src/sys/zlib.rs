//! gzip through the zlib that libbpf brings along (<https://zlib.net/manual.html>, RFC 1952).

use std::borrow::Borrow;
use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

/// `struct z_stream_s` of zlib.h.
#[repr(C)]
struct ZStream {
    next_in: *const u8,
    avail_in: c_uint,
    total_in: c_ulong,
    next_out: *mut u8,
    avail_out: c_uint,
    total_out: c_ulong,
    msg: *const c_char,
    state: *mut c_void,
    zalloc: Option<unsafe extern "C" fn()>,
    zfree: Option<unsafe extern "C" fn()>,
    opaque: *mut c_void,
    data_type: c_int,
    adler: c_ulong,
    reserved: c_ulong,
}

unsafe extern "C" {
    fn deflateInit2_(
        stream: *mut ZStream,
        level: c_int,
        method: c_int,
        window_bits: c_int,
        mem_level: c_int,
        strategy: c_int,
        version: *const c_char,
        stream_size: c_int,
    ) -> c_int;
    fn deflate(stream: *mut ZStream, flush: c_int) -> c_int;
    fn deflateEnd(stream: *mut ZStream) -> c_int;
    fn inflateInit2_(
        stream: *mut ZStream,
        window_bits: c_int,
        version: *const c_char,
        stream_size: c_int,
    ) -> c_int;
    fn inflate(stream: *mut ZStream, flush: c_int) -> c_int;
    fn inflateEnd(stream: *mut ZStream) -> c_int;
    fn zlibVersion() -> *const c_char;
}

const Z_OK: c_int = 0;
const Z_STREAM_END: c_int = 1;
const Z_NO_FLUSH: c_int = 0;
const Z_FINISH: c_int = 4;
const Z_DEFLATED: c_int = 8;
const Z_DEFAULT_STRATEGY: c_int = 0;
/// Window of 32 KiB; 16 more asks for a gzip header.
const GZIP_WINDOW_BITS: c_int = 15 + 16;
/// Metrics text is so repetitive that the fastest level already shrinks it ten times.
const LEVEL: c_int = 1;
/// 128 KiB of hash tables, zlib's default less one.
const MEM_LEVEL: c_int = 7;

/// Compresses `pieces` into one gzip member; `None` when zlib cannot allocate its state.
pub fn gzip<P: Borrow<[u8]>>(pieces: &[P]) -> Option<Vec<u8>> {
    // SAFETY: all fields are integers, raw pointers or optional function pointers, for which zero is valid and means
    // "use the default" to zlib.
    let mut stream: ZStream = unsafe { std::mem::zeroed() };
    // SAFETY: the stream outlives its use here, and version and size are those of the linked library and of the struct.
    let started = unsafe {
        deflateInit2_(
            &raw mut stream,
            LEVEL,
            Z_DEFLATED,
            GZIP_WINDOW_BITS,
            MEM_LEVEL,
            Z_DEFAULT_STRATEGY,
            zlibVersion(),
            size_of::<ZStream>() as c_int,
        )
    };
    if started != Z_OK {
        return None;
    }
    let total: usize = pieces.iter().map(|piece| piece.borrow().len()).sum();
    let mut out: Vec<u8> = Vec::with_capacity(total / 8 + 256);
    let mut result = Z_OK;
    // The empty piece behind the others ends the stream.
    for piece in pieces.iter().map(Borrow::borrow).filter(|piece| !piece.is_empty()).chain([&[][..]]) {
        let flush = if piece.is_empty() { Z_FINISH } else { Z_NO_FLUSH };
        stream.next_in = piece.as_ptr();
        stream.avail_in = c_uint::try_from(piece.len()).ok()?;
        loop {
            if out.capacity() - out.len() < 4096 {
                out.reserve(out.len().max(16 * 1024));
            }
            let room = (out.capacity() - out.len()).min(c_uint::MAX as usize);
            // SAFETY: `next_in` points at the piece, `next_out` at the vector's spare room; both counts are exact, and the
            // length is set to what zlib says it wrote.
            unsafe {
                stream.next_out = out.as_mut_ptr().add(out.len());
                stream.avail_out = room as c_uint;
                result = deflate(&raw mut stream, flush);
                out.set_len(out.len() + room - stream.avail_out as usize);
            }
            let wants_more_room = stream.avail_out == 0 || (flush == Z_FINISH && result == Z_OK);
            if result != Z_OK || !wants_more_room {
                break;
            }
        }
    }
    // SAFETY: the stream was initialised above.
    unsafe { deflateEnd(&raw mut stream) };
    (result == Z_STREAM_END).then_some(out)
}

/// What the one gzip member `packed` holds; `None` when it is damaged, or larger than `most` bytes.
pub fn gunzip(packed: &[u8], most: usize) -> Option<Vec<u8>> {
    // The last four bytes are the size.
    let size = u32::from_le_bytes(*packed.last_chunk()?) as usize;
    if size > most {
        return None;
    }
    let mut out = vec![0u8; size];
    // SAFETY: as in `gzip`.
    let mut stream: ZStream = unsafe { std::mem::zeroed() };
    // SAFETY: the stream outlives its use here, and version and size are those of the linked library and of the struct.
    let started = unsafe {
        inflateInit2_(&raw mut stream, GZIP_WINDOW_BITS, zlibVersion(), size_of::<ZStream>() as c_int)
    };
    if started != Z_OK {
        return None;
    }
    stream.next_in = packed.as_ptr();
    stream.avail_in = c_uint::try_from(packed.len()).unwrap_or(0);
    stream.next_out = out.as_mut_ptr();
    stream.avail_out = c_uint::try_from(out.len()).unwrap_or(0);
    // SAFETY: both pointers and counts are those of live slices; zlib writes no further than `avail_out` says.
    let result = unsafe { inflate(&raw mut stream, Z_FINISH) };
    let is_full = stream.avail_out == 0;
    // SAFETY: the stream was initialised above.
    unsafe { inflateEnd(&raw mut stream) };
    (result == Z_STREAM_END && is_full).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn gunzip_reads_what_we_write() {
        let pieces: Vec<Vec<u8>> = (0..200u32)
            .map(|round| round.to_string().repeat(round as usize).into_bytes())
            .filter(|piece| !piece.is_empty())
            .collect();
        let packed = gzip(&pieces).unwrap();
        assert!(packed.len() * 5 < pieces.concat().len());
        let mut gunzip = Command::new("gunzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = gunzip.stdin.take().unwrap();
        input.write_all(&packed).unwrap();
        drop(input);
        assert_eq!(gunzip.wait_with_output().unwrap().stdout, pieces.concat());
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let text = b"what goes in comes out again and again and again".repeat(1000);
        let packed = gzip(std::slice::from_ref(&text)).unwrap();
        assert_eq!(gunzip(&packed, text.len()).unwrap(), text);
        assert_eq!(gunzip(&packed, text.len() - 1), None);
        assert_eq!(gunzip(&gzip::<Vec<u8>>(&[]).unwrap(), 0).unwrap(), b"");
        // Cut, changed in the middle, too large a size in the end, and nothing at all.
        assert_eq!(gunzip(&packed[..packed.len() - 9], 1 << 20), None);
        let mut changed = packed.clone();
        changed[packed.len() / 2] ^= 1;
        assert_eq!(gunzip(&changed, 1 << 20), None);
        let mut longer = packed.clone();
        longer[packed.len() - 4] += 1;
        assert_eq!(gunzip(&longer, 1 << 20), None);
        assert_eq!(gunzip(b"", 1 << 20), None);
    }

    #[test]
    fn random_bytes_and_nothing_survive() {
        let mut state = 1u32;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        assert!(gzip(&[noise]).unwrap().len() > 300_000);
        assert!(gzip::<Vec<u8>>(&[]).is_some());
    }
}
