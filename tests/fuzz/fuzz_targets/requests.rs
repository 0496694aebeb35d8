#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kithd_fuzz::requests::run(data));
