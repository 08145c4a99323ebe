//! Programs that the kernel runs over all things of a kind when they are read (Documentation/bpf/bpf_iterators.rst).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_sys as raw;

use super::object::{Link, Loaded};
use super::{Map, check, take_talk};
use crate::error::{Context, Result};

/// Bytes read at once; the kernel hands out at most 32 KiB.
const CHUNK: usize = 32 * 1024;

/// A program that is attached to an iterator, to be run as often as one likes.
#[derive(Debug)]
pub struct Iterator {
    link: Link,
}

impl Loaded {
    /// Attaches program `name` to the iterator its section names; `over` is the map whose elements it goes over, if it is
    /// one of maps.
    ///
    /// # Errors
    /// What libbpf and the kernel say.
    pub fn iterator(&self, name: &str, over: Option<&Map>) -> Result<Iterator> {
        let program = self.raw_program(name)?;
        // All of it zero first: kernels refuse what they do not know unless it is.
        let mut info = raw::bpf_iter_link_info::default();
        info.map = raw::bpf_iter_link_info__bindgen_ty_1 {
            map_fd: over.map_or(0, |map| map.as_raw_fd().unsigned_abs()),
        };
        let options = raw::bpf_iter_attach_opts {
            sz: size_of::<raw::bpf_iter_attach_opts>() as raw::size_t,
            link_info: &raw mut info,
            link_info_len: size_of::<raw::bpf_iter_link_info>() as u32,
            ..Default::default()
        };
        let options = if over.is_some() { &raw const options } else { std::ptr::null() };
        take_talk();
        // SAFETY: the program belongs to this live object and is loaded; options and what they point to outlive the call.
        let link = unsafe { raw::bpf_program__attach_iter(program.as_ptr(), options) };
        Ok(Iterator { link: Link::new(link).context(format_args!("attach {name}"))? })
    }
}

impl Iterator {
    /// Runs the program over everything there is and hands each record of `size` bytes that it wrote to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&self, size: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        // SAFETY: the link is alive.
        let fd = unsafe { raw::bpf_iter_create(self.link.fd()) };
        check(fd).context("iterate")?;
        // SAFETY: the descriptor is new and ours.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut buffer = vec![0u8; CHUNK.next_multiple_of(size.max(1))];
        let mut filled = 0;
        loop {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(count) => filled += count,
                // After a million things without a record the kernel asks to be asked again.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Err(error).context("iterate"),
            }
            let whole = filled - filled % size.max(1);
            buffer[..whole].chunks_exact(size.max(1)).for_each(&mut each);
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}
