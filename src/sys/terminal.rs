//! The terminal a person sits at: its size, its keys, and its state before we came.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use super::poll::{Interest, PollSet};

/// The alternate screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Back again.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// How long a terminal that takes no output is waited for at the end.
const LEAVE_PATIENCE_MS: i32 = 200;

/// The terminal on stdout, its alternate screen shown; as before when dropped.
#[derive(Debug)]
pub struct Terminal {
    /// Stdin's settings, if stdin is a terminal too.
    settings: Option<libc::termios>,
    output: Option<File>,
}

/// The terminal behind `fd`, if it is one, opened once more: so that writing to it never waits, which poll(2) does not promise of
/// terminals, and that nobody else who has it open notices.
pub fn without_waiting(fd: BorrowedFd<'_>) -> Option<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let open = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    fd.is_terminal().then(open)?.ok()
}

/// True when stdout is a terminal.
pub fn is_stdout_a_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writes some of `bytes` to `terminal`, or to stdout, and gives how many: after poll(2) said that there is room, without waiting.
///
/// # Errors
/// Those of write(2).
pub fn write_some(terminal: Option<&File>, bytes: &[u8]) -> io::Result<usize> {
    // Room in a pipe is room for this much at least (PIPE_BUF).
    let bytes = &bytes[..bytes.len().min(4096)];
    let fd = terminal.map_or(libc::STDOUT_FILENO, AsRawFd::as_raw_fd);
    // SAFETY: the pointer and the length are those of one slice.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Stops this process, as SIGTSTP does; returns when it goes on.
pub fn stop_process() {
    // SAFETY: raise takes no pointers; the process goes on with the next line when it is told to.
    unsafe { libc::raise(libc::SIGSTOP) };
}

impl Terminal {
    /// Takes the terminal on stdout: the alternate screen, no cursor, and keys as they are struck, without echo. Those that
    /// make signals still do.
    ///
    /// # Errors
    /// Those of tcsetattr(3) and write(2).
    pub fn open() -> io::Result<Terminal> {
        let mut terminal = Terminal { settings: None, output: without_waiting(io::stdout().as_fd()) };
        terminal.enter()?;
        Ok(terminal)
    }

    /// Where screens are written, see [`without_waiting`].
    pub fn output(&self) -> Option<&File> {
        self.output.as_ref()
    }

    fn enter(&mut self) -> io::Result<()> {
        let mut settings = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: a pointer to room for the settings; they are read only if the call filled them.
        self.settings = unsafe {
            (libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()) == 0).then(|| settings.assume_init())
        };
        if let Some(mut settings) = self.settings {
            settings.c_lflag &= !(libc::ICANON | libc::ECHO);
            // Ctrl-S would stop our output, and with it us.
            settings.c_iflag &= !libc::IXON;
            settings.c_cc[libc::VMIN] = 0;
            settings.c_cc[libc::VTIME] = 0;
            set(&settings)?;
        }
        let mut stdout = io::stdout();
        stdout.write_all(ENTER)?;
        stdout.flush()
    }

    fn leave(&mut self) {
        if let Some(settings) = self.settings.take() {
            // Nobody can be told.
            let _ = set(&settings);
        }
        let mut poll = PollSet::default();
        poll.add(libc::STDOUT_FILENO, Interest::Write);
        if poll.wait(LEAVE_PATIENCE_MS).is_ok() && poll.ready(0).is_some() {
            let _ = write_some(self.output.as_ref(), LEAVE);
        }
    }

    /// Stops this process, as SIGTSTP does, with the terminal as it was before; returns when it goes on.
    ///
    /// # Errors
    /// As [`Terminal::open`].
    pub fn stop_process(&mut self) -> io::Result<()> {
        self.leave();
        stop_process();
        self.enter()
    }

    /// Columns and lines now; 80 and 24 where the terminal does not know.
    pub fn size(&self) -> (usize, usize) {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ fills the struct it is given a pointer to (tty_ioctl(4)).
        unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        let or = |number: u16, otherwise| if number == 0 { otherwise } else { usize::from(number) };
        (or(size.ws_col, 80), or(size.ws_row, 24))
    }

    /// Where keys come from, if they do.
    pub fn keys_fd(&self) -> Option<RawFd> {
        self.settings.is_some().then(|| io::stdin().as_raw_fd())
    }

    /// The keys struck, as bytes; none when the terminal is gone.
    pub fn keys<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        // SAFETY: the pointer and the length are those of one slice.
        let read = unsafe { libc::read(libc::STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(read).ok().and_then(|read| buffer.get(..read)).unwrap_or_default()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}

fn set(settings: &libc::termios) -> io::Result<()> {
    // SAFETY: a valid pointer to whole settings, which the call only reads.
    super::check(unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, settings) }).map(drop)
}
