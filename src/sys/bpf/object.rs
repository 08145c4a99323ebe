//! An object file: opened, prepared, loaded, attached.

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use libbpf_sys as raw;

use super::{Map, check, duplicate, errno, explain, failure, keep_talk, take_talk};
use crate::error::{Context, Error, Reason, Result};
use crate::limits;
use crate::sys::process::kernel_is_32_bit;
use crate::sys::zlib;

/// A BPF object file that is opened but not loaded.
#[derive(Debug)]
pub struct Object {
    raw: NonNull<raw::bpf_object>,
    /// The file: libbpf may read it until the object is closed.
    _elf: Box<[u8]>,
}

/// What an object says of one of its programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The function's name.
    pub name: String,
    /// The section it is in, which says where it attaches.
    pub section: String,
    /// Whether it is loaded unless told otherwise; false for `SEC("?...")`.
    pub is_enabled: bool,
}

/// A program type that libbpf does not guess from the section, because the section is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramType {
    /// `BPF_PROG_TYPE_PERF_EVENT`.
    PerfEvent,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp,
}

/// What the kernel says of a program that is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its number.
    pub id: u32,
    /// A hash of its instructions.
    pub tag: [u8; 8],
    /// How long it ran, in nanoseconds, while `kernel.bpf_stats_enabled` was on.
    pub run_time_ns: u64,
    /// How often, in that time.
    pub runs: u64,
    /// How often it was not run because it was at work on that processor already (Linux 5.12).
    pub misses: u64,
}

impl ProgramInfo {
    /// Asks the kernel about the program `fd`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(fd: &OwnedFd) -> Result<ProgramInfo> {
        let mut info = raw::bpf_prog_info::default();
        let mut size = size_of::<raw::bpf_prog_info>() as u32;
        // SAFETY: pointer and size are those of the struct, whose own pointers are null.
        check(unsafe { raw::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size) })?;
        Ok(ProgramInfo {
            id: info.id,
            tag: info.tag,
            run_time_ns: info.run_time_ns,
            runs: info.run_cnt,
            misses: info.recursion_misses,
        })
    }
}

impl Object {
    /// Parses an object file that is a part of this program, compressed. `name` appears in libbpf's messages.
    ///
    /// # Errors
    /// A file that is not a BPF object.
    pub fn open(name: &str, packed: &[u8]) -> Result<Object> {
        let elf = zlib::gunzip(packed, limits::OBJECT_BYTES);
        Object::parse(name, elf.ok_or_else(|| Error::new(Reason::Failed, "unpack"))?, None)
    }

    /// Parses the object file `elf`. `name` appears in libbpf's messages; `btf` is a file with the kernel's types, if they
    /// are not to be read from the kernel.
    ///
    /// # Errors
    /// A file that is not a BPF object.
    pub fn parse(name: &str, elf: Vec<u8>, btf: Option<&Path>) -> Result<Object> {
        let elf = elf.into_boxed_slice();
        let raw = open(name, &elf, btf)?;
        Ok(Object { raw, _elf: elf })
    }

    /// Its programs, in file order.
    pub fn programs(&self) -> Vec<Program> {
        let describe = |program: NonNull<raw::bpf_program>| {
            // SAFETY: the program belongs to this live object, as do its strings.
            unsafe {
                Program {
                    name: owned(raw::bpf_program__name(program.as_ptr())),
                    section: owned(raw::bpf_program__section_name(program.as_ptr())),
                    is_enabled: raw::bpf_program__autoload(program.as_ptr()),
                }
            }
        };
        self.each_program().map(describe).collect()
    }

    fn each_program(&self) -> impl Iterator<Item = NonNull<raw::bpf_program>> {
        let mut program = std::ptr::null_mut();
        std::iter::from_fn(move || {
            // SAFETY: the object is alive; a null pointer asks for the first program.
            program = unsafe { raw::bpf_object__next_program(self.raw.as_ptr(), program) };
            NonNull::new(program)
        })
    }

    pub(super) fn each_map(&self) -> impl Iterator<Item = NonNull<raw::bpf_map>> {
        let mut map = std::ptr::null_mut();
        std::iter::from_fn(move || {
            // SAFETY: the object is alive; a null pointer asks for the first map.
            map = unsafe { raw::bpf_object__next_map(self.raw.as_ptr(), map) };
            NonNull::new(map)
        })
    }

