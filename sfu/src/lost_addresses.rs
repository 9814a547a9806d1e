//! Addresses that a participant has proved and that are no longer its own.
//!
//! A participant without any is not gone: its client may open another connection (RFC 6544), or be on its way from one
//! network to the next. It is silent, and ends as such: see [`crate::Limits::transport_timeout`].

use datapath::{Endpoint, Now};

use crate::sfu::Sfu;
use crate::transport::FiveTuple;

impl Sfu {
    /// A TCP connection has ended; nothing can be sent over it.
    pub(crate) fn handle_stream_closed(&mut self, now: Now, five_tuple: FiveTuple) {
        // Of most nothing is known: they carry TURN, or no check has come over them.
        if let Some(key) = self.routes.find(five_tuple) {
            self.routes.unbind(five_tuple, key);
            self.forget_address(now, key, five_tuple);
        }
    }

    /// A check of another participant has come over a connection that was `before`'s. It is the newcomer's alone, who
    /// will be told when it ends.
    pub(crate) fn give_up_moved(&mut self, now: Now, before: usize, five_tuple: FiveTuple) {
        if matches!(five_tuple.local, Endpoint::Stream { .. }) {
            self.forget_address(now, before, five_tuple);
        }
    }

    fn forget_address(&mut self, now: Now, key: usize, five_tuple: FiveTuple) {
        if let Some(ice) = &mut self.participants[key].ice {
            ice.forget(now.instant, five_tuple);
        }
    }
}
