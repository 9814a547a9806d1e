use aws_lc_rs::{constant_time, hmac};

use crate::allocations::Id;

const MAC_LEN: usize = 12;
const SIGNED_LEN: usize = 1 + 3 * 4;
/// Octets of a ticket: worker, place, tenant and number of the ticket, and a MAC.
pub const TICKET_LEN: usize = SIGNED_LEN + MAC_LEN;

/// Makes and knows mobility tickets (RFC 8016): which allocation, its how manyth ticket, and a MAC over that and the
/// user's name, so that a ticket is worth nothing in another's hands. The first octet names the worker
/// ([`datapath::steering`]).
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
        let mut ticket = [0; TICKET_LEN];
        ticket[0] = self.worker;
        for (slot, number) in ticket[1..SIGNED_LEN].chunks_exact_mut(4).zip([index, generation, serial]) {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"mobility ticket");
        context.update(&ticket[..SIGNED_LEN]);
        context.update(username);
        ticket[SIGNED_LEN..].copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
        ticket
    }

    /// The allocation and the number of a ticket that this worker made for this user.
    pub fn read(&self, ticket: &[u8], username: &[u8]) -> Option<(Id, u32)> {
        let number = |at: usize| Some(u32::from_be_bytes(ticket.get(at..at + 4)?.try_into().ok()?));
        let (id, serial) = (Id::from_parts([number(1)?, number(5)?]), number(9)?);
        let made = self.make(id, serial, username);
        constant_time::verify_slices_are_equal(&made, ticket).is_ok().then_some((id, serial))
    }
}