    pub(super) fn as_ptr(&self) -> *mut raw::bpf_object {
        self.raw.as_ptr()
    }

    /// Sets the type of a program whose section libbpf does not know.
    ///
    /// # Errors
    /// An object without such a program.
    pub fn set_type(&mut self, program: &str, kind: ProgramType) -> Result<()> {
        let kind = match kind {
            ProgramType::PerfEvent => raw::BPF_PROG_TYPE_PERF_EVENT,
            ProgramType::Xdp => raw::BPF_PROG_TYPE_XDP,
        };
        let program = self.program(program)?.as_ptr();
        // SAFETY: the program belongs to this live object, which is not loaded yet.
        check(unsafe { raw::bpf_program__set_type(program, kind) })?;
        if kind == raw::BPF_PROG_TYPE_XDP {
            // SAFETY: as above.
            check(unsafe { raw::bpf_program__set_expected_attach_type(program, raw::BPF_XDP) })?;
        }
        Ok(())
    }

    /// A program that goes by the kernel's types, where the kernel is a 32-bit one: BPF's pointers have eight bytes, and a
    /// program that copies one from there gets what stands behind it as well.
    fn typed_for_32_bit(&self) -> Option<String> {
        const TYPED: &[&str] = &["tp_btf", "fentry", "fexit", "fmod_ret", "iter", "lsm"];
        if !kernel_is_32_bit() {
            return None;
        }
        let is_typed = |program: &Program| {
            let kind = program.section.trim_start_matches('?').split(['/', '.']).next();
            program.is_enabled && kind.is_some_and(|kind| TYPED.contains(&kind))
        };
        self.programs().into_iter().find(is_typed).map(|program| program.name)
    }

    fn map(&self, name: &str) -> Result<NonNull<raw::bpf_map>> {
        let c_name = CString::new(name).unwrap_or_default();
        // SAFETY: the object is alive and the name NUL-terminated.
        let map = unsafe { raw::bpf_object__find_map_by_name(self.raw.as_ptr(), c_name.as_ptr()) };
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
        let area = self.initial_value(".rodata")?;
        if area.len() != bytes.len() {
            let line = format!("constants are {} bytes, not {}", area.len(), bytes.len());
            return Err(Error::new(Reason::Failed, line));
        }
        area.copy_from_slice(bytes);
        Ok(())
    }

    /// The bytes of the section `section`, which programs will see as its start value.
    fn initial_value(&mut self, section: &str) -> Result<&mut [u8]> {
        let map = self
            .each_map()
            .find(|map| {
                // SAFETY: a map's name lives as long as the object.
                let name = unsafe { CStr::from_ptr(raw::bpf_map__name(map.as_ptr())) };
                name.to_bytes().ends_with(section.as_bytes())
            })
            .ok_or_else(|| Error::new(Reason::Failed, format!("no {section} in the object")))?;
        let mut size: raw::size_t = 0;
        // SAFETY: the map is alive, and the object not loaded.
        let value = unsafe { raw::bpf_map__initial_value(map.as_ptr(), &raw mut size) };
        if value.is_null() {
            return Err(Error::new(Reason::Failed, format!("{section} has no start value")));
        }
        // SAFETY: libbpf says the area has just this size; it lives as long as the object, which is borrowed.
        Ok(unsafe { std::slice::from_raw_parts_mut(value.cast(), size as usize) })
    }

    /// Sets the 64-bit variable `name`, wherever it is declared.
    ///
    /// # Errors
    /// An object without such a variable.
    pub fn set_variable(&mut self, name: &str, value: u64) -> Result<()> {
        let (section, offset, size) = self
            .variable(name)
            .ok_or_else(|| Error::new(Reason::NotFound, format!("no variable {name} in the object")))?;
        if size != 8 {
            return Err(Error::new(Reason::Failed, format!("variable {name} has {size} bytes, not 8")));
        }
        let area = self.initial_value(&section)?;
        let bytes = area.get_mut(offset..offset + 8);
        bytes
            .ok_or_else(|| Error::new(Reason::Failed, format!("{name} is not in {section}")))?
            .copy_from_slice(&value.to_ne_bytes());
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
        let program = unsafe { raw::bpf_object__find_program_by_name(self.raw.as_ptr(), c_name.as_ptr()) };
        NonNull::new(program).ok_or_else(|| Error::new(Reason::Failed, format!("no program {name}")))
    }

