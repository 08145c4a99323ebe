//! Network namespaces of tests, and cables between them; gone when dropped.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::TempDir;

/// A network namespace with a name for ip-netns(8) and its loopback up.
pub struct Netns {
    name: String,
}

impl Netns {
    /// A new one with `purpose` in its name.
    #[track_caller]
    pub fn new(purpose: &str) -> Netns {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Netns { name: format!("np-{}-{number}-{purpose}", std::process::id()) };
        ip(&format!("netns add {}", namespace.name));
        namespace.ip("link set lo up");
        namespace
    }

    /// The file that holds it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `ip ARGS` in it; panics if it fails.
    #[track_caller]
    pub fn ip(&self, args: &str) {
        ip(&format!("-n {} {args}", self.name));
    }

    /// Has what leaves by a device wait; false where the kernel cannot (it has no netem).
    pub fn delay(&self, device: &str, milliseconds: u32) -> bool {
        let mut command = Command::new("tc");
        command
            .args(["qdisc", "add", "dev", device, "root", "netem", "delay"])
            .arg(format!("{milliseconds}ms"));
        self.enter(&mut command);
        command.env_remove("LD_LIBRARY_PATH").output().is_ok_and(|output| output.status.success())
    }

    /// Has the calling thread, and processes it starts from now on, enter.
    #[track_caller]
    pub fn enter_thread(&self) {
        let file = File::open(self.path()).unwrap();
        // SAFETY: takes a descriptor, which is open.
        assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0, "setns");
    }

    /// Gives nft(8) commands, and returns what it says; panics if it fails.
    #[track_caller]
    pub fn nft(&self, commands: &str) -> String {
        let mut command = Command::new("nft");
        command.arg(commands);
        self.enter(&mut command);
        output(command)
    }

    /// Writes a file below `/proc/sys/net`.
    #[track_caller]
    pub fn sysctl(&self, file: &str, value: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", "echo \"$2\" > /proc/sys/net/$1", "sh", file, value]);
        self.enter(&mut command);
        output(command);
    }

    /// Has the command's process enter before it executes.
    pub fn enter(&self, command: &mut Command) {
        let file = File::open(self.path()).unwrap();
        // SAFETY: setns(2) is all that is called between fork and exec; the closure owns the descriptor.
        unsafe {
            command.pre_exec(move || match libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            })
        };
    }

    /// Connects it with another by a pair of Ethernet devices; each device is named after the `end` of the other and has
    /// the addresses given, IPv4 or IPv6 with their prefix length.
    #[track_caller]
    pub fn cable(&self, device: &str, addresses: &[&str], other: &Netns, its_device: &str, its: &[&str]) {
        self.ip(&format!("link add {device} type veth peer name {its_device} netns {}", other.name));
        for (namespace, device, addresses) in [(self, device, addresses), (other, its_device, its)] {
            for address in addresses {
                // Nobody else can have an address of a cable: do not wait for the detection of that.
                let flag = if address.contains(':') { "nodad" } else { "" };
                namespace.ip(&format!("addr add {address} dev {device} {flag}"));
            }
            namespace.ip(&format!("link set {device} up"));
        }
    }

    /// A counter of `/proc/net/snmp`, as `Tcp RetransSegs`.
    #[track_caller]
    pub fn snmp(&self, protocol: &str, name: &str) -> u64 {
        let mut command = Command::new("cat");
        command.arg("/proc/net/snmp");
        self.enter(&mut command);
        counter(&output(command), protocol, name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let path = self.path();
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // Its devices go when its last process and socket do.
        // SAFETY: the pointer is to a string with its end.
        unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_file(path);
    }
}

/// This host, but with another network namespace: an agent of [`AsHost::binary`] takes it for the host's and serves in it.
pub struct AsHost {
    directory: TempDir,
}

impl AsHost {
    /// A root directory with this host's `/proc` and `/sys`, where process 1 is in the namespace.
    #[track_caller]
    pub fn new(netns: &Netns) -> AsHost {
        AsHost::made(netns, None, true)
    }

    /// The same with the firmware of another machine: files of `/sys/devices/virtual/dmi/id`. An agent that is `inside` serves
    /// in the namespace, another one where it is started.
    #[track_caller]
    pub fn with_firmware(netns: &Netns, firmware: &[(&str, &str)], inside: bool) -> AsHost {
        AsHost::made(netns, Some(firmware), inside)
    }

    #[track_caller]
    fn made(netns: &Netns, firmware: Option<&[(&str, &str)]>, inside: bool) -> AsHost {
        let directory = TempDir::new("root");
        for each in ["proc", "sys", "ns"] {
            fs::create_dir(directory.path().join(each)).unwrap();
        }
        // The rest of /sys beside it, as far as it does not lead to devices.
        let parts: &[&str] = match firmware {
            Some(_) => &["/fs", "/kernel", "/module"],
            None => &[""],
        };
        let mut sys = String::new();
        for part in parts {
            let to = format!("{}/sys{part}", directory.path().display());
            fs::create_dir_all(&to).unwrap();
            sys += &format!("mount --rbind /sys{part} {to}\n");
        }
        let dmi = directory.path().join("sys/devices/virtual/dmi/id");
        for (file, content) in firmware.unwrap_or_default() {
            fs::create_dir_all(&dmi).unwrap();
            fs::write(dmi.join(file), format!("{content}\n")).unwrap();
        }
        let enter = if inside { format!("nsenter --net={}", netns.path().display()) } else { String::new() };
        let (root, net) = (directory.path().display(), netns.path());
        let script = format!(
            "#!/bin/sh
exec unshare -m sh -ec '
mount --rbind /proc {root}/proc
{sys}mount -t tmpfs none {root}/ns
for kind in pid uts ipc user cgroup; do
\ttouch {root}/ns/$kind
\tmount --bind /proc/self/ns/$kind {root}/ns/$kind
done
touch {root}/ns/net
mount --bind {net} {root}/ns/net
mount --rbind {root}/ns {root}/proc/1/ns
exec {enter} {binary} --root={root} \"$@\"' sh \"$@\"
",
            net = net.display(),
            binary = super::BINARY
        );
        fs::set_permissions(directory.write("nodeprobe", script), fs::Permissions::from_mode(0o755)).unwrap();
        AsHost { directory }
    }

    /// What to start.
    pub fn binary(&self) -> PathBuf {
        self.directory.path().join("nodeprobe")
    }
}

/// A counter in the text of `/proc/net/snmp` or `/proc/net/netstat`, as `Tcp RetransSegs`.
#[track_caller]
pub fn counter(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.split(':').next() == Some(protocol));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|known| known == name);
    let at = at.unwrap_or_else(|| panic!("no {name} in {names}"));
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[track_caller]
fn ip(args: &str) {
    let mut command = Command::new("ip");
    command.args(args.split_whitespace());
    output(command);
}

/// Runs a command that must succeed; what it says.
#[track_caller]
pub fn output(mut command: Command) -> String {
    let output =
        command.env_remove("LD_LIBRARY_PATH").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
