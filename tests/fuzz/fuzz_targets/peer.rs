#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kithd_fuzz::peer::run(data));
