//! Disk I/O of containers from their cgroup files, and their file systems from a child process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use super::{Collector, Need, Opened, Spec, When};
use crate::args::Enable;
use crate::cgroupfs::io_stat::DeviceIo;
use crate::cgroupfs::{blkio, io_stat};
use crate::containers::hierarchies::{Hierarchies, Place};
use crate::containers::ledger::Ledger;
use crate::containers::mounts::{self, Job, Mount, Record};
use crate::containers::sweep::Sweep;
use crate::containers::{IdentityId, InstanceId};
use crate::error::{Context, Result};
use crate::event::Event;
use crate::host::read_bounded;
use crate::kernel_file::KernelFile;
use crate::limits::{self, Limit};
use crate::metric::Desc;
use crate::procfs::diskstats;
use crate::registry::Registry;
use crate::sys::capabilities::Capability;
use crate::sys::clock::MonotonicNs;
use crate::sys::process::{Abandoned, Worker};
use crate::warning;
use crate::world::{KeptFiles, World};

const LABELS: &[&str] = &["mount_point", "device", "volume"];

static SIZE: Desc =
    Desc::state("container_resources_disk_size_bytes", "Size of the file system, in bytes.", LABELS);
static USED: Desc =
    Desc::state("container_resources_disk_used_bytes", "Space that is not free, in bytes.", LABELS);
static RESERVED: Desc =
    Desc::state("container_resources_disk_reserved_bytes", "Free space only root may use, in bytes.", LABELS);
static READS: Desc = Desc::counter(
    "container_resources_disk_reads_total",
    "Reads of the disk by the container, on the shortest of its mounts of that disk (empty without one).",
    LABELS,
);
static WRITES: Desc = Desc::counter(
    "container_resources_disk_writes_total",
    "Writes to the disk by the container, on the shortest of its mounts of that disk (empty without one).",
    LABELS,
);
static READ_BYTES: Desc =
    Desc::counter("container_resources_disk_read_bytes_total", "Bytes read, as for reads.", LABELS);
static WRITTEN_BYTES: Desc =
    Desc::counter("container_resources_disk_written_bytes_total", "Bytes written, as for writes.", LABELS);
static ABANDONED: Desc = Desc::counter(
    "nodeprobe_filesystem_probes_abandoned_total",
    "Child processes measuring file systems that were killed because they hung.",
    &[],
);

/// This collector's row.
pub static SPEC: Spec = Spec {
    name: "disk",
    about: "File systems and disk I/O of containers",
    default: Enable::Auto,
    refresh: When::Interval,
    needs: &[Need::less(
        Capability::SysPtrace,
        "measures the file systems of containers, in their mount namespaces",
    )],
    metrics: &[&SIZE, &USED, &RESERVED, &READS, &WRITES, &READ_BYTES, &WRITTEN_BYTES, &ABANDONED],
    open,
};

/// Probes that may find no process before a container counts as having no mounts.
const PROBES: u32 = 2;

/// Pause before containers that appeared since the last probe are looked at.
const PROBE_PAUSE_NS: u64 = 1_000_000_000;

#[derive(Default)]
struct Disk {
    instances: BTreeMap<InstanceId, Instance>,
    /// Reads, writes, bytes read, bytes written; the part is the device's number.
    io: Ledger<4>,
    /// Names of whole disks by number, read again when an unknown one turns up, and now and then.
    disk_names: HashMap<u64, Box<str>>,
    names_are_old: bool,
    /// The mount an identity's I/O of a device stands on. Chosen once: a counter must not move to another series.
    places: BTreeMap<(IdentityId, u64), SeriesLabels>,
    probe: Option<Probe>,
    /// When the last child was started, and the last one that looked at all containers.
    started_ns: Option<MonotonicNs>,
    started_for_all_ns: Option<MonotonicNs>,
    abandoned: u64,
    /// Containers that a child hung on, until the kernel lets go of the child.
    hung: Vec<(InstanceId, Abandoned)>,
    buffer: Vec<u8>,
    devices: Vec<DeviceIo>,
    sweep: Sweep,
    /// Containers to be looked at by the next children.
    queue: VecDeque<InstanceId>,
}

