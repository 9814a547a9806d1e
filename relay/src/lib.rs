//! STUN (RFC 8489) and TURN (RFC 8656), as a [`datapath::Node`]: datagrams and time in, datagrams and socket
//! orders out.
//!
//! Nothing is remembered about an address that has not returned a nonce. A relay socket is opened at the kernel only
//! when an allocation first names a peer outside of this program; other clients of the relay and the SFU are reached in
//! memory.
//!
//! # Deviations
//! - RFC 6062: off unless the limits say otherwise. A relayed address for TCP listens from its first permission on: before
//!   that a peer's connection would be ended anyway. ADDITIONAL-ADDRESS-FAMILY and MOBILITY-TICKET are ignored in its
//!   Allocate. A ConnectionBind for another user's connection, or for one that is bound, gets 400 like one that names none.
//!   Behind 1:1 NAT two clients of ours reach each other over TCP only if the NAT leads the public address back here. A
//!   ConnectionBind is found by its worker if it is the first request of its connection.
//! - RFC 8016: a client that has moved is served at its new address at once; nothing goes to the old one any more.
//! - TTL and hop limit are the kernel's, and of the traffic class only ECN is carried over (RFC 8656 §14, §15). But for a
//!   Send with DONT-FRAGMENT, DF is the kernel's too: set on what fits the path as it knows it; the rest is fragmented.
//! - A reserved port (EVEN-PORT with the R bit) lasts 30 seconds, and no longer than the allocation that reserved it.
//! - Channels 0x5000-0x7FFE may be bound as in RFC 5766 §11, since its clients are still about.
//! - Requests with an unknown method get no answer, where RFC 8489 §6.3.1 has the server drop or refuse them; requests
//!   beyond the pre-authentication rate of their source get none either.
//! - USERHASH finds the users of the configuration. The name of a REST credential is needed as it is: its password is
//!   made from it; so the nonce offers hashed names only where there are no such secrets (RFC 8489 §9.2).
//! - TURN over DTLS (RFC 7350) is not served: no browser uses it, and on the shared port its ClientHello looks like that
//!   of a call. NAT behaviour discovery (RFC 5780) neither: it needs a second address.
//! - Of several workers each takes a relayed address of another for a live one: what is sent to one that is not gets lost
//!   there, where a permission or channel for it would be refused here. A TCP connection stays with its worker: over one
//!   that began at another than its ticket or reservation is of, that is unknown (400, 508).

mod allocate;
mod allocation;
mod allocations;
mod bandwidth;
mod channel;
mod connect;
mod connection;
mod credential;
mod deadlines;
mod forward;
#[doc(hidden)]
pub mod fuzz;
mod nonce;
mod peer_policy;
mod permission;
mod ports;
mod quota;
mod rate;
mod refusal;
mod reply;
mod request;
mod revocations;
mod server;
mod settings;
mod tcp_quota;
#[cfg(test)]
mod test_clock;
mod ticket;
mod usage;
mod wish;

pub use credential::{Credentials, rest_password};
pub use peer_policy::PeerPolicy;
pub use ports::partition;
pub use quota::Quotas;
pub use revocations::{REVOCATIONS_MAX, WITHDRAWALS_MAX};
pub use server::Server;
pub use settings::{Limits, RateLimits, Settings, Share, TcpLimits, Terms};
pub use tcp_quota::TcpQuota;
pub use usage::{Relayed, Usage, UsagePage};
