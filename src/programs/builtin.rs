//! The programs that come with nodeprobe: pairs of config and object, compressed in the binary until somebody wants one.

use crate::sys::zlib;

/// Made by `build.rs`: for every program three lengths (u32, little endian), its name, its config and its object.
static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/programs.bin.gz"));

/// More than the archive can ever be.
const MOST_BYTES: usize = 4 << 20;

/// A program that comes with nodeprobe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// What it is asked for by.
    pub name: String,
    /// Its `NAME.yaml`.
    pub config: String,
    /// Its `NAME.bpf.o`.
    pub object: Vec<u8>,
}

/// An entry of the archive.
struct Entry<'a> {
    name: &'a [u8],
    config: &'a [u8],
    object: &'a [u8],
}

/// The names of all, sorted.
pub fn names() -> Vec<String> {
    entries(&unpack()).map(|entry| text(entry.name)).collect()
}

/// Those of `wanted` that there are, sorted by name.
pub fn get(wanted: &[&str]) -> Vec<Builtin> {
    entries(&unpack())
        .filter(|entry| wanted.iter().any(|wanted| wanted.as_bytes() == entry.name))
        .map(|entry| Builtin {
            name: text(entry.name),
            config: text(entry.config),
            object: entry.object.to_vec(),
        })
        .collect()
}

fn unpack() -> Vec<u8> {
    zlib::gunzip(ARCHIVE, MOST_BYTES).unwrap_or_default()
}

fn entries(archive: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = archive;
    std::iter::from_fn(move || {
        let (entry, behind) = split(rest)?;
        rest = behind;
        Some(entry)
    })
}

/// The first entry, and what is behind it; `None` at the end, and for an entry that is cut.
fn split(archive: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (lengths, rest) = archive.split_at_checked(12)?;
    let length = |part: usize| {
        lengths[part * 4..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let (name, rest) = rest.split_at_checked(length(0))?;
    let (config, rest) = rest.split_at_checked(length(1))?;
    let (object, rest) = rest.split_at_checked(length(2))?;
    Some((Entry { name, config, object }, rest))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete() {
        let listed: Vec<&str> = include_str!("../../tests/fixtures/programs.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(names(), listed);
    }

    #[test]
    fn a_program_comes_with_its_config() {
        let found = get(&["timers", "no-such", "exec"]);
        assert_eq!(found.iter().map(|builtin| &*builtin.name).collect::<Vec<_>>(), ["exec", "timers"]);
        for builtin in found {
            assert!(builtin.config.starts_with("metrics:"));
            assert!(builtin.object.starts_with(b"\x7fELF"));
        }
    }

    #[test]
    fn a_cut_archive_ends_early() {
        let archive = unpack();
        assert_eq!(entries(&archive[..archive.len() - 1]).count(), names().len() - 1);
    }
}
