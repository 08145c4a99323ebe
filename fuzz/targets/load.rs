//! A BPF object on its way into the kernel: what libbpf does to it before and between system calls. There is no kernel
//! behind it: each system call for BPF succeeds at once and does nothing, and the kernel's types and symbols are a
//! few of our own.

#![no_main]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::sync::OnceLock;

use nodeprobe::programs::{attach, elf};
use nodeprobe::sys::bpf::Object;

/// What the kernel says of its types: those of `objects/types.c`.
const TYPES: &[u8] = include_bytes!("kernel.btf");
/// What it says of its symbols.
const SYMBOLS: &[u8] =
    b"ffffffff81000000 D bpf_prog_active\nffffffff81000010 D runqueues\nffffffff81000020 T do_exit\n";

nodeprobe_fuzz::target!(run);
nodeprobe_fuzz::mutator!(nodeprobe_fuzz::elf::spoil);

fn run(data: &[u8]) {
    let sound = elf::check(data).and_then(|()| Object::parse("x", data.to_vec(), None));
    let Ok(mut object) = sound else { return };
    if attach::prepare(&mut object).is_err() {
        return;
    }
    for variable in ["kaddr_one", "kaddr_two"] {
        let _ = object.set_variable(variable, 1);
    }
    let (programs, maps) = (object.programs(), object.maps());
    let Ok(loaded) = object.try_load() else { return };
    for program in &programs {
        let _ = loaded.program(&program.name);
    }
    for map in &maps {
        let _ = loaded.map(&map.name);
    }
}

unsafe extern "C" {
    fn __real_syscall(
        number: c_long,
        a: c_long,
        b: c_long,
        c: c_long,
        d: c_long,
        e: c_long,
        f: c_long,
    ) -> c_long;
    fn __real_open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int;
    fn __real_fopen64(path: *const c_char, mode: *const c_char) -> *mut c_void;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn ftruncate(fd: c_int, length: c_long) -> c_int;
    fn __errno_location() -> *mut c_int;
}

const SYS_BPF: c_long = 321;
const EINVAL: c_int = 22;
/// More than any map that libbpf maps into memory and can be had.
const MAP_BYTES: c_long = 1 << 40;

/// Stands in for the kernel's `bpf`.
///
/// # Safety
/// As `syscall`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number != SYS_BPF {
        // SAFETY: the caller's.
        return unsafe { __real_syscall(number, a, b, c, d, e, f) };
    }
    match a {
        // BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_BTF_LOAD
        0 | 5 | 18 => {
            // SAFETY: the name is a string.
            let fd = unsafe { memfd_create(c"bpf".as_ptr(), 0) };
            // SAFETY: a file of ours, without content.
            unsafe { ftruncate(fd, MAP_BYTES) };
            fd.into()
        }
        // BPF_MAP_UPDATE_ELEM, BPF_MAP_FREEZE, BPF_PROG_BIND_MAP
        2 | 22 | 35 => 0,
        _ => {
            // SAFETY: this thread's own number.
            unsafe { *__errno_location() = EINVAL };
            -1
        }
    }
}

/// The file of ours instead of the kernel's.
fn instead(path: &CStr) -> Option<&'static CStr> {
    static FILES: OnceLock<[CString; 2]> = OnceLock::new();
    let number = match path.to_bytes() {
        b"/sys/kernel/btf/vmlinux" => 0,
        b"/proc/kallsyms" => 1,
        _ => return None,
    };
    let files = FILES.get_or_init(|| {
        [("types", TYPES), ("symbols", SYMBOLS)].map(|(name, content)| {
            let path = std::env::temp_dir().join(format!("nodeprobe-fuzz-{name}"));
            std::fs::write(&path, content).expect("a small file");
            CString::new(path.into_os_string().into_encoded_bytes()).expect("a path")
        })
    });
    Some(&files[number])
}

/// Opens the kernel's files elsewhere.
///
/// # Safety
/// As `open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller's string.
    let path = unsafe { CStr::from_ptr(path) };
    // SAFETY: the caller's.
    unsafe { __real_open64(instead(path).unwrap_or(path).as_ptr(), flags, mode) }
}

/// Opens the kernel's files elsewhere.
///
/// # Safety
/// As `fopen`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_fopen64(path: *const c_char, mode: *const c_char) -> *mut c_void {
    // SAFETY: the caller's string.
    let path = unsafe { CStr::from_ptr(path) };
    // SAFETY: the caller's.
    unsafe { __real_fopen64(instead(path).unwrap_or(path).as_ptr(), mode) }
}
