//! The reader of journal files against systemd's own: what journald and systemd-journal-remote write, journalctl and the reader
//! have to read alike, and a damaged file must cost nothing in front of the damage.

mod support;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nodeprobe::logs::journal::cache::{Cache, ReadAt};
use nodeprobe::logs::journal::directory::Journals;
use nodeprobe::logs::journal::export::export;
use nodeprobe::logs::journal::file::{Budget, JournalFile, Progress};
use nodeprobe::logs::journal::format::{FILE_COMPACT, FILE_KEYED_HASH, FILE_ZSTD};
use nodeprobe::logs::journal::record::{Field, Record, Wanted};
use support::cgroup::{Cgroup, turn};
use support::puppet::Puppet;
use support::{ANSWER, Agent, Dice, Metrics, TempDir, until};

/// Why a test waits at most this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Copies of each fixture that are damaged; there are six.
const DAMAGED: usize = 170;

/// The journals that come along, unpacked.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).expect("tests/journals") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "gz") {
            let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            all.push((name, output.stdout));
        }
    }
    all.sort();
    assert_eq!(all.len(), 6);
    all
}

/// What journalctl exports of a file; later ones than 252 add lines of their own.
#[track_caller]
fn journalctl(path: &Path) -> Vec<u8> {
    let output = Command::new("journalctl")
        .args(["--no-pager", "-o", "export", "--file"])
        .arg(path)
        .output()
        .expect("journalctl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"__SEQNUM")).flatten().copied().collect()
}

/// An entry as it is exported, and where in the file it ends.
type Exported = (Vec<u8>, u64);

/// All entries of a file, read in small pieces, with the counts of what is damaged.
#[track_caller]
fn read_all(source: impl ReadAt, length: u64) -> (Vec<Exported>, u64) {
    let mut cache = Cache::new();
    let Ok(mut file) = JournalFile::open(source, &mut cache) else { return (Vec::new(), 0) };
    let mut entries = Vec::new();
    // Each call looks at ten entries, and a file has no more than a slot of four bytes for each.
    let mut calls = length / 40 + 10;
    let began = Instant::now();
    loop {
        let mut budget = Budget { entries: 10, bytes: 1 << 20 };
        let progress = file.read(&mut cache, &mut budget, Wanted::All, &mut |record| {
            let mut text = Vec::new();
            export(record, &mut text);
            entries.push((text, record.ends().0.max(record.ends().1)));
        });
        match progress.expect("no error of reading") {
            Progress::More => {}
            Progress::End | Progress::Broken => break,
        }
        calls = calls.checked_sub(1).expect("it ends");
        assert!(began.elapsed() < Duration::from_secs(20), "it ends soon");
    }
    assert!(cache.size() < 4 << 20, "{} bytes", cache.size());
    let damage = file.damage();
    (entries, damage.entries + damage.fields + damage.cut)
}

/// Wants that the file holds what journalctl says; gives its entries.
#[track_caller]
fn is_as_journalctl_says(path: &Path) -> Vec<Exported> {
    let file = fs::File::open(path).expect("the journal");
    let length = file.metadata().expect("its size").len();
    let (entries, damage) = read_all(file, length);
    let ours: Vec<u8> = entries.iter().flat_map(|(text, _)| text).copied().collect();
    let theirs = journalctl(path);
    if ours != theirs {
        let at = ours.iter().zip(&theirs).position(|(one, other)| one != other).unwrap_or_default();
        let part = |bytes: &[u8]| {
            String::from_utf8_lossy(
                &bytes[at.saturating_sub(100).min(bytes.len())..(at + 100).min(bytes.len())],
            )
            .into_owned()
        };
        let lengths = (ours.len(), theirs.len());
        panic!("{} {lengths:?} at {at}:\n{}\n--\n{}", path.display(), part(&ours), part(&theirs));
    }
    assert_eq!(damage, 0);
    entries
}

/// Entries in the export format, with fields of every kind.
fn written(count: usize) -> Vec<u8> {
    let mut dice = Dice::new(3);
    let mut out = Vec::new();
    let field = |name: &str, value: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(name.as_bytes());
        if value.iter().any(|byte| *byte < 32) || std::str::from_utf8(value).is_err() {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value);
        out.push(b'\n');
    };
    for at in 0..count {
        field(
            "__REALTIME_TIMESTAMP",
            format!("{}", 1_763_700_000_000_000u64 + at as u64).as_bytes(),
            &mut out,
        );
        field("__MONOTONIC_TIMESTAMP", format!("{}", 1000 + at).as_bytes(), &mut out);
        field("_BOOT_ID", &[b'b'; 32], &mut out);
        field("PRIORITY", format!("{}", at % 8).as_bytes(), &mut out);
        field("_PID", format!("{}", 100 + at % 50).as_bytes(), &mut out);
        field("_SYSTEMD_UNIT", format!("app-{}.service", at % 30).as_bytes(), &mut out);
        field("_SOURCE_REALTIME_TIMESTAMP", format!("{at}").as_bytes(), &mut out);
        match at % 100 {
            1 => field("MESSAGE", b"two\nlines", &mut out),
            2 => field("MESSAGE", &dice.bytes(5000), &mut out),
            3 => field("MESSAGE", "long ".repeat(200 + at).as_bytes(), &mut out),
            4 => field("MESSAGE", b"", &mut out),
            5 => (0..200).for_each(|number| field(&format!("F{number}"), b"x", &mut out)),
            6 => field("MESSAGE", format!("{at} ").repeat(100_000).as_bytes(), &mut out),
            _ => field("MESSAGE", format!("line {at} of the test").as_bytes(), &mut out),
        }
        out.push(b'\n');
    }
    out
}

