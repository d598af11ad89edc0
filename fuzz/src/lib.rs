// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each file in fuzz_targets/ is made of.

pub use libfuzzer_sys;

/// A target for libFuzzer of one of `fw_fuzz::targets`.
#[macro_export]
macro_rules! target {
    ($target:path) => {
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| ($target.run)(data));

        /// AddressSanitizer's own defaults cost half of the rate: a quarantine that spoils the processor's
        /// caches, the stack of each allocation, and stack frames on the heap. The command line's win.
        // SAFETY: AddressSanitizer declares this name for programs to define, without arguments, and reads
        // a C string from it.
        #[unsafe(no_mangle)]
        pub extern "C" fn __asan_default_options() -> *const core::ffi::c_char {
            c"quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=0:detect_stack_use_after_return=0"
                .as_ptr()
        }
    };
}
