use super::translation::translate;

const SECRET: &str = "north-north-north-north-north-north";

#[test]
fn a_file_for_synapse_becomes_ours() {
    let (toml, notes) = translate(&format!(
        "listening-port=3480\nuse-auth-secret\nstatic-auth-secret={SECRET}\nrealm=turn.a-long-name.example.org\n\
         external-ip=203.0.113.5/10.0.0.5\nno-tcp-relay\ndenied-peer-ip=10.0.0.0-10.255.255.255\n\
         allowed-peer-ip=10.0.0.1\nuser-quota=12\ntotal-quota=1200\nmax-bps=125000\nbps-capacity=12500000\ncert=/c.pem\npkey=/k.pem\n\
         static-auth-secret=short\nuser=anna:0xbc807ee29df3c9ff\nuser=bert:long-enough\nperhaps=1\n"
    ));
    let config = config::Config::parse(&toml).unwrap();
    assert_eq!(config.advertise[0].to_string(), "203.0.113.5");
    assert_eq!(config.listen.udp[0].to_string(), "[::]:3480");
    assert_eq!(config.listen.tcp[1].to_string(), "[::]:5349");
    let relay = &config.relay;
    assert_eq!((relay.realm.as_str(), relay.secrets.len(), relay.secrets[0].reveal()), ("hausruf", 1, SECRET));
    assert_eq!(relay.users.keys().collect::<Vec<_>>(), ["bert"]);
    let limits = &relay.limits;
    assert_eq!((limits.allocations_per_user, limits.allocations, limits.kilobits_per_second), (12, 1200, 2000));
    assert_eq!((limits.total_mbps, limits.user_mbps), (200, 0));
    assert_eq!(relay.allowed_peers[0].addr().to_string(), "10.0.0.1");
    assert!(!relay.denied_peers.iter().any(|net| net.contains(&relay.allowed_peers[0].addr())));
    assert!(relay.denied_peers.iter().any(|net| net.contains(&"10.9.9.9".parse::<std::net::IpAddr>().unwrap())));
    let told = notes.join("\n");
    for part in
        ["2: use-auth-secret", "4: realm: left out", "15: static-auth-secret", "16: user", "18: an unknown option"]
    {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(
        !["north", "short\n", "0xbc", "anna", "bert", "perhaps"].into_iter().any(|secret| told.contains(secret)),
        "{told}"
    );
}

#[test]
fn what_would_open_this_machine_is_left_out() {
    let (toml, notes) = translate("allowed-peer-ip=0.0.0.0-255.255.255.255\n");
    assert!(config::Config::parse(&toml).unwrap().relay.allowed_peers.is_empty());
    assert!(notes[0].contains("open this machine"));
    let (toml, notes) = translate("allowed-peer-ip=127.0.0.53\nallowed-peer-ip=::1\nallowed-peer-ip=10.0.0.1\n");
    assert_eq!(config::Config::parse(&toml).unwrap().relay.allowed_peers.len(), 1);
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_server_for_stun_alone_relays_for_nobody() {
    let (toml, notes) = translate(&format!("static-auth-secret={SECRET}\nuser=bert:long-enough\nstun-only\n"));
    let relay = config::Config::parse(&toml).unwrap().relay;
    assert!(relay.secrets.is_empty() && relay.users.is_empty());
    assert!(notes[0].contains("nobody can relay"));
}

#[test]
fn the_file_of_debians_package_is_known_whole() {
    let Ok(text) = std::fs::read_to_string("/etc/turnserver.conf") else { return };
    let (toml, notes) = translate(&text);
    config::Config::parse(&toml).unwrap();
    assert!(!notes.iter().any(|note| note.contains("unknown")), "{notes:?}");
}
