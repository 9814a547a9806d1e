//! Addresses that a participant has proved and that are no longer its own.
//!
//! A participant without any is not gone: its client may open another connection (RFC 6544), or be on its way from one
//! network to the next. It is silent, and ends as such: see [`crate::Limits::transport_timeout`].

use datapath::{Now, Outbox};

use crate::sfu::Sfu;
use crate::transport::FiveTuple;
use crate::transport::ice::let_go;

impl Sfu {
    /// A TCP connection has ended; nothing can be sent over it.
    pub(crate) fn handle_stream_closed(&mut self, now: Now, five_tuple: FiveTuple) {
        // Of most nothing is known: they carry TURN, or no check has come over them.
        if let Some(key) = self.routes.find(five_tuple) {
            self.forget_address(now, key, five_tuple);
        }
    }

    /// Connections that are of no use any more, each of which is a share of what a client and the server may have. A check
    /// that comes before one ends brings it back.
    pub(crate) fn let_go_unused(&mut self, now: Now, key: usize, out: &mut Outbox) {
        while let Some(unused) = self.participants[key].ice.as_ref().and_then(|ice| ice.unused_stream(now.instant)) {
            self.forget_address(now, key, unused);
            let_go(unused, out);
        }
    }

    /// It has ended, is let go, or has become another participant's, whose check has come from there: a NAT has given it away,
    /// or a client comes again from the same socket. Nothing more is sent there for this one unless he checks it again.
    pub(crate) fn forget_address(&mut self, now: Now, key: usize, five_tuple: FiveTuple) {
        // Does nothing to one that is another's by now.
        self.routes.unbind(five_tuple, key);
        if let Some(ice) = &mut self.participants[key].ice {
            ice.forget(now.instant, five_tuple);
        }
    }
}
