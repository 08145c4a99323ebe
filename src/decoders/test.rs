//! What tests of decoders share, and the test of the whole table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, BuildError, Chain, DECODERS, Decoder, Names, Options, Outcome, Spec, Tables};
use crate::containers::Containers;
use crate::host::Host;
use crate::limits;
use crate::procfs::fuzz;
use crate::programs::config::{self, Mark};
use crate::registry::ConstLabels;

/// A host of files in a directory of its own, which goes with it.
pub struct Bed {
    directory: PathBuf,
    pub host: Host,
    pub containers: Containers,
    pub tables: Tables,
    pub now_ns: u64,
}

impl Bed {
    pub fn new() -> Bed {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("nodeprobe-decoders-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Bed {
            host: Host::new(&directory, None),
            directory,
            containers: Containers::new(ConstLabels::default(), Duration::ZERO),
            tables: Tables::default(),
            now_ns: 1,
        }
    }

    /// This machine instead of files.
    pub fn live() -> Bed {
        let mut bed = Bed::new();
        bed.host = Host::new(Path::new("/"), None);
        bed
    }

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.directory.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.directory.join(file)).unwrap();
    }

    pub fn names(&mut self) -> Names<'_> {
        Names {
            host: &self.host,
            containers: &self.containers,
            now_ns: self.now_ns,
            tables: &mut self.tables,
        }
    }

    /// What `spec` without settings says of `input`.
    pub fn decode(&mut self, spec: &Spec, input: impl AsRef<[u8]>) -> Result<String, String> {
        let mut decoder = (spec.build)(&config::Decoder::default(), Options::default()).ok().unwrap();
        run(&mut *decoder, &mut self.names(), input.as_ref())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What a decoder says of `input`, `skip` for a skip.
pub fn run(decoder: &mut dyn Decoder, names: &mut Names<'_>, input: &[u8]) -> Result<String, String> {
    let mut out = b"=".to_vec();
    let answer = decoder.decode(names, input, &mut out)?;
    assert_eq!(out[0], b'=', "what was there stays");
    Ok(if answer == Answer::Skip {
        "skip".to_owned()
    } else {
        String::from_utf8_lossy(&out[1..]).into_owned()
    })
}

/// The error of making a decoder.
pub fn refused(spec: &Spec, config: &config::Decoder) -> BuildError {
    (spec.build)(config, Options::default()).err().unwrap()
}

#[test]
fn rows_are_well_formed_and_sorted() {
    assert!(DECODERS.is_sorted_by(|before, after| before.name < after.name));
    let text = super::document();
    for spec in DECODERS {
        assert!(
            spec.about.len() > 10 && !spec.about.ends_with('.') && !spec.about.contains('|'),
            "{}",
            spec.name
        );
        assert!(text.contains(&format!("| `{}` |", spec.name)));
    }
    let peer = "cgroup dname errno hex ifname inet_ip kstack ksym majorminor pci_vendor pci_device pci_class pci_subclass \
                regexp static_map string syscall uint";
    for name in peer.split_whitespace() {
        assert!(DECODERS.iter().any(|spec| spec.name == name), "{name}");
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut random = fuzz::numbers(0x0bad_cafe);
    let yaml = |name: &str| config::Decoder {
        name: name.into(),
        static_map: Some(vec![("1".into(), "one".into()), ("x".into(), "y".into())]),
        allow_unknown: true,
        regexps: Some(vec![("^[0-9]+".into(), Mark::default()), ("(.)x".into(), Mark::default())]),
        mark: Mark::default(),
    };
    for spec in DECODERS {
        let mut bed = Bed::new();
        bed.write("proc/kallsyms", "0000000000000010 T a\nffffffff81000000 T b\nffffffffc0000000 t c\t[m]\n");
        bed.write("proc/partitions", "major minor  #blocks  name\n\n   8        0  268435456 sda\n");
        bed.write("usr/share/misc/pci.ids", "8086  Intel\n\t1234  Card\nC 01  Storage\n\t06  SATA\n");
        let mut chain = Chain::build(&[yaml(spec.name)], Options::default()).ok().unwrap();
        let mut out = Vec::new();
        chain.begin();
        for round in 0..10_000 {
            let length = random() % 200;
            let input: Vec<u8> = match round % 3 {
                0 => (0..length).map(|_| random() as u8).collect(),
                1 => (0..length % 24).map(|_| b"0123456789-"[random() % 11]).collect(),
                _ => (0..length % 24).map(|_| (random() % 4) as u8).collect(),
            };
            out.clear();
            let outcome = chain.decode(&mut bed.names(), &input, &mut out);
            assert!(std::str::from_utf8(&out).is_ok(), "{}: {input:?}", spec.name);
            assert!(out.len() <= limits::LABEL_BYTES);
            assert!(outcome == Ok(Outcome::Text) || out.is_empty());
        }
        chain.end();
    }
}
