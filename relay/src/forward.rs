//! What passes between clients and peers: ChannelData, Send and Data.

use std::net::{IpAddr, SocketAddr};

use datapath::stun::{AttributeType, ChannelData, Class, Message, Method, TransactionId, Writer, channel_data};
use datapath::{Datagram, Discard, Endpoint, Now, Order, Outbox, Traffic};

use crate::allocation::{Allocation, FiveTuple, RelaySocket};
use crate::reply::count_sent;
use crate::server::{Reach, Server};

/// Octets of a Data indication beside the data: header, an IPv6 XOR-PEER-ADDRESS, DATA's header and padding.
const DATA_OVERHEAD: usize = 20 + 24 + 4 + 3;

impl Server {
    /// Client to peer, the short way (RFC 8656 §12.6).
    pub(crate) fn handle_channel_data(&mut self, now: Now, datagram: &Datagram<'_>, out: &mut Outbox) {
        let Some(channel_data) = ChannelData::parse(datagram.payload) else {
            return out.counters.discard(Discard::MalformedChannelData);
        };
        let client = FiveTuple { local: datagram.local, remote: datagram.remote };
        let first = self.allocations.by_packet_of_client(&client);
        let id = first.and_then(|id| {
            let first = self.allocations.get(id)?;
            let number = channel_data.number;
            first.sibling.filter(|_| first.channels.by_number(number).is_none()).or(Some(id))
        });
        let Some(allocation) = id.and_then(|id| self.allocations.get_mut(id)) else {
            return out.counters.discard(Discard::NoAllocation);
        };
        let channel = match allocation.channels.by_number(channel_data.number) {
            Some(channel) if channel.is_open(now.instant) => *channel,
            Some(channel) if channel.is_bound(now.instant) => {
                return out.counters.discard(Discard::NoPermission);
            }
            _ => return out.counters.discard(Discard::NoChannel),
        };
        if !allocation.bandwidth.take(datagram.payload.len(), &self.settings, now.instant) {
            return out.counters.discard(Discard::OverBandwidth);
        }
        let reach = if channel.outside { Reach::Outside } else { Reach::Memory };
        allocation.data.to_peers.add(channel_data.payload.len());
        let local = transport(allocation, reach, out);
        out.forward(local, channel.peer, &[], datagram, channel_data.payload);
        out.set_tos(datagram.ecn);
    }

    /// Client to peer, the long way (RFC 8656 §11.2).
    pub(crate) fn handle_send(
        &mut self,
        now: Now,
        client: FiveTuple,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        let (Some(peer), Some(data)) = (message.xor_peer_address(), message.data_range()) else {
            return out.counters.discard(Discard::MalformedStun);
        };
        let unknown =
            message.unknown_required(|kind| matches!(kind, AttributeType::XOR_PEER_ADDRESS | AttributeType::DATA));
        let unfragmented = unknown.types() == [AttributeType::DONT_FRAGMENT.0];
        if !unknown.is_empty() && !unfragmented {
            return out.counters.discard(Discard::UnexpectedStun);
        }
        let Some(first) = self.allocations.by_client(&client) else {
            return out.counters.discard(Discard::NoAllocation);
        };
        // Where no allocation has the peer's family there is no permission either.
        let id = self.allocations.of_family(first, peer.ip()).unwrap_or(first);
        let reach = self.reach(peer);
        // An allocation for TCP has nothing that datagrams could leave by.
        let Some(allocation) = self.allocations.get_mut(id).filter(|allocation| allocation.tcp.is_none()) else {
            return out.counters.discard(Discard::NoAllocation);
        };
        if !allocation.permissions.is_live(peer.ip(), now.instant) {
            return out.counters.discard(Discard::NoPermission);
        }
        let Some(reach) = reach else {
            return out.counters.discard(Discard::ForbiddenPeer);
        };
        if !allocation.bandwidth.take(datagram.payload.len(), &self.settings, now.instant) {
            return out.counters.discard(Discard::OverBandwidth);
        }
        allocation.data.to_peers.add(data.len());
        let local = transport(allocation, reach, out);
        out.forward(local, peer, &[], datagram, data);
        out.set_tos(datagram.ecn);
        if unfragmented {
            out.dont_fragment();
        }
    }

