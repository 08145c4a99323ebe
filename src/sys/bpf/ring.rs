//! Ring buffer maps.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;

use libbpf_sys as raw;

use super::{Map, errno, failure};
use crate::error::{Context, Result};

/// The reading end of a ring buffer map.
pub struct Ring {
    raw: NonNull<raw::ring_buffer>,
    /// Where the C callback finds the closure of the `consume` call it runs in.
    slot: Box<Slot>,
}

type Slot = Option<NonNull<dyn FnMut(&[u8])>>;

impl Ring {
    /// Maps the ring of `map`.
    ///
    /// # Errors
    /// ENOMEM, or EINVAL for a map of another type.
    pub fn open(map: &Map) -> Result<Ring> {
        let mut slot: Box<Slot> = Box::new(None);
        let context: *mut Slot = &raw mut *slot;
        // SAFETY: the slot is boxed and lives as long as the ring.
        let ring = unsafe {
            raw::ring_buffer__new(map.as_raw_fd(), Some(on_record), context.cast(), std::ptr::null())
        };
        let raw = NonNull::new(ring).ok_or_else(|| failure(i64::from(errno()))).context("ring")?;
        Ok(Ring { raw, slot })
    }

    /// Hands at most `max` records to `each`; gives how many.
    pub fn consume(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let each: &mut dyn FnMut(&[u8]) = &mut each;
        // SAFETY: only the lifetime is erased; the slot is emptied again before `each` ends, and the callback runs only
        // within the call below.
        *self.slot = Some(unsafe {
            std::mem::transmute::<NonNull<dyn FnMut(&[u8]) + '_>, NonNull<dyn FnMut(&[u8])>>(NonNull::from(
                each,
            ))
        });
        // SAFETY: the ring is alive.
        let count = unsafe { raw::ring_buffer__consume_n(self.raw.as_ptr(), max as raw::size_t) };
        *self.slot = None;
        usize::try_from(count).unwrap_or(0)
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the ring is alive.
        unsafe { raw::ring_buffer__epoll_fd(self.raw.as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the ring is ours and not used again.
        unsafe { raw::ring_buffer__free(self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn on_record(context: *mut c_void, data: *mut c_void, size: raw::size_t) -> c_int {
    // SAFETY: the context is the slot of the ring being consumed; its closure, if set, is alive and used nowhere else;
    // libbpf hands out `size` readable bytes at `data`.
    unsafe {
        if let Some(mut each) = *context.cast::<Slot>() {
            (each.as_mut())(std::slice::from_raw_parts(data.cast::<u8>(), size as usize));
        }
    }
    0
}
