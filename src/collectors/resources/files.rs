//! The cgroup files of one container, wherever their hierarchies are mounted, and what they said last.

use std::path::Path;

use crate::cgroupfs::{cpu_max, cpu_stat, memory_stat, number};
use crate::containers::hierarchies::{Hierarchies, Place};
use crate::host::{Host, read_bounded};
use crate::kernel_file::KernelFile;
use crate::limits;
use crate::procfs::pressure;
use crate::sys::clock::MonotonicNs;
use crate::world::KeptFiles;

/// CPU usage and throttling in nanoseconds.
pub const CPU_COUNTERS: usize = 2;
/// `some` and `full` of cpu, memory and io, in microseconds.
pub const PRESSURE_COUNTERS: usize = 6;

/// The files of one instance and what they said last.
#[derive(Default)]
pub struct Files {
    cpu: CpuFiles,
    of_memory: MemoryFiles,
    pressure: Option<[KernelFile; 3]>,
    /// Current number and limit.
    of_pids: Option<[KernelFile; 2]>,
    of_huge_pages: Vec<HugePages>,
    /// How often its directories were looked for and its limits read, and when that is due again.
    pub looked: u32,
    /// See [`Files::looked`].
    pub look_ns: MonotonicNs,
    /// CPU limit in cores.
    pub cpu_limit_cores: Option<f64>,
    /// The throttled time read last. A read that fails must not look like a counter that fell.
    throttled_ns: u64,
    /// Memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// Memory in use.
    pub memory: Memory,
    /// Tasks.
    pub pids: Option<u64>,
    /// Limit of tasks.
    pub pids_limit: Option<u64>,
}

/// Memory in use, in bytes.
#[derive(Debug, Default)]
pub struct Memory {
    /// Anonymous and mapped.
    pub rss_bytes: Option<u64>,
    /// Page cache.
    pub cache_bytes: Option<u64>,
    /// Usage less inactive page cache, as the kubelet has it.
    pub working_set_bytes: Option<u64>,
    /// In swap.
    pub swap_bytes: Option<u64>,
}

/// Huge pages of one size.
struct HugePages {
    /// As cgroup files have it: `2MB`.
    size: String,
    usage: KernelFile,
    bytes: Option<u64>,
}

#[derive(Default)]
enum CpuFiles {
    V2 {
        stat: KernelFile,
        max: KernelFile,
    },
    V1 {
        usage: KernelFile,
        stat: KernelFile,
        quota: KernelFile,
        period: KernelFile,
    },
    #[default]
    None,
}

#[derive(Default)]
enum MemoryFiles {
    V2 {
        stat: KernelFile,
        current: KernelFile,
        /// Absent where swap is not accounted for.
        swap: Option<KernelFile>,
        max: KernelFile,
    },
    V1 {
        stat: KernelFile,
        usage: KernelFile,
        limit: KernelFile,
    },
    #[default]
    None,
}

