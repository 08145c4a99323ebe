//! A BPF object and a config that uses its maps, as far as both are read without a kernel: libbpf's and libelf's C, and
//! what looks at their findings.

use nodeprobe::programs::check::{Report, check_source};
use nodeprobe::programs::elf;
use nodeprobe::programs::sources::Source;
use nodeprobe::sys::bpf::Object;

/// Fits `objects/maps.bpf.c`.
const YAML: &[u8] = include_bytes!("object.yaml");

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    // First what is on the way to the kernel; the check reads the YAML as well, which takes its time.
    let sound = elf::check(data).and_then(|()| Object::parse("x", data.to_vec(), None));
    let Ok(mut object) = sound else { return };
    for program in object.programs() {
        let _ = object.set_enabled(&program.name, false);
    }
    for variable in ["kaddr_one", "kaddr_two"] {
        let _ = object.set_variable(variable, 1);
    }
    drop(object);
    let source = Source {
        name: "x".into(),
        path: "x.yaml".into(),
        yaml: YAML.to_vec(),
        object_path: "x.bpf.o".into(),
        object: data.to_vec(),
    };
    check_source(source, None, &mut Vec::new(), &mut Report::default());
}