/// Values of the three labels.
#[derive(Debug, Clone)]
struct SeriesLabels {
    mount_point: String,
    device: String,
    volume: String,
}

struct Instance {
    files: IoFiles,
    /// When its directories are looked for again: runtimes make them one after the other.
    look_again_ns: Option<MonotonicNs>,
    mounts: Vec<Mount>,
    /// Probes that found nothing to look at.
    failures: u32,
    /// A probe has looked at it.
    probed: bool,
}

enum IoFiles {
    V2(KernelFile),
    V1 { serviced: KernelFile, bytes: KernelFile },
    None,
}

/// A child at work.
struct Probe {
    worker: Worker,
    /// Whom it looks at, in this order; a job's number is its place.
    jobs: Vec<InstanceId>,
    data: Vec<u8>,
    deadline_ns: MonotonicNs,
}

fn open(world: &mut World) -> Result<Opened> {
    if let Some(absent) = Opened::without_cgroups(world) {
        return Ok(absent);
    }
    Ok(Opened::Ready(Box::<Disk>::default()))
}

fn device_number(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}

impl IoFiles {
    fn new(hierarchies: &Hierarchies, path: &str) -> IoFiles {
        let path = path.trim_start_matches('/');
        let file = |directory: PathBuf, name: &str| KernelFile::one_piece(directory.join(name));
        let v1 = hierarchies.blkio().map(|mount| mount.join(path));
        if let Some(directory) = v1.filter(|directory| directory.is_dir()) {
            // The recursive files (Linux 5.3+) include cgroups that the container has made itself.
            let recursive = directory.join("blkio.throttle.io_serviced_recursive").exists();
            let suffix = if recursive { "_recursive" } else { "" };
            return IoFiles::V1 {
                serviced: file(directory.clone(), &format!("blkio.throttle.io_serviced{suffix}")),
                bytes: file(directory, &format!("blkio.throttle.io_service_bytes{suffix}")),
            };
        }
        match hierarchies.directory(Place::V2).map(|mount| mount.join(path)) {
            Some(directory) => IoFiles::V2(file(directory, "io.stat")),
            None => IoFiles::None,
        }
    }

    fn read(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>, devices: &mut Vec<DeviceIo>) {
        devices.clear();
        match self {
            IoFiles::V2(file) => {
                if let Ok(text) = file.read(kept, buffer) {
                    io_stat::parse(text, devices);
                }
            }
            IoFiles::V1 { serviced, bytes } => {
                let serviced = serviced.read(kept, buffer).map(<[u8]>::to_vec).unwrap_or_default();
                let bytes = bytes.read(kept, buffer).unwrap_or_default();
                blkio::parse(&serviced, bytes, devices);
            }
            IoFiles::None => {}
        }
    }

    fn close(&mut self, kept: &mut KeptFiles) {
        match self {
            IoFiles::V2(file) => file.close(kept),
            IoFiles::V1 { serviced, bytes } => {
                serviced.close(kept);
                bytes.close(kept);
            }
            IoFiles::None => {}
        }
    }
}

impl Disk {
    /// Reads the counters of the next containers.
    fn read_io(&mut self, world: &mut World) {
        let mut sweep = std::mem::take(&mut self.sweep);
        sweep.slice(world, |world, id, identity| self.read_io_of(world, id, identity));
        self.sweep = sweep;
        if std::mem::take(&mut self.names_are_old) {
            self.read_disk_names(world);
        }
    }

