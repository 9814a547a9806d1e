//! The data channels of one transport: SCTP over DTLS (RFC 8831), opened by the peer in-band (RFC 8832).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use sctp_proto::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier,
    ReliabilityType, ServerConfig, StreamEvent, StreamId, TransportConfig,
};

use super::allowance::Allowance;

/// The largest message we take and send, octets; also what the answer says (`a=max-message-size`).
pub const MESSAGE_MAX: usize = 65_536;
/// LiveKit's clients open three; a stranger may open a few of his own.
const CHANNELS_MAX: usize = 16;
const LABEL_MAX: usize = 128;
/// Messages that it may send, at once and a second: what applications need that send positions or strokes, several of them at
/// once. Each goes to everybody in the room.
const MESSAGES_AT_ONCE: f64 = 2_000.0;
const MESSAGES_PER_SECOND: f64 = 1_000.0;

/// SCTP over DTLS has no addresses of its own.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000);

struct Channel {
    stream: StreamId,
    label: String,
}

/// One association and its channels. It costs little until the peer opens it.
pub struct DataChannels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    channels: Vec<Channel>,
    /// Reliable messages for channels that are not open yet.
    waiting: VecDeque<(&'static str, Bytes)>,
    waiting_bytes: usize,
    buffer_bytes_max: usize,
    received: VecDeque<(String, Bytes)>,
    allowance: Allowance,
    /// Have messages that are not taken yet, because there were too many: when the window is full the peer waits.
    unread: Vec<StreamId>,
}

/// What became of a message to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Accepted,
    /// The peer takes its data too slowly, or has no such channel.
    Dropped,
}

