//! inotify(7): child directories that appear and vanish.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An inotify instance.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

/// One thing that happened below a watched directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A directory of this name was made, or moved here.
    Created(i32, &'a [u8]),
    /// A directory of this name was removed, or moved away.
    Removed(i32, &'a [u8]),
    /// The watch ended, because its directory did.
    Ended(i32),
    /// The kernel's queue was full: changes were lost.
    Overflow,
}

impl Inotify {
    /// A new instance without watches.
    ///
    /// # Errors
    /// EMFILE at the limit of instances per user.
    pub fn open() -> io::Result<Inotify> {
        // SAFETY: no pointers.
        let fd = super::check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
        // SAFETY: the descriptor is new and ours.
        Ok(Inotify(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches the child directories of `directory`; gives the watch's number.
    ///
    /// # Errors
    /// ENOENT for a directory that is gone, ENOSPC at the limit of watches per user.
    pub fn watch_children(&self, directory: &Path) -> io::Result<i32> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mask = libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_MOVED_TO
            | libc::IN_MOVED_FROM
            | libc::IN_ONLYDIR
            | libc::IN_DONT_FOLLOW;
        // SAFETY: a NUL-terminated path that outlives the call.
        super::check(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) })
    }

    /// Hands up to one buffer (16 KiB) of changes to `each`; true when there may be more.
    pub fn read(&self, mut each: impl FnMut(Change<'_>)) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        // SAFETY: pointer and length are the buffer's.
        let read = unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(length) = usize::try_from(read) else {
            return false;
        };
        parse(&buffer[..length.min(buffer.len())], &mut each);
        length > 0
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Records of `struct inotify_event`: wd, mask, cookie, len (32 bits each), then the name, padded with NULs.
fn parse(mut data: &[u8], each: &mut impl FnMut(Change<'_>)) {
    while let Some((header, rest)) = data.split_first_chunk::<16>() {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (watch, mask, length) = (word(0) as i32, word(4), word(12) as usize);
        let Some((name, rest)) = rest.split_at_checked(length) else {
            return;
        };
        data = rest;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if mask & libc::IN_Q_OVERFLOW != 0 {
            each(Change::Overflow);
        } else if mask & libc::IN_IGNORED != 0 {
            each(Change::Ended(watch));
        } else if mask & libc::IN_ISDIR != 0 && mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 {
            each(Change::Created(watch, name));
        } else if mask & libc::IN_ISDIR != 0 && mask & (libc::IN_DELETE | libc::IN_MOVED_FROM) != 0 {
            each(Change::Removed(watch, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_seen_to_come_and_go() {
        let directory = std::env::temp_dir().join(format!("nodeprobe-inotify-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let inotify = Inotify::open().unwrap();
        let watch = inotify.watch_children(&directory).unwrap();
        std::fs::create_dir(directory.join("child")).unwrap();
        std::fs::write(directory.join("file"), b"").unwrap();
        std::fs::remove_dir(directory.join("child")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let mut seen = Vec::new();
        inotify.read(|change| seen.push(format!("{change:?}")));
        let name = "[99, 104, 105, 108, 100]";
        assert_eq!(
            seen,
            [
                format!("Created({watch}, {name})"),
                format!("Removed({watch}, {name})"),
                format!("Ended({watch})")
            ]
        );
    }

    #[test]
    fn cut_records_are_left_alone() {
        parse(&[1; 15], &mut |change| panic!("{change:?}"));
        let mut record = [0u8; 24];
        record[12] = 200;
        parse(&record, &mut |change| panic!("{change:?}"));
    }
}