    fn read_io_of(&mut self, world: &mut World, id: InstanceId, identity: IdentityId) {
        let Some(path) = world.containers.instance(id).map(|instance| &instance.path) else {
            return;
        };
        let instance = self.instances.entry(id).or_insert_with(|| Instance {
            files: IoFiles::new(&world.hierarchies, path),
            look_again_ns: Some(world.now_ns + limits::SECOND_LOOK.as_nanos() as u64),
            mounts: Vec::new(),
            failures: 0,
            probed: false,
        });
        if instance.look_again_ns.take_if(|at| *at <= world.now_ns).is_some()
            && !matches!(instance.files, IoFiles::V1 { .. })
        {
            instance.files.close(&mut world.kept_files);
            instance.files = IoFiles::new(&world.hierarchies, path);
        }
        instance.files.read(&mut world.kept_files, &mut self.buffer, &mut self.devices);
        if self.devices.len() > limits::DEVICES_PER_CONTAINER {
            world.reached.count(Limit::Devices);
        }
        for io in self.devices.iter().take(limits::DEVICES_PER_CONTAINER) {
            let number = device_number(io.major, io.minor);
            self.names_are_old |= !self.disk_names.contains_key(&number);
            // Half of it, when one of v1's two files could not be read, would look like counters that fell.
            if let (Some(reads), Some(writes), Some(read_bytes), Some(written_bytes)) =
                (io.reads, io.writes, io.read_bytes, io.written_bytes)
            {
                self.io.observe(id, identity, number, [reads, writes, read_bytes, written_bytes]);
            }
        }
    }

    /// Names the whole disks; anything else that has I/O (loop, ram) gets an empty name and is not exported.
    fn read_disk_names(&mut self, world: &World) {
        let table =
            read_bounded(&world.host.proc("diskstats"), limits::KERNEL_FILE_BYTES).unwrap_or_default();
        let disks = diskstats::parse(&table);
        self.disk_names.clear();
        for (_, number, _) in self.io.totals() {
            let disk = disks.by_number((number >> 32) as u32, number as u32);
            let name = disk.map(|disk| disk.name).filter(|name| diskstats::whole_device(name)).unwrap_or("");
            self.disk_names.insert(number, name.into());
        }
    }

    /// Chooses the mount that I/O of an identity stands on, for devices that have none yet, once its mounts are known.
    fn choose_places(&mut self, world: &World) {
        let is_named = |number: &u64| self.disk_names.get(number).is_some_and(|name| !name.is_empty());
        let is_new = |(identity, number, _): (IdentityId, u64, &_)| {
            is_named(&number) && !self.places.contains_key(&(identity, number))
        };
        if !self.io.totals().any(is_new) {
            return;
        }
        let mut mounts: HashMap<IdentityId, (bool, Vec<&Mount>)> = HashMap::new();
        for (id, instance, _) in world.containers.living() {
            let (Some(identity), Some(known)) = (instance.identity, self.instances.get(&id)) else {
                continue;
            };
            let entry = mounts.entry(identity).or_insert((true, Vec::new()));
            entry.0 &= known.probed || known.failures >= PROBES;
            entry.1.extend(&known.mounts);
        }
        for (identity, number, _) in self.io.totals() {
            let Some(device) = self.disk_names.get(&number).filter(|name| !name.is_empty()) else {
                continue;
            };
            let mounts = match mounts.get(&identity) {
                Some((true, mounts)) => &mounts[..],
                Some((false, _)) => continue,
                // It is gone, and its mounts with it.
                None => &[],
            };
            self.places.entry((identity, number)).or_insert_with(|| {
                let mount = mounts
                    .iter()
                    .filter(|mount| *mount.device == **device)
                    .min_by_key(|mount| (mount.mount_point.len(), &mount.mount_point));
                SeriesLabels {
                    mount_point: mount.map_or_else(String::new, |mount| mount.mount_point.clone()),
                    device: device.to_string(),
                    volume: mount.map_or_else(String::new, |mount| mount.volume.clone()),
                }
            });
        }
    }

