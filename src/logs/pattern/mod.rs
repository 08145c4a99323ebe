//! Patterns of log messages: "masked signature and sibling fold".
//!
//! The signature ([`signature`]) is a pure function of a message, and its hash is the id of a pattern. Everything learned sits
//! beside it and only joins ids together: signatures that differ in one word are *siblings*; when there are [`SIBLINGS`], the
//! word is taken for a variable and they are *folded* into a pattern with a wildcard there. A pattern that is not folded into
//! another is a *root*, and roots are what is exported. Siblings are sets, so the order of messages does not matter.
//!
//! ```text
//! message -> Signature -> hash -> Known -> root -> count[level] += 1           a line like one before: no allocation
//!                           | not known: a new root; each of its words a hole; a hole with enough members opens
//! ```

pub mod class;
pub mod header;
pub mod signature;
mod state;
mod table;

use self::signature::{HOLE, Signature, TOKENS, WILD, hash_tokens, hash_word};
use self::table::{Hole, Known, Table};
use super::level::Level;
use crate::memory::{self, Use};

/// Siblings that make a word a variable.
const SIBLINGS: u8 = 6;
/// The same if one of them is a wildcard: values with and without digits.
const SIBLINGS_WITH_WILD: u8 = 3;
/// What is kept of a hole's members before it opens.
const HOLE_MEMBERS: usize = SIBLINGS as usize;
/// Constant words that siblings share at least: with fewer, strangers would meet.
const SHARED: usize = 3;
/// The same once a level is full.
const SHARED_WHEN_FULL: usize = 2;
/// Lines that make a pattern worth exporting at once.
const LINES_TO_EXPORT: u64 = 3;
/// Seconds after which it is exported anyway: most that will be folded have been by then.
const AGE_TO_EXPORT_S: u32 = 60;
/// Seconds without a line after which a pattern may end when there is no room.
const IDLE_S: u32 = 3600;
/// Patterns that end at once then, since making room costs as much as a thousand lines.
const ENDED_AT_ONCE: usize = 16;
/// Bytes of a template; longer ones are cut at a word.
const TEMPLATE_BYTES: usize = 512;

/// Bounds of [`Patterns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Patterns of one level.
    pub patterns: usize,
    /// Signatures that are known, those folded into patterns included; at most 65,535.
    pub signatures: usize,
    /// Holes of signatures.
    pub holes: usize,
    /// Bytes of a message kept as an example of each pattern; 0 for none.
    pub example_bytes: usize,
}

impl Caps {
    /// For a container: not more than 4 MiB, whatever it logs.
    pub const CONTAINER: Caps = Caps { patterns: 256, signatures: 6_144, holes: 49_152, example_bytes: 0 };

    /// For somebody who looks at files.
    pub const FILES: Caps = Caps { patterns: 4_096, signatures: 49_152, holes: 393_216, example_bytes: 400 };
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has a signature seen before.
    Known,
    /// Its signature is new.
    New,
    /// There was no room for its pattern.
    Other,
}

/// A pattern at one level, as it is exported.
#[derive(Debug, Clone, Copy)]
pub struct Pattern<'a> {
    /// How serious its lines are.
    pub level: Level,
    /// Its id: the same for the same template anywhere. Written as 16 hexadecimal digits.
    pub id: u64,
    /// Its words, `<*>` for what varies.
    pub template: &'a str,
    /// Lines since the start. It never falls while the pattern is there.
    pub count: u64,
    /// One of its messages, if [`Caps::example_bytes`] says so. Nothing has been redacted.
    pub example: &'a [u8],
}

/// A pattern that is in no other.
#[derive(Debug, Default)]
struct Root {
    /// The hash of its signature; 0 for a place that is free.
    hash: u64,
    counts: [u64; Level::COUNT],
    template: Box<str>,
    example: Box<[u8]>,
    first_s: u32,
    last_s: u32,
}

