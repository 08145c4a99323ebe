//! The report as a screen of text and as JSON.

use std::path::Path;

use super::{Check, Outcome, State};
use crate::collectors::COLLECTORS;
use crate::error::Reason;
use crate::json::write_string;
use crate::world::Status;

/// Columns of a line.
const WIDTH: usize = 110;
/// Columns of a name.
pub(super) const NAME_WIDTH: usize = 19;
/// What is left for detail and remedy, after the mark and the name.
const REST_WIDTH: usize = WIDTH - 2 - 1 - NAME_WIDTH - 1;
const ARROW: &str = " -> ";

/// A screen of text; `root` when the observed host is not a running one.
pub(super) fn text(outcomes: &[(&Check, Outcome)], collectors: &[Status], root: Option<&Path>) -> String {
    let mut text = String::new();
    if let Some(root) = root {
        let root = plain(&root.to_string_lossy());
        let line = format!("{root} is no running host: its files, but this kernel");
        text += &fit(&line, WIDTH);
        text.push('\n');
    }
    for (check, outcome) in outcomes {
        line(&mut text, outcome.state, check.name, &rest(&outcome.detail, &outcome.remedy, check.about));
    }
    text += "collectors\n";
    for status in collectors {
        let about = COLLECTORS.iter().find(|spec| spec.name == status.name).map_or("", |spec| spec.about);
        let (state, rest) = match status.reason {
            Reason::Ok => (State::Ok, rest(about, "", "")),
            // Nobody wanted it, or nothing runs there: no fault of the machine.
            Reason::Disabled | Reason::NotLive => (State::Note, absent(status)),
            _ => (State::Missing, absent(status)),
        };
        line(&mut text, state, status.name, &rest);
    }
    text
}

fn absent(status: &Status) -> String {
    rest(&format!("{}: {}", status.reason.word(), status.detail), "", "")
}

fn line(text: &mut String, state: State, name: &str, rest: &str) {
    let line = format!("{} {name:NAME_WIDTH$} {rest}", state.mark());
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Detail and remedy in one line, the detail shortened first; what the check is about where there is room for it.
pub(super) fn rest(detail: &str, remedy: &str, about: &str) -> String {
    let remedy = fit(&plain(remedy), REST_WIDTH * 2 / 3);
    let reserved = if remedy.is_empty() { 0 } else { ARROW.len() + remedy.len() };
    let mut rest = fit(&plain(detail), REST_WIDTH - reserved);
    if !remedy.is_empty() {
        rest += ARROW;
        rest += &remedy;
    } else if !about.is_empty() && rest.len() + about.len() + 3 <= REST_WIDTH {
        rest += &format!(" ({about})");
    }
    rest
}

/// Printable ASCII only, without the numbers Rust adds to the text of an errno.
pub(super) fn plain(text: &str) -> String {
    let mut left = text;
    let mut plain = String::new();
    while let Some((before, after)) = left.split_once(" (os error ") {
        plain += before;
        left = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain += left;
    plain.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// At most `width` columns of `text`, which is ASCII: what libbpf adds in parentheses goes first.
fn fit(text: &str, width: usize) -> String {
    if text.len() <= width {
        return text.to_owned();
    }
    if let Some((before, _)) = text.split_once(" (")
        && before.len() <= width
    {
        return before.to_owned();
    }
    format!("{}...", &text[..width.saturating_sub(3)])
}

pub(super) fn json(outcomes: &[(&Check, Outcome)], collectors: &[Status]) -> String {
    let mut out = b"{".to_vec();
    member(&mut out, "version", env!("CARGO_PKG_VERSION"));
    out.extend(b",\"checks\":[");
    for (at, (check, outcome)) in outcomes.iter().enumerate() {
        out.extend(if at == 0 { "\n{" } else { ",\n{" }.bytes());
        member(&mut out, "name", check.name);
        out.push(b',');
        member(&mut out, "state", outcome.state.word());
        out.push(b',');
        member(&mut out, "detail", &outcome.detail);
        out.push(b',');
        member(&mut out, "remedy", &outcome.remedy);
        out.push(b'}');
    }
    out.extend(b"],\n\"collectors\":[");
    for (at, status) in collectors.iter().enumerate() {
        out.extend(if at == 0 { "\n{" } else { ",\n{" }.bytes());
        member(&mut out, "name", status.name);
        out.extend(b",\"up\":");
        out.extend(if status.reason == Reason::Ok { "true," } else { "false," }.bytes());
        member(&mut out, "reason", status.reason.word());
        out.push(b',');
        member(&mut out, "detail", &status.detail);
        out.push(b'}');
    }
    out.extend(b"]}\n");
    // Only whole strings were written.
    String::from_utf8_lossy(&out).into_owned()
}

fn member(out: &mut Vec<u8>, key: &str, value: &str) {
    write_string(out, key);
    out.push(b':');
    write_string(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let long = "word ".repeat(100);
        for remedy in ["", "a remedy", &long] {
            for detail in ["", "a detail", &long, "caf\u{e9}\x1b[1m"] {
                let rest = rest(detail, remedy, "about");
                assert!(rest.len() <= REST_WIDTH && rest.is_ascii(), "{rest}");
                assert!(rest.bytes().all(|byte| byte >= b' '));
            }
        }
        let error = "load: Operation not permitted (os error 1) (libbpf has much to say)";
        assert_eq!(plain(error), "load: Operation not permitted (libbpf has much to say)");
        assert_eq!(fit(&plain(error), 40), "load: Operation not permitted");
    }
}
