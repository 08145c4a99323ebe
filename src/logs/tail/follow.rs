//! One followed path: the files that stood there one after the other, read in that order.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::rc::Rc;

use super::frame::{Framing, Record};
use super::place::{self, Place, is_absence};
use super::positions::Entry;
use super::segment::{self, Id, Outcome, Seen, Segment};
use super::siblings::{self, Sibling};
use super::{Counters, GRACE_NS, Key, Problem, Start};
use crate::host::Host;
use crate::sys::clock::MonotonicNs;

/// Files read to their end that are remembered, so that they are not read again wherever they turn up.
const MAX_FINISHED: usize = 32;

/// Complaints that wait to be taken.
const MAX_PROBLEMS: usize = 64;

/// The longest pause between two tries after an error, in seconds.
const MAX_PAUSE_S: u64 = 60;

/// What all paths share while they are worked on.
#[derive(Debug)]
pub struct Desk {
    /// The observed host.
    pub host: Host,
    /// Where files are read to.
    pub buffer: Box<[u8]>,
    /// What was done.
    pub counters: Counters,
    /// What went wrong.
    pub problems: Vec<Problem>,
    /// There was no descriptor left for a file.
    pub starved: bool,
}

/// A followed path.
#[derive(Debug)]
pub struct Follow {
    /// Whose it is.
    pub key: Key,
    /// The path on the host.
    pub path: Rc<str>,
    /// Where it led when somebody looked.
    pub place: Option<Place>,
    /// Its watch, and the path without links that is for.
    pub watch: Option<(i32, Rc<str>)>,
    /// It should have a watch and there is none left.
    pub unwatched: bool,
    /// Something happened since the last event: a file that is mounted here from elsewhere tells there, one with two names by the
    /// other, and one that is mapped not at all.
    is_untold: bool,
    /// It stands in the queue.
    pub queued: bool,
    /// It is to be looked at; with true, because something happened to it.
    pub look: Option<bool>,
    /// It is read to its end and then forgotten.
    pub ending: bool,
    /// When that moment is over, and that it is.
    pub over_ns: Option<MonotonicNs>,
    /// See [`Follow::over_ns`].
    pub is_over: bool,
    /// No link is followed.
    pub refuses_links: bool,
    framing: Framing,
    start: Option<Start>,
    restored: Vec<Entry>,
    /// Oldest first. With `present`, the last one stands at the path.
    segments: VecDeque<Segment>,
    present: bool,
    finished: VecDeque<Entry>,
    /// When the youngest file that was read, or was there before, was written to; see [`Segment::stood_ns`].
    horizon_ns: i64,
    pause_s: u64,
    paused_until_ns: MonotonicNs,
    complained: bool,
}

enum Opened {
    Yes,
    Gone,
    Later,
}

impl Follow {
    /// A path nothing was read of, unless `restored` says so.
    pub fn new(key: Key, path: &str, framing: Framing, start: Start, restored: Vec<Entry>) -> Follow {
        Follow {
            key,
            path: path.into(),
            place: None,
            watch: None,
            unwatched: false,
            is_untold: false,
            queued: false,
            look: Some(false),
            ending: false,
            over_ns: None,
            is_over: false,
            refuses_links: false,
            framing,
            start: Some(start),
            restored,
            segments: VecDeque::new(),
            present: false,
            finished: VecDeque::new(),
            horizon_ns: i64::MIN,
            pause_s: 0,
            paused_until_ns: 0,
            complained: false,
        }
    }

    /// True while it is left alone after an error.
    pub fn is_paused(&self, now_ns: MonotonicNs) -> bool {
        now_ns < self.paused_until_ns
    }

    /// Whether inotify tells of whatever happens to it: no link leads there from a directory that has no watch, no file is on its
    /// way out, which takes time and no event, and nothing ever happened that it did not tell of.
    pub fn is_watched(&self) -> bool {
        let has_links = self.place.as_ref().is_none_or(Place::has_links);
        let is_settled = self.segments.len() == usize::from(self.present) && self.pause_s == 0;
        self.watch.is_some() && !has_links && is_settled && !self.is_untold
    }

