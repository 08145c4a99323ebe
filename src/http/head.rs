//! Request heads in, response heads out: bytes and values, no sockets.

use std::io;
use std::str::FromStr;

use crate::sys::clock;
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

/// RFC 9110, section 5.6.7, of seconds since 1970. The calendar repeats every 400 years, which begin in March here.
fn date(wall_s: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (days, second) = (wall_s / 86_400, wall_s % 86_400);
    // From the first of March in the year 0.
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let weekday = WEEKDAYS.get((days % 7) as usize).unwrap_or(&"");
    let month = MONTHS.get(month as usize).unwrap_or(&"");
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day_of_month:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
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
    // tiny_http's own would come from std, which aborts on 32-bit machines in 2038, or when their clock says so.
    headers.push(header("Date", &date(clock::wall_s())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_beyond_32_bits_and_leap_years() {
        for (wall_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(date(wall_s), text);
        }
        // Any clock gives something.
        assert!(date(u64::MAX).ends_with(" GMT"));
    }
}
