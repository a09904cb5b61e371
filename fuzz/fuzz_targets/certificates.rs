//! libFuzzer's way into the target `certificates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyball_fuzz::targets::certificates(bytes));
