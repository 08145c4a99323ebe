//! `nodeprobe top`: TCP connections by container for people on the machine. It opens its own two collectors, so it works with
//! or without an agent beside it, and shows connections that begin while it runs.

mod figures;
mod rates;
mod screen;

use std::io;
use std::os::fd::AsRawFd;

use self::rates::{Figures, Interval, Line, Rates};
use self::screen::{Sort, View, lines, painted, paper};
use crate::args::Config;
use crate::collectors::tcp::{self, Row, RowKey, Tcp};
use crate::collectors::{Collector, Opened, containers};
use crate::doctor;
use crate::error::{Error, Reason, Result};
use crate::host::Host;
use crate::stderr::{self, Level};
use crate::sys::clock::{self, MonotonicNs};
use crate::sys::poll::{Interest, PollSet};
use crate::sys::process;
use crate::sys::signal::Signals;
use crate::sys::terminal::{self, Terminal};
use crate::world::World;

/// Shows screens until told to stop: on a terminal in its alternate screen, elsewhere as text, one block per interval.
///
/// # Errors
/// Why connections cannot be followed here, with the remedy; those of the terminal. A reader that went away is none.
pub fn run(config: Config) -> Result<()> {
    // What collectors say for the journal would stand in the middle of the screen.
    if config.log_level == Level::Info {
        stderr::configure(Level::Error, config.log_per_second, config.log_burst);
    }
    // Before the terminal is touched: none of these may end us without restoring it.
    let signals = Signals::of(&[
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGWINCH,
    ])?;
    let top = Top::open(config)?;
    let terminal = if terminal::is_stdout_a_terminal() { Some(Terminal::open()?) } else { None };
    let last = Show { top, output: Output { terminal, pending: Vec::new() }, poll: PollSet::default() }
        .run(&signals);
    match last {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// The collectors, and what they said last.
struct Top {
    world: World,
    finder: Box<dyn Collector>,
    tcp: Tcp,
    host: String,
    since_s: u64,
    rates: Rates<RowKey>,
    interval: Option<Interval>,
    sort: Sort,
    /// What did not work last time.
    problem: String,
}

impl Top {
    fn open(config: Config) -> Result<Top> {
        let mut world = World::new(config, process::raise_open_files());
        let tcp = tcp::open(&mut world).map_err(|error| with_remedy(error, &world.config))?;
        let finder = match (containers::SPEC.open)(&mut world)? {
            Opened::Ready(finder) => finder,
            Opened::Absent(reason, line) => return Err(Error::new(reason, line)),
            Opened::CannotStart(error) => return Err(error),
        };
        let (theirs, own) = (world.host.proc("1/ns/uts"), Host::own("ns/uts"));
        let host = process::inside_namespace(&theirs, &own, process::host_name);
        let mut top = Top {
            finder,
            tcp,
            host: host.unwrap_or_else(|_| process::host_name()),
            since_s: clock::wall_s(),
            rates: Rates::new(clock::monotonic_ns()),
            interval: None,
            sort: Sort::Activity,
            problem: String::new(),
            world,
        };
        top.refresh();
        Ok(top)
    }

    /// Lets a collector act and tells both what it pushed.
    fn attempt(&mut self, action: impl FnOnce(&mut Top) -> Result<()>) {
        if let Err(error) = action(self) {
            self.problem = error.to_string();
        }
        while let Some(event) = self.world.events.pop_front() {
            self.finder.event(&mut self.world, &event);
            self.tcp.event(&mut self.world, &event);
        }
    }

    fn refresh(&mut self) {
        self.problem.clear();
        self.world.now_ns = clock::monotonic_ns();
        self.attempt(|top| top.finder.refresh(&mut top.world));
        self.world.now_ns = clock::monotonic_ns();
        self.attempt(|top| top.tcp.refresh(&mut top.world));
    }

    /// Ends an interval.
    fn take(&mut self) {
        self.refresh();
        let mut rows = Vec::new();
        self.tcp.each_row(&self.world, |row| rows.push((row.key, row.container, line(&row))));
        self.interval = Some(self.rates.take(rows, self.world.now_ns));
    }

    fn lines(&self, size: Option<(usize, usize)>) -> Vec<String> {
        lines(&View {
            host: &self.host,
            wall_s: clock::wall_s(),
            since_s: self.since_s,
            problem: &self.problem,
            interval: self.interval.as_ref(),
            sort: self.sort,
            size,
        })
    }

    /// Lines down to the heads.
    fn heads(&self) -> usize {
        if self.problem.is_empty() { 2 } else { 3 }
    }
}

fn line(row: &Row<'_>) -> Line {
    Line {
        destination: row.destination.to_owned(),
        actual: row.actual.to_owned(),
        figures: Figures {
            connects: row.connects,
            connect_ns: row.connect_ns,
            failures: row.failures,
            sent: row.sent,
            received: row.received,
            retransmits: row.retransmits,
            active: row.active,
            rtt_us: row.rtt_us,
        },
    }
}

/// What `doctor` would say, unless it is not about this machine.
fn with_remedy(error: Error, config: &Config) -> Error {
    match error.reason() {
        Reason::NotLive => error,
        reason => Error::new(reason, doctor::tcp_line(&error, config)),
    }
}

/// Where screens go, written as there is room: nobody who does not read keeps signals waiting.
struct Output {
    terminal: Option<Terminal>,
    pending: Vec<u8>,
}

impl Output {
    fn show(&mut self, top: &Top) {
        match &self.terminal {
            // One that is half written has to be finished; this one is then seen the next time.
            Some(_) if !self.pending.is_empty() => {}
            Some(terminal) => self.pending = painted(&top.lines(Some(terminal.size())), top.heads()),
            None => self.pending.extend(paper(&top.lines(None))),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let output = self.terminal.as_ref().and_then(Terminal::output);
        match terminal::write_some(output, &self.pending) {
            Ok(written) => {
                self.pending.drain(..written);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The loop with all it needs.
struct Show {
    top: Top,
    output: Output,
    poll: PollSet,
}

/// What a turn of the loop leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Redraw,
    End,
}

impl Show {
    fn run(mut self, signals: &Signals) -> io::Result<()> {
        let interval_ns = self.top.world.config.screen_interval.as_nanos() as u64;
        let mut screens_left = self.top.world.config.screens;
        let mut due_ns = self.top.world.now_ns + interval_ns;
        if self.output.terminal.is_some() {
            self.output.show(&self.top);
        }
        loop {
            let is_over = screens_left == Some(0);
            if is_over && self.output.pending.is_empty() {
                return self.leave_behind(signals);
            }
            // Who has not read the last screen gets a longer interval next time.
            let is_waiting = is_over || !self.output.pending.is_empty();
            let then = self.turn(signals, if is_waiting { MonotonicNs::MAX } else { due_ns })?;
            if then == Then::End {
                return Ok(());
            }
            let is_due = clock::monotonic_ns() >= due_ns && self.output.pending.is_empty() && !is_over;
            if is_due {
                self.top.take();
                due_ns = self.top.world.now_ns + interval_ns;
                screens_left = screens_left.map(|left| left - 1);
            }
            if is_due || then == Then::Redraw && self.output.terminal.is_some() {
                self.output.show(&self.top);
            }
        }
    }

    /// The last of a number of screens stays readable where the alternate one goes away.
    fn leave_behind(mut self, signals: &Signals) -> io::Result<()> {
        let Some(terminal) = self.output.terminal.take() else {
            return Ok(());
        };
        let (width, _) = terminal.size();
        drop(terminal);
        self.output.pending = paper(&self.top.lines(Some((width, usize::MAX))));
        while !self.output.pending.is_empty() && self.turn(signals, MonotonicNs::MAX)? != Then::End {}
        Ok(())
    }

    /// Waits once and does what there is to do.
    fn turn(&mut self, signals: &Signals, due_ns: MonotonicNs) -> io::Result<Then> {
        let Show { top, output, poll } = self;
        poll.clear();
        poll.add(signals.as_raw_fd(), Interest::Read);
        let of_finder = poll.len();
        top.finder.fds(&mut |fd| poll.add(fd, Interest::Read));
        let of_tcp = poll.len();
        top.tcp.fds(&mut |fd| poll.add(fd, Interest::Read));
        let keys = poll.len();
        if let Some(fd) = output.terminal.as_ref().and_then(Terminal::keys_fd) {
            poll.add(fd, Interest::Read);
        }
        let out = poll.len();
        if !output.pending.is_empty() {
            poll.add(libc::STDOUT_FILENO, Interest::Write);
        }
        let deadline_ns = top.tcp.deadline_ns().map_or(due_ns, |deadline_ns| deadline_ns.min(due_ns));
        let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
        // Rounded up: waking early would only mean another turn.
        poll.wait(left_ns.div_ceil(1_000_000).min(3_600_000) as i32)?;
        top.world.now_ns = clock::monotonic_ns();

        for at in of_finder..keys {
            if let Some(fd) = poll.ready(at) {
                let is_finders = at < of_tcp;
                top.attempt(|top| match is_finders {
                    true => top.finder.ready(&mut top.world, fd),
                    false => top.tcp.ready(&mut top.world, fd),
                });
            }
        }
        // What it wants sooner than the next screen.
        if top.tcp.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= top.world.now_ns) {
            top.refresh();
        }
        if out < poll.len() && poll.ready(out).is_some() {
            output.write()?;
        }
        let mut then = Then::GoOn;
        if keys < out && poll.ready(keys).is_some() {
            then = struck(top, output);
        }
        while let Some(signal) = signals.next() {
            match signal {
                libc::SIGWINCH if then == Then::GoOn => then = Then::Redraw,
                libc::SIGWINCH => {}
                libc::SIGTSTP => {
                    match &mut output.terminal {
                        Some(terminal) => {
                            terminal.stop_process()?;
                            output.pending.clear();
                        }
                        None => terminal::stop_process(),
                    }
                    then = Then::Redraw;
                }
                _ => return Ok(Then::End),
            }
        }
        Ok(then)
    }
}

/// What the keys struck lead to.
fn struck(top: &mut Top, output: &Output) -> Then {
    let mut buffer = [0; 64];
    let keys = output.terminal.as_ref().map_or(&[][..], |terminal| terminal.keys(&mut buffer));
    if keys.is_empty() || keys.contains(&b'q') || keys.contains(&b'Q') {
        return Then::End;
    }
    let steps = keys.iter().filter(|&&key| key == b's').count();
    (0..steps).for_each(|_| top.sort = top.sort.next());
    if steps > 0 { Then::Redraw } else { Then::GoOn }
}
