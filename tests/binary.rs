//! The program as a file: static, small, and at home in an empty root.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{ANSWER, Metrics, TempDir, run_command};

/// `make size` knows the same number.
const MAX_SIZE: u64 = 3 << 20;

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/nodeprobe")
}

/// The release program if there is one, else the one under test.
fn binary() -> PathBuf {
    match std::env::var_os("NODEPROBE_BINARY") {
        Some(path) => PathBuf::from(path),
        None if dist().exists() => dist(),
        None => PathBuf::from(support::BINARY),
    }
}

/// A number of `size` bytes at `at`, as ELF for x86-64 has them.
fn number(elf: &[u8], at: u64, size: usize) -> u64 {
    let at = at as usize;
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&elf[at..at + size]);
    u64::from_le_bytes(bytes)
}

#[test]
fn it_needs_no_interpreter_and_no_library() {
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    const DT_NEEDED: u64 = 1;
    let path = binary();
    let elf = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    assert_eq!(number(&elf, 18, 2), 62, "x86-64");
    let (headers, size, count) = (number(&elf, 32, 8), number(&elf, 54, 2), number(&elf, 56, 2));
    assert!(count > 0);
    for header in (0..count).map(|index| headers + index * size) {
        match number(&elf, header, 4) {
            PT_INTERP => panic!("{} wants an interpreter", path.display()),
            PT_DYNAMIC => {
                let (start, length) = (number(&elf, header + 8, 8), number(&elf, header + 32, 8));
                let tags = (0..length / 16).map(|entry| number(&elf, start + entry * 16, 8));
                let needed = tags.take_while(|tag| *tag != 0).filter(|tag| *tag == DT_NEEDED).count();
                assert_eq!(needed, 0, "{} wants shared libraries", path.display());
            }
            _ => {}
        }
    }
}

#[test]
fn the_release_program_is_small() {
    // Without `make build` there is no release program, and its size is no question.
    let Ok(metadata) = dist().metadata() else {
        return support::skip("no dist/nodeprobe: `make build` makes it");
    };
    assert!(metadata.len() <= MAX_SIZE, "{} bytes, limit {MAX_SIZE}", metadata.len());
}

/// A directory that holds the program and nothing else.
fn empty_root() -> TempDir {
    let root = TempDir::new("root");
    let program = root.path().join("nodeprobe");
    fs::copy(binary(), &program).expect("the program copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    root
}

#[track_caller]
fn alone(root: &TempDir, args: &[&str]) -> String {
    let mut command = Command::new("chroot");
    command.arg(root.path()).arg("/nodeprobe").args(args);
    let output = run_command(command, ANSWER);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn it_runs_alone_in_an_empty_root() {
    let root = empty_root();
    for version in [&["--version"][..], &["version"], &["-V"]] {
        assert_eq!(alone(&root, version), concat!("nodeprobe ", env!("CARGO_PKG_VERSION"), "\n"));
    }
    assert!(alone(&root, &["--help"]).contains("--listen"));
    let metrics = Metrics::parse(&alone(&root, &["once"]));
    assert_eq!(metrics.value("nodeprobe_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(metrics.value("nodeprobe_collector_up", &[("collector", "node_cpu")]), Some(0.0));
    let left: Vec<_> = fs::read_dir(root.path()).expect("the root").collect();
    assert_eq!(left.len(), 1, "it wrote files: {left:?}");
}
