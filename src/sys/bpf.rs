//! libbpf, as far as nodeprobe needs it: open an object from memory, set constants and sizes, load, attach, read maps.
//!
//! After `attach` only the descriptors of maps and the links are kept; the object with its ELF file and type information is
//! freed, which is most of the memory.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use libbpf_sys as raw;

use crate::error::{Context, Error, Reason, Result};

/// Lines of libbpf's and the verifier's talk that are kept for an error message.
const KEPT_LINES: usize = 16;

/// Entries taken from a map in one batch.
const BATCH: u32 = 256;

thread_local! {
    /// The last lines libbpf printed.
    static TALK: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" {
    // The va_list arrives as a pointer-sized value on every architecture we build for and is only passed on.
    fn vsnprintf(buffer: *mut c_char, size: usize, format: *const c_char, arguments: *mut c_void) -> c_int;
}

/// Keeps what libbpf has to say instead of printing it.
unsafe extern "C" fn keep_talk(
    level: raw::libbpf_print_level,
    format: *const c_char,
    arguments: *mut raw::__va_list_tag,
) -> c_int {
    if level == raw::LIBBPF_DEBUG {
        return 0;
    }
    let mut buffer = [0u8; 1024];
    // SAFETY: pointer and size are the buffer's; format and arguments are libbpf's own.
    let length = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), buffer.len(), format, arguments.cast()) };
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len() - 1);
    let text = String::from_utf8_lossy(&buffer[..length]);
    TALK.with_borrow_mut(|lines| {
        lines.extend(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
        let surplus = lines.len().saturating_sub(KEPT_LINES);
        lines.drain(..surplus);
    });
    0
}

/// Takes the lines libbpf has printed since the last call.
pub fn take_talk() -> Vec<String> {
    TALK.take()
}

/// The error of a libbpf call that gave `result` (a negative errno), with the most telling line libbpf printed.
fn failure(result: i64) -> Error {
    let errno = i32::try_from(result.unsigned_abs()).unwrap_or(libc::EIO);
    let error = Error::from_errno(errno);
    let talk = take_talk();
    let no_btf = talk.iter().any(|line| line.contains("kernel BTF") || line.contains("vmlinux BTF"));
    let reason = if no_btf && errno != libc::EPERM { Reason::NoBtf } else { error.reason() };
    // The first complaint names the map or program; the last one only repeats that the object failed.
    let telling = |line: &&String| line.contains("failed") && !line.contains("failed to load object");
    match talk.iter().find(telling).or(talk.last()) {
        Some(line) => Error::new(reason, format!("{error} ({})", line.trim_start_matches("libbpf: "))),
        None => Error::new(reason, error.to_string()),
    }
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(failure(i64::from(result))) } else { Ok(result) }
}

/// A BPF object file that is opened but not loaded.
#[derive(Debug)]
pub struct Object(NonNull<raw::bpf_object>);

impl Object {
    /// Parses the object file `elf`. `name` appears in libbpf's messages.
    ///
    /// # Errors
    /// A file that is not a BPF object.
    pub fn open(name: &str, elf: &[u8]) -> Result<Object> {
        // SAFETY: the callback lives as long as the program.
        unsafe { raw::libbpf_set_print(Some(keep_talk)) };
        let name = CString::new(name).map_err(|_| Error::new(Reason::Failed, "object name with a NUL"))?;
        let options = raw::bpf_object_open_opts {
            sz: size_of::<raw::bpf_object_open_opts>() as raw::size_t,
            object_name: name.as_ptr(),
            ..Default::default()
        };
        // SAFETY: pointer and length are the slice's, and the options outlive the call; libbpf copies what it keeps but
        // the ELF bytes, which it reads until load, and every caller passes static bytes or keeps them.
        let object = unsafe {
            raw::bpf_object__open_mem(elf.as_ptr().cast(), elf.len() as raw::size_t, &raw const options)
        };
        NonNull::new(object).map(Object).ok_or_else(|| failure(i64::from(errno()))).context("open")
    }

