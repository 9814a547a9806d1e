//! Data packets: who gets one, and what the server writes into it.

use std::collections::BTreeSet;

use bytes::Bytes;
use livekit_protocol::{
    DataPacket,
    data_packet::{Kind, Value},
};
use prost::Message;

pub const RELIABLE: &str = "_reliable";
pub const LOSSY: &str = "_lossy";

/// Who sent a packet, as receivers are told.
pub struct Sender<'a> {
    pub sid: &'a str,
    /// Empty for a hidden participant.
    pub identity: &'a str,
    pub is_agent: bool,
}

#[derive(Debug, PartialEq)]
pub struct Forwarded {
    pub payload: Bytes,
    /// Identities; empty means everybody. As a set, since everybody in the room is looked up in it.
    pub identities: BTreeSet<String>,
    /// Participant sids, as old clients name them.
    pub sids: BTreeSet<String>,
}

/// Reads a packet of `sender` on the channel of `kind` and writes what the others get; `None` if it goes nowhere.
/// `last_sequence` is the sender's last reliable one: what came already (again after a resume) is dropped.
pub fn forward(payload: &[u8], kind: Kind, sender: &Sender<'_>, last_sequence: &mut u32) -> Option<Forwarded> {
    let mut packet = DataPacket::decode(payload).ok()?;
    if kind == Kind::Reliable && packet.sequence > 0 {
        if packet.sequence <= *last_sequence {
            return None;
        }
        *last_sequence = packet.sequence;
    }
    let unknown = packet.value.is_none();
    let mut sids = BTreeSet::new();
    #[allow(deprecated)]
    match &mut packet.value {
        Some(Value::Speaker(_) | Value::Metrics(_)) => return None,
        Some(Value::Transcription(_)) if !sender.is_agent => return None,
        Some(Value::User(user)) => {
            user.participant_sid = sender.sid.into();
            user.participant_identity = sender.identity.into();
            if packet.destination_identities.is_empty() {
                packet.destination_identities = user.destination_identities.clone();
            } else {
                user.destination_identities = packet.destination_identities.clone();
            }
            sids = std::mem::take(&mut user.destination_sids).into_iter().collect();
        }
        _ => {}
    }
    let identities = packet.destination_identities.iter().cloned().collect();
    #[allow(deprecated)]
    let payload = if unknown {
        // A kind of value that is newer than we are travels as it came: of a field that stands twice the last counts.
        let patch = DataPacket {
            kind: kind as i32,
            participant_identity: sender.identity.into(),
            participant_sid: sender.sid.into(),
            ..Default::default()
        };
        let mut bytes = payload.to_vec();
        patch.encode(&mut bytes).ok()?;
        bytes
    } else {
        packet.kind = kind as i32;
        packet.participant_sid = sender.sid.into();
        packet.participant_identity = sender.identity.into();
        packet.encode_to_vec()
    };
    Some(Forwarded { payload: payload.into(), identities, sids })
}

#[cfg(test)]
#[allow(deprecated)]
mod tests {
    use livekit_protocol::{MetricsBatch, UserPacket};

    use super::*;

    const ANNA: Sender<'_> = Sender { sid: "PA_anna", identity: "anna", is_agent: false };

    fn user(sequence: u32) -> DataPacket {
        DataPacket {
            sequence,
            participant_identity: "somebody else".into(),
            destination_identities: vec!["bert".into()],
            value: Some(Value::User(UserPacket { payload: b"hello".to_vec(), ..Default::default() })),
            ..Default::default()
        }
    }

    #[test]
    fn the_server_says_who_sent_it() {
        let mut last = 0;
        let out = forward(&user(0).encode_to_vec(), Kind::Lossy, &ANNA, &mut last).unwrap();
        assert_eq!(out.identities, BTreeSet::from(["bert".to_owned()]));
        let packet = DataPacket::decode(out.payload).unwrap();
        assert_eq!(packet.participant_identity, "anna");
        assert_eq!(packet.kind, Kind::Lossy as i32);
        let Some(Value::User(user)) = packet.value else {
            panic!("not a user packet");
        };
        assert_eq!(user.participant_sid, "PA_anna");
        assert_eq!(user.destination_identities, ["bert"]);
        assert_eq!(user.payload, b"hello");
    }

    #[test]
    fn a_reliable_packet_is_forwarded_once() {
        let mut last = 0;
        let mut send = |sequence, kind| forward(&user(sequence).encode_to_vec(), kind, &ANNA, &mut last).is_some();
        assert!(send(1, Kind::Reliable));
        assert!(send(2, Kind::Reliable));
        assert!(!send(2, Kind::Reliable));
        assert!(!send(1, Kind::Reliable));
        assert!(send(1, Kind::Lossy));
        assert!(send(3, Kind::Reliable));
        assert_eq!(last, 3);
    }

    #[test]
    fn metrics_and_rubbish_go_nowhere() {
        let metrics = DataPacket { value: Some(Value::Metrics(MetricsBatch::default())), ..Default::default() };
        let bytes = metrics.encode_to_vec();
        assert_eq!(forward(&bytes, Kind::Lossy, &ANNA, &mut 0), None);
        assert_eq!(forward(&[0xff; 9], Kind::Lossy, &ANNA, &mut 0), None);
    }

    #[test]
    fn a_value_that_we_do_not_know_keeps_its_octets() {
        // Field 1000, length-delimited, "new".
        let mut bytes = vec![0xc2, 0x3e, 3];
        bytes.extend_from_slice(b"new");
        let out = forward(&bytes, Kind::Reliable, &ANNA, &mut 0).unwrap();
        assert!(out.payload.starts_with(&bytes));
        assert_eq!(DataPacket::decode(out.payload).unwrap().participant_identity, "anna");
    }
}
