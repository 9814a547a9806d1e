//! What RFC 8489 §9.2 added to long-term credentials: SHA-256, hashed names, and no way to bargain a client down.

use aws_lc_rs::digest::{SHA256, digest};
use datapath::stun::{AttributeType, Class, KeySha256, Message, Method, TransactionId, Writer};
use md5::{Digest, Md5};
use relay::{Credentials, rest_password};

use crate::client::{Client, assert_error, parse};
use crate::world::{SECRET, Turn, World};

const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
const CHOSEN_SHA256: [u8; 4] = [0, 2, 0, 0];
const CHOSEN_MD5: [u8; 4] = [0, 1, 0, 0];

fn sha256(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}

/// A client of RFC 8489: what it names and chooses, and the key that it seals with.
struct Modern {
    name: Result<&'static str, [u8; 32]>,
    offered: Option<Vec<u8>>,
    chosen: Option<Vec<u8>>,
    key: KeySha256,
}

impl Modern {
    fn bob() -> Modern {
        Modern {
            name: Ok("bob"),
            offered: Some(OFFERED.to_vec()),
            chosen: Some(CHOSEN_SHA256.to_vec()),
            key: KeySha256::new(&sha256("bob:hausruf:builder")),
        }
    }

    fn allocate(&self, world: &mut World) -> Turn {
        let mut client = Client::bob();
        client.challenge(world);
        let request = self.request(&client.nonce);
        client.send(world, &request)
    }

    fn request(&self, nonce: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; 500];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TransactionId([5; 12]));
        writer.requested_transport(17);
        match self.name {
            Ok(name) => writer.username(name.as_bytes()),
            Err(hash) => writer.userhash(hash),
        };
        writer.realm(b"hausruf").nonce(nonce);
        if let Some(offered) = &self.offered {
            writer.attribute(AttributeType::PASSWORD_ALGORITHMS, offered);
        }
        if let Some(chosen) = &self.chosen {
            writer.attribute(AttributeType::PASSWORD_ALGORITHM, chosen);
        }
        let length = writer.finish_with_integrity_sha256(&self.key, true).unwrap();
        buffer.truncate(length);
        buffer
    }
}

#[track_caller]
fn assert_sealed(turn: &Turn, key: &KeySha256) {
    let answer = parse(turn.only());
    assert_eq!(answer.class(), Class::SuccessResponse, "{:?}", answer.error_code());
    assert!(answer.verify_integrity_sha256(key) && !answer.has_integrity(), "sealed as the request was");
}

#[test]
fn a_challenge_offers_both_algorithms_in_92_octets() {
    let mut world = World::with(|settings| settings.credentials = Credentials::new("sixteen-octets-r"));
    let mut bob = Client::bob();
    let request = bob.plain(Method::ALLOCATE);
    let turn = bob.send(&mut world, &request);
    assert_eq!(turn.only().payload.len(), 92);
    let challenge = parse(turn.only());
    assert_eq!(challenge.attribute(AttributeType::PASSWORD_ALGORITHMS), Some(&OFFERED[..]));
    assert!(challenge.nonce().unwrap().starts_with(b"obMatJos2"));
}

#[test]
fn sha256_from_the_password_to_the_answer() {
    let bob = Modern::bob();
    assert_sealed(&bob.allocate(&mut World::new()), &bob.key);
    let wrong = Modern { key: KeySha256::new(&sha256("bob:hausruf:breaker")), ..Modern::bob() };
    assert_error(&wrong.allocate(&mut World::new()), 401);
}

#[test]
fn md5_and_the_new_seal_go_together_too() {
    let key = || KeySha256::new(&Md5::digest("bob:hausruf:builder"));
    let chosen = Modern { chosen: Some(CHOSEN_MD5.to_vec()), key: key(), ..Modern::bob() };
    assert_sealed(&chosen.allocate(&mut World::new()), &chosen.key);
    let silent = Modern { offered: None, chosen: None, key: key(), ..Modern::bob() };
    assert_sealed(&silent.allocate(&mut World::new()), &silent.key);
}

#[test]
fn a_rest_credential_may_use_sha256() {
    let name = "1900000000:anna";
    let text = format!("{name}:hausruf:{}", rest_password(SECRET, name));
    let anna = Modern { name: Ok(name), key: KeySha256::new(&sha256(&text)), ..Modern::bob() };
    assert_sealed(&anna.allocate(&mut World::new()), &anna.key);
}

#[test]
fn a_hashed_name_is_found() {
    let hashed = Modern { name: Err(sha256("bob:hausruf")), ..Modern::bob() };
    assert_sealed(&hashed.allocate(&mut World::new()), &hashed.key);
    let unknown = Modern { name: Err(sha256("eve:hausruf")), ..Modern::bob() };
    assert_error(&unknown.allocate(&mut World::new()), 401);
}

/// Who sits on the way takes SHA-256 out of the challenge; the client sends back what it was offered, under its seal.
#[test]
fn an_offer_that_was_tampered_with_is_noticed() {
    for (offered, chosen) in [
        (Some(vec![0, 1, 0, 0]), Some(CHOSEN_MD5.to_vec())),
        (Some(vec![0, 1, 0, 0, 0, 2, 0, 0]), Some(CHOSEN_MD5.to_vec())),
        (None, Some(CHOSEN_MD5.to_vec())),
        (Some(OFFERED.to_vec()), None),
        (Some(OFFERED.to_vec()), Some(vec![0, 3, 0, 0])),
        (Some(OFFERED.to_vec()), Some(vec![0, 2, 0, 1, 9, 0, 0, 0])),
    ] {
        let bob = Modern { offered, chosen, ..Modern::bob() };
        assert_error(&bob.allocate(&mut World::new()), 400);
    }
}

#[test]
fn the_nonce_tells_whether_names_may_be_hashed() {
    let nonce = |credentials: Credentials| {
        let mut world = World::with(|settings| settings.credentials = credentials);
        let mut bob = Client::bob();
        bob.challenge(&mut world);
        String::from_utf8(bob.nonce).unwrap()
    };
    let users = Credentials::new("hausruf").with_user("bob", "builder");
    assert!(nonce(users.clone()).starts_with("obMatJos2wAAA"));
    assert!(nonce(users.with_secret(SECRET)).starts_with("obMatJos2gAAA"), "a REST name is needed as it is");
}

#[test]
fn a_seal_that_is_cut_short_is_none() {
    let mut world = World::new();
    let mut client = Client::bob();
    client.challenge(&mut world);
    let whole = Modern::bob().request(&client.nonce);
    // Without FINGERPRINT, and with half of the tag.
    let mut short = whole[..whole.len() - 8 - 16].to_vec();
    let at = short.len() - 16 - 2;
    short[at..at + 2].copy_from_slice(&16u16.to_be_bytes());
    let length = (short.len() - 20) as u16;
    short[2..4].copy_from_slice(&length.to_be_bytes());
    assert!(Message::parse(&short).unwrap().has_integrity_sha256());
    assert_error(&client.send(&mut world, &short), 401);
}