impl Files {
    /// Looks for the cgroup `path`: each controller's files are in the hierarchy that has the controller and the cgroup.
    /// Runtimes make the directories of a container one after the other, so a second look may find more.
    ///
    /// Gives true when CPU time is read from another file than before.
    pub fn find(&mut self, host: &Host, hierarchies: &Hierarchies, path: &str, kept: &mut KeptFiles) -> bool {
        let path = path.trim_start_matches('/');
        let inside = |mount: Option<&Path>| mount.map(|mount| mount.join(path)).filter(|path| path.is_dir());
        let file = |directory: &Path, name: &str| KernelFile::one_piece(directory.join(name));
        let v2 = inside(hierarchies.directory(Place::V2));
        let v1_cpu = inside(hierarchies.directory(Place::Cpu)).zip(inside(hierarchies.cpuacct()));
        let v1_memory = inside(hierarchies.directory(Place::Memory));
        let moved = matches!(self.cpu, CpuFiles::V2 { .. }) && v1_cpu.is_some();
        if let (CpuFiles::None | CpuFiles::V2 { .. }, Some((cpu, cpuacct))) = (&self.cpu, v1_cpu) {
            self.close(kept);
            self.cpu = CpuFiles::V1 {
                usage: file(&cpuacct, "cpuacct.usage"),
                stat: file(&cpu, "cpu.stat"),
                quota: file(&cpu, "cpu.cfs_quota_us"),
                period: file(&cpu, "cpu.cfs_period_us"),
            };
        }
        if let (MemoryFiles::None | MemoryFiles::V2 { .. }, Some(v1)) = (&self.of_memory, v1_memory) {
            self.close(kept);
            self.of_memory = MemoryFiles::V1 {
                stat: file(&v1, "memory.stat"),
                usage: file(&v1, "memory.usage_in_bytes"),
                limit: file(&v1, "memory.limit_in_bytes"),
            };
        }
        if self.of_pids.is_none() {
            let places = [Place::Pids, Place::V2].map(|place| inside(hierarchies.directory(place)));
            let directory = places.into_iter().flatten().find(|path| path.join("pids.current").exists());
            self.of_pids =
                directory.map(|directory| ["pids.current", "pids.max"].map(|name| file(&directory, name)));
        }
        if self.of_huge_pages.is_empty() {
            let places =
                [(hierarchies.hugetlb(), "usage_in_bytes"), (hierarchies.directory(Place::V2), "current")];
            let found = places.into_iter().filter_map(|(mount, name)| Some((inside(mount)?, name)));
            self.of_huge_pages = found
                .flat_map(|(directory, name)| {
                    let usage = move |size: &String| directory.join(format!("hugetlb.{size}.{name}"));
                    huge_page_sizes(host).into_iter().map(move |size| (usage(&size), size))
                })
                .filter(|(usage, _)| usage.exists())
                .map(|(usage, size)| HugePages { size, usage: KernelFile::one_piece(usage), bytes: None })
                .collect();
        }
        let Some(v2) = v2 else { return moved };
        if let CpuFiles::None = self.cpu {
            self.cpu = CpuFiles::V2 { stat: file(&v2, "cpu.stat"), max: file(&v2, "cpu.max") };
        }
        if let MemoryFiles::None = self.of_memory {
            self.of_memory = MemoryFiles::V2 {
                stat: file(&v2, "memory.stat"),
                current: file(&v2, "memory.current"),
                swap: v2.join("memory.swap.current").exists().then(|| file(&v2, "memory.swap.current")),
                max: file(&v2, "memory.max"),
            };
        }
        if self.pressure.is_none() && v2.join("cpu.pressure").exists() {
            self.pressure =
                Some(["cpu.pressure", "memory.pressure", "io.pressure"].map(|name| file(&v2, name)));
        }
        moved
    }

    /// Usage and throttling in nanoseconds; `None` without the usage.
    pub fn read_cpu(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) -> Option<[u64; CPU_COUNTERS]> {
        match &mut self.cpu {
            CpuFiles::V2 { stat, .. } => {
                let stat = cpu_stat::parse(stat.read(kept, buffer).ok()?);
                self.throttled_ns = stat.throttled_ns.unwrap_or(self.throttled_ns);
                Some([stat.usage_us?.saturating_mul(1000), self.throttled_ns])
            }
            CpuFiles::V1 { usage, stat, .. } => {
                let usage_ns = number::parse(usage.read(kept, buffer).ok()?)?;
                // Only a limit makes it grow, so without one it is not read again.
                if self.cpu_limit_cores.is_some() || self.looked <= 1 {
                    let text = stat.read(kept, buffer).ok();
                    let throttled_ns = text.and_then(|text| cpu_stat::parse(text).throttled_ns);
                    self.throttled_ns = throttled_ns.unwrap_or(self.throttled_ns);
                }
                Some([usage_ns, self.throttled_ns])
            }
            CpuFiles::None => None,
        }
    }

    /// Reads what it uses of memory.
    pub fn read_memory(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        let working_set = |usage: Option<u64>, inactive: Option<u64>| Some(usage?.saturating_sub(inactive?));
        self.memory = match &mut self.of_memory {
            MemoryFiles::V2 { stat, current, swap, .. } => {
                let stat = stat.read(kept, buffer).map(memory_stat::parse).unwrap_or_default();
                Memory {
                    rss_bytes: sum(stat.anon, stat.file_mapped),
                    cache_bytes: stat.file,
                    working_set_bytes: working_set(read_number(current, kept, buffer), stat.inactive_file),
                    swap_bytes: swap.as_mut().and_then(|swap| read_number(swap, kept, buffer)),
                }
            }
            MemoryFiles::V1 { stat, usage, .. } => {
                let stat = stat.read(kept, buffer).map(memory_stat::parse_v1).unwrap_or_default();
                Memory {
                    rss_bytes: sum(stat.rss, stat.mapped_file),
                    cache_bytes: stat.cache,
                    working_set_bytes: working_set(read_number(usage, kept, buffer), stat.inactive_file),
                    swap_bytes: stat.swap,
                }
            }
            MemoryFiles::None => Memory::default(),
        };
    }