    /// Open files.
    pub fn open_files(&self) -> usize {
        self.segments.iter().filter(|segment| segment.file.is_some()).count()
    }

    /// Bytes that are there and not given.
    pub fn lag_bytes(&self) -> u64 {
        self.segments.iter().map(Segment::lag_bytes).sum()
    }

    /// How far its files were read, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        if self.start.is_some() {
            return self.restored.clone();
        }
        if self.segments.is_empty() && self.finished.is_empty() {
            // That there was nothing is worth to be known: what is there in the next life is new.
            return vec![Entry { done: true, written_ns: self.horizon_ns, ..Entry::default() }];
        }
        let open = self.segments.iter().map(|segment| segment.entry(&self.path, false));
        self.finished.iter().cloned().chain(open).collect()
    }

    /// Closes the current file if nothing is expected of it: not used since the last call, and read to its end. `all`: also with a
    /// record that has no end yet.
    pub fn close_idle(&mut self, all: bool) -> bool {
        let Some(segment) = self.segments.back_mut().filter(|_| self.present) else {
            return false;
        };
        let used = std::mem::replace(&mut segment.used, false);
        let idle = segment.at_end && (all || (!used && segment.lag_bytes() == 0));
        idle && segment.file.take().is_some()
    }

    /// Finds out what happened to the path and its files.
    pub fn look(&mut self, touched: bool, now_ns: MonotonicNs, desk: &mut Desk) {
        let found = match place::find(&desk.host, &self.path, self.place.as_ref()) {
            Ok((place, _)) if self.refuses_links && place.has_links() => {
                return self.complain("a symbolic link leads there", now_ns, desk);
            }
            Ok((place, metadata)) => {
                self.place = Some(place);
                if metadata.as_ref().is_some_and(|metadata| !metadata.is_file()) {
                    self.complain("not a regular file", now_ns, desk);
                }
                metadata.filter(fs::Metadata::is_file).map(|metadata| Seen::of(&metadata))
            }
            Err(error) if is_absence(&error) => None,
            Err(error) => return self.complain(&error.to_string(), now_ns, desk),
        };
        // An error on the way says nothing of files that could not be looked at. What was found before it is lined up, and the next
        // look goes on from there.
        if let Err(error) = self.find_out(found, touched, now_ns, desk) {
            self.look = Some(touched);
            self.fail(&error, now_ns, desk);
        }
    }

    fn find_out(
        &mut self,
        found: Option<Seen>,
        touched: bool,
        now_ns: MonotonicNs,
        desk: &mut Desk,
    ) -> io::Result<()> {
        if let Some(start) = self.start {
            self.begin(start, found, now_ns, desk)?;
            self.start = None;
        }
        let before = self.segments.back().map(|segment| segment.id);
        let was = self.state();
        match found {
            Some(seen) => self.stands(seen, touched, now_ns, desk)?,
            None if self.segments.is_empty() => self.present = false,
            None => {
                if self.present || touched {
                    self.gather(None, now_ns, desk)?;
                }
                self.present = false;
            }
        }
        self.is_untold = !touched && (self.is_untold || self.state() != was);
        let current = self.segments.back().filter(|_| self.present).map(|segment| segment.id);
        for segment in &mut self.segments {
            if Some(segment.id) == current {
                continue;
            }
            if Some(segment.id) == before && touched {
                segment.at_end = false;
            }
            // Its descriptor is all that leads to it now.
            let metadata = segment.file.as_ref().and_then(|file| file.metadata().ok());
            if let Some(metadata) = metadata {
                segment.observe(Seen::of(&metadata), false, now_ns, &mut desk.counters);
            }
        }
        Ok(())
    }

    /// What a look finds changed if something happened.
    fn state(&self) -> Option<(Id, u64, i64)> {
        let current = self.segments.back().filter(|_| self.present)?;
        Some((current.id, current.size, current.written_ns))
    }

    /// The file `seen` is where the path leads.
    fn stands(&mut self, seen: Seen, touched: bool, now_ns: MonotonicNs, desk: &mut Desk) -> io::Result<()> {
        let Some(real) = self.place.as_ref().map(|place| Rc::clone(&place.real)) else {
            return Ok(());
        };
        let at = match self.segments.iter().position(|segment| segment.id == seen.id) {
            Some(at) if self.was_replaced(at, seen, &real, now_ns, desk)? => None,
            at => at,
        };
        if let Some(at) = at {
            if at + 1 < self.segments.len() || !self.present {
                self.leave(now_ns);
            }
            if let Some(mut segment) = self.segments.remove(at) {
                segment.observe(seen, touched, now_ns, &mut desk.counters);
                segment.stood_ns = seen.written_ns;
                segment.origin = real;
                self.segments.push_back(segment);
            }
        } else {
            let first = self.segments.is_empty() && self.finished.is_empty();
            self.gather(Some(seen.id), now_ns, desk)?;
            let known = self.take_finished(&desk.host, &real, seen.id)?;
            desk.counters.rotations += u64::from(!first);
            let segment = match known {
                Some(entry) => {
                    let mut segment = Segment::resumed(&entry, &real, now_ns);
                    segment.origin = Rc::clone(&real);
                    segment
                }
                None => Segment::new(seen, &real, now_ns),
            };
            self.segments.push_back(segment);
        }
        self.present = true;
        Ok(())
    }

    /// Whether the file at `at` is another one than `seen`, which has its number. It may be if it was not open; then what stood at the
    /// path in between is lined up, and the file is gone.
    fn was_replaced(
        &mut self,
        at: usize,
        seen: Seen,
        real: &str,
        now_ns: MonotonicNs,
        desk: &mut Desk,
    ) -> io::Result<bool> {
        let before = self.segments.len();
        let known = &self.segments[at];
        let unchanged = known.size == seen.size && known.written_ns == seen.written_ns;
        let same = known.file.is_some() || unchanged || is_same(&desk.host, real, &known.entry(real, false))?;
        let last = at + 1 == before;
        if last && same {
            return Ok(false);
        }
        let unread = known.position == 0;
        self.gather(Some(seen.id), now_ns, desk)?;
        if same || unread {
            return Ok(false);
        }
        if let Some(gone) = self.segments.remove(at) {
            desk.counters.lost_bytes += gone.lag_bytes();
            desk.counters.truncations += u64::from(last && self.segments.len() < before);
        }
        Ok(true)
    }

    /// The last file no longer stands at the path: it is asked once more, and no longer what stat(2) of the path says.
    fn leave(&mut self, now_ns: MonotonicNs) {
        if let Some(segment) = self.segments.back_mut() {
            segment.at_end = false;
            segment.quiet_since_ns = now_ns;
        }
    }

    /// The first look; all of it or nothing.
    fn begin(
        &mut self,
        start: Start,
        found: Option<Seen>,
        now_ns: MonotonicNs,
        desk: &mut Desk,
    ) -> io::Result<()> {
        let real = self.place.as_ref().map_or_else(|| Rc::clone(&self.path), |place| Rc::clone(&place.real));
        for entry in std::mem::take(&mut self.restored) {
            self.horizon_ns = self.horizon_ns.max(entry.written_ns);
            if entry.done {
                self.finished.push_back(entry);
            } else {
                self.segments.push_back(Segment::resumed(&entry, &self.path, now_ns));
            }
        }
        if !self.segments.is_empty() || !self.finished.is_empty() {
            return Ok(());
        }
        let (mut older, mut read) = (Vec::new(), Vec::new());
        for sibling in siblings::list(&desk.host, &real)? {
            if Some(sibling.seen.id) == found.map(|seen| seen.id) || sibling.compressed {
                continue;
            }
            if start == Start::Oldest {
                older.push(Segment::new(sibling.seen, &real, now_ns));
            } else {
                read.extend(as_read(&sibling, &desk.host)?);
            }
        }
        if let Some(seen) = found {
            let mut segment = Segment::new(seen, &real, now_ns);
            if start == Start::End {
                // Nothing is known of what it has until it can be opened, and it may be another one by then.
                let (file, opened) = segment::open(&desk.host, &real)?;
                if opened.id != seen.id {
                    return Err(io::Error::other("another file stands there now"));
                }
                segment.size = opened.size;
                segment.file = Some(file);
                if segment.go_to_end(self.framing, &mut desk.buffer).is_err() {
                    segment.position = segment.size;
                }
            }
            older.push(segment);
            self.present = true;
        }
        self.segments.extend(older);
        read.into_iter().for_each(|entry| self.finish(entry));
        Ok(())
    }

    fn finish(&mut self, entry: Entry) {
        self.horizon_ns = self.horizon_ns.max(entry.written_ns);
        self.finished.push_back(entry);
        if self.finished.len() > MAX_FINISHED {
            self.finished.pop_front();
        }
    }

    /// Takes out what is remembered of the file `id`, now at `path`, if it still is that file.
    fn take_finished(&mut self, host: &Host, path: &str, id: Id) -> io::Result<Option<Entry>> {
        let Some(at) = self.finished.iter().position(|entry| entry.id == id) else { return Ok(None) };
        let is_same = match is_same(host, path, &self.finished[at]) {
            // Nothing can be read of it either.
            Err(error) if is_the_files(&error) => true,
            is_same => is_same?,
        };
        Ok(self.finished.remove(at).filter(|_| is_same))
    }

    /// Finds the files that stood at the path and left it since the last look, and lines them up behind the last one.
    fn gather(&mut self, found: Option<Id>, now_ns: MonotonicNs, desk: &mut Desk) -> io::Result<()> {
        self.leave(now_ns);
        let Some(place) = self.place.as_ref().map(|place| Rc::clone(&place.real)) else {
            return Ok(());
        };
        let ours = self.segments.back();
        let origin = ours.map_or_else(|| Rc::clone(&place), |ours| Rc::clone(&ours.origin));
        let mut list = siblings::list(&desk.host, &origin)?;
        if origin != place {
            // A link leads elsewhere now: the youngest one is still where it was.
            let metadata = fs::symlink_metadata(desk.host.rootfs(&origin)).ok().filter(fs::Metadata::is_file);
            list.extend(metadata.map(|metadata| Sibling {
                rank: siblings::Rank::Number(std::cmp::Reverse(0)),
                compressed: false,
                path: origin.as_ref().to_owned(),
                seen: Seen::of(&metadata),
            }));
            for sibling in siblings::list(&desk.host, &place)? {
                let id = sibling.seen.id;
                let known = self.segments.iter().any(|segment| segment.id == id)
                    || self.finished.iter().any(|entry| entry.id == id);
                if !sibling.compressed && !known {
                    as_read(&sibling, &desk.host)?.into_iter().for_each(|entry| self.finish(entry));
                }
            }
        }
        let ours = self.segments.back();
        let is_ours =
            |sibling: &Sibling| ours.is_some_and(|ours| sibling.seen.id == ours.id) && !sibling.compressed;
        let at = match (ours, list.iter().position(is_ours)) {
            (Some(ours), Some(at))
                if ours.file.is_some()
                    || is_same(&desk.host, &list[at].path, &ours.entry(&place, false))? =>
            {
                Some(at)
            }
            _ => None,
        };
        let horizon_ns = ours.map_or(self.horizon_ns, |ours| ours.stood_ns);
        let ours_entry = ours.map(|ours| ours.entry(&place, false));
        for sibling in list.into_iter().skip(at.map_or(0, |at| at + 1)) {
            let id = sibling.seen.id;
            if found == Some(id) || self.segments.iter().any(|segment| segment.id == id) {
                continue;
            }
            if sibling.compressed {
                desk.counters.lost_files += u64::from(at.is_some());
                continue;
            }
            // Without our own file to begin at, only what was written to since we last read can be news.
            if at.is_none() && sibling.seen.written_ns < horizon_ns {
                continue;
            }
            if let Some(entry) = self.take_finished(&desk.host, &sibling.path, id)? {
                self.finished.push_back(entry);
                continue;
            }
            let mut segment = Segment::new(sibling.seen, &origin, now_ns);
            // A copy of our own file, made before that was cut or removed, goes on where we were.
            if let Some(ours) = &ours_entry
                && at.is_none()
                && is_same(&desk.host, &sibling.path, &Entry { id, ..ours.clone() })?
            {
                segment = Segment::resumed(&Entry { id, origin: None, ..ours.clone() }, &origin, now_ns);
                segment.size = sibling.seen.size;
            }
            desk.counters.rotations += 1;
            self.segments.push_back(segment);
        }
        Ok(())
    }

    /// Reads what there is, up to `budget` bytes; gives how much that was, and whether there is more.
    pub fn read(
        &mut self,
        budget: usize,
        now_ns: MonotonicNs,
        desk: &mut Desk,
        each: &mut dyn FnMut(Key, Record<'_>),
    ) -> (usize, bool) {
        let (key, framing) = (self.key, self.framing);
        let (mut used, mut at) = (0, 0);
        while at < self.segments.len() {
            if self.segments[at].at_end {
                at += 1;
                continue;
            }
            match self.open(at, now_ns, desk) {
                Opened::Yes => {}
                Opened::Gone => continue,
                Opened::Later => return (used, false),
            }
            let segment = &mut self.segments[at];
            while !segment.at_end {
                if used >= budget {
                    return (used, true);
                }
                let left = budget - used;
                let read =
                    segment.read(framing, left, false, &mut desk.buffer, &mut desk.counters, &mut |record| {
                        each(key, record);
                    });
                match read {
                    Ok((bytes, _)) => used += bytes,
                    Err(error) => {
                        segment.file = None;
                        self.complain(&error.to_string(), now_ns, desk);
                        return (used, false);
                    }
                }
            }
            at += 1;
        }
        (used, false)
    }

    /// Lets go of files that were read to their end and will not grow any more.
    pub fn let_go(&mut self, now_ns: MonotonicNs, desk: &mut Desk, each: &mut dyn FnMut(Key, Record<'_>)) {
        let (key, framing) = (self.key, self.framing);
        let mut at = 0;
        while at < self.segments.len() {
            let current = self.present && at + 1 == self.segments.len();
            let segment = &self.segments[at];
            let replaced = at + 1 < self.segments.len() || !segment.named;
            let quiet = now_ns.saturating_sub(segment.quiet_since_ns) >= GRACE_NS;
            if !(segment.at_end && (self.is_over || (!current && replaced && quiet))) {
                at += 1;
                continue;
            }
            if segment.lag_bytes() > 0 {
                match self.open(at, now_ns, desk) {
                    Opened::Yes => {}
                    Opened::Gone => continue,
                    Opened::Later => return,
                }
                let segment = &mut self.segments[at];
                let size = segment.size;
                let read = segment.read(
                    framing,
                    usize::MAX / 2,
                    true,
                    &mut desk.buffer,
                    &mut desk.counters,
                    &mut |record| {
                        each(key, record);
                    },
                );
                match read {
                    Ok((_, Outcome::End)) => {}
                    Ok(_) => {
                        segment.at_end = false;
                        at += 1;
                        continue;
                    }
                    Err(_) => desk.counters.lost_bytes += size.saturating_sub(segment.position),
                }
            }
            if let Some(segment) = self.segments.remove(at) {
                let entry = segment.entry(&self.path, true);
                self.finish(entry);
            }
        }
    }

    /// Sees that a file is open.
    fn open(&mut self, at: usize, now_ns: MonotonicNs, desk: &mut Desk) -> Opened {
        let current = self.present && at + 1 == self.segments.len();
        let segment = &mut self.segments[at];
        if segment.file.is_some() {
            return Opened::Yes;
        }
        let mut opened = segment::open(&desk.host, &segment.origin);
        let elsewhere = opened.as_ref().map_or_else(is_absence, |(_, seen)| seen.id != segment.id);
        if !current && elsewhere {
            opened = match siblings::find(&desk.host, &segment.origin, segment.id) {
                Ok(Some(sibling)) => segment::open(&desk.host, &sibling.path),
                Ok(None) => Err(io::Error::from(io::ErrorKind::NotFound)),
                Err(error) => Err(error),
            };
        }
        let mut younger = false;
        let attached = match opened {
            Ok((file, seen)) if seen.id == segment.id => {
                segment.size = segment.size.max(seen.size);
                younger = seen.written_ns >= segment.written_ns;
                segment.attach(file)
            }
            // It was renamed or removed a moment ago: the next look tells.
            Ok(_) => return Opened::Later,
            Err(error) => Err(error),
        };
        match attached {
            Ok(true) => {
                self.complained = false;
                self.pause_s = 0;
                Opened::Yes
            }
            // It was cut and written anew, or is another file under the same number: all of it is news.
            Ok(false) if current || younger => {
                segment.size = segment.position;
                segment.cut(&mut desk.counters);
                Opened::Yes
            }
            Err(error) if current && is_absence(&error) => Opened::Later,
            Err(error) if !is_absence(&error) => {
                self.fail(&error, now_ns, desk);
                Opened::Later
            }
            // Removed or packed before we came to it.
            _ => {
                if let Some(segment) = self.segments.remove(at) {
                    desk.counters.lost_bytes += segment.lag_bytes();
                    desk.counters.lost_files += u64::from(segment.lag_bytes() > 0);
                    self.horizon_ns = self.horizon_ns.max(segment.stood_ns);
                }
                Opened::Gone
            }
        }
    }

    /// A file cannot be looked at now.
    fn fail(&mut self, error: &io::Error, now_ns: MonotonicNs, desk: &mut Desk) {
        desk.starved |= matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        if error.raw_os_error() == Some(libc::ELOOP) {
            // A directory on the way became a link.
            self.place = None;
        }
        self.complain(&error.to_string(), now_ns, desk);
    }

    fn complain(&mut self, text: &str, now_ns: MonotonicNs, desk: &mut Desk) {
        self.pause_s = (self.pause_s * 2).clamp(1, MAX_PAUSE_S);
        self.paused_until_ns = now_ns + self.pause_s * 1_000_000_000;
        if !self.complained && desk.problems.len() < MAX_PROBLEMS {
            self.complained = true;
            desk.problems.push(Problem { key: self.key, text: format!("{}: {text}", self.path) });
        }
    }
}

/// The file at `path`; none when it is gone.
fn opened(host: &Host, path: &str) -> io::Result<Option<(fs::File, Seen)>> {
    match segment::open(host, path) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error is that of one file, and will be the same the next time.
fn is_the_files(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied || error.raw_os_error() == Some(libc::EIO)
}

/// Whether the file at `path` is the one `entry` is about, and not another one under its number.
///
/// # Errors
/// When that cannot be said now.
fn is_same(host: &Host, path: &str, entry: &Entry) -> io::Result<bool> {
    match opened(host, path)? {
        // Nothing was read of it, so it does not matter whether it is the same.
        Some((file, seen)) if seen.id == entry.id && entry.position > 0 => {
            segment::holds(&file, entry.position, entry.head, entry.tail)
        }
        _ => Ok(false),
    }
}

/// What is remembered of a file that is as good as read; nothing of one that is gone.
fn as_read(sibling: &Sibling, host: &Host) -> io::Result<Option<Entry>> {
    let position = sibling.seen.size;
    let prints = opened(host, &sibling.path)
        .and_then(|opened| opened.map(|(file, _)| segment::prints(&file, position)).transpose());
    let (head, tail) = match prints {
        Ok(Some(prints)) => prints,
        Ok(None) => return Ok(None),
        Err(error) if is_the_files(&error) => Default::default(),
        Err(error) => return Err(error),
    };
    Ok(Some(Entry {
        id: sibling.seen.id,
        position,
        skip: super::frame::Skip::Nothing,
        written_ns: sibling.seen.written_ns,
        head,
        tail,
        done: true,
        origin: None,
    }))
}
