#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sessionring_fuzz::id(data));
