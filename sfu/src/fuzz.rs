//! The bodies of the fuzz targets: ordinary functions, so that the test run replays the corpora.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::dependency_descriptor::Templates;
use crate::forwarder::{Decision, Forwarder};
use crate::history::History;
use crate::media_packet::{MediaPacket, TemporalLayer};
use crate::nack::NackTracker;
use crate::rtcp::{self, Rtcp};
use crate::rtp::{Extensions, RtpHeader, RtpPacket, is_rtcp, rtx_unwrap};
use crate::sequence::{ReceiveStatistics, Received};
use crate::stream_header::{PacketFields, StreamHeader};
use crate::track::{Codec, ExtensionIds};
use crate::vp8::PictureIdUnwrapper;

/// Every extension is negotiated.
pub(crate) const IDS: ExtensionIds = ExtensionIds {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    audio_level: Some(4),
    transport_cc: Some(5),
    abs_send_time: Some(6),
    abs_capture_time: Some(7),
    dependency_descriptor: Some(8),
};

/// One datagram as it is after SRTP: everything that reads it, in the order of the packet path.
pub fn fuzz_rtp(data: &[u8]) {
    is_rtcp(data);
    let Ok(packet) = RtpPacket::parse(data) else {
        return;
    };
    let payload = packet.payload();
    assert_eq!(usize::from(packet.header.len) + payload.len() + packet.padding_len(), data.len());
    assert!(packet.extensions().count() <= data.len());
    let source = Extensions::of(&packet.header, data, &IDS);
    let mut buffer = [0; 512];
    let RtpHeader { payload_type, marker, sequence_number, timestamp, ssrc, .. } = packet.header;
    let written = StreamHeader::new(payload_type, ssrc, IDS)
        .write(&mut buffer, PacketFields { marker, sequence_number, timestamp }, &source)
        .expect("there is room for a plain header");
    let copy = RtpHeader::parse(&buffer[..written.len]).expect("what is written can be read");
    assert_eq!(usize::from(copy.len), written.len);
    assert_eq!(copy.sequence_number, packet.header.sequence_number);
    assert_eq!(Extensions::of(&copy, &buffer, &IDS).audio_level, source.audio_level);
    // Each element as a dependency descriptor: the first may bring the structure of the others.
    let mut templates = Templates::default();
    for (_, descriptor) in packet.extensions() {
        if let Ok(read) = templates.read(descriptor, 1) {
            assert!(read.temporal_id <= read.opens);
        }
    }
    for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
        let mut picture_ids = PictureIdUnwrapper::default();
        MediaPacket::describe(codec, 0, 1 << 16, &packet.header, payload, &mut picture_ids, moment());
    }
    let mut bytes = data.to_vec();
    if let Some(original) = rtx_unwrap(&mut bytes, &packet.header, 96, 1) {
        let unwrapped = RtpPacket::parse(original).expect("the header was valid");
        assert_eq!(unwrapped.payload(), &payload[2..]);
    }
}

/// One plaintext RTCP datagram: every list is walked to its end.
pub fn fuzz_rtcp(data: &[u8]) {
    let mut count = 0;
    for packet in rtcp::packets(data) {
        count += 1;
        let items = match packet {
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => reports.count(),
            Rtcp::Bye { ssrcs } | Rtcp::Remb { ssrcs, .. } => ssrcs.count(),
            Rtcp::Nack { lost, .. } => lost.count() / 17,
            Rtcp::FullIntraRequest { entries, .. } => entries.count(),
            Rtcp::TransportFeedback(feedback) => {
                let arrivals = feedback.arrivals().count();
                assert!(arrivals <= usize::from(feedback.status_count));
                0
            }
            Rtcp::PictureLoss { .. } | Rtcp::Other { .. } => 0,
        };
        assert!(items <= data.len() / 4);
    }
    assert!(count <= data.len() / 4);
}

