//! A python3 process in a cgroup and a network namespace that does what it is told, step by step, and says what came of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::cgroup::Cgroup;
use super::netns::Netns;

/// Debian's own, not what a version manager has put in front of it.
const PYTHON: &str = "/usr/bin/python3";

/// The process; killed when dropped.
pub struct Puppet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Puppet {
    /// Starts one in the cgroup and the network namespace, or where the test itself is.
    #[track_caller]
    pub fn start(cgroup: Option<&Cgroup>, netns: Option<&Netns>) -> Puppet {
        let mut command = Command::new(PYTHON);
        command.args(["-S", "-E", "-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/puppet.py")]);
        // cargo's own libraries are not Python's.
        command.env_remove("LD_LIBRARY_PATH").stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command);
        }
        if let Some(netns) = netns {
            netns.enter(&mut command);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Puppet { child, orders, answers }
    }

    /// Gives an order without waiting for what comes of it; [`Puppet::answer`] does that.
    #[track_caller]
    pub fn order(&mut self, code: &str) {
        assert!(!code.contains('\0'));
        let sent = self.orders.write_all(code.as_bytes()).and_then(|()| self.orders.write_all(b"\0"));
        sent.and_then(|()| self.orders.flush()).unwrap_or_else(|error| panic!("{code}: {error}"));
    }

    /// What the last order has put into the variable `out`; panics if it failed.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let text = line.trim_end_matches('\n').replace("\\n", "\n");
        match text.strip_prefix('=') {
            Some(result) => result.to_owned(),
            None => panic!("the puppet failed: {text}"),
        }
    }

    /// Runs Python code to its end; what it has put into `out`.
    #[track_caller]
    pub fn run(&mut self, code: &str) -> String {
        self.order(code);
        self.answer()
    }

    /// The same where `out` is numbers with blanks between.
    #[track_caller]
    pub fn numbers(&mut self, code: &str) -> Vec<f64> {
        numbers(&self.run(code))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as SIGKILL does, without closing anything, and waits for its end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers with blanks between.
#[track_caller]
pub fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap_or_else(|_| panic!("no number: {text:?}")))
        .collect()
}
