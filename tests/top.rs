//! `nodeprobe top` against this kernel: its numbers on paper, and the terminal it gives back. Needs root and a cgroup mount.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::cgroup::{Cgroup, turn};
use support::puppet::Puppet;
use support::tcp::{ACTIVE, CLOSED_PORT, OPEN_PORT, SUCCESSES, becomes};
use support::{ANSWER, Agent, BINARY, TempDir, run_command, until};

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next block of text, without its blank line.
fn block(from: &mut impl BufRead) -> Vec<String> {
    let lines = from.lines().map(|line| line.expect("UTF-8"));
    lines.take_while(|line| !line.is_empty()).collect()
}

/// The cells behind the name of the line whose name is `name`.
#[track_caller]
fn cells(block: &[String], name: &str) -> Vec<String> {
    let words = |line: &String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let found = block.iter().find(|line| line.trim_start().starts_with(&format!("{name} ")));
    let found = found.unwrap_or_else(|| panic!("no {name} in {block:#?}"));
    words(found)[name.split(' ').count()..].to_vec()
}

#[test]
fn what_containers_do_stands_on_paper() {
    let _turn = turn();
    // Neither is in the other's way.
    let agent = Agent::start(&[]);
    let cgroup = Cgroup::docker(None);
    let mut server = Puppet::start(None, None);
    server.run(&format!(
        "def answer(client):
    exactly(client, 2_000); client.sendall(bytes(4_000)); to_the_end(client)
done = serve(listen('127.0.0.1', {OPEN_PORT}), answer)"
    ));
    let mut client = Puppet::start(Some(&cgroup), None);
    let mut command = Command::new(BINARY);
    command.args(["top", "-n", "2", "--interval=4s"]).env_clear();
    let mut top = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut out = BufReader::new(top.0.stdout.take().unwrap());
    let first = block(&mut out);
    // Twenty connects of which three stay, and eight refused ones.
    client.run(&format!(
        "made = [connect('127.0.0.1', {OPEN_PORT}) for n in range(20)]
for each in made:
    each.sendall(bytes(2_000)); exactly(each, 4_000)
for each in made[3:]: each.close()
for n in range(8):
    try: connect('127.0.0.1', {CLOSED_PORT}); assert False
    except ConnectionRefusedError: pass"
    ));
    let second = block(&mut out);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "two screens and no more");
    assert!(top.0.wait().unwrap().success());
    println!("{}\n\n{}", first.join("\n"), second.join("\n"));

    let container = cgroup.container_id();
    assert!(first.iter().all(|line| !line.contains(&container)), "{first:#?}");
    let (_, over) = second[0].split_once(" UTC  over ").expect("an interval");
    let (seconds, _) = over.split_once(" s  by activity").expect("seconds");
    let seconds: f64 = seconds.parse().expect("a number");
    assert!((3.9..8.0).contains(&seconds), "{second:#?}");
    // As rates are rounded, and on a busy machine four seconds are more.
    let is_rate = |cell: &str, count: f64| {
        let (digits, unit) = cell.strip_suffix('k').map_or((cell, 1.0), |digits| (digits, 1e3));
        let rate = digits.parse::<f64>().expect("a number") * unit;
        (rate - count / seconds).abs() <= 0.06 * count / seconds
    };
    assert!(second.iter().flat_map(|line| line.chars()).all(|c| !c.is_control()));
    let open = cells(&second, &format!("127.0.0.1:{OPEN_PORT}"));
    // A second each: connects, failures; then active, and no round trip on loopback.
    assert!(is_rate(&open[0], 20.0), "{open:?} over {seconds} s");
    assert_eq!(open[1..4], ["0", "3", "-"], "{open:?}");
    assert!(open[4].ends_with("us") || open[4].ends_with("ms"), "{open:?}");
    // Bytes sent and received, segments sent again.
    assert!(is_rate(&open[5], 40e3) && is_rate(&open[6], 80e3), "{open:?} over {seconds} s");
    assert_eq!(open[7..], ["0"], "{open:?}");
    let closed = cells(&second, &format!("127.0.0.1:{CLOSED_PORT}"));
    assert!(is_rate(&closed[1], 8.0), "{closed:?} over {seconds} s");
    assert_eq!((&*closed[0], &closed[2..]), ("0", &["0", "-", "-", "0", "0", "0"].map(str::to_owned)[..]));
    let sum = cells(&second, &container);
    assert_eq!(sum[..3], [&*open[0], &closed[1], "3"], "{sum:?}");
    assert_eq!(sum[4..], open[4..], "{sum:?}");
    becomes(&agent, SUCCESSES, &[("container_id", &*container)], 20.0);
    becomes(&agent, ACTIVE, &[("container_id", &*container)], 3.0);
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let _turn = turn();
    let mut command = Command::new(BINARY);
    command.args(["top", "--interval=1s"]).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
    let mut top = Running(command.spawn().unwrap());
    drop(top.0.stdout.take());
    let status = until("it ends", ANSWER, || top.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn a_reader_that_takes_nothing_keeps_nobody_waiting() {
    let _turn = turn();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let set_flags = |flags: i32| {
        // SAFETY: no pointers; a valid descriptor.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set_flags(libc::O_NONBLOCK);
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    set_flags(0);
    writer.flush().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["top", "--interval=1s"]).env_clear().stdin(Stdio::null()).stdout(writer);
    let mut top = Running(command.spawn().unwrap());
    drop(command);
    let began = Instant::now();
    until("it has something to say", ANSWER, || (began.elapsed() > Duration::from_secs(3)).then_some(()));
    // SAFETY: kill takes no pointers; the child is not reaped yet, so the pid is still its own.
    assert_eq!(unsafe { libc::kill(top.0.id() as libc::pid_t, libc::SIGTERM) }, 0);
    let status = until("it ends", ANSWER, || top.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(said.trim_start_matches('x').is_empty(), "{said}");
}

/// The settings of a terminal that an end must restore.
type Settings = (u32, u32, u32, u32, [u8; libc::NCCS]);

/// A pseudo terminal with `top` in it.
struct Screen {
    master: File,
    terminal: File,
    before: Settings,
    top: Running,
    seen: Vec<u8>,
}

impl Screen {
    #[track_caller]
    fn start(args: &[&str]) -> Screen {
        // SAFETY: the first call takes no pointers and its descriptor is new and ours.
        let master = unsafe {
            let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK);
            assert!(fd >= 0 && libc::unlockpt(fd) == 0, "a pseudo terminal");
            File::from_raw_fd(fd)
        };
        let mut number = 0;
        // SAFETY: TIOCGPTN fills the number it is given a pointer to.
        assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) }, 0);
        let path = format!("/dev/pts/{number}");
        let terminal =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
        resize(&master, 100, 30);
        let before = settings(&terminal);
        let mut command = Command::new(BINARY);
        command.arg("top").args(args).env_clear();
        let ours = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(ours()).stdout(ours()).stderr(ours());
        // SAFETY: both calls are async-signal-safe; the new session gets stdin as its terminal.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let top = Running(command.spawn().unwrap());
        Screen { master, terminal, before, top, seen: Vec::new() }
    }

    /// Takes what was drawn.
    fn look(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.master.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.seen.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until `text` is drawn, and forgets all that was.
    #[track_caller]
    fn shows(&mut self, text: &str) -> String {
        until(&format!("{text:?} is drawn"), ANSWER, || {
            self.look();
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            seen.contains(text).then_some(seen)
        });
        String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned()
    }

    fn strike(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child is not reaped yet, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.top.0.id() as libc::pid_t, signal) }, 0);
    }

    fn is_raw(&self) -> bool {
        settings(&self.terminal).3 & (libc::ICANON | libc::ECHO) == 0
    }

    /// Waits for its end and wants the terminal as it was.
    #[track_caller]
    fn ends_restored(mut self, what: &str) -> String {
        let status = until(&format!("the end after {what}"), ANSWER, || self.top.0.try_wait().unwrap());
        assert!(status.success(), "{what}: {status}");
        self.look();
        let seen = String::from_utf8_lossy(&self.seen).into_owned();
        assert!(seen.contains("\x1b[0m\x1b[?25h\x1b[?1049l"), "{what}: {seen:?}");
        assert!(settings(&self.terminal) == self.before, "{what}: the settings are those of before");
        seen
    }
}

