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

pub use self::deflate::message as compressed;
use self::inflating::Inflating;
#[doc(hidden)]
pub use self::inflating::fuzz_websocket;

/// Octets of a client's message; a join request with a large offer is the longest.
pub const MESSAGE_LIMIT: usize = 2 << 20;
/// What an idle connection sets aside in each direction; longer messages grow it for their time.
const BUFFER: usize = 4 << 10;

/// Both sides forget the last message before the next (RFC 7692 §7.1.1): an idle connection keeps no dictionary.
const EXTENSION: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

pub struct WebSocket {
    pub stream: WebSocketStream<Inflating<TokioIo<Upgraded>>>,
    /// The client takes compressed messages.
    pub compresses: bool,
}

/// A request for a WebSocket that can be granted.
pub struct Upgrade {
    key: HeaderValue,
    on_upgrade: OnUpgrade,
    compresses: bool,
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
        let compresses = offers_compression(headers);
        let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
        Some(Upgrade { key, on_upgrade, compresses })
    }

    /// The response that grants it, and what becomes the socket when that has been sent.
    pub fn grant(self) -> (Response<Body>, impl Future<Output = Result<WebSocket, hyper::Error>>) {
        let Upgrade { key, on_upgrade, compresses } = self;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is plain text"));
        if compresses {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(EXTENSION));
        }
        let socket = async move {
            let stream = Inflating::new(TokioIo::new(on_upgrade.await?), compresses);
            let config = WebSocketConfig::default()
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_message_size(Some(MESSAGE_LIMIT))
                .max_frame_size(Some(MESSAGE_LIMIT));
            let stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
            Ok(WebSocket { stream, compresses })
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

/// Whether one of the offers is one that we take: a window of our choice for what we send (RFC 7692 §7.1.2.1), for ours is
/// the largest. Of the others all parameters may be as they like.
fn offers_compression(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some("permessage-deflate")
            && parts.all(|parameter| {
                let name = parameter.split('=').next().unwrap_or_default().trim();
                matches!(name, "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits")
            })
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
            offers_compression(&headers)
        };
        assert!(offered("permessage-deflate; client_max_window_bits"));
        assert!(offered("permessage-deflate; server_max_window_bits=10, permessage-deflate"));
        assert!(offered("x-other, permessage-deflate;server_no_context_takeover ; client_max_window_bits=12"));
        assert!(!offered("permessage-deflate; server_max_window_bits=10"));
        assert!(!offered("x-webkit-deflate-frame"));
    }
}
