//! See `src/yaml.rs`.

#![no_main]

nodeprobe_fuzz::target!(nodeprobe_fuzz::yaml::run);