impl Root {
    fn lines(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Patterns of one source of messages, and how many lines each has had.
#[derive(Debug)]
pub struct Patterns {
    caps: Caps,
    known: Table<Known>,
    holes: Table<Hole>,
    /// The hash of each node: nodes are what holes remember of signatures.
    nodes: Vec<u64>,
    roots: Vec<Root>,
    free: Vec<u32>,
    /// Patterns of each level.
    live: [usize; Level::COUNT],
    other: [u64; Level::COUNT],
    shared: usize,
    /// When room was looked for last.
    made_room_s: Option<u32>,
    /// No memory is to be had for more.
    is_frozen: bool,
}

impl Patterns {
    /// None yet; this allocates nothing.
    pub fn new(caps: Caps) -> Patterns {
        Patterns {
            caps: Caps { signatures: caps.signatures.min(usize::from(u16::MAX)), ..caps },
            known: Table::default(),
            holes: Table::default(),
            nodes: Vec::new(),
            roots: Vec::new(),
            free: Vec::new(),
            live: [0; Level::COUNT],
            other: [0; Level::COUNT],
            shared: SHARED,
            made_room_s: None,
            is_frozen: false,
        }
    }

    /// Learns no more, or learns again: lines of patterns that are not known yet count as other ones meanwhile.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
    }

    /// Counts a message, whose header has been cut off. `now_s` is any clock that does not go back.
    #[inline]
    pub fn add(&mut self, level: Level, message: &[u8], now_s: u64) -> Outcome {
        let mut signature = Signature::default();
        signature.read(message);
        let hash = hash_tokens(signature.tokens());
        let now_s = now_s.try_into().unwrap_or(u32::MAX);
        if let Some(known) = self.known.find(hash)
            && let Some(root) = self.roots.get_mut(known.root as usize)
            && root.counts[level as usize] > 0
        {
            root.counts[level as usize] += 1;
            root.last_s = now_s;
            return Outcome::Known;
        }
        self.add_new(level, hash, &signature, message, now_s)
    }

    /// The id of the pattern that `message` belongs to now, learning nothing.
    pub fn id_of(&self, message: &[u8]) -> u64 {
        let mut signature = Signature::default();
        signature.read(message);
        let hash = hash_tokens(signature.tokens());
        let known =
            self.known.find(hash).map(|known| known.root).or_else(|| self.behind_hole(signature.tokens()));
        known.and_then(|root| self.roots.get(root as usize)).map_or(hash, |root| root.hash)
    }

    /// Patterns that are exported at `now_s`, in no order: those with three lines, or a minute old.
    pub fn exported(&self, now_s: u64) -> impl Iterator<Item = Pattern<'_>> {
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        let is_exported = move |root: &&Root| {
            root.lines() >= LINES_TO_EXPORT || now_s.saturating_sub(root.first_s) >= AGE_TO_EXPORT_S
        };
        self.roots.iter().filter(is_exported).flat_map(Patterns::of_root)
    }

