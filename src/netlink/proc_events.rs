//! The process events connector: what processes do, told as they do it (uapi headers linux/connector.h and linux/cn_proc.h).
//!
//! Kernel document: Documentation/driver-api/connector.rst. A message is a `cn_msg` with a `proc_event` in it; numbers of
//! processes and threads are those of the initial PID namespace.

use super::attribute::{u16_at, u32_at, u64_at};
use super::message::Message;
use super::request::Request;

/// `CN_IDX_PROC`: the multicast group, and the index in the ids of its messages.
pub const GROUP: u32 = 1;
/// `CN_VAL_PROC`.
const VALUE: u32 = 1;

/// Length of `struct cn_msg`.
const HEADER: usize = 20;
/// Where the union of `struct proc_event` begins, behind `what`, `cpu` and `timestamp_ns`.
const DATA: usize = HEADER + 16;

/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`.
const IGNORE: u32 = 2;

// libc does not have these: `enum proc_cn_event`.
const NONE: u32 = 0;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A thread was made; it is the first of a process if its numbers are the same.
    Fork {
        /// The process it is a child of: with `CLONE_PARENT` not the one that called clone(2).
        parent_tgid: u32,
        /// The thread.
        child_pid: u32,
        /// Its process.
        child_tgid: u32,
    },
    /// A process executes another program.
    Exec {
        /// Its only thread by now.
        pid: u32,
        /// The process.
        tgid: u32,
    },
    /// A thread has ended.
    Exit {
        /// The thread.
        pid: u32,
        /// Its process.
        tgid: u32,
    },
    /// The answer to a request, sent to everybody who listens.
    Answer {
        /// The number in the request, and one.
        number: u32,
        /// 0 when it succeeded.
        errno: i32,
    },
}

/// An event, and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// On the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// What.
    pub event: Event,
}

/// Writes the request to be told; it is answered.
pub fn request_events(bytes: &mut Vec<u8>, number: u32) {
    request(bytes, number, LISTEN);
}

/// Writes the request not to be told any more.
pub fn request_silence(bytes: &mut Vec<u8>, number: u32) {
    request(bytes, number, IGNORE);
}

fn request(bytes: &mut Vec<u8>, number: u32, operation: u32) {
    let mut body = Vec::with_capacity(HEADER.saturating_add(4));
    // The number is in `ack`: in `seq` the kernel puts a count of its own.
    for field in [GROUP, VALUE, 0, number] {
        body.extend_from_slice(&field.to_ne_bytes());
    }
    for field in [4u16, 0] {
        body.extend_from_slice(&field.to_ne_bytes());
    }
    body.extend_from_slice(&operation.to_ne_bytes());
    Request::start(bytes, libc::NLMSG_DONE as u16, 0, 0).raw(&body).finish();
}

/// Reads an event; `None` for other messages, those that are too short, and kinds that are of no interest.
pub fn parse(message: &Message<'_>) -> Option<Told> {
    let length = HEADER.checked_add(usize::from(u16_at(message.payload, 16)?))?;
    let body = message.payload.get(..length)?;
    if (u32_at(body, 0)?, u32_at(body, 4)?) != (GROUP, VALUE) {
        return None;
    }
    let number = |index: usize| u32_at(body, index.checked_mul(4)?.checked_add(DATA)?);
    let event = match u32_at(body, HEADER)? {
        FORK => Event::Fork { parent_tgid: number(1)?, child_pid: number(2)?, child_tgid: number(3)? },
        EXEC => Event::Exec { pid: number(0)?, tgid: number(1)? },
        EXIT => Event::Exit { pid: number(0)?, tgid: number(1)? },
        NONE => Event::Answer {
            number: u32_at(body, 12)?,
            errno: i32::try_from(number(0)?).unwrap_or(libc::EINVAL),
        },
        _ => return None,
    };
    Some(Told { at_ns: u64_at(body, DATA.checked_sub(8)?)?, event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    /// What Linux 6.18 sends.
    fn sample(what: u32, numbers: &[u32]) -> Vec<u8> {
        let mut body = Vec::new();
        for number in [GROUP, VALUE, 1234, 7] {
            body.extend(number.to_ne_bytes());
        }
        body.extend(40u16.to_ne_bytes());
        body.extend([0; 2]);
        body.extend(what.to_ne_bytes());
        body.extend(2u32.to_ne_bytes());
        body.extend(123_456_789_012u64.to_ne_bytes());
        for index in 0..6 {
            body.extend(numbers.get(index).copied().unwrap_or(0).to_ne_bytes());
        }
        let mut bytes = Vec::new();
        Request::start(&mut bytes, libc::NLMSG_DONE as u16, 0, 7).raw(&body).finish();
        bytes
    }

    fn told(bytes: &[u8]) -> Option<Told> {
        parse(&message::parse(bytes).next()?)
    }

    #[test]
    fn reads_what_happened() {
        let event = |what, numbers: &[u32]| told(&sample(what, numbers)).map(|told| told.event);
        let fork = Event::Fork { parent_tgid: 2, child_pid: 3, child_tgid: 4 };
        assert_eq!(event(FORK, &[1, 2, 3, 4]), Some(fork));
        assert_eq!(event(EXEC, &[5, 6]), Some(Event::Exec { pid: 5, tgid: 6 }));
        assert_eq!(event(EXIT, &[7, 8, 0, 17]), Some(Event::Exit { pid: 7, tgid: 8 }));
        assert_eq!(event(NONE, &[1]), Some(Event::Answer { number: 7, errno: 1 }));
        assert_eq!(event(4, &[1, 2, 3, 4]), None, "PROC_EVENT_UID");
        assert_eq!(told(&sample(EXEC, &[])).unwrap().at_ns, 123_456_789_012);
    }

    #[test]
    fn requests_are_what_the_kernel_takes() {
        let mut bytes = Vec::new();
        for (write, operation) in [(request_events as fn(&mut Vec<u8>, u32), 1u32), (request_silence, 2)] {
            write(&mut bytes, 9);
            assert_eq!(bytes.len(), 40);
            assert_eq!(bytes[16..36], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0]);
            assert_eq!(bytes[36..], operation.to_ne_bytes());
        }
    }

    #[test]
    fn short_and_foreign_messages_are_none() {
        let whole = sample(EXIT, &[7, 8]);
        let body = message::parse(&whole).next().unwrap().payload.to_vec();
        for length in (0..body.len()).step_by(4) {
            let mut bytes = Vec::new();
            Request::start(&mut bytes, libc::NLMSG_DONE as u16, 0, 7).raw(&body[..length]).finish();
            assert_eq!(told(&bytes), None, "{length}");
        }
        let mut foreign = whole;
        foreign[16] = 3;
        assert_eq!(told(&foreign), None);
    }

    #[test]
    fn survives_any_bytes() {
        for what in [NONE, FORK, EXEC, EXIT] {
            fuzz::hammer(&sample(what, &[1, 2, 3, 4]), |bytes| {
                for message in message::parse(bytes) {
                    let _ = parse(&message);
                }
            });
        }
    }
}
