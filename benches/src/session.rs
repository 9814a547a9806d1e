//! One client's LiveKit session: the WebSocket, the offers and the answers.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::clip::{Clip, Playback};
use crate::sdp::{self, Answer, Kind, LocalTransport, OutgoingTrack, Section};
use crate::source::Content;

/// What a session tells the media thread.
#[derive(Debug)]
pub enum MediaCommand {
    /// The transport of the first answer.
    Connect {
        client: usize,
        answer: Answer,
    },
    Candidate {
        client: usize,
        address: SocketAddr,
    },
    /// Every answer: what is sent where, and what of ours is accepted.
    Negotiated {
        client: usize,
        sections: Vec<(Section, sdp::AnswerSection)>,
    },
    Ended {
        client: usize,
        why: String,
    },
}

/// What the media thread tells a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    Connected,
    Leave,
}

/// A track to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    pub kind: Kind,
    pub track: OutgoingTrack,
    /// Pixels and bit/s of each encoding, lowest first; empty for audio.
    pub layers: Vec<(u32, u32, u32)>,
    /// A recording for each encoding; empty: content is made up.
    pub clips: Vec<Arc<Clip>>,
}

impl Publication {
    /// What the encoding consists of.
    pub fn content(&self, encoding: usize) -> Content {
        match (self.clips.get(encoding), self.layers.get(encoding)) {
            (Some(clip), None) => Content::Recorded(Playback::of_voice(Arc::clone(clip))),
            (Some(clip), Some(_)) => Content::Recorded(Playback::of_video(Arc::clone(clip))),
            (None, Some(&(_, height, bitrate))) => Content::steady(height, bitrate),
            (None, None) => Content::Noise,
        }
    }
}

pub struct Session {
    pub client: usize,
    pub url: String,
    pub token: String,
    pub auto_subscribe: bool,
    pub publications: Vec<Publication>,
    pub local: LocalTransport,
    pub media: Sender<MediaCommand>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The negotiation's state beside what the session was made with.
struct Negotiation {
    sections: Vec<Section>,
    offer_id: u32,
    answered_id: u32,
    /// Sections came after the last offer.
    again: bool,
    accepted: usize,
}

impl Session {
    /// Runs until the session ends, and says why to the media thread.
    pub async fn run(self, commands: UnboundedReceiver<SessionCommand>) {
        let (client, media) = (self.client, self.media.clone());
        let why = match self.run_inner(commands).await {
            Ok(()) => "left".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let _ = media.send(MediaCommand::Ended { client, why });
    }

    async fn run_inner(self, mut commands: UnboundedReceiver<SessionCommand>) -> Result<()> {
        let mut negotiation =
            Negotiation { sections: Vec::new(), offer_id: 1, answered_id: 0, again: false, accepted: 0 };
        for kind in [Kind::Audio, Kind::Video] {
            (0..sdp::FIRST_SECTIONS / 2).for_each(|_| negotiation.append(kind, None));
        }
        let mut socket = self.connect(&negotiation).await?;
        // Not all at once: clients that joined one after the other would ping within the same instant for ever.
        let offset = Duration::from_millis(self.client as u64 * 977 % 5000);
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + offset, Duration::from_secs(5));
        loop {
            tokio::select! {
                frame = socket.next() => {
                    let frame = frame.context("the server closed the WebSocket")??;
                    let Frame::Binary(bytes) = frame else { continue };
                    let Some(message) = proto::SignalResponse::decode(bytes)?.message else {
                        continue;
                    };
                    self.handle(message, &mut negotiation, &mut socket).await?;
                }
                command = commands.recv() => match command {
                    Some(SessionCommand::Connected) => self.publish(&mut socket).await?,
                    Some(SessionCommand::Leave) | None => {
                        let leave = proto::LeaveRequest {
                            reason: proto::DisconnectReason::ClientInitiated as i32,
                            ..Default::default()
                        };
                        send(&mut socket, Request::Leave(leave)).await?;
                        let _ = socket.close(None).await;
                        return Ok(());
                    }
                },
                _ = ping.tick() => {
                    send(&mut socket, Request::PingReq(proto::Ping { timestamp: 1, rtt: 0 })).await?;
                }
            }
        }
    }

    async fn connect(&self, negotiation: &Negotiation) -> Result<Socket> {
        let join = proto::JoinRequest {
            client_info: Some(proto::ClientInfo {
                sdk: proto::client_info::Sdk::Js as i32,
                version: "2.23.0".to_owned(),
                protocol: 17,
                os: "Linux".to_owned(),
                browser: "Chrome".to_owned(),
                browser_version: "156".to_owned(),
                client_protocol: 2,
                ..Default::default()
            }),
            connection_settings: Some(proto::ConnectionSettings {
                auto_subscribe: self.auto_subscribe,
                ..Default::default()
            }),
            publisher_offer: Some(negotiation.offer(&self.local)),
            ..Default::default()
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&join.encode_to_vec())?;
        let wrapped = proto::WrappedJoinRequest {
            compression: proto::wrapped_join_request::Compression::Gzip as i32,
            join_request: gzip.finish()?,
        };
        let encoded = URL_SAFE.encode(wrapped.encode_to_vec()).replace('=', "%3D");
        let (base, token) = (self.url.trim_end_matches('/'), &self.token);
        let url = format!("{base}/rtc/v1?access_token={token}&join_request={encoded}");
        let (socket, _) = tokio_tungstenite::connect_async(url.into_client_request()?)
            .await
            .with_context(|| format!("joining at {base}"))?;
        Ok(socket)
    }

