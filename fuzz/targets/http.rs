//! See `src/http.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::http::run);
