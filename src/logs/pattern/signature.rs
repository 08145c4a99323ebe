//! The signature of a message: hashes of its constant words in order, with everything that varies masked to one wildcard. It is
//! a function of the message alone, so it is the same on every node, after every restart and in any order.

use memchr::memchr;

use super::class::{
    AT, CLOSE, DIGIT, DOMAINS, DOT, HEX, LETTER, MARK, MONTHS_AND_DAYS, NAMERS, NO_NAMES, NOT_HEX, OPEN,
    QUOTE, SECRETS, SLASH, SPLITS, UNITS, WORD, class, is_blank, trimmed,
};

/// The hash of the wildcard.
pub const WILD: u64 = 1;
/// What stands in the place of a token when its siblings are looked for.
pub const HOLE: u64 = 2;
/// Tokens of a signature at most; what follows does not matter.
pub const TOKENS: usize = 48;
/// Tokens of a message without a constant word, of which nothing else can be told.
const LITERALS: usize = 8;
/// Open brackets that are remembered.
const DEPTH: usize = 16;

/// Two words to one, with a fixed seed: ids must not change from node to node.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product as u64 ^ (product >> 64) as u64 ^ a.rotate_left(23)
}

/// The hash of a word: never that of a wildcard or hole.
#[inline]
pub fn hash_word(word: &[u8]) -> u64 {
    let (chunks, rest) = word.as_chunks::<8>();
    let mut hash = 0x517c_c1b7_2722_0a95 ^ word.len() as u64;
    for chunk in chunks {
        hash = fold(hash, u64::from_le_bytes(*chunk));
    }
    let last = rest.iter().rev().fold(0, |packed, byte| packed << 8 | u64::from(*byte));
    fold(hash, last) | 4
}

/// The hash of a whole signature: never 0.
#[inline]
pub fn hash_tokens(tokens: &[u64]) -> u64 {
    tokens.iter().fold(tokens.len() as u64 ^ 0x00c0_ffee, |hash, token| fold(hash, *token)).max(1)
}

/// A signature, with where its tokens stand in the message.
#[derive(Clone)]
pub struct Signature {
    hashes: [u64; TOKENS + 1],
    spans: [(u32, u32); TOKENS + 1],
    len: usize,
    /// It has no constant word, and its tokens are what stands between blanks, with digits as `#`.
    literal: bool,
}

impl Default for Signature {
    fn default() -> Signature {
        Signature { hashes: [0; TOKENS + 1], spans: [(0, 0); TOKENS + 1], len: 0, literal: false }
    }
}

impl Signature {
    /// Becomes the signature of `message`.
    pub fn read(&mut self, message: &[u8]) {
        let mut scan = Scan {
            text: message,
            at: 0,
            open: [(0, 0); DEPTH],
            depth: 0,
            after_number: false,
            after_namer: false,
            secret: None,
            request: Request::None,
            out: self,
        };
        scan.out.len = 0;
        scan.out.literal = false;
        scan.run();
        self.collapse(message);
    }

    /// Hashes of the tokens.
    pub fn tokens(&self) -> &[u64] {
        &self.hashes[..self.len]
    }

    /// The words of `message`, which was read last, one for each token: `<*>` for wildcards.
    pub fn words(&self, message: &[u8]) -> Vec<String> {
        let tokens = self.tokens().iter().zip(&self.spans);
        tokens
            .map(|(&hash, &(start, end))| match (hash, message.get(start as usize..end as usize)) {
                (WILD, _) | (_, None) => "<*>".to_owned(),
                (_, Some(word)) if self.literal => {
                    let mut text = Vec::new();
                    literal(word, &mut text);
                    String::from_utf8_lossy(&text).into_owned()
                }
                (_, Some(word)) => String::from_utf8_lossy(word).into_owned(),
            })
            .collect()
    }

    #[inline]
    fn push(&mut self, hash: u64, start: usize, end: usize) {
        self.hashes[self.len] = hash;
        self.spans[self.len] = (start as u32, end as u32);
        self.len += 1;
    }

    /// Makes one wildcard of several in a row; a signature of nothing else becomes literal.
    fn collapse(&mut self, message: &[u8]) {
        let (mut kept, mut constant) = (0, false);
        for at in 0..self.len {
            let hash = self.hashes[at];
            if hash != WILD {
                constant = true;
            } else if kept > 0 && self.hashes[kept - 1] == WILD {
                continue;
            }
            (self.hashes[kept], self.spans[kept]) = (hash, self.spans[at]);
            kept += 1;
        }
        self.len = kept;
        if !constant {
            self.read_literally(message);
        }
    }

