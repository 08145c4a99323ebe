//! All journals of a host: files that appear, are renamed when they are full, and vanish, each entry once.
//!
//! A file is known by the id in its header, which stays when journald archives it under another name. Journals that exist at
//! the first look are read from their end, or from where an earlier run was; those that come later, from their start.
//!
//! What cannot be listed or opened, for want of a descriptor, say, has neither vanished nor will it be new when it can be: its files
//! are kept as they were, and what the first look could not see is read from its end when it is seen.
//!
//! While `/var` is not there yet journald writes below `/run`, and copies what it has there when it moves: an entry below `/var` of
//! the same boot that is no younger than the last one read below `/run` is such a copy.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{io, mem};

use super::cache::Cache;
use super::file::{Budget, JournalFile, Position, Progress};
use super::format::{Id, State};
use super::record::{Record, Wanted};
use crate::host::{Host, unless_gone};

/// Files open at once: the system's journal, those of users, and some archived ones that are behind.
const OPEN_FILES: usize = 64;
/// Files whose position is remembered; journald itself keeps at most 100 archived ones of each kind.
const KNOWN_FILES: usize = 4096;
/// Directories of machines and namespaces.
const DIRECTORIES: usize = 256;
/// Looks in a row that do not find a file any more before it counts as gone: a directory that is read while a file is renamed may show
/// neither name.
const MISSES: u32 = 2;
/// Failed reads of one entry before it is left out.
const TRIES: u32 = 3;

/// What has been read, and what could not be, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries handed on.
    pub entries: u64,
    /// Entries left out because they were read below `/run` before.
    pub copies: u64,
    /// Entries that could not be read.
    pub damaged_entries: u64,
    /// Fields that could not be read.
    pub damaged_fields: u64,
    /// Fields that were cut or left out because they are too long.
    pub cut_fields: u64,
    /// Files given up before their end, because the way to their entries is damaged.
    pub broken_files: u64,
    /// Files that are no journals, or of a systemd that is too new.
    pub refused_files: u64,
    /// Failed reads of files and directories.
    pub errors: u64,
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is open.
    Followed,
    /// It is to be opened when there is room.
    Waiting,
    /// It was read to its end, and nobody appends to it.
    Done,
}

/// A file by its id.
#[derive(Debug)]
struct Known {
    position: Position,
    fate: Fate,
    misses: u32,
    /// Where it was found last; `None` if that was in an earlier run.
    place: Option<Place>,
}

/// Directory and inode of a file, which stay when it is renamed.
type Place = (PathBuf, u64);

/// A name, and what it was at the last look.
#[derive(Debug)]
struct Name {
    inode: u64,
    /// `None` for what is no journal.
    file: Option<Id>,
    look: u64,
}

/// An open file.
#[derive(Debug)]
struct Followed {
    file: JournalFile<File>,
    /// Index into [`Journals::roots`].
    root: usize,
    /// Name of the directory: a machine, maybe with a namespace.
    directory: String,
    /// Nobody appends to it: its name says so, or it has none any more.
    is_final: bool,
    failures: u32,
    counted: super::file::Damage,
}

/// A directory of journals.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    is_run: bool,
    /// It could be listed once: directories that are not in [`Journals::old`] are younger.
    is_listed: bool,
}

/// What a directory had at the first look, and is not known yet.
#[derive(Debug)]
enum Old {
    /// All that is in it: it was not read to its end so far.
    All,
    /// The files with these inodes, which could not be opened.
    Files(HashSet<u64>),
}

impl Old {
    fn has(&self, inode: u64) -> bool {
        match self {
            Old::All => true,
            Old::Files(inodes) => inodes.contains(&inode),
        }
    }
}

/// What a look did not get to see, and says nothing about.
#[derive(Debug, Default)]
struct Unseen {
    /// Directories that were not read to their end.
    directories: HashSet<PathBuf>,
    /// Files with a name that could not be opened.
    files: HashSet<Place>,
}

impl Unseen {
    /// Whether `directory`, one of a machine, or the one above it was not read.
    fn has(&self, directory: &Path) -> bool {
        directory.ancestors().take(2).any(|one| self.directories.contains(one))
    }

