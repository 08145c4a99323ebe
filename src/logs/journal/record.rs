//! One entry with those of its fields that were asked for.

use super::format::{EntryHead, Id};

/// A field that collectors of logs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// The text.
    Message,
    /// syslog's priority, a digit from 0 to 7.
    Priority,
    /// The unit of systemd the writer belongs to.
    SystemdUnit,
    /// The unit of the user's systemd.
    SystemdUserUnit,
    /// The writer's cgroup.
    SystemdCgroup,
    /// Of docker's and podman's journald drivers: the container's id.
    ContainerIdFull,
    /// Of these: the container's name.
    ContainerName,
    /// Of docker's: `true` when the line goes on in the next entry.
    ContainerPartialMessage,
    /// What the writer calls itself.
    SyslogIdentifier,
    /// How it came: `stdout`, `syslog`, `journal`, `kernel`, `audit`, `driver`.
    Transport,
    /// The writer's process.
    Pid,
    /// The writer's user.
    Uid,
}

/// All fields with their names in the journal, by `Field as usize`.
const FIELDS: [(Field, &[u8]); 12] = [
    (Field::Message, b"MESSAGE"),
    (Field::Priority, b"PRIORITY"),
    (Field::SystemdUnit, b"_SYSTEMD_UNIT"),
    (Field::SystemdUserUnit, b"_SYSTEMD_USER_UNIT"),
    (Field::SystemdCgroup, b"_SYSTEMD_CGROUP"),
    (Field::ContainerIdFull, b"CONTAINER_ID_FULL"),
    (Field::ContainerName, b"CONTAINER_NAME"),
    (Field::ContainerPartialMessage, b"CONTAINER_PARTIAL_MESSAGE"),
    (Field::SyslogIdentifier, b"SYSLOG_IDENTIFIER"),
    (Field::Transport, b"_TRANSPORT"),
    (Field::Pid, b"_PID"),
    (Field::Uid, b"_UID"),
];

/// Bytes of the longest name in [`FIELDS`].
pub(super) const LONGEST_NAME: usize = 25;

impl Field {
    /// The field that is called `name`.
    pub fn named(name: &[u8]) -> Option<Field> {
        FIELDS.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }
}

/// Which fields are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those that [`Field`] names.
    Named,
    /// All, in the entry's order.
    All,
}

/// A part of [`Record::bytes`]: `NAME=value`.
#[derive(Debug, Clone, Copy)]
struct Part {
    field: Option<Field>,
    start: usize,
    equals: usize,
    end: usize,
}

/// An entry. It is overwritten by the next one.
#[derive(Debug, Default)]
pub struct Record {
    pub(super) head: EntryHead,
    pub(super) seqnum_id: Id,
    /// Where in the file the entry ends, and where the slot that refers to it.
    pub(super) ends: (u64, u64),
    bytes: Vec<u8>,
    parts: Vec<Part>,
    pub(super) cut: u32,
    pub(super) damaged: u32,
}

/// Room that is kept from entry to entry.
const KEPT_BYTES: usize = 64 * 1024;

impl Record {
    /// Number and times.
    pub fn head(&self) -> &EntryHead {
        &self.head
    }

    /// The numbering that `head().seqnum` belongs to.
    pub fn seqnum_id(&self) -> &Id {
        &self.seqnum_id
    }

    /// Value of a field; of the first one, if the entry has several.
    pub fn field(&self, field: Field) -> Option<&[u8]> {
        let part = self.parts.iter().find(|part| part.field == Some(field))?;
        self.bytes.get(part.equals + 1..part.end)
    }

    /// Names and values in the order of the entry.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parts.iter().filter_map(|part| {
            Some((self.bytes.get(part.start..part.equals)?, self.bytes.get(part.equals + 1..part.end)?))
        })
    }

    /// Fields that are shorter here than in the journal, or left out, because they are too long.
    pub fn cut(&self) -> u32 {
        self.cut
    }

    /// Fields that could not be read.
    pub fn damaged(&self) -> u32 {
        self.damaged
    }

    /// Where in the file the object of the entry ends, and where the slot that refers to it: what lies beyond both has no part in
    /// the entry.
    pub fn ends(&self) -> (u64, u64) {
        self.ends
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.parts.clear();
        (self.cut, self.damaged) = (0, 0);
    }

    /// Bytes of all fields so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds `NAME=value`, if it is that.
    pub(super) fn push(&mut self, field: Option<Field>, payload: &[u8]) {
        let Some(equals) = memchr::memchr(b'=', payload) else {
            self.damaged += 1;
            return;
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.parts.push(Part { field, start, equals: start + equals, end: self.bytes.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (at, (field, name)) in FIELDS.iter().enumerate() {
            assert_eq!(*field as usize, at);
            assert_eq!(Field::named(name), Some(*field));
        }
        assert_eq!(FIELDS.iter().map(|(_, name)| name.len()).max(), Some(LONGEST_NAME));
        assert_eq!(Field::named(b"MESSAG"), None);
    }

    #[test]
    fn the_first_of_several_counts() {
        let mut record = Record::default();
        record.push(Field::named(b"MESSAGE"), b"MESSAGE=a=b");
        record.push(Field::named(b"MESSAGE"), b"MESSAGE=c");
        record.push(None, b"no equals sign");
        record.push(None, b"X=");
        assert_eq!(record.field(Field::Message), Some(&b"a=b"[..]));
        assert_eq!(record.field(Field::Pid), None);
        let all: Vec<_> = record.fields().collect();
        assert_eq!(all, [(&b"MESSAGE"[..], &b"a=b"[..]), (b"MESSAGE", b"c"), (b"X", b"")]);
        assert_eq!(record.damaged(), 1);
    }
}
