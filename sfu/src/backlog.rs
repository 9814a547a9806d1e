//! DTLS datagrams that wait until the media of the turn has gone out.

use std::collections::VecDeque;

/// A handshake's flight costs some 200 µs, a forwarded packet one: so DTLS comes after media, and only so much a turn.
#[derive(Default)]
pub struct Backlog {
    queue: VecDeque<Waiting>,
}

/// One datagram and the participant (slab key) whose transport it belongs to.
pub struct Waiting {
    pub participant: usize,
    pub datagram: Vec<u8>,
    /// The handshake is not finished: the datagram may cost a signature or a key agreement.
    pub is_handshake: bool,
}

/// What a turn may spend, in units of one datagram of an established session (about 5 µs).
const TURN_BUDGET: u32 = 128;
const HANDSHAKE_COST: u32 = 32;

impl Backlog {
    /// False when `limit` datagrams wait already.
    pub fn push(&mut self, waiting: Waiting, limit: usize) -> bool {
        let accepted = self.queue.len() < limit;
        if accepted {
            self.queue.push_back(waiting);
        }
        accepted
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets what waits for a participant that has left (its slab key will be another's).
    pub fn forget(&mut self, participant: usize) {
        self.queue.retain(|waiting| waiting.participant != participant);
    }

    /// Takes the next datagram while the turn's budget lasts.
    pub fn pop(&mut self, budget: &mut Budget) -> Option<Waiting> {
        let cost = if self.queue.front()?.is_handshake { HANDSHAKE_COST } else { 1 };
        if budget.spent > 0 && budget.spent + cost > TURN_BUDGET {
            return None;
        }
        budget.spent += cost;
        self.queue.pop_front()
    }
}

/// What a turn has spent.
#[derive(Default)]
pub struct Budget {
    spent: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(is_handshake: bool) -> Waiting {
        Waiting { participant: 1, datagram: Vec::new(), is_handshake }
    }

    #[test]
    fn a_turn_takes_a_few_handshakes_or_many_data_packets() {
        for (is_handshake, a_turn) in [(true, 4), (false, 128)] {
            let mut backlog = Backlog::default();
            for _ in 0..200 {
                assert!(backlog.push(waiting(is_handshake), 200));
            }
            assert!(!backlog.push(waiting(is_handshake), 200));
            let mut budget = Budget::default();
            assert_eq!(std::iter::from_fn(|| backlog.pop(&mut budget)).count(), a_turn);
            assert!(!backlog.is_empty());
        }
    }
}