    fn is_nothing(&self) -> bool {
        self.directories.is_empty() && self.files.is_empty()
    }
}

/// Boot and monotonic time, in microseconds, of an entry.
type Moment = (Id, u64);

/// The journals of a host.
#[derive(Debug)]
pub struct Journals {
    roots: Vec<Root>,
    names: HashMap<PathBuf, Name>,
    /// By directory; of those of which everything is known, nothing.
    old: HashMap<PathBuf, Old>,
    known: HashMap<Id, Known>,
    followed: Vec<Followed>,
    /// By directory name: the last entry below `/run`.
    volatile: HashMap<String, Moment>,
    cache: Cache,
    counts: Counts,
    looks: u64,
    is_restored: bool,
    next: usize,
    last_error: Option<String>,
}

impl Journals {
    /// The journals of `host`: `/var/log/journal` and `/run/log/journal`.
    pub fn of_host(host: &Host) -> Journals {
        Journals::new(host.rootfs("/var/log/journal"), host.rootfs("/run/log/journal"))
    }

    /// The journals in these two directories, either of which may be missing.
    pub fn new(var: PathBuf, run: PathBuf) -> Journals {
        Journals {
            // What was written below /var comes before what is below /run, or it could be taken for copies.
            roots: [(var, false), (run, true)]
                .map(|(path, is_run)| Root { path, is_run, is_listed: false })
                .into(),
            names: HashMap::new(),
            old: HashMap::new(),
            known: HashMap::new(),
            followed: Vec::new(),
            volatile: HashMap::new(),
            cache: Cache::new(),
            counts: Counts::default(),
            looks: 0,
            is_restored: false,
            next: 0,
            last_error: None,
        }
    }

    /// Goes on where an earlier run was; to be called before the first [`Journals::look`]. Files that are not among `positions` are
    /// younger than these, and read from their start.
    pub fn restore(&mut self, positions: impl IntoIterator<Item = Position>) {
        self.is_restored = true;
        for position in positions.into_iter().take(KNOWN_FILES) {
            let known = Known { position, fate: Fate::Waiting, misses: 0, place: None };
            self.known.insert(position.file_id, known);
        }
    }

