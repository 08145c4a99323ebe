//! A small reader of JSON from bytes that nobody vouches for, and the writing of JSON strings.
//!
//! The reader is *pulled*: the caller asks for what it expects and skips the rest, so nothing is built that is not used.
//! It works on a slice, keeps two machine words of state, never recurses and allocates only in the caller's own buffer.
//! Grammar: RFC 8259, strictly, except that bytes which are not UTF-8 and surrogates without a partner become U+FFFD.
//!
//! ```text
//! json.begin_object()?;
//! while json.next_key(&mut text)? {
//!     match text.as_str() {
//!         "log" => json.string(&mut text)?,
//!         _ => json.skip()?,
//!     }
//! }
//! json.end()?;
//! ```

use std::fmt;

/// How deep objects and arrays may nest: the state is one bit per level, and no runtime's file goes beyond 10.
pub const MAX_DEPTH: u32 = 64;

/// Why reading stopped. A reader that has failed once is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Offset of the byte that was not expected.
    pub at: usize,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "byte {}: expected {}", self.at, self.expected)
    }
}

impl std::error::Error for JsonError {}

/// What stands next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `"`
    String,
    /// A digit or `-`.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`
    Null,
}

/// A position in a JSON text.
#[derive(Debug, Clone)]
pub struct Json<'a> {
    data: &'a [u8],
    at: usize,
    depth: u32,
    /// One bit per open container, the innermost lowest: it is an object.
    objects: u64,
    /// One bit per open container, the innermost lowest: it already has a member.
    begun: u64,
}

impl<'a> Json<'a> {
    /// A reader at the start of `data`.
    pub fn new(data: &'a [u8]) -> Json<'a> {
        Json { data, at: 0, depth: 0, objects: 0, begun: 0 }
    }

    /// The kind of the value that comes next, by its first byte.
    ///
    /// # Errors
    /// When no value starts here.
    pub fn peek(&mut self) -> Result<Kind, JsonError> {
        match self.next_byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => self.expected("a value"),
        }
    }

    /// Enters an object.
    ///
    /// # Errors
    /// When the next value is no object, or nests too deep.
    pub fn begin_object(&mut self) -> Result<(), JsonError> {
        self.begin(b'{', true, "an object")
    }

    /// Enters an array.
    ///
    /// # Errors
    /// When the next value is no array, or nests too deep.
    pub fn begin_array(&mut self) -> Result<(), JsonError> {
        self.begin(b'[', false, "an array")
    }

    /// Reads the next key of the object into `key`; false when the object ends, which leaves it. The value after a key has to
    /// be read or skipped.
    ///
    /// # Errors
    /// When neither a key nor the end comes next.
    pub fn next_key(&mut self, key: &mut String) -> Result<bool, JsonError> {
        if !self.next_member(true)? {
            return Ok(false);
        }
        self.string(key)?;
        self.colon()?;
        Ok(true)
    }

    /// Steps to the next element of the array; false when the array ends, which leaves it. The element has to be read or
    /// skipped.
    ///
    /// # Errors
    /// When neither an element nor the end comes next.
    pub fn next_element(&mut self) -> Result<bool, JsonError> {
        self.next_member(false)
    }

    /// Reads a string into `text`, replacing what it held.
    ///
    /// # Errors
    /// When the next value is no string, or not a valid one.
    pub fn string(&mut self, text: &mut String) -> Result<(), JsonError> {
        text.clear();
        self.open_string()?;
        loop {
            let plain = self.plain()?;
            match std::str::from_utf8(plain) {
                Ok(valid) => text.push_str(valid),
                Err(_) => text.push_str(&String::from_utf8_lossy(plain)),
            }
            if self.take_byte() == Some(b'"') {
                return Ok(());
            }
            let unescaped = self.escape()?;
            text.push(unescaped);
        }
    }

    /// Reads a string into `text` if one comes next; anything else is skipped and leaves `text` empty.
    ///
    /// # Errors
    /// When no valid value comes next.
    pub fn string_or_skip(&mut self, text: &mut String) -> Result<bool, JsonError> {
        text.clear();
        if self.peek()? == Kind::String {
            return self.string(text).map(|()| true);
        }
        self.skip().map(|()| false)
    }