    async fn handle(&self, message: Response, negotiation: &mut Negotiation, socket: &mut Socket) -> Result<()> {
        match message {
            Response::Answer(answer) => {
                if answer.id != negotiation.offer_id {
                    return Ok(());
                }
                let parsed = sdp::parse_answer(&answer.sdp)?;
                let first = negotiation.answered_id == 0;
                negotiation.answered_id = answer.id;
                self.tell_media(parsed, negotiation, first)?;
                if std::mem::take(&mut negotiation.again) {
                    self.offer(negotiation, socket).await?;
                }
            }
            Response::MediaSectionsRequirement(requirement) => {
                for _ in 0..requirement.num_audios {
                    negotiation.append(Kind::Audio, None);
                }
                for _ in 0..requirement.num_videos {
                    negotiation.append(Kind::Video, None);
                }
                self.offer(negotiation, socket).await?;
            }
            Response::TrackPublished(published) => {
                negotiation.accepted += 1;
                if negotiation.accepted == self.publications.len() {
                    for publication in &self.publications {
                        negotiation.append(publication.kind, Some(publication.track.clone()));
                    }
                    self.offer(negotiation, socket).await?;
                }
                let _ = published;
            }
            Response::Trickle(trickle) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
                let candidate = init["candidate"].as_str().and_then(sdp::parse_candidate);
                if let Some(address) = candidate {
                    let client = self.client;
                    self.media.send(MediaCommand::Candidate { client, address })?;
                }
            }
            Response::Leave(leave) => {
                bail!("the server says leave: {:?}, action {}", leave.reason(), leave.action)
            }
            _ => {}
        }
        Ok(())
    }

    fn tell_media(&self, answer: Answer, negotiation: &Negotiation, first: bool) -> Result<()> {
        let client = self.client;
        let sections = negotiation
            .sections
            .iter()
            .filter_map(|section| {
                let answered = answer.sections.iter().find(|other| other.mid == section.mid)?;
                Some((section.clone(), answered.clone()))
            })
            .collect();
        if first {
            self.media.send(MediaCommand::Connect { client, answer })?;
        }
        self.media.send(MediaCommand::Negotiated { client, sections })?;
        Ok(())
    }

    /// Sends an offer, or notes that one is due when the last is still unanswered.
    async fn offer(&self, negotiation: &mut Negotiation, socket: &mut Socket) -> Result<()> {
        if negotiation.answered_id != negotiation.offer_id {
            negotiation.again = true;
            return Ok(());
        }
        negotiation.offer_id += 1;
        send(socket, Request::Offer(negotiation.offer(&self.local))).await
    }

    async fn publish(&self, socket: &mut Socket) -> Result<()> {
        for publication in &self.publications {
            send(socket, Request::AddTrack(add_track(publication))).await?;
        }
        Ok(())
    }
}

impl Negotiation {
    fn append(&mut self, kind: Kind, track: Option<OutgoingTrack>) {
        let mid = self.sections.len().to_string();
        self.sections.push(Section { mid, kind, track });
    }

    fn offer(&self, local: &LocalTransport) -> proto::SessionDescription {
        proto::SessionDescription {
            r#type: "offer".to_owned(),
            sdp: sdp::offer(local, self.offer_id, &self.sections),
            id: self.offer_id,
            ..Default::default()
        }
    }
}

fn add_track(publication: &Publication) -> proto::AddTrackRequest {
    let mut request =
        proto::AddTrackRequest { cid: publication.track.cid.clone(), disable_red: true, ..Default::default() };
    match publication.kind {
        Kind::Audio => {
            request.name = "microphone".to_owned();
            request.r#type = proto::TrackType::Audio as i32;
            request.source = proto::TrackSource::Microphone as i32;
        }
        Kind::Video => {
            request.name = "camera".to_owned();
            request.r#type = proto::TrackType::Video as i32;
            request.source = proto::TrackSource::Camera as i32;
            let count = publication.layers.len();
            for (index, &(width, height, bitrate)) in publication.layers.iter().enumerate() {
                // A single layer is HIGH; else LOW, MEDIUM, HIGH from the bottom.
                let quality = if count == 1 { 2 } else { index as i32 };
                let ssrc = publication.track.encodings[index].ssrc;
                request.layers.push(proto::VideoLayer {
                    quality,
                    width,
                    height,
                    bitrate,
                    ssrc: if count == 1 { ssrc } else { 0 },
                    ..Default::default()
                });
                (request.width, request.height) = (width, height);
            }
            request.simulcast_codecs.push(proto::SimulcastCodec {
                codec: "vp8".to_owned(),
                cid: publication.track.cid.clone(),
                ..Default::default()
            });
        }
    }
    request
}

async fn send(socket: &mut Socket, message: Request) -> Result<()> {
    let request = proto::SignalRequest { message: Some(message) };
    socket.send(Frame::binary(request.encode_to_vec())).await?;
    Ok(())
}
