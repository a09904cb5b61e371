//! libFuzzer's way into the target `report`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyball_fuzz::targets::report(bytes));
