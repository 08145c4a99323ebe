//! The command lines of living processes, read by a child process: a page of one can lie in a file system that hangs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;

use super::kinds::{Kind, kind_of};
use crate::containers::InstanceId;
use crate::error::{Context, Result};
use crate::host::Host;
use crate::limits;
use crate::memory::{self, Use};
use crate::sys::clock::MonotonicNs;
use crate::sys::process::{Abandoned, Worker};
use crate::warning;

/// What tells a process and the program it executes from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it began.
    pub start_ns: MonotonicNs,
    /// Changes when it executes another program.
    pub executed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nobody has read it yet.
    Unknown,
    Known(Option<Kind>),
}

#[derive(Debug)]
struct Process {
    instance: InstanceId,
    stamp: Stamp,
    answer: Answer,
    /// The pass it was seen in last.
    pass: u64,
}

/// The processes of containers, and what they are.
#[derive(Default)]
pub struct Commands {
    processes: HashMap<u32, Process>,
    pass: u64,
    probe: Option<Probe>,
    /// Containers that a child hung on (`None`: one that is gone), until the kernel lets go of the child.
    hung: Vec<(Option<InstanceId>, Abandoned)>,
    /// Children that were killed because they hung.
    pub abandoned: u64,
    /// Processes there was no room for in this pass.
    pub refused: u64,
}

/// A child at work.
struct Probe {
    worker: Worker,
    jobs: Vec<(u32, Stamp)>,
    data: Vec<u8>,
    deadline_ns: MonotonicNs,
    /// When it is looked what it has said. It says it a process at a time, which the pipe has room for: thousands of them must
    /// not wake the loop for each.
    read_ns: MonotonicNs,
}

/// Between two looks.
const READ_PAUSE_NS: u64 = 50_000_000;

impl Commands {
    /// Begins a pass over all living processes.
    pub fn begin(&mut self) {
        self.pass += 1;
        self.refused = 0;
    }

    /// Takes note of one.
    pub fn observe(&mut self, pid: u32, instance: InstanceId, stamp: Stamp) {
        if let Some(known) = self.processes.get_mut(&pid) {
            if known.stamp != stamp {
                known.answer = Answer::Unknown;
            }
            (known.instance, known.stamp, known.pass) = (instance, stamp, self.pass);
        } else if self.processes.len() < limits::PROCESSES && memory::admits(Use::Keys) {
            let process = Process { instance, stamp, answer: Answer::Unknown, pass: self.pass };
            self.processes.insert(pid, process);
        } else {
            self.refused += 1;
        }
    }

    /// Ends the pass: who was not seen is gone.
    pub fn end(&mut self) {
        self.processes.retain(|_, process| process.pass == self.pass);
    }

