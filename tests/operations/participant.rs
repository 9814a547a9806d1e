use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use prost::Message as _;
use signaling::livekit::token::{self, Claims, VideoGrant};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::{Message as Frame, WebSocket};

use crate::client::{Client, PATIENCE};
use crate::server::Server;

pub const API_KEY: &str = "key";
pub const API_SECRET: &str = "a secret shared with whoever lets people into calls";
pub const ROOM: &str = "kitchen";

/// Somebody in a call, of whom we see the signalling alone.
pub struct Participant {
    socket: WebSocket<TcpStream>,
    turn: SocketAddr,
    credential: proto::IceServer,
}

/// A token with this grant.
pub fn token(identity: &str, grant: VideoGrant) -> String {
    let claims = Claims {
        iss: API_KEY.into(),
        sub: identity.into(),
        exp: Some(4_000_000_000),
        video: Some(VideoGrant { room: ROOM.into(), ..grant }),
        ..Claims::default()
    };
    token::sign(&claims, &[(API_KEY.to_owned(), API_SECRET.to_owned())].into()).unwrap()
}

impl Participant {
    pub fn join(server: &Server, identity: &str) -> Participant {
        let token = token(identity, VideoGrant { room_join: true, ..VideoGrant::default() });
        let settings = proto::ConnectionSettings { auto_subscribe: true, ..Default::default() };
        let join = proto::JoinRequest { connection_settings: Some(settings), ..Default::default() }.encode_to_vec();
        let join = proto::WrappedJoinRequest { join_request: join, ..Default::default() }.encode_to_vec();
        let join = URL_SAFE_NO_PAD.encode(join);
        let stream = TcpStream::connect(server.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{}/rtc/v1?access_token={token}&join_request={join}", server.http);
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        let Frame::Binary(first) = socket.read().unwrap() else { panic!("no message") };
        let Some(Told::Join(mut join)) = proto::SignalResponse::decode(first).unwrap().message else {
            panic!("not let in")
        };
        Participant { socket, turn: server.turn, credential: join.ice_servers.remove(0) }
    }

    /// Who uses the TURN credential that it got when it joined.
    pub fn turn_client(&self) -> Client {
        self.turn_client_at(self.turn)
    }

    /// The same at another server.
    pub fn turn_client_at(&self, server: SocketAddr) -> Client {
        Client::with(server, self.credential.username.clone(), &self.credential.credential)
    }

    /// Leaves as clients do, and waits for the server to have heard it.
    pub fn leave(mut self) {
        let leave = proto::SignalRequest { message: Some(Asked::Leave(proto::LeaveRequest::default())) };
        self.socket.send(Frame::Binary(leave.encode_to_vec().into())).unwrap();
        self.wait_for_the_end();
    }

    pub fn wait_for_the_end(&mut self) {
        while self.socket.read().is_ok_and(|frame| !frame.is_close()) {}
    }
}
