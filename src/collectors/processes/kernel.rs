//! The way into the kernel: `bpf/life.bpf.c`, loaded and attached, and its maps.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::containers::hierarchies::{Hierarchies, Place};
use crate::containers::owners::CGROUP_IDS;
use crate::error::{Context, Result};
use crate::limits;
use crate::sys::bpf::{Iterator, Links, Map, Object, ProgramInfo};
use crate::sys::clock::MonotonicNs;

/// Bytes of `struct process`.
const PROCESS_SIZE: usize = CGROUP_IDS + 24;

/// `struct counts`: what processes of some cgroups have done since the programs were attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that have ended.
    pub gone: u64,
    /// Programs executed.
    pub execs: u64,
}

/// `struct process`: one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process<'a> {
    /// `struct cgroup_ids`.
    pub key: &'a [u8],
    /// When it began, on the monotonic clock.
    pub start_ns: u64,
    /// Changes whenever it executes another program.
    pub executed: u64,
    /// Its number.
    pub pid: u32,
    /// It has ended without being counted, and its parent has not taken note.
    pub has_ended: bool,
}

/// The programs, attached, and their maps.
pub struct Kernel {
    owners: Map,
    cgroups: Map,
    lost: Map,
    ended: Map,
    present: Iterator,
    on_exec: Option<OwnedFd>,
    _links: Links,
}

impl Kernel {
    /// Loads and attaches the programs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(hierarchies: &Hierarchies) -> Result<Kernel> {
        static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/life.bpf.o.gz"));
        let mut object = Object::open("life", OBJECT)?;
        object.set_max_entries("owners", limits::PROCESS_OWNERS)?;
        object.set_max_entries("cgroups", limits::PROCESS_CGROUPS)?;
        object.set_max_entries("ended", limits::ENDED_PROCESSES)?;
        let mut settings = [0u8; 16];
        let numbers = Place::ALL.map(|place| hierarchies.number(place).map_or(-1, |number| number as i32));
        for (slot, number) in settings.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *slot = number.to_ne_bytes();
        }
        object.set_constants(&settings)?;
        let loaded = object.load()?;
        let mut links = Links::default();
        for program in ["on_free", "on_exit", "on_exec", "on_populated"] {
            links.append(loaded.attach_program(program).context(program)?);
        }
        Ok(Kernel {
            owners: loaded.map("owners")?,
            cgroups: loaded.map("cgroups")?,
            lost: loaded.map("lost")?,
            ended: loaded.map("ended")?,
            on_exec: loaded.program("on_exec")?,
            present: loaded.iterator("present", None)?,
            _links: links,
        })
    }

    /// Hands each set of cgroups with its counts to `each`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_owner(&mut self, mut each: impl FnMut(&[u8], Counts)) -> Result<()> {
        self.owners.for_each(|key, value| {
            if let [gone, execs, ..] = *value.as_chunks::<8>().0 {
                let [gone, execs] = [gone, execs].map(u64::from_ne_bytes);
                each(key, Counts { gone, execs });
            }
        })
    }

    /// Hands each cgroup to `each`: its key, hierarchy and id, and how often it got a first process; that it had one when the
    /// programs were attached counts as once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_cgroup(&mut self, mut each: impl FnMut(&[u8], u32, u64, u64)) -> Result<()> {
        self.cgroups.for_each(|key, value| {
            if let (&[id, hierarchy], &[begun, was_populated]) = (key.as_chunks::<8>().0, value.as_chunks().0)
            {
                let [id, begun, was_populated] = [id, begun, was_populated].map(u64::from_ne_bytes);
                let hierarchy = hierarchy.first_chunk().map_or(0, |half| u32::from_ne_bytes(*half));
                each(key, hierarchy, id, begun + was_populated);
            }
        })
    }

    /// Hands every process that is there and in some cgroup to `each`, but those whose end is counted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn each_process(&self, mut each: impl FnMut(Process<'_>)) -> Result<()> {
        self.present.run(PROCESS_SIZE, |record| {
            if let Some(process) = Process::decode(record) {
                each(process);
            }
        })
    }

    /// What is not counted: ended processes, executed programs and first processes the tables had no room for, and executed
    /// programs at which the kernel did not run ours, because it was at work for another task on that processor.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn lost(&self) -> Result<u64> {
        let value = self.lost.get(&[0; 4])?;
        let lost = value.and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?))).unwrap_or(0);
        let on_exec = self.on_exec.as_ref().map(ProgramInfo::read).transpose()?.unwrap_or_default();
        Ok(lost + on_exec.misses)
    }

    /// Forgets ended processes that have not been there for long, which the kernel let go of without running our program.
    /// Comes after [`Kernel::each_process`], which sees who is still there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forget_ended(&mut self, now_ns: MonotonicNs) -> Result<()> {
        let patience_ns = limits::ENDED_TIME.as_nanos() as u64;
        let mut due: Vec<Box<[u8]>> = Vec::new();
        self.ended.for_each(|key, value| {
            let known_ns = value.first_chunk().map_or(0, |known_ns| u64::from_ne_bytes(*known_ns));
            if known_ns.saturating_add(patience_ns) <= now_ns {
                due.push(key.into());
            }
        })?;
        due.iter().try_for_each(|key| self.ended.delete(key))
    }

    /// Removes a set of cgroups.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_owner(&self, key: &[u8]) -> Result<()> {
        self.owners.delete(key)
    }

    /// Removes a cgroup.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_cgroup(&self, key: &[u8]) -> Result<()> {
        self.cgroups.delete(key)
    }

    /// All maps.
    pub fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        [&self.owners, &self.cgroups, &self.lost, &self.ended]
            .into_iter()
            .for_each(|map| each(map.as_raw_fd()));
    }
}

impl Process<'_> {
    fn decode(record: &[u8]) -> Option<Process<'_>> {
        let (key, rest) = record.split_at_checked(CGROUP_IDS)?;
        let (times, rest) = rest.split_at_checked(16)?;
        let (&[start_ns, executed], &[pid, has_ended]) = (times.as_chunks().0, rest.as_chunks().0) else {
            return None;
        };
        let [start_ns, executed] = [start_ns, executed].map(u64::from_ne_bytes);
        let has_ended = u32::from_ne_bytes(has_ended) != 0;
        Some(Process { key, start_ns, executed, pid: u32::from_ne_bytes(pid), has_ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_right_size_decode() {
        let mut record = vec![7u8; CGROUP_IDS];
        for number in [1u64, 2] {
            record.extend(number.to_ne_bytes());
        }
        for number in [3u32, 1] {
            record.extend(number.to_ne_bytes());
        }
        let process = Process::decode(&record).unwrap();
        assert_eq!((process.start_ns, process.executed, process.pid), (1, 2, 3));
        assert!(process.has_ended);
        for length in 0..record.len() {
            assert!(Process::decode(&record[..length]).is_none(), "{length}");
        }
    }
}
