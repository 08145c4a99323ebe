//! `cgroup_id_map`: a map that is kept filled with the cgroups whose path matches, so that a program can leave out all others.

use std::fs::File;
use std::os::fd::AsRawFd;

use regex_lite::Regex;

use super::config::{CgroupIdMap, CgroupIdMapKind, Finding, Mark};
use crate::containers::paths::{CgroupPaths, Change};
use crate::error::{Error, Reason, Result};
use crate::host::Host;
use crate::sys::bpf::{Map, MapShape, MapType};
use crate::warning;

/// The value of a cgroup that is in.
const IS_IN: u64 = 1;

/// The map and who is in.
pub struct CgroupIds {
    map: Map,
    kind: CgroupIdMapKind,
    patterns: Vec<Regex>,
}

/// Checks that the map in the object is what the config says.
///
/// # Errors
/// What does not fit.
pub fn check_shape(wanted: &CgroupIdMap, shape: &MapShape) -> Result<(), String> {
    let (size, name, kinds): (_, _, &[MapType]) = match wanted.kind {
        CgroupIdMapKind::Hash => (8, "hash", &[MapType::HASH, MapType::LRU_HASH]),
        CgroupIdMapKind::CgroupStorage => (4, "cgrp_storage", &[MapType::CGRP_STORAGE]),
    };
    if !kinds.contains(&shape.kind) {
        let expected: Vec<String> = kinds.iter().map(|kind| kind.word()).collect();
        return Err(format!(
            "map {} is {}, expected {} for type {name}",
            shape.name,
            shape.kind.word(),
            expected.join(" or ")
        ));
    }
    if shape.key_size != size {
        let given = shape.key_size;
        return Err(format!(
            "keys of map {} have {given} bytes, expected {size} for type {name}",
            shape.name
        ));
    }
    if shape.value_size != 8 {
        return Err(format!(
            "values of map {} have {} bytes, expected 8 (u64)",
            shape.name, shape.value_size
        ));
    }
    Ok(())
}

/// Patterns that cannot be compiled.
pub fn pattern_problems(wanted: &CgroupIdMap) -> Vec<(Mark, String)> {
    let problem = |(pattern, mark): &(Box<str>, Mark)| {
        let error = Regex::new(pattern).err()?;
        Some((*mark, format!("regular expression {pattern:?}: {error}")))
    };
    wanted.regexps.iter().filter_map(problem).collect()
}

impl CgroupIds {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// One that cannot be compiled, with its place in `path`.
    pub fn new(path: &str, wanted: &CgroupIdMap, map: Map) -> Result<CgroupIds> {
        if let Some((mark, message)) = pattern_problems(wanted).into_iter().next() {
            let finding = Finding { path: path.into(), mark, fatal: true, message };
            return Err(Error::new(Reason::Failed, finding.to_string()));
        }
        let patterns = wanted.regexps.iter().filter_map(|(pattern, _)| Regex::new(pattern).ok()).collect();
        Ok(CgroupIds { map, kind: wanted.kind, patterns })
    }

    /// Puts in all cgroups there are.
    pub fn fill(&self, paths: &CgroupPaths, host: &Host) {
        for (id, path) in paths.iter() {
            self.put(id, path, host);
        }
    }

    /// Follows what happened.
    pub fn follow(&self, change: &Change, paths: &CgroupPaths, host: &Host) {
        match *change {
            Change::Appeared(id) => {
                if let Some(path) = paths.living(id) {
                    self.put(id, path, host);
                }
            }
            // The kernel frees the storage of a cgroup with the cgroup.
            Change::Removed(_) if self.kind == CgroupIdMapKind::CgroupStorage => {}
            Change::Removed(id) => {
                if let Err(error) = self.map.delete(&id.to_ne_bytes()) {
                    warning!("cgroup_id_map: {error}");
                }
            }
        }
    }

    fn put(&self, id: u64, path: &str, host: &Host) {
        if !self.patterns.iter().any(|pattern| pattern.is_match(path)) {
            return;
        }
        let value = IS_IN.to_ne_bytes();
        let done = match self.kind {
            CgroupIdMapKind::Hash => self.map.set(&id.to_ne_bytes(), &value),
            // One that is gone already needs no entry.
            CgroupIdMapKind::CgroupStorage => match File::open(host.cgroup_seen_as(path)) {
                Ok(directory) => self.map.set(&directory.as_raw_fd().to_ne_bytes(), &value),
                Err(_) => Ok(()),
            },
        };
        if let Err(error) = done {
            warning!("cgroup_id_map: {path}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_maps_that_can_be_filled_fit() {
        let check = |wanted, kind: MapType, key_size, value_size| {
            let (regexps, mark) = (Vec::new(), Mark::default());
            let wanted = CgroupIdMap { name: "x".into(), kind: wanted, regexps, mark };
            let (name, key) = ("x".to_owned(), Vec::new());
            check_shape(
                &wanted,
                &MapShape { name, kind, key_size, value_size, max_entries: 1, is_preallocated: true, key },
            )
        };
        use CgroupIdMapKind::{CgroupStorage, Hash};
        assert_eq!(check(Hash, MapType::HASH, 8, 8), Ok(()));
        assert_eq!(check(Hash, MapType::LRU_HASH, 8, 8), Ok(()));
        assert_eq!(check(CgroupStorage, MapType::CGRP_STORAGE, 4, 8), Ok(()));
        for (wanted, kind, key_size, value_size, word) in [
            (
                Hash,
                MapType::PERF_EVENT_ARRAY,
                8,
                8,
                "map x is PERF_EVENT_ARRAY, expected HASH or LRU_HASH for type hash",
            ),
            (Hash, MapType::CGRP_STORAGE, 4, 8, "expected HASH or LRU_HASH"),
            (
                CgroupStorage,
                MapType::HASH,
                4,
                8,
                "map x is HASH, expected CGRP_STORAGE for type cgrp_storage",
            ),
            (CgroupStorage, MapType::ARRAY, 4, 8, "expected CGRP_STORAGE"),
            (Hash, MapType::HASH, 4, 8, "keys of map x have 4 bytes, expected 8"),
            (Hash, MapType::LRU_HASH, 8, 4, "values of map x have 4 bytes, expected 8"),
        ] {
            let error = check(wanted, kind, key_size, value_size).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
