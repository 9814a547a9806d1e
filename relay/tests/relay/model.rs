//! Random histories against a model that keeps everything in ordered maps, cleans nothing up and asks for each datagram
//! what RFC 8656 says.

mod effect;
mod pair;
mod reference;
mod step;

use std::time::Duration;

use proptest::prelude::*;

use self::pair::Pair;
use self::step::{Step, client, step};
use crate::world::CANDIDATE;

/// Of one allocation.
const PERMISSIONS: usize = 3;
const CHANNELS: usize = 2;

/// Allocations, permissions and channels of one user, of one source, and in total.
const OF_USER: [usize; 3] = [2, 4, 3];
const OF_SOURCE: [usize; 3] = [2, 4, 3];
const IN_TOTAL: [usize; 3] = [3, 6, 4];

/// Outside peers, a forbidden one, the candidate, a closed port of ours, and a peer of the other family.
const PEERS: [&str; 8] =
    ["9.9.9.9:1", "9.9.9.9:2", "9.9.9.8:1", "9.9.9.7:1", "10.0.0.1:1", CANDIDATE, "5.5.5.5:22", "[2600::9]:1"];

/// Ann has three clients. The first and the third one of all come from one source, the others from another.
const USERS: [&str; 4] = ["1900000000:ann", "1900000001:ann", "1900000000:bea", "1900000002:ann"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_server_does_what_the_model_does(history in prop::collection::vec((client(), step()), 1..80)) {
        let mut pair = Pair::new();
        let beginning = (0..USERS.len()).map(|client| (client, Step::Allocate));
        for (index, (client, step)) in beginning.chain(history).enumerate() {
            let (mut real, mut expected) = pair.take(client, &step);
            real.sort();
            expected.sort();
            prop_assert_eq!(real, expected, "step {} of client {}: {:?}", index, client, step);
            prop_assert!(pair.world.server.allocations() >= pair.model.allocations.len());
        }
        pair.world.pass(Duration::from_secs(3600));
        prop_assert_eq!(pair.world.server.allocations(), 0);
        prop_assert!(datapath::Node::poll_timeout(&pair.world.server).is_none());
    }
}
