//! `static_map`: texts for texts, from the config.

use super::{Answer, Asks, Built, Decoder, Gives, Keeps, Names, Options, Spec, Takes};
use crate::programs::config;
use crate::sys::text::append;

/// Its row.
pub static SPEC: Spec = Spec {
    name: "static_map",
    about: "text to the text its `static_map` has for it; what is not in there is `unknown:TEXT`, or with `allow_unknown` stays",
    takes: Takes::Text,
    gives: Gives::Any,
    keeps: Keeps::Nothing,
    asks: Asks::Nothing,
    build,
};

struct StaticMap {
    /// Sorted; `None` when the config has no map.
    texts: Option<Vec<Entry>>,
    allow_unknown: bool,
}

struct Entry {
    /// The start of the key, which is mostly all of it: numbers are compared faster than texts.
    start: u64,
    key: Box<str>,
    value: Box<str>,
}

/// The first eight bytes, so that a smaller number is an earlier text.
fn start(key: &[u8]) -> u64 {
    key.iter().take(8).zip(0..).fold(0, |start, (byte, at)| start | u64::from(*byte) << (56 - 8 * at))
}

fn build(config: &config::Decoder, _: Options) -> Built {
    let texts = config.static_map.as_ref().map(|texts| {
        let entry = |(key, value): &(Box<str>, Box<str>)| Entry {
            start: start(key.as_bytes()),
            key: key.clone(),
            value: value.clone(),
        };
        // Of a key that is there twice the last one counts.
        let mut texts: Vec<Entry> = texts.iter().rev().map(entry).collect();
        texts.sort_by(|before, after| before.key.cmp(&after.key));
        texts.dedup_by(|after, before| after.key == before.key);
        texts.sort_by_key(|entry| entry.start);
        texts
    });
    Ok(Box::new(StaticMap { texts, allow_unknown: config.allow_unknown }))
}

impl Decoder for StaticMap {
    fn decode(&mut self, _: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let Some(texts) = &self.texts else {
            out.extend_from_slice(b"empty mapping");
            return Ok(Answer::Text);
        };
        let start = start(input);
        let first = texts.partition_point(|entry| entry.start < start);
        let near = texts[first..].iter().take_while(|entry| entry.start == start);
        match near.into_iter().find(|entry| entry.key.as_bytes() == input) {
            Some(entry) => append(out, entry.value.as_bytes()),
            None => {
                if !self.allow_unknown {
                    append(out, b"unknown:");
                }
                append(out, input);
            }
        }
        Ok(Answer::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::test::{Bed, run};

    #[test]
    fn texts() {
        let mut bed = Bed::new();
        let map = [
            ("1", "one"),
            ("10", "ten"),
            ("2", "two"),
            ("", "nothing"),
            ("1", "uno"),
            ("long_text_b", "b"),
            ("long_text_a", "a"),
        ];
        let map = map.map(|(key, value)| (key.into(), value.into())).to_vec();
        let mut config = config::Decoder { static_map: Some(map), ..config::Decoder::default() };
        let mut text = |config: &config::Decoder, input: &[u8]| {
            run(&mut *build(config, Options::default()).unwrap(), &mut bed.names(), input).unwrap()
        };
        assert_eq!(text(&config, b"1"), "uno");
        assert_eq!(text(&config, b"10"), "ten");
        assert_eq!(text(&config, b""), "nothing");
        assert_eq!(text(&config, b"long_text_a"), "a");
        assert_eq!(text(&config, b"long_text_b"), "b");
        assert_eq!(text(&config, b"1\0"), "unknown:1\0");
        assert_eq!(text(&config, b"long_tex"), "unknown:long_tex");
        assert_eq!(text(&config, b"3"), "unknown:3");
        assert_eq!(text(&config, b"\xff"), "unknown:\u{fffd}");
        config.allow_unknown = true;
        assert_eq!(text(&config, b"2"), "two");
        assert_eq!(text(&config, b"3"), "3");
        config.static_map = Some(Vec::new());
        assert_eq!(text(&config, b"1"), "1");
        config.static_map = None;
        assert_eq!(text(&config, b"1"), "empty mapping");
    }
}