/// Has systemd-journal-remote make `path` of `text`.
#[track_caller]
fn make(path: &Path, text: &[u8], compact: bool, keyed: bool, compressed: bool) {
    let mut child = Command::new("/lib/systemd/systemd-journal-remote")
        .arg(format!("--compress={}", if compressed { "yes" } else { "no" }))
        .arg("-o")
        .arg(path)
        .arg("-")
        .env("SYSTEMD_JOURNAL_COMPACT", if compact { "1" } else { "0" })
        .env("SYSTEMD_JOURNAL_KEYED_HASH", if keyed { "1" } else { "0" })
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-journal-remote");
    child.stdin.take().expect("a pipe").write_all(text).expect("written");
    assert!(child.wait().expect("its end").success());
}

#[test]
fn every_compression_is_read_as_journalctl_reads_it() {
    let directory = TempDir::new("journal");
    for (name, bytes) in fixtures() {
        let path = directory.write(&name, &bytes);
        assert_eq!(is_as_journalctl_says(&path).len(), 60, "{name}");
    }
}

#[test]
fn eight_kinds_of_files_are_read_as_journalctl_reads_them() {
    let directory = TempDir::new("journal");
    let text = written(2000);
    for kind in 0..8 {
        let (compact, keyed, compressed) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
        let path = directory.path().join(format!("{kind}.journal"));
        make(&path, &text, compact, keyed, compressed);
        let file =
            JournalFile::open(fs::File::open(&path).expect("made"), &mut Cache::new()).expect("a journal");
        let flags = file.header().incompatible;
        assert_eq!((flags & FILE_COMPACT != 0, flags & FILE_KEYED_HASH != 0), (compact, keyed), "{flags:#x}");
        assert!(compressed || flags & FILE_ZSTD == 0);
        assert_eq!(is_as_journalctl_says(&path).len(), 2000);
    }
}

