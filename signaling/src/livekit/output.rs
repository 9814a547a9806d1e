//! What the state machines want done, in order.

use std::time::Duration;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, LeaveRequest, leave_request::Action};
use sfu::Command;

use crate::matrix::{Presence, Seat};

/// One WebSocket; a participant that resumes gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // Each is moved a few times and kept nowhere.
pub enum Output {
    Command {
        worker: usize,
        command: Command,
    },
    Send {
        connection: ConnectionId,
        message: Message,
    },
    /// How a participant for whom a homeserver vouched stands now. Not told of others.
    Presence {
        seat: Seat,
        presence: Presence,
    },
    /// These users of TURN credentials, which were handed out here and last so long at most, are to have no allocation.
    WithdrawTurn {
        users: Vec<String>,
        time: Duration,
    },
    /// After everything sent before; the client is not to hear anything more.
    Close {
        connection: ConnectionId,
    },
}

pub fn leave(reason: DisconnectReason, action: Action) -> Message {
    Message::Leave(LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    })
}
