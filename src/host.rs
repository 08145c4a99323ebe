//! The observed host: every path nodeprobe reads begins here.
//!
//! With `--root=/host` (a container) or a fixture directory (a test) the same code reads another tree. Without it, files
//! of the host's root file system are read through `/proc/1/root`, so that a nodeprobe inside a container that shares the
//! host's PID namespace still sees the host.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where hosts mount their cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where the observed host's file systems are found.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    rootfs: PathBuf,
    cgroupfs: PathBuf,
}

impl Host {
    /// A host rooted at `root` (`/` for this machine); `cgroupfs` overrides `root`/sys/fs/cgroup.
    pub fn new(root: &Path, cgroupfs: Option<&Path>) -> Host {
        let init_root = root.join("proc/1/root");
        let rootfs = if root == Path::new("/") && init_root.join("proc").exists() {
            init_root
        } else {
            root.to_path_buf()
        };
        Host {
            root: root.to_path_buf(),
            rootfs,
            cgroupfs: cgroupfs.map_or_else(|| root.join("sys/fs/cgroup"), Path::to_path_buf),
        }
    }

    /// True when the observed host is running, not a copy of its files: its /proc knows this process.
    pub fn is_live(&self) -> bool {
        self.proc("self").exists()
    }

    /// A file of this process itself below `/proc/self`, whatever host is observed.
    pub fn own(relative: &str) -> PathBuf {
        Path::new("/proc/self").join(relative)
    }

    /// A path below `/proc`, given without the leading slash.
    pub fn proc(&self, relative: &str) -> PathBuf {
        self.root.join("proc").join(relative)
    }

    /// A path below `/sys`, given without the leading slash.
    pub fn sys(&self, relative: &str) -> PathBuf {
        self.root.join("sys").join(relative)
    }

    /// A path below the cgroup mount, given with or without the leading slash.
    pub fn cgroup(&self, relative: &str) -> PathBuf {
        self.cgroupfs.join(relative.trim_start_matches('/'))
    }

    /// What processes of the host call the cgroup directory `path`, which this one may see elsewhere.
    pub fn cgroup_as_seen(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.cgroupfs).unwrap_or(Path::new(""));
        Path::new(CGROUPS).join(below).to_string_lossy().trim_end_matches('/').to_owned()
    }

    /// The cgroup directory that processes of the host call `path`.
    pub fn cgroup_seen_as(&self, path: &str) -> PathBuf {
        self.cgroup(path.strip_prefix(CGROUPS).unwrap_or(path))
    }

    /// A file of the host's root file system, given as an absolute path of the host.
    pub fn rootfs(&self, absolute: &str) -> PathBuf {
        self.rootfs.join(absolute.trim_start_matches('/'))
    }
}

/// The path on the host of a file that the process `pid` knows as `path`, an absolute path: below its own root.
pub fn seen_by(pid: u32, path: &str) -> String {
    format!("/proc/{pid}/root{path}")
}

/// The `/proc/PID/root` that [`seen_by`] has put in front of a path; empty where there is none.
pub fn process_root(path: &str) -> &str {
    let length = |rest: &str| {
        let (pid, rest) = rest.split_once('/')?;
        let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        (is_pid && rest.starts_with("root/")).then_some("/proc/".len() + pid.len() + "/root".len())
    };
    path.strip_prefix("/proc/").and_then(length).map_or("", |length| &path[..length])
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// Those of open and read, and `FileTooLarge` when the file holds more than `max` bytes.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut data)?;
    if data.len() > max {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(data)
}

/// What was read, or `None` when it is gone: open and stat say ENOENT then. A file that was opened before says ESRCH when its
/// process ended (fs/proc/base.c), ENODEV when its cgroup was removed (fs/kernfs/file.c).
///
/// # Errors
/// All others. Without a descriptor or memory to look with, nothing is known: neither that it is there nor that it is not.
pub fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::ENODEV) => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_processs_root_are_told() {
        assert_eq!(process_root(&seen_by(12, "/var/log/a")), "/proc/12/root");
        for other in
            ["/proc/12/rooted/a", "/proc/self/root/a", "/proc//root/a", "/var/log/a", "/proc/12/root"]
        {
            assert_eq!(process_root(other), "", "{other}");
        }
    }

    #[test]
    fn another_root_moves_every_path() {
        let host = Host::new(Path::new("/host"), None);
        assert_eq!(host.proc("stat"), Path::new("/host/proc/stat"));
        assert_eq!(host.sys("class/net"), Path::new("/host/sys/class/net"));
        assert_eq!(host.cgroup("/memory/a"), Path::new("/host/sys/fs/cgroup/memory/a"));
        assert_eq!(host.rootfs("/etc/machine-id"), Path::new("/host/etc/machine-id"));
        let host = Host::new(Path::new("/host"), Some(Path::new("/cg")));
        assert_eq!(host.cgroup("memory/a"), Path::new("/cg/memory/a"));
        assert_eq!(host.cgroup_as_seen(Path::new("/cg/unified")), "/sys/fs/cgroup/unified");
        assert_eq!(host.cgroup_as_seen(Path::new("/cg")), "/sys/fs/cgroup");
        assert_eq!(host.cgroup_seen_as("/sys/fs/cgroup/a/b"), Path::new("/cg/a/b"));
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        let read = |errno| unless_gone::<()>(Err(io::Error::from_raw_os_error(errno))).ok();
        for gone in [libc::ENOENT, libc::ESRCH, libc::ENODEV] {
            assert_eq!(read(gone), Some(None), "{gone}");
        }
        for other in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EACCES, libc::EPERM, libc::EINTR] {
            assert_eq!(read(other), None, "{other}");
        }
        let bound = unless_gone::<()>(Err(io::Error::from(io::ErrorKind::FileTooLarge)));
        assert!(bound.is_err() && unless_gone(Ok(7)).unwrap() == Some(7));
    }

    #[test]
    fn a_file_beyond_the_bound_is_an_error() {
        let path = std::env::temp_dir().join(format!("nodeprobe-bounded-{}", std::process::id()));
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
