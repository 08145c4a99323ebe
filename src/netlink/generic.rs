//! Generic netlink: its header, and finding the number of a family by its name (uapi header
//! linux/genetlink.h).
//!
//! Kernel document: Documentation/userspace-api/netlink/intro.rst, "Generic Netlink".

use super::attribute::{Attributes, text, u16_at, u32_at};
use super::message::Message;
use super::request::Request;

/// Length of `struct genlmsghdr`: command, version, two reserved bytes.
pub const HEADER: usize = 4;
/// Longest name of a family, its NUL included.
const MAX_NAME: usize = libc::GENL_NAMSIZ as usize;
const CONTROLLER: u16 = libc::GENL_ID_CTRL as u16;
const CONTROLLER_VERSION: u8 = 2;
const GET_FAMILY: u8 = libc::CTRL_CMD_GETFAMILY as u8;
const NEW_FAMILY: u8 = libc::CTRL_CMD_NEWFAMILY as u8;
const FAMILY_ID: u16 = libc::CTRL_ATTR_FAMILY_ID as u16;
const FAMILY_NAME: u16 = libc::CTRL_ATTR_FAMILY_NAME as u16;
const FAMILY_VERSION: u16 = libc::CTRL_ATTR_VERSION as u16;

/// A generic netlink family of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family<'a> {
    /// Its number, the kind of its messages.
    pub id: u16,
    /// Its version.
    pub version: Option<u32>,
    /// Its name.
    pub name: Option<&'a str>,
}

/// Writes a request for the number of the family `name`.
///
/// A name longer than the kernel's limit is sent cut and so finds nothing.
pub fn request_family(bytes: &mut Vec<u8>, sequence: u32, name: &str) {
    let mut terminated = [0; MAX_NAME];
    let room = terminated.iter_mut().take(MAX_NAME.saturating_sub(1));
    for (slot, byte) in room.zip(name.bytes()) {
        *slot = byte;
    }
    let length = name.len().saturating_add(1).min(MAX_NAME);
    Request::start(bytes, CONTROLLER, 0, sequence)
        .raw(&header(GET_FAMILY, CONTROLLER_VERSION))
        .attribute(FAMILY_NAME, terminated.get(..length).unwrap_or_default())
        .finish();
}

/// Reads the answer; `None` for other messages and for one without a number.
pub fn parse<'a>(message: &Message<'a>) -> Option<Family<'a>> {
    if message.kind != CONTROLLER || command(message) != Some(NEW_FAMILY) {
        return None;
    }
    let mut id = None;
    let mut version = None;
    let mut name = None;
    for attribute in attributes(message) {
        match attribute.kind {
            FAMILY_ID => id = u16_at(attribute.value, 0),
            FAMILY_VERSION => version = u32_at(attribute.value, 0),
            FAMILY_NAME => name = text(attribute.value),
            _ => {}
        }
    }
    Some(Family { id: id?, version, name })
}

/// A `genlmsghdr`.
pub fn header(command: u8, version: u8) -> [u8; HEADER] {
    [command, version, 0, 0]
}

/// The command of a generic netlink message.
pub fn command(message: &Message<'_>) -> Option<u8> {
    let header = message.payload.first_chunk::<HEADER>()?;
    header.first().copied()
}

/// The attributes of a generic netlink message.
pub fn attributes<'a>(message: &Message<'a>) -> Attributes<'a> {
    message.attributes(HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message;
    use crate::procfs::fuzz;

    fn reply(command: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        Request::start(&mut bytes, CONTROLLER, 0, 1)
            .raw(&header(command, 2))
            .attribute(FAMILY_NAME, b"TASKSTATS\0")
            .attribute(FAMILY_ID, &23u16.to_ne_bytes())
            .attribute(FAMILY_VERSION, &1u32.to_ne_bytes())
            .finish();
        bytes
    }

    #[test]
    fn reads_a_family() {
        let bytes = reply(NEW_FAMILY);
        let family = parse(&message::parse(&bytes).next().unwrap()).unwrap();
        assert_eq!((family.id, family.version, family.name), (23, Some(1), Some("TASKSTATS")));
    }

    #[test]
    fn other_messages_are_none() {
        let bytes = reply(GET_FAMILY);
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!(parse(&message), None);
        let of = |kind, payload| Message { kind, payload, ..message };
        assert_eq!(parse(&of(CONTROLLER, &[])), None);
        assert_eq!(parse(&of(CONTROLLER, &[NEW_FAMILY, 2, 0, 0])), None);
        assert_eq!(parse(&of(99, &[NEW_FAMILY, 2, 0, 0])), None);
    }

    #[test]
    fn requests() {
        let mut bytes = Vec::new();
        request_family(&mut bytes, 4, "TASKSTATS");
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!((message.kind, command(&message)), (CONTROLLER, Some(GET_FAMILY)));
        let name = attributes(&message).next().unwrap();
        assert_eq!((name.kind, name.value), (FAMILY_NAME, &b"TASKSTATS\0"[..]));
        request_family(&mut bytes, 4, "a name that is too long");
        let message = message::parse(&bytes).next().unwrap();
        assert_eq!(attributes(&message).next().unwrap().value, b"a name that is \0");
    }

    #[test]
    fn survives_any_bytes() {
        fuzz::hammer(&reply(NEW_FAMILY), |bytes| {
            for message in message::parse(bytes) {
                let _ = parse(&message);
            }
        });
    }
}
