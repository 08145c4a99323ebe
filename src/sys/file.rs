//! Opening files in directories that somebody else may change meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `struct open_how` (openat2(2), Linux 5.6).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_SYMLINKS: u64 = 0x04;

/// Opens `relative` below the directory `root` for reading, without following any symbolic link below it: whoever owns a directory
/// on the way could lead us out of it. Does not wait for the other end of a FIFO.
///
/// # Errors
/// Those of open(2), ELOOP for a link; ENOSYS before Linux 5.6; `InvalidInput` for a path with a NUL.
pub fn open_below(root: &Path, relative: &Path) -> io::Result<File> {
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let relative = std::ffi::CString::new(relative.as_os_str().as_bytes())?;
    // 32-bit kernels refuse files beyond 2 GiB unless told; libc's own open(2) does so.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_LARGEFILE;
    let how = OpenHow { flags: flags as u64, mode: 0, resolve: RESOLVE_NO_SYMLINKS };
    // SAFETY: an open descriptor, a string that ends with NUL, and a struct with its size; all live through the call.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            relative.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { File::from_raw_fd(opened as i32) })
}

/// When a file was made, in seconds since 1970, and whether its file system remembers it: if not, it is when the file was changed
/// last (statx(2)).
pub fn birth_s(path: &Path) -> Option<(u64, bool)> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros are a valid value of this struct of numbers.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    let wanted = libc::STATX_BTIME | libc::STATX_MTIME;
    // SAFETY: a string that ends with NUL and a struct to be filled, which both live through the call.
    let result = unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), libc::AT_SYMLINK_NOFOLLOW, wanted, &raw mut status)
    };
    let has_birth = status.stx_mask & libc::STATX_BTIME != 0;
    let time = if has_birth { status.stx_btime } else { status.stx_mtime };
    (result == 0).then_some((time.tv_sec.try_into().ok()?, has_birth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed_wherever_they_stand() {
        let root = std::env::temp_dir().join(format!("nodeprobe-open-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        File::create(root.join("a/b/large")).unwrap().set_len(5 << 30).unwrap();
        symlink("a", root.join("link")).unwrap();
        symlink("file", root.join("a/b/last")).unwrap();
        let open = |path: &str| open_below(&root, Path::new(path));
        match open("a/b/file") {
            // An old kernel.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
            opened => {
                assert_eq!(opened.unwrap().metadata().unwrap().len(), 1);
                assert_eq!(open("a/b/large").unwrap().metadata().unwrap().len(), 5 << 30);
                for path in ["link/b/file", "a/b/last"] {
                    assert_eq!(open(path).unwrap_err().raw_os_error(), Some(libc::ELOOP), "{path}");
                }
                assert_eq!(open("a/none").unwrap_err().kind(), io::ErrorKind::NotFound);
            }
        }
        let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(birth_s(&root.join("a/b/file")).is_some_and(|(born_s, _)| born_s.abs_diff(now_s) < 60));
        assert_eq!(birth_s(&root.join("none")), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
