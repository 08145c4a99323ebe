//! Where a path of the observed host leads, symbolic links of that host included.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::host::{Host, process_root};

/// Links on one path, as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What a path led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path without links, absolute on the host. There may be nothing there.
    pub real: Rc<str>,
    links: Vec<(String, PathBuf)>,
}

impl Place {
    /// True when symbolic links lead there.
    pub fn has_links(&self) -> bool {
        !self.links.is_empty()
    }
}

/// Whether an error says that nothing is there.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Follows `path`, from `last` where that still holds. No metadata: nothing is there, in a directory that is.
///
/// Below `/proc/1/root` the kernel would take an absolute link from nodeprobe's own root, so links are followed here.
///
/// # Errors
/// ENOENT and ENOTDIR without the directory; EACCES, ELOOP.
pub fn find(host: &Host, path: &str, last: Option<&Place>) -> io::Result<(Place, Option<Metadata>)> {
    if let Some(last) = last
        && last.links.iter().all(|(link, to)| fs::read_link(host.rootfs(link)).is_ok_and(|now| now == *to))
        && let Ok(metadata) = fs::symlink_metadata(host.rootfs(&last.real))
        && !metadata.is_symlink()
    {
        return Ok((last.clone(), Some(metadata)));
    }
    resolve(host, path)
}

fn resolve(host: &Host, path: &str) -> io::Result<(Place, Option<Metadata>)> {
    // Where links of another root lead.
    let base = process_root(path);
    let mut ahead: Vec<String> = path[base.len()..].rsplit('/').map(str::to_owned).collect();
    let (mut real, mut links) = (base.to_owned(), Vec::new());
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                real.truncate(real.rfind('/').unwrap_or(0).max(base.len()));
                continue;
            }
            _ => {}
        }
        let here = format!("{real}/{part}");
        match fs::read_link(host.rootfs(&here)) {
            Ok(target) => {
                let Some(text) = target.to_str() else {
                    return Err(io::Error::from(io::ErrorKind::InvalidFilename));
                };
                if links.len() == MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if text.starts_with('/') {
                    real.truncate(base.len());
                }
                ahead.extend(text.rsplit('/').map(str::to_owned));
                links.push((here, target));
            }
            // Not a link.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => real = here,
            Err(error) if error.kind() == io::ErrorKind::NotFound && ahead.is_empty() => {
                return Ok((Place { real: here.into(), links }, None));
            }
            Err(error) => return Err(error),
        }
    }
    let metadata = fs::symlink_metadata(host.rootfs(&real))?;
    Ok((Place { real: real.into(), links }, Some(metadata)))
}

/// The directory and the name of a path without links.
pub fn split(real: &str) -> (&str, &str) {
    let (directory, name) = real.rsplit_once('/').unwrap_or(("", real));
    (if directory.is_empty() { "/" } else { directory }, name)
}

/// True where `path` can be a file's: absolute, and not a directory by its look.
pub fn is_file_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && path.len() < 4096
        && !path.contains('\0')
        && Path::new(path).file_name().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_those_of_the_host() {
        let root = std::env::temp_dir().join(format!("nodeprobe-place-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for directory in ["var/log/containers", "var/log/pods/p/c", "data/docker/x"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        symlink("/var/log/pods/p/c/0.log", root.join("var/log/containers/p.log")).unwrap();
        symlink("/var/lib/docker/x/x.log", root.join("var/log/pods/p/c/0.log")).unwrap();
        fs::create_dir_all(root.join("var/lib")).unwrap();
        symlink("../../data/docker", root.join("var/lib/docker")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let host = Host::new(&root, None);
        let path = "/var/log/containers/p.log";
        let (place, metadata) = find(&host, path, None).unwrap();
        assert_eq!((&*place.real, metadata.is_some()), ("/data/docker/x/x.log", false));
        fs::write(root.join("data/docker/x/x.log"), b"1").unwrap();
        let (place, metadata) = find(&host, path, Some(&place)).unwrap();
        assert_eq!(metadata.unwrap().len(), 1);
        // One of the links leads elsewhere now.
        fs::remove_file(root.join("var/log/pods/p/c/0.log")).unwrap();
        symlink("1.log", root.join("var/log/pods/p/c/0.log")).unwrap();
        fs::write(root.join("var/log/pods/p/c/1.log"), b"22").unwrap();
        let (place, metadata) = find(&host, path, Some(&place)).unwrap();
        assert_eq!((&*place.real, metadata.unwrap().len()), ("/var/log/pods/p/c/1.log", 2));
        assert_eq!(find(&host, "/loop", None).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(find(&host, "/none/file", None).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(&*find(&host, "/../../var/./log", None).unwrap().0.real, "/var/log");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn paths_split_and_are_judged() {
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert!(is_file_path("/var/log/a.log"));
        for path in ["", "/", "a.log", "/var/log/", "/var/log/.."] {
            assert!(!is_file_path(path), "{path}");
        }
    }
}
