//! Which containers there are: follows the cgroups of the host and names them.

use std::os::fd::RawFd;
use std::time::Duration;

use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::containers::rules::Rules;
use crate::containers::watch::Watch;
use crate::error::{Error, Reason, Result};
use crate::limits::Limit;
use crate::metric::Desc;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::{self, MonotonicNs};
use crate::world::World;
use crate::{info, warning};

static INFO: Desc = Desc::state(
    "container_info",
    "The container's image, a service's type and the unit that starts it, and labels asked for by flags; always 1, absent where there is none of these.",
    &["image", "systemd_triggered_by", "systemd_type"],
);
static WATCH: Desc = Desc::state(
    "nodeprobe_cgroup_watch_info",
    "How new cgroups are learned of (bpf, inotify or walk) and the host's cgroup layout; always 1.",
    &["door", "layout"],
);
static KNOWN: Desc = Desc::state("nodeprobe_containers", "Containers that are alive.", &[]);
static CGROUPS: Desc =
    Desc::state("nodeprobe_container_cgroups", "Cgroup directories of containers that are known.", &[]);
static REFUSED: Desc = Desc::counter(
    "nodeprobe_containers_refused_total",
    "Cgroups not taken in because too many were known, counted each time one is met.",
    &[],
);
static LOST: Desc = Desc::counter(
    "nodeprobe_cgroup_records_lost_total",
    "Records of new or removed cgroups that found the kernel's ring full; a walk makes up for them.",
    &[],
);
static WALKS: Desc = Desc::counter(
    "nodeprobe_cgroup_walks_total",
    "Walks over all cgroup directories; with the bpf door one at the start, and one whenever its records were lost.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "containers",
    about: "Finds containers by their cgroups and names them",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[
        Need::less(Capability::Bpf, "finds containers of milliseconds; inotify otherwise"),
        Need::less(Capability::Perfmon, "the same"),
        Need::less(Capability::DacReadSearch, "reads what runtimes of users say, below /home"),
    ],
    metrics: &[&INFO, &WATCH, &KNOWN, &CGROUPS, &REFUSED, &LOST, &WALKS],
    open,
};

/// How long containers are named before anything else begins.
const FIRST_NAMES: Duration = Duration::from_secs(1);

struct Finder {
    watch: Watch,
    walks: u64,
    /// When to name those that the last turn had no time for.
    naming_ns: Option<MonotonicNs>,
    /// Only a walk can tell what happened.
    stale: bool,
}

fn open(world: &mut World) -> Result<Opened> {
    if world.hierarchies.layout() == "none" {
        let line = format!("no cgroup hierarchy at {} (--cgroupfs-root)", world.host.cgroup("").display());
        return Ok(Opened::Absent(Reason::NotFound, line));
    }
    if let Some(path) = world.config.container_rules.clone() {
        // Who wrote rules wants to know at once that they are wrong.
        match Rules::load(&path) {
            Ok(rules) => world.containers.rules = rules,
            Err(problem) => return Ok(Opened::CannotStart(wrong_rules(problem))),
        }
    }
    // The watch first, then the walk: a cgroup made in between is seen by one of them.
    let (watch, problems) = Watch::open(&world.hierarchies, world.host.is_live());
    for problem in problems {
        info!("cgroups are found by {} because {problem}", watch.door());
    }
    let mut finder = Finder { watch, walks: 0, naming_ns: None, stale: true };
    finder.refresh(world)?;
    let give_up_ns = world.now_ns + FIRST_NAMES.as_nanos() as u64;
    while finder.naming_ns.is_some_and(|at| at < give_up_ns) {
        finder.settle(world);
    }
    Ok(Opened::Ready(Box::new(finder)))
}

fn wrong_rules(problem: String) -> Error {
    Error::new(Reason::Failed, format!("--container-rules: {problem}"))
}

impl Finder {
    fn read(&mut self, world: &mut World) {
        self.stale |= self.watch.read(&world.hierarchies, &mut world.containers, world.now_ns);
    }

    fn settle(&mut self, world: &mut World) {
        world.containers.settle(&world.host, world.now_ns, &mut world.events);
        // Now, which is after this turn's time: in the next turn, without waiting for anything else.
        self.naming_ns = world.containers.is_naming().then(clock::monotonic_ns);
    }
}

impl Collector for Finder {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        if let Some(fd) = self.watch.fd() {
            wait(fd);
        }
    }

    fn ready(&mut self, world: &mut World, _fd: RawFd) -> Result<()> {
        self.read(world);
        // Names are found at once: the runtime's files may be gone soon.
        self.settle(world);
        Ok(())
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.read(world);
        self.stale |= world.containers.take_missed();
        if std::mem::take(&mut self.stale) {
            self.walks += 1;
            let walked = self.watch.walk(&world.hierarchies, &mut world.containers, world.now_ns);
            if !walked.is_whole() {
                world.reached.count(Limit::Walk);
            }
            self.stale |= walked.failed;
        }
        self.settle(world);
        Ok(())
    }

    fn tick_ns(&self) -> Option<u64> {
        self.naming_ns
    }

    fn tick(&mut self, world: &mut World) {
        self.settle(world);
    }

    fn is_busy(&self) -> bool {
        self.naming_ns.is_some()
    }

    /// Containers that are known keep their names: a cgroup that became another container would count twice.
    fn reload(&mut self, world: &mut World) {
        let Some(path) = &world.config.container_rules else { return };
        match Rules::load(path) {
            Ok(rules) => world.containers.rules = rules,
            Err(problem) => warning!("{}; the rules of before stay", wrong_rules(problem)),
        }
    }

    fn maps(&self, each: &mut dyn FnMut(RawFd)) {
        self.watch.maps().into_iter().for_each(each);
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        let mut alive = 0;
        for (_, _, named) in world.containers.living() {
            alive += 1;
            if let Some(labels) = named.info() {
                let unit = &named.unit;
                out.container(labels, &INFO, &[&named.image, &unit.triggered_by, unit.kind], 1.0);
            }
        }
        out.add(&WATCH, &[self.watch.door(), world.hierarchies.layout()], 1.0);
        out.add(&KNOWN, &[], f64::from(alive));
        out.add(&CGROUPS, &[], world.containers.cgroup_count() as f64);
        out.add(&REFUSED, &[], world.containers.refused() as f64);
        out.add(&LOST, &[], self.watch.lost_records() as f64);
        out.add(&WALKS, &[], self.walks as f64);
    }
}
