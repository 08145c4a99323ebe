//! Compiles `bpf/*.bpf.c` with clang and leaves the objects, without DWARF but with BTF, where `include_bytes!` finds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-env-changed=LLVM_STRIP");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The BPF headers come with the libbpf that is linked, so the two always match.
    let headers =
        PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are"));
    let mut sources: Vec<PathBuf> = fs::read_dir("bpf")
        .expect("bpf/")
        .map(|entry| entry.expect("bpf/").path())
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort();
    for source in sources {
        println!("cargo:rerun-if-changed={}", source.display());
        compile(&source, &headers, &out);
    }
}

fn compile(source: &Path, headers: &Path, out: &Path) {
    let object = out.join(source.file_name().expect("a file")).with_extension("o");
    let arch = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => "arm64",
        Ok("arm") => "arm",
        _ => "x86",
    };
    run(Command::new(tool("CLANG", "clang"))
        // v3 instructions need Linux 5.1; with them the objects are a quarter smaller and the verifier quicker.
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-c"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(headers)
        .args(["-idirafter", &format!("/usr/include/{}", multiarch())])
        .arg(format!("-ffile-prefix-map={}=.", env::var("CARGO_MANIFEST_DIR").unwrap_or_default()))
        .arg(source)
        .arg("-o")
        .arg(&object));
    run(Command::new(tool("LLVM_STRIP", "llvm-strip")).arg("-g").arg(&object));
}

/// Where Debian keeps `asm/types.h`.
fn multiarch() -> &'static str {
    match env::var("HOST").unwrap_or_default().split('-').next() {
        Some("aarch64") => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    }
}

fn tool(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_owned())
}

fn run(command: &mut Command) {
    let status =
        command.status().unwrap_or_else(|error| panic!("{command:?}: {error} (make build installs it)"));
    assert!(status.success(), "{command:?} failed");
}
