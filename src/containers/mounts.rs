//! The file systems of containers: which there are, on which disk, and how full.
//!
//! Reading them can hang (a dead mount under a container's root), so [`probe`] runs in a child process that is abandoned when
//! it does; what it found until then is used.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::host::{Host, read_bounded};
use crate::limits;
use crate::procfs::diskstats::{self, Disks};
use crate::procfs::mountinfo;
use crate::sys::process::{FilesystemUse, filesystem_use};

/// File systems on local disks. Others are left alone: network file systems can hang, and overlay, tmpfs and the like are
/// not disks.
pub const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "reiserfs",
    "vfat", "xfs", "zfs",
];

/// Files that runtimes bind into every container; what they lie on is no volume.
const BOUND_FILES: &[&str] = &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"];

/// Mounts read of one container, more than are exported, so that what is left out is known.
const MOUNTS_READ: usize = 4 * limits::MOUNTS_PER_CONTAINER;

/// Directories searched for a process below a container's cgroup.
const SEARCHED: usize = 64;

/// A container to look at.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the answer refers to.
    pub number: u32,
    /// Its cgroup directories; the first with a process is used.
    pub cgroups: Vec<PathBuf>,
}

/// A file system of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where the container sees it.
    pub mount_point: String,
    /// The whole disk it is on; empty when unknown (zfs).
    pub device: String,
    /// `pvc-<uuid>` of a Kubernetes volume, else empty.
    pub volume: String,
    /// The container has no mount namespace of its own: this is just one of the host's file systems.
    pub of_host: bool,
    /// How full it is, where that could be read.
    pub usage: Option<FilesystemUse>,
}

/// Fields of a record in the pipe, each ended by a NUL.
const FIELDS: usize = 8;

/// In the place of a device: there was no process to look at.
const NOBODY: &str = "nobody";

/// What a child says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A file system of the job's container.
    Mount(u32, Mount),
    /// That was all of the job.
    End {
        /// The job's number.
        job: u32,
        /// There was a process to look at.
        found: bool,
    },
}

/// Looks at each job's container and writes a record per mount into `out`, and one behind each job. Runs in a child.
pub fn probe(host: &Host, jobs: &[Job], pipe: &mut impl Write) {
    // One write for each container wakes its reader once, and tells all that is known when the next one hangs.
    let mut out = std::io::BufWriter::new(pipe);
    let diskstats = read_bounded(&host.proc("diskstats"), limits::KERNEL_FILE_BYTES).unwrap_or_default();
    let disks = diskstats::parse(&diskstats);
    let init_namespace = fs::read_link(host.proc("1/ns/mnt")).ok();
    let mut known: HashMap<PathBuf, Vec<Mount>> = HashMap::new();
    for job in jobs {
        let process = job.cgroups.iter().find_map(|directory| first_process(directory, &mut 0));
        let looked_at = process.and_then(|pid| {
            let namespace = fs::read_link(host.proc(&format!("{pid}/ns/mnt"))).ok();
            let of_host = namespace.is_some() && namespace == init_namespace;
            let mounts = match namespace.as_ref().and_then(|namespace| known.get(namespace)) {
                Some(mounts) => mounts.clone(),
                None => read_mounts(host, pid, &disks, of_host)?,
            };
            Some((namespace, mounts))
        });
        let Some((namespace, mounts)) = looked_at else {
            let _ = write!(out, "{}\0\0{NOBODY}\0\0\0\0\0\0", job.number);
            let _ = out.flush();
            continue;
        };
        for mount in &mounts {
            let usage = mount.usage.map_or_else(Default::default, |usage| {
                [usage.size_bytes, usage.used_bytes, usage.reserved_bytes].map(|bytes| bytes.to_string())
            });
            let [size, used, reserved] = usage;
            let of_host = if mount.of_host { "host" } else { "" };
            let _ = write!(
                out,
                "{}\0{}\0{}\0{}\0{of_host}\0{size}\0{used}\0{reserved}\0",
                job.number, mount.mount_point, mount.device, mount.volume
            );
        }
        let _ = write!(out, "{}\0\0\0\0\0\0\0\0", job.number);
        let _ = out.flush();
        if let Some(namespace) = namespace {
            known.insert(namespace, mounts);
        }
    }
}

/// Takes the whole records from the start of `data`.
pub fn parse(data: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut fields = data.split_inclusive(|&byte| byte == 0).filter_map(|field| field.strip_suffix(&[0]));
    loop {
        let mut record: [&str; FIELDS] = [""; FIELDS];
        for slot in &mut record {
            let Some(field) = fields.next() else {
                return records;
            };
            *slot = std::str::from_utf8(field).unwrap_or("");
        }
        let [number, mount_point, device, volume, of_host, size, used, reserved] = record;
        let Ok(number) = number.parse() else { continue };
        if mount_point.is_empty() {
            records.push(Record::End { job: number, found: device != NOBODY });
            continue;
        }
        let usage = match (size.parse(), used.parse(), reserved.parse()) {
            (Ok(size_bytes), Ok(used_bytes), Ok(reserved_bytes)) => {
                Some(FilesystemUse { size_bytes, used_bytes, reserved_bytes })
            }
            _ => None,
        };
        let mount = Mount {
            mount_point: mount_point.to_owned(),
            device: device.to_owned(),
            volume: volume.to_owned(),
            of_host: !of_host.is_empty(),
            usage,
        };
        records.push(Record::Mount(number, mount));
    }
}