    /// All patterns, in no order.
    pub fn all(&self) -> impl Iterator<Item = Pattern<'_>> {
        self.roots.iter().flat_map(Patterns::of_root)
    }

    /// Lines of a level that found no room. It never falls.
    pub fn other(&self, level: Level) -> u64 {
        self.other[level as usize]
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        let texts: usize = self.roots.iter().map(|root| root.template.len() + root.example.len()).sum();
        size_of::<Patterns>()
            + self.known.bytes()
            + self.holes.bytes()
            + self.nodes.capacity() * size_of::<u64>()
            + self.roots.capacity() * size_of::<Root>()
            + self.free.capacity() * size_of::<u32>()
            + texts
    }

    fn of_root(root: &Root) -> impl Iterator<Item = Pattern<'_>> {
        let counts = Level::ALL.into_iter().zip(root.counts).filter(|&(_, count)| count > 0);
        counts.map(|(level, count)| Pattern {
            level,
            id: root.hash,
            template: &root.template,
            count,
            example: &root.example,
        })
    }

    #[cold]
    #[inline(never)]
    fn add_new(
        &mut self,
        level: Level,
        hash: u64,
        signature: &Signature,
        message: &[u8],
        now_s: u32,
    ) -> Outcome {
        let tokens = signature.tokens();
        let mut found = self.known.find(hash).map(|known| known.root);
        let outcome = if found.is_some() { Outcome::Known } else { Outcome::New };
        if found.is_none() {
            if self.nodes.len() + TOKENS >= self.caps.signatures {
                self.rebuild(self.shared);
            }
            let has_room = !self.is_frozen
                && memory::admits(Use::Patterns)
                && (self.live[level as usize] < self.caps.patterns || self.makes_room(level, now_s));
            if has_room {
                let example = &message[..message.len().min(self.caps.example_bytes)];
                let words = signature.words(message);
                found = self.learn(tokens, &words, hash, example, now_s).map(|node| self.root_of(node));
            } else {
                found = self.behind_hole(tokens);
            }
        }
        let at = level as usize;
        let is_full = self.live[at] >= self.caps.patterns;
        match found.and_then(|root| self.roots.get_mut(root as usize)) {
            Some(root) if root.counts[at] > 0 || !is_full => {
                self.live[at] += usize::from(root.counts[at] == 0);
                root.counts[at] += 1;
                root.last_s = now_s;
                outcome
            }
            _ => {
                self.other[at] += 1;
                Outcome::Other
            }
        }
    }

    /// The root of a node; one that does not exist if the node is unknown, which cannot be.
    fn root_of(&self, node: u16) -> u32 {
        let hash = self.nodes.get(usize::from(node)).copied().unwrap_or_default();
        self.known.find(hash).map_or(u32::MAX, |known| known.root)
    }

    /// Whether a node is a root itself.
    fn is_root(&self, node: u16) -> bool {
        let hash = self.nodes.get(usize::from(node)).copied().unwrap_or_default();
        self.roots.get(self.root_of(node) as usize).is_some_and(|root| root.hash == hash)
    }

    /// Makes a signature known, and folds what is to be folded. `words` are those of the tokens. Returns its node, `None` when
    /// there is no room.
    fn learn(
        &mut self,
        tokens: &[u64],
        words: &[String],
        hash: u64,
        example: &[u8],
        now_s: u32,
    ) -> Option<u16> {
        if let Some(known) = self.known.find(hash) {
            return Some(known.node as u16);
        }
        let root = Root {
            hash,
            template: template(words),
            example: example.into(),
            first_s: now_s,
            last_s: now_s,
            ..Root::default()
        };
        let node = self.put(root)?;
        self.link(node, tokens, words, example, now_s);
        Some(node)
    }

    /// Adds a root with a node of its own.
    fn put(&mut self, root: Root) -> Option<u16> {
        let node = u16::try_from(self.nodes.len()).ok().filter(|_| self.known.find(root.hash).is_none())?;
        let at = self.free.last().copied().unwrap_or(self.roots.len() as u32);
        let known = Known { hash: root.hash, root: at, node: u32::from(node) };
        if !self.known.insert(known, self.caps.signatures) {
            return None;
        }
        self.nodes.push(root.hash);
        match self.roots.get_mut(at as usize) {
            Some(place) => {
                *place = root;
                self.free.pop();
            }
            None => self.roots.push(root),
        }
        Some(node)
    }

    /// Puts a node into the holes of its tokens; those with enough members open.
    fn link(&mut self, node: u16, tokens: &[u64], words: &[String], example: &[u8], now_s: u32) {
        let mut holed = tokens.to_vec();
        for (at, &token) in tokens.iter().enumerate() {
            if !self.may_vary(tokens, at) {
                continue;
            }
            holed[at] = HOLE;
            let hash = hash_tokens(&holed);
            holed[at] = token;
            let Some(hole) = self.holes.find_mut(hash) else {
                let mut members = [0; HOLE_MEMBERS];
                members[0] = node;
                let hole = Hole { hash, members, count: 1, wild: token == WILD, open: false };
                self.holes.insert(hole, self.caps.holes);
                continue;
            };
            if hole.open {
                let target = hole.members[0];
                self.fold(node, target);
                continue;
            }
            if let Some(place) = hole.members.get_mut(usize::from(hole.count)) {
                *place = node;
                hole.count += 1;
            }
            hole.wild |= token == WILD;
            if hole.count < if hole.wild { SIBLINGS_WITH_WILD } else { SIBLINGS } {
                continue;
            }
            let hole = *hole;
            let (folded, folded_words) = with_wildcard(tokens, words, at);
            let Some(target) = self.learn(&folded, &folded_words, hash_tokens(&folded), example, now_s)
            else {
                continue;
            };
            for &member in hole.members.iter().take(usize::from(hole.count)) {
                self.fold(member, target);
            }
            if let Some(hole) = self.holes.find_mut(hash) {
                (hole.open, hole.members[0], hole.count) = (true, target, 1);
            }
        }
    }

    /// Whether a token may be a variable: enough of the others are constant.
    fn may_vary(&self, tokens: &[u64], at: usize) -> bool {
        let constants =
            tokens.iter().enumerate().filter(|&(other, &token)| other != at && token != WILD).count();
        constants >= self.shared && 2 * constants + 1 >= tokens.len()
    }

    /// Folds a node that is a root into the root of `target`, with its counts.
    fn fold(&mut self, node: u16, target: u16) {
        let (from, to) = (self.root_of(node), self.root_of(target));
        if from == to || !self.is_root(node) || self.roots.get(to as usize).is_none() {
            return;
        }
        let Some(folded) = self.roots.get_mut(from as usize).map(std::mem::take) else {
            return;
        };
        self.free.push(from);
        for known in self.known.entries_mut().filter(|known| known.root == from) {
            known.root = to;
        }
        let Some(root) = self.roots.get_mut(to as usize) else {
            return;
        };
        for (at, count) in folded.counts.into_iter().enumerate() {
            self.live[at] -= usize::from(root.counts[at] > 0 && count > 0);
            root.counts[at] += count;
        }
        root.first_s = root.first_s.min(folded.first_s);
        root.last_s = root.last_s.max(folded.last_s);
    }

    /// The root of an open hole that `tokens` have.
    fn behind_hole(&self, tokens: &[u64]) -> Option<u32> {
        let mut holed = [0; TOKENS + 1];
        let holed = holed.get_mut(..tokens.len())?;
        holed.copy_from_slice(tokens);
        for (at, &token) in tokens.iter().enumerate() {
            holed[at] = HOLE;
            let hole = self.holes.find(hash_tokens(holed)).filter(|hole| hole.open);
            if let Some(hole) = hole {
                return Some(self.root_of(hole.members[0]));
            }
            holed[at] = token;
        }
        None
    }

    /// Tries to make room for a pattern of `level`: by folding sooner from now on, then by ending idle patterns.
    fn makes_room(&mut self, level: Level, now_s: u32) -> bool {
        let at = level as usize;
        if self.shared > SHARED_WHEN_FULL {
            self.rebuild(SHARED_WHEN_FULL);
        } else if self.made_room_s != Some(now_s) {
            self.made_room_s = Some(now_s);
            let mut idle: Vec<&mut Root> = self.roots.iter_mut().collect();
            idle.retain(|root| root.counts[at] > 0 && now_s.saturating_sub(root.last_s) > IDLE_S);
            idle.sort_by_key(|root| (root.counts[at], root.hash));
            let ended = idle.len().min(ENDED_AT_ONCE);
            for root in idle.into_iter().take(ended) {
                root.counts[at] = 0;
            }
            self.live[at] -= ended;
            if ended > 0 {
                self.rebuild(self.shared);
            }
        }
        self.live[at] < self.caps.patterns
    }

    /// Forgets all but roots that have lines, and holes that are open.
    fn rebuild(&mut self, shared: usize) {
        let open: Vec<(u64, u64)> = self.open_holes().collect();
        let mut roots: Vec<Root> = std::mem::take(&mut self.roots);
        roots.retain(|root| root.lines() > 0);
        // The same whatever the order was in which they came.
        roots.sort_by_key(|root| root.hash);
        (self.known, self.holes, self.nodes, self.free) = Default::default();
        (self.live, self.shared) = ([0; Level::COUNT], shared);
        self.restore_roots(roots, &open);
    }

    /// Open holes with the hash of the root behind each.
    fn open_holes(&self) -> impl Iterator<Item = (u64, u64)> {
        self.holes.entries().filter(|hole| hole.open).filter_map(|hole| {
            let root = self.roots.get(self.root_of(hole.members[0]) as usize)?;
            Some((hole.hash, root.hash))
        })
    }

    /// Fills empty tables with roots, and with holes that lead to them.
    fn restore_roots(&mut self, roots: Vec<Root>, open: &[(u64, u64)]) {
        let mut nodes = Vec::with_capacity(roots.len());
        for root in roots {
            let (hash, words) = (root.hash, words_of(&root.template));
            for (live, count) in self.live.iter_mut().zip(root.counts) {
                *live += usize::from(count > 0);
            }
            let (first_s, example) = (root.first_s, root.example.clone());
            if let Some(node) = self.put(root) {
                nodes.push((node, hash, words, first_s, example));
            }
        }
        for &(hash, target) in open {
            // A third at most, so that there is always room to learn.
            if let Some(known) = self.known.find(target)
                && self.holes.find(hash).is_none()
            {
                let mut members = [0; HOLE_MEMBERS];
                members[0] = known.node as u16;
                let hole = Hole { hash, members, count: 1, wild: false, open: true };
                self.holes.insert(hole, self.caps.holes / 3);
            }
        }
        for (node, hash, words, first_s, example) in nodes {
            let tokens: Vec<u64> = words.iter().map(|word| token_of(word)).collect();
            // Templates that were cut have lost words.
            if hash_tokens(&tokens) == hash && tokens.len() <= TOKENS {
                self.link(node, &tokens, &words, &example, first_s);
            }
        }
    }
}

