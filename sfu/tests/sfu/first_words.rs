//! Who has just come hears before it sees.

use std::net::SocketAddr;

use datapath::Endpoint;
use sfu::Codec;

use crate::call::{AUDIO_MID, Call, OPUS, Rtp, VIDEO, VIDEO_MID, h264};

#[test]
fn the_first_words_go_ahead_of_the_first_picture() {
    for transport_cc in [true, false] {
        let mut call = Call::new();
        let anna = call.join();
        let (voice, picture) = (call.publish(anna, Codec::Opus), call.publish(anna, Codec::H264));
        call.run_for_ms(500);
        // The picture is being asked for as soon as his transport is up.
        let bert = call.join();
        let came = call.at_ms();
        let (heard, _) = call.subscribe(bert, voice, transport_cc);
        let (seen, _) = call.subscribe(bert, picture, transport_cc);
        let rtp = Rtp {
            ssrc: 1,
            payload_type: OPUS,
            sequence: 0,
            timestamp: 0,
            mid: Some(AUDIO_MID),
            audio_level: Some(20),
            payload: &[1; 100],
        };
        let keyframe = h264(true, 1_000);
        for word in 0..10 {
            let picture = Rtp { ssrc: 2, payload_type: VIDEO, mid: Some(VIDEO_MID), audio_level: None, ..rtp };
            call.send(anna, Rtp { sequence: word, timestamp: word as u32 * 1800, payload: &keyframe, ..picture });
            call.send(anna, Rtp { sequence: word, timestamp: word as u32 * 960, ..rtp });
            call.run_for_ms(20);
        }
        let words: Vec<u64> = call.members[bert].media_of(heard).iter().map(|media| media.at_ms - came).collect();
        let pictures: Vec<u64> = call.members[bert].media_of(seen).iter().map(|media| media.at_ms - came).collect();
        assert_eq!(words[..3], [0, 20, 40]);
        assert!((60..80).contains(&pictures[0]), "{pictures:?}");
    }
}

#[test]
fn who_comes_in_between_two_words_hears_the_last_one_at_once_and_no_older_one() {
    for (pause_ms, expected) in [(15, vec![1, 2]), (90, vec![2])] {
        let mut call = Call::new();
        let anna = call.join();
        let voice = call.publish(anna, Codec::Opus);
        let bert = call.enter();
        let (heard, _) = call.subscribe(bert, voice, false);
        let say = |call: &mut Call, word: u8| {
            let rtp = Rtp {
                ssrc: 1,
                payload_type: OPUS,
                sequence: word.into(),
                timestamp: u32::from(word) * 960,
                mid: Some(AUDIO_MID),
                audio_level: Some(20),
                payload: &[word; 100],
            };
            call.send(anna, rtp);
        };
        say(&mut call, 0);
        call.run_for_ms(20);
        say(&mut call, 1);
        call.run_for_ms(pause_ms);
        let came = call.at_ms();
        let local = Endpoint::Listener { index: 0, ip: [10, 0, 0, 1].into() };
        call.check(bert, local, SocketAddr::from(([10, 0, 1, 9], 40_000)));
        call.run_for_ms(5);
        say(&mut call, 2);
        call.run_for_ms(20);
        let words = call.members[bert].media_of(heard);
        assert_eq!(words.iter().map(|media| media.payload[0]).collect::<Vec<_>>(), expected);
        assert_eq!(words[0].at_ms - came, if expected.len() == 2 { 0 } else { 5 });
        assert!(words.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    }
}
