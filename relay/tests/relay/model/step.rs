use proptest::prelude::*;

use super::{PEERS, USERS};

#[derive(Clone, Debug)]
pub enum Step {
    Allocate,
    /// The client's last Allocate once more.
    AllocateAgain,
    Refresh {
        seconds: u32,
    },
    Permit {
        peers: Vec<usize>,
    },
    Bind {
        number: u16,
        peer: usize,
    },
    Send {
        peer: usize,
    },
    SendChannel {
        number: u16,
    },
    /// A datagram from a peer arrives at the client's relay socket or in memory.
    FromPeer {
        peer: usize,
        in_memory: bool,
    },
    /// What became of the client's relay socket.
    Socket {
        opened: bool,
    },
    SocketGone,
    Pass {
        seconds: u64,
        woken: bool,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    // The last ones stand for the clients' relayed addresses.
    let peer = || prop_oneof![4 => 0usize..2, 3 => 0..PEERS.len() + USERS.len()];
    let number = || prop_oneof![1 => Just(0x3FFF), 8 => Just(0x4000u16), 3 => Just(0x4001), 1 => Just(0x7FFE)];
    prop_oneof![
        3 => Just(Step::Allocate),
        1 => Just(Step::AllocateAgain),
        2 => prop_oneof![Just(0), Just(600), Just(1200), Just(9999)].prop_map(|seconds| Step::Refresh { seconds }),
        4 => prop::collection::vec(peer(), 0..3).prop_map(|peers| Step::Permit { peers }),
        4 => (number(), peer()).prop_map(|(number, peer)| Step::Bind { number, peer }),
        4 => peer().prop_map(|peer| Step::Send { peer }),
        4 => number().prop_map(|number| Step::SendChannel { number }),
        6 => (peer(), any::<bool>()).prop_map(|(peer, in_memory)| Step::FromPeer { peer, in_memory }),
        4 => prop::bool::weighted(0.8).prop_map(|opened| Step::Socket { opened }),
        1 => Just(Step::SocketGone),
        4 => (prop_oneof![Just(1u64), Just(150), Just(300), Just(450)], any::<bool>())
            .prop_map(|(seconds, woken)| Step::Pass { seconds, woken }),
    ]
}

/// Mostly the same one, so that histories go deep.
pub fn client() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 1 => Just(1), 2 => Just(2), 1 => Just(3)]
}
