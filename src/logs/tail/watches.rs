//! Directories watched for what happens to files in them: one watch each, however many files are followed there.
//!
//! The kernel knows best which directory a path leads to: it is asked again and again, and says the same number for the same.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use crate::sys::inotify::{Inotify, Touch};

/// Of one watched directory: who follows the entry of a name.
type Directory = HashMap<Box<[u8]>, Vec<usize>>;

/// All watches.
#[derive(Debug)]
pub struct Watches {
    inotify: Option<Inotify>,
    directories: HashMap<i32, Directory>,
    /// Directories at most.
    limit: usize,
}

/// What became of a wish to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Watch of this number.
    Yes(i32),
    /// There are no more watches.
    NoneLeft,
    /// The directory is not there, or is none.
    NotThere,
}

/// Bufferfuls of changes read at once; each is some hundred.
const READS: usize = 16;

impl Watches {
    /// None yet, and never more than `limit`. Without inotify every wish is refused.
    pub fn new(limit: usize) -> Watches {
        let inotify = if limit > 0 { Inotify::open().ok() } else { None };
        Watches { inotify, directories: HashMap::new(), limit }
    }

    /// The descriptor that becomes readable when something happened.
    pub fn fd(&self) -> Option<RawFd> {
        self.inotify.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.directories.len()
    }

    /// Lets `follower` know what happens to `name` in `directory`.
    pub fn add(&mut self, directory: &Path, name: &str, follower: usize) -> Watched {
        let Some(inotify) = &self.inotify else {
            return Watched::NoneLeft;
        };
        let watch = match inotify.watch_files(directory) {
            Ok(watch) => watch,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::ENOMEM)) => {
                return Watched::NoneLeft;
            }
            Err(_) => return Watched::NotThere,
        };
        if self.directories.len() >= self.limit && !self.is_watch(watch) {
            inotify.unwatch(watch);
            return Watched::NoneLeft;
        }
        let followers = self.directories.entry(watch).or_default().entry(name.as_bytes().into()).or_default();
        if !followers.contains(&follower) {
            followers.push(follower);
        }
        Watched::Yes(watch)
    }

    /// Lets it be; the last one in a directory takes the watch along.
    pub fn remove(&mut self, watch: i32, name: &str, follower: usize) {
        let Some(directory) = self.directories.get_mut(&watch) else {
            return;
        };
        if let Some(followers) = directory.get_mut(name.as_bytes()) {
            followers.retain(|other| *other != follower);
            if followers.is_empty() {
                directory.remove(name.as_bytes());
            }
        }
        if directory.is_empty() {
            self.end(watch);
        }
    }

    fn end(&mut self, watch: i32) -> Option<Directory> {
        let directory = self.directories.remove(&watch)?;
        if let Some(inotify) = &self.inotify {
            inotify.unwatch(watch);
        }
        Some(directory)
    }

    /// Reads what happened and names the followers it may matter to, some of them twice; `None` means all.
    pub fn read(&mut self, mut each: impl FnMut(Option<usize>)) {
        let mut ended = Vec::new();
        if let Some(inotify) = &self.inotify {
            let directories = &self.directories;
            let mut reads = 0;
            while reads < READS
                && inotify.read_files(|touch| match touch {
                    Touch::Entry(watch, name) => {
                        let followers = directories.get(&watch).and_then(|directory| directory.get(name));
                        followers.into_iter().flatten().for_each(|follower| each(Some(*follower)));
                    }
                    Touch::Ended(watch) => ended.push(watch),
                    Touch::Overflow => each(None),
                })
            {
                reads += 1;
            }
        }
        for watch in ended {
            let directory = self.end(watch).unwrap_or_default();
            directory.values().flatten().for_each(|follower| each(Some(*follower)));
        }
    }

    /// Whether this watch is still one, as far as the kernel has told.
    pub fn is_watch(&self, watch: i32) -> bool {
        self.directories.contains_key(&watch)
    }
}
