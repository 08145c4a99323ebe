//! See `src/journal.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::journal::run);
