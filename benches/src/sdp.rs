//! The offers of a client with one PeerConnection, and what it reads from the answers (RFC 8866, RFC 8829).

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

pub const OPUS: u8 = 111;
pub const VP8: u8 = 96;
pub const RTX: u8 = 97;

/// RTP header extension ids of our offers; an answer keeps them or leaves the extension out.
pub mod extension {
    pub const AUDIO_LEVEL: u8 = 1;
    pub const ABS_SEND_TIME: u8 = 2;
    pub const TRANSPORT_CC: u8 = 3;
    pub const MID: u8 = 4;
    pub const RID: u8 = 10;
    pub const REPAIRED_RID: u8 = 11;
}

const AUDIO_EXTENSIONS: [(u8, &str); 3] = [
    (extension::AUDIO_LEVEL, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (extension::TRANSPORT_CC, TRANSPORT_CC_URI),
    (extension::MID, "urn:ietf:params:rtp-hdrext:sdes:mid"),
];
const VIDEO_EXTENSIONS: [(u8, &str); 5] = [
    (extension::ABS_SEND_TIME, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (extension::TRANSPORT_CC, TRANSPORT_CC_URI),
    (extension::MID, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (extension::RID, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    (extension::REPAIRED_RID, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
];
const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
}

/// Sections before the one of the data channels, as livekit-client lays its first offer out: three places for audio and
/// three for video.
pub const FIRST_SECTIONS: usize = 6;

/// What of the transport stands in an offer.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    pub ufrag: String,
    pub pwd: String,
    /// `AB:CD:…`, SHA-256.
    pub fingerprint: String,
    pub address: SocketAddr,
    /// What is received is told by reports and REMB only, not packet by packet.
    pub reports_only: bool,
}

#[derive(Clone, Debug)]
pub struct OutgoingEncoding {
    pub rid: Option<&'static str>,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
}

#[derive(Clone, Debug)]
pub struct OutgoingTrack {
    /// LiveKit's `cid`: the second word of the msid.
    pub cid: String,
    pub encodings: Vec<OutgoingEncoding>,
}

/// One media section; sections are only ever appended.
#[derive(Clone, Debug)]
pub struct Section {
    pub mid: String,
    pub kind: Kind,
    /// `None`: a place for a track that the server sends.
    pub track: Option<OutgoingTrack>,
}

pub fn offer(local: &LocalTransport, version: u32, sections: &[Section]) -> String {
    let mut sdp = String::with_capacity(2048);
    write_offer(&mut sdp, local, version, sections).expect("a String takes everything");
    sdp
}

fn write_offer(sdp: &mut String, local: &LocalTransport, version: u32, sections: &[Section]) -> std::fmt::Result {
    write!(sdp, "v=0\r\no=- 4611731400430051336 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")?;
    sdp.push_str("a=group:BUNDLE");
    for (index, section) in sections.iter().enumerate() {
        write!(sdp, " {}", section.mid)?;
        if index + 1 == FIRST_SECTIONS {
            sdp.push_str(" data");
        }
    }
    sdp.push_str("\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n");
    for (index, section) in sections.iter().enumerate() {
        if index == FIRST_SECTIONS {
            write_data_section(sdp, local)?;
        }
        let (formats, extensions) = match section.kind {
            Kind::Audio => ("audio 9 UDP/TLS/RTP/SAVPF 111", AUDIO_EXTENSIONS.as_slice()),
            Kind::Video => ("video 9 UDP/TLS/RTP/SAVPF 96 97", VIDEO_EXTENSIONS.as_slice()),
        };
        write!(sdp, "m={formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n")?;
        write_transport(sdp, local)?;
        write!(sdp, "a=mid:{}\r\n", section.mid)?;
        let reports_only = local.reports_only && section.track.is_none();
        for (id, uri) in extensions.iter().filter(|(_, uri)| !(reports_only && *uri == TRANSPORT_CC_URI)) {
            write!(sdp, "a=extmap:{id} {uri}\r\n")?;
        }
        match &section.track {
            Some(track) => write!(sdp, "a=sendonly\r\na=msid:- {}\r\n", track.cid)?,
            None => sdp.push_str("a=recvonly\r\n"),
        }
        sdp.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
        sdp.push_str(match section.kind {
            Kind::Audio => {
                "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n\
                 a=fmtp:111 minptime=10;useinbandfec=1\r\n"
            }
            Kind::Video => {
                "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\n\
                 a=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\n\
                 a=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            }
        });
        if let Some(track) = &section.track {
            write_encodings(sdp, section.kind, track)?;
        }
    }
    if sections.len() == FIRST_SECTIONS {
        write_data_section(sdp, local)?;
    }
    Ok(())
}

fn write_transport(sdp: &mut String, local: &LocalTransport) -> std::fmt::Result {
    let (ip, port) = (local.address.ip(), local.address.port());
    write!(sdp, "a=candidate:1 1 udp 2122260223 {ip} {port} typ host\r\n")?;
    write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ufrag, local.pwd)?;
    write!(sdp, "a=fingerprint:sha-256 {}\r\na=setup:actpass\r\n", local.fingerprint)
}

fn write_data_section(sdp: &mut String, local: &LocalTransport) -> std::fmt::Result {
    sdp.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
    write_transport(sdp, local)?;
    sdp.push_str("a=mid:data\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n");
    Ok(())
}

fn write_encodings(sdp: &mut String, kind: Kind, track: &OutgoingTrack) -> std::fmt::Result {
    let rids: Vec<&str> = track.encodings.iter().filter_map(|e| e.rid).collect();
    if !rids.is_empty() {
        // A simulcast section names no SSRC (RFC 8853 §5, and what browsers do).
        for rid in &rids {
            write!(sdp, "a=rid:{rid} send\r\n")?;
        }
        return write!(sdp, "a=simulcast:send {}\r\n", rids.join(";"));
    }
    let cid = &track.cid;
    for OutgoingEncoding { ssrc, rtx_ssrc, .. } in &track.encodings {
        if kind == Kind::Video {
            write!(sdp, "a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\n")?;
        }
        write!(sdp, "a=ssrc:{ssrc} cname:generator\r\na=ssrc:{ssrc} msid:- {cid}\r\n")?;
        if kind == Kind::Video {
            write!(sdp, "a=ssrc:{rtx_ssrc} cname:generator\r\n")?;
            write!(sdp, "a=ssrc:{rtx_ssrc} msid:- {cid}\r\n")?;
        }
    }
    Ok(())
}

/// What the generator needs to know of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub ufrag: String,
    pub pwd: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Vec<u8>,
    /// The server starts the DTLS handshake (`a=setup:active`, RFC 8842 §5.1).
    pub server_is_dtls_client: bool,
    pub candidates: Vec<SocketAddr>,
    pub sections: Vec<AnswerSection>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerSection {
    pub mid: String,
    /// The server sends here.
    pub sends: bool,
    /// The server receives here.
    pub receives: bool,
    /// Without those of the repair streams.
    pub ssrcs: Vec<u32>,
    /// (media, repair)
    pub repair: Vec<(u32, u32)>,
    pub remb: bool,
    pub extensions: Vec<u8>,
}

pub fn parse_answer(sdp: &str) -> Result<Answer> {
    let mut answer = Answer::default();
    for line in sdp.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            answer.sections.push(AnswerSection::default());
        }
        let Some(attribute) = line.strip_prefix("a=") else {
            continue;
        };
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "ice-ufrag" => answer.ufrag = value.to_owned(),
            "ice-pwd" => answer.pwd = value.to_owned(),
            "fingerprint" => {
                let (_, hex) = value.split_once(' ').context("fingerprint without value")?;
                let octets = hex.split(':').map(|octet| u8::from_str_radix(octet, 16));
                answer.fingerprint = octets.collect::<Result<_, _>>()?;
            }
            "setup" => answer.server_is_dtls_client |= value == "active",
            "candidate" => {
                if let Some(candidate) = parse_candidate(attribute)
                    && !answer.candidates.contains(&candidate)
                {
                    answer.candidates.push(candidate);
                }
            }
            _ => {
                if let Some(section) = answer.sections.last_mut() {
                    section_attribute(section, name, value);
                }
            }
        }
    }
    for section in &mut answer.sections {
        let repair = &section.repair;
        section.ssrcs.retain(|ssrc| !repair.iter().any(|(_, rtx)| rtx == ssrc));
    }
    Ok(answer)
}