    /// Starts a child for the containers that are due.
    fn start_probe(&mut self, world: &World) -> Result<()> {
        let since = |at: Option<MonotonicNs>| at.map_or(u64::MAX, |at| world.now_ns.saturating_sub(at));
        if self.probe.is_some() || since(self.started_ns) < PROBE_PAUSE_NS {
            return Ok(());
        }
        self.hung.retain(|(_, child)| child.is_alive());
        if self.hung.len() >= limits::HUNG_CHILDREN {
            // Nobody waits for a turn that may not come; the next minute begins anew.
            self.queue.clear();
            return Ok(());
        }
        let all = since(self.started_for_all_ns) >= limits::FILESYSTEMS_INTERVAL.as_nanos() as u64;
        if all || self.queue.is_empty() {
            let mut due: Vec<(u32, InstanceId)> = self
                .instances
                .iter()
                .filter(|(_, instance)| all || (!instance.probed && instance.failures < PROBES))
                .map(|(&id, instance)| (instance.failures, id))
                .collect();
            // Those that a probe hung on or found empty come last, so that they keep nobody else waiting.
            due.sort_unstable();
            self.queue = due.into_iter().map(|(_, id)| id).collect();
        }
        let mut jobs = Vec::new();
        let mut owners = Vec::new();
        while jobs.len() < limits::FILESYSTEM_JOBS
            && let Some(id) = self.queue.pop_front()
        {
            if self.hung.iter().any(|(hung, _)| *hung == id) {
                continue;
            }
            let Some(instance) = world.containers.instance(id) else { continue };
            let path = instance.path.trim_start_matches('/');
            let cgroups = world.hierarchies.searched().map(|(_, mount)| mount.join(path)).collect();
            jobs.push(Job { number: owners.len() as u32, cgroups });
            owners.push(id);
        }
        if jobs.is_empty() {
            return Ok(());
        }
        let host = world.host.clone();
        let worker =
            Worker::spawn(|pipe| mounts::probe(&host, &jobs, pipe)).context("child for file systems")?;
        let deadline_ns = world.now_ns + limits::FILESYSTEMS_TIME.as_nanos() as u64;
        self.probe = Some(Probe { worker, jobs: owners, data: Vec::new(), deadline_ns });
        self.started_ns = Some(world.now_ns);
        if all {
            // A device number may have gone to another disk since.
            self.names_are_old = true;
            self.started_for_all_ns = self.started_ns;
        }
        Ok(())
    }

    /// Takes over what a child found, be it finished or abandoned.
    fn end_probe(&mut self, probe: Probe, world: &mut World) {
        let mut found: HashMap<u32, Vec<Mount>> = HashMap::new();
        let mut ended: HashMap<u32, bool> = HashMap::new();
        for record in mounts::parse(&probe.data) {
            match record {
                Record::Mount(job, mount) => found.entry(job).or_default().push(mount),
                Record::End { job, found } => {
                    ended.insert(job, found);
                }
            }
        }
        for (job, &id) in probe.jobs.iter().enumerate() {
            let job = job as u32;
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            match ended.get(&job) {
                Some(true) => {
                    instance.probed = true;
                    instance.failures = 0;
                    instance.mounts = found.remove(&job).unwrap_or_default();
                    if instance.mounts.len() > limits::MOUNTS_PER_CONTAINER {
                        instance.mounts.truncate(limits::MOUNTS_PER_CONTAINER);
                        world.reached.count(Limit::Mounts);
                    }
                }
                Some(false) => instance.failures = instance.failures.saturating_add(1),
                // This is the one it was at; those behind it had no turn.
                None => {
                    instance.failures = instance.failures.saturating_add(1);
                    self.hung.push((id, probe.worker.abandon()));
                    break;
                }
            }
        }
        self.choose_places(world);
    }

    /// Mounts of the host's own namespace matter to a container only where it does I/O.
    fn is_relevant(&self, identity: IdentityId, mount: &Mount) -> bool {
        !mount.of_host
            || self
                .places
                .range((identity, 0)..=(identity, u64::MAX))
                .any(|(_, place)| place.device == mount.device)
    }
}

