//! The DTLS server of one transport (RFC 8842, RFC 5764). The peer is who its certificate's fingerprint in the offer
//! says; nothing is believed before that is checked.
//!
//! As the client, with DTLS 1.3, we would be ready a round trip earlier. But then it is the browser that chooses the profile of
//! SRTP, and of those that the library always offers Chromium (156) takes AES-CM with HMAC-SHA1 before AES-GCM.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};

use super::srtp::{MasterKeys, Profile};
use crate::command::Fingerprint;

/// The identity of this server's transports, made anew at each start (WebRTC has no other trust than the fingerprint in
/// the answer).
#[derive(Clone)]
pub struct Certificate {
    der: DtlsCertificate,
    config: Arc<Config>,
}

impl Certificate {
    /// A self-signed ECDSA P-256 certificate.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Certificate, dimpl::certificate::CertificateError> {
        let der = dimpl::certificate::generate_self_signed_certificate()?;
        let config = Config::builder()
            // ICE has proved the address before a ClientHello is looked at, so a cookie would only cost a round trip.
            .use_server_cookie(false)
            .require_client_certificate(true)
            .mtu(1200)
            .flight_start_rto(Duration::from_millis(250))
            .flight_retries(8)
            .handshake_timeout(Duration::from_secs(30))
            .build()
            .expect("a constant configuration");
        Ok(Certificate { der, config: Arc::new(config) })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.der.certificate)
    }

    /// A DTLS endpoint with this certificate, in the server's role.
    pub fn endpoint(&self, now: Instant) -> Dtls {
        Dtls::new_12(self.config.clone(), self.der.clone(), now)
    }
}

/// RFC 8122 §5.
pub fn fingerprint(certificate: &[u8]) -> Fingerprint {
    let digest = digest(&SHA256, certificate);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 octets"))
}

