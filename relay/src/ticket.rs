use aws_lc_rs::{constant_time, hmac};

use crate::allocations::Id;

const MAC_LEN: usize = 12;
/// Octets of a ticket: place, tenant and number of the ticket, and a MAC.
pub const TICKET_LEN: usize = 12 + MAC_LEN;

/// Makes and knows mobility tickets (RFC 8016): which allocation, its how manyth ticket, and a MAC over that and the
/// user's name, so that a ticket is worth nothing in another's hands.
#[derive(Debug)]
pub struct Tickets {
    key: hmac::Key,
}

impl Tickets {
    pub fn new(key: &[u8; 32]) -> Tickets {
        // The same key makes nonces: what is signed here begins with a word that no nonce has.
        Tickets { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    pub fn make(&self, id: Id, serial: u32, username: &[u8]) -> [u8; TICKET_LEN] {
        let [index, generation] = id.parts();
        let mut ticket = [0; TICKET_LEN];
        for (slot, number) in ticket.chunks_exact_mut(4).zip([index, generation, serial]) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"mobility ticket");
        context.update(&ticket[..12]);
        context.update(username);
        ticket[12..].copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
        ticket
    }

    /// The allocation and the number of a ticket that was made for this user.
    pub fn read(&self, ticket: &[u8], username: &[u8]) -> Option<(Id, u32)> {
        let number = |at: usize| Some(u32::from_be_bytes(ticket.get(at..at + 4)?.try_into().ok()?));
        let (id, serial) = (Id::from_parts([number(0)?, number(4)?]), number(8)?);
        let made = self.make(id, serial, username);
        constant_time::verify_slices_are_equal(&made, ticket).is_ok().then_some((id, serial))
    }
}
