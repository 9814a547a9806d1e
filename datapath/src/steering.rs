//! Which worker a message names, before anything is known about who sends it.
//!
//! A worker writes its number into what it hands out and gets back: the ICE ufrags of its rooms, its mobility tickets
//! and reservation tokens. Whoever makes up a number only chooses who finds the message wanting.

use crate::stun::{Message, Method};

/// Two hexadecimal digits before the rest of an ICE ufrag.
pub fn ufrag(worker: u8, rest: &str) -> String {
    format!("{worker:02x}{rest}")
}

/// The worker that has the room of an ICE check (RFC 8445 §7.1.1), by the receiver's ufrag that its USERNAME begins with.
pub fn of_check(payload: &[u8]) -> Option<u8> {
    let message = Message::parse(payload).ok()?;
    let digits = message.username()?.get(..2)?;
    let digit = |octet: u8| (octet as char).to_digit(16);
    Some((digit(digits[0])? << 4 | digit(digits[1])?) as u8)
}

/// The worker whose mobility ticket (RFC 8016) or reservation token (RFC 8656 §18.7) this request brings back: the first
/// octet of either.
pub fn of_request(payload: &[u8]) -> Option<u8> {
    // Most messages are none of the two.
    if !matches!(payload, [0, 3 | 4, ..]) {
        return None;
    }
    let message = Message::parse(payload).ok()?;
    match message.method() {
        Method::ALLOCATE => message.reservation_token().map(|token| token[0]),
        _ => message.mobility_ticket()?.first().copied(),
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
        assert_eq!(of_request(&refresh(&[3, 1, 2])), Some(3));
        assert_eq!(of_request(&refresh(&[])), None);
        let token = |method| request(method, |writer| _ = writer.reservation_token([9; 8]));
        assert_eq!(of_request(&token(Method::ALLOCATE)), Some(9));
        assert_eq!(of_request(&token(Method::REFRESH)), None);
        assert_eq!(of_request(&token(Method::CREATE_PERMISSION)), None);
        // An empty ticket asks for one.
        assert_eq!(of_request(&request(Method::ALLOCATE, |writer| _ = writer.mobility_ticket(&[]))), None);
        let whole = refresh(&[3, 1, 2]);
        assert!((0..whole.len()).all(|length| of_request(&whole[..length]).is_none()));
    }
}