impl DataChannels {
    /// `buffer_bytes_max`: octets that may wait for the peer.
    pub fn new(buffer_bytes_max: usize) -> DataChannels {
        let transport = TransportConfig::default()
            .with_max_receive_message_size(MESSAGE_MAX as u32)
            .with_max_send_message_size(MESSAGE_MAX as u32)
            .with_max_receive_buffer_size(256 * 1024)
            .with_max_num_inbound_streams(1024)
            .with_max_num_outbound_streams(1024)
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None);
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport);
        DataChannels {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::new()), Some(Arc::new(server))),
            association: None,
            channels: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            buffer_bytes_max,
            received: VecDeque::new(),
            allowance: Allowance::new(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE),
            unread: Vec::new(),
        }
    }

    /// Takes one SCTP packet.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let packet = Bytes::copy_from_slice(packet);
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                // A peer that starts over gets a new association and opens its channels again.
                self.association = Some((handle, association));
                self.channels.clear();
                self.unread.clear();
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((ours, association)) = &mut self.association
                    && *ours == handle
                {
                    association.handle_event(event);
                }
            }
            None => {}
        }
        self.drain(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        for id in std::mem::take(&mut self.unread) {
            self.read(now, id);
        }
        self.drain(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.allowance.next().filter(|_| !self.unread.is_empty());
        [self.association.as_ref()?.1.poll_timeout(), next].into_iter().flatten().min()
    }

    /// The next message of the peer, with its channel's label.
    pub fn poll_message(&mut self) -> Option<(String, Bytes)> {
        self.received.pop_front()
    }

    /// Whether the peer has begun an association.
    pub fn is_open(&self) -> bool {
        self.association.is_some()
    }

    /// Gives every packet that is to be sent now to `send`.
    pub fn poll_transmit(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            emit(transmit.payload, &mut send);
        }
        if let Some((_, association)) = &mut self.association {
            while let Some(transmit) = association.poll_transmit(now) {
                emit(transmit.payload, &mut send);
            }
        }
    }

    /// Sends one message on the channel with this label. `wait`: keep it until the channel opens.
    pub fn send(&mut self, label: &'static str, message: Bytes, wait: bool) -> Sent {
        if message.len() > MESSAGE_MAX {
            return Sent::Dropped;
        }
        match self.channels.iter().find(|channel| channel.label == label).map(|channel| channel.stream) {
            Some(stream) => self.write(stream, &message),
            None if wait && self.waiting_bytes + message.len() <= self.buffer_bytes_max => {
                self.waiting_bytes += message.len();
                self.waiting.push_back((label, message));
                Sent::Accepted
            }
            None => Sent::Dropped,
        }
    }

    fn write(&mut self, stream: StreamId, message: &Bytes) -> Sent {
        let limit = self.buffer_bytes_max;
        let Some((_, association)) = &mut self.association else { return Sent::Dropped };
        let Ok(mut stream) = association.stream(stream) else { return Sent::Dropped };
        // RFC 8831 §6.6: an empty message is sent as one octet with a payload protocol of its own.
        let (payload, protocol) = match message.is_empty() {
            true => (Bytes::from_static(&[0]), PayloadProtocolIdentifier::BinaryEmpty),
            false => (message.clone(), PayloadProtocolIdentifier::Binary),
        };
        if stream.buffered_amount().is_ok_and(|queued| queued + payload.len() > limit) {
            return Sent::Dropped;
        }
        match stream.write_sctp(&payload, protocol) {
            Ok(_) => Sent::Accepted,
            Err(_) => Sent::Dropped,
        }
    }

    /// Works off the association's events.
    fn drain(&mut self, now: Instant) {
        loop {
            let Some((handle, association)) = &mut self.association else { return };
            while let Some(event) = association.poll_endpoint_event() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    association.handle_event(event);
                }
            }
            match association.poll() {
                Some(Event::Stream(StreamEvent::Readable { id } | StreamEvent::Opened { id })) => self.read(now, id),
                Some(Event::Stream(StreamEvent::Finished { id })) => {
                    self.channels.retain(|channel| channel.stream != id);
                }
                Some(Event::AssociationLost { .. } | Event::HandshakeFailed { .. }) => {
                    self.association = None;
                    self.channels.clear();
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn read(&mut self, now: Instant, id: StreamId) {
        if self.unread.contains(&id) {
            return;
        }
        loop {
            let Some((_, association)) = &mut self.association else { return };
            // Accepting is what takes a new stream off the association's list.
            while association.accept_stream().is_some() {}
            let Ok(mut stream) = association.stream(id) else { return };
            if !self.allowance.admits(now) {
                return self.unread.push(id);
            }
            let Ok(Some(chunks)) = stream.read_sctp() else { return };
            self.allowance.spend();
            let mut message = vec![0; chunks.len()];
            if chunks.read(&mut message).is_err() {
                return;
            }
            match chunks.ppi {
                PayloadProtocolIdentifier::Dcep => self.handle_dcep(id, &message),
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty => {
                    self.deliver(id, Bytes::new());
                }
                _ => self.deliver(id, message.into()),
            }
        }
    }

    fn deliver(&mut self, id: StreamId, message: Bytes) {
        if let Some(channel) = self.channels.iter().find(|channel| channel.stream == id) {
            self.received.push_back((channel.label.clone(), message));
        }
    }

    fn handle_dcep(&mut self, id: StreamId, message: &[u8]) {
        let Some(open) = Open::parse(message) else { return };
        let Some((_, association)) = &mut self.association else { return };
        let Ok(mut stream) = association.stream(id) else { return };
        if self.channels.len() >= CHANNELS_MAX {
            let _ = stream.stop();
            return;
        }
        // RFC 8832 §6: both directions have the same parameters; the ACK itself is sent reliably and in order.
        let _ = stream.write_sctp(&Bytes::from_static(&[DATA_CHANNEL_ACK]), PayloadProtocolIdentifier::Dcep);
        let _ = stream.set_reliability_params(open.unordered, open.reliability, open.parameter);
        let label = open.label;
        self.channels.retain(|channel| channel.stream != id);
        self.channels.push(Channel { stream: id, label });
        self.flush_waiting(id);
    }

    fn flush_waiting(&mut self, id: StreamId) {
        let Some(label) = self.channels.iter().find(|channel| channel.stream == id).map(|c| c.label.clone()) else {
            return;
        };
        let waiting = std::mem::take(&mut self.waiting);
        for (wanted, message) in waiting {
            if wanted == label {
                self.waiting_bytes -= message.len();
                self.write(id, &message);
            } else {
                self.waiting.push_back((wanted, message));
            }
        }
    }
}

fn emit(payload: Payload, send: &mut impl FnMut(&[u8])) {
    if let Payload::RawEncode(packets) = payload {
        packets.iter().for_each(|packet| send(packet));
    }
}

const DATA_CHANNEL_ACK: u8 = 0x02;
const DATA_CHANNEL_OPEN: u8 = 0x03;

/// RFC 8832 §5.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub unordered: bool,
    pub reliability: ReliabilityType,
    /// Retransmissions, or a lifetime in milliseconds.
    pub parameter: u32,
    pub label: String,
}

