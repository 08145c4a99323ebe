//! Entries of journals, for `--format=journal`.

use std::fs::File;
use std::io;

use crate::args::Config;
use crate::error::{Context, Error, Result};
use crate::logs::journal::cache::Cache;
use crate::logs::journal::file::{Budget, JournalFile, Progress};
use crate::logs::journal::record::{Field, Wanted};
use crate::logs::level::Level;

/// Calls `take` with the message of each entry of the files of `config`, and with its priority.
///
/// # Errors
/// Those of files, and of what is no journal. What is damaged ends a file.
pub fn each_message(config: &Config, mut take: impl FnMut(&[u8], Level)) -> Result<()> {
    if config.paths.is_empty() {
        return Err(Error::from(io::Error::from(io::ErrorKind::InvalidInput)))
            .context("--format=journal reads files, not standard input");
    }
    for path in &config.paths {
        let name = path.display().to_string();
        let mut cache = Cache::new();
        let source = File::open(path).context(&name)?;
        let mut journal = JournalFile::open(source, &mut cache).context(&name)?;
        loop {
            let mut budget = Budget { entries: u64::MAX, bytes: u64::MAX };
            let progress = journal.read(&mut cache, &mut budget, Wanted::Named, &mut |record| {
                let level = match record.field(Field::Priority) {
                    Some([digit @ b'0'..=b'7']) => Level::of_priority(u32::from(digit - b'0')),
                    _ => Level::Unknown,
                };
                take(record.field(Field::Message).unwrap_or_default(), level);
            });
            if progress.context(&name)? != Progress::More {
                break;
            }
        }
    }
    Ok(())
}
