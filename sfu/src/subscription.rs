//! A track as it is sent to one subscriber.

use datapath::Entropy;

use crate::command::LayerWish;
use crate::forwarder::Forwarder;
use crate::sender_report::SenderReports;
use crate::track::{SubscriptionSpec, TrackSpec};

pub struct Subscription {
    /// Slab keys.
    pub track: usize,
    pub subscriber: usize,
    pub spec: SubscriptionSpec,
    pub wish: LayerWish,
    pub forwarder: Forwarder,
    pub reports: SenderReports,
    /// The number of the next retransmission (RFC 4588 §4: a stream of its own), unwrapped.
    pub rtx_sequence: u64,
}

impl Subscription {
    pub fn new(
        track: usize,
        subscriber: usize,
        spec: SubscriptionSpec,
        published: &TrackSpec,
        entropy: &mut Entropy,
    ) -> Subscription {
        // Below 2¹⁵: see [`Forwarder::new`].
        let mut first_sequence = || (entropy.u32() & 0x7FFF) as u16;
        Subscription {
            track,
            subscriber,
            wish: spec.wish,
            forwarder: Forwarder::new(published.codec, first_sequence()),
            reports: SenderReports::default(),
            rtx_sequence: u64::from(first_sequence()),
            spec,
        }
    }
}
