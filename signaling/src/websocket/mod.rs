//! WebSockets (RFC 6455) whose messages are compressed where the client knows how (RFC 7692): an offer of 17 kB takes
//! 0.7 s on a link of 200 kbit/s, with the handshake of the media behind it, and compressed a tenth of that.

mod deflate;
mod inflating;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub use self::deflate::Deflate;
use self::inflating::Inflating;
#[doc(hidden)]
pub use self::inflating::fuzz_websocket;

/// Octets of a client's message; a join request with a large offer is the longest.
pub const MESSAGE_LIMIT: usize = 2 << 20;
/// What an idle connection sets aside in each direction; longer messages grow it for their time.
const BUFFER: usize = 4 << 10;

/// The client forgets its last message before the next (RFC 7692 §7.1.1.2): an idle connection keeps no dictionary.
const EXTENSION: &str = "permessage-deflate; client_no_context_takeover";
/// The same for a client that wishes us to forget as well (§7.1.1.1).
const EXTENSION_EACH_ALONE: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

pub struct WebSocket {
    pub stream: WebSocketStream<Inflating<TokioIo<Upgraded>>>,
    /// For a client that takes compressed messages.
    pub deflate: Option<Deflate>,
}

/// A request for a WebSocket that can be granted.
pub struct Upgrade {
    key: HeaderValue,
    on_upgrade: OnUpgrade,
    compression: Option<Compression>,
}

/// What a client offers that we take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Compression {
    /// It wishes to keep no dictionary.
    each_alone: bool,
}

impl Upgrade {
    /// `None`: the request is for something else (RFC 6455 §4.2.1).
    pub fn of(parts: &mut Parts) -> Option<Upgrade> {
        let headers = &parts.headers;
        let wanted = parts.method == Method::GET
            && lists(headers, header::CONNECTION, "upgrade")
            && lists(headers, header::UPGRADE, "websocket")
            && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| wanted)?.clone();
        let compression = offered_compression(headers);
        let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
        Some(Upgrade { key, on_upgrade, compression })
    }

    /// The response that grants it, and what becomes the socket when that has been sent.
    pub fn grant(self) -> (Response<Body>, impl Future<Output = Result<WebSocket, hyper::Error>>) {
        let Upgrade { key, on_upgrade, compression } = self;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is plain text"));
        if let Some(Compression { each_alone }) = compression {
            let extension = if each_alone { EXTENSION_EACH_ALONE } else { EXTENSION };
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
        }
        let socket = async move {
            let stream = Inflating::new(TokioIo::new(on_upgrade.await?), compression.is_some());
            let config = WebSocketConfig::default()
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_message_size(Some(MESSAGE_LIMIT))
                .max_frame_size(Some(MESSAGE_LIMIT));
            let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
            Ok(WebSocket { stream, deflate: compression.map(|offered| Deflate::new(offered.each_alone)) })
        };
        (response, socket)
    }
}

/// Whether a header that lists words has this one.
fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(word))
}

/// The first of the offers that we take: a window of our choice for what we send (RFC 7692 §7.1.2.1), for ours is the
/// largest. Of the others all parameters may be as they like.
fn offered_compression(headers: &HeaderMap) -> Option<Compression> {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let mut offers = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.find_map(|offer| {
        let mut parts = offer.split(';').map(|part| part.split('=').next().unwrap_or_default().trim());
        let mut offered = Compression { each_alone: false };
        (parts.next() == Some("permessage-deflate")).then_some(())?;
        for parameter in parts {
            match parameter {
                "server_no_context_takeover" => offered.each_alone = true,
                "client_no_context_takeover" | "client_max_window_bits" => {}
                _ => return None,
            }
        }
        Some(offered)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_narrows_our_window_is_not_taken() {
        let offered = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value.parse().unwrap());
            offered_compression(&headers).map(|offered| offered.each_alone)
        };
        assert_eq!(offered("permessage-deflate; client_max_window_bits"), Some(false));
        assert_eq!(offered("permessage-deflate; server_max_window_bits=10, permessage-deflate"), Some(false));
        let alone = "x-other, permessage-deflate;server_no_context_takeover ; client_max_window_bits=12";
        assert_eq!(offered(alone), Some(true));
        assert_eq!(offered("permessage-deflate; server_max_window_bits=10"), None);
        assert_eq!(offered("x-webkit-deflate-frame"), None);
    }
}
