//! See `src/decoders.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::decoders::run);
