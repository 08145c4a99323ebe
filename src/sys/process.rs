//! This process and its children: limits, namespaces, and the child that may hang in our place.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::namespace;

/// Raises the soft limit of open files to the hard one; gives the limit then in force.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer, for a resource every Linux has.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        limit.rlim_max
    } else {
        before
    }
}

/// True for user id 0 in this process's user namespace.
pub fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// uname(2).
fn names() -> libc::utsname {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: uname fills the struct it is given; zeroed before, it is valid text even on failure.
    unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    }
}

fn text(bytes: &[libc::c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The host name this process sees (its UTS namespace).
pub fn host_name() -> String {
    text(&names().nodename)
}

/// Whether the kernel itself is a 32-bit one; a 32-bit process may also run on a 64-bit kernel.
pub fn kernel_is_32_bit() -> bool {
    cfg!(target_pointer_width = "32") && has_short_pointers(&text(&names().machine))
}

/// `machine` is uname's word. A 64-bit kernel of ARM says armv8l to processes that want to hear of a 32-bit machine.
fn has_short_pointers(machine: &str) -> bool {
    !machine.contains("64") && !machine.starts_with("armv8")
}

/// Runs `action` inside the namespace that the file `namespace` (`/proc/1/ns/net`, `/proc/1/ns/uts`) stands for, or right
/// here when that is this process's own.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; `own` is this process's file of the same kind, needed for the way back.
pub fn inside_namespace<T>(namespace: &Path, own: &Path, action: impl FnOnce() -> T) -> io::Result<T> {
    use std::os::unix::fs::MetadataExt;
    let target = File::open(namespace)?;
    let home = File::open(own)?;
    let (there, here) = (target.metadata()?, home.metadata()?);
    if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
        return Ok(action());
    }
    enter(&target)?;
    let result = action();
    if let Err(error) = enter(&home) {
        namespace::lost(&error);
    }
    Ok(result)
}

/// Moves this process into the namespace that the file `namespace` (`/proc/1/ns/cgroup`) stands for, for good.
///
/// # Errors
/// EACCES without the right to trace its process (CAP_SYS_PTRACE), EPERM without CAP_SYS_ADMIN; nothing has changed then.
pub fn join_namespace(namespace: &Path) -> io::Result<()> {
    enter(&File::open(namespace)?)
}

fn enter(namespace: &File) -> io::Result<()> {
    /// `NS_GET_NSTYPE` (linux/nsfs.h), of Linux 4.11 and later.
    const NS_GET_NSTYPE: libc::c_int = 0xb703;
    // Type 0 would do for any, but under systemd's RestrictNamespaces= only a type that is named is let through.
    // SAFETY: a valid descriptor, and a request without a pointer.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) }.max(0);
    // SAFETY: a valid descriptor, and no pointers. The process has one thread.
    super::check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// Bytes and counts of a mounted file system (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemUse {
    /// All blocks.
    pub size_bytes: u64,
    /// Blocks not free.
    pub used_bytes: u64,
    /// Free blocks only root may use.
    pub reserved_bytes: u64,
}

/// Measures the file system at `path`. May hang on a dead mount: only for a [`Worker`].
///
/// # Errors
/// Those of statvfs(3).
#[allow(clippy::unnecessary_cast, reason = "these fields are 32 bits wide on armv7")]
pub fn filesystem_use(path: &Path) -> io::Result<FilesystemUse> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: a NUL-terminated path and a valid pointer.
    super::check(unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled by the call, and zeroed before.
    let stat = unsafe { stat.assume_init() };
    let unit = stat.f_frsize as u64;
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    let (all, free, available) = (stat.f_blocks as u64, stat.f_bfree as u64, stat.f_bavail as u64);
    Ok(FilesystemUse {
        size_bytes: bytes(all),
        used_bytes: bytes(all.saturating_sub(free)),
        reserved_bytes: bytes(free.saturating_sub(available)),
    })
}

/// Lets the kernel reap children, so that a worker abandoned in a hung system call leaves no zombie when it ends at last.
pub fn reap_children_automatically() {
    // SAFETY: SIG_IGN for SIGCHLD is the documented way (wait(2), NOTES).
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// A child process that does what may hang, and writes what it learns into a pipe.
#[derive(Debug)]
pub struct Worker {
    pid: libc::pid_t,
    /// Names this very process, however often its number is used again; absent before Linux 5.3.
    pidfd: Option<OwnedFd>,
    pipe: File,
    /// It has closed the pipe, which is the last thing it does.
    is_done: bool,
}

impl Worker {
    /// Forks; the child runs `work` on the writing end and ends. It holds no other descriptor of this process: a child that
    /// hangs must not keep a client's connection or a BPF link alive.
    ///
    /// # Errors
    /// Those of pipe2(2) and fork(2).
    pub fn spawn(work: impl FnOnce(&mut File)) -> io::Result<Worker> {
        let mut ends = [0 as RawFd; 2];
        // SAFETY: room for two descriptors.
        super::check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        // SAFETY: both descriptors are new and ours.
        let (reader, writer) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        // SAFETY: getpid cannot fail.
        let parent = unsafe { libc::getpid() };
        // SAFETY: the process has one thread, so the child is a whole program and may do anything.
        let pid = super::check(unsafe { libc::fork() })?;
        if pid == 0 {
            child(parent, writer.as_raw_fd(), work);
        }
        drop(writer);
        // SAFETY: a valid descriptor of ours.
        super::check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        // SAFETY: no pointers; the child cannot be reaped yet, as it still holds the pipe or has just ended unseen.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: the descriptor is new and ours.
        let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) });
        Ok(Worker { pid, pidfd, pipe: reader, is_done: false })
    }

    /// Takes what the child has written, at most 64 KiB a call; true once it has closed the pipe.
    pub fn read(&mut self, into: &mut Vec<u8>) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..4 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.is_done = true;
                    return true;
                }
                Ok(length) => into.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }
}

