//! BPF programs of the tests and benches.

use std::path::Path;
use std::process::Command;

/// Compiles the BPF program `source`, a file below `tests/programs`, to `object`.
#[track_caller]
pub fn compile_bpf(source: &str, defines: &[&str], object: &Path) {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86" };
    let output = Command::new("clang")
        .args(["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-c", "-I", env!("BPF_HEADERS")])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .args(["-idirafter", &format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH)])
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source))
        .arg("-o")
        .arg(object)
        // cargo's own libraries are not clang's.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap_or_else(|error| panic!("clang: {error}; `make test` installs it"));
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
}
