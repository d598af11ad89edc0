// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What each file in fuzz_targets/ is made of.

pub use libfuzzer_sys;

unsafe extern "C" {
    static mut __start___sancov_cntrs: u8;
    static mut __stop___sancov_cntrs: u8;
}

/// What was covered so far is not this input's doing: bringing a card to where an input begins covers a
/// thousand edges, always the same, and libFuzzer looks at each of them.
pub fn forget_coverage() {
    // SAFETY: the linker makes both symbols, for the begin and the end of the section of counters, which are
    // bytes that are written without any order by this, the only thread.
    unsafe {
        let begin = &raw mut __start___sancov_cntrs;
        let bytes = (&raw mut __stop___sancov_cntrs).offset_from_unsigned(begin);
        begin.write_bytes(0, bytes);
    }
}

/// A target for libFuzzer from the function of one of `fw_fuzz::targets`; not from the table, which would
/// bring all of them.
#[macro_export]
macro_rules! target {
    ($run:path) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: fw_fuzz::set_begin_hook($crate::forget_coverage),
            |data: &[u8]| $run(data)
        );

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
