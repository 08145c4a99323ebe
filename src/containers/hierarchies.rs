//! Where the controllers of this host are mounted: cgroup v1, v2, or both (hybrid).

use std::path::{Path, PathBuf};

use crate::host::{Host, read_bounded};
use crate::limits;
use crate::procfs;

/// A hierarchy in which a container may be visible, in the order of preference. Hybrid hosts have containers that are seen in
/// one of them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Place {
    /// The unified hierarchy.
    V2,
    /// The v1 hierarchy of the memory controller.
    Memory,
    /// The v1 hierarchy of the cpu controller.
    Cpu,
    /// The v1 hierarchy of the pids controller.
    Pids,
}

impl Place {
    /// All places, most preferred first; `place as usize` is the index.
    pub const ALL: [Place; 4] = [Place::V2, Place::Memory, Place::Cpu, Place::Pids];

    fn controller(self) -> &'static str {
        match self {
            Place::V2 => "",
            Place::Memory => "memory",
            Place::Cpu => "cpu",
            Place::Pids => "pids",
        }
    }
}

/// Directories of the hierarchies.
#[derive(Debug, Clone, Default)]
pub struct Hierarchies {
    /// Where each place is mounted, and the kernel's number for it.
    places: [Option<(PathBuf, u32)>; Place::ALL.len()],
    /// v1 directories of controllers that are read but not searched.
    cpuacct: Option<PathBuf>,
    blkio: Option<PathBuf>,
    hugetlb: Option<PathBuf>,
}

impl Hierarchies {
    /// Looks at the cgroup mount of `host`.
    pub fn detect(host: &Host) -> Hierarchies {
        let table = read_bounded(&host.proc("cgroups"), limits::KERNEL_FILE_BYTES).unwrap_or_default();
        let number = |controller: &str| {
            let row = procfs::cgroups::parse(&table).find(|row| row.name == controller);
            row.map(|row| row.hierarchy).filter(|&id| id != 0)
        };
        let mut found = Hierarchies::default();
        let v2 = [host.cgroup(""), host.cgroup("unified")];
        let v2 = v2.into_iter().find(|directory| directory.join("cgroup.controllers").exists());
        found.places[Place::V2 as usize] = v2.map(|directory| (directory, 0));
        for place in [Place::Memory, Place::Cpu, Place::Pids] {
            let mounted = v1_directory(host, place.controller()).zip(number(place.controller()));
            found.places[place as usize] = mounted;
        }
        found.cpuacct = v1_directory(host, "cpuacct");
        found.blkio = v1_directory(host, "blkio");
        found.hugetlb = v1_directory(host, "hugetlb");
        found
    }

    /// The mount of a place.
    pub fn directory(&self, place: Place) -> Option<&Path> {
        self.places[place as usize].as_ref().map(|(directory, _)| directory.as_path())
    }

    /// The kernel's number of a place's hierarchy.
    pub fn number(&self, place: Place) -> Option<u32> {
        self.places[place as usize].as_ref().map(|&(_, number)| number)
    }

    /// The place that is hierarchy `number`; co-mounted controllers share one, the preferred place stands for all.
    pub fn place_of(&self, number: u32) -> Option<Place> {
        Place::ALL.into_iter().find(|&place| self.number(place) == Some(number))
    }

    /// Places that are mounted and are not the same hierarchy as a preferred one.
    pub fn searched(&self) -> impl Iterator<Item = (Place, &Path)> {
        Place::ALL.into_iter().filter_map(|place| {
            let number = self.number(place)?;
            (self.place_of(number) == Some(place)).then_some((place, self.directory(place)?))
        })
    }

    /// The v1 directory of cpuacct.
    pub fn cpuacct(&self) -> Option<&Path> {
        self.cpuacct.as_deref()
    }

    /// The v1 directory of blkio.
    pub fn blkio(&self) -> Option<&Path> {
        self.blkio.as_deref()
    }

    /// The v1 directory of hugetlb.
    pub fn hugetlb(&self) -> Option<&Path> {
        self.hugetlb.as_deref()
    }

    /// `v1`, `v2`, `hybrid` or `none`.
    pub fn layout(&self) -> &'static str {
        let v1 = Place::ALL[1..].iter().any(|&place| self.directory(place).is_some());
        match (v1, self.directory(Place::V2).is_some()) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }
}

/// `<root>/cpu`, or the co-mounted directory `<root>/cpu,cpuacct` where nobody made the symbolic link.
fn v1_directory(host: &Host, controller: &str) -> Option<PathBuf> {
    let plain = host.cgroup(controller);
    if plain.is_dir() {
        return Some(plain);
    }
    ["cpu,cpuacct", "cpuacct,cpu", "net_cls,net_prio"]
        .iter()
        .filter(|name| name.split(',').any(|part| part == controller))
        .map(|name| host.cgroup(name))
        .find(|directory| directory.is_dir())
}
