//! Which worker a message names, before anything is known about who sends it.
//!
//! A worker writes its number into what it hands out and gets back: the ICE ufrags of its rooms, its mobility tickets,
//! reservation tokens and the names of connections to peers. Whoever makes up a number only chooses who finds the message wanting.

use crate::stun::{Message, Method};

/// Octets of a worker's number as text.
pub const DIGITS: usize = 2;

/// A worker's number as text: two hexadecimal digits.
pub fn digits(worker: u8) -> [u8; DIGITS] {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
    [digit(worker >> 4), digit(worker & 0xF)]
}

/// The number with which a text begins.
fn leading(text: &[u8]) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    match *text {
        [high, low, ..] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    }
}

/// An ICE ufrag of a room of this worker.
pub fn ufrag(worker: u8, rest: &str) -> String {
    let [high, low] = digits(worker).map(char::from);
    format!("{high}{low}{rest}")
}

/// The worker that has the room of an ICE check (RFC 8445 §7.1.1): its USERNAME begins with the receiver's ufrag.
pub fn of_check(payload: &[u8]) -> Option<u8> {
    leading(Message::parse(payload).ok()?.username()?)
}

/// The worker whose mobility ticket (RFC 8016), reservation token (RFC 8656 §18.7) or CONNECTION-ID (RFC 6062 §6.2.1) this
/// request brings back. A ticket begins with its number as text, the others with an octet of it.
pub fn of_request(payload: &[u8]) -> Option<u8> {
    // Most messages are none of them.
    if !matches!(payload, [0, 3 | 4 | 0x0B, ..]) {
        return None;
    }
    let message = Message::parse(payload).ok()?;
    match message.method() {
        Method::ALLOCATE => message.reservation_token().map(|token| token[0]),
        Method::CONNECTION_BIND => message.connection_id().map(|id| id.to_be_bytes()[0]),
        _ => leading(message.mobility_ticket()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Class, TransactionId, Writer};

    fn request(method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, TransactionId([7; 12]));
        fill(&mut writer);
        let length = writer.finish().unwrap();
        buffer[..length].to_vec()
    }

    fn check(username: &str) -> Vec<u8> {
        request(Method::BINDING, |writer| _ = writer.username(username.as_bytes()))
    }

    #[test]
    fn a_check_names_the_worker_of_its_receiver() {
        assert_eq!(of_check(&check(&format!("{}:theirs", ufrag(0x1f, "rest")))), Some(0x1f));
        for stranger in ["", "1", "g0rest:theirs", ":01", "+1:x"] {
            assert_eq!(of_check(&check(stranger)), None, "{stranger}");
        }
        let whole = check("01rest:theirs");
        assert!((0..whole.len()).all(|length| of_check(&whole[..length]).is_none()));
    }

    #[test]
    fn a_ticket_and_a_token_name_their_worker() {
        let refresh = |ticket: &[u8]| request(Method::REFRESH, |writer| _ = writer.mobility_ticket(ticket));
        assert_eq!(of_request(&refresh(b"03rest")), Some(3));
        assert_eq!(of_request(&refresh(&[])), None);
        let token = |method| request(method, |writer| _ = writer.reservation_token([9; 8]));
        assert_eq!(of_request(&token(Method::ALLOCATE)), Some(9));
        assert_eq!(of_request(&token(Method::REFRESH)), None);
        assert_eq!(of_request(&token(Method::CREATE_PERMISSION)), None);
        let id = |method| request(method, |writer| _ = writer.connection_id(0x0708_090A));
        assert_eq!(of_request(&id(Method::CONNECTION_BIND)), Some(7));
        assert_eq!(of_request(&id(Method::CONNECT)), None);
        // An empty ticket asks for one.
        assert_eq!(of_request(&request(Method::ALLOCATE, |writer| _ = writer.mobility_ticket(&[]))), None);
        let whole = refresh(b"03rest");
        assert!((0..whole.len()).all(|length| of_request(&whole[..length]).is_none()));
    }
}
