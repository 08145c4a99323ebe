//! The follower of log files against files that are written, rotated, cut, removed and linked elsewhere at random, and against
//! a model that knows of each record whether it must come once, or may not come.

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nodeprobe::host::Host;
use nodeprobe::logs::tail::frame::{Framing, MAX_RECORD};
use nodeprobe::logs::tail::positions::Positions;
use nodeprobe::logs::tail::{Counters, Limits, Start, Tail};
use support::{Dice, TempDir};

const SECOND: u64 = 1_000_000_000;

/// Rotated files a numbered chain keeps.
const DEPTH: usize = 4;

/// How long a writer keeps a renamed file open: less than the follower waits.
const WRITER_LAGS: u64 = 3 * SECOND;

/// One record, as the model knows it.
struct Expected {
    /// All that was written of it, without the newline.
    text: String,
    /// Cut off or removed before it was read: it must not come any more.
    gone: bool,
    /// How often it came.
    came: u32,
    /// How often it may come beyond once, because positions were restored that are older.
    again: u32,
}

/// One file, whatever it is called at the moment.
struct Node {
    file: File,
    records: Vec<usize>,
    /// The last record has no newline yet.
    open: bool,
    /// A record of it came: the follower has it open.
    opened: bool,
}

type NodeRef = Rc<RefCell<Node>>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Numbered,
    Stamped,
    Linked,
}

struct Log {
    key: u64,
    kind: Kind,
    path: String,
    current: Option<NodeRef>,
    /// Numbered: youngest first. Stamped: oldest first, with their names.
    rotated: VecDeque<(PathBuf, NodeRef)>,
    /// Former nodes their writers still hold, and until when.
    held: Vec<(NodeRef, u64)>,
    /// Linked: all targets with their nodes.
    targets: Vec<(PathBuf, NodeRef)>,
    stamps: u32,
}

struct World {
    _directory: TempDir,
    root: PathBuf,
    dice: Dice,
    now_ns: u64,
    limits: Limits,
    tail: Option<Tail>,
    saved: Positions,
    /// How often each record had come at `saved`.
    came_at_save: Vec<u32>,
    records: Vec<Expected>,
    logs: Vec<Log>,
    totals: Counters,
    truncations: u64,
    /// No restarts and enough open files: removed files are read on, and all counts are known.
    exact: bool,
    /// The link was changed since the last look.
    linked: bool,
    /// And since positions were saved.
    linked_since_save: bool,
    /// Now and then there is no descriptor left: the process is the model's alone.
    starving: bool,
}

/// Few descriptors, or none, until it is dropped.
struct Denied(libc::rlimit);

impl Denied {
    fn beyond(number: usize) -> Denied {
        let mut usual = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid pointers.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut usual), 0);
            let few = libc::rlimit { rlim_cur: number as libc::rlim_t, ..usual };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few), 0);
        }
        Denied(usual)
    }
}

