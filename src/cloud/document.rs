//! What answers of metadata services are made of: a word, lines, JSON.

use std::net::Ipv4Addr;

use crate::json::{Json, JsonError, Kind};
use crate::limits;

/// The body as one word: what ids, names of zones and kinds of machines are. `None` for anything else, such as a page that
/// says in HTML what is wrong.
pub fn word(body: &[u8]) -> Option<&str> {
    let text = body.trim_ascii();
    let is_word = !text.is_empty()
        && text.len() <= limits::CLOUD_VALUE_BYTES
        && text.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"'));
    if is_word { std::str::from_utf8(text).ok() } else { None }
}

/// The body as an IPv4 address.
pub fn address(body: &[u8]) -> Option<&str> {
    word(body).filter(|word| word.parse::<Ipv4Addr>().is_ok())
}

/// Calls `each` with key and value of every line that has `separator` in it; a value in quotes without them. False when that
/// is no text.
pub fn lines(body: &[u8], separator: &str, each: &mut dyn FnMut(&str, &str)) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    for (key, value) in text.lines().filter_map(|line| line.split_once(separator)) {
        each(key, value.trim().trim_matches(['\'', '"']));
    }
    true
}

/// Calls `each` with the path (`a.0.b`) and the text of every string, number and bool of a JSON document; false when it is
/// none, after what could be read.
pub fn members(body: &[u8], each: &mut dyn FnMut(&str, &str)) -> bool {
    let mut json = Json::new(body);
    visit(&mut json, &mut String::new(), each).and_then(|()| json.end()).is_ok()
}

/// The reader bounds the depth.
fn visit(json: &mut Json<'_>, path: &mut String, each: &mut dyn FnMut(&str, &str)) -> Result<(), JsonError> {
    let base = path.len();
    match json.peek()? {
        Kind::Object => {
            json.begin_object()?;
            let mut key = String::new();
            while json.next_key(&mut key)? {
                step(path, &key);
                visit(json, path, each)?;
                path.truncate(base);
            }
        }
        Kind::Array => {
            json.begin_array()?;
            let mut at = 0u32;
            while json.next_element()? {
                step(path, &at.to_string());
                visit(json, path, each)?;
                path.truncate(base);
                at = at.saturating_add(1);
            }
        }
        Kind::String => {
            let mut text = String::new();
            json.string(&mut text)?;
            each(path, &text);
        }
        Kind::Number => each(path, json.number()?),
        Kind::Bool => each(path, if json.bool()? { "true" } else { "false" }),
        Kind::Null => json.skip()?,
    }
    Ok(())
}

fn step(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz::hammer;

    #[test]
    fn words_and_addresses() {
        assert_eq!(word(b" i-0abc\n"), Some("i-0abc"));
        assert_eq!(word("a".repeat(256).as_bytes()).map(str::len), Some(256));
        for bad in [&b""[..], b" ", b"a b", b"a\nb", b"<html>", b"a\"", b"\xc3\xa9", b"a\0", &[b'a'; 257]] {
            assert_eq!(word(bad), None, "{bad:?}");
        }
        assert_eq!(address(b"10.0.0.5"), Some("10.0.0.5"));
        for bad in [&b"10.0.0"[..], b"10.0.0.256", b"::1", b"DYNAMIC"] {
            assert_eq!(address(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_and_values() {
        let body = b"a: 1\n b: '2'\r\nnothing\nc: \nd: \"x: y\"\n";
        let mut seen = String::new();
        assert!(lines(body, ": ", &mut |key, value| seen += &format!("{key}={value};")));
        assert_eq!(seen, "a=1; b=2;c=;d=x: y;");
        hammer(body, |body| {
            lines(body, ": ", &mut |_, _| {});
        });
    }

    #[test]
    fn members_of_a_document() {
        let body = br#"{"a":{"b":["x",{"c":1.5}],"n":null},"t":true,"e":{}}"#;
        let mut seen = String::new();
        assert!(members(body, &mut |path, value| seen += &format!("{path}={value} ")));
        assert_eq!(seen, "a.b.0=x a.b.1.c=1.5 t=true ");
        assert!(!members(br#"{"a":"x","b"#, &mut |path, value| assert_eq!((path, value), ("a", "x"))));
        assert!(!members(b"<html>", &mut |_, _| panic!()));
        assert!(members(
            "[".repeat(64)
                .as_bytes()
                .iter()
                .chain(b"]".repeat(64).iter())
                .copied()
                .collect::<Vec<u8>>()
                .as_slice(),
            &mut |_, _| {}
        ));
        assert!(!members("[".repeat(60_000).as_bytes(), &mut |_, _| {}));
        hammer(body, |body| {
            members(body, &mut |_, _| {});
            word(body);
        });
    }
}
