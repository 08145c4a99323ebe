//! Files of a host that are random, cut, missing, of the wrong kind or full of numbers out of range: no panic, and a scrape
//! that Prometheus accepts.
//!
//! One test, one thread: an agent numbers metric families in process-wide statics.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nodeprobe::agent::Agent;
use nodeprobe::args::{Config, Enable};
use nodeprobe::stderr::{self, Level};
use support::{Dice, Metrics, TempDir, copy_tree, fixture_hosts};

/// Files changed at once; one agent each would take minutes.
const FILES_PER_RUN: usize = 24;

/// How a file is spoilt.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    Random,
    Empty,
    Cut,
    Directory,
    DanglingLink,
    Missing,
    Long,
    Mutated(u8),
}

const SPOILS: [Spoil; 10] = [
    Spoil::Random,
    Spoil::Empty,
    Spoil::Cut,
    Spoil::Directory,
    Spoil::DanglingLink,
    Spoil::Missing,
    Spoil::Long,
    Spoil::Mutated(1),
    Spoil::Mutated(2),
    Spoil::Mutated(8),
];

/// What a file was before it was spoilt.
enum Original {
    Text(Vec<u8>),
    Link(PathBuf),
}

fn original(path: &Path) -> Original {
    match fs::read_link(path) {
        Ok(target) => Original::Link(target),
        Err(_) => Original::Text(fs::read(path).expect("a file of the copy")),
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).expect("removed"),
        Ok(_) => fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}

fn spoil(path: &Path, how: Spoil, dice: &mut Dice) {
    let data = fs::read(path).unwrap_or_default();
    remove(path);
    let data = match how {
        Spoil::Directory => return fs::create_dir(path).expect("a directory"),
        Spoil::DanglingLink => return symlink("/nonexistent/nodeprobe", path).expect("a link"),
        Spoil::Missing => return,
        Spoil::Random => {
            let count = dice.below(4096);
            dice.bytes(count)
        }
        Spoil::Empty => Vec::new(),
        Spoil::Cut => data[..dice.below(data.len() + 1)].to_vec(),
        // Past the first read, and past what a page of the kernel holds.
        Spoil::Long => data.repeat(1 + 20_000 / data.len().max(1)),
        Spoil::Mutated(times) => {
            let mut data = data;
            for _ in 0..times {
                dice.mutate(&mut data);
            }
            data
        }
    };
    fs::write(path, data).expect("written");
}

fn restore(path: &Path, original: &Original) {
    remove(path);
    match original {
        Original::Text(data) => fs::write(path, data).expect("written"),
        Original::Link(target) => symlink(target, path).expect("a link"),
    }
}

/// Every file and symbolic link of a tree, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("a directory of the copy") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_dir() {
                waiting.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// One scrape of the host at `root`, in this process.
fn scrape(root: &Path) -> Result<Metrics, String> {
    let mut config = Config { root: root.to_path_buf(), ..Config::default() };
    config.collectors.push(("tcp", Enable::Off));
    let mut agent = Agent::open(config).map_err(|error| error.to_string())?;
    let body = agent.once().map_err(|error| error.to_string())?;
    let text = String::from_utf8(body.pieces.concat()).map_err(|error| error.to_string())?;
    Metrics::try_parse(&text)
}

/// Series about the host, for comparing two scrapes.
fn steady(metrics: &Metrics) -> Vec<String> {
    let of_host = metrics.all().iter().filter(|series| !series.name.starts_with("nodeprobe_"));
    of_host.map(|series| format!("{series:?}")).collect()
}

