//! A journal file, whole and by its named fields, and its bytes as what is compressed.

use nodeprobe::logs::journal::cache::Cache;
use nodeprobe::logs::journal::export::export;
use nodeprobe::logs::journal::file::{Budget, FIELD_LIMIT, JournalFile, Progress, RECORD_LIMIT};
use nodeprobe::logs::journal::payload::payload;
use nodeprobe::logs::journal::record::Wanted;

/// Bytes of what is compressed that are asked for.
const MAX: usize = 64 * 1024;

/// Reads all entries; gives their number. Fewer come than the file has slots for.
fn read(cache: &mut Cache, data: &[u8], wanted: Wanted) -> usize {
    let Ok(mut file) = JournalFile::open(data, cache) else { return 0 };
    let mut count = 0;
    let mut text = Vec::new();
    for _ in 0..data.len() / 4 + 1 {
        let mut budget = Budget { entries: 16, bytes: 1 << 16 };
        let progress = file.read(cache, &mut budget, wanted, &mut |record| {
            count += 1;
            text.clear();
            export(record, &mut text);
            assert!(record.fields().all(|(_, value)| value.len() <= FIELD_LIMIT));
            assert!(text.len() < RECORD_LIMIT * 2);
        });
        match progress.expect("a slice is read without errors") {
            Progress::More => {}
            Progress::End | Progress::Broken => return count,
        }
    }
    panic!("more work than a file of {} bytes can make", data.len());
}

/// What libFuzzer calls.
pub fn run(data: &[u8]) {
    let mut cache = Cache::new();
    let all = read(&mut cache, data, Wanted::All);
    assert_eq!(read(&mut cache, data, Wanted::Named), all);
    let Some((flags, bytes)) = data.split_first() else { return };
    let mut out = Vec::new();
    payload(*flags, bytes, MAX, &mut out);
    assert!(out.len() <= MAX);
}