    /// The types of living processes by container, each once.
    pub fn kinds(&self) -> Vec<(InstanceId, Kind)> {
        let kind = |process: &Process| match process.answer {
            Answer::Known(kind) => Some((process.instance, kind?)),
            Answer::Unknown => None,
        };
        let mut kinds: Vec<_> = self.processes.values().filter_map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Gives up on a child that hangs, and starts one for processes that nobody has asked about.
    ///
    /// # Errors
    /// Those of fork.
    pub fn ask(&mut self, host: &Host, now_ns: MonotonicNs) -> Result<()> {
        // It may have said all long ago, and nobody was here to hear it.
        self.read(now_ns);
        if let Some(probe) = self.probe.take_if(|probe| probe.deadline_ns <= now_ns) {
            warning!("reading a command line hung; its process is not asked again");
            self.abandoned += 1;
            self.give_up(probe);
        }
        self.hung.retain(|(_, child)| child.is_alive());
        if self.probe.is_some() || self.hung.len() >= limits::HUNG_CHILDREN {
            return Ok(());
        }
        let age_ns = limits::COMMAND_AGE.as_nanos() as u64;
        let is_due = |process: &Process| {
            process.answer == Answer::Unknown
                && process.stamp.start_ns.saturating_add(age_ns) <= now_ns
                && self.hung.iter().all(|(hung, _)| *hung != Some(process.instance))
        };
        let due = self.processes.iter().filter(|(_, process)| is_due(process));
        let mut jobs: Vec<(u32, Stamp)> = due.map(|(&pid, process)| (pid, process.stamp)).collect();
        jobs.truncate(limits::COMMANDS_PER_CHILD);
        if jobs.is_empty() {
            return Ok(());
        }
        let worker = Worker::spawn(|pipe| answer(host, jobs.iter().map(|(pid, _)| *pid), pipe))
            .context("child for command lines")?;
        let deadline_ns = now_ns + limits::COMMANDS_TIME.as_nanos() as u64;
        self.probe =
            Some(Probe { worker, jobs, data: Vec::new(), deadline_ns, read_ns: now_ns + READ_PAUSE_NS });
        Ok(())
    }

    /// Reads what the child has said; true when that is all.
    pub fn read(&mut self, now_ns: MonotonicNs) -> bool {
        let Some(mut probe) = self.probe.take() else {
            return false;
        };
        let before = probe.data.len();
        let is_over = probe.worker.read(&mut probe.data);
        if probe.data.len() > before {
            // Thousands may take their time on a slow machine.
            probe.deadline_ns = now_ns + limits::COMMANDS_TIME.as_nanos() as u64;
        }
        if is_over {
            self.take_over(&probe.jobs, &probe.data);
        } else {
            probe.read_ns = now_ns + READ_PAUSE_NS;
            self.probe = Some(probe);
        }
        is_over
    }

    /// Kills a child that hangs. As long as the kernel keeps it, nobody else of the container it hung on is asked: a file system
    /// that does not answer one will not answer the next, and each would be a process that nothing can end.
    fn give_up(&mut self, probe: Probe) {
        let at = parse(&probe.data).count();
        let instance = probe.jobs.get(at).and_then(|(pid, _)| Some(self.processes.get(pid)?.instance));
        self.take_over(&probe.jobs, &probe.data);
        self.hung.push((instance, probe.worker.abandon()));
    }

    fn take_over(&mut self, jobs: &[(u32, Stamp)], data: &[u8]) {
        let mut answers = parse(data);
        for (pid, stamp) in jobs {
            let answer = answers.next();
            if let Some(process) = self.processes.get_mut(pid).filter(|process| process.stamp == *stamp) {
                // The first without an answer is the one the child was at when it was given up.
                process.answer = Answer::Known(answer.flatten());
            }
            if answer.is_none() {
                break;
            }
        }
    }

    /// When it is to be looked what a child has said.
    pub fn read_ns(&self) -> Option<MonotonicNs> {
        self.probe.as_ref().map(|probe| probe.read_ns)
    }

    /// When a child that is at work hangs.
    pub fn deadline_ns(&self) -> Option<MonotonicNs> {
        self.probe.as_ref().map(|probe| probe.deadline_ns)
    }
}

/// Says what each process is, a word and a NUL each, in this order. Runs in a child.
fn answer(host: &Host, pids: impl Iterator<Item = u32>, out: &mut File) {
    let mut arguments = Vec::new();
    for pid in pids {
        arguments.clear();
        if let Ok(file) = File::open(host.proc(&format!("{pid}/cmdline"))) {
            let _ = file.take(limits::COMMAND_BYTES as u64).read_to_end(&mut arguments);
        }
        let file = fs::read_link(host.proc(&format!("{pid}/exe"))).unwrap_or_default();
        let kind = kind_of(&arguments, file.as_os_str().as_bytes());
        let _ = write!(out, "{}\0", kind.map_or("", Kind::word));
    }
}

/// The answers that are complete.
fn parse(data: &[u8]) -> impl Iterator<Item = Option<Kind>> {
    data.split_inclusive(|&byte| byte == 0)
        .filter_map(|word| word.strip_suffix(&[0]))
        .map(|word| Kind::from_word(std::str::from_utf8(word).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::ledger::test_ids;

    const NEW: Stamp = Stamp { start_ns: 5, executed: 1 };

    fn kinds(commands: &Commands, instance: InstanceId) -> Vec<&'static str> {
        let kinds = commands.kinds().into_iter().filter(|(known, _)| *known == instance);
        kinds.map(|(_, kind)| kind.word()).collect()
    }

    fn told(commands: &mut Commands, jobs: &[u32], data: &[u8]) {
        let jobs: Vec<_> = jobs.iter().map(|&pid| (pid, NEW)).collect();
        commands.take_over(&jobs, data);
    }

    #[test]
    fn each_type_once_and_only_of_who_lives() {
        let ([a, b], _) = test_ids();
        let mut commands = Commands::default();
        commands.begin();
        for (pid, instance) in [(1, a), (2, a), (3, a), (4, b)] {
            commands.observe(pid, instance, NEW);
        }
        commands.end();
        told(&mut commands, &[1, 2, 3, 4], b"nginx\0redis\0nginx\0\0");
        assert_eq!(kinds(&commands, a), ["nginx", "redis"]);
        assert!(kinds(&commands, b).is_empty());
        commands.begin();
        commands.observe(1, a, NEW);
        commands.observe(2, a, Stamp { executed: 2, ..NEW });
        commands.end();
        assert_eq!(kinds(&commands, a), ["nginx"], "2 executes something else, 3 is gone");
    }

    #[test]
    fn who_a_child_hung_on_is_not_asked_again_and_those_behind_are() {
        let ([a, _], _) = test_ids();
        let mut commands = Commands::default();
        commands.begin();
        (1..=3).for_each(|pid| commands.observe(pid, a, NEW));
        told(&mut commands, &[1, 2, 3], b"nginx\0red");
        let answers = [1, 2, 3].map(|pid| commands.processes[&pid].answer);
        assert_eq!(answers[0], Answer::Known(Kind::from_word("nginx")));
        assert_eq!(answers[1..], [Answer::Known(None), Answer::Unknown]);
    }

    #[test]
    fn this_process_has_a_command_line() {
        let mut worker = Worker::spawn(|pipe| {
            answer(&Host::new("/".as_ref(), None), [std::process::id(), 0].into_iter(), pipe);
        })
        .unwrap();
        let mut data = Vec::new();
        while !worker.read(&mut data) {
            std::thread::yield_now();
        }
        assert_eq!(parse(&data).collect::<Vec<_>>(), [None, None]);
    }
}