    /// Enters an object if one comes next; anything else (Go writes `null` for an empty one) is skipped: then false.
    ///
    /// # Errors
    /// When no valid value comes next.
    pub fn object_or_skip(&mut self) -> Result<bool, JsonError> {
        if self.peek()? == Kind::Object {
            return self.begin_object().map(|()| true);
        }
        self.skip().map(|()| false)
    }

    /// Enters an array if one comes next; anything else is skipped: then false.
    ///
    /// # Errors
    /// When no valid value comes next.
    pub fn array_or_skip(&mut self) -> Result<bool, JsonError> {
        if self.peek()? == Kind::Array {
            return self.begin_array().map(|()| true);
        }
        self.skip().map(|()| false)
    }

    /// Reads a number, as it is written.
    ///
    /// # Errors
    /// When the next value is no number, or not a valid one.
    pub fn number(&mut self) -> Result<&'a str, JsonError> {
        self.next_byte();
        let start = self.at;
        self.take_if(|byte| byte == b'-');
        if !self.take_if(|byte| byte == b'0') {
            self.digits()?;
        }
        if self.take_if(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.take_if(|byte| matches!(byte, b'e' | b'E')) {
            self.take_if(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        let text = self.data.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(text).or_else(|_| self.expected("a number"))
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// When neither comes next.
    pub fn bool(&mut self) -> Result<bool, JsonError> {
        if self.next_byte() == Some(b't') {
            return self.word(b"true").map(|()| true);
        }
        self.word(b"false").map(|()| false)
    }

    /// Steps over one value of any kind, checking it, without allocating.
    ///
    /// # Errors
    /// When no valid value comes next.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        let outer = self.depth;
        loop {
            match self.peek()? {
                Kind::Object => self.begin_object()?,
                Kind::Array => self.begin_array()?,
                Kind::String => self.skip_string()?,
                Kind::Number => self.number().map(|_| ())?,
                Kind::Bool => self.bool().map(|_| ())?,
                Kind::Null => self.word(b"null")?,
            }
            // Leaves every container that ends here; stops at the next value, or when the skipped one is complete.
            while self.depth > outer {
                let object = self.objects & 1 == 1;
                if self.next_member(object)? {
                    if object {
                        self.skip_string()?;
                        self.colon()?;
                    }
                    break;
                }
            }
            if self.depth == outer {
                return Ok(());
            }
        }
    }

    /// Checks that nothing but white space is left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(&mut self) -> Result<(), JsonError> {
        if self.depth == 0 && self.next_byte().is_none() { Ok(()) } else { self.expected("the end") }
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError { at: self.at, expected })
    }

