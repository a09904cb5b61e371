//! libFuzzer's way into the target `model_call`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flyball_fuzz::targets::model_call(bytes));