    /// What has been read of each file that still exists.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let done =
            self.known.values().filter(|known| known.fate != Fate::Followed).map(|known| known.position);
        self.followed.iter().map(|followed| followed.file.position()).chain(done)
    }

    /// What has been read, and what could not be.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Files open now.
    pub fn open_files(&self) -> usize {
        self.followed.len()
    }

    /// Files that wait until others are closed.
    pub fn waiting_files(&self) -> usize {
        self.known.values().filter(|known| known.fate == Fate::Waiting && known.misses == 0).count()
    }

    /// Why a file was refused or a read failed, since this was called last.
    pub fn take_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Calls of pread(2), and bytes of memory in buffers.
    pub fn cost(&self) -> (u64, usize) {
        (self.cache.preads(), self.cache.size())
    }

    /// Directories whose changes call for [`Journals::look`], those that do not exist among them.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self.roots.iter().map(|root| root.path.clone()).collect();
        for root in &self.roots {
            all.extend(machines(&root.path).unwrap_or_default().into_iter().map(|name| root.path.join(name)));
        }
        all
    }

    /// Looks which files there are: opens new ones, finds renamed ones again, lets go of those that are gone.
    pub fn look(&mut self) {
        self.looks += 1;
        let mut unseen = Unseen::default();
        for root in 0..self.roots.len() {
            let path = self.roots[root].path.clone();
            let names = match machines(&path) {
                Ok(names) => names,
                Err(error) => {
                    self.failed(&path, &error);
                    unseen.directories.insert(path);
                    continue;
                }
            };
            let directories: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
            let is_first = !mem::replace(&mut self.roots[root].is_listed, true);
            if is_first && !self.is_restored {
                self.old.extend(directories.iter().map(|one| (one.clone(), Old::All)));
            }
            self.old.retain(|one, _| one.parent() != Some(&path) || directories.contains(one));
            for (name, directory) in names.iter().zip(directories) {
                match self.look_into(root, name, &mut unseen) {
                    Ok(()) => self.has_looked_into(directory, &unseen),
                    Err(error) => {
                        self.failed(&directory, &error);
                        unseen.directories.insert(directory);
                    }
                }
            }
        }
        self.let_go(&unseen);
    }

    /// Looks at the files of one machine.
    fn look_into(&mut self, root: usize, directory: &str, unseen: &mut Unseen) -> io::Result<()> {
        let parent = self.roots[root].path.join(directory);
        let Some(entries) = unless_gone(fs::read_dir(&parent))? else { return Ok(()) };
        for entry in entries.take(KNOWN_FILES) {
            let Some(entry) = unless_gone(entry)? else { break };
            let (name, inode) = (entry.file_name(), entry.ino());
            let Some(name) = name.to_str() else { continue };
            let Some(is_final) = is_journal(name) else { continue };
            let path = entry.path();
            let look = self.looks;
            let same = self.names.get_mut(&path).filter(|known| known.inode == inode);
            let file = same.and_then(|known| {
                known.look = look;
                known.file
            });
            let is_refused = file.is_none() && self.names.get(&path).is_some_and(|known| known.look == look);
            let waits = file
                .is_some_and(|file| self.known.get(&file).is_some_and(|known| known.fate == Fate::Waiting));
            // One that is no journal yet may be a journal that is being made.
            if (is_refused && is_final) || (file.is_some() && !waits) {
                continue;
            }
            if self.names.len() >= KNOWN_FILES && !self.names.contains_key(&path) {
                unseen.files.insert((parent.clone(), inode));
                continue;
            }
            if waits && self.followed.len() >= OPEN_FILES {
                continue;
            }
            let file = match open(&path, &mut self.cache) {
                Ok(file) => {
                    let id = file.header().file_id;
                    self.found(file, root, directory, (parent.clone(), inode), is_final);
                    Some(id)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    if !is_refused {
                        self.counts.refused_files += u64::from(error.kind() == io::ErrorKind::InvalidData);
                        self.failed(&path, &error);
                    }
                    // Without a descriptor, say, it is not the file's fault.
                    if error.kind() != io::ErrorKind::InvalidData {
                        unseen.files.insert((parent.clone(), inode));
                        continue;
                    }
                    None
                }
            };
            self.names.insert(path, Name { inode, file, look });
        }
        Ok(())
    }

    /// Notes what is still to be seen of a directory that was read to its end.
    fn has_looked_into(&mut self, directory: PathBuf, unseen: &Unseen) {
        let Some(old) = self.old.remove(&directory) else { return };
        let unopened = unseen.files.iter().filter(|(one, inode)| *one == directory && old.has(*inode));
        let left: HashSet<u64> = unopened.map(|(_, inode)| *inode).collect();
        if !left.is_empty() {
            self.old.insert(directory, Old::Files(left));
        }
    }

    /// A file with a name that is new, or one that waits.
    fn found(
        &mut self,
        mut file: JournalFile<File>,
        root: usize,
        directory: &str,
        place: Place,
        is_final: bool,
    ) {
        let id = file.header().file_id;
        let is_old = self.old.get(&place.0).is_some_and(|old| old.has(place.1));
        if let Some(known) = self.known.get_mut(&id) {
            known.place = Some(place.clone());
        }
        match self.known.get(&id) {
            Some(Known { fate: Fate::Followed, .. }) => {
                if let Some(followed) = self.followed.iter_mut().find(|one| one.file.header().file_id == id) {
                    // A copy beside the file does not end it.
                    let is_same = inode(&file).is_some_and(|number| inode(&followed.file) == Some(number));
                    followed.is_final |= is_final && is_same;
                }
                return;
            }
            Some(Known { fate: Fate::Done, .. }) => return,
            Some(Known { fate: Fate::Waiting, position, .. }) => {
                file.restore(position);
            }
            None if is_old => {
                file.seek_end();
                if self.roots[root].is_run && file.header().entries > 0 {
                    let tail = (file.header().tail_boot_id, file.header().tail_monotonic_us);
                    later(&mut self.volatile, directory, tail);
                }
            }
            None => {}
        }
        let fate = match () {
            () if is_final && file.position().entries >= file.header().entries => Fate::Done,
            () if self.followed.len() >= OPEN_FILES => Fate::Waiting,
            () => Fate::Followed,
        };
        self.known.insert(id, Known { position: file.position(), fate, misses: 0, place: Some(place) });
        if fate == Fate::Followed {
            self.followed.push(Followed {
                file,
                root,
                directory: directory.to_owned(),
                is_final,
                failures: 0,
                counted: Default::default(),
            });
            // The order they are read in.
            self.followed.sort_by_key(|followed| followed.root);
        }
    }

    /// Forgets names that are gone, and files without a name; not those that are where nobody could look.
    fn let_go(&mut self, unseen: &Unseen) {
        let look = self.looks;
        let is_unread = |path: &Path| path.parent().is_some_and(|directory| unseen.has(directory));
        self.names.retain(|path, name| name.look == look || is_unread(path));
        for known in self.known.values_mut() {
            known.misses = match &known.place {
                Some(place) if unseen.files.contains(place) || unseen.has(&place.0) => known.misses,
                // It may be anywhere.
                None if !unseen.is_nothing() => MISSES - 1,
                _ => known.misses + 1,
            };
        }
        for name in self.names.values() {
            if let Some(known) = name.file.and_then(|file| self.known.get_mut(&file)) {
                known.misses = 0;
            }
        }
        for followed in &mut self.followed {
            let known = self.known.get(&followed.file.header().file_id);
            // An open file can be read to its end without a name.
            followed.is_final |= known.is_none_or(|known| known.misses >= MISSES);
        }
        self.known.retain(|_, known| known.misses < MISSES || known.fate == Fate::Followed);
    }

    /// Hands new entries of all files to `sink`, within `budget`. True when there may be more.
    pub fn read(&mut self, budget: &mut Budget, wanted: Wanted, sink: &mut dyn FnMut(&Record)) -> bool {
        // Where the budget ended the last time: no file can keep the others waiting.
        let mut at = if self.next < self.followed.len() { self.next } else { 0 };
        for _ in 0..self.followed.len() {
            if budget.is_spent() {
                self.next = at;
                return true;
            }
            match self.read_one(at, budget, wanted, sink) {
                (true, _) => self.close(at),
                (false, Progress::More) => {
                    self.next = at;
                    return true;
                }
                (false, _) => at += 1,
            }
            if at >= self.followed.len() {
                at = 0;
            }
        }
        self.next = 0;
        false
    }

    /// Reads one file. Gives whether it is to be closed, and how far it was read.
    fn read_one(
        &mut self,
        at: usize,
        budget: &mut Budget,
        wanted: Wanted,
        sink: &mut dyn FnMut(&Record),
    ) -> (bool, Progress) {
        let followed = &mut self.followed[at];
        let is_run = self.roots[followed.root].is_run;
        let (volatile, counts, directory) = (&mut self.volatile, &mut self.counts, &followed.directory);
        let mut moment = volatile.get(directory).copied();
        let mut deliver = |record: &Record| {
            let head = record.head();
            let is_copy =
                |(boot, monotonic): (Id, u64)| boot == head.boot_id && head.monotonic_us <= monotonic;
            if is_run {
                moment = Some((head.boot_id, head.monotonic_us));
            } else if moment.is_some_and(is_copy) {
                counts.copies += 1;
                return;
            }
            counts.entries += 1;
            sink(record);
        };
        // A damaged header ends a file, and what it said before is still read.
        let refreshed = followed.file.refresh(&mut self.cache);
        let result = followed.file.read(&mut self.cache, budget, wanted, &mut deliver);
        if let Some(moment) = moment.filter(|_| is_run) {
            later(volatile, directory, moment);
        }
        let damage = followed.file.damage();
        counts.damaged_entries += damage.entries - followed.counted.entries;
        counts.damaged_fields += damage.fields - followed.counted.fields;
        counts.cut_fields += damage.cut - followed.counted.cut;
        followed.counted = damage;

        let is_final = followed.is_final || followed.file.header().state == State::Archived;
        match (refreshed, result) {
            (Ok(()), Ok(progress)) => {
                followed.failures = 0;
                let is_over = is_final && progress != Progress::More;
                counts.broken_files += u64::from(is_over && progress == Progress::Broken);
                (is_over, progress)
            }
            (refreshed, result) => {
                let is_read = matches!(result, Ok(Progress::End | Progress::Broken));
                let is_header = refreshed.is_err();
                followed.failures += 1;
                let is_hopeless = followed.failures >= TRIES;
                if is_hopeless && !is_header {
                    followed.failures = 0;
                    followed.file.skip();
                }
                let is_over = is_header && is_read && (is_final || is_hopeless);
                counts.broken_files += u64::from(is_over);
                let directory = followed.directory.clone();
                for error in [refreshed.err(), result.err()].into_iter().flatten() {
                    self.failed(Path::new(&directory), &error);
                }
                (is_over, Progress::End)
            }
        }
    }

    /// Closes a file that has been read.
    fn close(&mut self, at: usize) {
        let followed = self.followed.remove(at);
        let position = followed.file.position();
        if let Some(known) = self.known.get_mut(&position.file_id) {
            known.position = position;
            known.fate = Fate::Done;
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        self.counts.errors += 1;
        self.last_error = Some(format!("{}: {error}", path.display()));
    }
}