    /// Peer to client (RFC 8656 §11.3 and §12.7). `relayed` is where the datagram arrived.
    pub(crate) fn handle_peer(&mut self, now: Now, relayed: SocketAddr, datagram: &Datagram<'_>, out: &mut Outbox) {
        let id = self.allocations.by_packet_of_peer(relayed);
        let allocation = id.and_then(|id| self.allocations.get_mut(id));
        // Datagrams have no business at an address for TCP.
        let Some(allocation) = allocation.filter(|allocation| allocation.tcp.is_none()) else {
            return out.counters.discard(Discard::NoAllocation);
        };
        let FiveTuple { local, remote } = allocation.client;
        let peer = datagram.remote;
        let from_outside = matches!(datagram.local, Endpoint::Relay { .. });
        let channel = allocation.channels.by_peer(peer).filter(|channel| channel.is_open(now.instant));
        if let Some(channel) = channel {
            if from_outside && !channel.outside {
                // Our own address as the source of a packet from outside is a forgery.
                return out.counters.discard(Discard::UnsolicitedPeer);
            }
            let number = channel.number;
            if !allocation.bandwidth.take(datagram.payload.len(), &self.settings, now.instant) {
                return out.counters.discard(Discard::OverBandwidth);
            }
            let length = datagram.payload.len();
            allocation.data.to_client.add(length);
            let header = channel_data::header(number, length as u16);
            out.forward(local, remote, &header, datagram, 0..length);
            out.set_tos(datagram.ecn);
            return out.counters.sent(Traffic::ChannelData, header.len() + length);
        }
        let permitted = allocation.permissions.is_live(peer.ip(), now.instant);
        let in_bounds = permitted && allocation.bandwidth.take(datagram.payload.len(), &self.settings, now.instant);
        if !permitted || (from_outside && self.is_in_memory(peer)) {
            return out.counters.discard(Discard::UnsolicitedPeer);
        }
        if !in_bounds {
            return out.counters.discard(Discard::OverBandwidth);
        }
        if let Some(allocation) = id.and_then(|id| self.allocations.get_mut(id)) {
            allocation.data.to_client.add(datagram.payload.len());
        }
        let id = self.indication_id();
        indicate(id, local, remote, peer, datagram.payload.len(), out, |writer| {
            writer.data(datagram.payload);
        });
        out.set_tos(datagram.ecn);
    }

    /// RFC 8656 §11.5: what an ICMP error says about a permitted peer reaches the client.
    pub(crate) fn handle_icmp(
        &mut self,
        now: Now,
        relayed: SocketAddr,
        peer: SocketAddr,
        (kind, code, mtu): (u8, u8, u32),
        out: &mut Outbox,
    ) {
        // Destination unreachable and time exceeded; of ICMPv6 also packet too big.
        let passed_on = match peer.ip() {
            IpAddr::V4(_) => matches!(kind, 3 | 11),
            IpAddr::V6(_) => matches!(kind, 1..=3),
        };
        let id = self.allocations.by_relayed(relayed);
        let Some(allocation) = id.and_then(|id| self.allocations.get(id)) else {
            return;
        };
        if !passed_on || !allocation.permissions.is_live(peer.ip(), now.instant) {
            return;
        }
        let FiveTuple { local, remote } = allocation.client;
        // RFC 8656 §18.13: two reserved octets, a 7-bit type, a 9-bit code, four octets of error data: the next link's MTU
        // where a datagram was too long for it, else zero.
        let value = (u64::from(kind) << 41 | u64::from(code) << 32 | u64::from(mtu)).to_be_bytes();
        let id = self.indication_id();
        indicate(id, local, remote, peer, 8, out, |writer| {
            writer.attribute(AttributeType::ICMP, &value);
        });
    }

    /// Nobody answers an indication, but RFC 8489 §5 wants its transaction id unpredictable all the same.
    pub(crate) fn indication_id(&mut self) -> TransactionId {
        let mut id = [0; 12];
        self.entropy.fill(&mut id);
        TransactionId(id)
    }
}

/// The local end of what goes to a peer. Orders the relay socket if this is the first that needs it: orders are carried
/// out before datagrams are sent, so this one leaves by it already, or is counted by the driver as unsent.
fn transport(allocation: &mut Allocation, reach: Reach, out: &mut Outbox) -> Endpoint {
    let address = allocation.relayed;
    if reach == Reach::Memory {
        return Endpoint::Memory { address };
    }
    if matches!(allocation.socket, RelaySocket::Closed) {
        allocation.socket = RelaySocket::Opening(Vec::new());
        out.order(Order::OpenRelay { relayed: address });
    }
    Endpoint::Relay { address }
}

/// A Data indication to a client. `length` octets of attributes stand beside the peer's address.
fn indicate(
    id: TransactionId,
    local: Endpoint,
    remote: SocketAddr,
    peer: SocketAddr,
    length: usize,
    out: &mut Outbox,
    attributes: impl FnOnce(&mut Writer<'_>),
) {
    let mut written = 0;
    out.write(local, remote, length + DATA_OVERHEAD, |buffer| {
        let mut writer = Writer::new(buffer, Class::Indication, Method::DATA, id);
        writer.xor_peer_address(peer);
        attributes(&mut writer);
        let length = writer.finish();
        written = length.unwrap_or(0);
        length
    });
    if written == 0 {
        // More than 65,535 octets with the overhead: UDP could not carry it.
        return out.counters.discard(Discard::LimitReached);
    }
    count_sent(&mut out.counters, Method::DATA, written);
}