#[test]
fn spoilt_files_spoil_nothing_else() {
    // The printer is this thread's: ten thousand warnings are no news.
    stderr::configure(Level::Error, 0.0, 0.0);
    let mut dice = Dice::new(2024);
    let mut spoilt = 0;
    for host in fixture_hosts() {
        let copy = TempDir::new("hostile");
        copy_tree(&host, copy.path());
        let before = steady(&scrape(copy.path()).expect("the host as it is"));
        let mut work: Vec<(PathBuf, Spoil)> = files(copy.path())
            .into_iter()
            .filter(|path| !path.ends_with("metrics.txt"))
            .flat_map(|path| SPOILS.map(|how| (path.clone(), how)))
            .collect();
        for at in (1..work.len()).rev() {
            work.swap(at, dice.below(at + 1));
        }
        for run in work.chunks(FILES_PER_RUN) {
            // A file may be spoilt twice in a run; the first original is the one to restore.
            let originals: Vec<(&Path, Original)> = {
                let mut paths: Vec<&Path> = run.iter().map(|(path, _)| path.as_path()).collect();
                paths.sort();
                paths.dedup();
                paths.into_iter().map(|path| (path, original(path))).collect()
            };
            for (path, how) in run {
                spoil(path, *how, &mut dice);
                spoilt += 1;
            }
            if let Err(problem) = scrape(copy.path()) {
                panic!("{problem} with {run:#?}");
            }
            for (path, original) in &originals {
                restore(path, original);
            }
        }
        let after = steady(&scrape(copy.path()).expect("the host as it was"));
        assert_eq!(before, after, "{}", host.display());
    }
    assert!(spoilt >= 10_000, "only {spoilt} files were spoilt");
    hostile_names();
    binary_noise_in_every_file(&mut dice);
}

/// Cgroups, disks and interfaces with names nobody expects.
fn hostile_names() {
    let host = fixture_hosts().into_iter().find(|host| host.ends_with("systemd-v2")).expect("systemd-v2");
    let copy = TempDir::new("names");
    copy_tree(&host, copy.path());
    let cgroups = copy.path().join("sys/fs/cgroup/system.slice");
    let long = "x".repeat(240);
    let names: [&[u8]; 12] = [
        b"a\"b.service",
        b"a\\b.service",
        b"a\nb.service",
        b"\xff\xfe\x80.service",
        b"}{,=.service",
        b"\r\t\x01\x1b[31m.service",
        "unicode-\u{202e}-\u{1f980}.service".as_bytes(),
        b".service",
        b"docker-.scope",
        b"..service",
        b"x--x@\\x2d.service",
        b"% d.service",
    ];
    let mut made = 0;
    for name in names.into_iter().map(<[u8]>::to_vec).chain([format!("{long}.service").into_bytes()]) {
        let directory = cgroups.join(OsStr::from_bytes(&name));
        fs::create_dir(&directory).expect("a cgroup");
        for file in ["cpu.stat", "io.stat", "memory.current", "memory.stat"] {
            fs::copy(cgroups.join("nginx.service").join(file), directory.join(file))
                .expect("a file of nginx.service");
        }
        made += 1;
    }
    let metrics = scrape(copy.path()).expect("a scrape Prometheus accepts");
    let containers = metrics.series("container_resources_cpu_usage_seconds_total");
    assert!(containers.len() > made, "{} of {made} and nginx", containers.len());
    for expected in ["a\"b", "a\\b", "a\nb"] {
        let id = format!("/system.slice/{expected}.service");
        assert!(containers.iter().any(|series| series.label("container_id") == id), "{id:?} is missing");
    }
    let devices = fs::read_to_string(copy.path().join("proc/diskstats")).expect("diskstats");
    let odd = devices.replace("nvme0n1 ", "sd\"a\\ ");
    fs::write(copy.path().join("proc/diskstats"), odd).expect("written");
    let net = fs::read_to_string(copy.path().join("proc/1/net/dev")).expect("net/dev");
    fs::write(copy.path().join("proc/1/net/dev"), net.replace("enp5s0:", "e\"\\0:")).expect("written");
    scrape(copy.path()).expect("a scrape Prometheus accepts");
}

/// Every file of a host at once.
fn binary_noise_in_every_file(dice: &mut Dice) {
    for host in fixture_hosts() {
        let copy = TempDir::new("noise");
        copy_tree(&host, copy.path());
        for round in 0..3 {
            for path in files(copy.path()) {
                spoil(&path, if round == 0 { Spoil::Mutated(3) } else { Spoil::Random }, dice);
            }
            let metrics =
                scrape(copy.path()).unwrap_or_else(|problem| panic!("{}: {problem}", host.display()));
            assert_eq!(metrics.series("nodeprobe_build_info").len(), 1);
        }
    }
}
