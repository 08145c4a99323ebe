//! Maps in the kernel.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libbpf_sys as raw;

use super::{MapType, check, failure};
use crate::error::{Context, Error, Reason, Result};

/// Entries taken from a map in one batch.
const BATCH: u32 = 256;
/// The key of an array's first entry.
const ONLY_KEY: [u8; 4] = [0; 4];

/// Values a per-CPU entry may have at most: Kconfig lets no kernel have more than 8,192 processors, and this is twice that.
const MOST_CPUS: usize = 16_384;
/// What no counter of a new map is.
const UNTOUCHED: u64 = u64::MAX;

thread_local! {
    /// The answer of [`possible_cpus`], which does not change while the kernel runs.
    static POSSIBLE_CPUS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Processors the kernel may ever have, which is how many values an entry of a per-CPU map has. The kernel itself is asked,
/// by a look into a map made for it: what stands in for /sys in a container may say anything, and where it says too little the
/// kernel would write past the end of every value.
///
/// # Errors
/// What the kernel says to a new map: EPERM without CAP_BPF.
pub fn possible_cpus() -> Result<usize> {
    if let Some(cpus) = POSSIBLE_CPUS.get() {
        return Ok(cpus);
    }
    let cpus = ask_cpus().context("number of possible processors")?;
    POSSIBLE_CPUS.set(Some(cpus));
    Ok(cpus)
}

fn ask_cpus() -> Result<usize> {
    let kind = MapType::PERCPU_ARRAY.0;
    // SAFETY: the name is a string; without options libbpf uses none.
    let fd = unsafe { raw::bpf_map_create(kind, c"possible_cpus".as_ptr(), 4, 8, 1, std::ptr::null()) };
    check(fd)?;
    // SAFETY: the descriptor is new and ours.
    let map = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut values = vec![UNTOUCHED; MOST_CPUS];
    // SAFETY: the key has the four bytes the map was made with. The kernel writes eight bytes for each possible processor, and
    // there is room for more of them than a kernel can be built for.
    let result = unsafe {
        raw::bpf_map_lookup_elem(
            map.as_raw_fd(),
            ONLY_KEY.as_ptr().cast(),
            values.as_mut_ptr().cast::<c_void>(),
        )
    };
    check(result as c_int)?;
    count_cpus(&values).ok_or_else(|| Error::new(Reason::Failed, "a new per-CPU map is not zero"))
}

/// How many values were written into `values`: the zeros of a new map in front of what was there before.
fn count_cpus(values: &[u64]) -> Option<usize> {
    let cpus = values.iter().take_while(|&&value| value == 0).count();
    let is_plausible = cpus > 0 && cpus < values.len();
    (is_plausible && values[cpus..].iter().all(|&value| value == UNTOUCHED)).then_some(cpus)
}

/// A map in the kernel.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    kind: MapType,
    key_size: usize,
    /// Bytes of an entry's value, those of all processors together: what the kernel reads and writes.
    value_size: usize,
    max_entries: usize,
    batches: bool,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Map {
    pub(super) fn new(fd: OwnedFd) -> Result<Map> {
        let mut info = raw::bpf_map_info::default();
        let mut size = size_of::<raw::bpf_map_info>() as u32;
        // SAFETY: pointer and size are those of the struct.
        check(unsafe { raw::bpf_map_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size) })?;
        let kind = MapType(info.type_);
        let one_size = info.value_size as usize;
        let value_size = match kind.is_per_cpu() {
            true => one_size.next_multiple_of(8) * possible_cpus()?,
            false => one_size,
        };
        Ok(Map {
            fd,
            kind,
            key_size: info.key_size as usize,
            value_size,
            max_entries: info.max_entries as usize,
            batches: true,
            keys: Vec::new(),
            values: Vec::new(),
        })
    }

    /// The same map with buffers of its own.
    ///
    /// # Errors
    /// EMFILE.
    pub fn again(&self) -> Result<Map> {
        Map::new(self.fd.try_clone()?)
    }

    /// Its type.
    pub fn kind(&self) -> MapType {
        self.kind
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of an entry's value, those of all processors together.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Hands every entry's key and value to `each`. Entries made meanwhile may or may not be among them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_each(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        if self.batches && self.for_each_in_batches(&mut each)? {
            return Ok(());
        }
        // Kernels before 5.6 have no batches.
        self.batches = false;
        self.for_each_by_key(each)
    }

    /// False when the kernel does not know batches for this map; nothing was handed out then.
    fn for_each_in_batches(&mut self, each: &mut impl FnMut(&[u8], &[u8])) -> Result<bool> {
        let mut batch_size = BATCH;
        // The cursor of a hash map is a bucket number; of others a key.
        let mut cursor = vec![0u8; self.key_size.max(8)];
        let mut first = true;
        loop {
            let mut count = batch_size;
            let result = self.lookup_batch(first, &mut cursor, &mut count);
            match -result {
                // A bucket holds more entries than the batch: try again with room for them.
                libc::ENOSPC if batch_size < 1 << 16 => {
                    batch_size *= 2;
                    continue;
                }
                0 | libc::ENOENT => {}
                libc::EINVAL | libc::EOPNOTSUPP | 524 if first => return Ok(false),
                _ => return Err(failure(i64::from(result))).context("read map"),
            }
            let (keys, values) =
                (self.keys.chunks_exact(self.key_size), self.values.chunks_exact(self.value_size));
            keys.zip(values).take(count as usize).for_each(|(key, value)| each(key, value));
            if result != 0 {
                return Ok(true);
            }
            first = false;
        }
    }

    /// Fills the buffers with up to `count` entries, those behind `cursor` or the first ones, and sets both to where it came.
    /// Gives the kernel's answer, a negative errno on failure.
    fn lookup_batch(&mut self, first: bool, cursor: &mut [u8], count: &mut u32) -> i32 {
        assert!(cursor.len() >= self.key_size.max(8), "the kernel writes a key or a bucket's number");
        self.keys.resize(*count as usize * self.key_size, 0);
        self.values.resize(*count as usize * self.value_size, 0);
        let start = if first { std::ptr::null_mut() } else { cursor.as_mut_ptr() };
        // SAFETY: the buffers hold `count` keys and values, of as many processors as the kernel writes for; the cursor
        // holds at least a key; in and out cursor may be one.
        unsafe {
            raw::bpf_map_lookup_batch(
                self.fd.as_raw_fd(),
                start.cast(),
                cursor.as_mut_ptr().cast(),
                self.keys.as_mut_ptr().cast(),
                self.values.as_mut_ptr().cast(),
                count,
                std::ptr::null(),
            )
        }
    }

    /// Hands the values of an array's first `count` entries to `each`, with their numbers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn for_first(&mut self, count: u32, mut each: impl FnMut(u32, &[u8])) -> Result<()> {
        let count = count.min(self.max_entries as u32);
        let mut done = 0;
        let mut cursor = vec![0; self.key_size.max(8)];
        while self.batches && done < count {
            let mut got = BATCH.min(count - done);
            let result = self.lookup_batch(done == 0, &mut cursor, &mut got);
            match -result {
                0 | libc::ENOENT if got > 0 => {}
                // Kernels before 5.6 have no batches, and others none for this kind of map.
                _ if done == 0 => {
                    self.batches = false;
                    break;
                }
                _ => return Err(failure(i64::from(result))).context("read map"),
            }
            let values = self.values.chunks_exact(self.value_size).take(got as usize);
            (done..).zip(values).for_each(|(number, value)| each(number, value));
            done += got;
        }
        for number in done..count {
            if let Some(value) = self.get(&number.to_ne_bytes())? {
                each(number, &value);
            }
        }
        Ok(())
    }

    /// Puts `value` into a queue or on a stack.
    ///
    /// # Errors
    /// What the kernel says, E2BIG for a map that is full; a value of the wrong size.
    pub fn push(&self, value: &[u8]) -> Result<()> {
        self.check_size(value.len(), self.value_size)?;
        // SAFETY: such a map has no keys, and the value has its size.
        let result = unsafe {
            raw::bpf_map_update_elem(self.fd.as_raw_fd(), std::ptr::null(), value.as_ptr().cast(), 0)
        };
        check(result as c_int).context("push to map").map(drop)
    }

    fn for_each_by_key(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        // A key that goes while it is the previous one sends the walk back to the start: nothing may be handed out twice.
        let mut seen = HashSet::new();
        let mut key = vec![0u8; self.key_size];
        let mut previous: Option<Box<[u8]>> = None;
        // Twice round is enough, whatever comes and goes meanwhile.
        for _ in 0..self.max_entries.saturating_mul(2).saturating_add(1) {
            let from = previous.as_ref().map_or(std::ptr::null(), |key| key.as_ptr());
            // SAFETY: both keys have the map's key size.
            let result = unsafe {
                raw::bpf_map_get_next_key(self.fd.as_raw_fd(), from.cast(), key.as_mut_ptr().cast())
            };
            match -result {
                0 => {}
                libc::ENOENT => break,
                _ => return Err(failure(i64::from(result))).context("read map"),
            }
            let key: Box<[u8]> = key.as_slice().into();
            if seen.insert(key.clone())
                && let Some(value) = self.get(&key)?
            {
                each(&key, &value);
            }
            previous = Some(key);
        }
        Ok(())
    }

    /// The value of `key`, if there is one.
    ///
    /// # Errors
    /// What the kernel says; a key of the wrong size.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.check_size(key.len(), self.key_size)?;
        let mut value = vec![0u8; self.value_size];
        // SAFETY: key and value have the map's sizes, the value for as many processors as the kernel writes for.
        let result = unsafe {
            raw::bpf_map_lookup_elem(self.fd.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast())
        };
        match -result {
            0 => Ok(Some(value)),
            libc::ENOENT => Ok(None),
            _ => Err(failure(i64::from(result))).context("read map"),
        }
    }

    /// Sets the value of `key`, which is made if it is not there.
    ///
    /// # Errors
    /// What the kernel says, E2BIG for a map that is full; a key or value of the wrong size.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_size(key.len(), self.key_size)?;
        self.check_size(value.len(), self.value_size)?;
        // SAFETY: key and value have the map's sizes.
        let result = unsafe {
            raw::bpf_map_update_elem(self.fd.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), 0)
        };
        check(result as c_int).context("write to map").map(drop)
    }

    /// Removes `key`; one that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says; a key of the wrong size.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        self.check_size(key.len(), self.key_size)?;
        // SAFETY: the key has the map's key size.
        let result = unsafe { raw::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) };
        if result == -libc::ENOENT { Ok(()) } else { check(result).context("delete from map").map(drop) }
    }

    fn check_size(&self, size: usize, expected: usize) -> Result<()> {
        if size == expected {
            return Ok(());
        }
        Err(Error::new(Reason::Failed, format!("{size} bytes for a map that has {expected}")))
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_front_of_the_untouched_are_counted() {
        let values = |written: usize| {
            let mut values = vec![UNTOUCHED; 16];
            values[..written].fill(0);
            values
        };
        assert_eq!(count_cpus(&values(1)), Some(1));
        assert_eq!(count_cpus(&values(15)), Some(15));
        assert_eq!(count_cpus(&values(0)), None, "nothing was written");
        assert_eq!(count_cpus(&values(16)), None, "there may be more");
        let mut torn = values(4);
        torn[9] = 0;
        assert_eq!(count_cpus(&torn), None);
    }

    #[test]
    fn the_kernel_and_sys_agree() {
        // SAFETY: reads a file in /sys.
        let said = unsafe { raw::libbpf_num_possible_cpus() };
        match possible_cpus() {
            Ok(cpus) => assert_eq!(i32::try_from(cpus), Ok(said)),
            // No bpf(2) at all: in a kernel without it, and for programs that qemu runs.
            Err(error) => {
                assert!(matches!(error.reason(), Reason::NoPermission | Reason::NotSupported), "{error}");
            }
        }
    }
}
