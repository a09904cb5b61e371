//! libFuzzer's way into the target `check_output`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyball_fuzz::targets::check_output(bytes));
