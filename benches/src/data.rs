//! The three data channels that every LiveKit client opens (RFC 8831, RFC 8832). The generator sends nothing on them; they
//! are there because a participant of a call has them, and their cost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, StreamEvent,
};

/// SCTP over DTLS has no addresses of its own.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

/// Label and channel type (RFC 8832 §5.1): reliable and ordered; unordered and without retransmission.
const CHANNELS: [(&str, u8); 3] = [("_reliable", 0x00), ("_lossy", 0x81), ("_data_track", 0x81)];

pub struct DataChannels {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    /// The DTLS client takes the even streams (RFC 8832 §6).
    dtls_client: bool,
    acknowledged: usize,
}

impl DataChannels {
    pub fn connect(dtls_client: bool) -> Option<DataChannels> {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
        let (handle, association) = endpoint.connect(ClientConfig::new(), PEER).ok()?;
        Some(DataChannels { endpoint, handle, association, dtls_client, acknowledged: 0 })
    }

    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        // RFC 9260 §8.5.1: only an INIT has the verification tag 0. A server that starts an association as well (LiveKit's
        // does) will answer ours.
        if packet.get(4..8).is_none_or(|tag| tag == [0; 4]) {
            return;
        }
        let event = self.endpoint.handle(now, PEER, None, None, Bytes::copy_from_slice(packet));
        if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
            self.association.handle_event(event);
        }
        self.drain();
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.drain();
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    /// Whether the server has acknowledged all channels.
    pub fn is_open(&self) -> bool {
        self.acknowledged >= CHANNELS.len()
    }

    pub fn poll_transmit(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        let mut emit = |payload| {
            if let Payload::RawEncode(packets) = payload {
                packets.iter().for_each(|packet| send(packet));
            }
        };
        while let Some(transmit) = self.endpoint.poll_transmit() {
            emit(transmit.payload);
        }
        while let Some(transmit) = self.association.poll_transmit(now) {
            emit(transmit.payload);
        }
    }

    fn drain(&mut self) {
        loop {
            while let Some(event) = self.association.poll_endpoint_event() {
                if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                    self.association.handle_event(event);
                }
            }
            match self.association.poll() {
                Some(Event::Connected) => self.open_channels(),
                Some(Event::Stream(StreamEvent::Readable { id })) => {
                    while self.association.accept_stream().is_some() {}
                    let Ok(mut stream) = self.association.stream(id) else { continue };
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        self.acknowledged += usize::from(chunks.ppi == PayloadProtocolIdentifier::Dcep);
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn open_channels(&mut self) {
        for (index, (label, kind)) in CHANNELS.into_iter().enumerate() {
            let id = 2 * index as u16 + u16::from(!self.dtls_client);
            let Ok(mut stream) = self.association.open_stream(id, PayloadProtocolIdentifier::Binary) else { continue };
            // RFC 8832 §5.1: type, channel type, priority, reliability parameter, lengths of label and protocol.
            let mut open = BytesMut::with_capacity(32);
            open.put_slice(&[0x03, kind, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0]);
            open.put_slice(label.as_bytes());
            // A refused write shows as a channel that is never acknowledged.
            let _ = stream.write_sctp(&open.freeze(), PayloadProtocolIdentifier::Dcep);
        }
    }
}
