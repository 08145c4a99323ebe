//! Which containers are exported: `--container-allowlist` and `--container-denylist`.

use regex_lite::Regex;

use crate::limits;

/// Patterns that are looked for anywhere in label `container_id`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One of these has to match, if there are any.
    allow: Vec<Regex>,
    /// None of these may match, whatever the others say.
    deny: Vec<Regex>,
}

impl Filter {
    /// Adds the patterns of `value` to those that containers have to match.
    ///
    /// # Errors
    /// What should have stood there, and why it does not.
    pub fn allow(&mut self, value: &str) -> Result<(), String> {
        add(&mut self.allow, value)
    }

    /// Adds the patterns of `value` to those that containers must not match.
    ///
    /// # Errors
    /// What should have stood there, and why it does not.
    pub fn deny(&mut self, value: &str) -> Result<(), String> {
        add(&mut self.deny, value)
    }

    /// Forgets what containers have to match.
    pub fn clear_allowed(&mut self) {
        self.allow.clear();
    }

    /// Forgets what containers must not match.
    pub fn clear_denied(&mut self) {
        self.deny.clear();
    }

    /// Whether a container of this name is exported.
    pub fn keeps(&self, container_id: &str) -> bool {
        let matches = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(container_id));
        !matches(&self.deny) && (self.allow.is_empty() || matches(&self.allow))
    }
}

/// One pattern per line: environment variables have no other way to hold several, since a pattern may have commas.
fn add(patterns: &mut Vec<Regex>, value: &str) -> Result<(), String> {
    let lines = value.lines().enumerate().filter(|(_, line)| !line.is_empty());
    for (index, line) in lines {
        let place =
            if value.trim_end().contains('\n') { format!("line {}: ", index + 1) } else { String::new() };
        let pattern = Regex::new(line).map_err(|error| format!("a regular expression: {place}{error}"))?;
        if patterns.len() >= limits::CONTAINER_PATTERNS {
            return Err(format!("among the first {} patterns", limits::CONTAINER_PATTERNS));
        }
        patterns.push(pattern);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> Filter {
        let mut filter = Filter::default();
        allow.iter().for_each(|pattern| filter.allow(pattern).unwrap());
        deny.iter().for_each(|pattern| filter.deny(pattern).unwrap());
        filter
    }

    #[test]
    fn deny_wins_and_allow_is_needed() {
        for (allow, deny, kept, left_out) in [
            (&[][..], &[][..], &["", "/docker/web", "/system.slice/x.service"][..], &[][..]),
            (&["^/docker/"], &[], &["/docker/web"], &["/system.slice/docker.service", ""]),
            (&[], &["^/system.slice/"], &["/docker/web", "/machine/system.slice/"], &["/system.slice/x"]),
            (
                &["web", "db$"],
                &["-test"],
                &["/docker/web-1", "/docker/db"],
                &["/docker/db2", "/docker/web-test"],
            ),
            (&["(?i)WEB"], &[], &["/docker/web"], &["/docker/w"]),
            // Empty is what an unused variable holds, and a line may be empty too.
            (&[""], &["", "\n"], &["/docker/web"], &[]),
            (&["a,b\nc{1,2}d\r\n"], &[], &["/a,b", "/ccd"], &["/a", "/d"]),
        ] {
            let filter = filter(allow, deny);
            for id in kept {
                assert!(filter.keeps(id), "{allow:?} {deny:?} {id}");
            }
            for id in left_out {
                assert!(!filter.keeps(id), "{allow:?} {deny:?} {id}");
            }
        }
    }

    #[test]
    fn mistakes_are_placed() {
        let error = Filter::default().allow("a(").unwrap_err();
        assert!(error.starts_with("a regular expression: ") && !error.contains("line"), "{error}");
        let error = Filter::default().deny("a\n\nb[").unwrap_err();
        assert!(error.starts_with("a regular expression: line 3: "), "{error}");
        let many = "x\n".repeat(limits::CONTAINER_PATTERNS);
        let mut filter = filter(&[&many], &[&many]);
        assert_eq!(filter.allow("y").unwrap_err(), "among the first 64 patterns");
        assert!(filter.deny("y").is_err() && filter.deny("").is_ok());
    }
}
