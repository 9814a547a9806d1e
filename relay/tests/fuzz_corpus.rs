//! Every history that the fuzzer found worth keeping, and random ones.

use proptest::prelude::*;

#[test]
fn server() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/server");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        relay::fuzz::fuzz_server(&data);
        count += 1;
    }
    assert!(count >= 10, "{} inputs in {}", count, corpus.display());
}

proptest! {
    #[test]
    fn any_history(data in prop::collection::vec(any::<u8>(), 0..600)) {
        relay::fuzz::fuzz_server(&data);
    }
}
