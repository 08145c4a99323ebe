//! The text of a config, as far as it is read without its object.

use nodeprobe::programs::parse::parse;

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    let (config, findings) = parse("x", "x.yaml", data);
    for finding in &findings {
        let _ = finding.to_string();
    }
    assert!(config.is_some() || !findings.is_empty(), "refused without a word");
}
