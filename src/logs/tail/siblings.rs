//! Files a log was rotated to: `x.log.1`, `x.log.20060102-150405`, `x.log-20060102`, `x-2006-01-02.log`.

use std::cmp::Reverse;
use std::os::unix::ffi::OsStrExt;
use std::{fs, io};

use super::place;
use super::segment::{Id, Seen};
use crate::host::Host;

/// Entries of a directory that are looked at: what lies in it beyond them is not found.
const MAX_ENTRIES: usize = 8192;

/// Siblings of one file; the oldest are left out.
const MAX_SIBLINGS: usize = 64;

/// How often a directory is read until it holds still.
const TRIES: usize = 4;

/// When a file was rotated, older ones being less.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// By the date in its name, which sorts as text.
    Stamp(Box<[u8]>),
    /// By its number: 1 is the youngest.
    Number(Reverse<u32>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// Its place among the others.
    pub rank: Rank,
    /// Packed: it cannot be read on.
    pub compressed: bool,
    /// Its path on the host.
    pub path: String,
    /// What stat(2) said.
    pub seen: Seen,
}

/// The siblings of the file at `real`, oldest first.
///
/// Names change while they are read, so the directory is read until it says the same twice.
///
/// # Errors
/// Those of reading it, but for one that is not there or that nobody may list: there are none then.
pub fn list(host: &Host, real: &str) -> io::Result<Vec<Sibling>> {
    let mut last = read(host, real)?;
    if last.is_empty() {
        return Ok(last);
    }
    for _ in 0..TRIES {
        let next = read(host, real)?;
        let same = |(a, b): (&Sibling, &Sibling)| a.rank == b.rank && a.seen.id == b.seen.id;
        if next.len() == last.len() && next.iter().zip(&last).all(same) {
            return Ok(next);
        }
        last = next;
    }
    Ok(last)
}

/// Where the file `id` is now, if among the siblings.
///
/// # Errors
/// Those of [`list`].
pub fn find(host: &Host, real: &str, id: Id) -> io::Result<Option<Sibling>> {
    Ok(list(host, real)?.into_iter().find(|sibling| sibling.seen.id == id && !sibling.compressed))
}

fn read(host: &Host, real: &str) -> io::Result<Vec<Sibling>> {
    let (directory, name) = place::split(real);
    let mut found = Vec::new();
    for entry in unless_hidden(fs::read_dir(host.rootfs(directory)))?.into_iter().flatten().take(MAX_ENTRIES)
    {
        let other = entry?.file_name();
        let (Some((rank, compressed)), Some(text)) =
            (rank(name.as_bytes(), other.as_bytes()), other.to_str())
        else {
            continue;
        };
        let path = format!("{}/{text}", directory.trim_end_matches('/'));
        let metadata = unless_hidden(fs::symlink_metadata(host.rootfs(&path)))?;
        if let Some(metadata) = metadata.filter(fs::Metadata::is_file) {
            found.push(Sibling { rank, compressed, path, seen: Seen::of(&metadata) });
        }
    }
    found.sort_by(|a, b| a.rank.cmp(&b.rank));
    found.drain(..found.len().saturating_sub(MAX_SIBLINGS));
    Ok(found)
}

/// None for what is not there, or not for us. Any other error says nothing of that, and what was not found for want of a
/// descriptor would be taken for rotated away.
fn unless_hidden<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied || place::is_absence(&error) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What `other` is to a file called `name`: nothing, or rotated from it, and packed.
pub fn rank(name: &[u8], other: &[u8]) -> Option<(Rank, bool)> {
    let packed = [&b".gz"[..], b".zst", b".xz", b".bz2", b".lz4", b".Z"];
    let unpacked = packed.iter().find_map(|end| other.strip_suffix(*end));
    let compressed = unpacked.is_some() && unpacked != Some(name);
    let plain = if compressed { unpacked? } else { other };
    if let Some(suffix) = plain.strip_prefix(name) {
        let (separator, stamp) = suffix.split_first()?;
        if !matches!(separator, b'.' | b'-' | b'_') {
            return None;
        }
        if stamp == b"old" {
            return Some((Rank::Number(Reverse(1)), compressed));
        }
        let number = std::str::from_utf8(stamp).ok().filter(|text| text.len() <= 4);
        if let Some(number) = number.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())) {
            return Some((Rank::Number(Reverse(number.parse().ok()?)), compressed));
        }
        let dated = stamp.first().is_some_and(u8::is_ascii_digit) && !stamp.ends_with(b".tmp");
        return dated.then(|| (Rank::Stamp(stamp.into()), compressed));
    }
    // x.log becomes x-2006-01-02.log, while x-error.log and x-1.log are logs of their own.
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0)?;
    let (stem, end) = name.split_at_checked(dot)?;
    let (separator, stamp) = plain.strip_prefix(stem)?.strip_suffix(end)?.split_first()?;
    let digits = stamp.iter().filter(|byte| byte.is_ascii_digit()).count();
    let dated = stamp.first().is_some_and(u8::is_ascii_digit) && digits >= 6;
    (matches!(separator, b'.' | b'-' | b'_') && dated).then(|| (Rank::Stamp(stamp.into()), compressed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    #[test]
    fn names_tell_who_is_older() {
        fn order<'a>(name: &str, others: &[&'a str]) -> Vec<&'a str> {
            let mut ranked: Vec<(Rank, &str)> = others
                .iter()
                .filter_map(|other| Some((rank(name.as_bytes(), other.as_bytes())?.0, *other)))
                .collect();
            ranked.sort();
            ranked.into_iter().map(|(_, other)| other).collect()
        }
        assert_eq!(
            order("x.log", &["x.log.1", "x.log.10.gz", "x.log.2", "x.log", "y.log.1", "x.log.d"]),
            ["x.log.10.gz", "x.log.2", "x.log.1"]
        );
        assert_eq!(
            order(
                "0.log",
                &["0.log.20240102-000000", "0.log.20240101-235959.gz", "0.log.20240101-235959.tmp"]
            ),
            ["0.log.20240101-235959.gz", "0.log.20240102-000000"]
        );
        assert_eq!(order("a.log", &["a-error.log", "a-1.log", "a-2024-01-01.log"]), ["a-2024-01-01.log"]);
        assert_eq!(order("syslog", &["syslog.1", "syslog-20240101", "syslog.old"]).len(), 3);
        assert_eq!(rank(b"a", b"a.gz"), None);
        assert!(rank(b"a.log", b"a.log.2.gz").unwrap().1);
    }

    #[test]
    fn any_names_do() {
        fuzz::hammer(b"x.log.20240101-000000.gz", |name| {
            let _ = rank(b"x.log", name);
            let _ = rank(name, b"x.log.1");
        });
    }
}