/// What comes out of the session.
#[derive(Debug)]
pub enum DtlsOutput<'a> {
    /// A datagram for the peer.
    Packet(&'a [u8]),
    /// Plain data of the peer: an SCTP packet.
    Data(&'a [u8]),
}

/// What the session has become.
pub enum DtlsEvent {
    /// The handshake is finished and the peer is the one of the offer.
    Keys(MasterKeys),
    /// The handshake failed, or the certificate is another one.
    Failed,
    /// The peer said goodbye.
    Closed,
}

/// One association. It outlives ICE restarts.
pub struct DtlsSession {
    dtls: Dtls,
    expected: Fingerprint,
    certificate_matches: bool,
    keys: Option<MasterKeys>,
    connected: bool,
    /// Set once; the session then does nothing more.
    ended: bool,
    /// That it ended is not known outside yet.
    end_unreported: bool,
    wake: Option<Instant>,
}

impl DtlsSession {
    pub fn new(certificate: &Certificate, expected: Fingerprint, now: Instant) -> DtlsSession {
        DtlsSession {
            dtls: certificate.endpoint(now),
            expected,
            certificate_matches: false,
            keys: None,
            connected: false,
            ended: false,
            end_unreported: false,
            wake: None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connected && !self.ended
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended { None } else { self.wake }
    }

    /// Takes a datagram. The caller polls afterwards.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if self.ended {
            return;
        }
        let outcome = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(packet));
        self.note(outcome);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.ended {
            let outcome = self.dtls.handle_timeout(now);
            self.note(outcome);
        }
    }

    /// Encrypts `data` for the peer. Without effect before the handshake is finished. The library queues few records and fails
    /// beyond them, so each leaves before the next.
    pub fn send(&mut self, data: &[u8], buffer: &mut Vec<u8>, sink: impl FnMut(DtlsOutput<'_>)) -> Option<DtlsEvent> {
        if self.is_connected() {
            let outcome = self.dtls.send_application_data(data);
            self.note(outcome);
        }
        self.poll(buffer, sink)
    }

    /// Drains what the session has to say. Called after every other call. `buffer` is scratch memory.
    pub fn poll(&mut self, buffer: &mut Vec<u8>, mut sink: impl FnMut(DtlsOutput<'_>)) -> Option<DtlsEvent> {
        if self.ended {
            return std::mem::take(&mut self.end_unreported).then_some(DtlsEvent::Failed);
        }
        let mut shaken_hands = false;
        loop {
            if buffer.len() < BUFFER {
                buffer.resize(BUFFER, 0);
            }
            match self.dtls.poll_output(buffer) {
                Output::Packet(packet) => sink(DtlsOutput::Packet(packet)),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::PeerCert(der) => self.certificate_matches = fingerprint(der) == self.expected,
                Output::KeyingMaterial(material, profile) => {
                    self.keys =
                        our_profile(profile).and_then(|profile| MasterKeys::from_keying_material(profile, &material));
                }
                Output::Connected => shaken_hands = true,
                Output::ApplicationData(data) if self.certificate_matches => sink(DtlsOutput::Data(data)),
                Output::CloseNotify => return Some(self.end(DtlsEvent::Closed)),
                // Always the last: the keys of a finished handshake have come by now.
                Output::Timeout(at) => {
                    self.wake = Some(at);
                    if !shaken_hands {
                        return None;
                    }
                    return Some(match self.keys.take() {
                        Some(keys) if self.certificate_matches => {
                            self.connected = true;
                            DtlsEvent::Keys(keys)
                        }
                        // Another certificate, or no use_srtp: not the peer of the offer.
                        _ => self.end(DtlsEvent::Failed),
                    });
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, event: DtlsEvent) -> DtlsEvent {
        self.ended = true;
        event
    }

    /// Every error of the library is fatal.
    fn note<T>(&mut self, outcome: Result<T, dimpl::Error>) {
        if outcome.is_err() {
            self.ended = true;
            self.end_unreported = true;
        }
    }
}

/// Records of ours stay below the MTU; the peer's may be larger.
const BUFFER: usize = 2048;

fn our_profile(profile: SrtpProfile) -> Option<Profile> {
    Some(match profile {
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a client against a session over a faultless wire; returns what the session became.
    #[allow(clippy::disallowed_methods)] // the start of the test's own time
    fn shake_hands(expected: impl Fn(&Certificate) -> Fingerprint) -> (DtlsEvent, DtlsSession, Dtls) {
        let now = Instant::now();
        let (ours, theirs) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let mut session = DtlsSession::new(&ours, expected(&theirs), now);
        let mut client = theirs.endpoint(now);
        client.set_active(true);
        let mut buffer = Vec::new();
        let mut client_buffer = vec![0; 4096];
        for step in 0..20 {
            let now = now + Duration::from_millis(step);
            client.handle_timeout(now).unwrap();
            loop {
                match client.poll_output(&mut client_buffer) {
                    Output::Packet(packet) => session.handle_packet(now, packet),
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
            let mut flights = Vec::new();
            let event = session.poll(&mut buffer, |output| {
                if let DtlsOutput::Packet(packet) = output {
                    flights.push(packet.to_vec());
                }
            });
            for packet in flights {
                client.handle_packet(&packet).unwrap();
            }
            if let Some(event) = event {
                return (event, session, client);
            }
        }
        panic!("no outcome");
    }

    #[test]
    fn the_peer_of_the_offer_gets_an_aead() {
        let (event, session, _) = shake_hands(Certificate::fingerprint);
        let DtlsEvent::Keys(keys) = event else { panic!("not connected") };
        assert_eq!(keys.profile, Profile::AeadAes256Gcm);
        assert!(session.is_connected());
    }

    #[test]
    fn a_burst_leaves_record_by_record() {
        let (_, mut session, mut client) = shake_hands(Certificate::fingerprint);
        let mut buffer = Vec::new();
        let mut client_buffer = vec![0; 4096];
        let mut arrived = 0;
        for number in 0..100u8 {
            let mut packets = Vec::new();
            let event = session.send(&[number; 1150], &mut buffer, |output| match output {
                DtlsOutput::Packet(packet) => packets.push(packet.to_vec()),
                DtlsOutput::Data(_) => panic!("nothing came"),
            });
            assert!(event.is_none());
            assert_eq!(packets.len(), 1);
            client.handle_packet(&packets[0]).unwrap();
            loop {
                match client.poll_output(&mut client_buffer) {
                    Output::ApplicationData(data) => {
                        assert_eq!(data, [number; 1150]);
                        arrived += 1;
                    }
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        }
        assert!(session.is_connected());
        assert_eq!(arrived, 100);
    }

    #[test]
    fn another_certificate_ends_the_session() {
        let (event, mut session, _) = shake_hands(|_| Fingerprint([0; 32]));
        assert!(matches!(event, DtlsEvent::Failed));
        assert!(!session.is_connected());
        assert!(session.poll(&mut Vec::new(), |_| panic!("it is over")).is_none(), "reported once");
        assert_eq!(session.poll_timeout(), None);
    }
}
