//! Logs of containers: from files and journals to records, from bytes of a record to a line, from lines to messages, and
//! messages counted by level and pattern.
//!
//! [`tail`] and [`journal`] read; all else is pure: whoever reads hands bytes and the time in.

pub mod command;
pub mod formats;
pub mod journal;
pub mod level;
pub mod message;
pub mod multiline;
pub mod pattern;
pub mod pipeline;
pub mod tail;
