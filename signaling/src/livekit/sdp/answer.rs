//! Our answers (RFC 8829 §5.3).

use std::fmt::Write;
use std::net::SocketAddr;

use sfu::{Fingerprint, IceCredentials, Kind};

use super::codec::{self, Choice};
use super::extension::{self, Role};
use super::offer::{Format, Offer, Section, SectionKind};

/// RFC 8841 §6.1: what we take in one data channel message.
const MAX_MESSAGE_SIZE: usize = 65_536;

/// The stream that we send in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendStream {
    pub choice: Choice,
    /// `a=msid` stream and track id.
    pub stream_id: String,
    pub track_id: String,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionAnswer {
    /// Port 0.
    Rejected,
    /// Alive, without media for now.
    Idle,
    /// The same, with codecs of the client's that we do not have. Were it rejected, the client would take it for stopped, and
    /// could neither change its codec nor tell the next track from it.
    Foreign,
    Application,
    Receive {
        choice: Choice,
        /// Format parameters for this section instead of the client's own.
        fmtp: Option<String>,
        /// Simulcast streams that we take.
        rids: Vec<String>,
    },
    Send(SendStream),
}

#[derive(Clone, Debug)]
pub struct Answer<'a> {
    pub session_id: u64,
    pub session_version: u64,
    pub ice: &'a IceCredentials,
    pub fingerprint: Fingerprint,
    pub candidates: &'a [SocketAddr],
    /// Passive TCP candidates (RFC 6544).
    pub tcp_candidates: &'a [SocketAddr],
    /// One for each section of the offer, in its order.
    pub sections: Vec<SectionAnswer>,
}

impl Answer<'_> {
    pub fn write(&self, offer: &Offer) -> String {
        // Writing to a String cannot fail; the `write!` results below are dropped for that reason.
        let mut out = String::with_capacity(512 + 700 * self.sections.len());
        let _ =
            write!(out, "v=0\r\no=- {} {} IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", self.session_id, self.session_version);
        let alive: Vec<&str> = offer
            .sections
            .iter()
            .zip(&self.sections)
            .filter(|(_, answer)| **answer != SectionAnswer::Rejected)
            .map(|(section, _)| section.mid.as_str())
            .collect();
        let _ = write!(out, "a=group:BUNDLE {}\r\na=ice-lite\r\n", alive.join(" "));
        if offer.extmap_allow_mixed {
            out.push_str("a=extmap-allow-mixed\r\n");
        }
        out.push_str("a=msid-semantic: WMS *\r\n");
        let mut candidates = Some(self.candidates);
        for (section, answer) in offer.sections.iter().zip(&self.sections) {
            match answer {
                SectionAnswer::Rejected => {
                    reject(&mut out, section);
                    continue;
                }
                SectionAnswer::Application => {
                    out.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n");
                    self.transport(&mut out, section);
                    let _ = write!(out, "a=sctp-port:5000\r\na=max-message-size:{MAX_MESSAGE_SIZE}\r\n");
                }
                SectionAnswer::Idle => {
                    let choices = codec::supported(section);
                    self.media(&mut out, section, &choices, None, Role::Subscribe);
                    out.push_str("a=inactive\r\n");
                }
                SectionAnswer::Foreign => {
                    let _ = write!(out, "m={} 9 {} {}\r\n", section.media, section.proto, section.fmt);
                    self.transport(&mut out, section);
                    out.push_str("a=rtcp-mux\r\n");
                    for format in &section.formats {
                        write_format(&mut out, format, None, &[]);
                    }
                    out.push_str("a=inactive\r\n");
                }
                SectionAnswer::Receive { choice, fmtp, rids } => {
                    self.media(&mut out, section, &[*choice], fmtp.as_deref(), Role::Publish);
                    out.push_str("a=recvonly\r\n");
                    for rid in rids {
                        let _ = write!(out, "a=rid:{rid} recv\r\n");
                    }
                    if !rids.is_empty() {
                        let _ = write!(out, "a=simulcast:recv {}\r\n", rids.join(";"));
                    }
                }
                SectionAnswer::Send(stream) => {
                    self.media(&mut out, section, &[stream.choice], None, Role::Subscribe);
                    out.push_str("a=sendonly\r\n");
                    describe(&mut out, stream);
                }
            }
            if let Some(candidates) = candidates.take() {
                for (index, address) in candidates.iter().enumerate() {
                    candidate(&mut out, index, *address);
                }
                for (index, address) in self.tcp_candidates.iter().enumerate() {
                    tcp_candidate(&mut out, candidates.len() + index, *address);
                }
                out.push_str("a=end-of-candidates\r\n");
            }
        }
        out
    }

    fn media(&self, out: &mut String, section: &Section, choices: &[Choice], fmtp: Option<&str>, role: Role) {
        let kind = match section.kind {
            SectionKind::Audio => Kind::Audio,
            _ => Kind::Video,
        };
        let _ = write!(out, "m={} 9 {}", section.media, section.proto);
        for choice in choices {
            let _ = write!(out, " {}", choice.payload_type);
            if let Some(rtx) = choice.rtx_payload_type {
                let _ = write!(out, " {rtx}");
            }
        }
        out.push_str("\r\n");
        self.transport(out, section);
        out.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
        for choice in choices {
            if let Some(format) = section.format(choice.payload_type) {
                write_format(out, format, fmtp, extension::accepted_feedback(role, kind));
            }
            if let Some(format) = choice.rtx_payload_type.and_then(|pt| section.format(pt)) {
                write_format(out, format, None, &[]);
            }
        }
        let published = choices.first().filter(|_| role == Role::Publish).map(|choice| choice.key.codec());
        for (id, uri) in extension::lines(section, kind, published) {
            let _ = write!(out, "a=extmap:{id} {uri}\r\n");
        }
    }

    fn transport(&self, out: &mut String, section: &Section) {
        let _ = write!(
            out,
            "c=IN IP4 0.0.0.0\r\na=mid:{}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\n\
             a=setup:passive\r\n",
            section.mid,
            self.ice.ufrag,
            self.ice.pwd,
            hex(&self.fingerprint)
        );
    }
}

