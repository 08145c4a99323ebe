//! `TASKSTATS_CMD_GET`: delay accounting of a thread or a process (uapi header
//! linux/taskstats.h), asked for or sent when a thread exits.
//!
//! Kernel documents: Documentation/accounting/taskstats.rst and taskstats-struct.rst. Since Linux
//! 5.14 all delays but the one for a processor stay 0 unless `delayacct` is on.

use super::attribute::{self, Attribute, u16_at, u32_at, u64_at};
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
const CMD_ATTR_REGISTER_CPUMASK: u16 = 3;
const TYPE_PID: u16 = 1;
const TYPE_TGID: u16 = 2;
const TYPE_STATS: u16 = 3;
const TYPE_AGGR_PID: u16 = 4;
const TYPE_AGGR_TGID: u16 = 5;
/// `TASKSTATS_GENL_VERSION`.
const GENL_VERSION: u8 = 1;

// Offsets in `struct taskstats` that hold for all versions.
const VERSION: usize = 0;
const FLAG: usize = 8;
const CPU_DELAY_TOTAL: usize = 24;
/// `AGROUP` of linux/acct.h in `ac_flag`: the thread was the last of its process.
const FLAG_LAST: u8 = 0x20;
/// The version that has `AGROUP` and what is known of the thread's process (Linux 5.19).
const PROCESS_VERSION: u16 = 12;
/// Version 15 (Linux 6.14 and some 6.15) put new fields in the middle of the structure; version 16
/// moved them to its end, and all others only appended.
const SHIFTED_VERSION: u16 = 15;

/// Offsets that depend on the version.
struct Layout {
    ac_ppid: usize,
    ac_btime: usize,
    ac_etime: usize,
    ac_tgetime: usize,
    /// By [`Delay`].
    delays: [usize; Delay::COUNT],
}

const LAYOUT: Layout = Layout {
    ac_ppid: 132,
    ac_btime: 136,
    ac_etime: 144,
    ac_tgetime: 376,
    delays: [CPU_DELAY_TOTAL, 40, 56, 320, 336, 360, 408, 424],
};
const SHIFTED_LAYOUT: Layout = Layout {
    ac_ppid: 180,
    ac_btime: 184,
    ac_etime: 192,
    ac_tgetime: 472,
    delays: [CPU_DELAY_TOTAL, 56, 88, 368, 400, 440, 504, 536],
};

/// Length of version 8 (before Linux 4.20), the oldest accepted.
const MIN_LENGTH: usize = 328;

/// What a task waited for; `delay as usize` is the place in [`Taskstats::delays_ns`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Delay {
    /// A processor, while it was runnable.
    Cpu,
    /// Block I/O it asked for.
    BlockIo,
    /// Pages to come back from swap.
    SwapIn,
    /// Memory to be reclaimed.
    Reclaim,
    /// Pages that were in memory a moment ago (version 9, Linux 4.20).
    Thrashing,
    /// Memory to be made contiguous (version 11, Linux 5.17).
    Compact,
    /// Copies of write-protected pages (version 13, Linux 6.0).
    WriteCopy,
    /// Interrupts that took its processor (version 14, Linux 6.5).
    Irq,
}

impl Delay {
    /// How many there are.
    pub const COUNT: usize = 8;
}

/// The accounting record of a thread, or of a process with all its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taskstats<'a> {
    /// The thread or process asked for.
    pub id: Option<u32>,
    /// Version of the structure.
    version: u16,
    /// The raw `struct taskstats`, at least 328 bytes.
    bytes: &'a [u8],
}

impl<'a> Taskstats<'a> {
    /// The raw `struct taskstats`.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Version of the structure; that of the thread's in the record of a process that exited, which says none itself.
    pub fn version(&self) -> Option<u16> {
        Some(self.version)
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
        let [_, block_io, ..] = self.layout().delays;
        u64_at(self.bytes, block_io)
    }

    /// All delays in nanoseconds, by [`Delay`]; 0 for those the version does not have.
    pub fn delays_ns(&self) -> [u64; Delay::COUNT] {
        self.layout().delays.map(|offset| u64_at(self.bytes, offset).unwrap_or(0))
    }

    /// Whether a thread that exited was the last of its process; `None` before version 12.
    pub fn is_last(&self) -> Option<bool> {
        let flag = *self.bytes.get(FLAG)?;
        (self.version >= PROCESS_VERSION).then_some(flag & FLAG_LAST != 0)
    }

    /// `ac_ppid`: the process that the thread's process is a child of.
    pub fn parent(&self) -> Option<u32> {
        u32_at(self.bytes, self.layout().ac_ppid)
    }

    /// How long the thread's process has lived, in microseconds: `ac_tgetime`, before version 12 the thread's own
    /// `ac_etime`.
    pub fn age_us(&self) -> Option<u64> {
        let layout = self.layout();
        let offset = if self.version >= PROCESS_VERSION { layout.ac_tgetime } else { layout.ac_etime };
        u64_at(self.bytes, offset)
    }

