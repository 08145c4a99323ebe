//! `kernel.task_delayacct`: whether the kernel accounts for delays other than the one for a processor.
//!
//! Kernel document: Documentation/admin-guide/sysctl/kernel.rst. Since Linux 5.14 it is off unless the kernel is booted with
//! `delayacct`; before, there was no such sysctl, and it was on unless booted with `nodelayacct`.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::host::{Host, read_bounded};
use crate::{info, warning};

/// Whether the kernel accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// For processes that were started since it does.
    On,
    /// Not by block I/O and memory.
    Off,
    /// Nobody can see.
    Unknown,
}

impl State {
    /// The label value.
    pub fn word(self) -> &'static str {
        match self {
            State::On => "on",
            State::Off => "off",
            State::Unknown => "unknown",
        }
    }
}

/// The switch; as it was before when dropped, if it was this that changed it.
#[derive(Debug)]
pub struct Accounting {
    sysctl: PathBuf,
    command_line: PathBuf,
    is_ours: bool,
}

impl Accounting {
    /// The switch of `host`.
    pub fn new(host: &Host) -> Accounting {
        Accounting {
            sysctl: host.proc("sys/kernel/task_delayacct"),
            command_line: host.proc("cmdline"),
            is_ours: false,
        }
    }

    /// How it stands.
    pub fn state(&self) -> State {
        match read_bounded(&self.sysctl, 64) {
            Ok(value) if value.trim_ascii() == b"0" => State::Off,
            Ok(_) => State::On,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let line = read_bounded(&self.command_line, 64 * 1024).unwrap_or_default();
                let mut words = line.split(u8::is_ascii_whitespace);
                if words.any(|word| word == b"nodelayacct") { State::Off } else { State::On }
            }
            Err(_) => State::Unknown,
        }
    }

    /// Switches it on, until this is dropped.
    pub fn enable(&mut self) {
        if self.state() != State::Off {
            return;
        }
        match fs::write(&self.sysctl, "1") {
            Ok(()) => {
                self.is_ours = true;
                info!("kernel.task_delayacct is 1 until the end");
            }
            Err(error) => warning!("--enable-delayacct: kernel.task_delayacct: {error}"),
        }
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::write(&self.sysctl, "0")
        {
            warning!("kernel.task_delayacct stays 1: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_before_in_the_end() {
        let root = std::env::temp_dir().join(format!("nodeprobe-accounting-{}", std::process::id()));
        let sysctl = root.join("proc/sys/kernel/task_delayacct");
        fs::create_dir_all(sysctl.parent().unwrap()).unwrap();
        let host = Host::new(&root, None);
        for (command_line, state) in [("quiet nodelayacct ro", State::Off), ("delayacct", State::On)] {
            fs::write(root.join("proc/cmdline"), command_line).unwrap();
            assert_eq!(Accounting::new(&host).state(), state, "{command_line}");
        }
        for before in ["0\n", "1\n"] {
            fs::write(&sysctl, before).unwrap();
            let mut accounting = Accounting::new(&host);
            accounting.enable();
            assert_eq!(accounting.state(), State::On);
            drop(accounting);
            assert_eq!(fs::read_to_string(&sysctl).unwrap().trim(), before.trim());
        }
        fs::remove_dir_all(root).unwrap();
    }
}