#[test]
fn named_fields_are_those_of_the_whole_entry() {
    for (name, bytes) in fixtures() {
        let mut cache = Cache::new();
        let mut all = Vec::new();
        for wanted in [Wanted::All, Wanted::Named] {
            let mut file = JournalFile::open(bytes.clone(), &mut cache).expect("a journal");
            let mut budget = Budget { entries: 1000, bytes: 1 << 30 };
            let mut at = 0;
            let progress = file.read(&mut cache, &mut budget, wanted, &mut |record: &Record| {
                let names =
                    [Field::Message, Field::ContainerName, Field::SystemdUnit, Field::Pid, Field::Transport];
                let fields = names.map(|field| record.field(field).map(<[u8]>::to_vec));
                match wanted {
                    Wanted::All => all.push(fields),
                    Wanted::Named => assert_eq!(fields, all[at], "{name}"),
                }
                at += 1;
            });
            assert_eq!((progress.expect("read"), at), (Progress::End, 60));
        }
        assert_eq!(all.iter().filter(|fields| fields[1].is_some()).count(), 6);
    }
}

#[test]
fn a_position_is_gone_on_from() {
    let (_, bytes) = fixtures().swap_remove(0);
    let mut cache = Cache::new();
    for stop in [0, 1, 4, 5, 17, 59, 60] {
        let mut file = JournalFile::open(bytes.clone(), &mut cache).expect("a journal");
        let mut budget = Budget { entries: stop, bytes: 1 << 30 };
        let mut seen = Vec::new();
        file.read(&mut cache, &mut budget, Wanted::Named, &mut |record| seen.push(record.head().seqnum))
            .expect("read");
        let position = file.position();
        assert_eq!((position.entries, position.seqnum), (stop, stop));
        let mut file = JournalFile::open(bytes.clone(), &mut cache).expect("a journal");
        assert!(file.restore(&position));
        let mut budget = Budget { entries: 1000, bytes: 1 << 30 };
        file.read(&mut cache, &mut budget, Wanted::Named, &mut |record| seen.push(record.head().seqnum))
            .expect("read");
        assert_eq!(seen, (1..=60).collect::<Vec<u64>>());
    }
}

#[test]
fn damage_costs_nothing_in_front_of_it() {
    let mut dice = Dice::new(17);
    let (mut kept, mut lost) = (0, 0);
    for (name, mut bytes) in fixtures() {
        let (whole, _) = read_all(bytes.clone(), bytes.len() as u64);
        let used = whole.iter().map(|(_, end)| *end).max().expect("entries") as usize;
        // Behind it there are only zeros, which nothing refers to.
        bytes.truncate(used + 4096);
        for round in 0..DAMAGED {
            let mut spoilt = bytes.clone();
            // Damage of the header may cost everything, of the rest only what is behind.
            let from = if round % 10 == 0 { 0 } else { 272 };
            let at = from + dice.below(used - from);
            let first = match round % 5 {
                0 => {
                    spoilt.truncate(at);
                    at
                }
                1 => {
                    let until = (at + 1 + dice.below(4096)).min(spoilt.len());
                    spoilt[at..until].fill(0);
                    at
                }
                2 => {
                    let noise = dice.bytes(64);
                    let until = (at + 64).min(spoilt.len());
                    spoilt[at..until].copy_from_slice(&noise[..until - at]);
                    at
                }
                _ => {
                    let places: Vec<usize> =
                        (0..1 + dice.below(8)).map(|_| from + dice.below(used - from)).collect();
                    places.iter().for_each(|place| spoilt[*place] ^= 1 << dice.below(8));
                    places.into_iter().min().expect("a place")
                }
            };
            let (left, _) = read_all(spoilt, used as u64 + 4096);
            if first < 272 {
                continue;
            }
            let safe: Vec<&Exported> = whole.iter().take_while(|(_, end)| *end <= first as u64).collect();
            assert!(left.len() >= safe.len(), "{name}, round {round}: {} of {}", left.len(), safe.len());
            for (at, entry) in safe.iter().enumerate() {
                assert!(left[at] == **entry, "{name}, round {round}: entry {at}");
            }
            kept += left.len();
            lost += whole.len().saturating_sub(left.len());
        }
    }
    println!("{kept} entries left, {lost} lost");
    assert!(kept > lost, "{kept} entries left, {lost} lost");
}