    /// Reads the number of its tasks and its huge pages.
    pub fn read_others(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) {
        self.pids = self.of_pids.as_mut().and_then(|[current, _]| read_number(current, kept, buffer));
        for pages in &mut self.of_huge_pages {
            pages.bytes = read_number(&mut pages.usage, kept, buffer);
        }
    }

    /// Its huge pages: the size of the pages and how much it has of them in bytes.
    pub fn huge_pages(&self) -> impl Iterator<Item = (&str, u64)> {
        self.of_huge_pages.iter().filter_map(|pages| Some((pages.size.as_str(), pages.bytes?)))
    }

    /// `some` and `full` of cpu, memory and io in microseconds; `None` when one of them cannot be read.
    pub fn read_pressure(
        &mut self,
        kept: &mut KeptFiles,
        buffer: &mut Vec<u8>,
    ) -> Option<[u64; PRESSURE_COUNTERS]> {
        let mut all = [0; PRESSURE_COUNTERS];
        for (file, pair) in self.pressure.as_mut()?.iter_mut().zip(all.as_chunks_mut::<2>().0) {
            let pressure = pressure::parse(file.read(kept, buffer).ok()?);
            *pair = [pressure.some_us?, pressure.full_us.unwrap_or(0)];
        }
        Some(all)
    }

    /// Reads its limits.
    pub fn read_limits(&mut self, kept: &mut KeptFiles, buffer: &mut Vec<u8>) {
        // Read once a minute, so not worth a descriptor each.
        let mut read = |file: &mut KernelFile| {
            let text = file.read(kept, buffer).map(<[u8]>::to_vec).unwrap_or_default();
            file.close(kept);
            text
        };
        self.cpu_limit_cores = match &mut self.cpu {
            CpuFiles::V2 { max, .. } => cpu_max::parse(&read(max)),
            CpuFiles::V1 { quota, period, .. } => cpu_max::parse_v1(&read(quota), &read(period)),
            CpuFiles::None => None,
        };
        self.pids_limit = self.of_pids.as_mut().and_then(|[_, max]| number::parse(&read(max)));
        self.memory_limit_bytes = match &mut self.of_memory {
            MemoryFiles::V2 { max, .. } => number::parse(&read(max)),
            MemoryFiles::V1 { limit, .. } => number::parse_memory_limit(&read(limit)),
            MemoryFiles::None => None,
        };
    }

    /// Closes all files.
    pub fn close(&mut self, kept: &mut KeptFiles) {
        let cpu = match &mut self.cpu {
            CpuFiles::V2 { stat, .. } => vec![stat],
            CpuFiles::V1 { usage, stat, .. } => vec![usage, stat],
            CpuFiles::None => Vec::new(),
        };
        let memory = match &mut self.of_memory {
            MemoryFiles::V2 { stat, current, swap, .. } => [stat, current].into_iter().chain(swap).collect(),
            MemoryFiles::V1 { stat, usage, .. } => vec![stat, usage],
            MemoryFiles::None => Vec::new(),
        };
        let pressure = self.pressure.iter_mut().flatten();
        let pids = self.of_pids.iter_mut().flatten();
        let huge_pages = self.of_huge_pages.iter_mut().map(|pages| &mut pages.usage);
        let all = cpu.into_iter().chain(memory).chain(pressure).chain(pids).chain(huge_pages);
        all.for_each(|file| file.close(kept));
    }
}

fn read_number(file: &mut KernelFile, kept: &mut KeptFiles, buffer: &mut Vec<u8>) -> Option<u64> {
    number::parse(file.read(kept, buffer).ok()?)
}

/// The sizes of huge pages the host has any of, or may have, as cgroup files spell them
/// (Documentation/admin-guide/mm/hugetlbpage.rst).
fn huge_page_sizes(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.sys("kernel/mm/hugepages")).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let has = |name| {
            let text = read_bounded(&entry.path().join(name), limits::KERNEL_FILE_BYTES).ok()?;
            number::parse(&text).filter(|&count| count > 0)
        };
        has("nr_hugepages").or_else(|| has("nr_overcommit_hugepages"))?;
        let kib = entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(huge_page_size(kib))
    });
    let mut sizes: Vec<String> = sizes.collect();
    sizes.sort_unstable();
    sizes
}

/// `mem_fmt` of mm/hugetlb_cgroup.c.
fn huge_page_size(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib}KB"),
        1024..1_048_576 => format!("{}MB", kib >> 10),
        _ => format!("{}GB", kib >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_huge_pages_are_spelt_as_the_kernel_does() {
        let sizes = [64, 2048, 32_768, 1_048_576, 16_777_216].map(huge_page_size);
        assert_eq!(sizes, ["64KB", "2MB", "32MB", "1GB", "16GB"]);
    }
}
