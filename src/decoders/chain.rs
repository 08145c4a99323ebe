//! A label's decoders, one after the other: made from a config, checked without running, and run for each key.

use super::cache::Cache;
use super::{Answer, Asks, DECODERS, Decoder, Gives, Keeps, Names, Options, Spec, Takes};
use crate::limits;
use crate::memory::Use;
use crate::programs::config::{self, Mark};
use crate::spelling::did_you_mean;
use crate::sys::text::append;

/// What became of a piece of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its label text was appended.
    Text,
    /// The whole key is left out, silently.
    Skip,
}

/// What makes the text of one label.
pub struct Chain {
    steps: Vec<Step>,
    /// What one step gives to the next.
    between: [Vec<u8>; 2],
}

struct Step {
    spec: &'static Spec,
    decoder: Box<dyn Decoder>,
    /// Where remembering pays off. By the step's own input, so that `cgroup`, whose answers change, can stand before it.
    cache: Option<Cache>,
}

impl Chain {
    /// Makes the decoders of a label.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn build(decoders: &[config::Decoder], options: Options) -> Result<Chain, (Mark, String)> {
        let step = |decoder: &config::Decoder| {
            let spec = find(decoder)?;
            let decoder = build(spec, decoder, options)?;
            Ok(Step { spec, decoder, cache: (spec.keeps != Keeps::Nothing).then(Cache::default) })
        };
        let steps = decoders.iter().map(step).collect::<Result<_, (Mark, String)>>()?;
        Ok(Chain { steps, between: Default::default() })
    }

    /// A refresh begins: many calls of [`Chain::decode`] follow.
    pub fn begin(&mut self) {
        self.steps.iter_mut().filter_map(|step| step.cache.as_mut()).for_each(Cache::begin);
    }

    /// The refresh is over: what is remembered of keys it did not have is forgotten.
    pub fn end(&mut self) {
        self.steps.iter_mut().filter_map(|step| step.cache.as_mut()).for_each(Cache::end);
    }

    /// True when a decoder of it asks for this to be known.
    pub fn asks(&self, what: Asks) -> bool {
        self.steps.iter().any(|step| step.spec.asks == what)
    }

    /// Appends the label text for `input` to `out`: UTF-8, at most [`limits::LABEL_BYTES`]. `out` is as before when there is
    /// no text.
    ///
    /// # Errors
    /// Why `input` has no text.
    pub fn decode(
        &mut self,
        names: &mut Names<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome, String> {
        let start = out.len();
        match self.run(names, input, out) {
            Ok(Answer::Text | Answer::TextForNow | Answer::Unknown) => {
                make_label(out, start);
                Ok(Outcome::Text)
            }
            Ok(Answer::Skip) => {
                out.truncate(start);
                Ok(Outcome::Skip)
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }

    /// Runs all steps; only the last one writes to `out`.
    fn run(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let Some((last, before)) = self.steps.split_last_mut() else {
            append(out, input);
            return Ok(Answer::Text);
        };
        let [given, next] = &mut self.between;
        let mut is_first = true;
        for step in before {
            next.clear();
            if step.decode(names, if is_first { input } else { given }, next)? == Answer::Skip {
                return Ok(Answer::Skip);
            }
            std::mem::swap(given, next);
            is_first = false;
        }
        last.decode(names, if is_first { input } else { given }, out)
    }

    /// Everything that is wrong or strange with a label of `size` bytes, before anything runs.
    pub fn check(decoders: &[config::Decoder], size: usize) -> Vec<(Mark, String)> {
        let mut found = Vec::new();
        let mut before: Option<&Spec> = None;
        for decoder in decoders {
            let spec = match find(decoder) {
                Ok(spec) => spec,
                Err(error) => {
                    found.push(error);
                    break;
                }
            };
            if let Some(problem) = mismatch(spec, before, size) {
                found.push((decoder.mark, format!("decoder {:?} {problem}", spec.name)));
            }
            match build(spec, decoder, Options::default()) {
                Ok(built) => found.extend(built.doubts()),
                Err(error) => found.push(error),
            }
            before = Some(spec);
        }
        found
    }
}

impl Step {
    #[inline]
    fn decode(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let Some(cache) = &mut self.cache else { return self.ask(names, input, out) };
        match self.spec.keeps {
            Keeps::LastKnown => return self.ask_or_remember(names, input, out),
            Keeps::AnswersFromSymbols => {
                cache.of_version(names.tables.symbols.current(names.host, names.now_ns));
            }
            Keeps::Answers | Keeps::Nothing => {}
        }
        match cache.get(input) {
            Some(Some(text)) => {
                append(out, text);
                return Ok(Answer::Text);
            }
            Some(None) => return Ok(Answer::Skip),
            None => {}
        }
        let start = out.len();
        let answer = self.ask(names, input, out)?;
        let is_lasting = matches!(answer, Answer::Text | Answer::Skip);
        if let Some(cache) = self.cache.as_mut().filter(|_| is_lasting) {
            if self.spec.keeps == Keeps::AnswersFromSymbols {
                // The answer may be from a newer table than the question.
                cache.of_version(names.tables.symbols.version());
            }
            // It only saves time.
            cache.put(input, (answer == Answer::Text).then(|| &out[start..]), Use::Patterns);
        }
        Ok(answer)
    }

    /// Asks every time, and falls back on what was known before.
    fn ask_or_remember(
        &mut self,
        names: &mut Names<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Answer, String> {
        let start = out.len();
        let answer = self.ask(names, input, out)?;
        let Some(cache) = &mut self.cache else { return Ok(answer) };
        let known = cache.get(input).flatten();
        if answer != Answer::Unknown {
            if known != Some(&out[start..]) {
                // Without it sums would fall, which is worse than a series that is missing.
                cache.put(input, Some(&out[start..]), Use::Series);
            }
        } else if let Some(known) = known {
            out.truncate(start);
            append(out, known);
        }
        Ok(answer)
    }

    #[inline]
    fn ask(&mut self, names: &mut Names<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Answer, String> {
        let decoded = self.decoder.decode(names, input, out);
        decoded.map_err(|error| format!("error decoding with decoder {:?}: {error}", self.spec.name))
    }
}

fn build(
    spec: &Spec,
    decoder: &config::Decoder,
    options: Options,
) -> Result<Box<dyn Decoder>, (Mark, String)> {
    (spec.build)(decoder, options).map_err(|error| {
        (error.mark.unwrap_or(decoder.mark), format!("decoder {:?}: {}", spec.name, error.message))
    })
}

fn find(decoder: &config::Decoder) -> Result<&'static Spec, (Mark, String)> {
    let name = &*decoder.name;
    DECODERS.iter().find(|spec| spec.name == name).copied().ok_or_else(|| {
        let hint = did_you_mean(name, DECODERS.iter().map(|spec| spec.name));
        (decoder.mark, format!("unknown decoder {name:?}{hint}"))
    })
}

/// What does not fit between a decoder and what comes before it; without that, the bytes of the key.
fn mismatch(spec: &Spec, before: Option<&Spec>, size: usize) -> Option<String> {
    let Some(before) = before else {
        return match spec.takes {
            Takes::Sizes(sizes) if !sizes.contains(&size) => {
                Some(format!("wants {} bytes, the label has {size}", alternatives(sizes)))
            }
            Takes::AtLeast(least) if size < least => {
                Some(format!("wants {least} bytes, the label has {size}"))
            }
            Takes::Multiple(unit) if !size.is_multiple_of(unit) => {
                Some(format!("wants a multiple of {unit} bytes, the label has {size}"))
            }
            Takes::Decimal => Some("wants a decimal number: put uint before it".to_owned()),
            Takes::Text => {
                Some("wants text: put uint before it for a number, string for characters".to_owned())
            }
            _ => None,
        };
    };
    let raw = match spec.takes {
        Takes::Sizes(sizes) => alternatives(sizes),
        Takes::AtLeast(least) => least.to_string(),
        Takes::Multiple(unit) => format!("multiples of {unit}"),
        Takes::Decimal if before.gives == Gives::Text => {
            return Some(format!("wants a decimal number, which {} does not give", before.name));
        }
        Takes::Any | Takes::Decimal | Takes::Text => return None,
    };
    Some(format!("wants the raw {raw} bytes of the key: take {} away from before it", before.name))
}

/// `1, 2, 4 or 8`.
pub fn alternatives(sizes: &[usize]) -> String {
    let all: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

/// Makes what was appended a label value: UTF-8, and not too long.
fn make_label(out: &mut Vec<u8>, start: usize) {
    if std::str::from_utf8(&out[start..]).is_err() {
        let text = String::from_utf8_lossy(&out[start..]).into_owned();
        out.truncate(start);
        out.extend_from_slice(text.as_bytes());
    }
    if out.len() - start > limits::LABEL_BYTES {
        let mut end = start + limits::LABEL_BYTES;
        // Not in front of a byte that continues a character.
        while end > start && out[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::Bed;
    use super::*;

    const MARK: Mark = Mark { line: 3, column: 7 };

    fn decoders(names: &[&str]) -> Vec<config::Decoder> {
        let decoder = |name: &&str| config::Decoder {
            name: (*name).into(),
            mark: MARK,
            regexps: Some(vec![("^a".into(), MARK)]),
            static_map: Some(vec![("1".into(), "one".into())]),
            ..config::Decoder::default()
        };
        names.iter().map(decoder).collect()
    }

    fn chain(names: &[&str]) -> Chain {
        Chain::build(&decoders(names), Options::default()).ok().unwrap()
    }

    #[test]
    fn steps_feed_each_other() {
        let mut bed = Bed::new();
        let mut chain = chain(&["uint", "static_map", "string", "hex"]);
        let mut out = b"before ".to_vec();
        assert_eq!(chain.decode(&mut bed.names(), &1u16.to_ne_bytes(), &mut out), Ok(Outcome::Text));
        assert_eq!(out, b"before 6f6e65");
        let error = chain.decode(&mut bed.names(), &[1, 2, 3], &mut out).unwrap_err();
        assert_eq!(error, "error decoding with decoder \"uint\": unknown value length 3");
        assert_eq!(out, b"before 6f6e65");
    }

    #[test]
    fn labels_are_utf_8_and_bounded() {
        let mut bed = Bed::new();
        let mut chain = chain(&["string"]);
        let mut label = |input: &[u8]| {
            let mut out = b"x".to_vec();
            chain.decode(&mut bed.names(), input, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(label("caf\u{e9}".as_bytes()), "xcaf\u{e9}");
        assert_eq!(label(b"caf\xc3"), "xcaf\u{fffd}");
        assert_eq!(label(&[b'a'; 5000]).len(), 1 + limits::LABEL_BYTES);
        let odd = format!("a{}", "\u{e9}".repeat(3000));
        assert_eq!(label(odd.as_bytes()).len(), limits::LABEL_BYTES);
        // One byte becomes three.
        assert_eq!(label(&[0xff; 4096]).len(), 1 + limits::LABEL_BYTES - 1);
    }

    #[test]
    fn what_was_known_stays_while_the_key_does() {
        let mut bed = Bed::new();
        bed.containers.want_paths("/cg");
        bed.containers.paths.appeared(7, "/a");
        let mut chain = chain(&["uint", "cgroup"]);
        let mut read = |bed: &mut Bed, ids: &[u64]| {
            let mut out = Vec::new();
            chain.begin();
            for id in ids {
                chain.decode(&mut bed.names(), &id.to_ne_bytes(), &mut out).unwrap();
                out.push(b' ');
            }
            chain.end();
            String::from_utf8(out).unwrap().trim().to_owned()
        };
        assert_eq!(read(&mut bed, &[7, 8]), "/cg/a unknown_cgroup_id:8");
        bed.containers.paths.removed(7, 0);
        bed.containers.paths.forget(u64::MAX);
        bed.containers.paths.appeared(8, "/b");
        assert_eq!(read(&mut bed, &[7, 8]), "/cg/a /cg/b");
        // The key is gone, and with it what was known.
        assert_eq!(read(&mut bed, &[8]), "/cg/b");
        assert_eq!(read(&mut bed, &[7]), "unknown_cgroup_id:7");
    }

    #[test]
    fn answers_of_costly_decoders_are_remembered() {
        let mut bed = Bed::new();
        let mut chain = chain(&["string", "regexp"]);
        for _ in 0..2 {
            chain.begin();
            for (input, text) in [(&b"abc\0d"[..], Some(&b"a"[..])), (b"bc", None), (b"", None)] {
                let mut out = Vec::new();
                let outcome = chain.decode(&mut bed.names(), input, &mut out);
                assert_eq!(outcome, Ok(if text.is_some() { Outcome::Text } else { Outcome::Skip }));
                assert_eq!(out, text.unwrap_or_default());
            }
            chain.end();
            let cache = chain.steps[1].cache.as_mut().unwrap();
            assert_eq!(cache.get(b"abc"), Some(Some(&b"a"[..])));
            assert_eq!(cache.get(b""), Some(None));
        }
        chain.begin();
        chain.end();
        assert_eq!(chain.steps[1].cache.as_mut().unwrap().get(b"abc"), None);
    }

    #[test]
    fn answers_that_may_change_are_not_remembered() {
        let mut bed = Bed::new();
        bed.write("proc/kallsyms", "0000000000001000 T a\n");
        let mut chain = chain(&["kstack"]);
        let mut stack = |address: u64, now_ns| {
            bed.now_ns = now_ns;
            let mut out = Vec::new();
            chain.decode(&mut bed.names(), &address.to_ne_bytes(), &mut out).unwrap();
            let kept = chain.steps[0].cache.as_mut().unwrap().get(&address.to_ne_bytes()).is_some();
            (String::from_utf8(out).unwrap(), kept)
        };
        assert_eq!(stack(0xfff, 1), ("??".to_owned(), false));
        assert_eq!(stack(0x1001, 1), ("a".to_owned(), true));
        // Another module is at that place, and no other key makes anybody look.
        bed.write("proc/kallsyms", "0000000000001000 T b\t[m]\n");
        bed.write("proc/modules", "m 16384 1 - Live 0x1000\n");
        let mut stack = |now_ns| {
            bed.now_ns = now_ns;
            let mut out = Vec::new();
            chain.decode(&mut bed.names(), &0x1001u64.to_ne_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(stack(59_000_000_000), "a");
        assert_eq!(stack(61_000_000_000), "b\t[m]");
    }

    #[test]
    fn chains_are_checked() {
        let check = |names: &[&str], size| -> Vec<String> {
            Chain::check(&decoders(names), size).into_iter().map(|(_, text)| text).collect()
        };
        let fine: &[(&[&str], usize)] = &[
            (&["uint", "cgroup"], 8),
            (&["uint", "static_map"], 1),
            (&["string", "regexp"], 16),
            (&["string", "regexp", "errno"], 16),
            (&["ksym"], 8),
            (&["ksym", "regexp"], 8),
            (&["kstack"], 160),
            (&["inet_ip"], 16),
            (&["ifname"], 4),
            (&["ifname"], 8),
            (&["hex"], 3),
            (&["string", "dname"], 256),
            (&["uint", "container"], 8),
        ];
        for (names, size) in fine {
            assert_eq!(check(names, *size), [""; 0], "{names:?}");
        }
        for (names, size, problem) in [
            (&["cgroup"][..], 8, "decoder \"cgroup\" wants a decimal number: put uint before it"),
            (
                &["uint", "ksym"],
                8,
                "decoder \"ksym\" wants the raw 8 bytes of the key: take uint away from before it",
            ),
            (&["uint"], 3, "decoder \"uint\" wants 1, 2, 4 or 8 bytes, the label has 3"),
            (&["inet_ip"], 5, "decoder \"inet_ip\" wants 4 or 16 bytes, the label has 5"),
            (&["kstack"], 12, "decoder \"kstack\" wants a multiple of 8 bytes, the label has 12"),
            (&["majorminor"], 2, "decoder \"majorminor\" wants 4 bytes, the label has 2"),
            (&["hex", "errno"], 4, "decoder \"errno\" wants a decimal number, which hex does not give"),
            (
                &["static_map"],
                4,
                "decoder \"static_map\" wants text: put uint before it for a number, string for characters",
            ),
            (&["uimt"], 4, "unknown decoder \"uimt\", did you mean uint?"),
            (&["Uint"], 4, "unknown decoder \"Uint\", did you mean uint?"),
            (&["nothing_like_it"], 4, "unknown decoder \"nothing_like_it\""),
        ] {
            assert_eq!(check(names, size), [problem]);
        }
        let unknown = Chain::build(&decoders(&["nothing"]), Options::default());
        assert_eq!(unknown.err(), Some((MARK, "unknown decoder \"nothing\"".to_owned())));
    }

    #[test]
    fn what_is_asked_for_is_known() {
        assert!(chain(&["uint", "cgroup"]).asks(Asks::Paths));
        assert!(chain(&["uint", "pod"]).asks(Asks::Containers));
        assert!(!chain(&["uint"]).asks(Asks::Paths));
    }
}
