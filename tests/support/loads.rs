//! Loads that programs of the kernel are to count, and what the kernel itself says of them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use super::support::TempDir;

pub const PYTHON: &str = "/usr/bin/python3";

#[track_caller]
pub fn between(what: &str, low: f64, value: f64, high: f64) {
    assert!(low <= value && value <= high, "{what}: {value} is not in {low} to {high}");
}

/// A cgroup of the v2 hierarchy; removed when dropped.
pub struct Cgroup {
    pub directory: PathBuf,
}

/// Where v2 is mounted, alone or beside v1.
pub fn unified() -> PathBuf {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let found = mounts.iter().find(|mount| Path::new(mount).join("cgroup.controllers").exists());
    PathBuf::from(found.expect("a v2 hierarchy is mounted"))
}

impl Cgroup {
    pub fn new(name: &str) -> Cgroup {
        Cgroup::below(&unified(), name)
    }

    pub fn below(mount: &Path, name: &str) -> Cgroup {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = mount.join(format!("nodeprobe-own-{}-{number}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        Cgroup { directory }
    }

    /// One with a limit of memory, in v2 or v1; the limit must be below what python3 is asked to take.
    pub fn with_memory(limit: &str) -> Cgroup {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        if v1.join("cgroup.procs").exists() {
            let cgroup = Cgroup::below(v1, "memory");
            fs::write(cgroup.directory.join("memory.limit_in_bytes"), limit).unwrap();
            let _ = fs::write(cgroup.directory.join("memory.memsw.limit_in_bytes"), limit);
            let _ = fs::write(cgroup.directory.join("memory.swappiness"), "0");
            return cgroup;
        }
        let _ = fs::write(unified().join("cgroup.subtree_control"), "+memory");
        let cgroup = Cgroup::new("memory");
        fs::write(cgroup.directory.join("memory.max"), limit).unwrap();
        let _ = fs::write(cgroup.directory.join("memory.swap.max"), "0");
        cgroup
    }

    /// What programs' label `cgroup` has.
    pub fn label(&self) -> &str {
        self.directory.to_str().unwrap()
    }

    /// Has the command's process enter before it executes.
    pub fn enter(&self, command: &mut Command) {
        let procs = OpenOptions::new().write(true).open(self.directory.join("cgroup.procs")).unwrap();
        // SAFETY: write(2) is all that is called between fork and exec.
        unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..200 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn python(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PYTHON);
    // cargo's own libraries are not Python's.
    command.env_remove("LD_LIBRARY_PATH").args(["-S", "-E", "-B", "-c", script]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A script that does one step for every line it reads, and answers with one.
pub struct Steps {
    pub child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Steps {
    pub fn start(mut command: Command) -> Steps {
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Steps { child, answers }
    }

    pub fn step(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the script ended: {line:?}");
        line.trim().to_owned()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn succeed(mut command: Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// A port nobody uses, below those that programs count together.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() as u16 % 10_000) + step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A loop device nobody else uses; `None` where there are none.
pub struct Loop {
    pub device: PathBuf,
    _directory: TempDir,
}

impl Loop {
    pub fn new() -> Option<Loop> {
        let directory = TempDir::new("loop");
        let file = directory.write("disk", vec![0; 4 << 20]);
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().ok()?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then(|| Loop { device: device.into(), _directory: directory })
    }

    /// Reads completed, and bytes read.
    pub fn reads(&self) -> (f64, f64) {
        let name = self.device.file_name().unwrap().to_str().unwrap();
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let numbers: Vec<f64> = stat.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers[0], numbers[2] * 512.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

pub fn set(socket: &impl AsRawFd, option: i32, value: &[u8]) {
    // SAFETY: the pointer is to as many bytes as are said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "setsockopt {option}: {}", std::io::Error::last_os_error());
}

/// A number of the kernel's struct tcp_info.
pub fn tcp_info(socket: &impl AsRawFd, at: usize) -> u32 {
    let mut info = [0u8; 192];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the pointers are to as many bytes as are said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "TCP_INFO");
    u32::from_ne_bytes(info[at..at + 4].try_into().unwrap())
}

/// tcpi_unacked: of a listening socket, connections that wait to be accepted.
pub const UNACKED: usize = 24;
/// tcpi_total_retrans.
pub const TOTAL_RETRANS: usize = 100;

/// /proc/softirqs: kind and CPU.
pub fn kernel_softirqs() -> BTreeMap<(String, String), f64> {
    let text = fs::read_to_string("/proc/softirqs").unwrap();
    let mut lines = text.lines();
    let cpus: Vec<&str> =
        lines.next().unwrap().split_whitespace().map(|cpu| cpu.trim_start_matches("CPU")).collect();
    let mut all = BTreeMap::new();
    for line in lines {
        let (kind, numbers) = line.split_once(':').unwrap();
        for (cpu, number) in cpus.iter().zip(numbers.split_whitespace()) {
            let kind = kind.trim().to_lowercase();
            all.insert((kind, (*cpu).to_owned()), number.parse().unwrap());
        }
    }
    all
}
