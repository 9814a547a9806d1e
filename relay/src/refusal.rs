use std::net::SocketAddr;

use datapath::stun::{ErrorCode, UnknownAttributes};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// New allocations are made there.
    TryAlternate(SocketAddr),
    BadRequest,
    Unauthenticated,
    /// Not ours, or not this client's.
    StaleNonce,
    /// Ours, and too old.
    ExpiredNonce,
    /// The peer address is forbidden by policy.
    Forbidden,
    UnknownAttributes(UnknownAttributes),
    /// No allocation where one is needed, or one where none may be.
    AllocationMismatch,
    /// No relayed address of the requested family.
    AddressFamilyNotSupported,
    /// Not the user who made the allocation.
    WrongCredentials,
    UnsupportedTransportProtocol,
    PeerAddressFamilyMismatch,
    AllocationQuotaReached,
    /// RFC 6062 §6.3: the client is connected to this peer, or about to be.
    ConnectionAlreadyExists,
    ConnectionTimeoutOrFailure,
    InsufficientCapacity,
}

impl Refusal {
    pub fn error_code(self) -> ErrorCode {
        match self {
            Refusal::TryAlternate(_) => ErrorCode::TRY_ALTERNATE,
            Refusal::BadRequest => ErrorCode::BAD_REQUEST,
            Refusal::Unauthenticated => ErrorCode::UNAUTHENTICATED,
            Refusal::StaleNonce | Refusal::ExpiredNonce => ErrorCode::STALE_NONCE,
            Refusal::Forbidden => ErrorCode::FORBIDDEN,
            Refusal::UnknownAttributes(_) => ErrorCode::UNKNOWN_ATTRIBUTE,
            Refusal::AllocationMismatch => ErrorCode::ALLOCATION_MISMATCH,
            Refusal::AddressFamilyNotSupported => ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED,
            Refusal::WrongCredentials => ErrorCode::WRONG_CREDENTIALS,
            Refusal::UnsupportedTransportProtocol => ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL,
            Refusal::PeerAddressFamilyMismatch => ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH,
            Refusal::AllocationQuotaReached => ErrorCode::ALLOCATION_QUOTA_REACHED,
            Refusal::ConnectionAlreadyExists => ErrorCode::CONNECTION_ALREADY_EXISTS,
            Refusal::ConnectionTimeoutOrFailure => ErrorCode::CONNECTION_TIMEOUT_OR_FAILURE,
            Refusal::InsufficientCapacity => ErrorCode::INSUFFICIENT_CAPACITY,
        }
    }
}
