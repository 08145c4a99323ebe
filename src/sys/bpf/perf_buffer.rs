//! `BPF_MAP_TYPE_PERF_EVENT_ARRAY` maps: one ring per processor.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;

use libbpf_sys as raw;

use super::{Map, errno, failure};
use crate::error::{Context, Result};

/// What a perf buffer holds.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// What a program put in. The kernel may have added bytes at the end, up to a multiple of eight less four.
    Sample(&'a [u8]),
    /// So many records found no room.
    Lost(u64),
}

/// The reading end of the rings of all processors.
pub struct PerfBuffer {
    raw: NonNull<raw::perf_buffer>,
    /// Where the C callbacks find the closure of the `consume` call they run in.
    slot: Box<Slot>,
}

type Slot = Option<NonNull<dyn FnMut(Record<'_>)>>;

impl PerfBuffer {
    /// Opens a ring of `pages` pages (a power of two) for each processor that is online.
    ///
    /// # Errors
    /// What the kernel says: EPERM without CAP_PERFMON or locked memory.
    pub fn open(map: &Map, pages: usize) -> Result<PerfBuffer> {
        let mut slot: Box<Slot> = Box::new(None);
        let context: *mut Slot = &raw mut *slot;
        // SAFETY: the slot is boxed and lives as long as the buffer.
        let buffer = unsafe {
            raw::perf_buffer__new(
                map.as_raw_fd(),
                pages as raw::size_t,
                Some(on_sample),
                Some(on_lost),
                context.cast(),
                std::ptr::null(),
            )
        };
        let raw = NonNull::new(buffer).ok_or_else(|| failure(i64::from(errno()))).context("perf buffer")?;
        Ok(PerfBuffer { raw, slot })
    }

    /// Hands all that is there to `each`: at most what the rings hold.
    pub fn consume(&mut self, mut each: impl FnMut(Record<'_>)) {
        let each: &mut dyn FnMut(Record<'_>) = &mut each;
        // SAFETY: only the lifetime is erased; the slot is emptied again before `each` ends, and the callbacks run only
        // within the call below.
        *self.slot = Some(unsafe {
            std::mem::transmute::<NonNull<dyn FnMut(Record<'_>) + '_>, NonNull<dyn FnMut(Record<'_>)>>(
                NonNull::from(each),
            )
        });
        // SAFETY: the buffer is alive.
        unsafe { raw::perf_buffer__consume(self.raw.as_ptr()) };
        *self.slot = None;
    }
}

impl AsRawFd for PerfBuffer {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the buffer is alive.
        unsafe { raw::perf_buffer__epoll_fd(self.raw.as_ptr()) }
    }
}

impl Drop for PerfBuffer {
    fn drop(&mut self) {
        // SAFETY: the buffer is ours and not used again.
        unsafe { raw::perf_buffer__free(self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn on_sample(context: *mut c_void, _cpu: c_int, data: *mut c_void, size: u32) {
    // SAFETY: the context is the slot of the buffer being consumed; its closure, if set, is alive and used nowhere else;
    // libbpf hands out `size` readable bytes at `data`.
    unsafe {
        if let Some(mut each) = *context.cast::<Slot>() {
            (each.as_mut())(Record::Sample(std::slice::from_raw_parts(data.cast::<u8>(), size as usize)));
        }
    }
}

unsafe extern "C" fn on_lost(context: *mut c_void, _cpu: c_int, count: u64) {
    // SAFETY: as above.
    unsafe {
        if let Some(mut each) = *context.cast::<Slot>() {
            (each.as_mut())(Record::Lost(count));
        }
    }
}