    fn map(&self, name: &str) -> Result<NonNull<raw::bpf_map>> {
        let c_name = CString::new(name).unwrap_or_default();
        // SAFETY: the object is alive and the name NUL-terminated.
        let map = unsafe { raw::bpf_object__find_map_by_name(self.0.as_ptr(), c_name.as_ptr()) };
        NonNull::new(map).ok_or_else(|| Error::new(Reason::Failed, format!("no map {name}")))
    }

    /// Sets how many entries map `name` can hold.
    ///
    /// # Errors
    /// An object without such a map.
    pub fn set_max_entries(&mut self, name: &str, entries: u32) -> Result<()> {
        // SAFETY: the map belongs to this live object, which is not loaded yet.
        check(unsafe { raw::bpf_map__set_max_entries(self.map(name)?.as_ptr(), entries) })
            .context(name)
            .map(drop)
    }

    /// Fills the object's constants, which are one struct (`const volatile struct … settings`) laid out as `bytes`.
    ///
    /// # Errors
    /// An object whose constants have another size.
    pub fn set_constants(&mut self, bytes: &[u8]) -> Result<()> {
        let mut map = std::ptr::null_mut();
        loop {
            // SAFETY: the object is alive; a null pointer asks for the first map.
            map = unsafe { raw::bpf_object__next_map(self.0.as_ptr(), map) };
            if map.is_null() {
                return Err(Error::new(Reason::Failed, "no .rodata in the object"));
            }
            // SAFETY: a map's name lives as long as the object.
            if unsafe { CStr::from_ptr(raw::bpf_map__name(map)) }.to_bytes().ends_with(b".rodata") {
                break;
            }
        }
        let mut size: raw::size_t = 0;
        // SAFETY: the map is alive, and the object not loaded.
        let value = unsafe { raw::bpf_map__initial_value(map, &raw mut size) };
        if value.is_null() || size as usize != bytes.len() {
            return Err(Error::new(
                Reason::Failed,
                format!("constants are {size} bytes, not {}", bytes.len()),
            ));
        }
        // SAFETY: libbpf says the area has just this size; source and target are distinct.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.cast(), bytes.len()) };
        Ok(())
    }

    /// Chooses whether program `name` is loaded and attached; all are unless told otherwise.
    ///
    /// # Errors
    /// An object without such a program.
    pub fn set_enabled(&mut self, name: &str, enabled: bool) -> Result<()> {
        // SAFETY: the program belongs to this live object, which is not loaded yet.
        check(unsafe { raw::bpf_program__set_autoload(self.program(name)?.as_ptr(), enabled) }).map(drop)
    }

    /// Chooses whether map `name` is made; all are unless told otherwise. A program without its map does not load.
    ///
    /// # Errors
    /// An object without such a map.
    pub fn set_map_enabled(&mut self, name: &str, enabled: bool) -> Result<()> {
        // SAFETY: the map belongs to this live object, which is not loaded yet.
        check(unsafe { raw::bpf_map__set_autocreate(self.map(name)?.as_ptr(), enabled) }).map(drop)
    }

    fn program(&self, name: &str) -> Result<NonNull<raw::bpf_program>> {
        let c_name = CString::new(name).unwrap_or_default();
        // SAFETY: the object is alive and the name NUL-terminated.
        let program = unsafe { raw::bpf_object__find_program_by_name(self.0.as_ptr(), c_name.as_ptr()) };
        NonNull::new(program).ok_or_else(|| Error::new(Reason::Failed, format!("no program {name}")))
    }

    /// Loads all enabled programs into the kernel.
    ///
    /// # Errors
    /// What the kernel or its verifier says.
    pub fn load(self) -> Result<Loaded> {
        take_talk();
        // SAFETY: the object is alive and not loaded yet.
        let result = unsafe { raw::bpf_object__load(self.0.as_ptr()) };
        check(result).context("load").map_err(|error| match -result {
            // The verifier's word for a program it does not accept; a missing capability is EPERM here.
            libc::EACCES => error.with_reason(Reason::NotSupported),
            _ => error,
        })?;
        Ok(Loaded(self))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the object is ours and not used again.
        unsafe { raw::bpf_object__close(self.0.as_ptr()) };
    }
}

/// An object whose programs and maps are in the kernel.
#[derive(Debug)]
pub struct Loaded(Object);

