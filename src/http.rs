//! HTTP: connections as descriptors of the loop, request heads, responses; tiny_http's vocabulary on our own sockets.
//!
//! tiny_http's server starts threads, panics on some resets and reads headers without bound, so only its parsers and its
//! response head are used (`docs/DESIGN.md`). Everything here has a bound and a deadline: connections, bytes of a head, time
//! for a head, time without progress, bodies alive.

pub mod head;

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::error::{Context, Error, Reason, Result};
use crate::limits;
use crate::page;
use crate::registry::{Body, Piece};
use crate::sys::clock::MonotonicNs;
use crate::sys::poll::{Interest, PollSet};
use crate::sys::socket;
use crate::sys::zlib;
use crate::systemd;
pub use head::Page;
use head::{Request, Target, parse_head, response_head};

type Headers<'a> = [(&'a str, &'a str)];

/// The text format's content type.
const TEXT_FORMAT: &Headers<'static> = &[("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];

/// What the HTTP side counts about itself.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// accept(2) that failed, for want of descriptors mostly.
    pub accept_errors: u64,
    /// Connections closed by us before their time, by why.
    pub closed: [u64; Closed::ALL.len()],
    /// Responses by status code.
    pub responses: Vec<(u16, u64)>,
}

/// Why a connection was closed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Closed {
    /// The head did not arrive in time.
    HeadTimeout,
    /// A kept-alive connection was idle for too long.
    Idle,
    /// The client took no byte for too long, or the response took too long.
    Stalled,
    /// A newer connection needed its place.
    Evicted,
}

impl Closed {
    /// All reasons; `closed as usize` is the index.
    pub const ALL: [Closed; 4] = [Closed::HeadTimeout, Closed::Idle, Closed::Stalled, Closed::Evicted];

    /// The label value.
    pub fn word(self) -> &'static str {
        match self {
            Closed::HeadTimeout => "head_timeout",
            Closed::Idle => "idle",
            Closed::Stalled => "stalled",
            Closed::Evicted => "evicted",
        }
    }
}

/// A rendered scrape, shared by all connections that are sent it.
#[derive(Debug)]
pub struct Scrape {
    body: Body,
    packed: OnceCell<Option<Piece>>,
    rendered_ns: MonotonicNs,
}

impl Scrape {
    /// Pieces to send: the text, or the one piece of its gzip form.
    fn pieces(&self, packed: bool) -> &[Piece] {
        match &self.packed {
            cell if packed => cell.get().and_then(Option::as_ref).map_or(&[], std::slice::from_ref),
            _ => &self.body.pieces,
        }
    }
}

/// The server side of all connections.
pub struct Http {
    listener: TcpListener,
    connections: Vec<Connection>,
    /// A descriptor held back, so that a process out of descriptors can still answer a scrape.
    reserve: Option<File>,
    resume_ns: MonotonicNs,
    telemetry_path: String,
    has_maps: bool,
    page_tag: String,
    /// The page at `/`, once somebody asked for it.
    index: OnceCell<Rc<Scrape>>,
    /// Where in the poll set the listener and then the connections were put.
    poll_base: usize,
    polled: usize,
    polled_listener: bool,
    /// The latest body, if somebody still receives it.
    last: Weak<Scrape>,
}

/// One connection.
struct Connection {
    stream: TcpStream,
    state: State,
    /// Bytes received and not yet consumed.
    head: Vec<u8>,
    /// When the state must have ended.
    deadline_ns: MonotonicNs,
    /// When a byte was last received or sent.
    progress_ns: MonotonicNs,
    /// The client has sent all it will send; what it asked for before is still answered.
    ended: bool,
    broken: bool,
}

enum State {
    /// Between requests.
    Idle,
    /// Some bytes of a head have arrived.
    Head,
    /// A scrape was asked for and is answered at the end of the turn.
    Asked { request: Request, page: Page },
    /// A response is being sent.
    Sending(Sending),
}

struct Sending {
    head: Vec<u8>,
    scrape: Option<Rc<Scrape>>,
    packed: bool,
    /// Which part comes next: 0 the head, then the pieces; and how much of it is sent.
    part: usize,
    offset: usize,
    keep_alive: bool,
    give_up_ns: MonotonicNs,
}