/// Moves the moment of `directory` forward; another boot is always later.
fn later(moments: &mut HashMap<String, Moment>, directory: &str, moment: Moment) {
    if let Some(known) = moments.get_mut(directory) {
        let is_same = known.0 == moment.0;
        *known = (moment.0, if is_same { known.1.max(moment.1) } else { moment.1 });
    } else if moments.len() < DIRECTORIES {
        moments.insert(directory.to_owned(), moment);
    }
}

/// Names of directories of machines and their namespaces in `root`, sorted; none if `root` does not exist.
fn machines(root: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = unless_gone(fs::read_dir(root))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let Some(entry) = unless_gone(entry)? else { break };
        names.extend(entry.file_name().into_string().ok().filter(|name| is_machine(name)));
        if names.len() >= DIRECTORIES {
            break;
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a directory is one of journald's: a machine's id, maybe with a namespace behind a dot.
fn is_machine(name: &str) -> bool {
    let (id, namespace) = name.split_once('.').map_or((name, None), |(id, namespace)| (id, Some(namespace)));
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && namespace != Some("")
}

/// Whether a file is a journal by its name, and if so, whether it is one that nobody appends to.
fn is_journal(name: &str) -> Option<bool> {
    if name.ends_with(".journal~") {
        return Some(true);
    }
    name.strip_suffix(".journal").map(|stem| stem.contains('@'))
}

fn inode(file: &JournalFile<File>) -> Option<u64> {
    file.source().metadata().ok().map(|metadata| metadata.ino())
}

fn open(path: &Path, cache: &mut Cache) -> io::Result<JournalFile<File>> {
    // Neither a link nor a pipe somebody has put there.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
    }
    JournalFile::open(file, cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_a_journal() {
        assert_eq!(is_journal("system.journal"), Some(false));
        assert_eq!(is_journal("user-1000.journal"), Some(false));
        assert_eq!(is_journal("system@0005e1-0000000000000001-0005.journal"), Some(true));
        assert_eq!(is_journal("system@0005e1.journal~"), Some(true));
        assert_eq!(is_journal("system.journal.tmp"), None);
        assert!(is_machine("0123456789abcdef0123456789abcdef"));
        assert!(is_machine("0123456789abcdef0123456789abcdef.web"));
        assert!(!is_machine("0123456789abcdef0123456789abcdef."));
        assert!(!is_machine("remote") && !is_machine(&"x".repeat(32)));
    }

    #[test]
    fn nothing_there_is_nothing_read() {
        let missing = std::env::temp_dir().join("nodeprobe-no-journal");
        let mut journals = Journals::new(missing.join("var"), missing.join("run"));
        journals.look();
        let mut budget = Budget { entries: 10, bytes: 1 << 20 };
        assert!(!journals.read(&mut budget, Wanted::Named, &mut |_| panic!("an entry")));
        assert_eq!((journals.counts(), journals.open_files()), (Counts::default(), 0));
    }
}