    fn layout(&self) -> Layout {
        if self.version == SHIFTED_VERSION { SHIFTED_LAYOUT } else { LAYOUT }
    }
}

/// What the kernel sends when a thread exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit<'a> {
    /// The thread.
    pub thread: Taskstats<'a>,
    /// Its process with all threads it ever had: comes with the last thread, unless that was the only one.
    pub process: Option<Taskstats<'a>>,
}

/// Writes a request for one thread; only this one gives the begin time.
pub fn request_pid(bytes: &mut Vec<u8>, family: u16, sequence: u32, pid: u32) {
    request(bytes, family, sequence, CMD_ATTR_PID, pid);
}

/// Writes a request for a process, exited threads included.
pub fn request_tgid(bytes: &mut Vec<u8>, family: u16, sequence: u32, tgid: u32) {
    request(bytes, family, sequence, CMD_ATTR_TGID, tgid);
}

/// Appends a request for a process behind those that are in `bytes` already.
pub fn append_tgid(bytes: &mut Vec<u8>, family: u16, sequence: u32, tgid: u32) {
    Request::append(bytes, family, 0, sequence)
        .raw(&generic::header(CMD_GET, GENL_VERSION))
        .attribute(CMD_ATTR_TGID, &tgid.to_ne_bytes())
        .finish();
}

/// Writes a request to be sent a record whenever a thread exits on one of the processors in `cpus` (`0-3,6`); it is
/// acknowledged.
pub fn request_exits(bytes: &mut Vec<u8>, family: u16, sequence: u32, cpus: &str) {
    let mut terminated = cpus.as_bytes().to_vec();
    terminated.push(0);
    Request::start(bytes, family, libc::NLM_F_ACK as u16, sequence)
        .raw(&generic::header(CMD_GET, GENL_VERSION))
        .attribute(CMD_ATTR_REGISTER_CPUMASK, &terminated)
        .finish();
}

fn request(bytes: &mut Vec<u8>, family: u16, sequence: u32, kind: u16, id: u32) {
    Request::start(bytes, family, 0, sequence)
        .raw(&generic::header(CMD_GET, GENL_VERSION))
        .attribute(kind, &id.to_ne_bytes())
        .finish();
}

/// Reads the answer; `None` for other messages and for a record that is too short.
pub fn parse<'a>(message: &Message<'a>, family: u16) -> Option<Taskstats<'a>> {
    records(message, family).next().and_then(|record| read(record, None))
}

/// Reads what is sent when a thread exits; `None` for other messages and for records that are too short.
pub fn parse_exit<'a>(message: &Message<'a>, family: u16) -> Option<Exit<'a>> {
    let mut records = records(message, family);
    let thread = records.next().filter(|record| record.kind == TYPE_AGGR_PID)?;
    let thread = read(thread, None)?;
    let process = records.next().filter(|record| record.kind == TYPE_AGGR_TGID);
    // The kernel copies sums only: the version in it is 0.
    let process = process.and_then(|record| read(record, Some(thread.version)));
    Some(Exit { thread, process })
}

fn records<'a>(message: &Message<'a>, family: u16) -> impl Iterator<Item = Attribute<'a>> {
    let is_record = message.kind == family && generic::command(message) == Some(CMD_NEW);
    is_record
        .then(|| generic::attributes(message))
        .into_iter()
        .flatten()
        .filter(|attribute| matches!(attribute.kind, TYPE_AGGR_PID | TYPE_AGGR_TGID))
}