impl Loaded {
    /// A descriptor of map `name` that outlives the object.
    ///
    /// # Errors
    /// An object without such a map, or EMFILE.
    pub fn map(&self, name: &str) -> Result<Map> {
        // SAFETY: the map belongs to this live object.
        let fd = unsafe { raw::bpf_map__fd(self.0.map(name)?.as_ptr()) };
        Map::new(duplicate(fd).context(name)?).context(name)
    }

    /// Attaches every enabled program; what they are attached with is detached when the result is dropped.
    ///
    /// # Errors
    /// What the kernel says to the first program that does not attach.
    pub fn attach(&self) -> Result<Links> {
        let mut links = Vec::new();
        let mut program = std::ptr::null_mut();
        loop {
            // SAFETY: the object is alive; a null pointer asks for the first program.
            program = unsafe { raw::bpf_object__next_program(self.0.0.as_ptr(), program) };
            if program.is_null() {
                return Ok(Links(links));
            }
            // SAFETY: the program belongs to this live object.
            if !unsafe { raw::bpf_program__autoload(program) } {
                continue;
            }
            // SAFETY: as above; a program's name lives as long as the object.
            let name = unsafe { CStr::from_ptr(raw::bpf_program__name(program)) }.to_string_lossy();
            // SAFETY: as above, and loaded.
            let link = unsafe { raw::bpf_program__attach(program) };
            links.push(Link::new(link).context(format_args!("attach {name}"))?);
        }
    }

    /// Attaches program `name` to the instruction at `offset` in the file `path`, for whatever process runs it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach_to_file(&self, name: &str, path: &Path, offset: u64) -> Result<Links> {
        let program = self.0.program(name)?;
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::new(Reason::Failed, "path with a NUL"))?;
        // SAFETY: the program belongs to this live object and is loaded; the path is NUL-terminated.
        let link = unsafe {
            raw::bpf_program__attach_uprobe(
                program.as_ptr(),
                false,
                -1,
                c_path.as_ptr(),
                offset as raw::size_t,
            )
        };
        let link = Link::new(link).context(format_args!("attach {name}"))?;
        Ok(Links(vec![link]))
    }

    /// Attaches program `name` to the perf event `event`, which then lives and ends with the link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach_to_event(&self, name: &str, event: OwnedFd) -> Result<Links> {
        let program = self.0.program(name)?;
        // SAFETY: the program belongs to this live object and is loaded; the descriptor is open.
        let link = unsafe { raw::bpf_program__attach_perf_event(program.as_ptr(), event.as_raw_fd()) };
        let link = Link::new(link).context(format_args!("attach {name}"))?;
        // From here on the link closes it.
        let _ = event.into_raw_fd();
        Ok(Links(vec![link]))
    }
}

