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

/// The names of all, sorted.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    walk(&unpack(), |name, _, _| names.push(text(name)));
    names
}

/// Those of `wanted` that there are.
pub fn get(wanted: &[&str]) -> Vec<Builtin> {
    let mut found = Vec::new();
    walk(&unpack(), |name, config, object| {
        if wanted.iter().any(|wanted| wanted.as_bytes() == name) {
            found.push(Builtin { name: text(name), config: text(config), object: object.to_vec() });
        }
    });
    found
}

fn unpack() -> Vec<u8> {
    zlib::gunzip(ARCHIVE, MOST_BYTES).unwrap_or_default()
}

fn walk(mut archive: &[u8], mut each: impl FnMut(&[u8], &[u8], &[u8])) {
    while let Some(([name, config, object], rest)) = split(archive) {
        each(name, config, object);
        archive = rest;
    }
}

/// The first program's three parts, and what comes behind them.
fn split(archive: &[u8]) -> Option<([&[u8]; 3], &[u8])> {
    let (lengths, mut rest) = archive.split_at_checked(12)?;
    let mut parts = [&[][..]; 3];
    for (part, length) in parts.iter_mut().zip(lengths.as_chunks::<4>().0) {
        (*part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    }
    Some((parts, rest))
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
        let mut count = 0;
        walk(&archive[..archive.len() - 1], |_, _, _| count += 1);
        assert_eq!(count, names().len() - 1);
    }
}
