//! Whatever happens: numbers stand for packets, and gaps for losses.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Frame { keyframes: u8, lost: u8, delayed: u8 },
    Target(Option<u8>),
    Temporal(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(keyframes, lost, delayed)| Step::Frame {
            keyframes: keyframes & keyframes >> 4,
            lost: lost & lost >> 4 & lost >> 2,
            delayed: delayed & delayed >> 4,
        }),
        1 => proptest::option::of(0u8..3).prop_map(Step::Target),
        1 => (0u8..3).prop_map(Step::Temporal),
    ]
}

proptest! {
    /// Three encodings, loss, packets one or more frames late, switches, pauses, temporal layers.
    #[test]
    fn a_number_stands_for_one_packet_and_a_gap_for_a_loss(
        steps in proptest::collection::vec(step(), 1..60), first in 0u16..0x8000,
    ) {
        let mut now = start();
        let mut encoders = [
            Encoder::new(0, 65_536, 1, 0),
            Encoder::new(1, 90_000, 0xFFFF_0000, 0x7FF0),
            Encoder::new(2, 131_000, 77, 100),
        ];
        let mut forwarder = Forwarder::new(Codec::Vp8, first);
        forwarder.set_target(Some(0));
        let mut delayed = Vec::new();
        let mut delivered = BTreeMap::new();
        // Number → (encoding, sequence), as sent.
        let mut sent = BTreeMap::new();
        for step in steps {
            match step {
                Step::Target(target) => {
                    forwarder.set_target(target);
                }
                Step::Temporal(max) => forwarder.set_temporal_max(max),
                Step::Frame { keyframes, lost, delayed: late } => {
                    now += Duration::from_millis(33);
                    let mut arriving = std::mem::take(&mut delayed);
                    for (index, encoder) in encoders.iter_mut().enumerate() {
                        for (at, packet) in encoder.frame(keyframes >> index & 1 == 1, now).into_iter().enumerate() {
                            if (lost as usize + at) % 8 == 7 && lost > 0 {
                                continue;
                            }
                            if late >> index & 1 == 1 && at == 1 {
                                delayed.push(packet);
                            } else {
                                arriving.push(packet);
                            }
                        }
                    }
                    for packet in arriving {
                        delivered.insert((packet.encoding, packet.sequence), packet);
                        check(&mut forwarder, &packet, &mut sent)?;
                        for (_, missed) in forwarder
                            .take_catch_up()
                            .into_iter()
                            .flat_map(|range| {
                                let encoding = packet.encoding;
                                delivered.range((encoding, *range.start())..=(encoding, *range.end()))
                            })
                        {
                            check(&mut forwarder, missed, &mut sent)?;
                        }
                    }
                }
            }
        }
        if let (Some((&begin, _)), Some((&end, _))) = (sent.first_key_value(), sent.last_key_value()) {
            prop_assert_eq!(begin, u64::from(first));
            for number in begin..=end {
                if !sent.contains_key(&number) && let Some(source) = forwarder.source_of(number as u16) {
                    prop_assert!(!delivered.contains_key(&source), "{} is a gap that nobody lost", number);
                }
            }
        }
    }
}

/// Hands over a packet and checks what is promised of every packet; `sent` maps numbers to sources.
fn check(
    forwarder: &mut Forwarder,
    packet: &MediaPacket,
    sent: &mut BTreeMap<u64, (u8, u64)>,
) -> Result<(), TestCaseError> {
    let previous = forwarder.current();
    let Decision::Forward(rewrite) = forwarder.handle(packet, &[]) else {
        return Ok(());
    };
    if previous != forwarder.current() {
        prop_assert!(packet.switch_point);
        prop_assert_eq!(forwarder.current(), Some(packet.encoding));
    }
    let source = (packet.encoding, packet.sequence);
    prop_assert_eq!(sent.insert(rewrite.sequence, source), None, "a number is given out once");
    prop_assert_eq!(forwarder.source_of(rewrite.sequence_number()), Some(source));
    prop_assert_eq!(forwarder.rewrite_again(packet), Some(rewrite));
    Ok(())
}