    fn byte(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    fn take_byte(&mut self) -> Option<u8> {
        let byte = self.byte();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn take_if(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let taken = self.byte().is_some_and(wanted);
        self.at += usize::from(taken);
        taken
    }

    /// The next byte that is no white space; it stays.
    fn next_byte(&mut self) -> Option<u8> {
        while self.take_if(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {}
        self.byte()
    }

    fn begin(&mut self, open: u8, object: bool, expected: &'static str) -> Result<(), JsonError> {
        if self.next_byte() != Some(open) {
            return self.expected(expected);
        }
        if self.depth >= MAX_DEPTH {
            return self.expected("less nesting");
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        self.begun <<= 1;
        Ok(())
    }

    fn next_member(&mut self, object: bool) -> Result<bool, JsonError> {
        if self.depth == 0 || (self.objects & 1 == 1) != object {
            return self.expected("to be in a container of this kind");
        }
        let close = if object { b'}' } else { b']' };
        if self.next_byte() == Some(close) {
            self.at += 1;
            self.depth -= 1;
            self.objects >>= 1;
            self.begun >>= 1;
            return Ok(false);
        }
        if self.begun & 1 == 1 && !self.take_if(|byte| byte == b',') {
            return self.expected("a comma or the end of the container");
        }
        self.begun |= 1;
        // A key or a value has to follow, which refuses a comma before the end.
        self.next_byte();
        Ok(true)
    }

    fn colon(&mut self) -> Result<(), JsonError> {
        self.next_byte();
        if self.take_if(|byte| byte == b':') { Ok(()) } else { self.expected("a colon") }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return self.expected("true, false or null");
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.take_if(|byte| byte.is_ascii_digit()) {
            return self.expected("a digit");
        }
        while self.take_if(|byte| byte.is_ascii_digit()) {}
        Ok(())
    }

    fn open_string(&mut self) -> Result<(), JsonError> {
        self.next_byte();
        if self.take_if(|byte| byte == b'"') { Ok(()) } else { self.expected("a string") }
    }

    fn skip_string(&mut self) -> Result<(), JsonError> {
        self.open_string()?;
        loop {
            self.plain()?;
            if self.take_byte() == Some(b'"') {
                return Ok(());
            }
            self.escape()?;
        }
    }

    /// The bytes up to the next quote or backslash, one of which follows.
    fn plain(&mut self) -> Result<&'a [u8], JsonError> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\').unwrap_or(rest.len());
        self.at += length;
        match self.byte() {
            Some(b'"' | b'\\') => Ok(rest.get(..length).unwrap_or_default()),
            Some(_) => self.expected("no control character in a string"),
            None => self.expected("the end of the string"),
        }
    }

    /// The character of an escape whose backslash was taken.
    fn escape(&mut self) -> Result<char, JsonError> {
        match self.take_byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => Ok(char::from(byte)),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => self.unicode(),
            _ => self.expected("an escape"),
        }
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let after_first = self.at;
        if (0xd800..0xdc00).contains(&first)
            && self.take_if(|byte| byte == b'\\')
            && self.take_if(|byte| byte == b'u')
        {
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        // No partner: what follows is read again, on its own.
        self.at = after_first;
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = self.byte().and_then(|byte| char::from(byte).to_digit(16)) else {
                return self.expected("four hex digits");
            };
            self.at += 1;
            value = value << 4 | digit;
        }
        Ok(value)
    }
}

/// Appends `text` to `out` as a JSON string, quotes included.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0..0x20 | 0x7f => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const VALID: &[&str] = &[
        "null", "true", "false", "0", "-0", "1", "-12.5", "1e5", "1E+5", "2.5e-10", "\"\"", "\"a\"", "[]", "{}",
        " [ ] ", "[1]", "[1,2, 3]", "[[],[[]]]", "{\"a\":1}", "{\"a\":{\"b\":[1,{\"c\":null}]}, \"d\":\"\"}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u00e9\\ud83d\\ude00\\ud83d\"", "\t\r\n {\"\":[]}\n",
        "{\"a\":1,\"a\":2}", "\"\u{7f}é\"", "123456789012345678901234567890",
    ];

    #[rustfmt::skip]
    const INVALID: &[&str] = &[
        "", " ", "nul", "nulll", "True", "tru", "truee", "fals", "falsey", "-", "+1", "01", "-01", "00", "1.", ".5",
        "1.e5", "1e", "1e+", "0x10", "1a", "NaN", "Infinity", "-Infinity", "1 2", "\"", "\"a", "'a'", "\"\\\"",
        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\\u12\"", "\"\n\"", "\"\t\"", "\"\u{0}\"", "\"\u{1f}\"",
        "\"a\"b", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "[}", "[1}", "[]]", "[\"a]", "{", "}",
        "{]", "{\"a\"", "{\"a\":", "{\"a\":}", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,\"a\":1}", "{a:1}", "{1:1}",
        "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{\"a\"::1}", "{\"a\":1}}", "{\"a\",\"b\"}", "[\"a\":1]", "{null:1}",
        "// x\n1", "/**/1", "1,", "[1;2]", "\u{feff}1", "undefined", "\u{b}1", "\u{a0}1",
    ];

    /// Reads a value by entering everything, the way `skip` does not.
    fn walk(json: &mut Json<'_>, text: &mut String, seen: &mut String) -> Result<(), JsonError> {
        match json.peek()? {
            Kind::Object => {
                json.begin_object()?;
                seen.push('{');
                while json.next_key(text)? {
                    seen.push_str(text);
                    walk(json, text, seen)?;
                }
                seen.push('}');
            }
            Kind::Array => {
                json.begin_array()?;
                seen.push('[');
                while json.next_element()? {
                    walk(json, text, seen)?;
                }
                seen.push(']');
            }
            Kind::String => {
                json.string(text)?;
                seen.push_str(text);
            }
            Kind::Number => seen.push_str(json.number()?),
            Kind::Bool => seen.push_str(if json.bool()? { "true" } else { "false" }),
            Kind::Null => json.skip()?,
        }
        Ok(())
    }

