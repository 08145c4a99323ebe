//! Request heads in, response heads out: bytes and values, no sockets.

use std::io;
use std::str::FromStr;

use tiny_http::{HTTPVersion, Header, Method, Response, StatusCode};

/// What a request asks for, as far as the response depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// HEAD instead of GET.
    pub head_only: bool,
    /// More requests may follow.
    pub keep_alive: bool,
    /// The client takes gzip.
    pub gzip: bool,
    /// HTTP/1.0 instead of 1.1.
    pub version_1_0: bool,
    /// The client has the page at `/` as it is now.
    pub has_page: bool,
}

impl Request {
    /// What is assumed of a request nobody can make sense of.
    pub const BROKEN: Request =
        Request { head_only: false, keep_alive: false, gzip: false, version_1_0: false, has_page: false };
}

/// A page that is made when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The metrics.
    Metrics,
    /// What is in the maps of users' programs; for people who write one.
    Maps,
}

/// Which page.
pub enum Target {
    /// One that has to be made.
    Made(Page),
    /// Whether it is alive.
    Health,
    /// The page for people.
    Index,
    /// None of ours.
    Nothing,
}

/// Parses a head that ends in an empty line (RFC 9112, sections 2 and 3). `page_tag` is the entity tag of the page at `/`.
///
/// # Errors
/// The status and the text to refuse it with.
pub fn parse_head(
    head: &[u8],
    telemetry_path: &str,
    has_maps: bool,
    page_tag: &str,
) -> std::result::Result<(Request, Target), (u16, &'static str)> {
    const BAD: (u16, &str) = (400, "bad request\n");
    let text = std::str::from_utf8(head).map_err(|_| BAD)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    let version_1_0 = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ if version.starts_with("HTTP/") => return Err((505, "HTTP/1.1 or HTTP/1.0, please\n")),
        _ => return Err(BAD),
    };
    let head_only = match Method::from_str(method).map_err(|()| BAD)? {
        Method::Get => false,
        Method::Head => true,
        _ => return Err((405, "GET or HEAD, please\n")),
    };
    let mut request =
        Request { head_only, keep_alive: !version_1_0, gzip: false, version_1_0, has_page: false };
    for line in lines.take_while(|line| !line.is_empty()) {
        let header = Header::from_str(line).map_err(|()| BAD)?;
        let value = header.value.as_str();
        if header.field.equiv("Connection") {
            for word in value.split(',').map(str::trim) {
                request.keep_alive &= !word.eq_ignore_ascii_case("close");
                request.keep_alive |= version_1_0 && word.eq_ignore_ascii_case("keep-alive");
            }
        } else if header.field.equiv("Accept-Encoding") {
            request.gzip |= accepts_gzip(value);
        } else if header.field.equiv("If-None-Match") {
            // The weak comparison of RFC 9110, section 13.1.2: what is in the quotes.
            let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
            request.has_page |= value.split(',').any(|tag| opaque(tag) == opaque(page_tag));
        } else if header.field.equiv("Transfer-Encoding")
            || (header.field.equiv("Content-Length") && value.trim().parse() != Ok(0u64))
        {
            return Err((413, "no request bodies, please\n"));
        }
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    // The absolute form, as sent to a proxy.
    let path = match path.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => path,
    };
    let target = match path {
        _ if path == telemetry_path => Target::Made(Page::Metrics),
        "/maps" if has_maps => Target::Made(Page::Maps),
        "/healthz" => Target::Health,
        "/" => Target::Index,
        _ => Target::Nothing,
    };
    Ok((request, target))
}

/// RFC 9110, section 12.5.3.
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        matches!(name, "gzip" | "x-gzip" | "*") && weight > 0.0
    })
}

/// The head of a response, with its empty line. `headers` are names and values, the content type among them.
pub fn response_head(
    status: u16,
    headers: &[(&str, &str)],
    length: usize,
    packed: bool,
    request: Request,
) -> Vec<u8> {
    let header = |name: &str, value: &str| Header::from_str(&format!("{name}: {value}")).ok();
    let more = headers;
    let mut headers = vec![header("Server", "nodeprobe")];
    headers.extend(more.iter().map(|(name, value)| header(name, value)));
    if packed {
        headers.push(header("Content-Encoding", "gzip"));
    }
    if status == 405 {
        headers.push(header("Allow", "GET, HEAD"));
    }
    headers.push(header("X-Content-Type-Options", "nosniff"));
    let headers = headers.into_iter().flatten().collect();
    let response = Response::new(StatusCode(status), headers, io::empty(), Some(length), None);
    let response = response.with_chunked_threshold(usize::MAX);
    let version = HTTPVersion(1, u8::from(!request.version_1_0));
    let mut head = Vec::with_capacity(256);
    // Writing to a vector cannot fail; without the body only the head is printed.
    let _ = response.raw_print(&mut head, version, &[], true, None);
    // tiny_http keeps this header for its own server.
    let connection: &[u8] = match (request.keep_alive, request.version_1_0) {
        (false, _) => b"Connection: close\r\n\r\n",
        (true, true) => b"Connection: keep-alive\r\n\r\n",
        (true, false) => b"\r\n",
    };
    head.truncate(head.len().saturating_sub(2));
    head.extend_from_slice(connection);
    head
}