/// The token of a word of a template.
fn token_of(word: &str) -> u64 {
    if word == "<*>" { WILD } else { hash_word(word.as_bytes()) }
}

fn words_of(template: &str) -> Vec<String> {
    template.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text of a template, cut at a word if it is long.
fn template(words: &[String]) -> Box<str> {
    let mut text = String::new();
    for word in words {
        if text.len() + word.len() + 5 > TEMPLATE_BYTES {
            text.push_str(if text.is_empty() { "..." } else { " ..." });
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.into_boxed_str()
}

/// Tokens and words with a wildcard at `at`, several in a row made one.
fn with_wildcard(tokens: &[u64], words: &[String], at: usize) -> (Vec<u64>, Vec<String>) {
    let (mut folded, mut folded_words) = (Vec::new(), Vec::new());
    for (index, (&token, word)) in tokens.iter().zip(words).enumerate() {
        let token = if index == at { WILD } else { token };
        if token == WILD && folded.last() == Some(&WILD) {
            continue;
        }
        folded.push(token);
        folded_words.push(if token == WILD { "<*>".to_owned() } else { word.clone() });
    }
    (folded, folded_words)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn learned<'a>(lines: impl IntoIterator<Item = &'a String>) -> Patterns {
        let mut patterns = Patterns::new(Caps::CONTAINER);
        for line in lines {
            patterns.add(Level::Info, line.as_bytes(), 0);
        }
        patterns
    }

    fn templates(patterns: &Patterns) -> BTreeSet<(&str, u64)> {
        patterns.all().map(|pattern| (pattern.template, pattern.count)).collect()
    }

    const NAMES: [&str; 8] = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

    #[test]
    fn siblings_are_folded_and_keep_their_counts() {
        let mut lines: Vec<String> =
            NAMES.iter().take(5).map(|name| format!("starting service {name} on port 80")).collect();
        assert_eq!(templates(&learned(&lines)).len(), 5);
        lines.push("starting service kappa on port 80".to_owned());
        lines.push("starting service lambda on port 81".to_owned());
        let patterns = learned(&lines);
        assert_eq!(templates(&patterns), [("starting service <*> on port <*>", 7)].into());
        // Three words must be shared.
        let short: Vec<String> = NAMES.iter().map(|name| format!("got {name} now")).collect();
        assert_eq!(templates(&learned(&short)).len(), 8);
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        let mut lines = Vec::new();
        for first in NAMES {
            for second in NAMES {
                lines.push(format!("service {first} lost its peer {second} in cluster"));
                lines.push(format!("service {first} is ready to serve requests"));
            }
        }
        let expected = learned(&lines);
        let mut next = crate::procfs::fuzz::numbers(7);
        for _ in 0..20 {
            for at in (1..lines.len()).rev() {
                lines.swap(at, next() % (at + 1));
            }
            let shuffled = learned(&lines);
            assert_eq!(templates(&shuffled), templates(&expected));
            for line in &lines {
                assert_eq!(shuffled.id_of(line.as_bytes()), expected.id_of(line.as_bytes()), "{line}");
            }
        }
        assert_eq!(templates(&expected).len(), 2, "{:?}", templates(&expected));
    }

    #[test]
    fn a_pattern_is_exported_with_its_third_line_or_after_a_minute() {
        let mut patterns = Patterns::new(Caps::CONTAINER);
        patterns.add(Level::Info, b"hello there", 100);
        assert_eq!(patterns.exported(100).count(), 0);
        assert_eq!(patterns.exported(160).count(), 1);
        patterns.add(Level::Info, b"hello there", 101);
        patterns.add(Level::Error, b"hello there", 101);
        let mut counts: Vec<(Level, u64)> = patterns.exported(101).map(|p| (p.level, p.count)).collect();
        counts.sort();
        assert_eq!(counts, [(Level::Error, 1), (Level::Info, 2)]);
    }

    /// Words without digits, all different.
    fn word(mut number: usize) -> String {
        let mut word = String::from("w");
        while number > 0 {
            word.push((b'g' + (number % 20) as u8) as char);
            number /= 20;
        }
        word
    }

    #[test]
    fn nothing_is_lost_beyond_the_caps_and_memory_is_bounded() {
        let mut patterns = Patterns::new(Caps::CONTAINER);
        let mut next = crate::procfs::fuzz::numbers(99);
        let (mut lines, mut most) = (0u64, 0);
        for number in 0..24_000usize {
            let level = Level::ALL[number % Level::COUNT];
            let length = 1 + next() % 30;
            let words: Vec<String> = (0..length).map(|_| word(next() % 8_000)).collect();
            // An hour passes now and then.
            patterns.add(level, words.join(" ").as_bytes(), number as u64 / 4_000 * 4_000);
            lines += 1;
            most = most.max(patterns.bytes());
        }
        let other: u64 = Level::ALL.into_iter().map(|level| patterns.other(level)).sum();
        let counted: u64 = patterns.all().map(|pattern| pattern.count).sum();
        // Those of ended patterns are gone; all others are somewhere.
        assert!(counted + other <= lines && other > 0);
        for level in Level::ALL {
            assert!(
                patterns.all().filter(|pattern| pattern.level == level).count() <= Caps::CONTAINER.patterns
            );
        }
        assert!(most <= 4 << 20, "{most}");
        println!("at the caps: {most} bytes");
    }

    #[test]
    fn few_patterns_cost_little() {
        let lines: Vec<String> = NAMES
            .iter()
            .map(|name| format!("{name} has {name} of its own things to say about {name}"))
            .collect();
        let patterns = learned(&lines);
        assert!(patterns.bytes() < 16 << 10, "{}", patterns.bytes());
        println!("8 patterns: {} bytes", patterns.bytes());
    }

    #[test]
    fn an_idle_pattern_makes_room_and_a_busy_one_stays() {
        let caps = Caps { patterns: 4, ..Caps::CONTAINER };
        let mut patterns = Patterns::new(caps);
        for name in NAMES.iter().take(4) {
            patterns.add(Level::Info, name.as_bytes(), 0);
        }
        for now_s in [0, 5000] {
            patterns.add(Level::Info, b"alpha", now_s);
            patterns.add(Level::Info, b"newcomer", now_s);
        }
        let known = templates(&patterns);
        assert!(known.contains(&("alpha", 3)) && known.contains(&("newcomer", 1)), "{known:?}");
        assert_eq!(patterns.other(Level::Info), 1);
    }
}
