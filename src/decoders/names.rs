//! Names of kernel symbols in little memory: a name is a list of numbers of words, since symbols share most of theirs.
//!
//! `nf_conntrack_init` is the words `nf_`, `conntrack_`, `init`. Each number takes one to three bytes, and words that came first,
//! which are common ones, the fewest. What `objtool` calls the padding of a function, `__pfx_NAME` right in front of it, is one
//! byte. Beside 120,000 names of 3 MB that makes 0.7 MB.

use crate::sys::text::append;
use std::hash::Hasher;

/// Ends a name; no number has a byte of zero.
const END: u8 = 0;
/// `__pfx_` and the name that follows in the order of addresses.
const PADDING_OF_NEXT: u8 = 1;
/// `__pfx_` and the rest of this name.
const PADDING: u8 = 2;
const PADDING_TEXT: &[u8] = b"__pfx_";
/// The number of the first word.
const FIRST: u32 = 3;
/// Names between two that are found without going through others.
const STRIDE: usize = 16;

/// Names by their place in a list.
#[derive(Debug, Default)]
pub struct SymbolNames {
    words: Words,
    /// All names, each with its [`END`].
    codes: Vec<u8>,
    /// Where every [`STRIDE`]th name begins.
    starts: Vec<u32>,
    count: usize,
}

impl SymbolNames {
    /// Appends the text of the name at `index`.
    pub fn write(&self, index: usize, out: &mut Vec<u8>) {
        let Some(start) = self.starts.get(index / STRIDE) else { return };
        let mut codes = self.codes.get(*start as usize..).unwrap_or_default();
        for _ in 0..index % STRIDE {
            codes = behind(codes);
        }
        // Paddings of paddings end with the list at the latest.
        while codes.first() == Some(&PADDING_OF_NEXT) {
            append(out, PADDING_TEXT);
            codes = behind(codes);
        }
        while let Some((&code, rest)) = codes.split_first()
            && code != END
        {
            if code == PADDING {
                append(out, PADDING_TEXT);
                codes = rest;
                continue;
            }
            let (mut number, mut shift) = (0u32, 0);
            while let Some((&byte, rest)) = codes.split_first() {
                codes = rest;
                number |= u32::from(byte & 0x7f) << shift;
                shift = (shift + 7).min(28);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            append(out, self.words.get(number.wrapping_sub(FIRST)));
        }
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.words.text.capacity()
            + 4 * self.words.ends.capacity()
            + self.codes.capacity()
            + 4 * self.starts.capacity()
    }

    fn push(&mut self, codes: &[u8]) {
        if self.count.is_multiple_of(STRIDE) {
            self.starts.push(self.codes.len() as u32);
        }
        self.codes.extend_from_slice(codes);
        self.codes.push(END);
        self.count += 1;
    }
}

/// What follows the first name.
fn behind(codes: &[u8]) -> &[u8] {
    memchr::memchr(END, codes).and_then(|end| codes.get(end + 1..)).unwrap_or_default()
}

/// Different words, one after the other.
#[derive(Debug, Default)]
struct Words {
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

impl Words {
    fn get(&self, number: u32) -> &[u8] {
        let at = number as usize;
        let Some(&end) = self.ends.get(at) else { return &[] };
        let start =
            at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |start| *start as usize);
        self.text.get(start..end as usize).unwrap_or_default()
    }
}

/// Collects names in any order, to be put in that of their addresses.
pub struct Collector {
    words: Words,
    /// A hash table of numbers of words, plus one; half of it is empty at least.
    slots: Vec<u32>,
    codes: Vec<u8>,
}

impl Collector {
    /// Nothing yet.
    pub fn new() -> Collector {
        Collector { words: Words::default(), slots: vec![0; 1 << 15], codes: Vec::with_capacity(1 << 20) }
    }

    /// Takes a name in; gives the handle [`Collector::finish`] wants.
    pub fn add(&mut self, name: &[u8]) -> u32 {
        let start = self.codes.len() as u32;
        let mut rest = name;
        if let Some(of) = name.strip_prefix(PADDING_TEXT) {
            self.codes.push(PADDING);
            rest = of;
        }
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(word_length(rest));
            rest = behind;
            let mut number = self.number(word) + FIRST;
            while number >= 0x80 {
                self.codes.push(number as u8 | 0x80);
                number >>= 7;
            }
            self.codes.push(number as u8);
        }
        self.codes.push(END);
        start
    }