fn resize(master: &File, columns: u16, lines: u16) {
    let size = libc::winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: a valid pointer to a whole size, which the call only reads.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
}

fn settings(terminal: &File) -> Settings {
    let fd: RawFd = terminal.as_raw_fd();
    let mut settings = MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: the call fills the settings it is given a pointer to.
    let settings = unsafe {
        assert_eq!(libc::tcgetattr(fd, settings.as_mut_ptr()), 0);
        settings.assume_init()
    };
    (settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag, settings.c_cc)
}

#[test]
fn every_end_gives_the_terminal_back() {
    let _turn = turn();
    let mut screen = Screen::start(&[]);
    let drawn = screen.shows("counting ...");
    assert!(drawn.starts_with("\x1b[?1049h\x1b[?25l\x1b[H"), "{drawn:?}");
    assert!(drawn.contains("conn/s") && screen.is_raw());
    resize(&screen.master, 60, 10);
    screen.shows("ctime");
    screen.strike("s");
    screen.shows("by conn");
    screen.shows("over 2.");
    screen.strike("q");
    screen.ends_restored("q");

    for (what, signal) in [("SIGTERM", libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGHUP", libc::SIGHUP)] {
        let mut screen = Screen::start(&[]);
        screen.shows("counting ...");
        screen.signal(signal);
        screen.ends_restored(what);
    }
    for (what, key) in [("Ctrl-C", "\x03"), ("Ctrl-\\", "\x1c")] {
        let mut screen = Screen::start(&[]);
        screen.shows("counting ...");
        screen.strike(key);
        screen.ends_restored(what);
    }
    // The last of a number of screens stays.
    let screen = Screen::start(&["-n1", "--interval=1s"]);
    let seen = screen.ends_restored("-n1");
    let (_, behind) = seen.split_once("\x1b[?1049l").unwrap();
    assert!(behind.contains(" UTC  over 1.") && !behind.contains('\x1b'), "{behind:?}");
}

#[test]
fn a_stopped_one_leaves_the_terminal_alone() {
    let _turn = turn();
    let mut screen = Screen::start(&[]);
    screen.shows("counting ...");
    screen.strike("\x1a");
    screen.shows("\x1b[?1049l");
    let stat = format!("/proc/{}/stat", screen.top.0.id());
    until("it is stopped", ANSWER, || fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    assert!(settings(&screen.terminal) == screen.before);
    screen.signal(libc::SIGCONT);
    screen.shows("UTC");
    assert!(screen.is_raw());
    screen.signal(libc::SIGTERM);
    screen.ends_restored("SIGTERM");
}

#[test]
fn a_terminal_that_goes_away_or_takes_nothing_keeps_nobody() {
    let _turn = turn();
    let mut screen = Screen::start(&[]);
    screen.shows("counting ...");
    let Screen { master, terminal, mut top, .. } = screen;
    drop((master, terminal));
    until("the end after the terminal's", ANSWER, || top.0.try_wait().unwrap());

    // Ctrl-S does not stop it.
    let mut screen = Screen::start(&["--interval=1s"]);
    screen.shows("counting ...");
    screen.strike("\x13");
    screen.shows("over 1.");
    screen.strike("q");
    screen.ends_restored("Ctrl-S and q");
}

/// A copy that everybody may run.
fn copy(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("nodeprobe");
    fs::copy(BINARY, &path).unwrap();
    for path in [directory.path(), &path] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    path
}

#[track_caller]
fn refused(binary: &Path, uid: u32, args: &[&str]) -> String {
    let mut command = Command::new(binary);
    command.arg("top").args(args).env_clear().uid(uid).gid(uid);
    let output = run_command(command, ANSWER);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("nodeprobe: error: top: "), "{said}");
    said
}

#[test]
fn where_it_cannot_work_a_line_says_why() {
    let directory = TempDir::new("top");
    let binary = copy(&directory);
    let said = refused(&binary, 65534, &[]);
    println!("{said}");
    assert!(said.contains("not permitted -> grant CAP_BPF") && said.len() < 130, "{said}");
    let fixture = concat!("--root=", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/docker-v2");
    let said = refused(&binary, 0, &[fixture]);
    assert!(said.contains("not a running host"), "{said}");
}
