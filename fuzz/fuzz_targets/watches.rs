#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alluxio_membership_fuzz::watches(data));
