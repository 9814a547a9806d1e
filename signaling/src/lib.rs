//! The control plane: LiveKit sessions over WebSocket, the room service, the page and the metrics.
//!
//! [`livekit::Rooms`] is a state machine without sockets, clock or randomness of its own: client messages, SFU events
//! and time go in, client messages and SFU commands come out. Around it lies a thin layer of HTTP.
//!
//! # Deviations
//!
//! - Only the single-PeerConnection mode (`/rtc/v1`) of the protocol is spoken.
//! - RFC 8829 §5.3.1: an answer names exactly one media codec (and its retransmission format) in every section that
//!   carries media, although more are common, so that the forwarded payload types never change without a new answer.
//! - RFC 8285 §6: an answer takes up header extensions in sections where nothing will carry them, since Chromium offers in
//!   a new section what was taken up before.
//! - RFC 8445 §5.1.1: host candidates stand in the answer's first bundled section alone (RFC 9143 §7.1.3 makes the
//!   others share it), and trickled remote candidates are ignored: an ICE-lite agent answers checks and sends none.
//! - Matrix, MSC4195: who is not in the room is refused with 403 `M_FORBIDDEN` on every endpoint, as the proposal has it
//!   since August 2026; before, it was 401. Keys of a request that are not known are left alone, where lk-jwt-service
//!   refuses the request.
//! - Matrix Server-Server API, *Resolving server names*: a server is asked only if every address that its name leads to
//!   is a public one, a redirect has to stay on `https`, and a delegation is remembered for an hour, whatever its
//!   `Cache-Control` says.
//! - MSC4195 allows users of other servers no more than to listen; here the policy decides, and the default lets them
//!   publish: clients that do not know of several SFUs to a call all publish to one.
//! - RFC 8555: no external account binding (§7.3.4), no revocation (§7.6), no DNS challenge (§8.4); and no renewal
//!   information (RFC 9773): two thirds of a certificate's life decide.
//! - RFC 8829 §5.3.1: tracks of one participant are separate streams in `a=msid` unless the room synchronises them.

pub mod acme;
mod connection;
mod control;
mod http;
mod inbox;
mod leave_store;
pub mod links;
pub mod livekit;
pub mod matrix;
mod metrics;
mod options;
mod outbound;
mod page;
mod server;
mod tcp;
#[cfg(test)]
mod test_clock;
mod websocket;
mod whole_file;

pub use leave_store::LeaveStore;
pub use options::{
    AddressPolicy, CommandSink, Drain, Limits, Matrix, MetricsSource, Options, RoomDefaults, Turn, TurnWithdrawals,
};
pub use outbound::Authorities;
pub use server::serve;
pub use tcp::{CertificateFiles, Certificates, Keeper, StreamSink, Tcp};
pub use whole_file::replace_file;

#[doc(hidden)]
pub use livekit::fuzz::{fuzz_join_request, fuzz_sdp, fuzz_session};
#[doc(hidden)]
pub use matrix::fuzz::fuzz_token_request;
#[doc(hidden)]
pub use matrix::transaction::fuzz_transaction;
#[doc(hidden)]
pub use tcp::fuzz_proxy_header;
#[doc(hidden)]
pub use websocket::fuzz_websocket;
