//! Examples of messages for people: without secrets, and without anything a terminal would take for an order.

/// What stands for a secret.
const HIDDEN: &str = "<redacted>";

/// Parts of keys whose values are secret, in lower case.
const KEYS: [&str; 12] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "authorization",
    "credential",
    "cookie",
];
/// Words of HTTP that a secret follows.
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];
/// How access keys of AWS begin, and how long they are.
const AWS: [&str; 2] = ["AKIA", "ASIA"];
const AWS_LENGTH: usize = 20;
/// From this length on, what looks like base64 or hexadecimal digits is taken for a key.
const LONG: usize = 32;

/// `text` as one line that is safe to show.
pub fn shown(text: &[u8]) -> String {
    printable(&redacted(&String::from_utf8_lossy(text)))
}

/// Text in which control characters, and those that turn the direction of text around, are question marks.
pub fn printable(text: &str) -> String {
    let is_order = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if is_order(c) {
                '?'
            } else {
                c
            }
        })
        .collect()
}

/// Text without secrets.
fn redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // The next word is a secret, whatever it looks like.
    let mut secret = false;
    while !rest.is_empty() {
        let gap = rest.find(is_word).unwrap_or(rest.len());
        let (between, behind) = rest.split_at(gap);
        out.push_str(between);
        let (word, behind) = behind.split_at(behind.find(|c| !is_word(c)).unwrap_or(behind.len()));
        let lower = word.to_ascii_lowercase();
        let is_scheme = SCHEMES.contains(&lower.as_str());
        if word.is_empty() {
            break;
        }
        let is_user = word.starts_with("//") && between.ends_with(':');
        let user = if is_user { behind.strip_prefix(':') } else { None };
        if is_scheme {
            out.push_str(word);
            secret = behind.starts_with(' ');
        } else if secret || is_key_material(word) {
            out.push_str(HIDDEN);
            secret = false;
        } else {
            out.push_str(word);
            secret = KEYS.iter().any(|key| lower.contains(key)) && has_value(behind);
        }
        rest = behind;
        // `https://user:password@host`
        if let Some(password) = user
            && let Some(end) =
                password.find(['@', '/', ' ', '"']).filter(|&end| password[end..].starts_with('@'))
        {
            out.push(':');
            out.push_str(HIDDEN);
            rest = &password[end..];
        }
    }
    out
}

/// What values are made of, and keys.
fn is_word(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c, '_' | '-' | '.' | '+' | '/' | '~' | '!' | '#' | '$' | '%' | '^' | '*' | '?' | '@')
}

/// Whether a key is followed by a sign that it has a value: `=x`, `: x`, `":"x`.
fn has_value(behind: &str) -> bool {
    behind.trim_start_matches(['"', '\'', '\\', ' ']).starts_with(['=', ':'])
}

/// Whether a word is an access key, a JSON web token, or a long number or base64 text.
fn is_key_material(word: &str) -> bool {
    let bytes = word.as_bytes();
    let capitals = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if bytes.len() == AWS_LENGTH && AWS.iter().any(|key| word.starts_with(key)) && bytes.iter().all(capitals)
    {
        return true;
    }
    if bytes.len() < LONG {
        return false;
    }
    if word.starts_with("eyJ") {
        return true;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-');
    if bytes.iter().all(u8::is_ascii_hexdigit) {
        return true;
    }
    // Paths and names of pods are long too, but have many slashes, or no capitals.
    !word.starts_with('/')
        && bytes.iter().all(is_base64)
        && bytes.iter().filter(|&&byte| byte == b'/').count() <= 2
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_uppercase)
        && bytes.iter().any(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        for (text, expected) in [
            ("password=hunter2 user=bob", "password=<redacted> user=bob"),
            ("DB_PASSWORD: 'x y'", "DB_PASSWORD: '<redacted> y'"),
            (r#"{"apiToken":"abc","a":1}"#, r#"{"apiToken":"<redacted>","a":1}"#),
            ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer <redacted>"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic <redacted>"),
            ("key AKIAIOSFODNN7EXAMPLE in use", "key <redacted> in use"),
            ("at https://bob:hunter2@host/path", "at https://bob:<redacted>@host/path"),
            ("at https://host:80/path@x", "at https://host:80/path@x"),
            ("digest 0123456789abcdef0123456789abcdef0123", "digest <redacted>"),
            ("sum 0123456789abcdef0123456789abcdef0123", "sum <redacted>"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x", "<redacted>"),
            (
                "pod checkout-7d9f8b6c5d-abcde-xyz12-more-words",
                "pod checkout-7d9f8b6c5d-abcde-xyz12-more-words",
            ),
            ("the password was wrong", "the password was wrong"),
            ("token expired", "token expired"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_orders_a_terminal_about() {
        assert_eq!(shown(b"\x1b[2Jgr\xc3\xb6\xc3\x9fe\x07\tok\xff \xe2\x80\xae"), "?[2Jgröße? ok\u{fffd} ?");
        crate::procfs::fuzz::hammer("https://a:b@c password=\"x\" Bearer ü\u{202e}".as_bytes(), |data| {
            assert!(!shown(data).chars().any(char::is_control));
        });
    }
}
