//! Joins `src/page` into the one document of the path `/`: without indentation and comments, since it is sent as it is.

#[path = "script.rs"]
mod script;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

const DIRECTORY: &str = "src/page";

/// Writes the document without its placeholders for what only the running program knows, and tells the code its hashes.
pub fn join(out: &Path) {
    let read = |name: &str| {
        let path = format!("{DIRECTORY}/{name}");
        println!("cargo:rerun-if-changed={path}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let style = squeeze_style(&read("page.css"));
    let script = script::squeeze(&["metrics.js", "draw.js", "map.js", "page.js"].map(read).concat());
    let page = read("page.html").replace(">\n<", "><");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let page =
        page.replace("{{style}}", &style).replace("{{script}}", &script).replace("{{version}}", &version);
    fs::write(out, &page).expect("OUT_DIR is writable");
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        base64(&sha256(&script)),
        base64(&sha256(&style)),
    );
    println!("cargo:rustc-env=PAGE_POLICY={policy}");
    let mark: String = sha256(&page)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo:rustc-env=PAGE_MARK={mark}");
}

/// Without blanks and comments that have a line of their own, and with a capital letter for each custom property.
fn squeeze_style(text: &str) -> String {
    let mut style: String = text.lines().map(str::trim).filter(|line| !line.starts_with("/*")).collect();
    for tight in ["{", "}", ";", ",", ">", "+"] {
        style = style.replace(&format!(" {tight}"), tight).replace(&format!("{tight} "), tight);
    }
    for (long, short) in [(": ", ":"), (";}", "}"), (" 0.", " ."), (":0.", ":.")] {
        style = style.replace(long, short);
    }
    let end = |rest: &str| rest.find(|c: char| !c.is_alphanumeric()).expect("a colon follows");
    let properties: BTreeSet<String> = style
        .match_indices("--")
        .map(|(at, _)| style[at..at + 2 + end(&style[at + 2..])].to_owned())
        .collect();
    for (property, letter) in properties.iter().zip('A'..='Z') {
        for follows in [':', ')'] {
            style = style.replace(&format!("{property}{follows}"), &format!("--{letter}{follows}"));
        }
    }
    style
}

fn sha256(text: &str) -> Vec<u8> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sha256sum: {error}"));
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends").stdout;
    let digits = String::from_utf8(output).expect("ASCII");
    (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("a digest")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, &byte| (bits << 8) | u32::from(byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}