/// A journald of our own; ends when dropped.
struct Journald {
    directory: TempDir,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Journald {
    /// Starts one with these lines in journald.conf; it writes below `run`.
    #[track_caller]
    fn start(conf: &str) -> Journald {
        let directory = TempDir::new("journald");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journald.sh");
        let mut child = Command::new(script)
            .arg(directory.path())
            .env("JCONF", conf)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tests/journald.sh");
        let stdin = child.stdin.take();
        let journald = Journald { directory, child, stdin };
        until("journald's socket", PATIENCE, || journald.socket());
        journald
    }

    fn socket(&self) -> Option<UnixDatagram> {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.connect(self.directory.path().join("systemd/journal/socket")).ok().map(|()| socket)
    }

    /// The root directory with its mounts.
    fn root(&self) -> PathBuf {
        let pid = fs::read_to_string(self.directory.path().join("pid")).expect("a pid");
        Path::new("/proc").join(pid.trim()).join("root")
    }

    fn run(&self) -> PathBuf {
        self.directory.path().join("run/journal")
    }

    fn var(&self) -> PathBuf {
        self.directory.path().join("log/journal")
    }

    fn journals(&self) -> Journals {
        Journals::new(self.var(), self.run())
    }

    fn signal(&self, signal: i32) {
        let pid = fs::read_to_string(self.directory.path().join("pid")).expect("a pid");
        let done = Command::new("kill").arg(format!("-{signal}")).arg(pid.trim()).status().expect("kill");
        assert!(done.success());
    }

    /// Has journald move to `var`, and waits until it has.
    #[track_caller]
    fn flush(&self) {
        fs::create_dir_all(self.var()).expect("var");
        self.signal(10);
        let flag = self.directory.path().join("systemd/journal/flushed");
        until("the flush", PATIENCE, || flag.exists().then_some(()));
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn send(socket: &UnixDatagram, number: usize, filler: &str) {
    let text = format!(
        "MESSAGE=line {number} {filler}\nNODEPROBE_TEST={number}\nPRIORITY=6\nSYSLOG_IDENTIFIER=test\n"
    );
    socket.send(text.as_bytes()).expect("sent");
}

/// Our numbers among new entries.
fn numbers(journals: &mut Journals, numbers: &mut Vec<usize>) {
    journals.look();
    loop {
        let mut budget = Budget { entries: 1000, bytes: 1 << 20 };
        let more = journals.read(&mut budget, Wanted::Named, &mut |record| {
            let message = record.field(Field::Message).unwrap_or_default();
            let text = String::from_utf8_lossy(message);
            if let Some(rest) = text.strip_prefix("line ") {
                assert_eq!(record.field(Field::SyslogIdentifier), Some(&b"test"[..]));
                numbers.push(rest.split(' ').next().expect("a number").parse().expect("a number"));
            }
        });
        if !more {
            return;
        }
    }
}

#[test]
fn rotation_and_vacuum_lose_nothing() {
    const LINES: usize = 12_000;
    let journald = Journald::start("SystemMaxFileSize=1M\nSystemMaxUse=12M\nSystemMaxFiles=8\nCompress=no");
    journald.flush();
    let mut journals = journald.journals();
    let mut seen = Vec::new();
    numbers(&mut journals, &mut seen);
    let socket = journald.socket().expect("a socket");
    let sender = thread::spawn(move || {
        for number in 0..LINES {
            send(&socket, number, &format!("{number:x} ").repeat(30));
            if number % 200 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let mut names = HashSet::new();
    let mut rotated = 0;
    until("all lines", PATIENCE, || {
        numbers(&mut journals, &mut seen);
        if seen.len() / 3000 > rotated {
            rotated = seen.len() / 3000;
            journald.signal(12);
        }
        for machine in fs::read_dir(journald.var()).expect("var") {
            let machine = machine.expect("a machine").path();
            names.extend(fs::read_dir(machine).expect("files").map(|file| file.expect("a file").file_name()));
        }
        (seen.len() >= LINES).then_some(())
    });
    sender.join().expect("the sender");
    numbers(&mut journals, &mut seen);
    assert_eq!(seen, (0..LINES).collect::<Vec<usize>>());
    let machine = fs::read_dir(journald.var()).expect("var").next().expect("one").expect("a machine").path();
    let left = fs::read_dir(machine).expect("files").count();
    let (preads, size) = journals.cost();
    let counts = journals.counts();
    println!("{} files seen, {left} left, {preads} preads, {size} bytes, {counts:?}", names.len());
    assert!(names.len() > 12 && left < names.len() - 3, "{left} of {names:?} left: some were to be vacuumed");
    assert!(names.iter().any(|name| name.to_string_lossy().contains('@')));
    assert_eq!(
        (counts.damaged_entries, counts.damaged_fields, counts.broken_files, counts.copies),
        (0, 0, 0, 0)
    );
    assert!(journals.open_files() < 4, "{} open", journals.open_files());
}

#[test]
fn what_journald_copies_from_run_comes_once() {
    let journald = Journald::start("Compress=no");
    let socket = journald.socket().expect("a socket");
    send(&socket, 0, "before the reader");
    until("a file", PATIENCE, || fs::read_dir(journald.run()).ok()?.next().map(drop));
    thread::sleep(Duration::from_millis(200));
    let mut journals = journald.journals();
    let mut seen = Vec::new();
    numbers(&mut journals, &mut seen);
    assert_eq!(seen, [], "it begins at the end");
    (1..=100).for_each(|number| send(&socket, number, ""));
    until("100 lines", PATIENCE, || {
        numbers(&mut journals, &mut seen);
        (seen.len() >= 100).then_some(())
    });
    journald.flush();
    (101..=200).for_each(|number| send(&socket, number, ""));
    until("200 lines", PATIENCE, || {
        numbers(&mut journals, &mut seen);
        (seen.len() >= 200).then_some(())
    });
    numbers(&mut journals, &mut seen);
    assert_eq!(seen, (1..=200).collect::<Vec<usize>>());
    assert!(journals.counts().copies >= 100, "{:?}", journals.counts());
}

#[test]
fn another_run_goes_on_where_the_last_one_was() {
    let journald = Journald::start("SystemMaxFileSize=1M\nCompress=no");
    journald.flush();
    let socket = journald.socket().expect("a socket");
    let mut seen = Vec::new();
    let mut journals = journald.journals();
    numbers(&mut journals, &mut seen);
    (0..500).for_each(|number| send(&socket, number, ""));
    until("500 lines", PATIENCE, || {
        numbers(&mut journals, &mut seen);
        (seen.len() >= 500).then_some(())
    });
    let positions: Vec<_> = journals.positions().collect();
    drop(journals);
    // Some to the same file, which is archived then, some to the next one.
    (500..1000).for_each(|number| send(&socket, number, ""));
    journald.signal(12);
    thread::sleep(Duration::from_millis(300));
    (1000..1500).for_each(|number| send(&socket, number, ""));
    let mut journals = journald.journals();
    journals.restore(positions);
    until("1,500 lines", PATIENCE, || {
        numbers(&mut journals, &mut seen);
        (seen.len() >= 1500).then_some(())
    });
    numbers(&mut journals, &mut seen);
    seen.sort_unstable();
    assert_eq!(seen, (0..1500).collect::<Vec<usize>>());
}

/// Journals of a machine below `var`: one that is written, and an archived one.
struct Machine {
    directory: TempDir,
}

impl Machine {
    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn new() -> Machine {
        let machine = Machine { directory: TempDir::new("machine") };
        fs::create_dir_all(machine.var().join(Machine::ID)).expect("a directory");
        machine.put(0, "system.journal");
        machine.grow("system.journal", 40);
        machine.put(1, "system@a.journal");
        machine
    }

    fn var(&self) -> PathBuf {
        self.directory.path().join("var")
    }

    fn run(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.var().join(Machine::ID).join(name)
    }

    fn journals(&self) -> Journals {
        Journals::new(self.var(), self.run())
    }

    /// Puts one of the fixtures there; each has 60 entries.
    #[track_caller]
    fn put(&self, fixture: usize, name: &str) {
        static FIXTURES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
        fs::write(self.file(name), &FIXTURES.get_or_init(fixtures)[fixture].1).expect("a journal");
    }

    /// Has a file say that it is being written, and has so many entries.
    #[track_caller]
    fn grow(&self, name: &str, entries: u64) {
        let file = fs::File::options().write(true).open(self.file(name)).expect("a journal");
        // Of the header: state, n_entries, tail_entry_seqnum.
        file.write_all_at(&[1], 16).expect("written");
        file.write_all_at(&[entries.to_le_bytes(), entries.to_le_bytes()].concat(), 152).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).expect("renamed");
    }

    fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// Spoils the directory in one of three ways for as long as it takes to look three times. Says what open files said.
    #[track_caller]
    fn look_in_vain(&self, way: usize, journals: &mut Journals) -> usize {
        let (var, machine, aside) =
            (self.var(), self.var().join(Machine::ID), self.directory.path().join("aside"));
        match way {
            // ELOOP for the directory of all machines.
            0 => {
                fs::rename(&var, &aside).expect("renamed");
                symlink(&var, &var).expect("a link");
            }
            // ENOTDIR for that of one.
            1 => {
                fs::rename(&machine, &aside).expect("renamed");
                fs::write(&machine, "").expect("a file");
            }
            // EACCES.
            _ => self.allow("", 0),
        }
        let mut count = 0;
        for _ in 0..3 {
            let errors = journals.counts().errors;
            count += as_nobody(|| said(journals));
            assert!(journals.counts().errors > errors, "way {way}: it cannot be listed");
        }
        match way {
            0 => {
                fs::remove_file(&var).expect("removed");
                fs::rename(&aside, &var).expect("renamed");
            }
            1 => {
                fs::remove_file(&machine).expect("removed");
                fs::rename(&aside, &machine).expect("renamed");
            }
            _ => self.allow("", 0o755),
        }
        count
    }
}

/// Does something on this thread without the rights of root over files.
fn as_nobody<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: it changes with what rights this thread opens files, and no memory.
    let become_one = |user| unsafe { libc::setfsuid(user) };
    let before = become_one(65534) as libc::uid_t;
    let done = work();
    become_one(before);
    done
}

/// Looks, and says how many entries are new.
#[track_caller]
fn said(journals: &mut Journals) -> usize {
    journals.look();
    let mut count = 0;
    let mut budget = Budget { entries: 10_000, bytes: 1 << 30 };
    assert!(!journals.read(&mut budget, Wanted::Named, &mut |_| count += 1));
    count
}

#[test]
fn what_cannot_be_listed_has_not_vanished() {
    for way in 0..3 {
        let machine = Machine::new();
        // One that can never be listed must not keep what others had.
        fs::write(machine.var().join("f".repeat(32)), "").expect("a file");
        let mut journals = machine.journals();
        assert_eq!(said(&mut journals), 0, "it begins at the end");
        machine.put(2, "system@b.journal");
        machine.grow("system.journal", 45);
        assert_eq!(said(&mut journals), 65);
        assert_eq!(machine.look_in_vain(way, &mut journals), 0);
        assert_eq!(said(&mut journals), 0, "way {way}: nothing comes twice");
        machine.grow("system.journal", 50);
        assert_eq!(said(&mut journals), 5, "way {way}: the live journal is still read");
        // It is renamed, and another one made, while nobody can look.
        machine.rename("system.journal", "system@c.journal");
        machine.grow("system@c.journal", 55);
        machine.put(3, "system.journal");
        machine.grow("system.journal", 10);
        assert_eq!(machine.look_in_vain(way, &mut journals), 5, "what is open is read on");
        assert_eq!(said(&mut journals), 10, "way {way}");
        assert_eq!((journals.open_files(), journals.positions().count()), (1, 4));
        for name in ["system@a.journal", "system@b.journal", "system@c.journal"] {
            fs::remove_file(machine.file(name)).expect("removed");
        }
        assert_eq!((0..3).map(|_| said(&mut journals)).sum::<usize>(), 0);
        assert_eq!(journals.positions().count(), 1, "way {way}: what is gone is let go");
    }
}

#[test]
fn positions_outlast_looks_in_vain() {
    for way in 0..3 {
        let machine = Machine::new();
        let mut journals = machine.journals();
        assert_eq!(said(&mut journals), 0);
        let positions: Vec<_> = journals.positions().collect();
        assert_eq!(positions.len(), 2);
        let mut journals = machine.journals();
        journals.restore(positions);
        assert_eq!(machine.look_in_vain(way, &mut journals), 0);
        machine.grow("system.journal", 50);
        machine.put(2, "system@b.journal");
        assert_eq!(said(&mut journals), 10 + 60, "way {way}");
        assert_eq!(journals.positions().count(), 3);
    }
}

#[test]
fn history_is_history_if_the_first_look_was_in_vain() {
    for way in 0..3 {
        let machine = Machine::new();
        let mut journals = machine.journals();
        assert_eq!(machine.look_in_vain(way, &mut journals), 0);
        assert_eq!(said(&mut journals), 0, "way {way}: it begins at the end");
        machine.grow("system.journal", 45);
        machine.put(2, "system@b.journal");
        assert_eq!(said(&mut journals), 65, "way {way}: what is younger is not");
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_not_another_one_later() {
    let machine = Machine::new();
    // There at the first look, and renamed before it can be opened.
    machine.allow("system@a.journal", 0);
    let mut journals = machine.journals();
    assert_eq!((as_nobody(|| said(&mut journals)), journals.counts().errors), (0, 1));
    machine.rename("system@a.journal", "system@b.journal");
    assert_eq!((as_nobody(|| said(&mut journals)), journals.counts().errors), (0, 2));
    machine.allow("system@b.journal", 0o644);
    assert_eq!((said(&mut journals), journals.positions().count()), (0, 2));
    // Younger than that look.
    machine.put(2, "system@c.journal");
    machine.allow("system@c.journal", 0);
    assert_eq!((as_nobody(|| said(&mut journals)), journals.counts().errors), (0, 3));
    machine.allow("system@c.journal", 0o644);
    assert_eq!(said(&mut journals), 60);
    // Known by another name.
    machine.grow("system.journal", 45);
    machine.rename("system.journal", "system@d.journal");
    machine.allow("system@d.journal", 0);
    assert_eq!(as_nobody(|| (said(&mut journals), said(&mut journals), said(&mut journals))), (5, 0, 0));
    machine.allow("system@d.journal", 0o644);
    assert_eq!((said(&mut journals), journals.positions().count()), (0, 3));
    // Known from an earlier run.
    let positions: Vec<_> = journals.positions().collect();
    let mut journals = machine.journals();
    journals.restore(positions);
    machine.allow("system@b.journal", 0);
    as_nobody(|| (0..3).for_each(|_| assert_eq!(said(&mut journals), 0)));
    machine.allow("system@b.journal", 0o644);
    assert_eq!((said(&mut journals), journals.positions().count()), (0, 3));
}

#[test]
fn copies_are_known_if_the_first_look_was_in_vain() {
    let machine = Machine::new();
    fs::rename(machine.var(), machine.run()).expect("renamed");
    let (aside, file) =
        (machine.directory.path().join("aside"), Path::new(Machine::ID).join("system.journal"));
    let mut journals = machine.journals();
    fs::rename(machine.run(), &aside).expect("renamed");
    symlink(machine.run(), machine.run()).expect("a link");
    assert_eq!(said(&mut journals), 0);
    fs::remove_file(machine.run()).expect("removed");
    fs::rename(&aside, machine.run()).expect("renamed");
    assert_eq!(said(&mut journals), 0);
    // What journald does when it moves: another file with the same entries.
    let mut copy = fs::read(machine.run().join(&file)).expect("a journal");
    copy[24..40].fill(7);
    fs::create_dir_all(machine.var().join(Machine::ID)).expect("a directory");
    fs::write(machine.var().join(&file), copy).expect("a journal");
    assert_eq!((said(&mut journals), journals.counts().copies), (0, 40));
}

/// The command that shows patterns reads journals too.
#[test]
fn patterns_of_a_journal_are_shown() {
    let directory = TempDir::new("patterns");
    for (name, data) in fixtures() {
        let path = directory.path().join(&name);
        fs::write(&path, data).expect("a journal");
        let entries = journalctl(&path)
            .split(|&byte| byte == b'\n')
            .filter(|line| line.starts_with(b"__CURSOR="))
            .count();
        let shown = |flag: &str| {
            let output = support::run(&["logs", "--format=journal", flag, path.to_str().unwrap()], PATIENCE);
            assert!(output.status.success(), "{name}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(shown("--ids").lines().count(), entries, "{name}");
        assert!(shown("--ids=false").contains(&format!("{entries} records")), "{name}");
    }
}

/// What a service says, and what is said of a container, counts for them; of others nothing.
#[test]
fn entries_count_for_who_wrote_them() {
    let _turn = turn();
    let journald = Journald::start("");
    let root = journald.root();
    let agent = Agent::start(&[&format!("--root={}", root.display()), "--interval=1s"]);
    let service = Cgroup::make(&format!("/system.slice/nodeprobe-test-{}.service", std::process::id()), None);
    let container = Cgroup::docker(None);
    let mut inside = Puppet::start(Some(&service), None);
    let _contained = Puppet::start(Some(&container), None);
    let mut outside = Puppet::start(None, None);
    let id = container.path.rsplit('/').next().unwrap();
    until("both are known", ANSWER, || {
        let metrics = agent.scrape();
        let is_known = |id: &str| metrics.value("container_processes", &[("container_id", id)]).is_some();
        (is_known(&service.path) && is_known(&container.container_id())).then_some(())
    });
    let say = |who: &mut Puppet, count: usize, fields: &str| {
        let socket = journald.directory.path().join("systemd/journal/socket");
        who.run(&format!(
            "import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect('{}')
for n in range({count}): s.send(f'MESSAGE=connection to host{{n}} failed\\n{fields}\\n'.encode())
out = 'said'",
            socket.display()
        ));
    };
    say(&mut inside, 500, "PRIORITY=3");
    say(&mut outside, 200, "PRIORITY=3");
    say(&mut outside, 300, &format!("PRIORITY=6\\nCONTAINER_ID_FULL={id}"));
    let said = |metrics: &Metrics, id: &str, level: &str| {
        metrics.sum(
            "container_log_messages_total",
            &[("container_id", id), ("source", "journald"), ("level", level)],
        )
    };
    let metrics = until("all is counted", ANSWER, || {
        let metrics = agent.scrape();
        let of_service = said(&metrics, &service.path, "error");
        let of_container = said(&metrics, &container.container_id(), "unknown");
        (of_service >= 500.0 && of_container >= 300.0).then_some(metrics)
    });
    assert_eq!(said(&metrics, &service.path, "error"), 500.0);
    assert_eq!(said(&metrics, &container.container_id(), "unknown"), 300.0);
    assert!(metrics.value("nodeprobe_log_journal_unattributed_total", &[]) >= Some(200.0));
}
