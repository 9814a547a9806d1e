//! Every input that the fuzzer found worth keeping.

#[test]
fn stun() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/stun");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        datapath::stun::fuzz_stun(&data);
        count += 1;
    }
    assert!(count >= 10, "{} inputs in {}", count, corpus.display());
}
