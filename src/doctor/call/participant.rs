//! One participant: LiveKit's protocol over a WebSocket, with one PeerConnection.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use prost::Message as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::Message as Frame;

use super::media::{Media, Progress};
use super::sdp::{self, RemoteTransport};
use crate::doctor::connection::{Dialer, Origin, Stream};

/// Packets after which a participant counts as heard.
const HEARD: u32 = 10;

/// Why a participant did not get in, or did not stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Instead of the upgrade: status and the first words of the body.
    Refused(u16, String),
    Failed(String),
}

/// How both participants are doing, known to both.
#[derive(Debug, Default)]
pub struct Room {
    pub progress: Mutex<[Progress; 2]>,
}

impl Room {
    fn note(&self, index: usize, progress: &Progress) -> bool {
        let mut all = self.progress.lock().expect("nobody panics with it");
        all[index].clone_from(progress);
        all.iter().all(|one| one.heard >= HEARD)
    }
}

/// The WebSocket of a LiveKit session, before anything is said.
pub async fn open(
    dialer: &Dialer,
    url: &str,
    token: &str,
    join: Option<&str>,
) -> Result<WebSocketStream<Stream>, Trouble> {
    let base = url.trim_end_matches('/');
    let join = join.map(|join| format!("&join_request={join}")).unwrap_or_default();
    let address = format!("{base}/rtc/v1?access_token={token}{join}");
    let uri = address.parse().map_err(|_| Trouble::Failed(format!("{base} is no URL")))?;
    let origin = Origin::of(&uri).ok_or_else(|| Trouble::Failed(format!("{base} is no URL")))?;
    let stream =
        dialer.connect(&origin).await.map_err(|_| Trouble::Failed(format!("no connection to {origin} came about")))?;
    match tokio_tungstenite::client_async(&uri, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text: String = String::from_utf8_lossy(body).chars().take(80).collect();
            Err(Trouble::Refused(response.status().as_u16(), text.trim().to_owned()))
        }
        Err(error) => Err(Trouble::Failed(error.to_string())),
    }
}

/// Joins, talks, and leaves when both have heard each other.
pub async fn take_part(
    dialer: Dialer,
    url: String,
    token: String,
    room: Arc<Room>,
    index: usize,
) -> Result<(), Trouble> {
    let failed = |error: anyhow::Error| Trouble::Failed(format!("{error:#}"));
    let mut media = Media::new().await.map_err(failed)?;
    let join = join_request(&media).map_err(failed)?;
    let mut socket = open(&dialer, &url, &token, Some(&join)).await?;
    converse(&mut socket, &mut media, &room, index).await.map_err(failed)?;
    let leave = proto::LeaveRequest { reason: proto::DisconnectReason::ClientInitiated as i32, ..Default::default() };
    let _ = send(&mut socket, Request::Leave(leave)).await;
    let _ = socket.close(None).await;
    Ok(())
}

fn join_request(media: &Media) -> anyhow::Result<String> {
    let join = proto::JoinRequest {
        client_info: Some(proto::ClientInfo {
            sdk: proto::client_info::Sdk::Rust as i32,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: 17,
            ..Default::default()
        }),
        connection_settings: Some(proto::ConnectionSettings { auto_subscribe: true, ..Default::default() }),
        add_track_requests: vec![proto::AddTrackRequest {
            cid: media.local.cid.clone(),
            name: "microphone".to_owned(),
            r#type: proto::TrackType::Audio as i32,
            source: proto::TrackSource::Microphone as i32,
            disable_red: true,
            ..Default::default()
        }],
        publisher_offer: Some(offer(media, 1)),
        ..Default::default()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&join.encode_to_vec())?;
    let wrapped = proto::WrappedJoinRequest {
        compression: proto::wrapped_join_request::Compression::Gzip as i32,
        join_request: gzip.finish()?,
    };
    Ok(URL_SAFE_NO_PAD.encode(wrapped.encode_to_vec()))
}

fn offer(media: &Media, id: u32) -> proto::SessionDescription {
    let sdp = sdp::offer(&media.local, id);
    proto::SessionDescription { r#type: "offer".to_owned(), sdp, id, ..Default::default() }
}

async fn converse(
    socket: &mut WebSocketStream<Stream>,
    media: &mut Media,
    room: &Room,
    index: usize,
) -> anyhow::Result<()> {
    let mut offers = 1;
    let mut buffer = vec![0; 2048];
    loop {
        tokio::select! {
            frame = socket.next() => {
                let frame = frame.context("it closed the WebSocket")?.context("the WebSocket broke")?;
                let Frame::Binary(octets) = frame else { continue };
                let response = proto::SignalResponse::decode(octets).context("it does not speak LiveKit's protocol")?;
                match response.message {
                    Some(Response::Answer(answer)) => media.connect(RemoteTransport::parse(&answer.sdp)),
                    Some(Response::MediaSectionsRequirement(_)) => {
                        // Both sections that a call of two needs stand there already.
                        offers += 1;
                        send(socket, Request::Offer(offer(media, offers))).await?;
                    }
                    Some(Response::Leave(leave)) => anyhow::bail!("it said leave ({:?})", leave.reason()),
                    _ => {}
                }
            }
            received = media.wait(&mut buffer) => match received {
                Some((length, from)) => media.handle_datagram(&mut buffer[..length], from)?,
                None => media.handle_timeout()?,
            },
        }
        if room.note(index, &media.progress) {
            return Ok(());
        }
    }
}

async fn send(socket: &mut WebSocketStream<Stream>, message: Request) -> anyhow::Result<()> {
    let request = proto::SignalRequest { message: Some(message) };
    socket.send(Frame::binary(request.encode_to_vec())).await?;
    Ok(())
}
