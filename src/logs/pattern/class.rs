//! What bytes and short words are: one table of 256 classes and a few closed lists, so that the scans stay plain loops.

/// A letter; bytes of multi-byte (or broken) UTF-8 count as letters, so that no encoding is refused.
pub const LETTER: u16 = 1;
/// A letter that is no hexadecimal digit.
pub const NOT_HEX: u16 = 2;
/// A letter that is one.
pub const HEX: u16 = 4;
/// A decimal digit.
pub const DIGIT: u16 = 8;
/// A character that may stand within a word, or at its ends, where it is trimmed.
pub const MARK: u16 = 16;
/// `(`, `[`, `{`, `<`
pub const OPEN: u16 = 32;
/// `)`, `]`, `}`, `>`
pub const CLOSE: u16 = 64;
/// `"` and `'`
pub const QUOTE: u16 = 128;
/// `=`, `:`, `,`, `;`, `|`
pub const SEPARATOR: u16 = 256;
/// `.`
pub const DOT: u16 = 512;
/// `/`
pub const SLASH: u16 = 1024;
/// `@`
pub const AT: u16 = 2048;
/// `.`, `-` and `_`, two of which split a word.
pub const SPLITS: u16 = 4096;

/// What words are made of.
pub const WORD: u16 = LETTER | DIGIT | MARK;

/// The classes of each byte. What is in none (blanks, control characters) separates.
static CLASSES: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'f' | b'A'..=b'F' => LETTER | HEX,
            b'g'..=b'z' | b'G'..=b'Z' | 0x80..=0xff => LETTER | NOT_HEX,
            b'0'..=b'9' => DIGIT,
            b'.' => MARK | DOT | SPLITS,
            b'-' | b'_' => MARK | SPLITS,
            b'/' => MARK | SLASH,
            b'@' => MARK | AT,
            b'\\' | b'$' | b'%' | b'&' | b'*' | b'?' | b'!' | b'#' | b'+' | b'~' | b'^' | b'`' => MARK,
            b'(' | b'[' | b'{' | b'<' => OPEN,
            b')' | b']' | b'}' | b'>' => CLOSE,
            b'"' | b'\'' => QUOTE,
            b'=' | b':' | b',' | b';' | b'|' => SEPARATOR,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The classes of a byte.
#[inline(always)]
pub fn class(byte: u8) -> u16 {
    CLASSES[usize::from(byte)]
}

/// Whether a byte is a blank or a tab.
#[inline(always)]
pub fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether a byte is cut off at both ends of a word.
#[inline(always)]
pub fn is_trimmed(byte: u8) -> bool {
    class(byte) & MARK != 0 && !matches!(byte, b'/' | b'@')
}

/// The word without what is cut off at its ends, as offsets.
#[inline]
pub fn trimmed(text: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    while start < end && is_trimmed(text[start]) {
        start += 1;
    }
    while end > start && is_trimmed(text[end - 1]) {
        end -= 1;
    }
    (start, end)
}

/// Without bytes of `set` at both ends.
pub fn trim<'a>(mut text: &'a [u8], set: &[u8]) -> &'a [u8] {
    while let [first, rest @ ..] = text
        && set.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && set.contains(last)
    {
        text = rest;
    }
    text
}

/// Up to eight bytes in lower case as one number; 0 if there are more. (What is no letter may change too: no list here
/// has a word that such a change could make.)
#[inline]
pub fn packed(word: &[u8]) -> u64 {
    if word.len() > 8 {
        return 0;
    }
    word.iter().fold(0, |packed, byte| packed << 8 | u64::from(byte | 0x20))
}

const fn packed_text(word: &str) -> u64 {
    let (bytes, mut packed, mut at) = (word.as_bytes(), 0, 0);
    assert!(bytes.len() <= 8);
    while at < bytes.len() {
        packed = packed << 8 | (bytes[at] | 0x20) as u64;
        at += 1;
    }
    packed
}

/// A closed list of words of up to eight bytes, compared without case.
pub struct Words<const N: usize>([u64; N]);

impl<const N: usize> Words<N> {
    /// The list of these.
    pub const fn new(words: [&str; N]) -> Words<N> {
        let mut list = [0; N];
        let mut at = 0;
        while at < N {
            list[at] = packed_text(words[at]);
            at += 1;
        }
        Words(list)
    }

    /// Where a word stands in the list.
    #[inline]
    pub fn position(&self, word: &[u8]) -> Option<usize> {
        let packed = packed(word);
        self.0.iter().position(|&known| known == packed)
    }

    /// Whether a word is in the list.
    #[inline]
    pub fn contains(&self, word: &[u8]) -> bool {
        self.position(word).is_some()
    }
}

/// Months and days of the week.
pub static MONTHS_AND_DAYS: Words<19> = Words::new([
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed",
    "thu", "fri", "sat", "sun",
]);

/// Units that follow a number and are dropped with it, since programs choose them by size. Time zones are such too.
pub static UNITS: Words<30> = Words::new([
    "b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "ms", "us", "ns", "s", "sec", "secs", "kbps", "mbps",
    "mhz", "ghz", "khz", "hz", "am", "pm", "utc", "gmt", "pdt", "pst", "cst", "cest", "cet", "est",
]);

/// Ends of host names with one dot. Those with more dots need no list.
pub static DOMAINS: Words<32> = Words::new([
    "com", "net", "org", "edu", "gov", "io", "cn", "de", "uk", "fr", "jp", "kr", "nl", "ru", "br", "it",
    "local", "internal", "svc", "lan", "tv", "hk", "tw", "ca", "au", "ch", "se", "pl", "in", "es", "us",
    "info",
]);

/// Words after which a name follows.
pub static NAMERS: Words<4> = Words::new(["user", "username", "ruser", "login"]);

/// Words that follow one of [`NAMERS`] and are no name.
pub static NO_NAMES: Words<30> = Words::new([
    "is", "was", "has", "not", "name", "id", "by", "from", "for", "in", "on", "at", "to", "and", "or",
    "with", "of", "unknown", "does", "did", "can", "cannot", "logged", "request", "agent", "space", "mode",
    "level", "session", "account",
]);

/// Keys whose values are nobody's business, also if they have no digit. Templates are exported.
pub static SECRETS: Words<9> =
    Words::new(["password", "passwd", "pwd", "pass", "secret", "token", "apikey", "api_key", "api-key"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_asked_without_case() {
        assert!(UNITS.contains(b"KiB") && UNITS.contains(b"ms") && !UNITS.contains(b"apples"));
        assert!(!DOMAINS.contains(b"") && DOMAINS.contains(b"COM"));
        assert_eq!(MONTHS_AND_DAYS.position(b"Feb"), Some(1));
        assert_eq!(packed(b"ninebytes"), 0);
    }

    #[test]
    fn words_are_trimmed_at_both_ends() {
        let text = b"**init.!";
        assert_eq!(trimmed(text, 0, text.len()), (2, 6));
        assert_eq!(trimmed(b"/etc/", 0, 5), (0, 5));
        assert_eq!(trimmed(b"...", 0, 3), (3, 3));
        assert_eq!(trim(b"[x]:", b"[]:"), b"x");
    }
}
