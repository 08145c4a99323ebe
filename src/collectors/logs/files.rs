//! Which files are followed, and for which source: those that runtimes write for containers, and those containers write themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::os::fd::RawFd;
use std::path::PathBuf;

use super::sources::SourceId;
use crate::args::logs::Glob;
use crate::containers::identity::LogFormat;
use crate::containers::owners::Deserted;
use crate::containers::sweep::Slice;
use crate::containers::{InstanceId, mounts, owners};
use crate::host::{Host, read_bounded, seen_by};
use crate::limits;
use crate::logs::formats::{Format, cri, docker, local};
use crate::logs::tail::{Key, Start, Tail};
use crate::memory::{self, Use};
use crate::procfs::mountinfo;
use crate::sys::clock::MonotonicNs;
use crate::world::World;

/// The label of what a runtime has taken from a container's outputs.
pub const OUTPUTS: &str = "stdout/stderr";

/// Where containers' logs are by custom. Not those that runtimes and journald write for others.
const LOGS: &str = "/var/log/";
const NOT_LOGS: [&str; 3] = ["/var/log/pods/", "/var/log/containers/", "/var/log/journal/"];

/// Processes of a container looked at however long it takes.
const PROCESSES_AT_LEAST: usize = 16;

/// How a runtime's format is read.
pub fn format_of(format: LogFormat) -> &'static Format {
    match format {
        LogFormat::DockerJson => &docker::FORMAT,
        LogFormat::DockerLocal => &local::FORMAT,
        LogFormat::Cri => &cri::FORMAT,
    }
}

#[derive(Debug)]
struct File {
    source: SourceId,
    path: Box<str>,
    /// For what a container writes itself: its path as the writer knows it, and when somebody was seen to have it open.
    own: Option<(Box<str>, MonotonicNs)>,
}

/// The files.
pub struct Files {
    tail: Tail,
    next: Key,
    by_key: HashMap<Key, File>,
    by_instance: BTreeMap<InstanceId, Vec<Key>>,
    /// Files that were not followed because there were too many.
    pub refused: u64,
}

impl Files {
    /// None yet.
    pub fn new(tail: Tail) -> Files {
        Files { tail, next: 0, by_key: HashMap::new(), by_instance: BTreeMap::new(), refused: 0 }
    }

    /// The follower.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// True while the file to which a runtime writes what the instance says may be followed, or is.
    pub fn has_room_for_outputs(&self, instance: InstanceId, path: &str) -> bool {
        self.outputs_of(instance, path).is_some() || self.has_room(instance, limits::LOG_FILES)
    }

    /// True while one more file that the instance writes itself may be followed; counts it as refused otherwise. Some room is left
    /// for what runtimes write: many files of a few do not keep others from having one.
    pub fn has_room_for_own(&mut self, instance: InstanceId) -> bool {
        let has_room = self.has_room(instance, limits::LOG_FILES / 4 * 3);
        self.refused += u64::from(!has_room);
        has_room
    }

    fn has_room(&self, instance: InstanceId, files: usize) -> bool {
        let keys = self.by_instance.get(&instance).map_or(0, Vec::len);
        self.by_key.len() < files && keys < limits::LOG_FILES_PER_CONTAINER && memory::admits(Use::Keys)
    }

    fn outputs_of(&self, instance: InstanceId, path: &str) -> Option<Key> {
        self.key_of(instance, |file| file.own.is_none() && &*file.path == path)
    }

    /// Follows the file to which a runtime writes what an instance says; whose file that was before goes on from there.
    pub fn follow_outputs(
        &mut self,
        instance: InstanceId,
        source: SourceId,
        path: &str,
        format: &Format,
        start: Start,
        trusts_links: bool,
    ) {
        if let Some(key) = self.outputs_of(instance, path) {
            if let Some(file) = self.by_key.get_mut(&key) {
                file.source = source;
            }
            return;
        }
        if let Some(key) = self.begin(instance, source, path, format, start, None)
            && !trusts_links
        {
            self.tail.refuse_links(key);
        }
    }

    /// Follows a file that a container writes itself. Its directories are the container's: no link is followed there.
    pub fn follow_own(
        &mut self,
        file: &OpenFile,
        source: SourceId,
        format: &Format,
        start: Start,
        now_ns: MonotonicNs,
    ) {
        let own = Some((Box::from(&*file.label), now_ns));
        // The one of an instance that has just ended: the container was started again.
        let is_it = |(_, known): &(&Key, &File)| {
            known.source == source && known.own.as_ref().is_some_and(|(label, _)| **label == file.label)
        };
        if let Some(old) = self.by_key.iter().find(is_it).map(|(key, _)| *key) {
            self.next += 1;
            if self.tail.adopt(old, self.next, &file.path) {
                self.by_key.remove(&old);
                self.by_key.insert(self.next, File { source, path: file.path.as_str().into(), own });
                self.by_instance.entry(file.instance).or_default().push(self.next);
                return;
            }
        }
        if let Some(key) = self.begin(file.instance, source, &file.path, format, start, own) {
            self.tail.refuse_links(key);
        }
    }

