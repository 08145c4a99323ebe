//! See `src/object.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::object::run);
nodeprobe_fuzz::mutator!(nodeprobe_fuzz::elf::spoil);
