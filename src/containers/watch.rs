//! Learning of cgroups as they come and go: from BPF, else inotify, else by walking again and again.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};

use super::Containers;
use super::hierarchies::{Hierarchies, Place};
use super::walk::{self, Walked};
use crate::error::{Context, Error, Reason, Result};
use crate::host::{Host, read_bounded};
use crate::limits;
use crate::memory::{self, Use};
use crate::procfs::mountinfo;
use crate::sys::bpf::{Links, Map, Object, Ring};
use crate::sys::clock::MonotonicNs;
use crate::sys::inotify::{Change, Inotify};

/// How this process learns of cgroups.
pub enum Watch {
    /// The kernel tells of each with its id, even of those that live for milliseconds.
    Bpf(Box<BpfWatch>),
    /// inotify tells of new directories; those made before their parent's watch are found by a walk.
    Inotify(InotifyWatch),
    /// Nothing tells: every refresh walks.
    Walk,
}

impl Watch {
    /// The best way that works here, and why better ones do not.
    pub fn open(hierarchies: &Hierarchies, live: bool) -> (Watch, Vec<Error>) {
        let mut problems = Vec::new();
        if !live {
            return (Watch::Walk, problems);
        }
        let opened = match hidden_root(hierarchies) {
            Some(error) => Err(error),
            None => BpfWatch::open(hierarchies),
        };
        match opened {
            Ok(watch) => return (Watch::Bpf(Box::new(watch)), problems),
            Err(error) => problems.push(error),
        }
        match InotifyWatch::open() {
            Ok(watch) => return (Watch::Inotify(watch), problems),
            Err(error) => problems.push(error),
        }
        (Watch::Walk, problems)
    }

    /// The word for metrics and people.
    pub fn door(&self) -> &'static str {
        match self {
            Watch::Bpf(_) => "bpf",
            Watch::Inotify(_) => "inotify",
            Watch::Walk => "walk",
        }
    }

    /// The descriptor that becomes readable when there is news.
    pub fn fd(&self) -> Option<RawFd> {
        match self {
            Watch::Bpf(watch) => Some(watch.ring.as_raw_fd()),
            Watch::Inotify(watch) => Some(watch.inotify.as_raw_fd()),
            Watch::Walk => None,
        }
    }

    /// Maps this process keeps in the kernel for it.
    pub fn maps(&self) -> Vec<RawFd> {
        match self {
            Watch::Bpf(watch) => watch.maps.iter().map(AsRawFd::as_raw_fd).collect(),
            _ => Vec::new(),
        }
    }

    /// Records the kernel had no room for since the start.
    pub fn lost_records(&self) -> u64 {
        match self {
            Watch::Bpf(watch) => watch.seen_lost,
            _ => 0,
        }
    }

    /// Takes what news there is, up to a bound; true when only a walk can tell what happened.
    pub fn read(
        &mut self,
        hierarchies: &Hierarchies,
        containers: &mut Containers,
        now_ns: MonotonicNs,
    ) -> bool {
        match self {
            Watch::Bpf(watch) => watch.read(hierarchies, containers, now_ns),
            Watch::Inotify(watch) => watch.read(hierarchies, containers, now_ns),
            Watch::Walk => true,
        }
    }

    /// Walks all hierarchies and makes `containers` what is there.
    ///
    /// Gives what it left out.
    pub fn walk(
        &mut self,
        hierarchies: &Hierarchies,
        containers: &mut Containers,
        now_ns: MonotonicNs,
    ) -> Walked {
        let mut all = Walked::WHOLE;
        if let Watch::Inotify(watch) = self {
            watch.begin_walk();
        }
        for (place, mount) in hierarchies.searched() {
            let mut found = Vec::new();
            if let Watch::Inotify(watch) = self {
                watch.add(hierarchies, place, "");
            }
            let walked = walk::walk(mount, "", |id, path| {
                found.push(id);
                if let Watch::Inotify(watch) = self {
                    watch.add(hierarchies, place, path);
                }
                containers.appeared(place, id, path, |_| None, now_ns);
            });
            found.sort_unstable();
            if walked.complete {
                containers.keep_only(place, &found, walked.cut, now_ns);
            }
            all = all.and(walked);
        }
        if let (Watch::Inotify(watch), true) = (self, all.complete) {
            watch.end_walk();
        }
        all
    }
}