    /// True if the instance's own file is followed already; takes note that it is still open, and by which path it is reached.
    pub fn sees(&mut self, file: &OpenFile, now_ns: MonotonicNs) -> bool {
        let is_it = |known: &File| known.own.as_ref().is_some_and(|(label, _)| **label == file.label);
        let Some(key) = self.key_of(file.instance, is_it) else {
            return false;
        };
        if let Some(known) = self.by_key.get_mut(&key) {
            if let Some((_, seen_ns)) = &mut known.own {
                *seen_ns = now_ns;
            }
            // The process whose root it was reached by is gone.
            if *known.path != file.path {
                known.path = file.path.as_str().into();
                self.tail.retarget(key, &file.path);
            }
        }
        true
    }

    fn key_of(&self, instance: InstanceId, is_it: impl Fn(&File) -> bool) -> Option<Key> {
        let mut keys = self.by_instance.get(&instance)?.iter().copied();
        keys.find(|key| self.by_key.get(key).is_some_and(&is_it))
    }

    fn begin(
        &mut self,
        instance: InstanceId,
        source: SourceId,
        path: &str,
        format: &Format,
        start: Start,
        own: Option<(Box<str>, MonotonicNs)>,
    ) -> Option<Key> {
        self.next += 1;
        let key = self.next;
        if !self.tail.follow(key, path, format.framing, start) {
            return None;
        }
        self.by_instance.entry(instance).or_default().push(key);
        self.by_key.insert(key, File { source, path: path.into(), own });
        Some(key)
    }

    /// Has the files of an instance count for other sources, where `other` gives one.
    pub fn move_instance(
        &mut self,
        instance: InstanceId,
        mut other: impl FnMut(SourceId) -> Option<SourceId>,
    ) {
        for key in self.by_instance.get(&instance).into_iter().flatten() {
            if let Some(file) = self.by_key.get_mut(key) {
                file.source = other(file.source).unwrap_or(file.source);
            }
        }
    }

    /// The files of an instance have no more to come than they hold.
    pub fn end_instance(&mut self, instance: InstanceId) {
        for key in self.by_instance.get(&instance).into_iter().flatten() {
            self.tail.end(*key);
        }
    }

    /// Forgets files that were read to their end, and ends those nobody has had open for long; gives the sources that have no file
    /// any more.
    pub fn sweep(&mut self, now_ns: MonotonicNs) -> Vec<SourceId> {
        let Files { tail, by_key, by_instance, .. } = self;
        let idle_ns = limits::LOG_FILE_IDLE_TIME.as_nanos() as u64;
        let mut gone = Vec::new();
        by_key.retain(|key, file| {
            if file.own.as_ref().is_some_and(|(_, seen_ns)| seen_ns + idle_ns <= now_ns) {
                tail.end(*key);
            }
            let is_followed = tail.is_followed(*key);
            if !is_followed {
                gone.push(file.source);
            }
            is_followed
        });
        if gone.is_empty() {
            return gone;
        }
        by_instance.retain(|_, keys| {
            keys.retain(|key| by_key.contains_key(key));
            !keys.is_empty()
        });
        gone.retain(|source| by_key.values().all(|file| file.source != *source));
        gone
    }

    /// Stops following what belongs to no source any more.
    pub fn keep_sources(&mut self, is_there: impl Fn(SourceId) -> bool) {
        for (key, _) in self.by_key.iter().filter(|(_, file)| !is_there(file.source)) {
            self.tail.end(*key);
        }
    }

    /// Reads what there is, up to the bounds of a turn; hands each record to `each` with its source.
    pub fn turn(&mut self, now_ns: MonotonicNs, mut each: impl FnMut(SourceId, &[u8])) {
        let by_key = &self.by_key;
        self.tail.turn(now_ns, &mut |key, record| {
            if let Some(file) = by_key.get(&key) {
                each(file.source, record.data);
            }
        });
    }

    /// The descriptor to wait for.
    pub fn fd(&self, now_ns: MonotonicNs) -> Option<RawFd> {
        self.tail.fd(now_ns)
    }

    /// Problems, each with the path.
    pub fn take_problems(&mut self) -> Vec<String> {
        self.tail.take_problems().into_iter().map(|problem| problem.text).collect()
    }
}

