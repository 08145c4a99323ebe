//! Network namespaces: files that stand for them, and doing something inside one (setns(2), network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::stderr;

/// A network namespace, held open: it lives as long as this does, its interfaces too.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
    inode: u64,
}

impl NetworkNamespace {
    /// Opens the namespace a file such as `/proc/1/ns/net` stands for.
    ///
    /// # Errors
    /// ENOENT (or ESRCH) when the process is gone; EACCES without the right to trace it (ptrace(2), CAP_SYS_PTRACE).
    pub fn open(path: &Path) -> io::Result<NetworkNamespace> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(NetworkNamespace { file, inode })
    }

    /// The namespace this thread is in.
    ///
    /// # Errors
    /// ENOENT where /proc is not mounted.
    pub fn own() -> io::Result<NetworkNamespace> {
        // In the agent, which has one thread, /proc/self is the same. In tests each thread may be elsewhere.
        NetworkNamespace::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Its inode number, which names it as long as it lives.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `action` inside this namespace and comes back to `home`, where this thread is now: [`NetworkNamespace::own`]. Sockets
    /// opened by `action` stay in this namespace for ever. When the two are the same, no system call is made.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN, both here and in the user namespace this one belongs to; EINVAL when a file is not of a
    /// network namespace. `action` was not run then.
    pub fn run<T>(&self, home: &NetworkNamespace, action: impl FnOnce() -> T) -> io::Result<T> {
        if self.inode == home.inode {
            return Ok(action());
        }
        enter(&self.file)?;
        // When dropped, so that a panic of a test's action comes home too.
        let way_back = WayBack(&home.file);
        let result = action();
        drop(way_back);
        Ok(result)
    }
}

struct WayBack<'a>(&'a File);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if let Err(error) = enter(self.0) {
            lost(&error);
        }
    }
}

/// There is no way back to the own namespace. All that this process does from here on, the address it listens on and the
/// interfaces it reports, would be elsewhere and look right. There is no state to save; who supervises it starts it anew.
pub(super) fn lost(error: &io::Error) -> ! {
    stderr::line(stderr::Level::Error, format_args!("back to the own namespace: {error}"));
    std::process::abort();
}

/// Moves this thread.
fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: a valid descriptor of ours, and no pointers; other kinds of namespaces and of files are refused.
    super::check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Reason};

    #[test]
    fn the_own_namespace_needs_no_rights() {
        let home = NetworkNamespace::own().unwrap();
        let same = NetworkNamespace::open(Path::new("/proc/self/ns/net")).unwrap();
        assert_eq!(same.inode(), home.inode());
        assert_eq!(same.run(&home, || 7).unwrap(), 7);
    }

    #[test]
    fn what_is_no_network_namespace_is_not_entered() {
        let home = NetworkNamespace::own().unwrap();
        let gone = NetworkNamespace::open(Path::new("/proc/4294967295/ns/net")).unwrap_err();
        assert_eq!(Error::from(gone).reason(), Reason::NotFound);
        let other = NetworkNamespace::open(Path::new("/proc/self/ns/uts")).unwrap();
        let mut ran = false;
        let error = other.run(&home, || ran = true).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)), "{error}");
        assert!(!ran);
        assert_eq!(NetworkNamespace::own().unwrap().inode(), home.inode());
    }
}
