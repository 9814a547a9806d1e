//! REST credentials that never expire: a number of seconds as large as the clock's type holds.

use std::time::Duration;

use crate::client::{Client, assert_success, parse};
use crate::world::World;

#[test]
fn a_credential_without_an_end_has_no_end_with_a_grace_either() {
    let mut world = World::with(|settings| {
        settings.credentials = settings.credentials.clone().with_expiry(Duration::from_secs(30));
    });
    for expiry in [u64::MAX, u64::MAX - 30, u64::MAX - 31] {
        let mut alice = Client::rest(&format!("{expiry}:alice"), "7.7.7.7:1");
        alice.challenge(&mut world);
        let turn = alice.allocate(&mut world);
        assert_eq!(parse(turn.only()).lifetime(), Some(600), "as if it were an hour");
        assert_eq!(parse(alice.refresh(&mut world, 700).only()).lifetime(), Some(700));
        assert_success(&alice.refresh(&mut world, 0));
    }
}