    /// The names of these handles, in this order.
    pub fn finish(self, handles: impl Iterator<Item = u32>) -> SymbolNames {
        let mut names = SymbolNames { words: self.words, ..SymbolNames::default() };
        names.codes.reserve(self.codes.len());
        let one = |handle: u32| {
            let codes = self.codes.get(handle as usize..).unwrap_or_default();
            &codes[..memchr::memchr(END, codes).unwrap_or_default()]
        };
        let mut handles = handles.map(one).peekable();
        while let Some(name) = handles.next() {
            match (name, handles.peek()) {
                ([PADDING, of @ ..], Some(next)) if of == *next => names.push(&[PADDING_OF_NEXT]),
                _ => names.push(name),
            }
        }
        names.words.text.shrink_to_fit();
        names.words.ends.shrink_to_fit();
        names.codes.shrink_to_fit();
        names.starts.shrink_to_fit();
        names
    }

    /// The number of a word, perhaps a new one.
    fn number(&mut self, word: &[u8]) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash(word) as usize & mask;
        while self.slots[at] != 0 {
            let number = self.slots[at] - 1;
            if self.words.get(number) == word {
                return number;
            }
            at = (at + 1) & mask;
        }
        let number = self.words.ends.len() as u32;
        self.words.text.extend_from_slice(word);
        self.words.ends.push(self.words.text.len() as u32);
        self.slots[at] = number + 1;
        if self.words.ends.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for number in 0..self.words.ends.len() as u32 {
            let mut at = hash(self.words.get(number)) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = number + 1;
        }
        self.slots = slots;
    }
}

/// A word ends behind underscores or dots; what is behind a tab, the module, is one.
fn word_length(name: &[u8]) -> usize {
    if name.first() == Some(&b'\t') {
        return name.len();
    }
    let is_separator = |byte: &u8| matches!(byte, b'_' | b'.');
    let Some(end) = name.iter().position(|byte| is_separator(byte) || *byte == b'\t') else {
        return name.len();
    };
    end + name[end..].iter().take_while(|byte| is_separator(byte)).count()
}

/// FNV-1a: the words are short, and nobody chooses them to collide.
fn hash(word: &[u8]) -> u64 {
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            // The low bits of a product know little of the high ones.
            self.0 ^ self.0 >> 32
        }
        fn write(&mut self, bytes: &[u8]) {
            bytes.iter().for_each(|byte| self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(word);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(names: &[String]) {
        let mut collector = Collector::new();
        let handles: Vec<u32> = names.iter().map(|name| collector.add(name.as_bytes())).collect();
        let kept = collector.finish(handles.into_iter());
        for (index, name) in names.iter().enumerate() {
            let mut out = Vec::new();
            kept.write(index, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), *name, "{index}");
        }
        let mut out = Vec::new();
        kept.write(names.len(), &mut out);
        kept.write(usize::MAX, &mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn names_come_out_as_they_went_in() {
        let names = [
            "_text",
            "__pfx_nf_conntrack_init",
            "nf_conntrack_init",
            "__pfx___pfx_a",
            "__pfx_a",
            "a",
            "__pfx_",
            "__pfx_b",
            "c",
            "foo.isra.0",
            "foo.cold",
            "commit_timeout\t[jbd2]",
            "__pfx_commit_timeout\t[nf_nat]",
            "commit_timeout\t[nf_nat]",
            "a__b__",
            "_",
            ".",
            "x\t",
            "caf\u{e9}_",
            "__pfx_last",
        ];
        round_trip(&names.map(str::to_owned));
    }

    #[test]
    fn many_words() {
        let mut names: Vec<String> =
            (0..40_000).map(|number| format!("word{number}_common_{}", number / 7)).collect();
        names.push("word39999_".to_owned());
        round_trip(&names);
    }

    #[test]
    fn padding_takes_two_bytes() {
        let mut collector = Collector::new();
        let handles =
            [&b"__pfx_some_function_name"[..], b"some_function_name"].map(|name| collector.add(name));
        let kept = collector.finish(handles.into_iter());
        assert_eq!(kept.codes.len(), 2 + 4);
    }
}
