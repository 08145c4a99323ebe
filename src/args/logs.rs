//! What people can say about logs.

use std::path::PathBuf;

use crate::logs::level::Level;
use crate::logs::pattern::Caps;

/// What label `sample` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// The pattern, with `<*>` where messages differ.
    Pattern,
    /// One of the messages, without what looks like a secret.
    Raw,
    /// Nothing.
    None,
}

/// Flags about logs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Levels whose messages are exported by pattern; of others only the number of messages is.
    pub levels: [bool; Level::COUNT],
    /// What stands for a pattern.
    pub samples: Samples,
    /// Patterns of each level in each source.
    pub patterns: usize,
    /// Files outside `/var/log` that count as logs when a container writes them.
    pub files: Vec<Glob>,
    /// Where positions and patterns outlive this process.
    pub state_dir: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            levels: [true; Level::COUNT],
            samples: Samples::Pattern,
            patterns: Caps::CONTAINER.patterns,
            files: Vec::new(),
            state_dir: None,
        }
    }
}

impl Settings {
    /// Bounds of the patterns of one source.
    pub fn caps(&self) -> Caps {
        let example_bytes = if self.samples == Samples::Raw { EXAMPLE_BYTES } else { 0 };
        Caps { patterns: self.patterns, example_bytes, ..Caps::CONTAINER }
    }
}

/// Bytes of a message kept for `--log-samples=raw`.
const EXAMPLE_BYTES: usize = 400;

/// A pattern of paths: `*` is anything but a slash, `**` anything, `?` one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// The pattern in `text`, which begins with a slash; `None` if it does not.
    pub fn new(text: &str) -> Option<Glob> {
        (text.starts_with('/') && text.len() <= 4096).then(|| Glob(text.to_owned()))
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// True if all of `path` fits. In time and memory proportional to the product of both lengths at worst.
    pub fn fits(&self, path: &str) -> bool {
        let (glob, path) = (self.0.as_bytes(), path.as_bytes());
        let (mut at, mut from) = (0, 0);
        // Where to go on when what follows the last star does not fit: the star, and how much it has taken.
        let mut star: Option<(usize, usize, bool)> = None;
        loop {
            match glob.get(at) {
                Some(b'*') => {
                    let is_any = glob.get(at + 1) == Some(&b'*');
                    at += 1 + usize::from(is_any);
                    star = Some((at, from, is_any));
                    continue;
                }
                None if from == path.len() => return true,
                Some(b'?') if path.get(from).is_some_and(|&byte| byte != b'/') => {
                    (at, from) = (at + 1, from + 1);
                    continue;
                }
                Some(byte) if path.get(from) == Some(byte) => {
                    (at, from) = (at + 1, from + 1);
                    continue;
                }
                _ => {}
            }
            match &mut star {
                Some((after, taken, is_any))
                    if path.get(*taken).is_some_and(|&byte| *is_any || byte != b'/') =>
                {
                    *taken += 1;
                    (at, from) = (*after, *taken);
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_whole_paths() {
        let fits = |glob: &str, path: &str| Glob::new(glob).unwrap().fits(path);
        for (glob, path) in [
            ("/srv/app.log", "/srv/app.log"),
            ("/srv/*.log", "/srv/app.log"),
            ("/srv/*/*.log", "/srv/a/b.log"),
            ("/srv/**", "/srv/a/b/c"),
            ("/srv/**/x.log", "/srv/a/b/x.log"),
            ("/srv/app-?.log", "/srv/app-1.log"),
            ("/*a*b*c", "/xaxbxc"),
        ] {
            assert!(fits(glob, path), "{glob} {path}");
        }
        for (glob, path) in [
            ("/srv/*.log", "/srv/a/b.log"),
            ("/srv/app", "/srv/app.log"),
            ("/srv/?", "/srv/"),
            ("/srv/a?b", "/srv/a/b"),
            ("/srv/*x", "/srv/abc"),
        ] {
            assert!(!fits(glob, path), "{glob} {path}");
        }
        assert_eq!(Glob::new("srv/*"), None);
    }
}
