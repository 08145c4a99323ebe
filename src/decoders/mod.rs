//! From the bytes of a BPF map's key to label text: one file per kind of decoder, one table of them.
//!
//! Names, inputs and outputs are ebpf_exporter's, so that its configs work; `container`, `pod`, `namespace`, `image` and
//! `unit` are ours. A [`Chain`] is what a label's list of decoders becomes. Nothing here panics whatever a key holds: what
//! cannot be decoded is an error for that key alone.

#![forbid(unsafe_code)]

mod cache;
mod cgroup;
mod chain;
mod container;
mod dname;
mod errno;
mod hex;
mod ifname;
mod inet_ip;
mod input;
mod kstack;
mod ksym;
mod majorminor;
mod names;
mod pci;
mod pci_ids;
mod regexp;
mod static_map;
mod string;
mod symbols;
mod syscall;
mod syscall_names;
#[cfg(test)]
pub(crate) mod test;
mod uint;
mod unit;
mod words;

use crate::containers::Containers;
use crate::host::Host;
use crate::programs::config;
use crate::programs::config::Mark;
use crate::sys::clock::MonotonicNs;

pub use chain::{Chain, Outcome};
pub use symbols::kernel_addresses;

/// Every decoder, by name.
pub const DECODERS: &[&Spec] = &[
    &cgroup::SPEC,
    &container::CONTAINER,
    &dname::SPEC,
    &errno::SPEC,
    &hex::SPEC,
    &ifname::SPEC,
    &container::IMAGE,
    &inet_ip::SPEC,
    &kstack::SPEC,
    &ksym::SPEC,
    &majorminor::SPEC,
    &container::NAMESPACE,
    &pci::CLASS,
    &pci::DEVICE,
    &pci::SUBCLASS,
    &pci::VENDOR,
    &container::POD,
    &regexp::SPEC,
    &static_map::SPEC,
    &string::SPEC,
    &syscall::SPEC,
    &uint::SPEC,
    &unit::SPEC,
];

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
    /// What is remembered of its answers.
    pub keeps: Keeps,
    /// What must be switched on for it.
    pub asks: Asks,
    /// Makes one from its YAML.
    pub build: fn(&config::Decoder, Options) -> Built,
}

/// One decoder, ready to decode.
pub trait Decoder {
    /// Appends to `out` what `input` stands for.
    ///
    /// # Errors
    /// What is wrong with the input. It costs this key only, and is counted.
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String>;

    /// What is strange about its YAML although it works.
    fn doubts(&self) -> Vec<(Mark, String)> {
        Vec::new()
    }
}

/// What became of a decoder's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The text is in `out`, and the same input will always give the same.
    Text,
    /// The text is in `out`, and may be another one next time.
    TextForNow,
    /// The text is in `out`, and says that nothing is known, at least not any more.
    Unknown,
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
    /// Text, which the bytes of a key rarely are.
    Text,
}

/// What a decoder gives, for the same purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// A decimal number as text.
    Decimal,
    /// Text that is no decimal number.
    Text,
    /// Text that may be a decimal number.
    Any,
}

/// What is remembered of a decoder's answers, for as long as the map has the keys they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: asking is cheap.
    Nothing,
    /// All of them: asking is costly.
    Answers,
    /// The same, until the kernel's symbols change.
    AnswersFromSymbols,
    /// The last one that was not [`Answer::Unknown`]. What a key counts for must not change when the thing it names is gone:
    /// its count would leave one sum of labels and appear in another.
    LastKnown,
}

/// What must be known of cgroups for a decoder to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nothing.
    Nothing,
    /// Containers: the collector of that name.
    Containers,
    /// The path of every cgroup: [`Containers::want_paths`].
    Paths,
}

/// What making a decoder gave.
pub type Built = Result<Box<dyn Decoder>, BuildError>;

/// What is wrong with a decoder's YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// Where, if it is not the decoder as such.
    pub mark: Option<Mark>,
    /// What.
    pub message: String,
}

/// Choices that are the same for all configs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `--syscall-names=kernel` instead of strace's names.
    pub kernel_syscall_names: bool,
}

/// What decoders may ask. Decoding happens in a collector's `refresh`, so looking something up in /proc is fine; waiting is not.
pub struct Names<'a> {
    /// Where files are.
    pub host: &'a Host,
    /// Containers, and paths of cgroups.
    pub containers: &'a Containers,
    /// Now, as of the start of the refresh.
    pub now_ns: MonotonicNs,
    /// What was read before; one for all chains.
    pub tables: &'a mut Tables,
}

/// Lookup tables, read when first asked for and kept between refreshes.
#[derive(Debug, Default)]
pub struct Tables {
    interfaces: ifname::Interfaces,
    partitions: majorminor::Partitions,
    symbols: symbols::KernelSymbols,
    pci: pci_ids::PciIds,
}

/// Makes a decoder that has no settings.
fn plain<D: Decoder + Default + 'static>(_: &config::Decoder, _: Options) -> Built {
    Ok(Box::new(D::default()))
}

/// The table of decoders as Markdown, for the documentation of configs.
pub fn document() -> String {
    use std::fmt::Write;

    let mut text = String::from("| decoder | takes | gives | from what to what |\n|---|---|---|---|\n");
    for spec in DECODERS {
        let takes = match spec.takes {
            Takes::Sizes(sizes) => format!("{} bytes", chain::alternatives(sizes)),
            Takes::AtLeast(size) => format!("{size} bytes"),
            Takes::Multiple(size) => format!("a multiple of {size} bytes"),
            Takes::Any => "bytes or text".to_owned(),
            Takes::Decimal => "a decimal number".to_owned(),
            Takes::Text => "text".to_owned(),
        };
        let gives = match spec.gives {
            Gives::Decimal => "a decimal number",
            Gives::Text | Gives::Any => "text",
        };
        let _ = writeln!(text, "| `{}` | {takes} | {gives} | {} |", spec.name, spec.about);
    }
    text
}
