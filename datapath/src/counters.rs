//! What a worker counts. Plain numbers on the packet path; nothing there touches a shared counter.

/// Declares a fieldless enum with a metric label for each variant.
macro_rules! labelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The value of the metric's label.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }
        }
    };
}

labelled! {
    /// Why a received packet went no further.
    Discard {
        /// First byte outside RFC 7983's ranges, or an empty datagram.
        UnknownProtocol => "unknown_protocol",
        MalformedStun => "malformed_stun",
        /// A STUN response, indication or method that nobody here asked for (RFC 8656 §21).
        UnexpectedStun => "unexpected_stun",
        /// An ICE check for a ufrag that no transport has.
        UnknownUfrag => "unknown_ufrag",
        /// MESSAGE-INTEGRITY does not verify.
        BadIntegrity => "bad_integrity",
        /// Pre-authentication answers to this source prefix ran out of tokens.
        RateLimited => "rate_limited",
        /// ChannelData or Send for an allocation that does not exist.
        NoAllocation => "no_allocation",
        NoPermission => "no_permission",
        NoChannel => "no_channel",
        /// The peer address is forbidden by policy.
        ForbiddenPeer => "forbidden_peer",
        /// A peer's datagram for which the client has no permission.
        UnsolicitedPeer => "unsolicited_peer",
        /// A relay socket could not be opened, or is not open yet.
        NoRelaySocket => "no_relay_socket",
        MalformedChannelData => "malformed_channel_data",
        /// DTLS, SRTP or SRTCP from an address that no transport has verified.
        UnknownFiveTuple => "unknown_five_tuple",
        /// SRTP before the DTLS handshake is finished.
        NoKeys => "no_keys",
        MalformedRtp => "malformed_rtp",
        MalformedRtcp => "malformed_rtcp",
        /// The authentication tag of SRTP or SRTCP does not verify.
        BadSrtp => "bad_srtp",
        Replayed => "replayed",
        /// An SSRC that belongs to no track of this participant, or to none any more.
        UnknownSsrc => "unknown_ssrc",
        /// A payload type that its section did not negotiate.
        UnknownPayloadType => "unknown_payload_type",
        /// A retransmission (RFC 4588) of a packet that its stream has not come to, or that an earlier source had sent.
        StrayRepair => "stray_repair",
        /// Media of a muted track.
        Muted => "muted",
        MalformedDtls => "malformed_dtls",
        MalformedSctp => "malformed_sctp",
        /// The allocation, its user, its source prefix or all allocations together have relayed what they may.
        OverBandwidth => "over_bandwidth",
        /// A queue or table is at its limit.
        LimitReached => "limit_reached",
        /// Handed over in memory more often than twice.
        MemoryLoop => "memory_loop",
        /// It waited too long for a TCP connection that takes no more, or the connection is gone.
        StreamFull => "stream_full",
        /// A TCP connection's octets are no datagrams.
        Unframed => "unframed",
        /// The ring to the worker that it belongs to is full.
        WorkerBusy => "worker_busy",
        /// The kernel refused to send it.
        SendFailed => "send_failed",
    }
}

labelled! {
    /// Whose quota refused a request: without names, which strangers choose.
    Quota {
        User => "user",
        Source => "source",
        Total => "total",
    }
}

labelled! {
    /// What kind of traffic a packet is.
    Traffic {
        Stun => "stun",
        Turn => "turn",
        ChannelData => "channel_data",
        Dtls => "dtls",
        Rtp => "rtp",
        Rtcp => "rtcp",
        Retransmission => "retransmission",
        Padding => "padding",
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketsAndBytes {
    pub packets: u64,
    pub bytes: u64,
}

impl PacketsAndBytes {
    /// Counts one packet.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// The counters of one worker since it started.
#[derive(Clone, Debug)]
pub struct Counters {
    pub received: [PacketsAndBytes; Traffic::ALL.len()],
    pub sent: [PacketsAndBytes; Traffic::ALL.len()],
    pub discarded: [u64; Discard::ALL.len()],
    /// Requests that a quota refused.
    pub over_quota: [u64; Quota::ALL.len()],
    /// Relay sockets opened at the kernel since the start.
    pub relay_sockets_opened: u64,
    /// Datagrams handed over in memory.
    pub memory_handovers: u64,
    /// Datagrams passed on to the worker that they belong to.
    pub passed_to_workers: u64,
    /// TCP connections to and from peers that stood, since the start.
    pub peer_connections_opened: u64,
    /// Octets that passed through them.
    pub octets_to_peers: u64,
    pub octets_to_clients: u64,
    /// Header extensions that cannot be read. Their packets went on without what these would have said.
    pub malformed_extensions: u64,
    /// Events for the control plane that found its queue full.
    pub events_lost: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            received: [PacketsAndBytes::default(); Traffic::ALL.len()],
            sent: [PacketsAndBytes::default(); Traffic::ALL.len()],
            discarded: [0; Discard::ALL.len()],
            over_quota: [0; Quota::ALL.len()],
            relay_sockets_opened: 0,
            memory_handovers: 0,
            passed_to_workers: 0,
            peer_connections_opened: 0,
            octets_to_peers: 0,
            octets_to_clients: 0,
            malformed_extensions: 0,
            events_lost: 0,
        }
    }
}

impl Counters {
    pub fn discard(&mut self, reason: Discard) {
        self.discarded[reason as usize] += 1;
    }

    pub fn discarded(&self, reason: Discard) -> u64 {
        self.discarded[reason as usize]
    }

    pub fn refuse(&mut self, quota: Quota) {
        self.over_quota[quota as usize] += 1;
    }

    pub fn received(&mut self, kind: Traffic, bytes: usize) {
        self.received[kind as usize].add(bytes);
    }

    pub fn sent(&mut self, kind: Traffic, bytes: usize) {
        self.sent[kind as usize].add(bytes);
    }
}
