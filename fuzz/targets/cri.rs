//! See `src/logs.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::logs::cri);
