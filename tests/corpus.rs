//! What the fuzzer starts from and what it has found, without the fuzzer: no panic, and no signal out of libbpf's C.

mod support;

#[path = "../fuzz/src/cloud.rs"]
mod cloud;
#[path = "../fuzz/src/decoders.rs"]
mod decoders;
#[path = "../fuzz/src/elf.rs"]
mod elf;
#[path = "../fuzz/src/http.rs"]
mod http;
#[path = "../fuzz/src/journal.rs"]
mod journal;
#[path = "../fuzz/src/json.rs"]
mod json;
#[path = "../fuzz/src/logs.rs"]
mod logs;
#[path = "../fuzz/src/yaml.rs"]
mod yaml;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use support::{Dice, TempDir, run_command};

/// A config for `fuzz/objects/maps.bpf.c`.
const YAML: &str = include_str!("../fuzz/src/object.yaml");
/// Objects that are spoilt.
const SPOILT: usize = 2_000;
/// Objects one process looks at.
const AT_ONCE: usize = 250;
const PATIENCE: Duration = Duration::from_secs(60);

/// Names and contents of a corpus.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("a corpus")
        .map(|entry| entry.expect("a file of the corpus"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file of the corpus"))
        })
        .collect();
    files.sort();
    assert!(files.len() > 1, "{} is empty", directory.display());
    files
}

/// Runs each input of a corpus, and damaged ones.
fn replay(target: &str, run: impl Fn(&[u8])) {
    let mut dice = Dice::new(7);
    for (name, data) in corpus(target) {
        println!("{target}: {name}");
        run(&data);
        for _ in 0..100 {
            let mut spoilt = data.clone();
            for _ in 0..=dice.below(3) {
                dice.mutate(&mut spoilt);
            }
            run(&spoilt);
        }
    }
}

#[test]
fn text_and_keys_are_survived() {
    replay("yaml", yaml::run);
    replay("decoders", decoders::run);
    replay("http", http::run);
    replay("json", json::run);
    replay("cloud", cloud::run);
    replay("docker", logs::docker);
    replay("cri", logs::cri);
    replay("pattern", logs::pattern);
    replay("journal", journal::run);
}

/// `nodeprobe check` of `objects`, each with a config that uses maps.
fn check(objects: &[Vec<u8>]) -> Output {
    let directory = TempDir::new("corpus");
    for (number, object) in objects.iter().enumerate() {
        fs::write(directory.path().join(format!("{number}.bpf.o")), object).expect("written");
        fs::write(directory.path().join(format!("{number}.yaml")), YAML).expect("written");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodeprobe"));
    command.arg("check").arg(directory.path());
    run_command(command, PATIENCE)
}

/// Wants findings, and an end as one wants it.
#[track_caller]
fn refused(objects: &[Vec<u8>], what: &str) -> String {
    let output = check(objects);
    if output.status.code() != Some(1) && objects.len() > 1 {
        for (number, object) in objects.iter().enumerate() {
            refused(std::slice::from_ref(object), &format!("{what}, number {number}"));
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) {
        let path = std::env::temp_dir().join("nodeprobe-corpus.bpf.o");
        fs::write(&path, objects.concat()).expect("written");
        panic!("{what}: {} with {}: {stderr}", output.status, path.display());
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_made_libbpf_crash_is_refused_before() {
    for (name, object) in corpus("object") {
        let said = check(std::slice::from_ref(&object));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        if !name.starts_with("crash-") {
            // Some of their programs have no place to attach to, which is no fault of the file.
            assert!(!said.contains(".bpf.o: section "), "{name}: {said}");
            continue;
        }
        let said = refused(&[object], &name);
        let is_told = said.contains(".bpf.o: section ") || said.contains("struct_ops) are not supported");
        assert!(is_told, "{name}: {said}");
    }
}

#[test]
fn spoilt_objects_are_survived() {
    let seeds = corpus("object");
    let mut dice = Dice::new(11);
    let spoilt: Vec<Vec<u8>> = (0..SPOILT)
        .map(|number| {
            let mut object = seeds[number % seeds.len()].1.clone();
            for _ in 0..=dice.below(3) {
                elf::spoil(&mut object, dice.next());
            }
            if dice.below(8) == 0 {
                dice.mutate(&mut object);
            }
            object
        })
        .collect();
    for (number, objects) in spoilt.chunks(AT_ONCE).enumerate() {
        refused(objects, &format!("batch {number}"));
    }
}
