//! The head of an HTTP request, and the head of the response to it.

use nodeprobe::http::head::{Request, parse_head, response_head};

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    let (request, status) = match parse_head(data, "/metrics", true, "W/\"1\"") {
        Ok((request, _)) => (request, 200),
        Err((status, _)) => (Request::BROKEN, status),
    };
    let head = response_head(status, &[("Content-Type", "text/plain")], data.len(), request.gzip, request);
    assert!(head.ends_with(b"\r\n\r\n"));
}
