//! `regexp`: a part of a text, or no key at all.
//!
//! Patterns take time linear in the text. They are Go's but for what regex-lite leaves out, which is refused when the config is
//! read: Unicode classes (`\pL`, `\p{Greek}`), octal escapes, `\Q…\E`, `\C`, and braces that count nothing (`a{,5}`, `{x}`),
//! which Go takes literally. `(?i)` is about ASCII letters only.

use std::borrow::Cow;

use regex_lite::{CaptureLocations, Regex};

use super::{Answer, Asks, BuildError, Built, Decoder, Gives, Keeps, Names, Options, Spec, Takes, input};
use crate::programs::config::{self, Mark};
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "regexp",
    about: "what the first matching pattern of `regexps` matches, or its group if it has one; a key that none matches is left out",
    takes: Takes::Any,
    gives: Gives::Any,
    keeps: Keeps::Answers,
    asks: Asks::Nothing,
    build,
};

struct Regexp {
    /// `None` when the config has no list.
    patterns: Option<Vec<Pattern>>,
}

struct Pattern {
    regex: Regex,
    /// Room for the match and its groups.
    found: CaptureLocations,
    mark: Mark,
}

fn build(config: &config::Decoder, _: Options) -> Built {
    let compile = |(text, mark): &(Box<str>, Mark)| match Regex::new(text) {
        Ok(regex) => Ok(Pattern { found: regex.capture_locations(), regex, mark: *mark }),
        Err(error) => Err(BuildError {
            mark: Some(*mark),
            message: format!("regexp {:?}: {error}", input::shown(text.as_bytes())),
        }),
    };
    let patterns = config.regexps.as_ref().map(|texts| texts.iter().map(compile).collect()).transpose()?;
    Ok(Box::new(Regexp { patterns }))
}

impl Pattern {
    /// What the label is made of: the match, or the pattern's only group.
    fn part<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let group = match self.found.len() {
            1 => 0,
            2 => 1,
            // As the peer has it: which group would be meant?
            _ => return None,
        };
        if group == 0 {
            return self.regex.find(text).map(|found| found.as_str());
        }
        self.regex.captures_read(&mut self.found, text)?;
        // A group that has no part in the match is empty.
        Some(self.found.get(group).and_then(|(start, end)| text.get(start..end)).unwrap_or_default())
    }
}

impl Decoder for Regexp {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let patterns = self.patterns.as_mut().ok_or("no regexps defined in config")?;
        let text: Cow<'_, str> = String::from_utf8_lossy(input);
        let part = patterns.iter_mut().find_map(|pattern| pattern.part(&text));
        Ok(match part {
            Some(part) => {
                append(out, part.as_bytes());
                Answer::Text
            }
            None => Answer::Skip,
        })
    }

    fn doubts(&self) -> Vec<(Mark, String)> {
        let many = self.patterns.iter().flatten().filter(|pattern| pattern.found.len() > 2);
        many.map(|pattern| {
            let groups = pattern.found.len() - 1;
            (
                pattern.mark,
                format!("a regexp with {groups} groups never matches: write (?:...) for all but one"),
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::{Bed, refused, run};

    fn config(patterns: &[&str]) -> config::Decoder {
        let mark = |column| Mark { line: 1, column };
        let patterns = patterns.iter().zip(1..).map(|(text, column)| ((*text).into(), mark(column)));
        config::Decoder { regexps: Some(patterns.collect()), ..config::Decoder::default() }
    }

    fn decode(patterns: &[&str], input: impl AsRef<[u8]>) -> String {
        let mut decoder = build(&config(patterns), Options::default()).ok().unwrap();
        run(&mut *decoder, &mut Bed::new().names(), input.as_ref()).unwrap()
    }

    #[test]
    fn matches() {
        assert_eq!(decode(&["kswapd"], "x-kswapd0"), "kswapd");
        assert_eq!(decode(&["^kswapd"], "x-kswapd0"), "skip");
        assert_eq!(decode(&["^(kworker)/"], "kworker/0:1"), "kworker");
        assert_eq!(decode(&["^(?:kworker)/"], "kworker/0:1"), "kworker/");
        assert_eq!(decode(&["^a(b)?"], "ac"), "");
        assert_eq!(decode(&["(a)(b)", "b"], "ab"), "b", "two groups never match");
        assert_eq!(decode(&["b", "a"], "ab"), "b", "in the order of the list");
        assert_eq!(decode(&["a|ab"], "ab"), "a", "leftmost first, as in Go");
        assert_eq!(decode(&["x*"], ""), "");
        assert_eq!(decode(&[], "a"), "skip");
        assert_eq!(decode(&["a."], b"a\xffb"), "a\u{fffd}");
        assert_eq!(decode(&[r"^(?P<unit>[^/]+\.service)$"], "ssh.service"), "ssh.service");
    }

    #[test]
    fn mistakes() {
        let mut absent = build(&config::Decoder::default(), Options::default()).ok().unwrap();
        let error = run(&mut *absent, &mut Bed::new().names(), b"a").unwrap_err();
        assert_eq!(error, "no regexps defined in config");
        let error = refused(&SPEC, &config(&["fine", "(", "["]));
        assert_eq!(error.mark, Some(Mark { line: 1, column: 2 }));
        assert!(error.message.starts_with("regexp \"(\": "), "{}", error.message);
        let doubts = build(&config(&["(a)", "(a)(b)"]), Options::default()).ok().unwrap().doubts();
        assert_eq!(doubts.len(), 1);
        assert_eq!(doubts[0].0.column, 2);
    }

    /// What Go's regular expressions have and the ones here have not; the list in the file's head.
    #[test]
    fn syntax_of_go() {
        for fine in [
            r"\d\D\w\W\s\S\b\B",
            r"\a\f\t\n\r\v",
            r"\x41\x{263a}",
            "[[:alpha:][:^digit:]]",
            r"[\d.-]",
            "(?i:A)b",
            "(?s).(?-s).",
            "(?U)a+",
            "(?m)^a$",
            "a{2}b{2,}c{2,3}",
            "a+?b*?c??",
            r"\A\z",
            "(?P<a>.)",
            "(?<a>.)",
            "[^a]",
            r"\.\*\-\/",
            "",
            "a||b",
            "(?:)",
            "[a-]",
            "[-a]",
            "[]a]",
        ] {
            assert!(Regex::new(fine).is_ok(), "{fine}");
        }
        for refused in [r"\pL", r"\p{Greek}", r"\101", r"\Qa.b\E", r"\C", "a{,5}", "{", "a{x}"] {
            assert!(Regex::new(refused).is_err(), "{refused}");
        }
    }
}
