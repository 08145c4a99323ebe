//! `TASKSTATS_CMD_GET`: delay accounting of a thread or a process (uapi header
//! linux/taskstats.h).
//!
//! Kernel documents: Documentation/accounting/taskstats.rst and taskstats-struct.rst. Since Linux
//! 5.14 the delays stay 0 unless `delayacct` is on.

use super::attribute::{self, u16_at, u32_at, u64_at};
use super::generic;
use super::message::Message;
use super::request::Request;

/// Name of the family, for [`generic::request_family`].
pub const FAMILY: &str = "TASKSTATS";

// libc does not have these; they are enum values of linux/taskstats.h.
const CMD_GET: u8 = 1;
const CMD_NEW: u8 = 2;
const CMD_ATTR_PID: u16 = 1;
const CMD_ATTR_TGID: u16 = 2;
const TYPE_PID: u16 = 1;
const TYPE_TGID: u16 = 2;
const TYPE_STATS: u16 = 3;
const TYPE_AGGR_PID: u16 = 4;
const TYPE_AGGR_TGID: u16 = 5;
/// `TASKSTATS_GENL_VERSION`.
const GENL_VERSION: u8 = 1;

// Offsets in `struct taskstats` that hold for all versions.
const VERSION: usize = 0;
const CPU_DELAY_TOTAL: usize = 24;
/// Version 15 (Linux 6.14 and some 6.15) put new fields in the middle of the structure; version 16
/// moved them to its end, and all others only appended.
const SHIFTED_VERSION: u16 = 15;

/// Offsets that depend on the version.
struct Layout {
    blkio_delay_total: usize,
    ac_btime: usize,
}

const LAYOUT: Layout = Layout { blkio_delay_total: 40, ac_btime: 136 };
const SHIFTED_LAYOUT: Layout = Layout { blkio_delay_total: 56, ac_btime: 184 };

/// Length of version 8 (before Linux 4.20), the oldest accepted.
const MIN_LENGTH: usize = 328;

/// The accounting record of a thread, or of a process with all its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taskstats<'a> {
    /// The thread or process asked for.
    pub id: Option<u32>,
    /// The raw `struct taskstats`, at least 328 bytes.
    bytes: &'a [u8],
}

impl<'a> Taskstats<'a> {
    /// The raw `struct taskstats`.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Version of the structure.
    pub fn version(&self) -> Option<u16> {
        u16_at(self.bytes, VERSION)
    }

    /// `ac_btime`: begin time in seconds since 1970. Replies for a whole process leave it 0, that
    /// is `None`.
    pub fn begin_time_s(&self) -> Option<u32> {
        u32_at(self.bytes, self.layout().ac_btime).filter(|seconds| *seconds != 0)
    }

    /// `cpu_delay_total`: time spent runnable and waiting for a processor, in nanoseconds.
    pub fn cpu_delay_ns(&self) -> Option<u64> {
        u64_at(self.bytes, CPU_DELAY_TOTAL)
    }

    /// `blkio_delay_total`: time spent waiting for block I/O, in nanoseconds.
    pub fn block_io_delay_ns(&self) -> Option<u64> {
        u64_at(self.bytes, self.layout().blkio_delay_total)
    }

    fn layout(&self) -> Layout {
        match self.version() {
            Some(SHIFTED_VERSION) => SHIFTED_LAYOUT,
            _ => LAYOUT,
        }
    }
}

/// Writes a request for one thread; only this one gives the begin time.
pub fn request_pid(bytes: &mut Vec<u8>, family: u16, sequence: u32, pid: u32) {
    request(bytes, family, sequence, CMD_ATTR_PID, pid);
}

/// Writes a request for a process, exited threads included.
pub fn request_tgid(bytes: &mut Vec<u8>, family: u16, sequence: u32, tgid: u32) {
    request(bytes, family, sequence, CMD_ATTR_TGID, tgid);
}

fn request(bytes: &mut Vec<u8>, family: u16, sequence: u32, kind: u16, id: u32) {
    Request::start(bytes, family, 0, sequence)
        .raw(&generic::header(CMD_GET, GENL_VERSION))
        .attribute(kind, &id.to_ne_bytes())
        .finish();
}