/// Why the kernel's paths would not be those seen below the mounts: in a cgroup namespace a mount begins at its own root.
fn hidden_root(hierarchies: &Hierarchies) -> Option<Error> {
    let table = read_bounded(&Host::own("mountinfo"), limits::KERNEL_FILE_BYTES).ok()?;
    hierarchies.searched().find_map(|(_, directory)| {
        let directory = directory.to_str()?;
        let directory = directory.trim_end_matches('/');
        let mount = mountinfo::parse(&table).find(|mount| mount.mount_point == directory)?;
        let line = format!("{directory} shows only {} of the hierarchy", mount.root);
        // Above the own root, seen from a cgroup namespace below, is the host's.
        let is_all = mount.root.split('/').all(|part| matches!(part, "" | ".."));
        (!is_all).then(|| Error::new(Reason::NotSupported, line))
    })
}

/// The program in `bpf/cgroups.bpf.c`.
pub struct BpfWatch {
    ring: Ring,
    lost: Map,
    seen_lost: u64,
    maps: [Map; 2],
    _links: Links,
}

const EVENT_MKDIR: u16 = 1;
const EVENT_RMDIR: u16 = 2;

/// `struct record` of `bpf/cgroups.bpf.c`.
struct Record<'a> {
    id: u64,
    hierarchy: u32,
    kind: u16,
    path: &'a str,
}

impl<'a> Record<'a> {
    fn decode(data: &'a [u8]) -> Option<Record<'a>> {
        let (id, rest) = data.split_first_chunk()?;
        let (hierarchy, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let path = rest.get(..usize::from(u16::from_ne_bytes(*length)))?;
        Some(Record {
            id: u64::from_ne_bytes(*id),
            hierarchy: u32::from_ne_bytes(*hierarchy),
            kind: u16::from_ne_bytes(*kind),
            path: std::str::from_utf8(path).ok()?,
        })
    }
}

impl BpfWatch {
    fn open(hierarchies: &Hierarchies) -> Result<BpfWatch> {
        static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cgroups.bpf.o.gz"));
        let mut object = Object::open("cgroups", OBJECT)?;
        let mut settings = [0u8; 16];
        let numbers = Place::ALL.map(|place| hierarchies.number(place).map_or(-1, |number| number as i32));
        for (slot, number) in settings.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *slot = number.to_ne_bytes();
        }
        object.set_constants(&settings)?;
        let loaded = object.load().context("cgroups.bpf.c")?;
        let records = loaded.map("records")?;
        let ring = Ring::open(&records)?;
        let lost = loaded.map("lost")?;
        let maps = [records, loaded.map("scratch")?];
        let links = loaded.attach().context("cgroups.bpf.c")?;
        Ok(BpfWatch { ring, lost, seen_lost: 0, maps, _links: links })
    }

    fn read(&mut self, hierarchies: &Hierarchies, containers: &mut Containers, now_ns: MonotonicNs) -> bool {
        let mut walk = false;
        self.ring.consume(limits::CGROUP_EVENTS_PER_TURN, |data| {
            let Some(record) = Record::decode(data) else {
                walk = true;
                return;
            };
            let Some(place) = hierarchies.place_of(record.hierarchy) else {
                return;
            };
            match record.kind {
                // A path too long for the record.
                EVENT_MKDIR if record.path.is_empty() => walk = true,
                EVENT_MKDIR => {
                    let root_id = |root: &str| {
                        walk::id_of(&hierarchies.directory(place)?.join(root.trim_start_matches('/'))).ok()
                    };
                    containers.appeared(place, record.id, record.path, root_id, now_ns);
                }
                EVENT_RMDIR => containers.removed(place, record.id, now_ns),
                _ => walk = true,
            }
        });
        let lost = self.lost_records();
        walk |= lost != self.seen_lost;
        self.seen_lost = lost;
        walk
    }

    fn lost_records(&self) -> u64 {
        let value = self.lost.get(&[0; 4]).ok().flatten();
        value.and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?))).unwrap_or(self.seen_lost)
    }
}

