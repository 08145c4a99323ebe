//! From the bytes of a BPF map's key to label text: one file per kind of decoder, one table of them.

use crate::containers::Containers;
use crate::host::Host;
use crate::programs::config;
use crate::sys::clock::MonotonicNs;

/// What became of a piece of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The text is in `out`.
    Text,
    /// The whole key is left out, silently: only `regexp` says so.
    Skip,
}

/// What a decoder reads, for checking chains before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// The bytes of the key, of one of these sizes.
    Sizes(&'static [usize]),
    /// The bytes of the key, at least so many; further ones are ignored.
    AtLeast(usize),
    /// The bytes of the key, a multiple of this many.
    Multiple(usize),
    /// Any bytes, or text.
    Any,
    /// A decimal number as text, which `uint` gives.
    Decimal,
    /// Text.
    Text,
}

/// What a decoder gives, for the same purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// A decimal number as text.
    Decimal,
    /// Other text.
    Text,
}

/// What decoders may ask. Decoding happens in a collector's `refresh`, so looking something up in /proc is fine; waiting is not.
pub struct Names<'a> {
    /// Where files are.
    pub host: &'a Host,
    /// Containers, and paths of cgroups.
    pub containers: &'a Containers,
    /// Now.
    pub now_ns: MonotonicNs,
    /// What was read before.
    pub tables: &'a mut Tables,
}

/// Lookup tables, read when first asked for and kept between refreshes.
#[derive(Debug, Default)]
pub struct Tables {
    // interfaces, disks, symbols, pci ids ...
}

/// Choices that are the same for all configs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `--syscall-names=kernel` instead of strace's names.
    pub kernel_syscall_names: bool,
}

/// One decoder, ready to decode.
pub trait Decoder {
    /// Appends to `out` what `input` stands for. An error costs this key only, is counted, and says what was wrong.
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Outcome, String>;
}

/// What making a decoder gave; an error says what is wrong with its YAML.
pub type Built = Result<Box<dyn Decoder>, String>;

/// A decoder's row in the table.
pub struct Spec {
    /// Its name in YAML.
    pub name: &'static str,
    /// One line for the docs: from what to what.
    pub about: &'static str,
    /// What it reads.
    pub takes: Takes,
    /// What it gives.
    pub gives: Gives,
    /// Worth remembering results for.
    pub costly: bool,
    /// Makes one from its YAML.
    pub build: fn(&config::Decoder, Options) -> Built,
}