    /// Skipping and walking agree on what is valid.
    fn read(data: &[u8]) -> Option<String> {
        let mut json = Json::new(data);
        let skipped = json.skip().and_then(|()| json.end());
        let (mut json, mut seen) = (Json::new(data), String::new());
        let walked = walk(&mut json, &mut String::new(), &mut seen).and_then(|()| json.end());
        assert_eq!(skipped, walked, "{}", String::from_utf8_lossy(data));
        walked.ok().map(|()| seen)
    }

    fn string(data: &[u8]) -> String {
        let mut text = "left over".to_owned();
        Json::new(data).string(&mut text).unwrap();
        text
    }

    #[test]
    fn valid_and_invalid() {
        for text in VALID {
            assert!(read(text.as_bytes()).is_some(), "{text}");
        }
        assert!(INVALID.len() > 60);
        for text in INVALID {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(br#"{"a":[1,{"b":true}],"c":"x"}"#).unwrap(), "{a[1{btrue}]cx}");
    }

    #[test]
    fn strings() {
        assert_eq!(string(br#""a\u00e9\ud83d\ude00\n""#), "a\u{e9}\u{1f600}\n");
        assert_eq!(string(br#""\ud83d""#), "\u{fffd}");
        assert_eq!(string(br#""\ude00x""#), "\u{fffd}x");
        assert_eq!(string(br#""\ud83d\u0041""#), "\u{fffd}A");
        assert_eq!(string(br#""\ud83d\n""#), "\u{fffd}\n");
        assert_eq!(string(br#""\ud83d\ud83d\ude00""#), "\u{fffd}\u{1f600}");
        assert_eq!(string(b"\"a\xffb\xc3\""), "a\u{fffd}b\u{fffd}");
        assert_eq!(string(br#""\u0000""#), "\0");
    }

    #[test]
    fn members_of_an_unexpected_kind() {
        let mut text = String::new();
        let mut json = Json::new(br#"[null,1,"s",{"a":1},[2]]"#);
        json.begin_array().unwrap();
        assert!(json.next_element().unwrap() && !json.object_or_skip().unwrap());
        assert!(json.next_element().unwrap() && !json.string_or_skip(&mut text).unwrap());
        assert!(json.next_element().unwrap() && json.string_or_skip(&mut text).unwrap());
        assert_eq!(text, "s");
        assert!(json.next_element().unwrap() && !json.array_or_skip().unwrap());
        assert!(json.next_element().unwrap() && json.array_or_skip().unwrap());
        // Asked for the wrong kind, or left a value unread: an error, not a guess.
        assert!(json.next_key(&mut text).is_err());
        assert!(json.next_element().unwrap() && json.next_element().is_err());
        assert!(Json::new(b"1").next_element().is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert!(read(&deep(64)).is_some());
        assert_eq!(read(&deep(65)), None);
        assert_eq!(read(&b"[".repeat(100_000)), None);
        assert_eq!(read(&b"{\"a\":".repeat(100_000)), None);
        assert_eq!(read(&b"[{\"a\":".repeat(100_000)), None);
    }

    #[test]
    fn written_strings_are_read_back() {
        for text in ["", "plain", "q\"b\\s/", "\0\u{1}\n\r\t\u{1f}\u{7f}", "é😀\u{2028}", "</script>"] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(string(&out), text);
            assert!(out.iter().all(|&byte| byte >= b' '));
        }
    }

    #[test]
    fn random_bytes() {
        let mut random = crate::procfs::fuzz::numbers(0x9e37_79b9_7f4a_7c15_u64);
        const LIKELY: &[u8] = b"{}[]\",:\\u0d8e1-.tfn \n\xff\xc3";
        for round in 0..10_000 {
            let bytes: Vec<u8> = (0..random() % 40)
                .map(|_| if round % 2 == 0 { LIKELY[random() % LIKELY.len()] } else { random() as u8 })
                .collect();
            read(&bytes);
            let mut changed = VALID[random() % VALID.len()].as_bytes().to_vec();
            let at = random() % changed.len();
            changed[at] = LIKELY[random() % LIKELY.len()];
            read(&changed);
            changed.truncate(at);
            read(&changed);
        }
    }
}