fn hex(fingerprint: &Fingerprint) -> String {
    let pairs: Vec<String> = fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn reject(out: &mut String, section: &Section) {
    let _ = write!(
        out,
        "m={} 0 {} {}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=inactive\r\n",
        section.media, section.proto, section.fmt, section.mid
    );
}

fn write_format(out: &mut String, format: &Format, fmtp: Option<&str>, feedback: &[&str]) {
    let pt = format.payload_type;
    let _ = write!(out, "a=rtpmap:{pt} {}/{}", format.name, format.clock_rate);
    if format.channels > 1 {
        let _ = write!(out, "/{}", format.channels);
    }
    out.push_str("\r\n");
    for wish in &format.feedback {
        if feedback.contains(&wish.as_str()) {
            let _ = write!(out, "a=rtcp-fb:{pt} {wish}\r\n");
        }
    }
    let fmtp = fmtp.unwrap_or(&format.fmtp);
    if !fmtp.is_empty() {
        let _ = write!(out, "a=fmtp:{pt} {fmtp}\r\n");
    }
}

fn describe(out: &mut String, stream: &SendStream) {
    let SendStream { stream_id, track_id, ssrc, rtx_ssrc, .. } = stream;
    let _ = write!(out, "a=msid:{stream_id} {track_id}\r\n");
    if let Some(rtx) = rtx_ssrc {
        let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
    }
    for ssrc in [Some(*ssrc), *rtx_ssrc].into_iter().flatten() {
        let _ = write!(out, "a=ssrc:{ssrc} cname:{stream_id}\r\n");
    }
}

/// RFC 8839 §5.1. The first address is the most preferred: RFC 8445 §5.1.2.1 with type preference 126, component 1.
fn candidate(out: &mut String, index: usize, address: SocketAddr) {
    let local_preference = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let priority = (126 << 24) | (local_preference << 8) | 255;
    let _ = write!(out, "a=candidate:{} 1 udp {priority} {} {} typ host\r\n", index + 1, address.ip(), address.port());
}

/// RFC 6544 §4.2: the direction preference of a passive candidate of a controlled agent is 4; and whatever goes over
/// UDP goes before.
fn tcp_candidate(out: &mut String, index: usize, address: SocketAddr) {
    let other_preference = 8_191_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let priority = (90 << 24) | ((4 << 13 | other_preference) << 8) | 255;
    let (ip, port) = (address.ip(), address.port());
    let _ = write!(out, "a=candidate:{} 1 tcp {priority} {ip} {port} typ host tcptype passive\r\n", index + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: &[u8] = include_bytes!("../../../fuzz/corpus/sdp/chromium156_offer_publish_simulcast.sdp");

    fn answer(sections: Vec<SectionAnswer>, offer: &Offer) -> String {
        Answer {
            session_id: 7,
            session_version: 2,
            ice: &IceCredentials { ufrag: "00abcdef".into(), pwd: "0123456789012345678901".into() },
            fingerprint: Fingerprint([0xab; 32]),
            candidates: &["192.0.2.1:3478".parse().unwrap(), "[2001:db8::1]:3478".parse().unwrap()],
            tcp_candidates: &["192.0.2.1:443".parse().unwrap()],
            sections,
        }
        .write(offer)
    }

    #[test]
    fn an_answer_reads_as_a_session_description_again() {
        let offer = Offer::parse(PUBLISH).unwrap();
        let video = codec::choose_for_publisher(&offer.sections[7], Some("vp8")).unwrap();
        let opus = codec::choose_for_publisher(&offer.sections[6], None).unwrap();
        let down = codec::choose_for_subscriber(&offer.sections[3], video.key).unwrap();
        let mut sections = vec![SectionAnswer::Idle; 9];
        sections[1] = SectionAnswer::Rejected;
        sections[3] = SectionAnswer::Send(SendStream {
            choice: down,
            stream_id: "PA_b|TR_v".into(),
            track_id: "TR_v".into(),
            ssrc: 11,
            rtx_ssrc: Some(12),
        });
        sections[6] = SectionAnswer::Receive {
            choice: opus,
            fmtp: Some("minptime=10;useinbandfec=1;usedtx=1".into()),
            rids: vec![],
        };
        sections[7] =
            SectionAnswer::Receive { choice: video, fmtp: None, rids: vec!["q".into(), "h".into(), "f".into()] };
        sections[8] = SectionAnswer::Application;
        let text = answer(sections, &offer);
        let session = sdp_types::Session::parse(text.as_bytes()).unwrap();
        assert_eq!(session.medias.len(), 9);
        assert!(text.contains("a=group:BUNDLE 7 9 10 11 12 13 14 15\r\n"));
        assert_eq!(session.medias[1].port, 0);
        assert_eq!(session.medias[3].fmt, "96 97");
        let of = |index: usize| {
            let all: Vec<String> = session.medias[index]
                .attributes
                .iter()
                .map(|a| format!("{}:{}", a.attribute, a.value.as_deref().unwrap_or("")))
                .collect();
            all
        };
        assert!(of(3).contains(&"ssrc-group:FID 11 12".to_owned()));
        assert!(of(3).contains(&"rtcp-fb:96 goog-remb".to_owned()));
        assert!(of(3).contains(&"rtcp-fb:96 transport-cc".to_owned()));
        assert!(of(7).contains(&"simulcast:recv q;h;f".to_owned()));
        assert!(of(7).contains(&"rtcp-fb:96 transport-cc".to_owned()));
        assert!(!of(7).iter().any(|line| line.contains("goog-remb") || line.contains("dependency-descriptor")));
        assert!(of(6).contains(&"fmtp:111 minptime=10;useinbandfec=1;usedtx=1".to_owned()));
        assert!(of(0).contains(&"candidate:2 1 udp 2130706175 2001:db8::1 3478 typ host".to_owned()));
        assert!(!of(3).iter().any(|line| line.starts_with("candidate")));
        assert!(text.lines().all(|line| !line.is_empty()));
    }
}
