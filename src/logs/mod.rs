//! Understanding logs: bytes of a record become a line, lines become messages, and messages are counted by level and
//! pattern. All of it is pure: whoever reads files or sockets hands bytes and the time in.

pub mod command;
pub mod formats;
pub mod level;
pub mod message;
pub mod multiline;
pub mod pattern;
pub mod pipeline;
