//! systemd's journal, read as the files it is: no libsystemd, no journalctl, no socket.
//!
//! The format is documented by systemd (`JOURNAL_FILE_FORMAT`; `src/libsystemd/sd-journal/journal-def.h` has the last word).
//! One writer appends objects and links them afterwards; readers need no lock, but must believe nothing. Files are read with
//! pread(2): a mapped file that journald vacuums or truncates would kill the reader with SIGBUS.
//!
//! ```text
//! directory.rs  which files there are; what was read of each -> file.rs  entry after entry of one file, resumable
//!                                                            -> cache.rs  pages, and small DATA objects that repeat
//!                                                            -> format.rs bytes to values; payload.rs decompression,
//!                                                               by decoders of our own in lz4.rs, zstd.rs and xz.rs
//! ```

#![forbid(unsafe_code)]

pub mod cache;
pub mod directory;
pub mod export;
pub mod file;
pub mod format;
pub mod lz4;
pub mod payload;
pub mod record;
pub mod xz;
pub mod zstd;
