//! Patterns as plain text for a state directory: counts, and what has been folded. One line each:
//!
//! ```text
//! patterns 1
//! other 0 0 12 0 0 0
//! pattern 00c0ffee00c0ffee 0 0 3 0 4 0 Connection from <*> closed
//! open 00c0ffee00c0ffee 0123456789abcdef
//! ```
//! Counts are in the order of the levels' numbers; `open` has the pattern and one of its holes. What cannot be read is left out:
//! losing state costs less than not starting.

use std::fmt::Write;

use super::{Level, Patterns, Root, TEMPLATE_BYTES};

/// The first line: hashes of another version would not meet those of this one.
const VERSION: &str = "patterns 1";
/// Lines that are read at most.
const LINES: usize = 100_000;

impl Patterns {
    /// Appends the state to `text`.
    pub fn save(&self, text: &mut String) {
        let _ = writeln!(text, "{VERSION}");
        let _ = writeln!(text, "other{}", numbers(&self.other));
        for root in self.roots.iter().filter(|root| root.lines() > 0) {
            let _ = writeln!(text, "pattern {:016x}{} {}", root.hash, numbers(&root.counts), root.template);
        }
        for (hole, root) in self.open_holes() {
            let _ = writeln!(text, "open {root:016x} {hole:016x}");
        }
    }

    /// Patterns with the state in `text`, as of `now_s`. Text that is none gives patterns without any.
    pub fn restore(caps: super::Caps, text: &str, now_s: u64) -> Patterns {
        let mut patterns = Patterns::new(caps);
        let mut lines = text.lines().take(LINES);
        if lines.next() != Some(VERSION) {
            return patterns;
        }
        let now_s = u32::try_from(now_s).unwrap_or(u32::MAX);
        let (mut roots, mut open) = (Vec::new(), Vec::new());
        let mut live = [0; Level::COUNT];
        for line in lines {
            match line.split_once(' ') {
                Some(("other", rest)) => {
                    patterns.other = counts(rest).map_or(patterns.other, |(counts, _)| counts)
                }
                Some(("pattern", rest)) => {
                    let Some(mut root) = root(rest, now_s) else {
                        continue;
                    };
                    for (count, live) in root.counts.iter_mut().zip(&mut live) {
                        if *live >= patterns.caps.patterns {
                            *count = 0;
                        }
                        *live += usize::from(*count > 0);
                    }
                    if root.lines() > 0 {
                        roots.push(root);
                    }
                }
                Some(("open", rest)) => {
                    let pair = rest.split_once(' ').and_then(|(root, hole)| Some((hash(hole)?, hash(root)?)));
                    open.extend(pair);
                }
                _ => {}
            }
        }
        // Two of one hash would count one line twice.
        roots.sort_by_key(|root: &Root| root.hash);
        roots.dedup_by_key(|root| root.hash);
        patterns.restore_roots(roots, &open);
        patterns
    }
}

fn numbers(counts: &[u64; Level::COUNT]) -> String {
    counts.iter().fold(String::new(), |mut text, count| {
        let _ = write!(text, " {count}");
        text
    })
}

fn hash(text: &str) -> Option<u64> {
    let hash = u64::from_str_radix(text, 16).ok()?;
    (text.len() == 16 && hash != 0).then_some(hash)
}

/// A number for each level, and the rest of the line.
fn counts(mut text: &str) -> Option<([u64; Level::COUNT], &str)> {
    let mut counts = [0; Level::COUNT];
    for count in &mut counts {
        let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
        // Sums of counts must not overflow, whoever has written the file.
        *count = number.parse().ok().filter(|&number: &u64| number <= u64::MAX >> 24)?;
        text = rest;
    }
    Some((counts, text))
}

fn root(text: &str, now_s: u32) -> Option<Root> {
    let (id, rest) = text.split_once(' ')?;
    let (counts, template) = counts(rest)?;
    if template.len() > TEMPLATE_BYTES {
        return None;
    }
    Some(Root {
        hash: hash(id)?,
        counts,
        template: template.into(),
        // It has been exported before, and has to be again.
        first_s: now_s.saturating_sub(super::AGE_TO_EXPORT_S),
        last_s: now_s,
        ..Root::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::Caps;
    use super::*;

    fn example() -> Patterns {
        let mut patterns = Patterns::new(Caps::CONTAINER);
        for name in ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"] {
            patterns.add(Level::Error, format!("service {name} is not there any more").as_bytes(), 1);
        }
        patterns.add(Level::Info, b"something else", 1);
        patterns
    }

    #[test]
    fn counts_and_folds_survive() {
        let mut text = String::new();
        example().save(&mut text);
        let mut again = Patterns::restore(Caps::CONTAINER, &text, 1000);
        let mut same = String::new();
        again.save(&mut same);
        assert_eq!(same, text);
        again.add(Level::Error, b"service nobody is not there any more", 1001);
        let counts: Vec<(&str, u64)> =
            again.exported(1001).filter(|p| p.level == Level::Error).map(|p| (p.template, p.count)).collect();
        assert_eq!(counts, [("service <*> is not there any more", 7)]);
    }

    #[test]
    fn no_text_is_too_odd() {
        let mut text = String::new();
        example().save(&mut text);
        crate::procfs::fuzz::hammer(text.as_bytes(), |data| {
            let mut patterns = Patterns::restore(Caps::CONTAINER, &String::from_utf8_lossy(data), 5);
            patterns.add(Level::Error, b"service nobody is not there any more", 6);
            patterns.save(&mut String::new());
        });
        let bad = "patterns 1\npattern 0000000000000001 1 1 1 1 1 1 <*>\npattern 0000000000000001 1 1 1 1 1 1 <*>\n";
        assert_eq!(Patterns::restore(Caps::CONTAINER, bad, 5).all().count(), 6);
    }
}
