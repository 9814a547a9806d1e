//! The names that Matrix clients and SFUs compute alike, from what only the members of a room see.

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// The slot of calls that know none: one call a room.
pub const CALL_SLOT: &str = "m.call#ROOM";

/// Unpadded base64 of SHA-256 of the compact JSON array of `parts`, as MSC4195 has it.
fn hashed(parts: &[&str]) -> String {
    let json = serde_json::to_string(parts).expect("texts are JSON");
    BASE64_STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, json.as_bytes()))
}

/// The call's name at the SFU. Every member of the Matrix room can compute it, nobody else.
pub fn call_name(room_id: &str, slot_id: &str) -> String {
    hashed(&[room_id, slot_id])
}

/// The participant's name in the form of `/sfu/get`. Unambiguous only while a device id has no colon.
pub fn plain_identity(user_id: &str, device_id: &str) -> String {
    format!("{user_id}:{device_id}")
}

/// The participant's name in the form of `/get_token`.
pub fn hashed_identity(user_id: &str, device_id: &str, member_id: &str) -> String {
    hashed(&[user_id, device_id, member_id])
}

/// The participant's name where devices are not named any more (MSC4195 since August 2026).
pub fn member_identity(user_id: &str, member_id: &str) -> String {
    hashed(&[user_id, member_id])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_clients_compute() {
        assert_eq!(call_name("!roomid:example.com", "slot1234"), "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc");
        assert_eq!(
            hashed_identity("@alice:example.com", "DEVICE123", "memberABC"),
            "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU"
        );
        assert_eq!(plain_identity("@a:hs:8448", "DEV"), "@a:hs:8448:DEV");
    }

    #[test]
    fn only_what_json_must_escape_is_escaped() {
        // Canonical JSON keeps everything else as it is; otherwise names would differ from those of clients.
        let json = serde_json::to_string(&["é/\u{1f600}\"\\\u{7}"]).unwrap();
        assert_eq!(json, "[\"é/\u{1f600}\\\"\\\\\\u0007\"]");
    }
}
