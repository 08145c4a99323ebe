//! Signals as a descriptor: signalfd(2), so that the loop has one thing to wait for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Signals that are blocked for the process and readable here.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks SIGTERM, SIGINT and SIGHUP and opens the descriptor.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn open() -> io::Result<Signals> {
        Signals::of(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
    }

    /// Blocks the signals with these numbers and opens the descriptor.
    ///
    /// # Errors
    /// Those of sigprocmask(2) and signalfd(2).
    pub fn of(numbers: &[i32]) -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that the calls behind it read; all get valid pointers.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in numbers {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            super::check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()))?;
            let fd = super::check(libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
            Ok(Signals(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// The next pending signal's number, if any.
    pub fn next(&self) -> Option<i32> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is as large as said; the kernel writes whole records only.
        let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if read != size as isize {
            return None;
        }
        // SAFETY: a whole record was written.
        i32::try_from(unsafe { info.assume_init() }.ssi_signo).ok()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
