//! Replays the committed corpora of the fuzz targets.

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 5, "{} has hardly any input", folder.display());
    for path in paths {
        body(&std::fs::read(&path).unwrap());
    }
}

#[test]
fn rtp() {
    replay("rtp", sfu::fuzz::fuzz_rtp);
}

#[test]
fn rtcp() {
    replay("rtcp", sfu::fuzz::fuzz_rtcp);
}

#[test]
fn forwarder() {
    replay("forwarder", sfu::fuzz::fuzz_forwarder);
}