impl Collector for Disk {
    fn fds(&self, wait: &mut dyn FnMut(RawFd)) {
        if let Some(probe) = &self.probe {
            wait(probe.worker.as_raw_fd());
        }
    }

    fn ready(&mut self, world: &mut World, _fd: RawFd) -> Result<()> {
        let Some(mut probe) = self.probe.take() else {
            return Ok(());
        };
        let over = probe.worker.read(&mut probe.data) || probe.data.len() > limits::KERNEL_FILE_BYTES;
        probe.deadline_ns = world.now_ns + limits::FILESYSTEMS_TIME.as_nanos() as u64;
        if over {
            self.end_probe(probe, world);
        } else {
            self.probe = Some(probe);
        }
        Ok(())
    }

    fn event(&mut self, world: &mut World, event: &Event) {
        self.io.event(event);
        match *event {
            Event::InstanceEnded(id) => {
                if let Some(mut instance) = self.instances.remove(&id) {
                    instance.files.close(&mut world.kept_files);
                }
            }
            Event::IdentityEnded(identity) => {
                let places = self.places.range((identity, 0)..=(identity, u64::MAX));
                let gone: Vec<_> = places.map(|(place, _)| *place).collect();
                gone.iter().for_each(|place| drop(self.places.remove(place)));
            }
            Event::InstanceStarted(_) | Event::InstanceRenamed(_) | Event::CgroupsChanged => {}
        }
    }

    fn refresh(&mut self, world: &mut World) -> Result<()> {
        self.sweep.begin();
        self.read_io(world);
        if let Some(probe) = self.probe.take_if(|probe| probe.deadline_ns <= world.now_ns) {
            warning!("measuring file systems hung; the containers it hung on are asked last from now on");
            self.abandoned += 1;
            self.end_probe(probe, world);
        }
        self.choose_places(world);
        self.start_probe(world)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.probe.as_ref().map(|probe| probe.deadline_ns)
    }

    fn tick_ns(&self) -> Option<MonotonicNs> {
        let has_rest = self.probe.is_none() && !self.queue.is_empty();
        let probe_ns = self.started_ns.filter(|_| has_rest).map(|at| at + PROBE_PAUSE_NS);
        let sweep_ns = self.sweep.is_under_way().then_some(0);
        sweep_ns.into_iter().chain(probe_ns).min()
    }

    fn tick(&mut self, world: &mut World) {
        self.read_io(world);
        if !self.queue.is_empty()
            && let Err(error) = self.start_probe(world)
        {
            self.queue.clear();
            warning!("disk: {error}");
        }
    }

    fn is_busy(&self) -> bool {
        self.probe.is_some() || self.sweep.is_under_way()
    }

    fn collect(&self, world: &World, out: &mut Registry) {
        for (id, instance, named) in world.containers.living() {
            let (Some(identity), Some(known)) = (instance.identity, self.instances.get(&id)) else {
                continue;
            };
            for mount in known.mounts.iter().filter(|mount| self.is_relevant(identity, mount)) {
                let Some(usage) = mount.usage else { continue };
                let labels = [mount.mount_point.as_str(), &mount.device, &mount.volume];
                out.container(&named.labels, &SIZE, &labels, usage.size_bytes as f64);
                out.container(&named.labels, &USED, &labels, usage.used_bytes as f64);
                out.container(&named.labels, &RESERVED, &labels, usage.reserved_bytes as f64);
            }
        }
        for (identity, number, totals) in self.io.totals() {
            let (Some(named), Some(place)) =
                (world.containers.identity(identity), self.places.get(&(identity, number)))
            else {
                continue;
            };
            let labels = [place.mount_point.as_str(), &place.device, &place.volume];
            for (desc, total) in [&READS, &WRITES, &READ_BYTES, &WRITTEN_BYTES].iter().zip(totals) {
                out.container(&named.labels, desc, &labels, *total as f64);
            }
        }
        out.add(&ABANDONED, &[], self.abandoned as f64);
    }
}