/// Reads the answer; `None` for other messages and for a record that is too short.
pub fn parse<'a>(message: &Message<'a>, family: u16) -> Option<Taskstats<'a>> {
    if message.kind != family || generic::command(message) != Some(CMD_NEW) {
        return None;
    }
    let record = generic::attributes(message)
        .find(|attribute| matches!(attribute.kind, TYPE_AGGR_PID | TYPE_AGGR_TGID))?;
    let mut id = None;
    let mut bytes = None;
    for attribute in attribute::parse(record.value) {
        match attribute.kind {
            TYPE_PID | TYPE_TGID => id = u32_at(attribute.value, 0),
            TYPE_STATS => bytes = Some(attribute.value),
            _ => {}
        }
    }
    let bytes = bytes.filter(|bytes| bytes.len() >= MIN_LENGTH)?;
    Some(Taskstats { id, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    const FAMILY_ID: u16 = 23;

    fn reply(kind: u16, version: u8, length: usize) -> Vec<u8> {
        let layout = if version == 15 { SHIFTED_LAYOUT } else { LAYOUT };
        let mut stats = vec![0; 560];
        stats[..2].copy_from_slice(&u16::from(version).to_ne_bytes());
        stats[CPU_DELAY_TOTAL..][..8].copy_from_slice(&111u64.to_ne_bytes());
        stats[layout.blkio_delay_total..][..8].copy_from_slice(&222u64.to_ne_bytes());
        stats[layout.ac_btime..][..4].copy_from_slice(&1_700_000_000u32.to_ne_bytes());
        let mut nested = Vec::new();
        Request::start(&mut nested, 0, 0, 0)
            .attribute(TYPE_PID, &42u32.to_ne_bytes())
            .attribute(TYPE_STATS, &stats[..length])
            .finish();
        let mut bytes = Vec::new();
        Request::start(&mut bytes, FAMILY_ID, 0, 1)
            .raw(&generic::header(CMD_NEW, GENL_VERSION))
            .attribute(6, b"") // TASKSTATS_TYPE_NULL, padding of some architectures
            .attribute(kind, &nested[16..])
            .finish();
        bytes
    }

    #[test]
    fn reads_records_of_all_versions() {
        for (kind, version, length) in [
            (TYPE_AGGR_TGID, 8, 328),
            (TYPE_AGGR_PID, 13, 416),
            (TYPE_AGGR_PID, 15, 560),
            (TYPE_AGGR_TGID, 16, 560),
        ] {
            let bytes = reply(kind, version, length);
            let stats = parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID).unwrap();
            assert_eq!((stats.id, stats.version()), (Some(42), Some(version.into())));
            assert_eq!(stats.bytes().len(), length);
            assert_eq!(stats.cpu_delay_ns(), Some(111));
            assert_eq!(stats.block_io_delay_ns(), Some(222));
            assert_eq!(stats.begin_time_s(), Some(1_700_000_000));
        }
    }

    #[test]
    fn short_records_and_other_messages_are_none() {
        let bytes = reply(TYPE_AGGR_PID, 8, 327);
        assert_eq!(parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID), None);
        let bytes = reply(TYPE_AGGR_PID, 13, 416);
        assert_eq!(parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID + 1), None);
        let bytes = reply(TYPE_STATS, 13, 416);
        assert_eq!(parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID), None);
    }

    #[test]
    fn requests() {
        let mut bytes = Vec::new();
        for (write, kind) in
            [(request_pid as fn(&mut Vec<u8>, u16, u32, u32), CMD_ATTR_PID), (request_tgid, CMD_ATTR_TGID)]
        {
            write(&mut bytes, FAMILY_ID, 5, 42);
            let message = message::parse(&bytes).next().unwrap();
            assert_eq!((message.kind, message.sequence), (FAMILY_ID, 5));
            assert_eq!(generic::command(&message), Some(CMD_GET));
            let id = generic::attributes(&message).next().unwrap();
            assert_eq!((id.kind, u32_at(id.value, 0)), (kind, Some(42)));
        }
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&reply(TYPE_AGGR_PID, 13, 416), |bytes| {
            for message in message::parse(bytes) {
                if let Some(stats) = parse(&message, FAMILY_ID) {
                    assert!(stats.cpu_delay_ns().is_some() && stats.block_io_delay_ns().is_some());
                }
            }
        });
    }
}
