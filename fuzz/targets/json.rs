//! See `src/json.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::json::run);
