//! One program of an object: loaded or not, attached or not, and why not.

use std::os::fd::OwnedFd;

use super::attach;
use crate::host::Host;
use crate::sys::bpf::{Links, Loaded, Program, ProgramInfo};

/// How one program fares.
pub struct ProgramState {
    program: Program,
    fd: Option<OwnedFd>,
    links: Links,
    /// It waited for the function that is called once, and has run.
    has_run: bool,
    problem: Option<String>,
    info: ProgramInfo,
}

impl ProgramState {
    /// A program of a loaded object; `refusal` is what the kernel said to it.
    pub fn new(loaded: &Loaded, program: Program, refusal: Option<String>) -> ProgramState {
        let fd = loaded.program(&program.name).ok().flatten();
        let unwanted = || format!("program {} ({}) is not to be loaded", program.name, program.section);
        let problem = refusal.or_else(|| fd.is_none().then(unwanted));
        let (links, info) = Default::default();
        let mut state = ProgramState { program, fd, links, has_run: false, problem, info };
        state.refresh();
        state
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// What the kernel said of it last.
    pub fn info(&self) -> ProgramInfo {
        self.info
    }

    /// Whether it is attached, or has been for as long as it was needed.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty() || self.has_run
    }

    /// Why it is not attached, if it should be.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// True when it is loaded and could be attached, but is not.
    pub fn is_waiting(&self) -> bool {
        self.fd.is_some() && !self.is_attached()
    }

    /// True when its links need the object: those of USDT refer to it, and an interface may have to be taken again.
    pub fn needs_object(&self) -> bool {
        self.program.section.starts_with("usdt") || self.is_exclusive()
    }

    /// True when it wants an interface for itself.
    pub fn is_exclusive(&self) -> bool {
        self.program.section.starts_with("xdp")
    }

    /// True when it waits for the function that is called once all programs are attached.
    pub fn wants_mark(&self) -> bool {
        self.program.section.ends_with(":post_attach_mark")
    }

    /// Attaches it, unless it is or cannot be.
    pub fn attach(&mut self, loaded: &Loaded, host: &Host) {
        if !self.is_waiting() {
            return;
        }
        let Program { name, section, .. } = &self.program;
        match attach::attach(loaded, &self.program, host) {
            Ok(links) => (self.links, self.problem) = (links, None),
            Err(error) => self.problem = Some(format!("program {name} ({section}) is not attached: {error}")),
        }
    }

    /// Detaches it.
    pub fn detach(&mut self) {
        self.links = Links::default();
    }

    /// The function was called: whoever waited for it must not be run again by the next call.
    pub fn mark_passed(&mut self) {
        if self.wants_mark() && self.is_attached() {
            self.detach();
            self.has_run = true;
        }
    }

    /// Asks the kernel about it.
    pub fn refresh(&mut self) {
        if let Some(Ok(info)) = self.fd.as_ref().map(ProgramInfo::read) {
            self.info = info;
        }
    }
}
