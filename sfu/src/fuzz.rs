//! The bodies of the fuzz targets: ordinary functions, so that the test run replays the corpora.

use crate::rtcp::{self, Rtcp};
use crate::rtp::{Extensions, RtpPacket, is_rtcp, rtx_unwrap};
use crate::track::ExtensionIds;

/// One datagram as it is after SRTP: everything that reads it, in the order of the packet path.
pub fn fuzz_rtp(data: &[u8]) {
    is_rtcp(data);
    let Ok(packet) = RtpPacket::parse(data) else {
        return;
    };
    assert_eq!(usize::from(packet.header.len) + packet.payload().len() + packet.padding_len(), data.len());
    let ids = ExtensionIds {
        mid: Some(1),
        rid: Some(2),
        repaired_rid: Some(3),
        audio_level: Some(4),
        transport_cc: Some(5),
        abs_send_time: Some(6),
        abs_capture_time: Some(7),
        dependency_descriptor: Some(8),
    };
    let found = Extensions::of(&packet.header, data, &ids);
    assert!(packet.extensions().count() <= data.len());
    if let Some(mid) = found.mid {
        assert!(mid.len() <= 255);
    }
    let mut copy = data.to_vec();
    if let Some(original) = rtx_unwrap(&mut copy, &packet.header, 96, 1) {
        let unwrapped = RtpPacket::parse(original).expect("the header was valid");
        assert_eq!(unwrapped.payload(), &packet.payload()[2..]);
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