/// Finds files that containers' processes have open for writing: at each refresh in all young containers, and in so many of the
/// others that each has its turn within [`limits::LOG_LOOK_TIME`].
#[derive(Default)]
pub struct OpenFiles {
    /// Those that began not long ago, with the time at which they are no longer young; who was looked into goes to the back.
    young: VecDeque<(InstanceId, MonotonicNs)>,
    /// Those whose turn is still to come.
    queue: VecDeque<InstanceId>,
    /// How many those were when the first had its turn.
    all: usize,
    looked_ns: MonotonicNs,
    deserted: Deserted,
}

/// A file somebody writes.
pub struct OpenFile {
    /// Whose.
    pub instance: InstanceId,
    /// Its path as the writer knows it.
    pub label: String,
    /// Its path on the host.
    pub path: String,
}

impl OpenFiles {
    /// Looks into the next containers, each time as long as a [`Slice`] for young ones and for others.
    pub fn look(&mut self, world: &World, globs: &[Glob]) -> Vec<OpenFile> {
        let mut view = View {
            world,
            globs,
            host_mounts: mounts_of(&world.host, 1),
            budget: limits::LOG_FILES_LOOKED_AT,
            found: Vec::new(),
        };
        let mut slice = Slice::begin();
        for _ in 0..self.young.len() {
            let Some(young) = self.young.pop_front_if(|_| view.budget > 0 && slice.has_room()) else { break };
            if young.1 > world.now_ns && world.containers.is_alive(young.0) {
                view.look_into(young.0, &mut self.deserted, &mut slice);
                self.young.push_back(young);
            }
        }
        view.budget = limits::LOG_FILES_LOOKED_AT;
        let mut slice = Slice::begin();
        for _ in 0..self.share(world) {
            let Some(id) = self.queue.pop_front_if(|_| view.budget > 0 && slice.has_room()) else { break };
            view.look_into(id, &mut self.deserted, &mut slice);
        }
        view.found
    }

    /// How many of the queue are due.
    fn share(&mut self, world: &World) -> usize {
        if self.queue.is_empty() {
            self.queue.extend(world.containers.living().map(|(id, ..)| id));
            self.all = self.queue.len();
        }
        let time_ns = limits::LOG_LOOK_TIME.as_nanos() as u64;
        let since_ns = world.now_ns.saturating_sub(self.looked_ns).min(time_ns);
        self.looked_ns = world.now_ns;
        let share = (self.all as u64 * since_ns).div_ceil(time_ns) as usize;
        share.max(limits::LOG_LOOKS_AT_LEAST)
    }

    /// A container has begun: what it writes is looked for at once, and again and again for a while.
    pub fn begin(&mut self, instance: InstanceId, now_ns: MonotonicNs) {
        self.young.push_back((instance, now_ns + limits::LOG_LOOK_TIME.as_nanos() as u64));
    }

    /// Forgets a container.
    pub fn end_instance(&mut self, instance: InstanceId) {
        self.deserted.end_instance(instance);
    }
}

/// One refresh's looking around.
struct View<'a> {
    world: &'a World,
    globs: &'a [Glob],
    host_mounts: Option<PathBuf>,
    /// Processes and files that may still be looked at.
    budget: usize,
    found: Vec<OpenFile>,
}

impl View<'_> {
    fn look_into(&mut self, id: InstanceId, deserted: &mut Deserted, slice: &mut Slice) {
        let world = self.world;
        let Some(instance) = world.containers.instance(id).filter(|instance| instance.is_alive()) else {
            return;
        };
        slice.count();
        let Ok(mut pids) = deserted.processes(world, id, instance) else { return };
        // The root of the process that came first lasts longest.
        pids.sort_unstable();
        // On hybrid hosts the processes of containers are listed for their runtime's unit too.
        let is_shared = instance.runtime.is_unit() && world.hierarchies.layout() == "hybrid";
        // Some processes of a container with thousands tell enough.
        for (number, &pid) in pids.iter().take(limits::LOG_PROCESSES_LOOKED_AT).enumerate() {
            if number >= PROCESSES_AT_LEAST && slice.is_late() {
                break;
            }
            let paths = written(&world.host, pid, self.globs, &mut self.budget);
            if paths.is_empty() || is_shared && owners::of_process(world, pid).ok().flatten() != Some(id) {
                continue;
            }
            let mounts = mounts_of(&world.host, pid);
            let is_at_home = self.host_mounts.is_some() && mounts == self.host_mounts;
            let root = || {
                let first = pids.iter().find(|&&first| mounts_of(&world.host, first) == mounts);
                first.copied().unwrap_or(pid)
            };
            self.found.extend(paths.into_iter().map(|label| {
                let path = if is_at_home { label.clone() } else { seen_by(root(), &label) };
                OpenFile { instance: id, label, path }
            }));
        }
    }
}

