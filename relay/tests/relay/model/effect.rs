use std::net::SocketAddr;

use datapath::stun::{ChannelData, Class, Message, Method};
use datapath::{Endpoint, Order};

use crate::client::Client;
use crate::world::Turn;

/// What a turn did, without what only chance decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Success { client: usize, method: u16 },
    Refusal { client: usize, code: u16 },
    ToPeer { relayed: SocketAddr, peer: SocketAddr, outside: bool },
    DataToClient { client: usize, peer: SocketAddr },
    ChannelToClient { client: usize, number: u16 },
    Open { relayed: SocketAddr },
    Close { relayed: SocketAddr },
}

/// What the real server did, in the model's words.
pub fn effects(turn: &Turn, clients: &[Client]) -> Vec<Effect> {
    let orders = turn.orders.iter().map(|order| match *order {
        Order::OpenRelay { relayed } => Effect::Open { relayed },
        Order::CloseRelay { relayed } => Effect::Close { relayed },
        Order::ProbeRelay { .. } => unreachable!("the world answers these"),
        Order::KeepStream { .. }
        | Order::ProbeTcpRelay { .. }
        | Order::ListenTcp { .. }
        | Order::CloseTcpRelay { .. }
        | Order::ConnectPeer { .. }
        | Order::ClosePeer { .. }
        | Order::SplicePeer { .. } => unreachable!("nobody comes over TCP"),
    });
    let sent = turn.sent.iter().map(|sent| match sent.local {
        Endpoint::Relay { address } => Effect::ToPeer { relayed: address, peer: sent.remote, outside: true },
        Endpoint::Memory { address } => Effect::ToPeer { relayed: address, peer: sent.remote, outside: false },
        Endpoint::Listener { .. } | Endpoint::Stream { .. } => {
            let client = clients.iter().position(|client| client.address == sent.remote).unwrap();
            if let Some(channel_data) = ChannelData::parse(&sent.payload) {
                assert_eq!(&sent.payload[channel_data.payload], b"payload");
                return Effect::ChannelToClient { client, number: channel_data.number };
            }
            let message = Message::parse(&sent.payload).unwrap();
            match message.class() {
                Class::SuccessResponse => Effect::Success { client, method: message.method().0 },
                Class::ErrorResponse => Effect::Refusal { client, code: message.error_code().unwrap().0 },
                _ => {
                    assert_eq!((message.method(), message.data()), (Method::DATA, Some(&b"payload"[..])));
                    Effect::DataToClient { client, peer: message.xor_peer_address().unwrap() }
                }
            }
        }
    });
    orders.chain(sent).collect()
}
