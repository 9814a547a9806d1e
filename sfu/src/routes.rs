//! Who a datagram belongs to.

use std::collections::HashMap;

use crate::transport::FiveTuple;

/// Looks participants up by ICE ufrag and by proved five-tuple. Values are slab keys of participants.
#[derive(Default)]
pub struct Routes {
    /// We choose the ufrags, strangers choose what they look up: SipHash, as std's map has it.
    by_ufrag: HashMap<String, usize>,
    /// Participants choose their addresses: SipHash as well. An entry appears only after MESSAGE-INTEGRITY verified.
    by_five_tuple: HashMap<FiveTuple, usize>,
    /// Packets come in trains: most often the next one belongs to the one before.
    last: Option<(FiveTuple, usize)>,
}

impl Routes {
    /// Whether the ufrag is free.
    pub fn is_free(&self, ufrag: &str) -> bool {
        !self.by_ufrag.contains_key(ufrag)
    }

    pub fn add_ufrag(&mut self, ufrag: &str, participant: usize) {
        self.by_ufrag.insert(ufrag.to_owned(), participant);
    }

    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
    }

    /// The participant that a check's USERNAME names: what stands before the colon is our ufrag.
    pub fn find_username(&self, username: &[u8]) -> Option<usize> {
        let ufrag = username.split(|&octet| octet == b':').next()?;
        self.by_ufrag.get(std::str::from_utf8(ufrag).ok()?).copied()
    }

    /// Binds a proved five-tuple, and returns who had it before: an address can move from one participant to another
    /// (a browser that joins again from the same socket).
    pub fn bind(&mut self, five_tuple: FiveTuple, participant: usize) -> Option<usize> {
        self.last = None;
        self.by_five_tuple.insert(five_tuple, participant).filter(|&before| before != participant)
    }

    /// Unbinds the five-tuple if it still belongs to the participant.
    pub fn unbind(&mut self, five_tuple: FiveTuple, participant: usize) {
        self.last = None;
        if self.by_five_tuple.get(&five_tuple) == Some(&participant) {
            self.by_five_tuple.remove(&five_tuple);
        }
    }

    pub fn find(&mut self, five_tuple: FiveTuple) -> Option<usize> {
        if let Some((last, participant)) = self.last
            && last == five_tuple
        {
            return Some(participant);
        }
        let participant = *self.by_five_tuple.get(&five_tuple)?;
        self.last = Some((five_tuple, participant));
        Some(participant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::Endpoint;

    fn tuple(port: u16) -> FiveTuple {
        FiveTuple {
            local: Endpoint::Listener { index: 0, ip: [10, 0, 0, 1].into() },
            remote: ([10, 0, 0, 2], port).into(),
        }
    }

    #[test]
    fn an_address_that_moves_belongs_to_the_newcomer_alone() {
        let mut routes = Routes::default();
        assert_eq!(routes.bind(tuple(1), 7), None);
        assert_eq!(routes.find(tuple(1)), Some(7));
        assert_eq!(routes.bind(tuple(1), 8), Some(7));
        routes.unbind(tuple(1), 7);
        assert_eq!(routes.find(tuple(1)), Some(8));
        routes.unbind(tuple(1), 8);
        assert_eq!(routes.find(tuple(1)), None);
    }

    #[test]
    fn the_part_before_the_colon_is_ours() {
        let mut routes = Routes::default();
        routes.add_ufrag("ours", 3);
        assert_eq!(routes.find_username(b"ours:theirs"), Some(3));
        assert_eq!(routes.find_username(b"theirs:ours"), None);
        assert_eq!(routes.find_username(b"\xff:\xff"), None);
        assert_eq!(routes.find_username(b""), None);
    }
}
