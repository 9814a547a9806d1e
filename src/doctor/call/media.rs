//! The media side of one participant: ICE towards an ICE-lite server, DTLS-SRTP, silence out and silence in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use sfu::rtp::{RtpHeader, is_rtcp};
use sfu::transport::{MasterKeys, Profile, SrtpReceiver, SrtpSender};
use stun_rs::attributes::ice::{IceControlling, Priority, UseCandidate};
use stun_rs::attributes::stun::{Fingerprint, MessageIntegrity, UserName};
use stun_rs::methods::BINDING;
use stun_rs::{HMACKey, MessageClass, MessageEncoderBuilder, StunMessageBuilder};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::sdp::{LocalTransport, OPUS, RemoteTransport};
use crate::doctor::random;
use crate::doctor::stun;

const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// RFC 7675 §5.1 wants a consent check every 4-6 s.
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);
const FRAME_INTERVAL: Duration = Duration::from_millis(20);
/// 20 ms at 48 kHz (RFC 7587 §4.1).
const FRAME_TICKS: u32 = 960;
/// An Opus frame of silence (RFC 6716 §3.1: a CELT packet that holds nothing).
const SILENCE: [u8; 3] = [0xF8, 0xFF, 0xFE];
const RTP_HEADER: usize = 12;
const RTP_OVERHEAD: usize = 16;

/// How far a participant has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The server answered the offer.
    pub is_answered: bool,
    pub candidates: Vec<SocketAddr>,
    /// The candidate that answered a check.
    pub selected: Option<SocketAddr>,
    pub is_secured: bool,
    /// Packets of the other participant.
    pub heard: u32,
}

pub struct Media {
    socket: UdpSocket,
    pub local: LocalTransport,
    certificate: DtlsCertificate,
    remote: RemoteTransport,
    tie_breaker: u64,
    pub progress: Progress,
    next_check: Option<Instant>,
    dtls: Option<(Dtls, Option<Instant>)>,
    keys: Option<(SrtpSender, SrtpReceiver)>,
    next_frame: Option<Instant>,
    sequence: u16,
    timestamp: u32,
}

