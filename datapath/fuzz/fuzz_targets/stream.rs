#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| datapath::stream::fuzz_stream(data));
