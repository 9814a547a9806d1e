//! The offer of a participant with one microphone, and what it reads from the answer (RFC 8829).

use std::fmt::Write as _;
use std::net::SocketAddr;

pub const OPUS: u8 = 111;

/// The first section sends, the second receives.
const DIRECTIONS: [&str; 2] = ["sendonly", "recvonly"];

/// What of the transport stands in an offer.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    pub ufrag: String,
    pub pwd: String,
    /// `AB:CD:…`, SHA-256.
    pub fingerprint: String,
    pub ssrc: u32,
    /// LiveKit's name for the track before it has one: the second word of the msid.
    pub cid: String,
}

pub fn offer(local: &LocalTransport, version: u32) -> String {
    let mut sdp = format!(
        "v=0\r\no=- 7129465783014562 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         a=msid-semantic: WMS\r\n"
    );
    for (mid, direction) in DIRECTIONS.iter().enumerate() {
        let LocalTransport { ufrag, pwd, fingerprint, ssrc, cid } = local;
        let _ = write!(
            sdp,
            "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
             a=mid:{mid}\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na={direction}\r\na=rtcp-mux\r\n\
             a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
        );
        if *direction == "sendonly" {
            let _ = write!(sdp, "a=msid:- {cid}\r\na=ssrc:{ssrc} cname:doctor\r\na=ssrc:{ssrc} msid:- {cid}\r\n");
        }
    }
    sdp
}

/// The server's transport, as its answer describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTransport {
    pub ufrag: String,
    pub pwd: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Vec<u8>,
    /// Host candidates over UDP.
    pub candidates: Vec<SocketAddr>,
}

impl RemoteTransport {
    pub fn parse(answer: &str) -> RemoteTransport {
        let mut remote = RemoteTransport::default();
        for attribute in answer.lines().filter_map(|line| line.trim_end().strip_prefix("a=")) {
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => remote.ufrag = value.to_owned(),
                "ice-pwd" => remote.pwd = value.to_owned(),
                "fingerprint" => {
                    let hex = value.split_once(' ').map_or("", |(_, hex)| hex);
                    remote.fingerprint =
                        hex.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
                }
                "candidate" => remote.candidates.extend(candidate(value)),
                _ => {}
            }
        }
        remote
    }
}

/// RFC 8839 §5.1: foundation, component, transport, priority, address, port.
fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let [_, "1", transport, _, ip, port, ..] = words[..] else {
        return None;
    };
    let address = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    transport.eq_ignore_ascii_case("udp").then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_the_transport() {
        let remote = RemoteTransport::parse(
            "v=0\r\na=ice-lite\r\na=fingerprint:sha-256 AB:0C\r\nm=audio 9 x 111\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
             a=candidate:1 1 UDP 5 10.0.0.1 3478 typ host\r\na=candidate:2 1 udp 4 2001:db8::1 3478 typ host\r\n\
             a=candidate:3 1 tcp 5 10.0.0.1 7881 typ host tcptype passive\r\n",
        );
        assert_eq!((remote.ufrag.as_str(), remote.pwd.as_str()), ("u", "p"));
        assert_eq!(remote.fingerprint, [0xAB, 0x0C]);
        let candidates: Vec<String> = remote.candidates.iter().map(ToString::to_string).collect();
        assert_eq!(candidates, ["10.0.0.1:3478", "[2001:db8::1]:3478"]);
    }
}
