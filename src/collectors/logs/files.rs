//! Which files are followed, and for which source: those that runtimes write for containers, and those containers write themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::os::fd::RawFd;

use super::sources::SourceId;
use crate::args::logs::Glob;
use crate::containers::identity::LogFormat;
use crate::containers::{InstanceId, owners};
use crate::host::{Host, read_bounded, seen_by};
use crate::limits;
use crate::logs::formats::{Format, cri, docker, local};
use crate::logs::tail::{Key, Start, Tail};
use crate::sys::clock::MonotonicNs;
use crate::world::World;

/// The label of what a runtime has taken from a container's outputs.
pub const OUTPUTS: &str = "stdout/stderr";

/// Where containers' logs are by custom. Not those that runtimes and journald write for others.
const LOGS: &str = "/var/log/";
const NOT_LOGS: [&str; 3] = ["/var/log/pods/", "/var/log/containers/", "/var/log/journal/"];

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

    /// Follows a file of an instance, unless it is followed already; false when there are too many.
    pub fn follow(
        &mut self,
        instance: InstanceId,
        source: SourceId,
        path: &str,
        format: &Format,
        start: Start,
    ) -> bool {
        let keys = self.by_instance.entry(instance).or_default();
        let is_known = |key: &Key| self.by_key.get(key).is_some_and(|file| &*file.path == path);
        if let Some(key) = keys.iter().find(|key| is_known(key)) {
            if let Some(file) = self.by_key.get_mut(key) {
                file.source = source;
            }
            return true;
        }
        if self.by_key.len() >= limits::LOG_FILES || keys.len() >= limits::LOG_FILES_PER_CONTAINER {
            self.refused += 1;
            return false;
        }
        self.next += 1;
        if self.tail.follow(self.next, path, format.framing, start) {
            keys.push(self.next);
            self.by_key.insert(self.next, File { source, path: path.into() });
        }
        true
    }

    /// True if the instance has this file already.
    pub fn has(&self, instance: InstanceId, path: &str) -> bool {
        let mut keys = self.by_instance.get(&instance).into_iter().flatten();
        keys.any(|key| self.by_key.get(key).is_some_and(|file| &*file.path == path))
    }

    /// The files of an instance have no more to come than they hold.
    pub fn end_instance(&mut self, instance: InstanceId) {
        for key in self.by_instance.get(&instance).into_iter().flatten() {
            self.tail.end(*key);
        }
    }

    /// Forgets files that were read to their end.
    pub fn sweep(&mut self) {
        let Files { tail, by_key, by_instance, .. } = self;
        by_key.retain(|key, _| tail.is_followed(*key));
        by_instance.retain(|_, keys| {
            keys.retain(|key| by_key.contains_key(key));
            !keys.is_empty()
        });
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

/// Finds files that containers' processes have open for writing: a few processes at each refresh, all in their turn.
#[derive(Default)]
pub struct OpenFiles {
    queue: VecDeque<InstanceId>,
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
    /// Looks at the next containers, new ones first.
    pub fn look(&mut self, world: &World, globs: &[Glob]) -> Vec<OpenFile> {
        if self.queue.is_empty() {
            self.queue.extend(world.containers.living().map(|(id, ..)| id));
        }
        let host_mounts = mounts_of(&world.host, 1);
        let mut budget = limits::LOG_FILES_LOOKED_AT;
        let mut found = Vec::new();
        while budget > 0
            && let Some(id) = self.queue.pop_front()
        {
            let Some(instance) = world.containers.instance(id).filter(|instance| instance.is_alive()) else {
                continue;
            };
            let pids = owners::processes(world, instance);
            // On hybrid hosts the processes of containers are listed for their runtime's unit too.
            let is_shared = instance.runtime.is_unit() && world.hierarchies.layout() == "hybrid";
            // The root of the process that came first lasts longest.
            let first = pids.iter().min().copied();
            for pid in pids {
                budget = budget.saturating_sub(1);
                let Ok(entries) = fs::read_dir(world.host.proc(&format!("{pid}/fd"))) else { continue };
                let mut paths: Vec<String> = Vec::new();
                for entry in entries.flatten() {
                    budget = budget.saturating_sub(1);
                    let target = fs::read_link(entry.path())
                        .ok()
                        .and_then(|path| path.into_os_string().into_string().ok());
                    let Some(path) = target.filter(|path| is_log(path, globs)) else { continue };
                    let number = entry.file_name();
                    let is_written =
                        number.to_str().is_some_and(|number| is_written(&world.host, pid, number));
                    if is_written && !paths.contains(&path) {
                        paths.push(path);
                    }
                }
                if paths.is_empty() || is_shared && owners::of_process(world, pid) != Some(id) {
                    continue;
                }
                let is_at_home = host_mounts.is_some() && mounts_of(&world.host, pid) == host_mounts;
                found.extend(paths.into_iter().map(|label| {
                    let path = if is_at_home { label.clone() } else { seen_by(first.unwrap_or(pid), &label) };
                    OpenFile { instance: id, label, path }
                }));
            }
        }
        found
    }

    /// A container that was just made comes first.
    pub fn begin(&mut self, instance: InstanceId) {
        self.queue.push_front(instance);
    }
}

fn mounts_of(host: &Host, pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(host.proc(&format!("{pid}/ns/mnt"))).ok()
}

fn is_log(path: &str, globs: &[Glob]) -> bool {
    let is_custom = path.starts_with(LOGS) && !NOT_LOGS.iter().any(|other| path.starts_with(other));
    (is_custom || globs.iter().any(|glob| glob.fits(path))) && !path.ends_with(" (deleted)")
}

/// Whether a descriptor is open for writing (`flags` in octal; Documentation/filesystems/proc.rst, 3.8).
fn is_written(host: &Host, pid: u32, number: &str) -> bool {
    let text = read_bounded(&host.proc(&format!("{pid}/fdinfo/{number}")), limits::KERNEL_FILE_BYTES);
    let text = text.unwrap_or_default();
    let flags = String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

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
