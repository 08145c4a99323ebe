//! What systemd tells and wants to be told: sockets it opened for us, how the start goes, that the loop still turns.
//!
//! Nothing here is handed on: nodeprobe executes no other program, so the variables systemd has set can stay.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::debug;
use crate::error::{Error, Reason, Result};
use crate::limits;
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::socket;

/// How many sockets systemd has passed to this process (sd_listen_fds(3)).
pub fn passed_sockets() -> u32 {
    let variable = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let is_ours = variable("LISTEN_PID") == Some(std::process::id());
    variable("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0)
}

/// The listening socket number `number` of those systemd has passed, for `--listen=fd://NUMBER`.
///
/// # Errors
/// A number that is none, or no such socket.
pub fn listener(number: &str) -> Result<TcpListener> {
    let bad = |line: String| Error::new(Reason::Failed, line);
    let number: u32 = number.parse().map_err(|_| bad(format!("{number:?} is not the number of a socket")))?;
    let passed = passed_sockets();
    if number >= passed {
        return Err(bad(format!(
            "no listeners passed via activation with number {number} (systemd passed {passed})"
        )));
    }
    Ok(socket::inherited_listener(number)?)
}

/// The service manager, if one wants to be told (sd_notify(3), sd_watchdog_enabled(3)).
#[derive(Debug, Default)]
pub struct Manager {
    /// Where it hears (`NOTIFY_SOCKET`: a path, or `@` and a name); `None` without one.
    address: Option<SocketAddr>,
    /// Open from the start on: when descriptors or memory have run out, the watchdog is to be fed all the same.
    socket: Option<UnixDatagram>,
    /// Half of what systemd waits before it takes this process for hung; `None` when it does not.
    watchdog_ns: Option<u64>,
    /// When to say next that the loop turns.
    feed_ns: MonotonicNs,
    /// When to look next whether the status has changed.
    status_ns: MonotonicNs,
    /// The status it was told last, or will be.
    status: String,
    /// What could not be sent yet, in order: of each kind the last.
    pending: Vec<String>,
    /// When that is tried again.
    retry_ns: MonotonicNs,
}

impl Manager {
    /// As the environment says. Without systemd nothing is told to anybody.
    pub fn of_environment(environment: impl Fn(&str) -> Option<String>) -> Manager {
        let number = |name| environment(name).and_then(|value| value.parse::<u64>().ok());
        // Without the number of a process it is meant for whoever reads it.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval_us = number("WATCHDOG_USEC").filter(|&interval_us| is_ours && interval_us > 0);
        let path = environment("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let address = path.and_then(|path| {
            let address = match path.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&path),
            };
            address.map_err(|error| debug!("NOTIFY_SOCKET {path}: {error}")).ok()
        });
        Manager {
            watchdog_ns: interval_us
                .filter(|_| address.is_some())
                .map(|interval_us| interval_us.saturating_mul(1_000) / 2),
            // One that cannot be opened now is tried again when there is something to say.
            socket: address.as_ref().and_then(|_| open().ok()),
            address,
            ..Manager::default()
        }
    }

    /// Sends `state`: lines such as `READY=1`. False when it was not, as when there are too many messages that systemd has not
    /// read yet.
    fn send(&mut self, state: &str) -> bool {
        let Some(address) = &self.address else { return true };
        let socket = match self.socket.take().map_or_else(open, Ok) {
            Ok(socket) => self.socket.insert(socket),
            Err(error) => {
                debug!("NOTIFY_SOCKET: {error}");
                return false;
            }
        };
        // By its address each time: another socket may be there by now.
        let sent = socket.send_to_addr(state.as_bytes(), address);
        if let Err(error) = &sent {
            debug!("NOTIFY_SOCKET: {error}");
        }
        sent.is_ok()
    }

    /// Sends `state` after what is pending; what cannot be sent stays pending.
    fn tell(&mut self, state: String) {
        let kind = |state: &str| state.split('=').next().unwrap_or_default().to_owned();
        let is = kind(&state);
        self.pending.retain(|old| kind(old) != is);
        self.pending.push(state);
        self.send_pending();
    }

    fn send_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let sent = pending.iter().take_while(|state| self.send(state)).count();
        self.pending.extend(pending.into_iter().skip(sent));
        self.retry_ns = clock::monotonic_ns() + limits::STATUS_RETRY.as_nanos() as u64;
    }

    /// The start has begun.
    pub fn starting(&mut self) {
        self.tell("STATUS=opening collectors".to_owned());
    }

    /// All is open: `systemctl start` and `systemctl reload` return now.
    pub fn ready(&mut self, status: String) {
        self.tell(format!("READY=1\nSTATUS={status}"));
        self.status = status;
        self.feed_ns = 0;
        self.feed();
    }

    /// Configuration files are about to be read again; `ready` ends it.
    pub fn reloading(&mut self) {
        // Newer systemd (253) sorts out by this time which reload is meant.
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reloading", clock::monotonic_ns() / 1_000));
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        self.tell("STOPPING=1\nSTATUS=stopping".to_owned());
    }

    /// Says that the loop turns, if it is time to, and what could not be said before. To be called between pieces of work, by the loop alone: each piece, however
    /// many there are in a turn, then has half the interval at least, and one that hangs is noticed.
    pub fn feed(&mut self) {
        if self.watchdog_ns.is_none() && self.pending.is_empty() {
            return;
        }
        let now_ns = clock::monotonic_ns();
        if let Some(watchdog_ns) = self.watchdog_ns.filter(|_| now_ns >= self.feed_ns) {
            let retry_ns = limits::STATUS_RETRY.as_nanos() as u64;
            let is_fed = self.send("WATCHDOG=1");
            self.feed_ns = now_ns + if is_fed { watchdog_ns } else { watchdog_ns.min(retry_ns) };
        }
        if !self.pending.is_empty() && now_ns >= self.retry_ns {
            self.send_pending();
        }
    }

    /// When the loop must turn at the latest.
    pub fn deadline_ns(&self) -> MonotonicNs {
        let feed_ns = self.watchdog_ns.map(|_| self.feed_ns);
        let retry_ns = (!self.pending.is_empty()).then_some(self.retry_ns);
        feed_ns.into_iter().chain(retry_ns).min().unwrap_or(MonotonicNs::MAX)
    }

    /// Tells `status`, if it has changed and was not looked at for a while. What cannot be sent is left to [`Manager::feed`].
    pub fn observe(&mut self, now_ns: MonotonicNs, status: impl FnOnce() -> String) {
        if self.address.is_none() || now_ns < self.status_ns {
            return;
        }
        self.status_ns = now_ns + limits::STATUS_INTERVAL.as_nanos() as u64;
        let status = status();
        if status != self.status {
            self.tell(format!("STATUS={status}"));
            self.status = status;
        }
    }
}

