//! What systemd tells and wants to be told: sockets it opened for us, and how the start goes.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::debug;
use crate::error::{Error, Reason, Result};
use crate::sys::socket;

/// The listening socket number `number` of those systemd has passed (sd_listen_fds(3)), for `--listen=fd://NUMBER`.
///
/// # Errors
/// A number that is none, or no such socket.
pub fn listener(number: &str) -> Result<TcpListener> {
    let bad = |line: String| Error::new(Reason::Failed, line);
    let number: u32 = number.parse().map_err(|_| bad(format!("{number:?} is not the number of a socket")))?;
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let is_ours = variable("LISTEN_PID") == Some(std::process::id());
    let passed = variable("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    if number >= passed {
        return Err(bad(format!(
            "no listeners passed via activation with number {number} (systemd passed {passed})"
        )));
    }
    Ok(socket::inherited_listener(number)?)
}

/// Tells systemd `state` (sd_notify(3)): `READY=1`, `STATUS=...`, `STOPPING=1`. Nothing happens without systemd.
pub fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<()> {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        // Whoever does not listen must not hold us up.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = send() {
        debug!("NOTIFY_SOCKET {path}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_nobody_passed_are_errors() {
        for number in ["0", "", "x", "-1", "4294967296"] {
            assert!(listener(number).is_err(), "{number:?}");
        }
    }
}