/// A publisher who sends what it likes: each six octets are a packet or an order, from the statistics to the forwarder
/// and back from a NACK. A number must never be given out twice.
pub fn fuzz_forwarder(data: &[u8]) {
    for codec in [Codec::Vp8, Codec::H264] {
        forward_all(codec, data);
    }
}

/// A keyframe's dependency descriptor with the structure of three temporal layers, template ids 0 to 4.
const L1T3: [u8; 16] = [0xC0, 0x00, 0x00, 0x80, 0x02, 0x14, 0xEA, 0xA8, 0x60, 0x41, 0x4D, 0x14, 0x10, 0x20, 0x84, 0x26];

fn forward_all(codec: Codec, data: &[u8]) {
    let mut now = moment();
    let mut statistics = [0, 1, 2].map(|_| ReceiveStatistics::new(90_000));
    let mut picture_ids = [0, 1, 2].map(|_| PictureIdUnwrapper::default());
    let mut histories = [0, 1, 2].map(|_| History::new(4096));
    let mut missing = [0, 1, 2].map(|_| NackTracker::new(Duration::from_millis(500)));
    let mut templates = [0, 1, 2].map(|_| Templates::default());
    for templates in &mut templates {
        templates.read(&L1T3, 0).expect("a structure");
    }
    let mut forwarder = Forwarder::new(codec, 7);
    let mut sent = BTreeMap::new();
    for octets in data.chunks_exact(6) {
        let &[order, a, b, c, d, e] = octets else { continue };
        now += Duration::from_millis(u64::from(e));
        let encoding = order & 3;
        if encoding == 3 {
            forwarder.set_target((a < 3).then_some(a));
            forwarder.set_temporal_max(b & 3);
            continue;
        }
        let index = usize::from(encoding);
        let mut bytes = [0; FUZZ_PACKET_LEN];
        bytes[0] = 0x80;
        bytes[1] = 96 | order & 0x80;
        bytes[2..4].copy_from_slice(&[a, b]);
        bytes[4..8].copy_from_slice(&[order >> 2, a, b, c]);
        bytes[12..].copy_from_slice(&[c, 0xE0, 0x80 | d, a, b, d << 6 | e & 0x3F, d, e]);
        let Ok(packet) = RtpPacket::parse(&bytes) else { continue };
        let received = statistics[index].receive(packet.header.sequence_number, packet.header.timestamp, now);
        let (Received::Packet { sequence } | Received::Restarted { sequence }) = received else { continue };
        missing[index].receive(sequence, now);
        missing[index].poll(now, Duration::from_millis(50), &mut [0; 8]);
        let payload = if order & 0x40 == 0 { packet.payload() } else { &[] };
        let described =
            MediaPacket::describe(codec, encoding, sequence, &packet.header, payload, &mut picture_ids[index], now);
        let Some(mut described) = described else { continue };
        if described.layer.is_none() {
            // Of six templates the last is unknown.
            let read = templates[index].read(&[d % 6, a, b], sequence);
            described.layer = read.ok().map(TemporalLayer::from);
        }
        histories[index].store(&described, payload);
        let Decision::Forward(rewrite) = forwarder.handle(&described, &[]) else { continue };
        assert!(rewrite.payload(payload).len() <= payload.len());
        let source = (encoding, sequence);
        assert_eq!(sent.insert(rewrite.sequence, source), None);
        assert_eq!(forwarder.source_of(rewrite.sequence_number()), Some(source));
        if let Some((kept, kept_payload)) = histories[index].get(sequence) {
            let again = forwarder.rewrite_again(kept).expect("it has a number");
            assert_eq!(again.sequence, rewrite.sequence);
            again.payload(kept_payload);
        }
    }
}

/// Twelve octets of header and eight of payload.
const FUZZ_PACKET_LEN: usize = 20;

#[allow(clippy::disallowed_methods, reason = "a fuzz run needs some moment to begin at; nothing depends on which")]
fn moment() -> Instant {
    Instant::now()
}
