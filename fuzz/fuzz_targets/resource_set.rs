//! libFuzzer's way into the target `resource_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyball_fuzz::targets::resource_set(bytes));
