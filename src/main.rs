//! nodeprobe
fn main() {
    // SAFETY: x
    println!("{}", unsafe { libbpf_sys::libbpf_major_version() });
}
