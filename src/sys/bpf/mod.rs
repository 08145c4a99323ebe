//! libbpf, as far as nodeprobe needs it: open an object from memory, set constants and sizes, load, attach, read maps.
//!
//! After `attach` only the descriptors of maps and the links are kept; the object with its ELF file and type information is
//! freed, which is most of the memory.

mod iterator;
mod map;
mod mark;
mod object;
mod perf_buffer;
mod ring;
mod shape;

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use libbpf_sys as raw;

use crate::error::{Error, Reason, Result};
pub use iterator::Iterator;
pub use map::{Map, possible_cpus};
pub use mark::post_attach_mark;
pub use object::{Links, Loaded, Object, Program, ProgramInfo, ProgramType, Refusal};
pub use perf_buffer::{PerfBuffer, Record};
pub use ring::Ring;
pub use shape::{Field, MapShape, MapType};

/// Lines of libbpf's and the verifier's talk that are kept for an error message.
const KEPT_LINES: usize = 16;

/// Bytes of the verifier's log that are looked at; the kernel gives at most 16 MiB, and that only to a hopeless program.
const LOG_BYTES: usize = 4 << 20;

thread_local! {
    /// The last lines libbpf printed.
    static TALK: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };

    /// Whether to print all of it as it comes.
    static TALKATIVE: Cell<bool> = const { Cell::new(false) };
}

/// Has every line of libbpf printed as it comes, those for developers too: `--debug`.
pub fn print_talk() {
    TALKATIVE.set(true);
}

unsafe extern "C" {
    // The va_list arrives as a pointer-sized value on every architecture we build for and is only passed on.
    fn vsnprintf(buffer: *mut c_char, size: usize, format: *const c_char, arguments: *mut c_void) -> c_int;
}

/// Keeps what libbpf has to say instead of printing it.
unsafe extern "C" fn keep_talk(
    level: raw::libbpf_print_level,
    format: *const c_char,
    arguments: *mut raw::__va_list_tag,
) -> c_int {
    let talkative = TALKATIVE.get();
    if level == raw::LIBBPF_DEBUG && !talkative {
        return 0;
    }
    // SAFETY: libbpf's formats are strings.
    let is_log = unsafe { CStr::from_ptr(format) }.to_bytes().windows(8).any(|part| part == b"LOAD LOG");
    // Of the verifier's log the last lines matter. Pages that are not written to cost nothing.
    let mut buffer = vec![0u8; if is_log { LOG_BYTES } else { 1024 }];
    // SAFETY: pointer and size are the buffer's; format and arguments are libbpf's own.
    let length = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), buffer.len(), format, arguments.cast()) };
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len() - 1);
    let text = String::from_utf8_lossy(&buffer[..length]);
    if talkative {
        text.lines().for_each(crate::stderr::verbatim);
    }
    if level == raw::LIBBPF_DEBUG {
        return 0;
    }
    TALK.with_borrow_mut(|lines| {
        lines.extend(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        let surplus = lines.len().saturating_sub(KEPT_LINES);
        lines.drain(..surplus);
    });
    0
}

/// Takes the lines libbpf has printed since the last call.
pub fn take_talk() -> Vec<String> {
    TALK.take()
}

/// The error of a libbpf call that gave `result` (a negative errno), with the most telling line libbpf printed.
fn failure(result: i64) -> Error {
    explain(result, &take_talk())
}

fn explain(result: i64, talk: &[String]) -> Error {
    let errno = i32::try_from(result.unsigned_abs()).unwrap_or(libc::EIO);
    let error = Error::from_errno(errno);
    let no_btf = talk.iter().any(|line| line.contains("kernel BTF") || line.contains("vmlinux BTF"));
    let reason = if no_btf && errno != libc::EPERM { Reason::NoBtf } else { error.reason() };
    // The first complaint names the map or program; the last one only repeats that the object failed.
    let telling = |line: &&String| line.contains("failed") && !line.contains("failed to load object");
    match talk.iter().find(telling).or(talk.last()) {
        Some(line) => Error::new(reason, format!("{error} ({})", line.trim_start_matches("libbpf: "))),
        None => Error::new(reason, error.to_string()),
    }
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(failure(i64::from(result))) } else { Ok(result) }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: libbpf keeps the descriptor open during the call.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}
