//! The bytes of a key through a chain of decoders. The input says which decoders, their patterns and their static map as
//! well: a count, as many numbers of decoders, two lengths, the texts, the key.

use std::cell::RefCell;
use std::time::Duration;

use nodeprobe::containers::Containers;
use nodeprobe::decoders::{Chain, DECODERS, Names, Options, Outcome, Tables};
use nodeprobe::host::Host;
use nodeprobe::limits;
use nodeprobe::programs::config::{Decoder, Mark};
use nodeprobe::registry::ConstLabels;

/// More make no other paths.
const DECODERS_AT_ONCE: usize = 4;

/// What decoders ask.
struct Bed {
    host: Host,
    containers: Containers,
    tables: Tables,
}

impl Bed {
    /// A host of a few small files, left in the temporary directory: the fuzzer ends where it likes.
    fn new() -> Bed {
        let root = std::env::temp_dir().join("nodeprobe-fuzz-decoders");
        let files = [
            (
                "proc/kallsyms",
                "0000000000000010 T a\nffffffff81000000 T b\nffffffff81000010 t c.cold\nffffffffc0000000 t d\t[m]\n",
            ),
            (
                "proc/partitions",
                "major minor  #blocks  name\n\n   8        0  268435456 sda\n   8  1 1 sda1\n",
            ),
            (
                "usr/share/misc/pci.ids",
                "8086  Intel\n\t1234  Card\nC 01  Storage\n\t06  SATA\n\t\t01  AHCI\n",
            ),
        ];
        for (file, text) in files {
            let path = root.join(file);
            let directory = path.parent().expect("a file has one");
            std::fs::create_dir_all(directory)
                .and_then(|()| std::fs::write(&path, text))
                .expect("a small file");
        }
        Bed {
            host: Host::new(&root, None),
            containers: Containers::new(ConstLabels::default(), Duration::ZERO),
            tables: Tables::default(),
        }
    }
}

thread_local! {
    static BED: RefCell<Bed> = RefCell::new(Bed::new());
}

/// Takes `count` bytes from the front of `data`, or what there is.
fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    taken
}

fn number(data: &mut &[u8]) -> usize {
    take(data, 1).first().copied().unwrap_or_default().into()
}

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    let mut data = data;
    let count = number(&mut data) % (DECODERS_AT_ONCE + 1);
    let chosen: Vec<usize> = (0..count).map(|_| number(&mut data) % DECODERS.len()).collect();
    let mut texts = || {
        let length = number(&mut data);
        String::from_utf8_lossy(take(&mut data, length)).into_owned()
    };
    let (patterns, words) = (texts(), texts());
    let decoders: Vec<Decoder> = chosen
        .iter()
        .map(|&number| Decoder {
            name: DECODERS[number].name.into(),
            mark: Mark::default(),
            static_map: Some(words.lines().filter_map(|line| line.split_once('=')).map(pair).collect()),
            allow_unknown: words.len() % 2 == 1,
            regexps: Some(patterns.lines().map(|line| (line.into(), Mark::default())).collect()),
        })
        .collect();
    let _ = Chain::check(&decoders, data.len());
    let Ok(mut chain) = Chain::build(&decoders, Options { kernel_syscall_names: count % 2 == 1 }) else {
        return;
    };
    BED.with_borrow_mut(|bed| {
        chain.begin();
        let mut before = None;
        // Twice: the second answer may come from a cache.
        for _ in 0..2 {
            let mut names =
                Names { host: &bed.host, containers: &bed.containers, now_ns: 1, tables: &mut bed.tables };
            let mut out = b"=".to_vec();
            let outcome = chain.decode(&mut names, data, &mut out);
            assert_eq!(out[0], b'=', "what was there stays");
            assert!(std::str::from_utf8(&out).is_ok() && out.len() <= 1 + limits::LABEL_BYTES);
            assert!(outcome == Ok(Outcome::Text) || out.len() == 1);
            let answer = (outcome, out);
            assert!(before.is_none_or(|before| before == answer), "another answer to the same key");
            before = Some(answer);
        }
        chain.end();
    });
}

fn pair((key, value): (&str, &str)) -> (Box<str>, Box<str>) {
    (key.into(), value.into())
}
