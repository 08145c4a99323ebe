//! Real container runtimes with their usual paths in a mount namespace of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cgroup::hierarchies;
use super::{Agent, TempDir, run_command, until};

/// Debian's own, not what a version manager has put in front of it.
const PYTHON: &str = "/usr/bin/python3";
const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/runtimes.py");

/// How long any command of a runtime may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The image that [`Runtimes`] have, as docker and podman are told its name.
pub const IMAGE: &str = "test/busybox:2.1";

/// Where runtimes run; all that was started there ends when it is dropped.
pub struct Runtimes {
    holder: Child,
    directory: TempDir,
    /// With a network namespace of their own.
    apart: bool,
}

impl Runtimes {
    /// Starts these daemons: `containerd`, `dockerd`, `dockerd=DATA_ROOT`; with `network` among them docker has its bridge, in
    /// a network namespace of its own. `None`, and a line that says why, on a machine that
    /// lets nobody run containers; it panics when a daemon does not start elsewhere.
    #[track_caller]
    pub fn start(daemons: &[&str]) -> Option<Runtimes> {
        if let Some(lack) = lack() {
            super::skip(&format!("containers of {daemons:?}, or of podman: {lack}"));
            return None;
        }
        let directory = TempDir::new("runtimes");
        let mut command = Command::new("unshare");
        let apart = daemons.contains(&"network");
        command.args(apart.then_some("--net"));
        command
            .args(["--mount", PYTHON, "-S", "-E", "-B", HELPER, "hold"])
            .arg(directory.path())
            .args(daemons);
        // cargo's own libraries are not Python's.
        command.env_remove("LD_LIBRARY_PATH").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap_or_else(|error| panic!("unshare: {error}"));
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let runtimes = Runtimes { holder, directory, apart };
        assert_eq!(line, "ready\n", "{daemons:?} did not start; `make test` installs them");
        Some(runtimes)
    }

    /// An agent whose host has the root file system of these runtimes.
    #[track_caller]
    pub fn agent(&self, args: &[&str]) -> Agent {
        let root = format!("--root=/proc/{}/root", self.holder.id());
        Agent::start(&[&[root.as_str(), "--collector.tcp=off"], args].concat())
    }

    /// Runs a program with the runtimes; what it printed without the last newline, or its complaint.
    pub fn try_run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.args(self.apart.then(|| format!("--net=/proc/{}/ns/net", self.holder.id()))).args(words);
        command.env_remove("LD_LIBRARY_PATH");
        let output = run_command(command, PATIENCE);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same for one that must succeed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|problem| panic!("{words:?}: {problem}"))
    }

    /// `docker ARGS`.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        self.run(&[&["docker"], args].concat())
    }

    /// `podman ARGS` with runc, as crun wants cgroup v2 alone.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> String {
        let how = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=file"];
        self.run(&[&["podman", "--runtime=runc"], how.as_slice(), args].concat())
    }

    /// A call of the runtime interface of Kubernetes; the ids it gives.
    #[track_caller]
    pub fn kubernetes(&self, args: &[&str]) -> Vec<String> {
        let said = self.run(&[&[PYTHON, "-S", "-E", "-B", HELPER], args].concat());
        said.split_whitespace().map(str::to_owned).collect()
    }

    /// True when the runtimes have a container whose id begins so.
    pub fn knows(&self, short: &str) -> bool {
        let root = format!("/proc/{}/root", self.holder.id());
        let begins = |directory: &str| {
            let entries = fs::read_dir(format!("{root}{directory}")).into_iter().flatten().flatten();
            entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(short))
        };
        let tasks = "/run/containerd/io.containerd.runtime.v2.task";
        [
            "/var/lib/docker/containers",
            "/run/data/docker/containers",
            "/var/lib/containers/storage/vfs-containers",
            &format!("{tasks}/k8s.io"),
            &format!("{tasks}/default"),
        ]
        .into_iter()
        .any(begins)
    }

    /// A file in the directory of the runtimes, as they see it.
    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }
}

/// What this machine does not allow and no container can do without.
fn lack() -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "true"]);
    let output = run_command(command, PATIENCE);
    if !output.status.success() {
        return Some(format!("no mount namespaces: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    hierarchies().into_iter().find_map(|(name, directory)| {
        let probe = directory.join(format!("nodeprobe-{}", std::process::id()));
        let made = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
        made.err().map(|error| format!("no cgroups may be made in {name}: {error}"))
    })
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // The end of its input tells it to end everything, which it does within seconds.
        drop(self.holder.stdin.take());
        if !std::thread::panicking() {
            until("the runtimes end", PATIENCE, || self.holder.try_wait().expect("a child of ours"));
        } else {
            let _ = self.holder.wait();
        }
    }
}
