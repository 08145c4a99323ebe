//! Test helper: throws random bytes and damaged samples at a parser.
//!
//! The seed is fixed, so a failing run can be repeated.

/// Rounds of each kind.
const ROUNDS: usize = 10_000;
/// Longest random string.
const MAX_RANDOM: usize = 256;
/// What kernel text is made of; random strings from it get deeper into a parser than noise does.
const STRUCTURAL: &[u8] = b"0123456789  \n\n\t::--..==,/\\()maxkBcpu";

/// A xorshift generator: good enough to shake a parser, no dependency.
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        match self.below(2) {
            0 => STRUCTURAL[self.below(STRUCTURAL.len())],
            _ => self.next() as u8,
        }
    }
}

/// Numbers that look random, the same ones for the same `seed`, which is not 0.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> usize {
    let mut random = Random(seed);
    move || random.next() as usize
}

/// Calls `parse` with 10,000 random strings, 10,000 mutations of `sample` and every prefix of it.
pub(crate) fn hammer(sample: &[u8], mut parse: impl FnMut(&[u8])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let length = random.below(MAX_RANDOM);
        let text_only = round % 2 == 0;
        let bytes: Vec<u8> = (0..length)
            .map(|_| match text_only {
                true => STRUCTURAL[random.below(STRUCTURAL.len())],
                false => random.next() as u8,
            })
            .collect();
        parse(&bytes);
    }
    for _ in 0..ROUNDS {
        let mut bytes = sample.to_vec();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        parse(&bytes);
    }
    for end in 0..=sample.len() {
        parse(&sample[..end]);
    }
}

/// The bytes of a message of a kernel, kept as hexadecimal digits.
pub(crate) fn captured(digits: &str) -> Vec<u8> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty());
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

/// One damage: change, remove, insert, cut, or double a stretch.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(5) {
        0 if !bytes.is_empty() => bytes[at] = random.byte(),
        1 if !bytes.is_empty() => drop(bytes.remove(at)),
        2 => bytes.insert(at, random.byte()),
        3 => bytes.truncate(at),
        _ => {
            let end = (at + random.below(40)).min(bytes.len());
            bytes.extend_from_within(at..end);
        }
    }
}