/// What keeps programs attached.
#[derive(Debug)]
pub struct Links(#[allow(dead_code, reason = "held for their Drop")] Vec<Link>);

/// libbpf's own link, not a copy of its descriptor: libbpf switches the perf event of a probe or classic tracepoint off
/// when it destroys the link, whatever other descriptors there are. It does not refer to the object.
#[derive(Debug)]
struct Link(NonNull<raw::bpf_link>);

impl Link {
    /// Takes what an attach call of libbpf gave; null is its failure, explained by errno.
    fn new(link: *mut raw::bpf_link) -> Result<Link> {
        NonNull::new(link).map(Link).ok_or_else(|| failure(i64::from(errno())))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: the link is ours and not used again.
        unsafe { raw::bpf_link__destroy(self.0.as_ptr()) };
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: libbpf keeps the descriptor open during the call.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// A map in the kernel.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
    batches: bool,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Map {
    fn new(fd: OwnedFd) -> Result<Map> {
        let mut info = raw::bpf_map_info::default();
        let mut size = size_of::<raw::bpf_map_info>() as u32;
        // SAFETY: pointer and size are those of the struct.
        check(unsafe { raw::bpf_map_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size) })?;
        let (key_size, value_size) = (info.key_size as usize, info.value_size as usize);
        Ok(Map { fd, key_size, value_size, batches: true, keys: Vec::new(), values: Vec::new() })
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
            self.keys.resize(batch_size as usize * self.key_size, 0);
            self.values.resize(batch_size as usize * self.value_size, 0);
            let mut count = batch_size;
            let start = if first { std::ptr::null_mut() } else { cursor.as_mut_ptr() };
            // SAFETY: the buffers hold `count` keys and values, the cursor at least a key; in and out cursor may be one.
            let result = unsafe {
                raw::bpf_map_lookup_batch(
                    self.fd.as_raw_fd(),
                    start.cast(),
                    cursor.as_mut_ptr().cast(),
                    self.keys.as_mut_ptr().cast(),
                    self.values.as_mut_ptr().cast(),
                    &raw mut count,
                    std::ptr::null(),
                )
            };
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

    fn for_each_by_key(&mut self, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut keys = Vec::new();
        let mut key = vec![0u8; self.key_size];
        let mut previous = std::ptr::null();
        // SAFETY: both keys have the map's key size.
        while unsafe { raw::bpf_map_get_next_key(self.fd.as_raw_fd(), previous, key.as_mut_ptr().cast()) }
            == 0
        {
            keys.push(key.clone());
            previous = keys.last().map_or(std::ptr::null(), |key| key.as_ptr()).cast();
        }
        for key in keys {
            if let Some(value) = self.get(&key)? {
                each(&key, &value);
            }
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
        // SAFETY: key and value have the map's sizes.
        let result = unsafe {
            raw::bpf_map_lookup_elem(self.fd.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast())
        };
        match -result {
            0 => Ok(Some(value)),
            libc::ENOENT => Ok(None),
            _ => Err(failure(i64::from(result))).context("read map"),
        }
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
        Err(Error::new(Reason::Failed, format!("a key of {size} bytes for a map with keys of {expected}")))
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The reading end of a ring buffer map.
pub struct Ring {
    raw: NonNull<raw::ring_buffer>,
    /// Where the C callback finds the closure of the `consume` call it runs in.
    slot: Box<Slot>,
}

type Slot = Option<NonNull<dyn FnMut(&[u8])>>;

impl Ring {
    /// Maps the ring of `map`.
    ///
    /// # Errors
    /// ENOMEM, or EINVAL for a map of another type.
    pub fn open(map: &Map) -> Result<Ring> {
        let mut slot: Box<Slot> = Box::new(None);
        let context: *mut Slot = &raw mut *slot;
        // SAFETY: the slot is boxed and lives as long as the ring.
        let ring = unsafe {
            raw::ring_buffer__new(map.as_raw_fd(), Some(on_record), context.cast(), std::ptr::null())
        };
        let raw = NonNull::new(ring).ok_or_else(|| failure(i64::from(errno()))).context("ring")?;
        Ok(Ring { raw, slot })
    }

    /// Hands at most `max` records to `each`; gives how many.
    pub fn consume(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let each: &mut dyn FnMut(&[u8]) = &mut each;
        // SAFETY: only the lifetime is erased; the slot is emptied again before `each` ends, and the callback runs only
        // within the call below.
        *self.slot = Some(unsafe {
            std::mem::transmute::<NonNull<dyn FnMut(&[u8]) + '_>, NonNull<dyn FnMut(&[u8])>>(NonNull::from(
                each,
            ))
        });
        // SAFETY: the ring is alive.
        let count = unsafe { raw::ring_buffer__consume_n(self.raw.as_ptr(), max as raw::size_t) };
        *self.slot = None;
        usize::try_from(count).unwrap_or(0)
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the ring is alive.
        unsafe { raw::ring_buffer__epoll_fd(self.raw.as_ptr()) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the ring is ours and not used again.
        unsafe { raw::ring_buffer__free(self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn on_record(context: *mut c_void, data: *mut c_void, size: raw::size_t) -> c_int {
    // SAFETY: the context is the slot of the ring being consumed; its closure, if set, is alive and used nowhere else;
    // libbpf hands out `size` readable bytes at `data`.
    unsafe {
        if let Some(mut each) = *context.cast::<Slot>() {
            (each.as_mut())(std::slice::from_raw_parts(data.cast::<u8>(), size as usize));
        }
    }
    0
}