impl Open {
    pub fn parse(message: &[u8]) -> Option<Open> {
        let fixed: &[u8; 12] = message.first_chunk()?;
        if fixed[0] != DATA_CHANNEL_OPEN {
            return None;
        }
        let reliability = match fixed[1] & 0x7f {
            0 => ReliabilityType::Reliable,
            1 => ReliabilityType::Rexmit,
            2 => ReliabilityType::Timed,
            _ => return None,
        };
        let label_length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let label = message.get(12..12 + label_length).filter(|label| label.len() <= LABEL_MAX)?;
        Some(Open {
            unordered: fixed[1] & 0x80 != 0,
            reliability,
            parameter: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            label: std::str::from_utf8(label).ok()?.to_owned(),
        })
    }

    /// For the clients of tests and load generators.
    pub fn encode(&self) -> Bytes {
        let mut message = BytesMut::new();
        message.put_u8(DATA_CHANNEL_OPEN);
        message.put_u8(self.reliability as u8 | if self.unordered { 0x80 } else { 0 });
        message.put_u16(0);
        message.put_u32(self.parameter);
        message.put_u16(self.label.len() as u16);
        message.put_u16(0);
        message.put_slice(self.label.as_bytes());
        message.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sctp_proto::ClientConfig;
    use std::time::Duration;

    /// A peer that opens channels as a browser does, over a faultless wire.
    struct Peer {
        now: Instant,
        handle: AssociationHandle,
        endpoint: Endpoint,
        association: Association,
        ours: DataChannels,
    }

    impl Peer {
        #[allow(clippy::disallowed_methods)] // the start of the test's own time
        fn connected(buffer: usize) -> Peer {
            let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), None);
            let (handle, association) = endpoint.connect(ClientConfig::new(), PEER).unwrap();
            let ours = DataChannels::new(buffer);
            let mut peer = Peer { now: Instant::now(), handle, endpoint, association, ours };
            peer.exchange();
            peer
        }

        fn exchange(&mut self) {
            for _ in 0..50 {
                self.now += Duration::from_millis(1);
                let mut to_us = Vec::new();
                while let Some(transmit) = self.endpoint.poll_transmit() {
                    emit(transmit.payload, &mut |packet| to_us.push(packet.to_vec()));
                }
                while let Some(transmit) = self.association.poll_transmit(self.now) {
                    emit(transmit.payload, &mut |packet| to_us.push(packet.to_vec()));
                }
                to_us.iter().for_each(|packet| self.ours.handle_packet(self.now, packet));
                let mut to_peer = Vec::new();
                self.ours.poll_transmit(self.now, |packet| to_peer.push(Bytes::copy_from_slice(packet)));
                for packet in to_peer {
                    match self.endpoint.handle(self.now, PEER, None, None, packet) {
                        Some((handle, DatagramEvent::AssociationEvent(event))) if handle == self.handle => {
                            self.association.handle_event(event);
                        }
                        _ => {}
                    }
                }
            }
        }

        fn open(&mut self, id: StreamId, label: &str) {
            let open =
                Open { unordered: false, reliability: ReliabilityType::Reliable, parameter: 0, label: label.into() };
            let mut stream = self.association.open_stream(id, PayloadProtocolIdentifier::Binary).unwrap();
            stream.write_sctp(&open.encode(), PayloadProtocolIdentifier::Dcep).unwrap();
            self.exchange();
        }

