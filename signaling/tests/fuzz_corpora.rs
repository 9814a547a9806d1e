//! The inputs that fuzzing keeps, and the real clients' offers, run with every test.

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 4, "{count} inputs in {}", folder.display());
}

#[test]
fn offers() {
    replay("sdp", signaling::fuzz_sdp);
}

#[test]
fn join_requests() {
    replay("join_request", signaling::fuzz_join_request);
}

#[test]
fn sessions() {
    replay("session", signaling::fuzz_session);
}

#[test]
fn token_requests() {
    replay("token_request", signaling::fuzz_token_request);
}

#[test]
fn transactions() {
    replay("transaction", signaling::fuzz_transaction);
}

#[test]
fn proxy_headers() {
    replay("proxy_header", signaling::fuzz_proxy_header);
}

#[test]
fn websockets() {
    replay("websocket", signaling::fuzz_websocket);
}

/// Every prefix of a real offer, and every real offer with one line missing, is refused or answered.
#[test]
fn damaged_offers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/sdp");
    for name in ["rtcnode_1.1.0_join_offer.sdp", "chromium156_offer_v1_layout.sdp"] {
        let offer = std::fs::read_to_string(folder.join(name)).unwrap();
        let lines: Vec<&str> = offer.split_inclusive('\n').collect();
        for missing in (0..lines.len()).step_by(7) {
            let damaged: String =
                lines.iter().enumerate().filter(|(index, _)| *index != missing).map(|(_, line)| *line).collect();
            signaling::fuzz_sdp(damaged.as_bytes());
            signaling::fuzz_sdp(lines[..missing].concat().as_bytes());
        }
    }
}

/// Requests for tokens with some octets replaced by others that JSON or the answers know.
#[test]
fn damaged_token_requests() {
    const PIECES: [&str; 16] =
        ["\"", "{", "}", "[", "]", ":", ",", "\\", "\n", "null", "true", "false", "200", "400", "\u{e4}", "9"];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/token_request");
    let inputs: Vec<Vec<u8>> =
        std::fs::read_dir(&folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    let changes = proptest::collection::vec((0..1_000_usize, 0..12_usize, 0..PIECES.len()), 1..4);
    proptest::proptest!(proptest::prelude::ProptestConfig::with_cases(2_000), |(input in 0..inputs.len(), changes in changes)| {
        let mut input = inputs[input].clone();
        for (at, length, piece) in changes {
            let start = at.min(input.len());
            let end = (start + length).min(input.len());
            input.splice(start..end, PIECES[piece].bytes());
        }
        signaling::fuzz_token_request(&input);
    });
}