fn section_attribute(section: &mut AnswerSection, name: &str, value: &str) {
    let mut words = value.split(' ');
    match name {
        "mid" => section.mid = value.to_owned(),
        "sendonly" => section.sends = true,
        "recvonly" => section.receives = true,
        "sendrecv" => (section.sends, section.receives) = (true, true),
        "ssrc" => {
            if let Some(Ok(ssrc)) = words.next().map(str::parse)
                && !section.ssrcs.contains(&ssrc)
            {
                section.ssrcs.push(ssrc);
            }
        }
        "ssrc-group" if words.next() == Some("FID") => {
            let mut ssrcs = words.filter_map(|word| word.parse().ok());
            section.repair.extend(ssrcs.next().zip(ssrcs.next()));
        }
        "rtcp-fb" => section.remb |= value.ends_with("goog-remb"),
        "extmap" => {
            let id = words.next().and_then(|id| id.split('/').next());
            section.extensions.extend(id.and_then(|id| id.parse::<u8>().ok()));
        }
        _ => {}
    }
}

/// `candidate:…` of SDP or of a trickle message; only IPv4 over UDP is of use to the generator.
pub fn parse_candidate(candidate: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = candidate.split_whitespace().collect();
    let [_, "1", transport, _, ip, port, ..] = words[..] else {
        return None;
    };
    let address = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    (transport.eq_ignore_ascii_case("udp") && address.is_ipv4()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_where_the_server_sends() {
        let answer = parse_answer(
            "v=0\r\na=ice-lite\r\na=fingerprint:sha-256 AB:0C\r\nm=audio 9 x 111\r\na=mid:0\r\n\
             a=inactive\r\nm=video 9 x 96 97\r\na=candidate:1 1 UDP 5 10.0.0.1 3478 typ host\r\n\
             a=candidate:2 1 tcp 5 10.0.0.1 7881 typ host tcptype passive\r\na=ice-ufrag:u\r\n\
             a=ice-pwd:p\r\na=mid:1\r\na=sendonly\r\na=extmap:3 uri\r\na=rtcp-fb:96 goog-remb\r\n\
             a=ssrc-group:FID 11 12\r\na=ssrc:11 cname:c\r\na=ssrc:11 msid:a b\r\n\
             a=ssrc:12 cname:c\r\n",
        )
        .unwrap();
        assert_eq!((answer.ufrag.as_str(), answer.pwd.as_str()), ("u", "p"));
        assert_eq!(answer.fingerprint, [0xAB, 0x0C]);
        assert_eq!(answer.candidates, ["10.0.0.1:3478".parse().unwrap()]);
        assert!(!answer.sections[0].sends);
        let video = &answer.sections[1];
        assert!(video.sends && video.remb);
        assert_eq!((&video.ssrcs[..], &video.repair[..]), (&[11][..], &[(11, 12)][..]));
        assert_eq!(video.extensions, [3]);
    }
}
