//! One error type with a context chain, and the closed list of reasons for which a collector is absent.

use std::fmt;
use std::io;

/// An error that reads as one line, outermost context first: `open tcp object: load: permission denied`.
#[derive(Debug)]
pub struct Error {
    chain: String,
    reason: Reason,
}

/// The usual result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a collector is absent. The words are the values of `nodeprobe_collector_info{reason}`, so the list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The collector works.
    Ok,
    /// Switched off by a flag.
    Disabled,
    /// This process lacks a capability or is kept out by a security module.
    NoPermission,
    /// The kernel does not have the feature, or was built without it.
    NotSupported,
    /// The kernel exports no BTF type information.
    NoBtf,
    /// The file or directory the collector reads does not exist.
    NotFound,
    /// A limit (file descriptors, locked memory, memory) was hit.
    ResourceLimit,
    /// The observed root is a copy of a host, not a running one.
    NotLive,
    /// Something else: the line on stderr says what.
    Failed,
}

impl Reason {
    /// The label value.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Ok => "ok",
            Reason::Disabled => "disabled",
            Reason::NoPermission => "no_permission",
            Reason::NotSupported => "not_supported",
            Reason::NoBtf => "no_btf",
            Reason::NotFound => "not_found",
            Reason::ResourceLimit => "resource_limit",
            Reason::NotLive => "not_live",
            Reason::Failed => "failed",
        }
    }

    /// The reason an errno value stands for.
    pub fn of_errno(errno: i32) -> Reason {
        match errno {
            libc::EPERM | libc::EACCES => Reason::NoPermission,
            libc::ENOENT | libc::ENODEV | libc::ENOTDIR => Reason::NotFound,
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC => Reason::ResourceLimit,
            // 524 is the kernel's own ENOTSUPP, which leaks out of BPF attach paths.
            libc::EOPNOTSUPP
            | libc::ENOSYS
            | libc::EINVAL
            | libc::EPROTONOSUPPORT
            | libc::EAFNOSUPPORT
            | 524 => Reason::NotSupported,
            _ => Reason::Failed,
        }
    }
}

impl Error {
    /// An error with a reason of its own.
    pub fn new(reason: Reason, message: impl Into<String>) -> Error {
        Error { chain: message.into(), reason }
    }

    /// An error of errno value `errno`.
    pub fn from_errno(errno: i32) -> Error {
        Error { chain: io::Error::from_raw_os_error(errno).to_string(), reason: Reason::of_errno(errno) }
    }

    /// The same error for another reason.
    pub fn with_reason(self, reason: Reason) -> Error {
        Error { reason, ..self }
    }

    /// Why, for the collector table.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let reason = error.raw_os_error().map_or(Reason::Failed, Reason::of_errno);
        Error { chain: error.to_string(), reason }
    }
}

/// Adds what was being done to an error.
pub trait Context<T> {
    /// Puts `what` in front of the error's text.
    ///
    /// # Errors
    /// The error it was called on.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| {
            let Error { chain, reason } = error.into();
            Error { chain: format!("{what}: {chain}"), reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_reads_from_the_outside_in() {
        let error = Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM)).context("load").context("tcp");
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with("tcp: load: "), "{error}");
        assert_eq!(error.reason(), Reason::NoPermission);
    }
}
