//! One client's WebSocket, from the upgrade to its close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::SignalResponse;
use livekit_protocol::signal_response::Message;
use prost::Message as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use crate::control::{Control, now};
use crate::inbox::Inbox;
use crate::livekit::Request;
use crate::websocket::{Deflate, WebSocket};

/// Keeps proxies from taking the connection for idle: a client that has said nothing for so long is asked. Those of LiveKit
/// ping by themselves, twice as often, and are not.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// A client that has not even answered pings for this long is gone; its TCP connection does not know it yet.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// After our close the client's last words are read for this long, so that what we sent is not lost in a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Octets of a message that cost as much as the message itself.
const CHARGED_OCTETS: usize = 4 << 10;

/// A client that has sent too much is not read for this long at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How many messages a client may still send now. A large one counts for several.
///
/// Who sends more is read more slowly, and not cut off: in a large room the offers that we ask for ourselves, as people come
/// and go, may be more than this.
struct Allowance {
    per_second: f64,
    burst: f64,
    tokens: f64,
    refilled: Instant,
}

impl Allowance {
    fn new(now: Instant, per_second: u32, burst: u32) -> Allowance {
        Allowance { per_second: per_second.into(), burst: burst.into(), tokens: burst.into(), refilled: now }
    }

    /// Charges for a message of so many octets. Returns how long to wait before the next one is read.
    fn charge(&mut self, now: Instant, octets: usize) -> Duration {
        let elapsed = now.duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        let cost = 1.0 + (octets / CHARGED_OCTETS) as f64;
        self.tokens = (self.tokens - cost).max(-PAUSE_MAX.as_secs_f64() * self.per_second);
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.per_second)
    }
}

/// Both ends of the client's conversation until either is over.
pub async fn run(control: Arc<Control>, mut socket: WebSocket, mut inbox: Inbox, rate: (u32, u32)) {
    let connection = inbox.connection;
    let mut allowance = Allowance::new(now().instant, rate.0, rate.1);
    let mut ping = common_interval(PING_INTERVAL);
    let mut heard = now().instant;
    let mut read_on_at = None;
    // A client that writes text gets text until it writes octets again.
    let mut text = false;
    let closed_by_us = loop {
        tokio::select! {
            message = inbox.recv() => {
                let Some(message) = message else { break true };
                let frame = encode(message, text, socket.deflate.as_mut());
                if !write(&mut socket, frame).await {
                    break false;
                }
                if let Some(deflate) = socket.deflate.as_mut().filter(|_| inbox.is_empty()) {
                    deflate.forget();
                }
            }
            frame = next(&mut socket, read_on_at) => {
                heard = now().instant;
                let Some(Ok(frame)) = frame else { break false };
                let pause = allowance.charge(heard, frame.len());
                read_on_at = (!pause.is_zero()).then(|| heard + pause);
                let request = match frame {
                    Frame::Binary(bytes) => {
                        text = false;
                        Request::decode(&bytes)
                    }
                    Frame::Text(json) => {
                        text = true;
                        Request::decode_json(&json)
                    }
                    Frame::Ping(_) | Frame::Pong(_) => continue,
                    Frame::Close(_) | Frame::Frame(_) => break false,
                };
                let Some(request) = request else {
                    tracing::debug!("client cut off: malformed message");
                    break false;
                };
                control.handle_request(connection, request);
            }
            _ = ping.tick() => {
                let silence = now().instant.duration_since(heard);
                if silence < PING_INTERVAL {
                    continue;
                }
                if silence > SILENCE_MAX || !write(&mut socket, Frame::Ping(Default::default())).await {
                    break false;
                }
            }
        }
    };
    control.handle_connection_lost(connection);
    if closed_by_us {
        let frame = Frame::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
        if write(&mut socket, frame).await {
            let last_words = async { while let Some(Ok(_)) = socket.stream.next().await {} };
            let _ = tokio::time::timeout(LINGER, last_words).await;
        }
    }
}

/// At multiples of this since the Unix epoch: the program is woken once for all connections, and not for each.
fn common_interval(period: Duration) -> tokio::time::Interval {
    let now = now();
    let past = Duration::from_nanos((now.unix.as_nanos() % period.as_nanos()) as u64);
    tokio::time::interval_at((now.instant + period - past).into(), period)
}

/// What the client says next, looked for from then on.
async fn next(socket: &mut WebSocket, from: Option<Instant>) -> Option<tungstenite::Result<Frame>> {
    if let Some(from) = from {
        tokio::time::sleep_until(from.into()).await;
    }
    socket.stream.next().await
}

fn encode(message: Message, text: bool, deflate: Option<&mut Deflate>) -> Frame {
    let response = SignalResponse { message: Some(message) };
    if text && let Ok(json) = serde_json::to_string(&response) {
        return Frame::Text(json.into());
    }
    let octets = response.encode_to_vec();
    match deflate {
        Some(deflate) => deflate.message(octets),
        None => Frame::Binary(octets.into()),
    }
}

/// Each leaves at once, in segments of its own: on a narrow link a client works on the first while the next is under way.
async fn write(socket: &mut WebSocket, frame: Frame) -> bool {
    matches!(tokio::time::timeout(WRITE_TIMEOUT, socket.stream.send(frame)).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn a_large_message_counts_for_several() {
        let now = start().instant;
        let mut allowance = Allowance::new(now, 10, 20);
        let free = Duration::ZERO;
        assert_eq!([0, CHARGED_OCTETS - 1].map(|octets| allowance.charge(now, octets)), [free; 2], "one each");
        assert_eq!(allowance.charge(now, 40 << 10), free, "11 of 18");
        assert_eq!([100; 7].map(|octets| allowance.charge(now, octets)), [free; 7]);
        assert_eq!(allowance.charge(now, 0), Duration::from_millis(100));
        assert_eq!(allowance.charge(now + Duration::from_millis(200), 0), free);
    }

    #[test]
    fn nobody_waits_longer_than_a_client_would() {
        let mut now = start().instant;
        let mut allowance = Allowance::new(now, 10, 20);
        for _ in 0..3 {
            assert_eq!(allowance.charge(now, 2 << 20), PAUSE_MAX);
            now += PAUSE_MAX;
        }
    }
}
