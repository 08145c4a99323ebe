//! A line like one before costs no allocation, whatever it is wrapped in. The allocator that counts has a test binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nodeprobe::logs::formats::by_name;
use nodeprobe::logs::pattern::Caps;
use nodeprobe::logs::pipeline::Pipeline;

struct Counting;

thread_local! {
    /// Allocations of this thread: the harness has others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: all calls go to the system's allocator as they come.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as this function.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as this function.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_known_line_allocates_nothing() {
    let lines: Vec<&str> = include_str!("fixtures/logs/labelled.txt")
        .lines()
        .filter_map(|row| row.split_once('\t').map(|row| row.1))
        .chain([
            "\x1b[31mERROR\x1b[0m coloured 1",
            "Traceback (most recent call last):",
            "  File \"a\"",
            "KeyError: 1",
        ])
        .collect();
    for format in ["plain", "cri", "docker"] {
        let records: Vec<Vec<u8>> = lines
            .iter()
            .map(|line| match format {
                "cri" => format!("2026-01-02T10:00:00.000000000Z stdout F {line}").into_bytes(),
                "docker" => {
                    let mut record = b"{\"log\":".to_vec();
                    nodeprobe::json::write_string(&mut record, &format!("{line}\n"));
                    record.extend(b",\"stream\":\"stdout\"}");
                    record
                }
                _ => line.as_bytes().to_vec(),
            })
            .collect();
        let mut pipeline = Pipeline::new(by_name(format).expect("a format"), Caps::CONTAINER);
        let pass = |pipeline: &mut Pipeline| {
            for record in &records {
                pipeline.record(record, 0);
            }
        };
        // Twice: what is folded late has a place of its own only then.
        pass(&mut pipeline);
        pass(&mut pipeline);
        let before = COUNT.get();
        for _ in 0..10 {
            pass(&mut pipeline);
        }
        assert_eq!(COUNT.get() - before, 0, "{format}");
    }
}
