//! What OpenID tokens were used for first. Every SFU that a client talks to sees its token, and could show it to us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use super::ServerName;

/// Homeservers let a token live for an hour.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// SHA-256 of server and token: the table holds nothing that opens anything.
type Key = [u8; 32];

struct Pin {
    room_id: String,
    device_id: String,
    until: Instant,
}

/// Only tokens that a server has vouched for get in. Beyond the capacity the oldest are forgotten.
pub struct Pins {
    capacity: usize,
    pins: BTreeMap<Key, Pin>,
    order: BTreeSet<(Instant, Key)>,
}

impl Pins {
    pub fn new(capacity: usize) -> Pins {
        Pins { capacity: capacity.max(1), pins: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// False if the token was used for another room or device before.
    pub fn admit(
        &mut self,
        now: Instant,
        server: &ServerName,
        access_token: &str,
        room_id: &str,
        device_id: &str,
    ) -> bool {
        let key = key(server, access_token);
        self.forget(now);
        if let Some(pin) = self.pins.get(&key) {
            return pin.room_id == room_id && pin.device_id == device_id;
        }
        while self.pins.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.pins.remove(&oldest);
        }
        let until = now + LIFE;
        self.pins.insert(key, Pin { room_id: room_id.to_owned(), device_id: device_id.to_owned(), until });
        self.order.insert((until, key));
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, key)) = self.order.first().copied()
            && until <= now
        {
            self.order.pop_first();
            self.pins.remove(&key);
        }
        debug_assert!(self.pins.values().all(|pin| pin.until > now));
    }
}

fn key(server: &ServerName, access_token: &str) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(server.as_str().as_bytes());
    context.update(&[0]);
    context.update(access_token.as_bytes());
    context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_with_its_first_room_and_device() {
        #[allow(clippy::disallowed_methods)] // Some instant to count from.
        let now = Instant::now();
        let server = ServerName::parse("hs").unwrap();
        let other = ServerName::parse("other").unwrap();
        let mut pins = Pins::new(2);
        assert!(pins.admit(now, &server, "t", "!r", "D"));
        assert!(pins.admit(now, &server, "t", "!r", "D"));
        assert!(!pins.admit(now, &server, "t", "!s", "D"));
        assert!(!pins.admit(now, &server, "t", "!r", "E"));
        assert!(pins.admit(now, &other, "t", "!s", "D"), "another server's token");
        assert!(!pins.admit(now + LIFE - Duration::from_secs(1), &server, "t", "!s", "D"));
        assert!(pins.admit(now + LIFE, &server, "t", "!s", "D"), "it has expired everywhere");
        assert_eq!(pins.len(), 1);
        pins.admit(now + LIFE, &server, "u", "!r", "D");
        pins.admit(now + LIFE, &server, "v", "!r", "D");
        assert_eq!(pins.len(), 2);
    }
}