/// Watches on every directory of the searched hierarchies.
pub struct InotifyWatch {
    inotify: Inotify,
    directories: HashMap<i32, Watched>,
    /// Out of watches: some directories go unwatched.
    incomplete: bool,
    /// The walk that is under way, or was the last.
    walk: u32,
}

struct Watched {
    place: Place,
    path: Box<str>,
    /// The walk that found it last.
    walk: u32,
}

impl InotifyWatch {
    fn open() -> Result<InotifyWatch> {
        let inotify = Inotify::open().context("inotify")?;
        Ok(InotifyWatch { inotify, directories: HashMap::new(), incomplete: false, walk: 0 })
    }

    /// A walk tries again what was out of watches or of memory.
    fn begin_walk(&mut self) {
        self.incomplete = false;
        self.walk = self.walk.wrapping_add(1);
    }

    /// What a whole walk did not find is gone, if the kernel had no room to say so.
    fn end_walk(&mut self) {
        self.directories.retain(|&number, watched| {
            let is_there = watched.walk == self.walk;
            if !is_there {
                self.inotify.unwatch(number);
                memory::give_back(memory::WATCH_BYTES);
            }
            is_there
        });
    }

    fn add(&mut self, hierarchies: &Hierarchies, place: Place, path: &str) {
        let Some(mount) = hierarchies.directory(place) else {
            return;
        };
        match self.inotify.watch_children(&mount.join(path.trim_start_matches('/'))) {
            // It has one number for as long as it is there.
            Ok(number) => {
                if let Some(watched) = self.directories.get_mut(&number) {
                    // Cgroups of v1 can be given another name.
                    if *watched.path != *path {
                        watched.path = path.into();
                    }
                    watched.walk = self.walk;
                } else if self.directories.len() >= limits::CGROUP_WATCHES || !memory::admits(Use::Keys) {
                    self.inotify.unwatch(number);
                    self.incomplete = true;
                } else {
                    memory::hold(memory::WATCH_BYTES);
                    self.directories.insert(number, Watched { place, path: path.into(), walk: self.walk });
                }
            }
            // A directory that is gone needs no watch.
            Err(error) => {
                self.incomplete |=
                    Reason::of_errno(error.raw_os_error().unwrap_or(0)) == Reason::ResourceLimit
            }
        }
    }

    fn read(&mut self, hierarchies: &Hierarchies, containers: &mut Containers, now_ns: MonotonicNs) -> bool {
        let mut walk = self.incomplete && memory::has_recovered();
        let mut created = Vec::new();
        let mut ended = Vec::new();
        let directories = &self.directories;
        self.inotify.read(|change| match change {
            Change::Created(watch, name) => {
                if let (Some(parent), Ok(name)) = (directories.get(&watch), std::str::from_utf8(name)) {
                    created.push((parent.place, format!("{}/{name}", parent.path)));
                }
            }
            // The name alone does not give the id.
            Change::Removed(..) | Change::Overflow => walk = true,
            Change::Ended(watch) => ended.push(watch),
        });
        for watch in ended {
            if self.directories.remove(&watch).is_some() {
                memory::give_back(memory::WATCH_BYTES);
            }
        }
        for (place, path) in created {
            let Some(mount) = hierarchies.directory(place) else {
                continue;
            };
            // The watch first, then the walk: a child made in between is seen by one of them.
            self.add(hierarchies, place, &path);
            let walked = walk::walk(mount, &path, |id, path| {
                self.add(hierarchies, place, path);
                containers.appeared(place, id, path, |_| None, now_ns);
            });
            walk |= !walked.complete;
        }
        walk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_bytes_decode_or_do_not() {
        let mut data = Vec::new();
        data.extend_from_slice(&7u64.to_ne_bytes());
        data.extend_from_slice(&3u32.to_ne_bytes());
        data.extend_from_slice(&EVENT_MKDIR.to_ne_bytes());
        data.extend_from_slice(&5u16.to_ne_bytes());
        data.extend_from_slice(b"/a/bc");
        let record = Record::decode(&data).unwrap();
        assert_eq!((record.id, record.hierarchy, record.kind, record.path), (7, 3, EVENT_MKDIR, "/a/bc"));
        for length in 0..data.len() {
            assert!(Record::decode(&data[..length]).is_none());
        }
    }
}