/// Any process of the cgroup or one below it; `searched` counts the directories looked at, which are at most 64.
pub fn first_process(directory: &Path, searched: &mut usize) -> Option<u32> {
    *searched += 1;
    let procs = read_bounded(&directory.join("cgroup.procs"), limits::KERNEL_FILE_BYTES).ok()?;
    let first =
        procs.split(|&byte| byte == b'\n').find_map(|line| std::str::from_utf8(line).ok()?.parse().ok());
    // 0 is a process outside this PID namespace.
    if let Some(pid) = first.filter(|&pid| pid != 0) {
        return Some(pid);
    }
    let children = fs::read_dir(directory).ok()?.flatten();
    for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        if *searched >= SEARCHED {
            return None;
        }
        if let Some(pid) = first_process(&child.path(), searched) {
            return Some(pid);
        }
    }
    None
}

/// `None` when the process cannot be looked at, which is not to have no mounts.
fn read_mounts(host: &Host, pid: u32, disks: &Disks<'_>, of_host: bool) -> Option<Vec<Mount>> {
    let table = read_bounded(&host.proc(&format!("{pid}/mountinfo")), limits::KERNEL_FILE_BYTES).ok()?;
    let mut mounts: Vec<Mount> = Vec::new();
    for entry in mountinfo::parse(&table) {
        if !LOCAL.contains(&entry.fs_type.as_ref()) || mounts.len() >= MOUNTS_READ {
            continue;
        }
        let path = host.proc(&format!("{pid}/root{}", entry.mount_point));
        let is_file = || fs::metadata(&path).is_ok_and(|metadata| !metadata.is_dir());
        if BOUND_FILES.contains(&entry.mount_point.as_ref()) || is_file() {
            continue;
        }
        let device = match disks.by_number(entry.major, entry.minor) {
            Some(disk) if entry.major != 0 => disk.name.to_owned(),
            // btrfs shows a number of its own; its source is the device.
            _ => device_of_source(host, &entry.source, disks).unwrap_or_default(),
        };
        let mount = Mount {
            mount_point: entry.mount_point.into_owned(),
            device,
            volume: volume_name(&entry.root).or_else(|| volume_name(&entry.source)).unwrap_or_default(),
            of_host,
            usage: filesystem_use(&path).ok(),
        };
        // A later mount over the same place hides the earlier one.
        mounts.retain(|other| other.mount_point != mount.mount_point);
        mounts.push(mount);
    }
    Some(mounts)
}

/// The whole disk behind `/dev/sda2` or `/dev/mapper/vg-root`.
fn device_of_source(host: &Host, source: &str, disks: &Disks<'_>) -> Option<String> {
    let name = source.strip_prefix("/dev/")?;
    let target = fs::read_link(host.rootfs(source)).ok();
    let target = target.as_ref().and_then(|target| target.file_name()).and_then(|name| name.to_str());
    let name = target.unwrap_or(name);
    diskstats::parent_of(name, disks.all()).map(str::to_owned)
}

/// `pvc-<uuid>` in the path a Kubernetes volume is mounted from.
fn volume_name(source: &str) -> Option<String> {
    const UUID: usize = 36;
    let start = source.find("pvc-")?;
    let name = source.get(start..start + 4 + UUID)?;
    let is_uuid = name[4..].bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uuid.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_pipe_also_in_parts() {
        let record = "7\0/data\0sda\0\0host\x001000\x00400\x0050\0";
        let mount = Mount {
            mount_point: "/data".to_owned(),
            device: "sda".to_owned(),
            volume: String::new(),
            of_host: true,
            usage: Some(FilesystemUse { size_bytes: 1000, used_bytes: 400, reserved_bytes: 50 }),
        };
        let whole = format!("{record}7\0\0\0\0\0\0\0\0");
        let end = |found| Record::End { job: 7, found };
        assert_eq!(parse(whole.as_bytes()), [Record::Mount(7, mount.clone()), end(true)]);
        assert_eq!(parse(format!("7\0\0{NOBODY}\0\0\0\0\0\0").as_bytes()), [end(false)]);
        for cut in record.len()..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..cut]), [Record::Mount(7, mount.clone())]);
        }
    }

    #[test]
    fn volumes_are_found_in_paths() {
        let name = "pvc-0c3f3a1e-9f2b-4d0e-8b1a-6f1f2a3b4c5d";
        assert_eq!(volume_name(&format!("/pods/x/volumes/y/{name}/mount")).as_deref(), Some(name));
        assert_eq!(volume_name("/pods/pvc-short"), None);
        assert_eq!(volume_name("pvc-é3f3a1e-9f2b-4d0e-8b1a-6f1f2a3b4c5d0"), None);
    }
}