    #[cold]
    fn read_literally(&mut self, message: &[u8]) {
        self.len = 0;
        self.literal = true;
        let mut at = 0;
        while self.len < LITERALS {
            at += message[at..].iter().take_while(|&&byte| is_separate(byte)).count();
            let end = at + message[at..].iter().take_while(|&&byte| !is_separate(byte)).count();
            if at == end {
                break;
            }
            // Without a buffer: runs of digits as one `#`, hashed eight bytes at a time like any word.
            let mut hash = LiteralHash::default();
            each_literal(&message[at..end], |byte| hash.add(byte));
            self.push(hash.finish(), at, end);
            at = end;
        }
    }
}

/// Whether a byte separates tokens of literal signatures: what a template's text cannot have in a word.
fn is_separate(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn each_literal(word: &[u8], mut take: impl FnMut(u8)) {
    let mut after_digit = false;
    for &byte in word {
        let digit = byte.is_ascii_digit();
        if !digit {
            take(byte);
        } else if !after_digit {
            take(b'#');
        }
        after_digit = digit;
    }
}

fn literal(word: &[u8], text: &mut Vec<u8>) {
    each_literal(word, |byte| text.push(byte));
}

/// [`hash_word`] of bytes that come one by one.
struct LiteralHash {
    bytes: [u8; LiteralHash::BYTES],
    len: usize,
}

impl Default for LiteralHash {
    fn default() -> LiteralHash {
        LiteralHash { bytes: [0; LiteralHash::BYTES], len: 0 }
    }
}

impl LiteralHash {
    /// More of a word does not matter.
    const BYTES: usize = 64;

    fn add(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn finish(&self) -> u64 {
        hash_word(&self.bytes[..self.len])
    }
}

/// Where the scan is in a line about an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    None,
    /// After `HTTP/1.1`, before the quote that ends the request.
    Begun,
    /// After it: what is quoted now came from a client.
    Ended,
}

struct Scan<'a, 'b> {
    text: &'a [u8],
    at: usize,
    /// Open brackets: which, and the number of tokens before.
    open: [(u8, usize); DEPTH],
    depth: usize,
    after_number: bool,
    after_namer: bool,
    /// Where the value of a key such as `password` begins.
    secret: Option<usize>,
    request: Request,
    out: &'b mut Signature,
}

impl Scan<'_, '_> {
    fn run(&mut self) {
        while let Some(&byte) = self.text.get(self.at)
            && self.out.len < TOKENS
        {
            let class = class(byte);
            if class & WORD != 0 {
                self.word();
            } else {
                if class & (OPEN | CLOSE | QUOTE) != 0 {
                    self.bracket(byte, class);
                }
                self.at += 1;
            }
        }
    }

    fn bracket(&mut self, byte: u8, class: u16) {
        if class & OPEN != 0 {
            if self.depth < DEPTH {
                self.open[self.depth] = (byte, self.out.len);
                self.depth += 1;
            }
            self.after_number &= byte == b'<';
        } else if class & CLOSE != 0 && self.depth > 0 {
            self.depth -= 1;
            let (bracket, at) = self.open[self.depth];
            // A group of nothing but wildcards may be there or not: `1,234 (1.2 KB) bytes`.
            if bracket == b'('
                && at > 0
                && at <= self.out.len
                && self.out.tokens()[at..].iter().all(|&token| token == WILD)
            {
                self.out.len = at;
            }
        } else if byte == b'"' {
            match self.request {
                Request::None => {}
                Request::Begun => self.request = Request::Ended,
                Request::Ended => {
                    if let Some(length) = memchr(b'"', &self.text[self.at + 1..]) {
                        self.wildcard(self.at, self.at + length + 2);
                        self.at += length + 1;
                    }
                }
            }
        }
    }

    /// A run of word characters: one token, or several where `..`, `--` or `__` splits them.
    fn word(&mut self) {
        let (text, start) = (self.text, self.at);
        let (mut seen, mut end) = (0, start);
        while let Some(&byte) = text.get(end) {
            let class = class(byte);
            if class & WORD == 0 {
                break;
            }
            seen |= class;
            end += 1;
        }
        self.at = end;
        if end - start <= 4 && seen & (NOT_HEX | MARK) == 0 && text.get(end) == Some(&b':') {
            let length = chain(&text[start..]);
            if length > 0 {
                self.at = start + length;
                self.after_number = true;
                self.after_namer = false;
                self.wildcard(start, self.at);
                return;
            }
        }
        if seen & SPLITS == 0 || !splits(&text[start..end]) {
            self.token(start, end, seen, end);
            return;
        }
        let mut at = start;
        while at < end && self.out.len < TOKENS {
            let piece = text[at..end].windows(2).position(splits).map_or(end, |gap| at + gap);
            let seen = text[at..piece].iter().fold(0, |seen, &byte| seen | class(byte));
            self.token(at, piece, seen, end);
            at = piece + text[piece..end].iter().take_while(|&&byte| byte == text[piece]).count();
        }
    }

    /// One token, and whether it is constant. `run_end` is where the run of word characters that it is in ends.
    #[inline]
    fn token(&mut self, start: usize, end: usize, seen: u16, run_end: usize) {
        let text = self.text;
        let (first, last) = trimmed(text, start, end);
        let word = &text[first..last];
        if word.is_empty() {
            return;
        }
        let is_path = seen & SLASH != 0;
        if seen & (DIGIT | LETTER) == 0 && !(is_path && word.len() > 1) {
            return;
        }
        let by_name = std::mem::take(&mut self.after_namer);
        let mut varies = seen & (DIGIT | SLASH | AT) != 0
            || seen & NOT_HEX == 0 && word.len() >= 8
            || seen & DOT != 0 && is_host(word)
            || self.secret.take() == Some(start);
        if varies {
            if is_path {
                if self.request == Request::None
                    && word.starts_with(b"HTTP/")
                    && text.get(run_end) == Some(&b'"')
                {
                    self.request = Request::Begun;
                }
                // The rest of an URL, whatever is in its query.
                while let Some(&byte) = text.get(self.at)
                    && class(byte) != 0
                    && class(byte) & (CLOSE | QUOTE) == 0
                {
                    self.at += 1;
                }
            }
        } else {
            if self.after_number && word.len() <= 4 && UNITS.contains(word) {
                self.after_namer = by_name;
                return;
            }
            varies = by_name && self.is_name(start, word)
                || word.len() == 3 && MONTHS_AND_DAYS.contains(word) && self.is_dated(run_end);
        }
        self.after_number = varies && seen & DIGIT != 0;
        if varies {
            self.wildcard(first, last);
        } else {
            if word.len() <= 8 {
                self.after_namer = NAMERS.contains(word);
                if SECRETS.contains(word) {
                    self.secret = value_after(&text[run_end..]).map(|gap| run_end + gap);
                }
            }
            self.out.push(hash_word(word), first, last);
        }
    }

    /// Pushes a wildcard, unless there is one already; but each bracket has its own, since it may be dropped with it.
    fn wildcard(&mut self, start: usize, end: usize) {
        let begins_group = self.depth > 0 && self.open[self.depth - 1].1 == self.out.len;
        if self.out.tokens().last() != Some(&WILD) || begins_group {
            self.out.push(WILD, start, end);
        }
    }

    /// Whether a word after `user` is a name: `user alice`, not `user=alice` and not `user is`.
    fn is_name(&self, start: usize, word: &[u8]) -> bool {
        matches!(&self.text[..start], [.., letter, b' '] if letter.is_ascii_alphabetic())
            && !NO_NAMES.contains(word)
            && !word.eq_ignore_ascii_case(b"authentication")
    }

    /// Whether a month or day is one: beside a number, or in front of the other of both.
    fn is_dated(&self, end: usize) -> bool {
        if self.out.tokens().last() == Some(&WILD) {
            return true;
        }
        let rest = &self.text[end..];
        let gap = rest.iter().take_while(|&&byte| is_blank(byte) || byte == b',').count();
        if gap == 0 {
            return false;
        }
        match &rest[gap..] {
            [digit, ..] if digit.is_ascii_digit() => true,
            [first, _, _, b' ', more @ ..] => {
                let blanks = more.iter().take_while(|&&byte| byte == b' ').count();
                first.is_ascii_uppercase() && more.get(blanks).is_some_and(u8::is_ascii_digit)
            }
            _ => false,
        }
    }
}

/// How far behind a key its value begins: `=x`, `:x`, `="x`, `":"x`, `": "x`; `None` for `: x`, which may be a sentence.
fn value_after(text: &[u8]) -> Option<usize> {
    let sign = usize::from(matches!(text.first(), Some(b'"' | b'\'')));
    if !matches!(text.get(sign), Some(b'=' | b':')) {
        return None;
    }
    let blank = usize::from(text.get(sign + 1) == Some(&b' '));
    let quote = usize::from(matches!(text.get(sign + 1 + blank), Some(b'"' | b'\'')));
    (blank == 0 || quote == 1).then_some(sign + 1 + blank + quote)
}

/// Whether two marks that split follow each other.
fn splits(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair[0] == pair[1] && class(pair[0]) & SPLITS != 0)
}