/// A socket to send from.
fn open() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Whoever does not listen must not hold us up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sockets_that_nobody_passed_are_errors() {
        for number in ["0", "", "x", "-1", "4294967296"] {
            assert!(listener(number).is_err(), "{number:?}");
        }
    }

    /// A socket that hears what a manager is told, and its name.
    fn ear(name: &str) -> (UnixDatagram, String) {
        let name = format!("nodeprobe-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        (socket, format!("@{name}"))
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    fn manager(variables: &[(&str, &str)]) -> Manager {
        Manager::of_environment(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_interval() {
        let (socket, name) = ear("watchdog");
        let mut manager = manager(&[("NOTIFY_SOCKET", &name), ("WATCHDOG_USEC", "40000000")]);
        manager.ready("works".to_owned());
        let now_ns = clock::monotonic_ns();
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\nSTATUS=works"));
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1"));
        let left_ns = manager.deadline_ns() - now_ns;
        assert!(left_ns > 10_000_000_000 && left_ns <= 20_000_000_000, "{left_ns}");
        manager.feed();
        assert_eq!(heard(&socket), None);
        manager.feed_ns = now_ns;
        manager.feed();
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_fed() {
        let (socket, name) = ear("another");
        for variables in [
            &[("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "2"), ("WATCHDOG_PID", "1")][..],
            &[("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "0")],
            &[("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "soon")],
            &[("NOTIFY_SOCKET", &*name)],
            &[("WATCHDOG_USEC", "2")],
            &[],
        ] {
            let mut manager = manager(variables);
            assert_eq!(manager.deadline_ns(), MonotonicNs::MAX, "{variables:?}");
            manager.feed();
            assert_eq!(heard(&socket), None, "{variables:?}");
        }
    }

    #[test]
    fn a_status_is_told_when_it_changes() {
        let (socket, name) = ear("status");
        let mut manager = manager(&[("NOTIFY_SOCKET", &name)]);
        let second = 1_000_000_000;
        manager.observe(second, || "one".to_owned());
        assert_eq!(heard(&socket).as_deref(), Some("STATUS=one"));
        manager.observe(2 * second, || "two".to_owned());
        manager.observe(60 * second, || "one".to_owned());
        assert_eq!(heard(&socket), None);
        manager.observe(120 * second, || "two".to_owned());
        assert_eq!(heard(&socket).as_deref(), Some("STATUS=two"));
    }

    /// Fills the queue of `name`, as if systemd had no time to read.
    fn fill(name: &str) {
        let mut stranger = manager(&[("NOTIFY_SOCKET", name)]);
        let sent = (0..100_000).take_while(|_| stranger.send("X=1")).count();
        assert!(sent > 0 && sent < 100_000, "{sent}");
    }

    /// What is heard beside what [`fill`] has sent.
    fn heard_all(socket: &UnixDatagram) -> Vec<String> {
        std::iter::from_fn(|| heard(socket)).filter(|state| state != "X=1").collect()
    }

    #[test]
    fn what_systemd_has_no_room_for_is_told_later_and_in_order() {
        let (socket, name) = ear("full");
        let mut manager = manager(&[("NOTIFY_SOCKET", &name)]);
        assert_eq!(manager.deadline_ns(), MonotonicNs::MAX);
        fill(&name);
        manager.starting();
        manager.ready("one".to_owned());
        manager.reloading();
        manager.ready("two".to_owned());
        let later_ns = clock::monotonic_ns() + limits::STATUS_INTERVAL.as_nanos() as u64;
        manager.observe(later_ns, || "three".to_owned());
        assert_eq!(heard_all(&socket), [""; 0]);
        let left_ns = manager.deadline_ns().saturating_sub(clock::monotonic_ns());
        assert!(left_ns <= limits::STATUS_RETRY.as_nanos() as u64, "{left_ns}");
        // Not before that: the loop must not spin.
        manager.retry_ns = MonotonicNs::MAX;
        manager.feed();
        assert_eq!(heard_all(&socket), [""; 0]);
        manager.retry_ns = 0;
        manager.feed();
        let told = heard_all(&socket);
        assert!(told[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told:?}");
        assert_eq!(told[1..], ["READY=1\nSTATUS=two", "STATUS=three"]);
        assert_eq!(manager.deadline_ns(), MonotonicNs::MAX);
        manager.feed();
        manager.observe(2 * later_ns, || "three".to_owned());
        assert_eq!(heard_all(&socket), [""; 0]);
    }

    #[test]
    fn a_watchdog_that_was_not_fed_is_fed_a_second_later() {
        let (socket, name) = ear("unfed");
        let mut manager = manager(&[("NOTIFY_SOCKET", &name), ("WATCHDOG_USEC", "60000000")]);
        fill(&name);
        manager.feed();
        assert_eq!(heard_all(&socket), [""; 0]);
        let left_ns = manager.deadline_ns().saturating_sub(clock::monotonic_ns());
        assert!(left_ns <= limits::STATUS_RETRY.as_nanos() as u64, "{left_ns}");
        manager.feed_ns = 0;
        manager.feed();
        assert_eq!(heard_all(&socket), ["WATCHDOG=1"]);
        let left_ns = manager.deadline_ns() - clock::monotonic_ns();
        assert!(left_ns > 20_000_000_000, "{left_ns}");
    }

    #[test]
    fn who_begins_to_listen_late_is_told_all_the_same() {
        let name = format!("@nodeprobe-late-{}", std::process::id());
        let mut manager = manager(&[("NOTIFY_SOCKET", &name)]);
        manager.ready("works".to_owned());
        let (socket, _) = ear("late");
        // Nor does a socket that could not be opened at the start stay closed.
        (manager.socket, manager.retry_ns) = (None, 0);
        manager.feed();
        assert_eq!(heard_all(&socket), ["READY=1\nSTATUS=works"]);
        assert!(manager.socket.is_some());
    }
}