impl Media {
    pub async fn new() -> anyhow::Result<Media> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()?;
        let octets: Vec<String> =
            sfu::transport::dtls::fingerprint(&certificate.certificate).0.iter().map(|o| format!("{o:02X}")).collect();
        let local = LocalTransport {
            ufrag: random::hex(4)?,
            pwd: random::hex(16)?,
            fingerprint: octets.join(":"),
            ssrc: u32::from_be_bytes(random::octets()?),
            cid: random::hex(8)?,
        };
        Ok(Media {
            socket: stun::bind().await?,
            local,
            certificate,
            remote: RemoteTransport::default(),
            tie_breaker: u64::from_be_bytes(random::octets()?),
            progress: Progress::default(),
            next_check: None,
            dtls: None,
            keys: None,
            next_frame: None,
            sequence: 0,
            timestamp: 0,
        })
    }

    /// The answer of the server. A later one repeats the transport.
    pub fn connect(&mut self, remote: RemoteTransport) {
        if self.next_check.is_none() {
            self.progress.is_answered = true;
            self.progress.candidates.clone_from(&remote.candidates);
            self.remote = remote;
            self.next_check = Some(Instant::now());
        }
    }

    /// Until there is a datagram in `buffer`, or (`None`) something is due.
    pub async fn wait(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let dtls = self.dtls.as_ref().and_then(|(_, timeout)| *timeout);
        let due = [self.next_check, dtls, self.next_frame].into_iter().flatten().min();
        let due = due.unwrap_or_else(|| Instant::now() + CONSENT_INTERVAL);
        tokio::select! {
            received = self.socket.recv_from(buffer) => received.ok().map(|(length, from)| (length, canonical(from))),
            () = tokio::time::sleep_until(due) => None,
        }
    }

    pub fn handle_timeout(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.next_check.is_some_and(|at| at <= now) {
            self.send_checks(now)?;
        }
        if let Some((dtls, timeout)) = &mut self.dtls
            && timeout.is_some_and(|at| at <= now)
        {
            *timeout = None;
            dtls.handle_timeout(now.into_std())?;
            self.poll_dtls()?;
        }
        while self.next_frame.is_some_and(|at| at <= now) {
            self.next_frame = self.next_frame.map(|at| at + FRAME_INTERVAL);
            self.send_frame();
        }
        Ok(())
    }

    pub fn handle_datagram(&mut self, datagram: &mut [u8], from: SocketAddr) -> anyhow::Result<()> {
        // RFC 7983 §7.
        match datagram.first() {
            Some(0..=3) => self.handle_stun(datagram, from),
            Some(20..=63) => {
                if let Some((dtls, _)) = &mut self.dtls {
                    dtls.handle_packet(datagram)?;
                    self.poll_dtls()?;
                }
                Ok(())
            }
            Some(128..=191) if !is_rtcp(datagram) => {
                self.handle_rtp(datagram);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn send(&self, packet: &[u8], to: SocketAddr) {
        // What the kernel does not take is lost, as on the way.
        let _ = self.socket.try_send_to(packet, stun::mapped(&self.socket, to));
    }

    fn send_checks(&mut self, now: Instant) -> anyhow::Result<()> {
        let key = HMACKey::new_short_term(&self.remote.pwd)?;
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let message = StunMessageBuilder::new(BINDING, MessageClass::Request)
            .with_attribute(UserName::new(&username)?)
            .with_attribute(IceControlling::new(self.tie_breaker))
            .with_attribute(UseCandidate::default())
            .with_attribute(Priority::new(0x6E00_1EFF))
            .with_attribute(MessageIntegrity::new(key))
            .with_attribute(Fingerprint::default())
            .build();
        let mut buffer = [0; 256];
        let length = MessageEncoderBuilder::default().build().encode(&mut buffer, &message)?;
        let (targets, interval) = match self.progress.selected {
            Some(selected) => (vec![selected], CONSENT_INTERVAL),
            None => (self.remote.candidates.clone(), CHECK_INTERVAL),
        };
        targets.into_iter().for_each(|to| self.send(&buffer[..length], to));
        self.next_check = Some(now + interval);
        Ok(())
    }

    fn handle_stun(&mut self, datagram: &[u8], from: SocketAddr) -> anyhow::Result<()> {
        let Ok(key) = HMACKey::new_short_term(&self.remote.pwd) else {
            return Ok(());
        };
        let Some(message) = stun::decode(datagram, Some(&key)) else {
            return Ok(());
        };
        let is_answer = message.method() == BINDING && message.class() == MessageClass::SuccessResponse;
        if !is_answer || self.progress.selected.is_some() || !self.remote.candidates.contains(&from) {
            return Ok(());
        }
        self.progress.selected = Some(from);
        let now = Instant::now();
        let mut dtls = Dtls::new_12(Arc::new(Config::default()), self.certificate.clone(), now.into_std());
        dtls.set_active(true);
        // The client's state begins with its first timeout.
        dtls.handle_timeout(now.into_std())?;
        self.dtls = Some((dtls, None));
        self.poll_dtls()
    }

    fn poll_dtls(&mut self) -> anyhow::Result<()> {
        let (Some((mut dtls, _)), Some(to)) = (self.dtls.take(), self.progress.selected) else {
            return Ok(());
        };
        let mut buffer = vec![0; 4096];
        let timeout = loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => self.send(packet, to),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => break at.into(),
                Output::PeerCert(certificate) => {
                    let fingerprint = sfu::transport::dtls::fingerprint(certificate);
                    anyhow::ensure!(
                        fingerprint.0[..] == self.remote.fingerprint[..],
                        "it has another certificate than it signalled"
                    );
                }
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
                        other => anyhow::bail!("it chose the SRTP profile {other}"),
                    };
                    let keys = MasterKeys::from_keying_material(profile, &material);
                    self.keys = Some(keys.context("SRTP keys of a wrong length")?.client_contexts());
                    self.progress.is_secured = true;
                    self.next_frame = Some(Instant::now());
                }
                Output::CloseNotify => anyhow::bail!("it closed DTLS"),
                _ => {}
            }
        };
        self.dtls = Some((dtls, Some(timeout)));
        Ok(())
    }

    fn send_frame(&mut self) {
        let (Some((sender, _)), Some(to)) = (&self.keys, self.progress.selected) else {
            return;
        };
        let mut packet = [0; RTP_HEADER + SILENCE.len() + RTP_OVERHEAD];
        packet[..2].copy_from_slice(&[0x80, OPUS]);
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.local.ssrc.to_be_bytes());
        packet[12..15].copy_from_slice(&SILENCE);
        // A call of a few seconds: the sequence number does not roll over, so it is the index.
        let (length, index) = (RTP_HEADER + SILENCE.len(), u64::from(self.sequence));
        let length = sender.protect_rtp(&mut packet, RTP_HEADER, length, self.local.ssrc, index);
        self.send(&packet[..length], to);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(FRAME_TICKS);
    }

    fn handle_rtp(&mut self, packet: &mut [u8]) {
        let (Some((_, receiver)), Ok(header)) = (&mut self.keys, RtpHeader::parse(packet)) else {
            return;
        };
        let length = usize::from(header.len);
        if receiver.unprotect_rtp(packet, length, header.ssrc, header.sequence_number).is_ok() {
            self.progress.heard += 1;
        }
    }
}

/// An IPv4 address as itself, whatever socket it came from.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn mapped_addresses_are_read_as_what_they_are() {
        let mapped = SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), 5);
        assert_eq!(canonical(mapped), SocketAddr::from((Ipv4Addr::LOCALHOST, 5)));
        let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 5);
        assert_eq!(canonical(six), six);
    }
}
