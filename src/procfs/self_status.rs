//! `/proc/self/status`: memory and threads of the agent itself.
//!
//! Kernel document: Documentation/filesystems/proc.rst, table 1-2. Sizes are given in kB of 1024
//! bytes and returned in bytes.

use super::text;

/// What nodeprobe takes from `/proc/self/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfStatus {
    /// `VmRSS`: memory resident now.
    pub resident_bytes: Option<u64>,
    /// `VmHWM`: the most memory that ever was resident.
    pub peak_resident_bytes: Option<u64>,
    /// `RssAnon`: what of it is no page of a file.
    pub anonymous_bytes: Option<u64>,
    /// `VmSize`: address space in use.
    pub virtual_bytes: Option<u64>,
    /// `Threads`: number of threads.
    pub threads: Option<u64>,
}

/// Reads the sizes and the number of threads.
pub fn parse(bytes: &[u8]) -> SelfStatus {
    let mut status = SelfStatus::default();
    for line in text::lines(bytes) {
        if let Some(value) = line.strip_prefix(b"VmRSS:") {
            status.resident_bytes = text::kilobytes(value);
        } else if let Some(value) = line.strip_prefix(b"VmHWM:") {
            status.peak_resident_bytes = text::kilobytes(value);
        } else if let Some(value) = line.strip_prefix(b"RssAnon:") {
            status.anonymous_bytes = text::kilobytes(value);
        } else if let Some(value) = line.strip_prefix(b"VmSize:") {
            status.virtual_bytes = text::kilobytes(value);
        } else if let Some(value) = line.strip_prefix(b"Threads:") {
            status.threads = text::number(value.trim_ascii());
            break; // the sizes stand before it
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz;

    const SAMPLE: &[u8] = b"Name:\tnodeprobe\nState:\tR (running)\nVmPeak:\t    9000 kB\n\
        VmSize:\t    8000 kB\nVmHWM:\t    4000 kB\nVmRSS:\t    3000 kB\nRssAnon:\t 100 kB\n\
        Threads:\t4\nSigQ:\t0/96000\n";

    #[test]
    fn reads_sizes_and_threads() {
        let status = parse(SAMPLE);
        assert_eq!(status.resident_bytes, Some(3000 * 1024));
        assert_eq!(status.peak_resident_bytes, Some(4000 * 1024));
        assert_eq!(status.anonymous_bytes, Some(100 * 1024));
        assert_eq!(status.virtual_bytes, Some(8000 * 1024));
        assert_eq!(status.threads, Some(4));
    }

    #[test]
    fn what_is_missing_or_wrong_is_none() {
        // Kernel threads have no Vm lines at all.
        let status = parse(b"Name:\tkthreadd\nVmRSS:\t x kB\nVmHWM:\nThreads:\t1\n");
        assert_eq!(status.threads, Some(1));
        assert_eq!((status.resident_bytes, status.peak_resident_bytes), (None, None));
        assert_eq!(parse(b"Threads:\t1"), SelfStatus::default());
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(SAMPLE, |bytes| {
            let _ = parse(bytes);
        });
    }
}
