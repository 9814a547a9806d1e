//! Every input that the fuzzer found worth keeping.

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 7, "{} inputs in {}", count, corpus.display());
}

#[test]
fn stun() {
    replay("stun", datapath::stun::fuzz_stun);
}

#[test]
fn stream() {
    replay("stream", datapath::stream::fuzz_stream);
}