impl AsRawFd for Worker {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl Worker {
    /// Kills the child. One that hangs in the kernel ends when the kernel lets it: until then the result says so.
    pub fn abandon(self) -> Abandoned {
        let pidfd = self.pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok());
        drop(self);
        Abandoned(pidfd)
    }
}

/// A child that was killed, and may not have noticed yet.
#[derive(Debug)]
pub struct Abandoned(Option<OwnedFd>);

impl Abandoned {
    /// True until the kernel has let go of it; false where the kernel cannot tell.
    pub fn is_alive(&self) -> bool {
        let Some(pidfd) = &self.0 else { return false };
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised element; a timeout of 0 does not wait.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 0 }
    }
}

impl Drop for Worker {
    /// Kills the child, unless it has done its work and ends by itself.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // SAFETY: no pointers but null ones. Without a pidfd the number is still the child's: it has not closed the pipe.
        unsafe {
            match &self.pidfd {
                Some(pidfd) => {
                    let info: *const libc::siginfo_t = std::ptr::null();
                    libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, info, 0);
                }
                None => {
                    libc::kill(self.pid, libc::SIGKILL);
                }
            }
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG);
        }
    }
}

/// The life of a worker's child.
fn child(parent: libc::pid_t, writer: RawFd, work: impl FnOnce(&mut File)) -> ! {
    // SAFETY: prctl and dup2 take no pointers, open a string that ends with NUL; the child owns all its descriptors and has one
    // thread. Descriptor 3 is made the pipe, then all above it are closed. Those below it become nothing: who reads our stderr
    // must not wait for a child that hangs.
    let mut pipe = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // The parent may have died before it was asked for.
        if libc::getppid() != parent {
            libc::_exit(0);
        }
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        for fd in 0..3 {
            if nothing < 0 {
                libc::close(fd);
            } else {
                libc::dup2(nothing, fd);
            }
        }
        let kept = if writer == 3 { 3 } else { libc::dup2(writer, 3) };
        if libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0) != 0 {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            for fd in 4..limit.rlim_cur.min(1 << 20) as RawFd {
                libc::close(fd);
            }
        }
        File::from_raw_fd(kept)
    };
    work(&mut pipe);
    // SAFETY: ends the child without running the parent's exit handlers.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn machines_by_their_pointers() {
        for (machine, short) in [
            ("armv7l", true),
            ("armv6l", true),
            ("i686", true),
            ("aarch64", false),
            ("armv8l", false),
            ("x86_64", false),
        ] {
            assert_eq!(has_short_pointers(machine), short, "{machine}");
        }
    }

    #[test]
    fn a_worker_reports_and_ends() {
        let mut worker = Worker::spawn(|pipe| {
            let use_ = filesystem_use(Path::new("/")).unwrap();
            writeln!(pipe, "{}", use_.size_bytes > 0).unwrap();
        })
        .unwrap();
        let mut text = Vec::new();
        while !worker.read(&mut text) {
            std::thread::yield_now();
        }
        assert_eq!(text, b"true\n");
    }

    #[test]
    fn a_hanging_worker_is_killed() {
        let worker = Worker::spawn(|_| {
            loop {
                std::thread::park();
            }
        })
        .unwrap();
        let pid = worker.pid;
        drop(worker);
        // SAFETY: waits for a child of this test.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        assert!(waited == pid || waited == -1);
    }

    #[test]
    fn our_own_namespace_needs_no_switch() {
        let own = Path::new("/proc/self/ns/uts");
        assert_eq!(inside_namespace(own, own, host_name).unwrap(), host_name());
    }
}
