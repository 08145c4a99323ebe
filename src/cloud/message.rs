//! HTTP/1.1 as metadata services speak it: a request out, an answer in. Bytes and values, no sockets (RFC 9112).

use crate::limits;

/// An answer: its status, and its body if that is 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Such as 404.
    pub status: u16,
    /// Without chunks; empty when the status is not 200: nobody looks at it.
    pub body: Vec<u8>,
}

/// What is wrong with an answer.
pub type Mistake = &'static str;

/// A request for one connection. `headers` are lines without their end; empty ones are left out.
pub fn request(method: &str, path: &str, host: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nodeprobe/{version}\r\nAccept: */*\r\nConnection: close\r\n"
    );
    for header in headers.iter().filter(|header| !header.is_empty()) {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if method != "GET" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// The answer in `data`, all that has come; `None` while it is not whole. `is_closed`: nothing more will come.
///
/// # Errors
/// What is no answer, or a larger one than [`limits::CLOUD_BODY_BYTES`].
pub fn parse(data: &[u8], is_closed: bool) -> Result<Option<Answer>, Mistake> {
    if !data.starts_with(b"HTTP/1.") && !b"HTTP/1.".starts_with(data) {
        return Err("no HTTP");
    }
    // Chunks can be much larger than what is in them.
    if data.len() > limits::HTTP_HEAD_BYTES.saturating_add(limits::CLOUD_BODY_BYTES.saturating_mul(2)) {
        return Err("an answer too large");
    }
    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match (is_closed, data.len() > limits::HTTP_HEAD_BYTES) {
            (true, _) => Err("no whole head"),
            (_, true) => Err("a head without end"),
            _ => Ok(None),
        };
    };
    let (head, rest) = data.split_at_checked(end).unwrap_or_default();
    let head = Head::parse(head)?;
    let rest = rest.strip_prefix(b"\r\n\r\n").unwrap_or_default();
    if head.status != 200 {
        return Ok(Some(Answer { status: head.status, body: Vec::new() }));
    }
    let body = match head.length {
        Length::Known(length) if length > limits::CLOUD_BODY_BYTES => return Err("a body too large"),
        Length::Known(length) => rest.get(..length).map(<[u8]>::to_vec),
        Length::Chunks => unchunked(rest)?,
        Length::UntilClosed if rest.len() > limits::CLOUD_BODY_BYTES => return Err("a body too large"),
        Length::UntilClosed => is_closed.then(|| rest.to_vec()),
    };
    match body {
        Some(body) => Ok(Some(Answer { status: head.status, body })),
        None if is_closed => Err("a body cut short"),
        None => Ok(None),
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunks,
    UntilClosed,
}

struct Head {
    status: u16,
    length: Length,
}

impl Head {
    /// `head` has no empty line.
    fn parse(head: &[u8]) -> Result<Head, Mistake> {
        let text = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let status = match status.parse::<u16>() {
            Ok(number) if status.len() == 3 && (200..600).contains(&number) => number,
            // An interim answer is for who asks for one.
            _ => return Err("no status"),
        };
        let mut length = None;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a header without colon")?;
            let value = value.trim();
            let found = if name.eq_ignore_ascii_case("Content-Length") {
                let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                // More digits than fit are too many bytes.
                let bytes = value.parse().unwrap_or(usize::MAX);
                Length::Known(if is_number { bytes } else { return Err("no length") })
            } else if name.eq_ignore_ascii_case("Transfer-Encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err("an unknown encoding");
                }
                Length::Chunks
            } else {
                continue;
            };
            if length.is_some_and(|known| known != found) {
                return Err("two lengths");
            }
            length = Some(found);
        }
        Ok(Head { status, length: length.unwrap_or(Length::UntilClosed) })
    }
}

/// A body out of its chunks (RFC 9112, section 7.1); `None` while the last one is missing. Trailers are not waited for.
fn unchunked(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Mistake> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return if rest.len() > 64 { Err("no size of a chunk") } else { Ok(None) };
        };
        let (size, behind) = rest.split_at_checked(end).unwrap_or_default();
        let digits = size.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        if digits.starts_with('+') {
            return Err("no size of a chunk");
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| "no size of a chunk")?;
        if size > limits::CLOUD_BODY_BYTES.saturating_sub(body.len()) {
            return Err("a body too large");
        }
        if size == 0 {
            return Ok(Some(body));
        }
        let behind = behind.strip_prefix(b"\r\n").unwrap_or_default();
        let Some((chunk, behind)) = behind.split_at_checked(size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        rest = match behind.strip_prefix(b"\r\n") {
            Some(next) => next,
            None if b"\r\n".starts_with(behind) => return Ok(None),
            None => return Err("a chunk without end"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::fuzz::hammer;

    fn text(answer: Option<Answer>) -> (u16, String) {
        let answer = answer.unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nServer: EC2ws\r\ncontent-length: 5 \r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
    const UNTIL_CLOSED: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello";

    #[test]
    fn answers_of_each_kind() {
        for data in [PLAIN, CHUNKED] {
            assert_eq!(text(parse(data, false).unwrap()), (200, "hello".to_owned()));
            let whole = data.len() - if data == CHUNKED { 2 } else { 0 };
            for end in 0..whole {
                assert_eq!(parse(&data[..end], false), Ok(None), "{end}");
                assert!(parse(&data[..end], true).is_err(), "{end}");
            }
        }
        assert_eq!(parse(UNTIL_CLOSED, false), Ok(None));
        assert_eq!(text(parse(UNTIL_CLOSED, true).unwrap()), (200, "hello".to_owned()));
        // Nobody waits for the page that comes with it.
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 999999999\r\n\r\n<";
        assert_eq!(text(parse(missing, false).unwrap()), (404, String::new()));
        let elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\n\r\n";
        assert_eq!(text(parse(elsewhere, false).unwrap()), (302, String::new()));
    }

    #[test]
    fn what_is_no_answer() {
        for bad in [
            "\0\u{7f}garbage",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
        ] {
            assert!(parse(bad.as_bytes(), false).is_err(), "{bad:?}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 9000]].concat();
        assert!(parse(&endless, false).is_err());
        let large = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 65_537]].concat();
        assert!(parse(&large, false).is_err());
        assert!(parse(&large[..large.len() - 1], true).is_ok());
        let mut padded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        while padded.len() < 150_000 {
            padded.extend(b"1;extension=of-no-use\r\nx\r\n");
        }
        assert!(parse(&padded, false).is_err() && parse(&padded[..100_000], false) == Ok(None));
    }

    #[test]
    fn damaged_answers() {
        for sample in [PLAIN, CHUNKED, UNTIL_CLOSED] {
            for is_closed in [false, true] {
                hammer(sample, |data| {
                    if let Ok(Some(answer)) = parse(data, is_closed) {
                        assert!(answer.body.len() <= data.len());
                    }
                });
            }
        }
    }

    #[test]
    fn requests() {
        let text = String::from_utf8(request("PUT", "/token", "a.b", &["", "X: 1"], "{}")).unwrap();
        assert!(text.starts_with("PUT /token HTTP/1.1\r\nHost: a.b\r\nUser-Agent: nodeprobe/"), "{text}");
        assert!(text.ends_with("Connection: close\r\nX: 1\r\nContent-Length: 2\r\n\r\n{}"), "{text}");
        let text = String::from_utf8(request("GET", "/", "h", &[], "")).unwrap();
        assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
    }
}
