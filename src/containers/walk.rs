//! Walking a hierarchy: the directories there are, with their ids.

use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

use crate::error::Reason;
use crate::limits;

/// The id of the cgroup whose directory is `path`: its inode number (kernfs, Linux 5.5+).
pub fn id_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Visits `start` (a path below `mount` with a leading slash, or `""` for all) and every directory below it, parents first,
/// with id and path. Gives false when a cap, or want of descriptors, cut the walk short.
pub fn walk(mount: &Path, start: &str, mut visit: impl FnMut(u64, &str)) -> bool {
    let mut path = start.to_owned();
    if !start.is_empty() {
        let Some(id) = id_of(&mount.join(start.trim_start_matches('/'))) else {
            return true;
        };
        visit(id, start);
    }
    let mut visited = 0;
    descend(mount, &mut path, 0, &mut visited, &mut visit)
}

fn descend(
    mount: &Path,
    path: &mut String,
    depth: usize,
    visited: &mut usize,
    visit: &mut impl FnMut(u64, &str),
) -> bool {
    let entries = match fs::read_dir(mount.join(path.trim_start_matches('/'))) {
        Ok(entries) => entries,
        // A directory that vanished is no error; without descriptors to look, nothing is known about what is in there.
        Err(error) => return Reason::of_errno(error.raw_os_error().unwrap_or(0)) != Reason::ResourceLimit,
    };
    let mut children: Vec<(String, u64)> = Vec::new();
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // No runtime makes names that are not UTF-8.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        *visited += 1;
        if *visited > limits::CGROUPS {
            return false;
        }
        children.push((name, entry.ino()));
    }
    children.sort_unstable();
    let mut complete = true;
    for (name, id) in children {
        let length = path.len();
        path.push('/');
        path.push_str(&name);
        visit(id, path);
        complete &= depth + 1 < limits::CGROUP_DEPTH && descend(mount, path, depth + 1, visited, visit);
        path.truncate(length);
    }
    complete
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
        assert!(walk(&root, "", |id, path| seen
            .push((path.to_owned(), id == id_of(&root.join(&path[1..])).unwrap()))));
        assert_eq!(seen, ["/a", "/a/b", "/a/b/c", "/d"].map(|path| (path.to_owned(), true)));
        seen.clear();
        assert!(walk(&root, "/a/b", |_, path| seen.push((path.to_owned(), true))));
        assert_eq!(seen, ["/a/b", "/a/b/c"].map(|path| (path.to_owned(), true)));
        assert!(walk(&root, "/gone", |_, path| panic!("{path}")));
        fs::remove_dir_all(&root).unwrap();
    }
}
