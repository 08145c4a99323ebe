//! Which configs are wanted, and their files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::builtin::{self, Builtin};
use crate::args::Config as Flags;
use crate::error::{Context, Error, Reason, Result};
use crate::host::read_bounded;
use crate::limits;
use crate::spelling::did_you_mean;
use crate::warning;

/// The bytes of one config: its YAML and its object.
pub struct Source {
    /// Its name: the file's stem.
    pub name: Box<str>,
    /// The YAML file, for messages.
    pub path: Box<str>,
    /// The YAML.
    pub yaml: Vec<u8>,
    /// The object file, for messages.
    pub object_path: Box<str>,
    /// The object.
    pub object: Vec<u8>,
}

/// What is left of a source once it runs: enough to see that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Of the YAML.
    pub yaml: u64,
    /// Of the object.
    pub object: u64,
}

impl Source {
    /// Reads `DIR/NAME.yaml` and `DIR/NAME.bpf.o`.
    ///
    /// # Errors
    /// A file that cannot be read; the line names it.
    pub fn read(directory: &Path, name: &str) -> Result<Source> {
        let path = directory.join(format!("{name}.yaml"));
        let object_path = directory.join(format!("{name}.bpf.o"));
        let read = |path: &Path, max| {
            read_bounded(path, max).context(path.display()).context(format_args!("config {name:?}"))
        };
        Ok(Source {
            name: name.into(),
            yaml: read(&path, limits::CONFIG_BYTES)?,
            path: path.display().to_string().into(),
            object: read(&object_path, limits::OBJECT_BYTES)?,
            object_path: object_path.display().to_string().into(),
        })
    }

    /// What tells it from another version of itself.
    pub fn stamp(&self) -> Stamp {
        let hash = |bytes: &[u8]| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        Stamp { yaml: hash(&self.yaml), object: hash(&self.object) }
    }
}

/// True when the flags ask for any config.
pub fn any_wanted(flags: &Flags) -> bool {
    flags.config_dir.is_some() || flags.config_names.is_some() || !flags.programs.is_empty()
}

/// Where configs come from: a directory, and the programs that come with nodeprobe.
pub struct Sources {
    directory: Option<PathBuf>,
    names: Vec<String>,
    own: Vec<Builtin>,
}

impl Sources {
    /// Finds the configs the flags ask for; of a directory all that are whole, or are running.
    ///
    /// # Errors
    /// A directory that cannot be listed, a name that is given twice or that nodeprobe has no program of, names without a
    /// directory.
    pub fn open(flags: &Flags, running: &[&str]) -> Result<Sources> {
        let wanted: Vec<&str> = flags.programs.iter().map(String::as_str).collect();
        let own = if wanted.is_empty() { Vec::new() } else { builtin::get(&wanted) };
        if let Some(name) = wanted.iter().find(|name| own.iter().all(|program| program.name != **name)) {
            let known = builtin::names();
            let hint = did_you_mean(name, known.iter().map(String::as_str));
            return Err(bad(format!("--programs: no program {name:?} comes with nodeprobe{hint}")));
        }
        let mut names = flags.programs.clone();
        match (&flags.config_dir, &flags.config_names) {
            (Some(_), Some(wanted)) => names.extend_from_slice(wanted),
            (Some(directory), None) => names.append(&mut stems(directory, running)?),
            (None, Some(_)) => return Err(bad("--config.names needs --config.dir".to_owned())),
            (None, None) => {}
        }
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(bad(format!("multiple configs with name {:?}", names[at])));
        }
        Ok(Sources { directory: flags.config_dir.clone(), names, own })
    }

    /// Names of all configs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The bytes of config `name`.
    ///
    /// # Errors
    /// A file that cannot be read; the line names it.
    pub fn read(&self, name: &str) -> Result<Source> {
        if let Some(own) = self.own.iter().find(|own| own.name == name) {
            return Ok(Source {
                name: name.into(),
                path: format!("{name}.yaml").into(),
                yaml: own.config.clone().into_bytes(),
                object_path: format!("{name}.bpf.o").into(),
                object: own.object.clone(),
            });
        }
        Source::read(self.directory.as_deref().unwrap_or(Path::new("")), name)
    }
}

fn bad(line: String) -> Error {
    Error::new(Reason::Failed, line)
}

/// Names of all `*.yaml` in `directory` that have an object beside them, or had one when they were loaded: while a directory
/// is being written to, a file may be missing for a moment.
fn stems(directory: &Path, running: &[&str]) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(directory).context(format_args!("--config.dir {}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut stems: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".yaml")?.to_owned())).collect();
    stems.retain(|stem| {
        let object = directory.join(format!("{stem}.bpf.o"));
        let is_wanted = running.contains(&stem.as_str()) || object.exists();
        if !is_wanted {
            warning!("config {stem} is left out: no {}", object.display());
        }
        is_wanted
    });
    stems.sort();
    for stem in stems.drain(limits::CONFIGS.min(stems.len())..) {
        warning!("config {stem} is left out: there are more than {}", limits::CONFIGS);
    }
    Ok(stems)
}
