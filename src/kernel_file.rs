//! A file of /proc, /sys or a cgroup that is read again and again: kept open while the budget allows, read with pread(2).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::limits;
use crate::memory;
use crate::world::KeptFiles;

/// Bytes read at first; nearly all of these files are smaller.
const FIRST: usize = 4096;

/// A path and, most of the time, its open file.
#[derive(Debug)]
pub struct KernelFile {
    path: PathBuf,
    file: Option<File>,
    /// Whether the kernel makes the file's content in one piece, so that a short read is the whole.
    one_piece: bool,
}

impl KernelFile {
    /// A file of many records, such as /proc/diskstats, which the kernel hands out a page at a time.
    pub fn new(path: PathBuf) -> KernelFile {
        KernelFile { path, file: None, one_piece: false }
    }

    /// A file that the kernel makes in one piece: every cgroup file, /proc/stat, /proc/meminfo.
    pub fn one_piece(path: PathBuf) -> KernelFile {
        KernelFile { path, file: None, one_piece: true }
    }

    /// Reads the whole file into `buffer`, whose room is reused.
    ///
    /// # Errors
    /// Those of open and read; ENODEV when the cgroup is gone; `FileTooLarge` beyond the bound.
    pub fn read<'a>(&mut self, kept: &mut KeptFiles, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        if let Some(file) = &self.file {
            match read_all(file, self.one_piece, buffer) {
                Ok(length) => {
                    // Containers come before speed.
                    if memory::is_short() {
                        self.close(kept);
                    }
                    return Ok(&buffer[..length]);
                }
                // A file that was removed and made again, as when a controller is switched off and on, is another one.
                Err(_) => self.close(kept),
            }
        }
        let opened = File::open(&self.path).inspect_err(|error| {
            if error.raw_os_error() == Some(libc::EMFILE) {
                kept.exhausted();
            }
        })?;
        let file = if kept.take() { self.file.insert(opened) } else { &opened };
        let length = read_all(file, self.one_piece, buffer)?;
        Ok(&buffer[..length])
    }

    /// Closes the file and gives its descriptor back to the budget.
    pub fn close(&mut self, kept: &mut KeptFiles) {
        if self.file.take().is_some() {
            kept.give_back();
        }
    }
}

/// Reads into the start of `buffer`; gives how much.
fn read_all(file: &File, one_piece: bool, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if buffer.len() < length + FIRST {
            buffer.resize(length + FIRST, 0);
        }
        let room = buffer.len() - length;
        let read = match file.read_at(&mut buffer[length..], length as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        length += read;
        if read == 0 || (one_piece && read < room) {
            return Ok(length);
        }
        if length > limits::KERNEL_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file_is_read_again_and_again() {
        let path = std::env::temp_dir().join(format!("nodeprobe-file-{}", std::process::id()));
        let mut kept = KeptFiles::of(1);
        let mut buffer = Vec::new();
        let mut file = KernelFile::new(path.clone());
        assert!(file.read(&mut kept, &mut buffer).is_err());
        for size in [10, 5000, 4096, 0] {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            assert_eq!(file.read(&mut kept, &mut buffer).unwrap().len(), size);
        }
        assert_eq!(kept.used(), 1);
        let mut second = KernelFile::one_piece(path.clone());
        assert!(second.read(&mut kept, &mut buffer).is_ok(), "without a budget the file is opened each time");
        file.close(&mut kept);
        assert_eq!(kept.used(), 0);
        std::fs::remove_file(&path).unwrap();
    }
}