fn read<'a>(record: Attribute<'a>, version: Option<u16>) -> Option<Taskstats<'a>> {
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
    let version = version.or_else(|| u16_at(bytes, VERSION))?;
    Some(Taskstats { id, version, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    const FAMILY_ID: u16 = 23;

    /// A record with the delays 111, 222, and so on.
    fn stats(version: u16, length: usize) -> Vec<u8> {
        let layout = if version == 15 { SHIFTED_LAYOUT } else { LAYOUT };
        let mut stats = vec![0; 688];
        stats[..2].copy_from_slice(&version.to_ne_bytes());
        for (number, offset) in (1u64..).zip(layout.delays) {
            stats[offset..][..8].copy_from_slice(&(111 * number).to_ne_bytes());
        }
        stats[layout.ac_ppid..][..4].copy_from_slice(&41u32.to_ne_bytes());
        stats[layout.ac_btime..][..4].copy_from_slice(&1_700_000_000u32.to_ne_bytes());
        stats[layout.ac_etime..][..8].copy_from_slice(&7_000u64.to_ne_bytes());
        stats[layout.ac_tgetime..][..8].copy_from_slice(&8_000u64.to_ne_bytes());
        stats.truncate(length);
        stats
    }

    fn record(kind: u16, stats: &[u8]) -> Vec<u8> {
        let mut nested = Vec::new();
        Request::start(&mut nested, 0, 0, 0)
            .attribute(if kind == TYPE_AGGR_TGID { TYPE_TGID } else { TYPE_PID }, &42u32.to_ne_bytes())
            .attribute(TYPE_STATS, stats)
            .finish();
        nested[16..].to_vec()
    }

    fn reply(kind: u16, version: u8, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        Request::start(&mut bytes, FAMILY_ID, 0, 1)
            .raw(&generic::header(CMD_NEW, GENL_VERSION))
            .attribute(6, b"") // TASKSTATS_TYPE_NULL, padding of some architectures
            .attribute(kind, &record(kind, &stats(version.into(), length)))
            .finish();
        bytes
    }

    fn exit(version: u16, length: usize, has_process: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut thread = stats(version, length);
        thread[FLAG] |= FLAG_LAST;
        let mut process = stats(version, length);
        process[..2].fill(0);
        process[CPU_DELAY_TOTAL..][..8].copy_from_slice(&999u64.to_ne_bytes());
        let message = Request::start(&mut bytes, FAMILY_ID, 0, 0)
            .raw(&generic::header(CMD_NEW, GENL_VERSION))
            .attribute(TYPE_AGGR_PID, &record(TYPE_AGGR_PID, &thread));
        match has_process {
            true => message.attribute(TYPE_AGGR_TGID, &record(TYPE_AGGR_TGID, &process)).finish(),
            false => message.finish(),
        }
        bytes
    }

    #[test]
    fn reads_records_of_all_versions() {
        for (kind, version, length) in [
            (TYPE_AGGR_TGID, 8, 328),
            (TYPE_AGGR_PID, 13, 416),
            (TYPE_AGGR_PID, 15, 560),
            (TYPE_AGGR_TGID, 16, 560),
            (TYPE_AGGR_TGID, 17, 688),
        ] {
            let bytes = reply(kind, version, length);
            let stats = parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID).unwrap();
            assert_eq!((stats.id, stats.version()), (Some(42), Some(version.into())));
            assert_eq!(stats.bytes().len(), length);
            assert_eq!(stats.cpu_delay_ns(), Some(111));
            assert_eq!(stats.block_io_delay_ns(), Some(222));
            assert_eq!(stats.begin_time_s(), Some(1_700_000_000));
            assert_eq!(stats.parent(), Some(41));
        }
    }

    #[test]
    fn delays_are_those_the_version_has() {
        let all = [111, 222, 333, 444, 555, 666, 777, 888];
        for (version, length, count) in
            [(8, 328, 4), (9, 344, 5), (10, 352, 5), (11, 368, 6), (13, 416, 7), (14, 432, 8), (15, 560, 8)]
        {
            let bytes = reply(TYPE_AGGR_TGID, version, length);
            let delays = parse(&message::parse(&bytes).next().unwrap(), FAMILY_ID).unwrap().delays_ns();
            assert_eq!(delays[..count], all[..count], "version {version}");
            assert!(delays[count..].iter().all(|&delay| delay == 0), "version {version}");
        }
    }

    #[test]
    fn reads_what_comes_at_an_exit() {
        for (version, length, is_last, age) in
            [(10, 352, None, 7_000), (14, 432, Some(true), 8_000), (15, 560, Some(true), 8_000)]
        {
            let bytes = exit(version, length, true);
            let both = parse_exit(&message::parse(&bytes).next().unwrap(), FAMILY_ID).unwrap();
            assert_eq!((both.thread.is_last(), both.thread.age_us()), (is_last, Some(age)));
            let process = both.process.unwrap();
            assert_eq!((both.thread.id, process.id), (Some(42), Some(42)));
            assert_eq!((both.thread.cpu_delay_ns(), process.cpu_delay_ns()), (Some(111), Some(999)));
            assert_eq!(process.block_io_delay_ns(), Some(222), "the version is the thread's");
            let bytes = exit(version, length, false);
            let alone = parse_exit(&message::parse(&bytes).next().unwrap(), FAMILY_ID).unwrap();
            assert_eq!((alone.thread.cpu_delay_ns(), alone.process), (Some(111), None));
        }
        let bytes = reply(TYPE_AGGR_TGID, 13, 416);
        assert_eq!(parse_exit(&message::parse(&bytes).next().unwrap(), FAMILY_ID), None);
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
        append_tgid(&mut bytes, FAMILY_ID, 6, 43);
        let sequences: Vec<u32> = message::parse(&bytes).map(|message| message.sequence).collect();
        assert_eq!(sequences, [5, 6]);
        request_exits(&mut bytes, FAMILY_ID, 7, "0-3");
        let message = message::parse(&bytes).next().unwrap();
        let cpus = generic::attributes(&message).next().unwrap();
        assert_eq!((cpus.kind, cpus.value), (CMD_ATTR_REGISTER_CPUMASK, &b"0-3\0"[..]));
        assert_ne!(message.flags & libc::NLM_F_ACK as u16, 0);
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
        fuzz::hammer(&exit(14, 432, true), |bytes| {
            for message in message::parse(bytes) {
                if let Some(exit) = parse_exit(&message, FAMILY_ID) {
                    assert_eq!(exit.thread.delays_ns()[0], exit.thread.cpu_delay_ns().unwrap());
                    let _ = (exit.thread.is_last(), exit.thread.age_us(), exit.thread.parent());
                }
            }
        });
    }
}
