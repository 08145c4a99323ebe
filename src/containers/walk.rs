//! Walking a hierarchy: the directories there are, with their ids.

use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::{fs, io};

use crate::error::Reason;
use crate::host::unless_gone;
use crate::limits;

/// The id of the cgroup whose directory is `path`: its inode number (kernfs, Linux 5.5+).
///
/// # Errors
/// Those of stat.
pub fn id_of(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.ino())
}

/// Whether no directory is in this one: the kernel counts a link for its name, one for its `.`, and one for each in it (kernfs).
/// That is much less work than a list of its files.
fn is_leaf(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.nlink() == 2)
}

/// Whether links are counted below `mount`, which has directories in it. FUSE of lxcfs says 2 of each, others say 1.
fn counts_links(mount: &Path) -> bool {
    fs::metadata(mount).is_ok_and(|metadata| metadata.nlink() > 2)
}

/// How a walk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// All directories were looked into, but for those too deep; what was not visited is not there.
    pub complete: bool,
    /// Directories below [`limits::CGROUP_DEPTH`] were left out.
    pub cut: bool,
    /// A directory that is there could not be read now: another walk may find more.
    pub failed: bool,
}

impl Walked {
    /// All of it, so far.
    pub const WHOLE: Walked = Walked { complete: true, cut: false, failed: false };

    /// Both.
    pub fn and(self, other: Walked) -> Walked {
        Walked {
            complete: self.complete && other.complete,
            cut: self.cut || other.cut,
            failed: self.failed || other.failed,
        }
    }

    /// Nothing was left out.
    pub fn is_whole(self) -> bool {
        self == Walked::WHOLE
    }

    /// Takes note of an error. A directory that vanished is none, nor is one nobody may see; otherwise nothing is known about what
    /// is in there.
    fn note(&mut self, error: &io::Error) {
        let reason = Reason::of_errno(error.raw_os_error().unwrap_or(0));
        if !matches!(reason, Reason::NotFound | Reason::NoPermission) {
            (self.complete, self.failed) = (false, true);
        }
    }
}

/// Visits `start` (a path below `mount` with a leading slash, or `""` for all) and every directory below it, parents first,
/// with id and path.
pub fn walk(mount: &Path, start: &str, mut visit: impl FnMut(u64, &str)) -> Walked {
    let mut walked = Walked::WHOLE;
    let mut path = start.to_owned();
    if !start.is_empty() {
        match unless_gone(id_of(&mount.join(start.trim_start_matches('/')))) {
            Ok(Some(id)) => visit(id, start),
            Ok(None) => return walked,
            Err(error) => {
                walked.note(&error);
                return walked;
            }
        }
    }
    let mut visited = 0;
    let counts_links = counts_links(mount);
    let has_more = |directory: &Path| !counts_links || !is_leaf(directory);
    descend(mount, &mut path, 0, &mut visited, &mut walked, &has_more, &mut visit);
    walked
}

fn descend(
    mount: &Path,
    path: &mut String,
    depth: usize,
    visited: &mut usize,
    walked: &mut Walked,
    has_more: &impl Fn(&Path) -> bool,
    visit: &mut impl FnMut(u64, &str),
) {
    let directory = mount.join(path.trim_start_matches('/'));
    if !has_more(&directory) {
        return;
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return walked.note(&error),
    };
    let mut children: Vec<(String, u64)> = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                walked.note(&error);
                break;
            }
        };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // No runtime makes names that are not UTF-8.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        *visited += 1;
        if *visited > limits::CGROUPS {
            walked.complete = false;
            return;
        }
        children.push((name, entry.ino()));
    }
    // One deep subtree, which any user with a delegated cgroup can make, says nothing about the others.
    if depth >= limits::CGROUP_DEPTH {
        walked.cut |= !children.is_empty();
        return;
    }
    children.sort_unstable();
    for (name, id) in children {
        let length = path.len();
        path.push('/');
        path.push_str(&name);
        visit(id, path);
        descend(mount, path, depth + 1, visited, walked, has_more, visit);
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_files_do_not_count() {
        let root = std::env::temp_dir().join(format!("nodeprobe-walk-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("a/cgroup.procs"), "").unwrap();
        let mut seen = Vec::new();
        let same = |id, path: &str| id == id_of(&root.join(&path[1..])).unwrap();
        assert!(walk(&root, "", |id, path| seen.push((path.to_owned(), same(id, path)))).is_whole());
        assert_eq!(seen, ["/a", "/a/b", "/a/b/c", "/d"].map(|path| (path.to_owned(), true)));
        seen.clear();
        assert!(walk(&root, "/a/b", |_, path| seen.push((path.to_owned(), true))).is_whole());
        assert_eq!(seen, ["/a/b", "/a/b/c"].map(|path| (path.to_owned(), true)));
        assert!(walk(&root, "/gone", |_, path| panic!("{path}")).is_whole());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_deep_subtree_is_cut_and_hides_nothing_else() {
        let root = std::env::temp_dir().join(format!("nodeprobe-deep-{}", std::process::id()));
        fs::create_dir_all(root.join("d/".repeat(limits::CGROUP_DEPTH))).unwrap();
        fs::create_dir_all(root.join("z")).unwrap();
        let mut last = String::new();
        assert!(walk(&root, "", |_, path| last = path.to_owned()).is_whole());
        fs::create_dir_all(root.join("d/".repeat(limits::CGROUP_DEPTH + 3))).unwrap();
        let walked = walk(&root, "", |_, path| last = path.to_owned());
        assert_eq!((walked, last.as_str()), (Walked { cut: true, ..Walked::WHOLE }, "/z"));
        fs::remove_dir_all(&root).unwrap();
    }
}