        fn read(&mut self, id: StreamId) -> Vec<Vec<u8>> {
            let mut messages = Vec::new();
            let mut stream = self.association.stream(id).unwrap();
            while let Ok(Some(chunks)) = stream.read_sctp() {
                let mut message = vec![0; chunks.len()];
                chunks.read(&mut message).unwrap();
                messages.push(message);
            }
            messages
        }
    }

    #[test]
    fn who_sends_more_than_is_taken_waits_and_loses_nothing() {
        let mut peer = Peer::connected(100_000);
        peer.open(0, "_reliable");
        for number in 0..5_000u32 {
            let mut stream = peer.association.stream(0).unwrap();
            let message = Bytes::copy_from_slice(&number.to_be_bytes());
            stream.write_sctp(&message, PayloadProtocolIdentifier::Binary).unwrap();
        }
        let mut came = Vec::new();
        let begun = peer.now;
        let mut at_once = 0;
        while came.len() < 5_000 {
            peer.exchange();
            let now = peer.now;
            if peer.ours.poll_timeout().is_some_and(|at| at <= now) {
                peer.ours.handle_timeout(now);
            }
            let messages = std::iter::from_fn(|| peer.ours.poll_message());
            came.extend(messages.map(|(_, message)| u32::from_be_bytes(message[..].try_into().unwrap())));
            if at_once == 0 && came.len() >= 1_900 {
                at_once = came.len();
            }
            assert!(peer.now - begun < Duration::from_secs(10), "only {} came", came.len());
        }
        assert!(at_once < 2_300, "{at_once}");
        assert!(peer.now - begun >= Duration::from_millis(2_900), "{:?}", peer.now - begun);
        assert!(came.iter().copied().eq(0..5_000));
    }

    #[test]
    fn a_message_goes_each_way() {
        let mut peer = Peer::connected(100_000);
        peer.open(0, "_reliable");
        let mut stream = peer.association.stream(0).unwrap();
        stream.write_sctp(&Bytes::from_static(b"hello"), PayloadProtocolIdentifier::Binary).unwrap();
        peer.exchange();
        assert_eq!(peer.ours.poll_message(), Some(("_reliable".into(), Bytes::from_static(b"hello"))));
        assert_eq!(peer.ours.send("_reliable", Bytes::from(vec![7; 60_000]), true), Sent::Accepted);
        peer.exchange();
        assert_eq!(peer.read(0), [vec![DATA_CHANNEL_ACK], vec![7; 60_000]]);
    }

    #[test]
    fn a_reliable_message_waits_for_its_channel_within_the_limit() {
        let mut peer = Peer::connected(10);
        assert_eq!(peer.ours.send("_reliable", Bytes::from_static(b"early"), true), Sent::Accepted);
        assert_eq!(peer.ours.send("_lossy", Bytes::from_static(b"early"), false), Sent::Dropped);
        assert_eq!(peer.ours.send("_reliable", Bytes::from_static(b"too much"), true), Sent::Dropped);
        peer.open(2, "_reliable");
        assert_eq!(peer.read(2), [vec![DATA_CHANNEL_ACK], b"early".to_vec()]);
    }

    #[test]
    fn open_is_parsed_within_bounds() {
        let open = Open { unordered: true, reliability: ReliabilityType::Rexmit, parameter: 0, label: "_lossy".into() };
        let encoded = open.encode();
        assert_eq!(Open::parse(&encoded), Some(open));
        for length in 0..encoded.len() {
            assert_eq!(Open::parse(&encoded[..length]), None);
        }
    }

    #[test]
    fn garbage_is_survived() {
        let mut peer = Peer::connected(10);
        for length in 0..200 {
            peer.ours.handle_packet(peer.now, &vec![length as u8; length]);
        }
        peer.open(0, "_reliable");
        assert_eq!(peer.read(0), [vec![DATA_CHANNEL_ACK]]);
    }
}