fn later(now_ns: MonotonicNs, time: Duration) -> MonotonicNs {
    now_ns + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Addresses of `host:port`, `:port` or `[v6]:port`.
///
/// # Errors
/// A line that says what is wrong with `listen`.
pub fn resolve(listen: &str) -> Result<Vec<SocketAddr>> {
    let bad = |what: &str| Error::new(Reason::Failed, format!("--listen: {listen:?} {what}"));
    // As everywhere in this field, no host means every address; [::] takes IPv4 too.
    if let Some(port) = listen.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| bad("has no port number behind the colon"))?;
        return Ok(vec![
            (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
            (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
        ]);
    }
    let addresses = listen
        .to_socket_addrs()
        .map_err(|error| bad(&format!("is not an address to listen on ({error})")))?;
    Ok(addresses.collect())
}

impl Http {
    /// Listens on `listen`.
    ///
    /// # Errors
    /// A bad address, or one that is taken.
    pub fn open(listen: &str, telemetry_path: &str, has_maps: bool) -> Result<Http> {
        let opened = match listen.strip_prefix("fd://") {
            Some(number) => systemd::listener(number),
            None => TcpListener::bind(&resolve(listen)?[..]).map_err(Error::from),
        };
        let listener = opened.context(format_args!("--listen: cannot listen on {listen}"))?;
        listener.set_nonblocking(true).context("listener")?;
        socket::set_backlog(&listener, limits::HTTP_BACKLOG).context("listener")?;
        socket::set_send_buffer(&listener, limits::HTTP_SEND_BUFFER).context("listener")?;
        Ok(Http {
            listener,
            connections: Vec::new(),
            reserve: File::open("/dev/null").ok(),
            resume_ns: 0,
            telemetry_path: telemetry_path.to_owned(),
            has_maps,
            page_tag: page::entity_tag(telemetry_path, has_maps),
            index: OnceCell::new(),
            poll_base: 0,
            polled: 0,
            polled_listener: false,
            last: Weak::new(),
        })
    }

    /// Where the listener is bound, for the line that says where to look.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Adds what it waits for.
    pub fn fds(&mut self, set: &mut PollSet, now_ns: MonotonicNs) {
        self.poll_base = set.len();
        self.polled_listener = now_ns >= self.resume_ns;
        if self.polled_listener {
            set.add(self.listener.as_raw_fd(), Interest::Read);
        }
        for connection in &self.connections {
            set.add(connection.stream.as_raw_fd(), connection.interest());
        }
        self.polled = self.connections.len();
    }

    /// When it wants a turn at the latest.
    pub fn deadline_ns(&self) -> MonotonicNs {
        // A request that was sent behind another is here already: no poll will tell of it.
        let pipelined =
            |connection: &Connection| memchr::memmem::find(&connection.head, b"\r\n\r\n").is_some();
        if self
            .connections
            .iter()
            .any(|connection| matches!(connection.state, State::Head) && pipelined(connection))
        {
            return 0;
        }
        let connections = self.connections.iter().map(|connection| connection.deadline_ns).min();
        let resume = if self.polled_listener { None } else { Some(self.resume_ns) };
        connections.into_iter().chain(resume).min().unwrap_or(MonotonicNs::MAX)
    }

    /// Reads, writes and accepts what poll said is possible. Afterwards scrapes may be [waiting](Http::is_asked).
    pub fn turn(&mut self, set: &PollSet, now_ns: MonotonicNs, stats: &mut Stats) {
        let first = self.poll_base + usize::from(self.polled_listener);
        for index in 0..self.polled {
            if set.ready(first + index).is_some() {
                self.connections[index].turn(now_ns);
            }
        }
        self.dispatch(now_ns, stats);
        self.expire(now_ns, stats);
        if self.polled_listener && set.ready(self.poll_base).is_some() {
            self.accept(now_ns, stats);
        }
    }

    /// True when a client took a part of a scrape since `since_ns`, and there is more of it, unless it takes too long for others.
    pub fn is_taken(&self, since_ns: MonotonicNs) -> bool {
        self.connections.iter().any(|connection| {
            let rendered_ns = connection.sending_scrape_of_ns(self.index.get());
            let is_young = |at_ns| since_ns.saturating_sub(at_ns) < limits::REFRESH_AGE.as_nanos() as u64;
            connection.progress_ns >= since_ns && rendered_ns.is_some_and(is_young)
        })
    }

    /// True when a client waits for `page`.
    pub fn is_asked(&self, wanted: Page) -> bool {
        let asks =
            |connection: &Connection| matches!(connection.state, State::Asked { page, .. } if page == wanted);
        self.connections.iter().any(asks)
    }

    /// Answers all who wait for `wanted` with one body, which `render` makes; all get 503 when too many bodies are alive.
    pub fn answer(
        &mut self,
        wanted: Page,
        now_ns: MonotonicNs,
        stats: &mut Stats,
        render: impl FnOnce() -> Body,
    ) {
        let scrape = self
            .make_room(now_ns, stats)
            .then(|| Rc::new(Scrape { body: render(), packed: OnceCell::new(), rendered_ns: now_ns }));
        // Too many alive and all of them in use: one from just now is as good.
        let scrape = scrape.or_else(|| {
            let fresh = limits::REFRESH_AGE.as_nanos() as u64;
            let last = self.last.upgrade().filter(|_| wanted == Page::Metrics);
            last.filter(|last| now_ns.saturating_sub(last.rendered_ns) < fresh)
        });
        for connection in &mut self.connections {
            if let State::Asked { request, page } = connection.state
                && page == wanted
            {
                match &scrape {
                    Some(scrape) => {
                        connection.send(request, 200, TEXT_FORMAT, Rc::clone(scrape), now_ns, stats)
                    }
                    None => connection.short(request, 503, "too many scrapes at once\n", now_ns, stats),
                }
            }
        }
        if wanted == Page::Metrics {
            self.last = scrape.as_ref().map_or_else(Weak::new, Rc::downgrade);
        }
        self.sweep();
    }

    /// Makes room for one more body: at most `HTTP_BODIES` are alive. Clients that took no byte for a second make way, and
    /// those that have been reading for long: two slow readers must not keep everybody else from the metrics.
    fn make_room(&mut self, now_ns: MonotonicNs, stats: &mut Stats) -> bool {
        if self.bodies_alive() < limits::HTTP_BODIES {
            return true;
        }
        let older =
            |at_ns: MonotonicNs, time: Duration| now_ns.saturating_sub(at_ns) > time.as_nanos() as u64;
        for connection in &mut self.connections {
            let Some(rendered_ns) = connection.sending_scrape_of_ns(self.index.get()) else { continue };
            if older(connection.progress_ns, limits::REFRESH_AGE)
                || older(rendered_ns, limits::HTTP_BODY_TIME)
            {
                connection.close(Closed::Stalled, stats);
            }
        }
        self.sweep();
        self.bodies_alive() < limits::HTTP_BODIES
    }

    fn bodies_alive(&self) -> usize {
        let mut alive: Vec<*const Scrape> = self
            .connections
            .iter()
            .filter_map(|connection| match &connection.state {
                State::Sending(Sending { scrape: Some(scrape), .. }) => Some(Rc::as_ptr(scrape)),
                _ => None,
            })
            .filter(|&scrape| self.index.get().is_none_or(|index| scrape != Rc::as_ptr(index)))
            .collect();
        alive.sort_unstable();
        alive.dedup();
        alive.len()
    }

    /// Answers heads that are complete.
    fn dispatch(&mut self, now_ns: MonotonicNs, stats: &mut Stats) {
        for connection in &mut self.connections {
            if connection.broken || !matches!(connection.state, State::Idle | State::Head) {
                continue;
            }
            connection.skip_empty_lines();
            let Some(end) = memchr::memmem::find(&connection.head, b"\r\n\r\n") else {
                if connection.ended {
                    connection.broken = true;
                } else if connection.head.len() >= limits::HTTP_HEAD_BYTES {
                    connection.short(Request::BROKEN, 431, "request head too large\n", now_ns, stats);
                }
                continue;
            };
            let head: Vec<u8> = connection.head.drain(..end + 4).collect();
            match parse_head(&head, &self.telemetry_path, self.has_maps, &self.page_tag) {
                Ok((request, Target::Made(page))) => connection.state = State::Asked { request, page },
                Ok((request, Target::Health)) => connection.short(request, 200, "ok\n", now_ns, stats),
                Ok((request, Target::Index)) => {
                    let index = self.index.get_or_init(|| {
                        let document = page::document(&self.telemetry_path, self.has_maps);
                        let body = Body { pieces: vec![document.into()] };
                        Rc::new(Scrape { body, packed: OnceCell::new(), rendered_ns: now_ns })
                    });
                    let headers = page::headers(&self.page_tag);
                    let status = if request.has_page { 304 } else { 200 };
                    connection.send(request, status, &headers, Rc::clone(index), now_ns, stats);
                }
                Ok((request, Target::Nothing)) => {
                    connection.short(request, 404, "not found\n", now_ns, stats)
                }
                Err((status, text)) => connection.short(Request::BROKEN, status, text, now_ns, stats),
            }
        }
        self.sweep();
    }

    fn expire(&mut self, now_ns: MonotonicNs, stats: &mut Stats) {
        for connection in self.connections.iter_mut().filter(|connection| connection.deadline_ns <= now_ns) {
            let why = match connection.state {
                State::Idle => Closed::Idle,
                State::Head => Closed::HeadTimeout,
                State::Sending(_) => Closed::Stalled,
                State::Asked { .. } => continue,
            };
            connection.close(why, stats);
        }
        self.sweep();
    }

    fn accept(&mut self, now_ns: MonotonicNs, stats: &mut Stats) {
        for accepted in 0..limits::HTTP_ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now_ns, stats),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    let reason = Reason::of_errno(error.raw_os_error().unwrap_or(0));
                    // The kernel looks for a descriptor before it looks for a client: whether one waits, only poll knows.
                    if reason == Reason::ResourceLimit && accepted > 0 {
                        return;
                    }
                    stats.accept_errors += 1;
                    if reason != Reason::ResourceLimit || !self.accept_on_reserve(now_ns, stats) {
                        // The waiting connection would make poll return at once, for ever.
                        self.resume_ns = later(now_ns, limits::HTTP_ACCEPT_BACKOFF);
                    }
                    return;
                }
            }
        }
    }

    /// Out of descriptors: the one held back, or else that of the idlest connection, serves the next client. A client just
    /// accepted keeps its own for a moment: its request is on the way.
    fn accept_on_reserve(&mut self, now_ns: MonotonicNs, stats: &mut Stats) -> bool {
        let moment = limits::HTTP_ACCEPT_BACKOFF.as_nanos() as u64;
        let before_ns = now_ns.saturating_sub(moment);
        if self.reserve.is_none() && !self.evict(before_ns, stats) {
            return false;
        }
        // Of an evicted connection, sweep has put the descriptor into reserve.
        self.reserve = None;
        match self.listener.accept() {
            Ok((stream, _)) => {
                self.admit(stream, now_ns, stats);
                true
            }
            Err(_) => {
                self.reserve = File::open("/dev/null").ok();
                false
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, now_ns: MonotonicNs, stats: &mut Stats) {
        stats.accepted += 1;
        if self.connections.len() >= limits::HTTP_CONNECTIONS {
            self.evict(now_ns, stats);
        }
        // A response is one write; waiting to fill a packet would only delay its end.
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let mut connection = Connection {
            stream,
            state: State::Idle,
            head: Vec::new(),
            deadline_ns: later(now_ns, limits::HTTP_HEAD_TIME),
            progress_ns: now_ns,
            ended: false,
            broken: false,
        };
        // The request is usually there already.
        connection.turn(now_ns);
        self.connections.push(connection);
        self.dispatch(now_ns, stats);
    }

    /// Closes the connection that is worth least, of those without progress since `before_ns`: waiting ones before sending
    /// ones, then the one without progress for longest.
    fn evict(&mut self, before_ns: MonotonicNs, stats: &mut Stats) -> bool {
        let worth = |connection: &Connection| match connection.state {
            State::Idle => 0,
            State::Head => 1,
            State::Sending(_) => 2,
            State::Asked { .. } => 3,
        };
        let victim = self
            .connections
            .iter_mut()
            .filter(|connection| connection.progress_ns <= before_ns)
            .min_by_key(|connection| (worth(connection), connection.progress_ns));
        let Some(victim) = victim else { return false };
        victim.close(Closed::Evicted, stats);
        self.sweep();
        true
    }

    /// Drops what is broken, and takes a descriptor into reserve again if there is none.
    fn sweep(&mut self) {
        let before = self.connections.len();
        self.connections.retain(|connection| !connection.broken);
        if self.reserve.is_none() && self.connections.len() < before {
            self.reserve = File::open("/dev/null").ok();
        }
    }
}

impl Connection {
    fn interest(&self) -> Interest {
        if matches!(self.state, State::Sending(_)) { Interest::Write } else { Interest::Read }
    }

    /// When the scrape that is being sent was rendered; `None` when something else is going on.
    fn sending_scrape_of_ns(&self, index: Option<&Rc<Scrape>>) -> Option<MonotonicNs> {
        match &self.state {
            State::Sending(Sending { scrape: Some(scrape), .. })
                if index.is_none_or(|index| !Rc::ptr_eq(scrape, index)) =>
            {
                Some(scrape.rendered_ns)
            }
            _ => None,
        }
    }

    fn close(&mut self, why: Closed, stats: &mut Stats) {
        if !self.broken {
            self.broken = true;
            stats.closed[why as usize] += 1;
        }
    }

    fn turn(&mut self, now_ns: MonotonicNs) {
        match self.state {
            State::Sending(_) => self.write(now_ns),
            State::Idle | State::Head => self.read(now_ns),
            // Nothing is read while an answer is due; a client that goes away is noticed by writing.
            State::Asked { .. } => {}
        }
    }

    fn read(&mut self, now_ns: MonotonicNs) {
        let mut buffer = [0u8; limits::HTTP_HEAD_BYTES];
        let room = limits::HTTP_HEAD_BYTES.saturating_sub(self.head.len());
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                self.head.extend_from_slice(&buffer[..length]);
                self.progress_ns = now_ns;
                if matches!(self.state, State::Idle) {
                    self.state = State::Head;
                    self.deadline_ns = later(now_ns, limits::HTTP_HEAD_TIME);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.broken = true,
        }
    }

    /// Drops empty lines in front of a request (RFC 9112, section 2.2).
    fn skip_empty_lines(&mut self) {
        let lines = self.head.chunks_exact(2).take_while(|two| *two == b"\r\n");
        let empty = 2 * lines.count();
        self.head.drain(..empty);
    }

    /// Sends a short text.
    fn short(&mut self, request: Request, status: u16, text: &str, now_ns: MonotonicNs, stats: &mut Stats) {
        let kind = [("Content-Type", "text/plain; charset=utf-8")];
        let mut head = response_head(status, &kind, text.len(), false, request);
        if !request.head_only {
            head.extend_from_slice(text.as_bytes());
        }
        self.start(head, None, false, request, status, now_ns, stats);
    }

    /// Sends a body that others may be sent too; of status 304, only the head.
    fn send(
        &mut self,
        request: Request,
        status: u16,
        headers: &Headers,
        scrape: Rc<Scrape>,
        now_ns: MonotonicNs,
        stats: &mut Stats,
    ) {
        let packed = request.gzip
            && scrape.packed.get_or_init(|| zlib::gzip(&scrape.body.pieces).map(Piece::from)).is_some();
        let length = scrape.pieces(packed).iter().map(|piece| piece.len()).sum();
        let head = response_head(status, headers, length, packed, request);
        let scrape = (!request.head_only && status != 304).then_some(scrape);
        self.start(head, scrape, packed, request, status, now_ns, stats);
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a response meet here and nowhere else")]
    fn start(
        &mut self,
        head: Vec<u8>,
        scrape: Option<Rc<Scrape>>,
        packed: bool,
        request: Request,
        status: u16,
        now_ns: MonotonicNs,
        stats: &mut Stats,
    ) {
        match stats.responses.iter_mut().find(|(known, _)| *known == status) {
            Some((_, count)) => *count += 1,
            None => stats.responses.push((status, 1)),
        }
        let give_up_ns = later(now_ns, limits::HTTP_RESPONSE_TIME);
        let keep_alive = request.keep_alive;
        self.state =
            State::Sending(Sending { head, scrape, packed, part: 0, offset: 0, keep_alive, give_up_ns });
        self.progress_ns = now_ns;
        self.deadline_ns = later(now_ns, limits::HTTP_STALL_TIME);
        self.write(now_ns);
    }

    fn write(&mut self, now_ns: MonotonicNs) {
        let State::Sending(sending) = &mut self.state else {
            return;
        };
        loop {
            let written = match sending.write_some(&mut self.stream) {
                Ok(None) => break,
                Ok(Some(written)) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            };
            if written == 0 {
                self.broken = true;
                return;
            }
            self.progress_ns = now_ns;
            self.deadline_ns = later(now_ns, limits::HTTP_STALL_TIME).min(sending.give_up_ns);
        }
        self.broken = !sending.keep_alive;
        self.state = if self.head.is_empty() { State::Idle } else { State::Head };
        let patience = if self.head.is_empty() { limits::HTTP_IDLE_TIME } else { limits::HTTP_HEAD_TIME };
        self.deadline_ns = later(now_ns, patience);
    }
}

impl Sending {
    /// Writes as much as the socket takes at once; `None` when all is sent.
    fn write_some(&mut self, stream: &mut TcpStream) -> io::Result<Option<usize>> {
        const SLICES: usize = 32;
        let pieces = self.scrape.as_ref().map_or(&[][..], |scrape| scrape.pieces(self.packed));
        let parts = std::iter::once(&self.head[..]).chain(pieces.iter().map(|piece| &**piece));
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (index, part) in parts.skip(self.part).take(SLICES).enumerate() {
            slices[index] = IoSlice::new(if index == 0 { &part[self.offset..] } else { part });
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        let written = stream.write_vectored(&slices[..count])?;
        let mut left = written;
        for slice in &slices[..count] {
            if left < slice.len() {
                // The first slice began at the old offset; behind it every part begins at its start.
                self.offset += left;
                break;
            }
            left -= slice.len();
            self.part += 1;
            self.offset = 0;
        }
        Ok(Some(written))
    }
}