impl Drop for Denied {
    fn drop(&mut self) {
        // SAFETY: a valid pointer.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

fn node(path: &Path) -> NodeRef {
    let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    Rc::new(RefCell::new(Node { file, records: Vec::new(), open: false, opened: false }))
}

impl World {
    fn new(seed: u64, exact: bool, limits: Limits, starving: bool) -> World {
        let directory = TempDir::new("tail");
        let root = directory.path().to_owned();
        let mut world = World {
            root: root.clone(),
            _directory: directory,
            dice: Dice::new(seed),
            now_ns: 1,
            limits,
            tail: None,
            saved: Positions::default(),
            came_at_save: Vec::new(),
            records: Vec::new(),
            logs: Vec::new(),
            totals: Counters::default(),
            truncations: 0,
            exact,
            linked: false,
            linked_since_save: false,
            starving,
        };
        fs::create_dir_all(root.join("links")).unwrap();
        fs::create_dir_all(root.join("targets")).unwrap();
        let mut kinds = [Kind::Numbered, Kind::Stamped, Kind::Linked, Kind::Numbered, Kind::Stamped];
        if starving {
            // A link that leads elsewhere and back between two looks leaves no trace, and a look may fail.
            kinds[2] = Kind::Numbered;
        }
        for (key, kind) in kinds.into_iter().enumerate() {
            let path = match kind {
                Kind::Linked => "/links/x.log".to_owned(),
                _ => format!("/log{key}.log"),
            };
            let (rotated, held, targets) = (VecDeque::new(), Vec::new(), Vec::new());
            world.logs.push(Log {
                key: key as u64,
                kind,
                path,
                current: None,
                rotated,
                held,
                targets,
                stamps: 0,
            });
        }
        world.start();
        world
    }

    fn full(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn start(&mut self) {
        let mut tail = Tail::new(Host::new(&self.root, None), self.limits, self.saved.clone());
        for log in &self.logs {
            assert!(tail.follow(log.key, &log.path, Framing::Lines, Start::Oldest));
        }
        self.tail = Some(tail);
        // Where the link leads may be news to what was restored.
        self.linked = true;
    }

    fn turn(&mut self) {
        let denied = (self.starving && self.dice.below(3) == 0).then(|| self.dice.below(40));
        self.turn_with(denied);
    }

    fn turn_with(&mut self, denied: Option<usize>) {
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        let denied = denied.map(Denied::beyond);
        let records = &mut self.records;
        tail.turn(self.now_ns, &mut |key, record| {
            let text = std::str::from_utf8(record.data).unwrap();
            let mut words = text.split(':');
            let of: u64 = words.next().unwrap().parse().unwrap();
            assert_eq!(of, key, "{text:.80}");
            let id: usize = words.next().unwrap().parse().unwrap_or_else(|_| panic!("no number: {text:.80}"));
            let expected = &mut records[id];
            assert_eq!(expected.text, text, "record {id}");
            assert!(!expected.gone, "record {id} came though it was gone");
            expected.came += 1;
            assert!(expected.came <= 1 + expected.again, "record {id} came twice: {text:.80}");
        });
        drop(denied);
        let mut problems = tail.take_problems();
        problems.retain(|problem| !self.starving || !problem.text.contains("(os error 24)"));
        assert!(problems.is_empty(), "{problems:?}");
        self.tail = Some(tail);
        for log in &self.logs {
            if let Some(node) = &log.current {
                let mut node = node.borrow_mut();
                let opened = node.records.iter().any(|&id| self.records[id].came > 0);
                node.opened |= opened;
            }
        }
    }

    /// Looks at everything and reads all of it.
    fn drain(&mut self) {
        if self.tail.is_none() {
            self.start();
        }
        // Longer than it pauses after an error.
        self.now_ns += if self.starving { 61 * SECOND } else { SECOND };
        for _ in 0..100_000 {
            self.turn_with(None);
            if !self.tail.as_ref().unwrap().is_busy() {
                return;
            }
        }
        panic!("busy for ever");
    }

    /// Until files that were renamed are let go.
    fn settle(&mut self) {
        for _ in 0..9 {
            self.drain();
            self.release();
        }
    }

    /// Writers let go of what they hold for long enough.
    fn release(&mut self) {
        for log in &mut self.logs {
            log.held.retain(|(_, until)| *until > self.now_ns);
        }
    }

    fn text(&mut self, key: u64, id: usize) -> String {
        let length = match self.dice.below(40) {
            0 => 3000 + self.dice.below(9000),
            1..8 => 0,
            _ => self.dice.below(200),
        };
        let mut text = format!("{key}:{id}:");
        while text.len() < length {
            text.push_str(&format!("{id} "));
        }
        text
    }

    fn write(&mut self, key: u64, node: &NodeRef, whole: bool) {
        let mut node = node.borrow_mut();
        let mut bytes;
        if node.open {
            let id = *node.records.last().unwrap();
            let more = format!("more{}", self.dice.below(1000));
            self.records[id].text.push_str(&more);
            bytes = more;
        } else {
            let id = self.records.len();
            let text = self.text(key, id);
            self.records.push(Expected { text: text.clone(), gone: false, came: 0, again: 0 });
            self.came_at_save.push(0);
            node.records.push(id);
            bytes = text;
        }
        if whole {
            bytes.push('\n');
        }
        node.open = !whole;
        node.file.write_all(bytes.as_bytes()).unwrap();
    }

    /// What has not come of this file cannot come any more.
    fn gone(&mut self, node: &NodeRef) {
        for id in &node.borrow().records {
            let record = &mut self.records[*id];
            if record.came == 0 {
                record.gone = true;
            }
        }
    }

    fn ensure(&mut self, log: usize) -> NodeRef {
        if let Some(node) = &self.logs[log].current {
            return Rc::clone(node);
        }
        let path = self.logs[log].path.clone();
        let full = self.full(&path);
        let made = if self.logs[log].kind == Kind::Linked {
            self.link(log);
            return Rc::clone(self.logs[log].current.as_ref().unwrap());
        } else {
            node(&full)
        };
        self.logs[log].current = Some(Rc::clone(&made));
        made
    }

    /// Lets the link lead to a new target, or to one it led to before.
    fn link(&mut self, log: usize) {
        let count = self.logs[log].targets.len();
        let back = count > 0 && self.dice.below(3) == 0;
        let (target, made) = if back {
            let at = count - 1 - self.dice.below(count.min(3));
            self.logs[log].targets[at].clone()
        } else {
            let target = self.root.join(format!("targets/t{count}.log"));
            let made = node(&target);
            self.logs[log].targets.push((target.clone(), Rc::clone(&made)));
            (target, made)
        };
        let link = self.full(&self.logs[log].path.clone());
        let beside = link.with_extension("new");
        // Absolute on the observed host.
        symlink(Path::new("/").join(target.strip_prefix(&self.root).unwrap()), &beside).unwrap();
        fs::rename(&beside, &link).unwrap();
        let until = self.now_ns + WRITER_LAGS;
        let log = &mut self.logs[log];
        log.held.retain(|(held, _)| !Rc::ptr_eq(held, &made));
        if let Some(old) = log.current.replace(Rc::clone(&made))
            && !Rc::ptr_eq(&old, &made)
        {
            log.held.push((old, until));
        }
    }

    fn remove(&mut self, log: usize, path: &Path, node: &NodeRef) {
        let late = node.borrow().records.iter().any(|&id| self.records[id].came == 0);
        // Once the follower has it open it may go; otherwise it must have been read.
        if late && !(self.exact && node.borrow().opened) {
            if node.borrow().open && !self.exact {
                self.write(self.logs[log].key, node, true);
            }
            self.settle();
        }
        fs::remove_file(path).unwrap();
        if !(self.exact && node.borrow().opened) {
            self.logs[log].held.retain(|(held, _)| !Rc::ptr_eq(held, node));
        }
    }

    fn hold(&mut self, log: usize, node: NodeRef) {
        let until = self.now_ns + WRITER_LAGS;
        self.logs[log].held.push((node, until));
    }

    fn rotate(&mut self, log: usize) {
        let full = self.full(&self.logs[log].path.clone());
        let numbered = |number: usize| PathBuf::from(format!("{}.{number}", full.display()));
        match self.logs[log].kind {
            Kind::Numbered => {
                if self.logs[log].rotated.len() == DEPTH
                    && let Some((_, oldest)) = self.logs[log].rotated.back().cloned()
                {
                    self.remove(log, &numbered(DEPTH), &oldest);
                    self.logs[log].rotated.pop_back();
                }
                for number in (1..=self.logs[log].rotated.len()).rev() {
                    fs::rename(numbered(number), numbered(number + 1)).unwrap();
                }
                fs::rename(&full, numbered(1)).unwrap();
                let node = self.logs[log].current.take().unwrap();
                self.logs[log].rotated.push_front((PathBuf::new(), Rc::clone(&node)));
                self.hold(log, node);
            }
            Kind::Stamped => {
                if self.logs[log].rotated.len() == 6
                    && let Some((path, oldest)) = self.logs[log].rotated.pop_front()
                {
                    self.remove(log, &path, &oldest);
                }
                self.logs[log].stamps += 1;
                let stamp = self.logs[log].stamps;
                let path = PathBuf::from(format!("{}.20260101-{stamp:06}", full.display()));
                fs::rename(&full, &path).unwrap();
                let node = self.logs[log].current.take().unwrap();
                self.logs[log].rotated.push_back((path, Rc::clone(&node)));
                self.hold(log, node);
            }
            Kind::Linked => {
                // A link that leads elsewhere and back between two looks leaves no trace.
                if self.linked {
                    self.drain();
                }
                let node = self.ensure(log);
                if node.borrow().open {
                    self.write(self.logs[log].key, &node, true);
                }
                self.link(log);
                self.linked = true;
                self.linked_since_save = true;
            }
        }
    }

    /// The current file is cut; what was not read of it is gone.
    fn cut(&mut self, log: usize) {
        // A file the link led to before is not open until somebody looks.
        if self.linked && self.logs[log].kind == Kind::Linked {
            self.drain();
        }
        let node = self.ensure(log);
        self.gone(&node);
        let mut node = node.borrow_mut();
        self.truncations += u64::from(node.records.iter().any(|&id| self.records[id].came > 0));
        node.file.set_len(0).unwrap();
        node.records.clear();
        node.open = false;
    }

    fn stop(&mut self) {
        if let Some(tail) = self.tail.take() {
            let counters = tail.counters();
            self.totals.truncations += counters.truncations;
            self.totals.records += counters.records;
            self.totals.rotations += counters.rotations;
            self.totals.lost_files += counters.lost_files;
        }
    }

    fn save(&mut self) {
        if let Some(tail) = &self.tail {
            self.linked_since_save = false;
            self.saved = Positions::parse(tail.positions().text().as_bytes());
            self.came_at_save = self.records.iter().map(|record| record.came).collect();
        }
    }

    /// It ends without saving; what came since the last time may come again.
    fn kill(&mut self) {
        // A target the link led to since then, and no longer does, is known to nobody.
        if self.linked_since_save {
            self.save();
        }
        self.stop();
        for (record, saved) in self.records.iter_mut().zip(&self.came_at_save) {
            if record.came > *saved {
                record.again = record.came;
            }
        }
    }

    fn act(&mut self) {
        let log = self.dice.below(self.logs.len());
        let key = self.logs[log].key;
        match self.dice.below(100) {
            0..50 => {
                let node = self.ensure(log);
                self.write(key, &node, true);
            }
            50..58 => {
                let node = self.ensure(log);
                self.write(key, &node, false);
            }
            58..70 => {
                self.now_ns += self.dice.below(300) as u64 * 1_000_000;
                self.turn();
                self.release();
            }
            70..74 => {
                self.now_ns += self.dice.below(1500) as u64 * 1_000_000;
                self.release();
            }
            74..76 => {
                self.drain();
                self.linked = false;
                self.release();
            }
            76..84 => {
                self.ensure(log);
                self.rotate(log);
                if self.dice.below(10) < 7 {
                    self.ensure(log);
                }
            }
            84..87 => self.cut(log),
            87..89 if self.logs[log].kind != Kind::Linked => {
                let node = self.ensure(log);
                let path = self.full(&self.logs[log].path.clone());
                self.remove(log, &path, &node);
                self.logs[log].current = None;
                if self.exact && node.borrow().opened {
                    self.hold(log, node);
                }
                if self.dice.below(2) == 0 {
                    self.ensure(log);
                }
            }
            89..96 => {
                let count = self.logs[log].held.len();
                if count > 0 {
                    let at = self.dice.below(count);
                    let (node, until) = self.logs[log].held[at].clone();
                    if until > self.now_ns {
                        let whole = self.logs[log].kind == Kind::Linked || self.dice.below(4) > 0;
                        self.write(key, &node, whole);
                    }
                }
            }
            96 if !self.exact => {
                self.save();
                self.stop();
                self.start();
            }
            97 if !self.exact => {
                self.save();
                self.stop();
            }
            98 if !self.exact => {
                self.kill();
                self.start();
            }
            99 => {
                self.save();
                if self.tail.is_none() {
                    self.start();
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.settle();
        self.settle();
        for log in 0..self.logs.len() {
            let node = self.ensure(log);
            if node.borrow().open {
                self.write(self.logs[log].key, &node, true);
            }
        }
        self.settle();
        let lost: Vec<usize> = (0..self.records.len())
            .filter(|&id| self.records[id].came == 0 && !self.records[id].gone)
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} never came: {:?} {}",
            lost.len(),
            self.records.len(),
            &lost[..lost.len().min(9)],
            self.records[lost[0]].text
        );
        assert_eq!(self.tail.as_ref().unwrap().lag_bytes(), 0);
        self.stop();
        if self.exact {
            assert_eq!(self.totals.truncations, self.truncations);
            let gone = self.records.iter().filter(|record| record.gone).count() as u64;
            assert_eq!(self.totals.records, self.records.len() as u64 - gone);
            assert_eq!(self.totals.lost_files, 0);
        }
    }
}

fn random(name: &str, exact: bool, limits: Limits, actions: usize) {
    random_with(name, exact, limits, actions, false);
}

fn random_with(name: &str, exact: bool, limits: Limits, actions: usize, starving: bool) {
    let seed = std::env::var("TAIL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | limits.watches as u64);
    println!("{name}: TAIL_SEED={seed}");
    let actions = std::env::var("TAIL_ACTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(actions);
    let mut world = World::new(seed, exact, limits, starving);
    for _ in 0..actions {
        world.act();
    }
    world.finish();
    let again: u32 = world.records.iter().map(|record| record.came.saturating_sub(1)).sum();
    println!(
        "{name}: {} records, {} gone, {again} again, {:?}",
        world.records.len(),
        world.records.iter().filter(|record| record.gone).count(),
        world.totals
    );
}

const TIGHT: Limits = Limits { open_files: 2, watches: 64, turn_bytes: 6000, file_bytes: 2000 };
const WIDE: Limits = Limits { open_files: 1000, watches: 64, turn_bytes: 1 << 20, file_bytes: 256 << 10 };

#[test]
fn each_record_comes_once() {
    random("with inotify", true, WIDE, 100_000);
}

#[test]
fn each_record_comes_once_without_inotify() {
    random("polling", true, Limits { watches: 0, turn_bytes: 6000, file_bytes: 2000, ..WIDE }, 50_000);
}

#[test]
fn each_record_comes_once_through_restarts() {
    random("restarts", false, WIDE, 100_000);
}

#[test]
fn each_record_comes_once_with_two_open_files() {
    random("two files", false, TIGHT, 50_000);
}

#[test]
fn each_record_comes_once_without_descriptors() {
    if is_alone("each_record_comes_once_without_descriptors") {
        random_with("without descriptors", false, Limits { open_files: 4, ..WIDE }, 30_000, true);
    }
}

/// True in a process in which this test is the only one; the first call starts it, and waits for its end.
fn is_alone(test: &str) -> bool {
    if std::env::var_os("TAIL_ALONE").is_some() {
        return true;
    }
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", test, "--nocapture"]).env("TAIL_ALONE", "1");
    let output = support::run_command(alone, std::time::Duration::from_secs(600));
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}");
    print!("{out}");
    false
}

/// A directory with a follower of its own.
struct Bench {
    directory: TempDir,
    tail: Tail,
    now_ns: u64,
    records: Vec<(u64, Vec<u8>)>,
    cut: usize,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let directory = TempDir::new("tail-bench");
        let tail = Tail::new(Host::new(directory.path(), None), limits, Positions::default());
        Bench { directory, tail, now_ns: 1, records: Vec::new(), cut: 0 }
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let path = self.directory.path().join(name);
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    fn turn(&mut self) {
        let Bench { tail, records, cut, now_ns, .. } = self;
        tail.turn(*now_ns, &mut |key, record| {
            *cut += usize::from(record.cut);
            records.push((key, record.data.to_vec()));
        });
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ns += SECOND;
            self.turn();
            while self.tail.is_busy() {
                self.turn();
            }
        }
    }

    fn texts(&mut self) -> Vec<String> {
        self.records.drain(..).map(|(_, record)| String::from_utf8_lossy(&record).into_owned()).collect()
    }

    /// Whether this process has the file open, removed or not.
    fn holds(&self, name: &str) -> bool {
        let path = self.directory.path().join(name);
        let mut targets =
            fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        targets
            .any(|target| target.to_string_lossy().trim_end_matches(" (deleted)") == path.to_str().unwrap())
    }
}

#[test]
fn a_line_of_64_mib_costs_no_memory() {
    // The others take memory too.
    if !is_alone("a_line_of_64_mib_costs_no_memory") {
        return;
    }
    let mut bench = Bench::new(Limits::default());
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::Beginning);
    bench.append("a.log", b"before\n");
    for _ in 0..64 {
        bench.append("a.log", &vec![b'x'; 1 << 20]);
    }
    bench.append("a.log", b"\nafter \0 \xff\n");
    bench.append("other.log", b"warm\n");
    let before = resident_kib();
    let mut turns = 0;
    bench.now_ns += SECOND;
    bench.turn();
    while bench.tail.is_busy() {
        bench.turn();
        turns += 1;
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 2048, "{grown} KiB more");
    assert!(turns > 60, "{turns}: no more than 1 MiB a turn");
    assert_eq!(bench.cut, 1);
    let lengths: Vec<usize> = bench.records.iter().map(|(_, record)| record.len()).collect();
    assert_eq!(lengths, [6, MAX_RECORD, 9]);
    assert_eq!(bench.tail.counters().too_long, 1);
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_removed_file_is_let_go() {
    let mut bench = Bench::new(Limits::default());
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::Beginning);
    bench.append("a.log", b"one\nhalf");
    bench.pass(1);
    assert!(bench.holds("a.log"));
    fs::remove_file(bench.directory.path().join("a.log")).unwrap();
    bench.pass(2);
    assert_eq!(bench.texts(), ["one"]);
    assert!(bench.holds("a.log"));
    bench.pass(6);
    assert_eq!(bench.texts(), ["half"]);
    assert!(!bench.holds("a.log"));
    assert_eq!(bench.tail.open_files(), 0);
}

/// A removed file whose writer goes on is younger than what was written and rotated away behind it.
#[test]
fn a_removed_file_that_grows_hides_nothing() {
    let mut bench = Bench::new(Limits { watches: 0, ..Limits::default() });
    let path = bench.directory.path().join("a.log");
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::Beginning);
    bench.append("a.log", b"one\n");
    bench.pass(1);
    let mut removed = OpenOptions::new().append(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bench.pass(1);
    bench.append("a.log", b"two\n");
    fs::rename(&path, path.with_extension("log.20260101-000001")).unwrap();
    removed.write_all(b"late\n").unwrap();
    removed.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
    // It is seen to have grown before there is a file again.
    bench.pass(1);
    bench.append("a.log", b"three\n");
    bench.pass(2);
    let mut texts = bench.texts();
    texts.sort();
    assert_eq!(texts, ["late", "one", "three", "two"]);
}

/// As of a file that is mounted into a container from elsewhere: its directory here hears nothing.
#[test]
fn what_inotify_does_not_tell_of_is_found_all_the_same() {
    let mut bench = Bench::new(Limits::default());
    let path = bench.directory.path().to_owned();
    fs::create_dir(path.join("here")).unwrap();
    fs::create_dir(path.join("elsewhere")).unwrap();
    bench.append("here/a.log", b"one\n");
    fs::hard_link(path.join("here/a.log"), path.join("elsewhere/b.log")).unwrap();
    bench.tail.follow(1, "/here/a.log", Framing::Lines, Start::Beginning);
    bench.pass(1);
    assert_eq!(bench.texts(), ["one"]);
    bench.append("elsewhere/b.log", b"two\n");
    bench.pass(10);
    assert_eq!(bench.texts(), ["two"]);
    bench.append("elsewhere/b.log", b"three\n");
    bench.pass(1);
    assert_eq!(bench.texts(), ["three"], "once bitten");
}

#[test]
fn another_directory_under_the_same_path_gets_a_watch() {
    let mut bench = Bench::new(Limits::default());
    let path = bench.directory.path().to_owned();
    fs::create_dir_all(path.join("up/logs")).unwrap();
    bench.append("up/logs/a.log", b"one\n");
    bench.tail.follow(1, "/up/logs/a.log", Framing::Lines, Start::Beginning);
    bench.pass(1);
    assert_eq!(bench.texts(), ["one"]);
    fs::rename(path.join("up"), path.join("old")).unwrap();
    fs::create_dir_all(path.join("up/logs")).unwrap();
    bench.append("up/logs/a.log", b"two\n");
    bench.pass(10);
    assert_eq!(bench.texts(), ["two"]);
    // Before anything is looked at for want of news.
    bench.append("up/logs/a.log", b"three\n");
    bench.now_ns += SECOND / 5;
    bench.turn();
    assert_eq!(bench.texts(), ["three"]);
    assert_eq!(bench.tail.watches(), 1);
}

#[test]
fn without_watches_it_looks_once_a_second() {
    let mut bench = Bench::new(Limits { watches: 2, ..Limits::default() });
    for directory in 0..4 {
        fs::create_dir(bench.directory.path().join(format!("d{directory}"))).unwrap();
        bench.tail.follow(directory, &format!("/d{directory}/a.log"), Framing::Lines, Start::Beginning);
    }
    bench.pass(1);
    assert_eq!(bench.tail.watches(), 2);
    assert!(bench.tail.is_polling());
    for directory in 0..4 {
        bench.append(&format!("d{directory}/a.log"), b"line\n");
    }
    bench.now_ns += SECOND / 2;
    bench.turn();
    assert_eq!(bench.texts().len(), 2, "those that are watched");
    bench.now_ns += SECOND / 2;
    bench.turn();
    assert_eq!(bench.texts().len(), 2, "the others");
    for key in 0..2 {
        bench.tail.end(key);
    }
    bench.pass(4);
    assert!(!bench.tail.is_polling(), "their watches went to those without");
    assert_eq!((bench.tail.files(), bench.tail.watches()), (2, 2));
}

#[test]
fn what_is_no_file_is_refused_and_the_rest_goes_on() {
    let mut bench = Bench::new(Limits::default());
    let root = bench.directory.path().to_owned();
    let status = std::process::Command::new("mkfifo").arg(root.join("fifo.log")).status().unwrap();
    assert!(status.success());
    fs::create_dir(root.join("directory.log")).unwrap();
    symlink("loop.log", root.join("loop.log")).unwrap();
    for (key, name) in ["fifo", "directory", "loop", "good", "none"].into_iter().enumerate() {
        assert!(bench.tail.follow(key as u64, &format!("/{name}.log"), Framing::Lines, Start::Beginning));
    }
    assert!(!bench.tail.follow(9, "relative", Framing::Lines, Start::End));
    assert!(!bench.tail.follow(0, "/again", Framing::Lines, Start::End));
    bench.append("good.log", b"line\n");
    bench.pass(5);
    assert_eq!(bench.texts(), ["line"]);
    let mut problems: Vec<String> =
        bench.tail.take_problems().into_iter().map(|problem| problem.text).collect();
    problems.sort();
    assert_eq!(problems.len(), 3, "each once: {problems:?}");
    assert_eq!(problems[0], "/directory.log: not a regular file");
    assert_eq!(problems[1], "/fifo.log: not a regular file");
    assert!(problems[2].starts_with("/loop.log: "), "{problems:?}");
    // Once it is a file it is read.
    fs::remove_file(root.join("fifo.log")).unwrap();
    bench.append("fifo.log", b"now\n");
    bench.pass(70);
    assert_eq!(bench.texts(), ["now"]);
}

#[test]
fn a_thousand_files_get_their_turns() {
    let limits = Limits { open_files: 100, ..Limits::default() };
    let mut bench = Bench::new(limits);
    for key in 0..1000 {
        bench.tail.follow(key, &format!("/{key}.log"), Framing::Lines, Start::Beginning);
        bench.append(&format!("{key}.log"), b"line\n");
    }
    // One that never ends must not hold up the others.
    bench.append("0.log", &b"noise noise noise\n".repeat(1 << 20));
    let mut turns = 0;
    bench.now_ns += SECOND;
    while (1..1000).any(|_| bench.records.iter().filter(|(key, _)| *key != 0).count() < 999) {
        bench.turn();
        turns += 1;
        assert!(turns < 10, "{turns} turns");
        assert!(bench.tail.open_files() <= 140, "{} open files", bench.tail.open_files());
    }
    assert!(bench.tail.is_busy());
    assert!(bench.tail.lag_bytes() > 10 << 20);
    while bench.tail.is_busy() {
        bench.turn();
    }
    assert_eq!(bench.records.len(), 1000 + (1 << 20));
    assert_eq!(bench.tail.lag_bytes(), 0);
    assert_eq!(bench.tail.watches(), 1);
}

#[test]
fn each_start_begins_where_it_says() {
    for (start, expected) in [
        (Start::End, &["half done"][..]),
        (Start::Beginning, &["two", "half done"][..]),
        (Start::Oldest, &["zero", "one", "two", "half done"][..]),
    ] {
        let mut bench = Bench::new(Limits::default());
        bench.append("a.log.2", b"zero\n");
        bench.append("a.log.1", b"one\n");
        bench.append("a.log", b"two\nhalf");
        bench.tail.follow(1, "/a.log", Framing::Lines, start);
        bench.tail.follow(2, "/late.log", Framing::Lines, start);
        bench.pass(1);
        bench.append("a.log", b" done\n");
        bench.append("late.log", b"late\n");
        bench.pass(1);
        let mut texts = bench.texts();
        texts.retain(|text| text != "late");
        assert_eq!(texts, expected, "{start:?}");
        assert_eq!(
            bench.tail.counters().records as usize,
            expected.len() + 1,
            "{start:?}: late.log from its beginning"
        );
    }
}

#[test]
fn what_was_packed_unread_is_counted_as_lost() {
    let mut bench = Bench::new(Limits { open_files: 1, ..Limits::default() });
    bench.tail.follow(1, "/0.log", Framing::Lines, Start::Beginning);
    bench.append("0.log", b"one\n");
    bench.pass(1);
    let root = bench.directory.path().to_owned();
    let saved = bench.tail.positions();
    // While nobody looks: rotated twice, and the first of them packed.
    fs::rename(root.join("0.log"), root.join("0.log.20260101-000000")).unwrap();
    bench.append("0.log.20260101-000001.gz", b"\x1f\x8b");
    bench.append("0.log.20260101-000002", b"three\n");
    bench.append("0.log", b"four\n");
    bench.tail = Tail::new(Host::new(&root, None), Limits::default(), saved);
    bench.tail.follow(1, "/0.log", Framing::Lines, Start::End);
    bench.pass(8);
    assert_eq!(bench.texts(), ["one", "three", "four"]);
    assert_eq!(bench.tail.counters().lost_files, 1);
}

#[test]
fn a_copy_goes_on_where_the_original_was() {
    let mut bench = Bench::new(Limits::default());
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::Beginning);
    bench.append("a.log", b"one\n");
    bench.pass(1);
    let root = bench.directory.path().to_owned();
    let saved = bench.tail.positions();
    bench.append("a.log", b"two\n");
    fs::copy(root.join("a.log"), root.join("a.log.1")).unwrap();
    File::create(root.join("a.log")).unwrap();
    bench.append("a.log", b"three and more\n");
    bench.tail = Tail::new(Host::new(&root, None), Limits::default(), saved);
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::End);
    bench.pass(8);
    assert_eq!(bench.texts(), ["one", "two", "three and more"]);
}

#[test]
fn records_with_lengths_are_followed_too() {
    let mut bench = Bench::new(Limits::default());
    bench.tail.follow(1, "/container.log", Framing::Lengths, Start::Beginning);
    let framed = |record: &[u8]| {
        [&(record.len() as u32).to_be_bytes(), record, &(record.len() as u32).to_be_bytes()].concat()
    };
    let two = framed(b"two\n");
    bench.append("container.log", &framed(b"one"));
    bench.append("container.log", &two[..5]);
    bench.pass(1);
    assert_eq!(bench.texts(), ["one"]);
    bench.append("container.log", &two[5..]);
    bench.pass(1);
    assert_eq!(bench.texts(), ["two\n"]);
}

#[test]
fn an_ended_file_is_read_to_its_end_and_gone_on_with_later() {
    let mut bench = Bench::new(Limits::default());
    bench.tail.follow(1, "/a.log", Framing::Lines, Start::Beginning);
    bench.append("a.log", b"one\n");
    bench.pass(1);
    bench.append("a.log", b"two\nhalf");
    bench.tail.end(1);
    bench.turn();
    assert_eq!(bench.texts(), ["one", "two"]);
    // The end may still be written.
    bench.append("a.log", b" of it");
    bench.pass(2);
    assert_eq!(bench.texts(), ["half of it"]);
    assert!(!bench.tail.is_followed(1));
    assert_eq!((bench.tail.open_files(), bench.tail.watches(), bench.tail.files()), (0, 0, 0));
    assert_eq!(bench.tail.deadline_ns(bench.now_ns), None);
    // The container is started again.
    bench.append("a.log", b"\nthree\n");
    bench.tail.follow(2, "/a.log", Framing::Lines, Start::Oldest);
    bench.pass(2);
    let texts = bench.texts();
    assert!(
        texts.last().is_some_and(|last| last == "three") && !texts.contains(&"one".to_owned()),
        "{texts:?}"
    );
}
