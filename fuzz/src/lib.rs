//! What is fuzzed, one module per target, and what makes it a target of libFuzzer. `tests/corpus.rs` replays the corpora with
//! the same modules.

pub mod cloud;
pub mod decoders;
pub mod elf;
pub mod http;
pub mod journal;
pub mod json;
pub mod logs;
pub mod object;
pub mod yaml;

/// Has libFuzzer call `$run(&[u8])`.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        /// libFuzzer's entry.
        ///
        /// # Safety
        /// libFuzzer gives `size` bytes at `data`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> std::ffi::c_int {
            $run(match size {
                0 => &[],
                // SAFETY: the caller says so.
                _ => unsafe { std::slice::from_raw_parts(data, size) },
            });
            0
        }
    };
}

/// Has libFuzzer change inputs with `$spoil(&mut [u8], seed)`, as often as it does so itself.
#[macro_export]
macro_rules! mutator {
    ($spoil:path) => {
        unsafe extern "C" {
            fn LLVMFuzzerMutate(data: *mut u8, size: usize, max_size: usize) -> usize;
        }

        /// libFuzzer's entry.
        ///
        /// # Safety
        /// libFuzzer gives `max_size` bytes at `data`, of which `size` are in use.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn LLVMFuzzerCustomMutator(
            data: *mut u8,
            size: usize,
            max_size: usize,
            seed: std::ffi::c_uint,
        ) -> usize {
            if seed & 1 == 0 || size == 0 {
                // SAFETY: as this function.
                return unsafe { LLVMFuzzerMutate(data, size, max_size) };
            }
            // SAFETY: the caller says so.
            $spoil(unsafe { std::slice::from_raw_parts_mut(data, size) }, u64::from(seed));
            size
        }
    };
}
