//! One request on one connection, without waiting: what can be done now is done, the rest when poll(2) says so.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use super::message::{self, Answer, Mistake};
use crate::limits;
use crate::sys::clock::MonotonicNs;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing can be reached there.
    Unreachable(io::Error),
    /// Nothing was said in time; `was_connected`: though somebody is there.
    Late {
        /// Whether the request could be sent.
        was_connected: bool,
    },
    /// What was said is no answer.
    Senseless(Mistake),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(error) => write!(out, "{error}"),
            Failure::Late { was_connected: true } => out.write_str("no answer in time"),
            Failure::Late { was_connected: false } => out.write_str("no connection in time"),
            Failure::Senseless(mistake) => out.write_str(mistake),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Exchange {
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    deadline_ns: MonotonicNs,
}

impl Exchange {
    /// A request for a connection that is being made and does not block, to be answered by `deadline_ns`.
    pub fn new(stream: TcpStream, request: Vec<u8>, deadline_ns: MonotonicNs) -> Exchange {
        Exchange { stream, request, sent: 0, answer: Vec::new(), deadline_ns }
    }

    /// What to wait for.
    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether it waits for room to write (or the connection) rather than for data.
    pub fn is_sending(&self) -> bool {
        self.sent < self.request.len()
    }

    /// When to give up.
    pub fn deadline_ns(&self) -> MonotonicNs {
        self.deadline_ns
    }

    /// That it is given up.
    pub fn late(&self) -> Failure {
        Failure::Late { was_connected: !self.is_sending() }
    }

    /// Does what can be done; the answer once it is whole.
    ///
    /// # Errors
    /// Those of the connection, and what is no answer.
    pub fn turn(&mut self) -> Result<Option<Answer>, Failure> {
        while let Some(rest) = self.request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent = self.sent.saturating_add(count),
                Err(error) => return wait(error),
            }
        }
        let mut buffer = [0; 8192];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) => return wait(error),
            };
            self.answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
            // Also bounds what is kept: what is larger is no answer.
            match message::parse(&self.answer, count == 0).map_err(Failure::Senseless)? {
                None if count > 0 => {}
                answer => return Ok(answer),
            }
        }
    }
}

/// Waits, if that is all there is to the error.
fn wait(error: io::Error) -> Result<Option<Answer>, Failure> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(Failure::Unreachable(error)),
    }
}

/// When a request that begins at `now_ns` is given up: after its own time, or that of the whole.
pub fn deadline_ns(now_ns: MonotonicNs, whole_ns: MonotonicNs) -> MonotonicNs {
    now_ns.saturating_add(limits::CLOUD_REQUEST_TIME.as_nanos() as u64).min(whole_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Says `pieces` one after the other to who connects, and has the exchange go on until it ends.
    fn exchange(pieces: &'static [&'static [u8]]) -> Result<Option<Answer>, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut exchange = Exchange::new(stream, b"GET / HTTP/1.1\r\n\r\n".to_vec(), 0);
        assert!(exchange.is_sending());
        let server = thread::spawn(move || {
            peer.read_exact(&mut [0; 18]).unwrap();
            for piece in pieces {
                peer.write_all(piece).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let began = Instant::now();
        let result = loop {
            match exchange.turn() {
                Ok(None) => assert!(began.elapsed() < Duration::from_secs(10)),
                result => break result,
            }
        };
        assert!(!exchange.is_sending());
        server.join().unwrap();
        result
    }

    #[test]
    fn an_answer_in_pieces() {
        let answer = exchange(&[b"HTTP/1.1 200 OK\r\nContent-", b"Length: 2\r\n\r\n", b"o", b"k"]).unwrap();
        assert_eq!(answer, Some(Answer { status: 200, body: b"ok".to_vec() }));
        let answer = exchange(&[b"HTTP/1.1 200 OK\r\n\r\n", b"until the end"]).unwrap();
        assert_eq!(answer.unwrap().body, b"until the end");
    }

    #[test]
    fn no_answer() {
        assert!(matches!(exchange(&[]), Err(Failure::Senseless(_))));
        assert!(matches!(
            exchange(&[b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nx"]),
            Err(Failure::Senseless(_))
        ));
        assert!(matches!(exchange(&[b"220 smtp.example.org\r\n"]), Err(Failure::Senseless(_))));
    }
}