    /// Loads all enabled programs into the kernel.
    ///
    /// # Errors
    /// What the kernel or its verifier says.
    pub fn load(self) -> Result<Loaded> {
        self.try_load().map_err(|refusal| refusal.error)
    }

    /// Loads all enabled programs into the kernel; says which one it was that did not load.
    ///
    /// # Errors
    /// What the kernel or its verifier says. The object is gone then: libbpf does not try one twice.
    pub fn try_load(self) -> Result<Loaded, Refusal> {
        take_talk();
        if let Some(program) = self.typed_for_32_bit() {
            let error = Error::new(Reason::NoBtf, "load: types of 32-bit kernels cannot be followed");
            return Err(Refusal { error, program: Some(program), log: Vec::new() });
        }
        // SAFETY: the object is alive and not loaded yet.
        let result = unsafe { raw::bpf_object__load(self.raw.as_ptr()) };
        if result >= 0 {
            return Ok(Loaded(self));
        }
        let talk = take_talk();
        let error = explain(i64::from(result), &talk);
        let error = match -result {
            // The verifier's word for a program it does not accept; a missing capability is EPERM here.
            libc::EACCES => error.with_reason(Reason::NotSupported),
            _ => error,
        };
        let error = Err::<(), _>(error).context("load").unwrap_err();
        Err(Refusal { error, program: blamed(&talk), log: verifier_log(&talk) })
    }
}

/// Why an object did not load.
#[derive(Debug)]
pub struct Refusal {
    /// What the kernel says.
    pub error: Error,
    /// The program it says it of.
    pub program: Option<String>,
    /// The last lines of the verifier, if it was the verifier.
    pub log: Vec<String>,
}

/// The program in libbpf's last line that names one: `libbpf: prog 'NAME': ...`.
fn blamed(talk: &[String]) -> Option<String> {
    let name = |line: &String| Some(line.split_once("prog '")?.1.split_once('\'')?.0.to_owned());
    talk.iter().rev().find_map(name)
}

/// The verifier's last lines, without its statistics.
fn verifier_log(talk: &[String]) -> Vec<String> {
    const LINES: usize = 3;
    let Some(end) = talk.iter().rposition(|line| line.contains("-- END PROG LOAD LOG --")) else {
        return Vec::new();
    };
    let log =
        talk[..end].rsplit(|line| line.contains("-- BEGIN PROG LOAD LOG --")).next().unwrap_or_default();
    let said: Vec<String> = log.iter().filter(|line| !line.starts_with("processed ")).cloned().collect();
    said[said.len().saturating_sub(LINES)..].to_vec()
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the object is ours and not used again.
        unsafe { raw::bpf_object__close(self.raw.as_ptr()) };
    }
}

/// An object whose programs and maps are in the kernel.
#[derive(Debug)]
pub struct Loaded(Object);

impl Loaded {
    pub(super) fn raw_program(&self, name: &str) -> Result<NonNull<raw::bpf_program>> {
        self.0.program(name)
    }

    /// A descriptor of program `name` that outlives the object; `None` for one that was not loaded.
    ///
    /// # Errors
    /// EMFILE.
    pub fn program(&self, name: &str) -> Result<Option<OwnedFd>> {
        let program = self.0.program(name)?;
        // SAFETY: the program belongs to this live object.
        let fd = unsafe { raw::bpf_program__fd(program.as_ptr()) };
        if fd < 0 { Ok(None) } else { Ok(Some(duplicate(fd)?)) }
    }

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
        for program in self.0.each_program() {
            // SAFETY: the program belongs to this live object.
            if unsafe { raw::bpf_program__autoload(program.as_ptr()) } {
                // SAFETY: as above; a program's name lives as long as the object.
                let name = unsafe { CStr::from_ptr(raw::bpf_program__name(program.as_ptr())) };
                let link = attach(program).context(format_args!("attach {}", name.to_string_lossy()))?;
                links.push(link);
            }
        }
        Ok(Links(links))
    }

    /// Attaches program `name` as its section says.
    ///
    /// # Errors
    /// What libbpf and the kernel say.
    pub fn attach_program(&self, name: &str) -> Result<Links> {
        Ok(Links(vec![attach(self.0.program(name)?)?]))
    }

    /// Attaches program `name` to the network interface with number `interface`, in driver mode if it has one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn attach_to_interface(&self, name: &str, interface: u32) -> Result<Links> {
        let program = self.0.program(name)?;
        take_talk();
        // SAFETY: the program belongs to this live object and is loaded.
        let link = unsafe { raw::bpf_program__attach_xdp(program.as_ptr(), interface as c_int) };
        Ok(Links(vec![Link::new(link)?]))
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

