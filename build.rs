//! Compiles `bpf/*.bpf.c` with clang and leaves the objects, without DWARF but with BTF, where `include_bytes!` finds them.
//! Those of `bpf/programs` are packed together with their configs, compressed. So is the page of `src/page`.

#[path = "build/page.rs"]
mod page;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-changed=build");
    // Users' programs may wait for this function of the stripped binary (src/sys/bpf/mark.rs).
    println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=post_attach_mark");
    println!("cargo:rustc-link-arg-benches=-Wl,--export-dynamic-symbol=nodeprobe_bench_target");
    println!("cargo:rerun-if-env-changed=CLANG");
    println!("cargo:rerun-if-env-changed=LLVM_STRIP");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The BPF headers come with the libbpf that is linked, so the two always match.
    let headers =
        PathBuf::from(env::var_os("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are"));
    // Tests compile programs of their own.
    println!("cargo:rustc-env=BPF_HEADERS={}", headers.display());
    for source in sources("bpf") {
        let object = compile(&source, &headers, &out);
        compress(&fs::read(&object).expect("an object"), &object.with_extension("o.gz"));
    }
    let programs = out.join("programs");
    fs::create_dir_all(&programs).expect("OUT_DIR is writable");
    let mut archive = Vec::new();
    for source in sources("bpf/programs") {
        let object = compile(&source, &headers, &programs);
        append(&mut archive, &source, &object);
    }
    compress(&archive, &out.join("programs.bin.gz"));
    let page = out.join("page.html");
    page::join(&page);
    compress(&fs::read(&page).expect("was just written"), &out.join("page.html.gz"));
}

fn sources(directory: &str) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(directory)
        .expect(directory)
        .map(|entry| entry.expect(directory).path())
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort_by_key(|source| name(source));
    sources
}

fn name(source: &Path) -> String {
    source.file_name().expect("a file").to_string_lossy().replace(".bpf.c", "")
}

fn compile(source: &Path, headers: &Path, out: &Path) -> PathBuf {
    println!("cargo:rerun-if-changed={}", source.display());
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
        // Directories that do not exist: clang then finds no source lines to put into the objects, a fifth of their size, and
        // they are the same wherever they are made.
        .arg(format!("-ffile-prefix-map={}=/nodeprobe", env::var("CARGO_MANIFEST_DIR").unwrap_or_default()))
        .arg(format!("-ffile-prefix-map={}=/libbpf", headers.display()))
        .arg(source)
        .arg("-o")
        .arg(&object));
    // Takes away labels, and relocations of sections that libbpf does not relocate.
    run(Command::new(tool("LLVM_STRIP", "llvm-strip"))
        .args(["-g", "--strip-unneeded", "--discard-all"])
        .args(["-R", ".rel.BTF", "-R", ".rel.BTF.ext", "-R", ".llvm_addrsig"])
        .arg(&object));
    object
}

/// Where Debian keeps `asm/types.h`.
fn multiarch() -> &'static str {
    match env::var("HOST").unwrap_or_default().split('-').next() {
        Some("aarch64") => "aarch64-linux-gnu",
        _ => "x86_64-linux-gnu",
    }
}

/// Three lengths, name, config and object; `src/programs/builtin.rs` reads it.
fn append(archive: &mut Vec<u8>, source: &Path, object: &Path) {
    let name = name(source);
    let config = source.with_file_name(format!("{name}.yaml"));
    println!("cargo:rerun-if-changed={}", config.display());
    let parts =
        [name.into_bytes(), fs::read(&config).expect("a config"), fs::read(object).expect("an object")];
    for part in &parts {
        archive.extend(u32::try_from(part.len()).expect("small").to_le_bytes());
    }
    parts.iter().for_each(|part| archive.extend(part));
}

fn compress(archive: &[u8], to: &Path) {
    let plain = to.with_extension("");
    fs::write(&plain, archive).expect("OUT_DIR is writable");
    let input = fs::File::open(&plain).expect("was just written");
    let output = fs::File::create(to).expect("OUT_DIR is writable");
    // -n: the same bytes from every build.
    run(Command::new("gzip").args(["-9", "-n"]).stdin(Stdio::from(input)).stdout(Stdio::from(output)));
}

fn tool(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_owned())
}

fn run(command: &mut Command) {
    let status =
        command.status().unwrap_or_else(|error| panic!("{command:?}: {error} (make build installs it)"));
    assert!(status.success(), "{command:?} failed");
}
