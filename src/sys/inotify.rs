//! inotify(7): child directories that appear and vanish, and files that are written to.

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

/// One thing that happened to a file in a directory watched for its files.
#[derive(Debug, PartialEq, Eq)]
pub enum Touch<'a> {
    /// The entry of this name was made, written to, cut, removed or renamed.
    Entry(i32, &'a [u8]),
    /// The watch is of no more use, because its directory was removed or moved away.
    Ended(i32),
    /// The kernel's queue was full: something happened somewhere.
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

    /// Watches the entries of `directory` and what is written to its files; gives the watch's number, which is the same for
    /// all paths of one directory.
    ///
    /// # Errors
    /// ENOENT for a directory that is gone, ENOSPC at the limit of watches per user.
    pub fn watch_files(&self, directory: &Path) -> io::Result<i32> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mask = libc::IN_MODIFY
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_MOVED_TO
            | libc::IN_MOVED_FROM
            | libc::IN_MOVE_SELF
            | libc::IN_ONLYDIR
            | libc::IN_DONT_FOLLOW;
        // SAFETY: a NUL-terminated path that outlives the call.
        super::check(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) })
    }

    /// Ends a watch; one that has ended already is none to end.
    pub fn unwatch(&self, watch: i32) {
        // SAFETY: no pointers; a number that is no watch is refused.
        unsafe { libc::inotify_rm_watch(self.0.as_raw_fd(), watch) };
    }

    /// Hands up to one buffer (16 KiB) of changes to `each`; true when there may be more.
    pub fn read(&self, mut each: impl FnMut(Change<'_>)) -> bool {
        self.read_records(|watch, mask, name| {
            if mask & libc::IN_Q_OVERFLOW != 0 {
                each(Change::Overflow);
            } else if mask & libc::IN_IGNORED != 0 {
                each(Change::Ended(watch));
            } else if mask & libc::IN_ISDIR != 0 && mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 {
                each(Change::Created(watch, name));
            } else if mask & libc::IN_ISDIR != 0 && mask & (libc::IN_DELETE | libc::IN_MOVED_FROM) != 0 {
                each(Change::Removed(watch, name));
            }
        })
    }

    /// As [`Inotify::read`], for watches by [`Inotify::watch_files`].
    pub fn read_files(&self, mut each: impl FnMut(Touch<'_>)) -> bool {
        self.read_records(|watch, mask, name| {
            if mask & libc::IN_Q_OVERFLOW != 0 {
                each(Touch::Overflow);
            } else if mask & (libc::IN_IGNORED | libc::IN_MOVE_SELF) != 0 {
                each(Touch::Ended(watch));
            } else if !name.is_empty() {
                each(Touch::Entry(watch, name));
            }
        })
    }

    fn read_records(&self, mut each: impl FnMut(i32, u32, &[u8])) -> bool {
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
fn parse(mut data: &[u8], each: &mut impl FnMut(i32, u32, &[u8])) {
    while let Some((header, rest)) = data.split_first_chunk::<16>() {
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (watch, mask, length) = (word(0) as i32, word(4), word(12) as usize);
        let Some((name, rest)) = rest.split_at_checked(length) else {
            return;
        };
        data = rest;
        each(watch, mask, name.split(|&byte| byte == 0).next().unwrap_or_default());
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
        parse(&[1; 15], &mut |watch, mask, _| panic!("{watch} {mask}"));
        let mut record = [0u8; 24];
        record[12] = 200;
        parse(&record, &mut |watch, mask, _| panic!("{watch} {mask}"));
    }

    #[test]
    fn files_are_seen_to_be_written_and_renamed() {
        let directory = std::env::temp_dir().join(format!("nodeprobe-touch-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let inotify = Inotify::open().unwrap();
        let watch = inotify.watch_files(&directory).unwrap();
        assert_eq!(inotify.watch_files(&directory.join(".")).unwrap(), watch);
        std::fs::write(directory.join("a"), b"1").unwrap();
        std::fs::rename(directory.join("a"), directory.join("b")).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let mut seen = Vec::new();
        inotify.read_files(|touch| {
            seen.push(match touch {
                Touch::Entry(_, name) => String::from_utf8_lossy(name).into_owned(),
                Touch::Ended(ended) => format!("ended {}", ended == watch),
                Touch::Overflow => "overflow".to_owned(),
            });
        });
        assert_eq!(seen, ["a", "a", "a", "b", "b", "ended true"]);
        inotify.unwatch(watch);
    }
}
