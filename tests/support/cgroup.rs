//! Cgroups that look like containers, processes in them, sums over a container.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Metrics;

/// The fixed ports and the cgroup mount are shared: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for its turn, which lasts as long as what is returned; panics without root.
pub fn turn() -> MutexGuard<'static, ()> {
    // SAFETY: geteuid cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(user, 0, "these tests make cgroups: run them as root (make test does)");
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Directories of one cgroup path in some of the hierarchies; removed when dropped.
pub struct Cgroup {
    /// Below the mount of each hierarchy, with `/` in front.
    pub path: String,
    /// One in each hierarchy it is in.
    pub directories: Vec<PathBuf>,
}

/// The hierarchies this host has, by the name of their directory; `unified` is v2 (also where it is the only one).
pub fn hierarchies() -> Vec<(String, PathBuf)> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![("unified".to_owned(), root.to_owned())];
    }
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(root)
        .expect("cgroups are mounted")
        .flatten()
        .filter(|entry| entry.path().join("cgroup.procs").exists() && !entry.path().is_symlink())
        // A new cpuset takes no task before it is given processors.
        .filter(|entry| entry.file_name() != "cpuset")
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

impl Cgroup {
    /// Makes `path` in the hierarchies whose name is in `wanted`, or in all.
    pub fn make(path: &str, wanted: Option<&[&str]>) -> Cgroup {
        let directories: Vec<PathBuf> = hierarchies()
            .into_iter()
            .filter(|(name, _)| wanted.is_none_or(|wanted| wanted.contains(&name.as_str())))
            .map(|(_, directory)| directory.join(path.trim_start_matches('/')))
            .collect();
        for directory in &directories {
            fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        }
        Cgroup { path: path.to_owned(), directories }
    }

    /// A docker container of this machine that no test made before, as no runtime knows it.
    pub fn docker(wanted: Option<&[&str]>) -> Cgroup {
        let cgroup = Cgroup::make(&format!("/docker/{}", container_id()), wanted);
        cgroup.hand_down();
        cgroup
    }

    /// What the agent calls it: without metadata the first twelve digits.
    pub fn container_id(&self) -> String {
        let id = self.path.rsplit('/').next().unwrap();
        format!("/docker/{}", &id[..12])
    }

    /// On v2 has the parents hand all controllers down, as runtimes do. Processes cannot enter these any more.
    pub fn hand_down(&self) {
        for directory in &self.directories {
            let has_control = |path: &&Path| path.join("cgroup.subtree_control").exists();
            let parents: Vec<&Path> = directory.ancestors().skip(1).take_while(has_control).collect();
            for parent in parents.into_iter().rev() {
                let there = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
                // One at a time: one that is refused takes the others with it.
                for controller in there.split_whitespace() {
                    let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
    }

    /// Has the command's process enter before it executes.
    pub fn enter(&self, command: &mut Command) {
        let open = |directory: &PathBuf| fs::File::options().write(true).open(directory.join("cgroup.procs"));
        let files: Vec<fs::File> =
            self.directories.iter().map(|directory| open(directory).unwrap()).collect();
        // SAFETY: write(2) is all that is called between fork and exec.
        unsafe { command.pre_exec(move || files.iter().try_for_each(|mut file| file.write_all(b"0"))) };
    }

    /// Starts bash in the cgroup.
    pub fn bash(&self, script: &str) -> Child {
        let mut all = String::new();
        for directory in &self.directories {
            all.push_str(&format!("echo $$ > {}/cgroup.procs || exit 9\n", directory.display()));
        }
        all.push_str(script);
        // cargo points it at libraries of its own, which python3 may not like.
        Command::new("bash")
            .env_remove("LD_LIBRARY_PATH")
            .args(["-c", &all])
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash")
    }

    /// Runs bash in the cgroup to its end.
    pub fn run(&self, script: &str) {
        let status = self.bash(script).wait().unwrap();
        assert_ne!(status.code(), Some(9), "could not enter {}", self.path);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // After a failure the processes of the test may still be there.
        let procs = self.directories.iter().map(|directory| directory.join("cgroup.procs"));
        for pid in procs.flat_map(|file| {
            fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        }) {
            if let Ok(pid) = pid.parse() {
                // SAFETY: signals a process that this test put into its own cgroup.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        for directory in &self.directories {
            for _ in 0..200 {
                if !directory.exists() || fs::remove_dir(directory).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Parents are ours only if they are empty now; the mount itself never is.
        for directory in &self.directories {
            for parent in directory.ancestors().skip(1) {
                if fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
    }
}

/// 64 hexadecimal digits, different each time.
pub fn container_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:06x}{number:06x}{}", std::process::id() & 0xff_ffff, "5eed".repeat(13))
}

/// The sum of a family over the series of a container.
pub fn of_container(metrics: &Metrics, family: &str, container: &str) -> f64 {
    metrics.sum(family, &[("container_id", container)])
}
