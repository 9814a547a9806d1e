//! A few runs of the swarm; `netsim swarm` makes more of them.

#[test]
fn random_calls_keep_the_invariants_and_recover() {
    for seed in 1..=6 {
        netsim::swarm::run(seed);
    }
}

#[test]
fn a_seed_is_a_run() {
    assert_eq!(netsim::swarm::run(4), netsim::swarm::run(4));
}