/// A dotted name of a host or class: two dots, or one and a known end.
fn is_host(word: &[u8]) -> bool {
    let mut parts = word.rsplit(|&byte| byte == b'.');
    let last = parts.next().unwrap_or_default();
    match parts.count() {
        0 => false,
        1 => DOMAINS.contains(last),
        _ => true,
    }
}

/// The length of `aa:bb:cc:dd...` (hardware addresses, IPv6, dumps) at the start of `text`; 0 if it is none.
fn chain(text: &[u8]) -> usize {
    let (mut at, mut groups) = (0, 0);
    loop {
        let digits = text[at..].iter().take(5).take_while(|&&byte| class(byte) & (HEX | DIGIT) != 0).count();
        at += digits;
        match text.get(at) {
            Some(b':') if (1..=4).contains(&digits) => (at, groups) = (at + 1, groups + 1),
            Some(&byte) if class(byte) & (LETTER | DIGIT) != 0 => return 0,
            _ if digits > 4 || groups < 3 => return 0,
            _ => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(message: &str) -> String {
        let mut signature = Signature::default();
        signature.read(message.as_bytes());
        signature.words(message.as_bytes()).join(" ")
    }

    #[test]
    fn what_varies_is_masked() {
        for (message, expected) in [
            ("Connection from 10.0.0.1:22 closed after 3 ms", "Connection from <*> closed after <*>"),
            ("read 1,234 (1.2 KB) bytes", "read <*> bytes"),
            ("read 17 bytes", "read <*> bytes"),
            ("GET https://x/y?a=b,c=d;e (z)", "GET https <*> z"),
            ("mail to a@b.c failed", "mail to <*> failed"),
            ("commit deadbeefcafe done", "commit <*> done"),
            ("the facade decade", "the facade decade"),
            ("host db.example.com is up", "host <*> is up"),
            ("host example.com is up", "host <*> is up"),
            ("ether 00:1a:2b:3c:4d:5e up", "ether <*> up"),
            ("session of user alice opened", "session of user <*> opened"),
            ("user is unknown", "user is unknown"),
            ("user=alice", "user alice"),
            ("password=alice token:\"bob\" {\"secret\": \"eve\"} x", "password <*> token <*> secret <*> x"),
            ("bad password: none given", "bad password none given"),
            ("last seen Mon Jan 2 2026 there", "last seen <*> there"),
            ("a..b--c__d", "a b c d"),
            ("**init!!", "init"),
            ("[1, 2, 3] left", "<*> left"),
            ("größe ok", "größe ok"),
            ("12 34:56", "# #:#"),
            ("\"GET /a HTTP/1.1\" 200 \"-\" \"Mozilla (X; y)\" end", "GET <*> end"),
            ("", ""),
        ] {
            assert_eq!(template(message), expected, "{message}");
        }
    }

    #[test]
    fn a_template_has_the_signature_of_its_words() {
        for message in ["Connection from 10.0.0.1:22 closed", "12 34:56", "==== ----"] {
            let mut signature = Signature::default();
            signature.read(message.as_bytes());
            let words = signature.words(message.as_bytes());
            let again: Vec<u64> = words.iter().map(|word| hash_of(word)).collect();
            assert_eq!(signature.tokens(), again, "{message}");
        }
    }

    fn hash_of(word: &str) -> u64 {
        if word == "<*>" { WILD } else { hash_word(word.as_bytes()) }
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut signature = Signature::default();
        let seed =
            b"user x (1 2) [a..b--c] \"GET /x HTTP/1.1\" \"q\" 00:11:22:33 Jan 2 /a?b= \xff\xfe <> Mon";
        crate::procfs::fuzz::hammer(seed, |data| {
            signature.read(data);
            assert!(signature.tokens().len() <= TOKENS);
            assert_eq!(signature.words(data).len(), signature.tokens().len());
        });
        signature.read(&b"word ".repeat(100));
        assert_eq!(signature.tokens().len(), TOKENS);
    }
}