/// The log files a process has open for writing, in file systems that answer at once.
fn written(host: &Host, pid: u32, globs: &[Glob], budget: &mut usize) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    *budget = budget.saturating_sub(1);
    let mut mounts = None;
    for entry in fs::read_dir(host.proc(&format!("{pid}/fd"))).into_iter().flatten().flatten() {
        if *budget == 0 {
            break;
        }
        *budget -= 1;
        let target = fs::read_link(entry.path()).ok();
        let path = target.and_then(|path| path.into_os_string().into_string().ok());
        let Some(path) = path.filter(|path| is_log(path, globs) && !paths.contains(path)) else { continue };
        let number = entry.file_name();
        let Some(mount) = number.to_str().and_then(|number| written_in(host, pid, number)) else { continue };
        let table = mounts.get_or_insert_with(|| {
            read_bounded(&host.proc(&format!("{pid}/mountinfo")), limits::KERNEL_FILE_BYTES)
                .unwrap_or_default()
        });
        if leads_to(table, mount, &path) {
            paths.push(path);
        }
    }
    paths
}

/// Whether `path` is in the mount with the number `mount`, and that and all it is reached through answer at once.
fn leads_to(table: &[u8], mount: u32, path: &str) -> bool {
    let is_on_the_way = |point: &str| {
        path.strip_prefix(point.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut is_found = false;
    let hangs = mountinfo::parse(table).filter(|entry| is_on_the_way(&entry.mount_point)).any(|entry| {
        is_found |= entry.mount_id == mount && answers_at_once(&entry.fs_type);
        may_hang(&entry.fs_type)
    });
    is_found && !hangs
}

/// Whether a file system asks another machine or a program, so that a walk through its directories can hang. Unlike files on
/// it, which are read only where it is known for good, roots of all other kinds are walked through.
fn may_hang(kind: &str) -> bool {
    const REMOTE: &[&str] =
        &["nfs", "fuse", "cifs", "smb", "9p", "ceph", "afs", "virtiofs", "lustre", "gfs2", "ocfs2", "autofs"];
    REMOTE.iter().any(|prefix| kind.starts_with(prefix))
}

/// Whether a file system is this machine's own: a network file system, or one of a program's, can hang.
fn answers_at_once(kind: &str) -> bool {
    mounts::LOCAL.contains(&kind) || matches!(kind, "overlay" | "tmpfs" | "aufs")
}

fn mounts_of(host: &Host, pid: u32) -> Option<PathBuf> {
    fs::read_link(host.proc(&format!("{pid}/ns/mnt"))).ok()
}

fn is_log(path: &str, globs: &[Glob]) -> bool {
    let is_custom = path.starts_with(LOGS) && !NOT_LOGS.iter().any(|other| path.starts_with(other));
    (is_custom || globs.iter().any(|glob| glob.fits(path))) && !path.ends_with(" (deleted)")
}

/// The mount of a descriptor that is open for writing (`flags` in octal, `mnt_id`; Documentation/filesystems/proc.rst, 3.8).
fn written_in(host: &Host, pid: u32, number: &str) -> Option<u32> {
    let text = read_bounded(&host.proc(&format!("{pid}/fdinfo/{number}")), limits::KERNEL_FILE_BYTES).ok()?;
    let text = String::from_utf8_lossy(&text);
    let value = |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    let flags = i32::from_str_radix(&value("flags:")?, 8).ok()?;
    (flags & libc::O_ACCMODE != libc::O_RDONLY).then_some(value("mnt_id:")?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_file_system_that_can_hang_is_left_alone() {
        let table = b"21 1 0:20 / / rw - overlay overlay rw\n22 21 0:21 / /var/log rw - tmpfs tmpfs rw\n\
            23 21 0:22 / /mnt/far rw - nfs4 far:/ rw\n24 23 0:23 / /mnt/far/log rw - tmpfs tmpfs rw\n";
        assert!(leads_to(table, 22, "/var/log/a.log") && leads_to(table, 21, "/var/logs/a.log"));
        for (mount, path) in
            [(23, "/mnt/far/a.log"), (24, "/mnt/far/log/a.log"), (21, "/mnt/far/a.log"), (9, "/a")]
        {
            assert!(!leads_to(table, mount, path), "{path}");
        }
    }

    #[test]
    fn logs_are_told_from_other_files() {
        let globs = [Glob::new("/srv/*.log").unwrap()];
        for log in ["/var/log/nginx/access.log", "/srv/app.log"] {
            assert!(is_log(log, &globs), "{log}");
        }
        for other in [
            "/var/log/pods/a/b/0.log",
            "/var/log/journal/x",
            "/var/lib/a",
            "/var/log/a (deleted)",
            "pipe:[1]",
        ] {
            assert!(!is_log(other, &globs), "{other}");
        }
    }
}
