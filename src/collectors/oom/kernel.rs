//! The way into the kernel: `bpf/oom.bpf.c`, loaded and attached, and its maps.

use std::os::fd::{AsRawFd, RawFd};

use crate::error::{Context, Result};
use crate::limits;
use crate::sys::bpf::{Links, Map, Object};

/// The programs, attached, and their maps.
pub struct Kernel {
    owners: Map,
    lost: Map,
    ended: Map,
    _links: Links,
}

impl Kernel {
    /// Loads and attaches the programs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> Result<Kernel> {
        static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/oom.bpf.o.gz"));
        let mut object = Object::open("oom", OBJECT)?;
        object.set_max_entries("owners", limits::OOM_OWNERS)?;
        object.set_max_entries("ended", limits::OOM_OWNERS)?;
        let loaded = object.load()?;
        let links = loaded.attach().context("oom.bpf.c")?;
        let [owners, lost, ended] = ["owners", "lost", "ended"].map(|name| loaded.map(name));
        Ok(Kernel { owners: owners?, lost: lost?, ended: ended?, _links: links })
    }

    /// Hands each set of cgroups with its kills to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_owner(&mut self, mut each: impl FnMut(&[u8], u64)) -> Result<()> {
        self.owners.for_each(|key, value| {
            if let Some(kills) = value.first_chunk() {
                each(key, u64::from_ne_bytes(*kills));
            }
        })
    }

    /// Kills the table had no room for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn lost(&self) -> Result<u64> {
        let value = self.lost.get(&[0; 4])?;
        Ok(value.and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?))).unwrap_or(0))
    }

    /// Removes a set of cgroups.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_owner(&self, key: &[u8]) -> Result<()> {
        self.owners.delete(key)
    }

    /// All maps.
    pub fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        [&self.owners, &self.lost, &self.ended].into_iter().for_each(|map| each(map.as_raw_fd()));
    }
}