/// Attaches a loaded program as its section says.
fn attach(program: NonNull<raw::bpf_program>) -> Result<Link> {
    take_talk();
    // SAFETY: callers pass a program of a live object, and it is loaded.
    Link::new(unsafe { raw::bpf_program__attach(program.as_ptr()) })
}

/// What keeps programs attached.
#[derive(Debug, Default)]
pub struct Links(Vec<Link>);

impl Links {
    /// Takes `others` in.
    pub fn append(&mut self, mut others: Links) {
        self.0.append(&mut others.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// libbpf's own link, not a copy of its descriptor: libbpf switches the perf event of a probe or classic tracepoint off
/// when it destroys the link, whatever other descriptors there are. It does not refer to the object.
#[derive(Debug)]
pub(super) struct Link(NonNull<raw::bpf_link>);

impl Link {
    /// Its descriptor, which is open as long as the link lives.
    pub(super) fn fd(&self) -> c_int {
        // SAFETY: the link is alive.
        unsafe { raw::bpf_link__fd(self.0.as_ptr()) }
    }

    /// Takes what an attach call of libbpf gave; null is its failure, explained by errno.
    pub(super) fn new(link: *mut raw::bpf_link) -> Result<Link> {
        NonNull::new(link).map(Link).ok_or_else(|| failure(i64::from(errno())))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: the link is ours and not used again.
        unsafe { raw::bpf_link__destroy(self.0.as_ptr()) };
    }
}

/// A string of libbpf's.
pub(super) unsafe fn owned(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: callers pass a NUL-terminated string that is alive.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn open(name: &str, elf: &[u8], btf: Option<&Path>) -> Result<NonNull<raw::bpf_object>> {
    // SAFETY: the callback lives as long as the program.
    unsafe { raw::libbpf_set_print(Some(keep_talk)) };
    take_talk();
    let nul = |_| Error::new(Reason::Failed, "a name with a NUL");
    let name = CString::new(name).map_err(nul)?;
    let btf = btf.map(|path| CString::new(path.as_os_str().as_bytes())).transpose().map_err(nul)?;
    let options = raw::bpf_object_open_opts {
        sz: size_of::<raw::bpf_object_open_opts>() as raw::size_t,
        object_name: name.as_ptr(),
        btf_custom_path: btf.as_ref().map_or(std::ptr::null(), |path| path.as_ptr()),
        ..Default::default()
    };
    // SAFETY: pointer and length are the slice's, and the options outlive the call; libbpf copies what it keeps but the ELF
    // bytes, and every caller keeps those as long as the object.
    let object = unsafe {
        raw::bpf_object__open_mem(elf.as_ptr().cast(), elf.len() as raw::size_t, &raw const options)
    };
    NonNull::new(object).ok_or_else(|| failure(i64::from(errno()))).context("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guilty_program_is_named_with_the_verifiers_words() {
        let talk: Vec<String> = [
            "libbpf: prog 'good': something harmless",
            "libbpf: prog 'bad': BPF program load failed: Permission denied",
            "libbpf: prog 'bad': -- BEGIN PROG LOAD LOG --",
            "0: R1=ctx() R10=fp0",
            "1: (85) call 1",
            "R1 type=ctx expected=fp",
            "processed 2 insns (limit 1000000)",
            "-- END PROG LOAD LOG --",
            "libbpf: prog 'bad': failed to load: -13",
            "libbpf: failed to load object 'x'",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(blamed(&talk).as_deref(), Some("bad"));
        assert_eq!(verifier_log(&talk), ["0: R1=ctx() R10=fp0", "1: (85) call 1", "R1 type=ctx expected=fp"]);
        assert!(verifier_log(&talk[..2]).is_empty() && blamed(&[]).is_none());
    }
}
