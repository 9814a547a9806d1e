#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| datapath::stun::fuzz_stun(data));
