//! See `src/cloud.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::cloud::run);
