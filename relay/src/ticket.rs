use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use datapath::steering;

use crate::allocations::Id;

const NUMBERS_LEN: usize = 3 * 4;
const MAC_LEN: usize = 10;
/// Base64 of the numbers and the MAC.
const SECRET_LEN: usize = 30;
/// Octets of a ticket. More than 32, or a zero among them, and turnutils_uclient does not bring it back.
pub const TICKET_LEN: usize = steering::DIGITS + SECRET_LEN;

/// Makes and knows mobility tickets (RFC 8016): the worker, which of its allocations, its how manyth ticket, and a MAC over
/// that and the user's name, so that a ticket is worth nothing in another's hands.
#[derive(Debug)]
pub struct Tickets {
    key: hmac::Key,
    worker: u8,
}

impl Tickets {
    pub fn new(key: &[u8; 32], worker: u8) -> Tickets {
        // The same key makes nonces: what is signed here begins with a word that no nonce has.
        Tickets { key: hmac::Key::new(hmac::HMAC_SHA256, key), worker }
    }

    pub fn make(&self, id: Id, serial: u32, username: &[u8]) -> [u8; TICKET_LEN] {
        let [index, generation] = id.parts();
        let mut octets = [0; NUMBERS_LEN + MAC_LEN];
        let (numbers, mac) = octets.split_at_mut(NUMBERS_LEN);
        for (slot, number) in numbers.chunks_exact_mut(4).zip([index, generation, serial]) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"mobility ticket");
        context.update(&[self.worker]);
        context.update(numbers);
        context.update(username);
        mac.copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
        let mut ticket = [0; TICKET_LEN];
        let (digits, secret) = ticket.split_at_mut(steering::DIGITS);
        digits.copy_from_slice(&steering::digits(self.worker));
        let length = URL_SAFE_NO_PAD.encode_slice(octets, secret);
        assert_eq!(length, Ok(SECRET_LEN));
        ticket
    }

    /// The allocation and the number of a ticket that this worker made for this user.
    pub fn read(&self, ticket: &[u8], username: &[u8]) -> Option<(Id, u32)> {
        let secret = ticket.get(steering::DIGITS..).filter(|secret| secret.len() == SECRET_LEN)?;
        let mut octets = [0; NUMBERS_LEN + MAC_LEN];
        URL_SAFE_NO_PAD.decode_slice_unchecked(secret, &mut octets).ok()?;
        let number = |at: usize| u32::from_be_bytes(octets[at..at + 4].try_into().expect("four octets"));
        let (id, serial) = (Id::from_parts([number(0), number(4)]), number(8));
        let made = self.make(id, serial, username);
        constant_time::verify_slices_are_equal(&made, ticket).is_ok().then_some((id, serial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_its_worker_and_user_alone() {
        let tickets = Tickets::new(&[7; 32], 0x1f);
        let id = Id::from_parts([0, 0x0100]);
        let ticket = tickets.make(id, 3, b"bob");
        assert!(ticket.starts_with(b"1f") && ticket.iter().all(u8::is_ascii_graphic));
        assert_eq!(tickets.read(&ticket, b"bob"), Some((id, 3)));
        assert_eq!(tickets.read(&ticket, b"bo"), None);
        assert_eq!(Tickets::new(&[7; 32], 0x1e).read(&ticket, b"bob"), None);
        assert_eq!(Tickets::new(&[8; 32], 0x1f).read(&ticket, b"bob"), None);
        for index in 0..TICKET_LEN {
            for other in 0..=255 {
                let mut changed = ticket;
                changed[index] = other;
                assert_eq!(tickets.read(&changed, b"bob").is_some(), changed == ticket);
            }
            assert_eq!(tickets.read(&ticket[..index], b"bob"), None);
        }
    }
}
