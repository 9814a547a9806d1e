use config::Config;

use super::translation::{Note, translate};

const SECRET: &str = "north-north-north-north-north-north";
/// Every option of coturn 4.6.1 and 4.17.1: names alone.
const OPTIONS: &str = include_str!("coturn_options.txt");
const ANSWERS: [&str; 4] = ["carried over: ", "already so", "not needed: ", "cannot be carried over: "];
/// What a key of ours says just as well, so that nothing is to be said.
const CARRIED: [&str; 23] = [
    "allowed-peer-ip",
    "alt-listening-port",
    "bps-capacity",
    "cert",
    "denied-peer-ip",
    "external-ip",
    "listening-ip",
    "listening-port",
    "max-bps",
    "max-port",
    "min-port",
    "no-tcp",
    "no-tls",
    "pkey",
    "prometheus-address",
    "prometheus-port",
    "realm",
    "relay-ip",
    "static-auth-secret",
    "tls-listening-port",
    "total-quota",
    "user",
    "user-quota",
];

macro_rules! sample {
    ($name:literal) => {
        String::from_utf8_lossy(include_bytes!(concat!("../../tests/coturn/", $name))).into_owned()
    };
}

fn told(notes: &[Note]) -> String {
    notes.iter().map(|note| format!("{note}\n")).collect()
}

fn of_lines(notes: &[Note]) -> Vec<String> {
    notes.iter().filter(|note| note.line.is_some()).map(ToString::to_string).collect()
}

fn parsed(text: &str) -> (Config, Vec<Note>) {
    let (toml, notes) = translate(text);
    let config = Config::parse(&toml).unwrap_or_else(|error| panic!("{text}\nmakes\n{toml}\n{error}"));
    (config, notes)
}

#[test]
fn a_file_for_synapse_becomes_ours() {
    let (config, notes) = parsed(&format!(
        "listening-port=3480\nuse-auth-secret\nstatic-auth-secret={SECRET}\nrealm=turn.a-long-name.example.org\n\
         external-ip=203.0.113.5/10.0.0.5\nno-tcp-relay\ndenied-peer-ip=10.0.0.0-10.255.255.255\n\
         allowed-peer-ip=10.0.0.1\nuser-quota=12\ntotal-quota=1200\nmax-bps=125000\nbps-capacity=12500000\ncert=/c.pem\npkey=/k.pem\n\
         static-auth-secret=short\nuser=anna:0xbc807ee29df3c9ff\nuser=bert:long-enough\nperhaps=1\n"
    ));
    assert_eq!(config.advertise[0].to_string(), "203.0.113.5");
    assert_eq!(config.listen.udp, ["[::]:3480".parse().unwrap(), "[::]:5349".parse().unwrap()]);
    assert_eq!(config.listen.tcp, ["[::]:3480".parse().unwrap(), "[::]:5349".parse().unwrap()]);
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:7880");
    let relay = &config.relay;
    assert_eq!((relay.realm.as_str(), relay.secrets.len(), relay.secrets[0].reveal()), ("hausruf", 1, SECRET));
    assert!(relay.users.is_empty(), "coturn lets none in beside a secret");
    let limits = &relay.limits;
    assert_eq!((limits.allocations_per_user, limits.allocations, limits.kilobits_per_second), (12, 1200, 2000));
    assert_eq!((limits.total_mbps, limits.user_mbps), (200, 0));
    let policy = relay::PeerPolicy::new(relay.allowed_peers.clone(), relay.denied_peers.clone(), Vec::new());
    assert!(policy.admits("10.0.0.1".parse().unwrap()) && !policy.admits("10.0.0.2".parse().unwrap()));
    let told = told(&notes);
    for part in [
        "2: use-auth-secret: already so",
        "4: realm: cannot",
        "15: static-auth-secret: cannot",
        "16: user: not needed",
        "18: no option",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert!(
        !["north", "short\n", "0xbc", "anna", "bert", "perhaps"].into_iter().any(|secret| told.contains(secret)),
        "{told}"
    );
}

#[test]
fn every_option_has_its_answer() {
    let value = |name: &str| match name {
        "listening-ip" | "relay-ip" | "external-ip" | "allowed-peer-ip" | "denied-peer-ip" | "prometheus-address" => {
            "192.0.2.9".to_owned()
        }
        "cert" | "pkey" => "/etc/turn.pem".into(),
        "user" => "anna:long-enough".into(),
        "static-auth-secret" => SECRET.into(),
        name if name.ends_with("-port") => "40000".into(),
        _ => "1".into(),
    };
    assert_eq!(OPTIONS.lines().count(), 151);
    for name in OPTIONS.lines() {
        let (_, notes) = parsed(&format!("{name}={}\n", value(name)));
        let notes = of_lines(&notes);
        let answers: Vec<String> = ANSWERS.iter().map(|answer| format!("1: {name}: {answer}")).collect();
        match &notes[..] {
            [] => assert!(CARRIED.contains(&name), "{name}"),
            [note] => {
                assert!(answers.iter().any(|answer| note.starts_with(answer)), "{note}");
                assert!(!CARRIED.contains(&name), "{note}");
            }
            _ => panic!("{notes:?}"),
        }
    }
}

#[test]
fn what_is_carried_over_is_in_the_file() {
    let value = |name: &str| match name {
        "allowed-peer-ip" | "denied-peer-ip" | "external-ip" | "listening-ip" | "relay-ip" => "198.51.100.9",
        "cert" | "pkey" => "/etc/turn.pem",
        "prometheus-address" => "198.51.100.9",
        "realm" | "user" | "static-auth-secret" => "anna:the-longest-of-all-secrets-there-are",
        "no-tcp" | "no-tls" => "1",
        _ => "55555",
    };
    // Some options mean something beside others only.
    let with = |name: &str| match name {
        "prometheus-port" | "prometheus-address" => "prometheus\n",
        "cert" => "pkey=/etc/turn.pem\n",
        "pkey" => "cert=/etc/turn.pem\n",
        "no-tls" | "tls-listening-port" => "cert=/etc/turn.pem\npkey=/etc/turn.pem\n",
        _ => "",
    };
    for name in CARRIED {
        let value = if name == "realm" { "anna" } else { value(name) };
        let without = parsed(with(name)).0;
        assert_ne!(parsed(&format!("{}{name}={value}\n", with(name))).0, without, "{name}");
    }
}

#[test]
fn switches_that_are_off_mean_the_contrary() {
    let answer = |line: &str| of_lines(&parsed(line).1).join("\n");
    for line in ["mobility=0", "no-tcp-relay=0", "no-tcp-relay=off", "fingerprint no", "no-multicast-peers=false"] {
        let (off, on) = (answer(line), answer(line.split(['=', ' ']).next().unwrap()));
        assert_ne!(off, on);
        assert!(line.starts_with("fingerprint") || off.contains("cannot be carried over"), "{off}");
    }
    for line in ["no-auth=0", "verbose=off", "allow-loopback-peers=no", "no-udp=f", "no-tlsv1_2=0"] {
        assert!(answer(line).contains("already so"), "{line}: {}", answer(line));
    }
    assert!(answer("mobility=perhaps").contains("neither on nor off"));
    assert!(answer("no-tls=perhaps").contains("not understood"));
    let tcp = |line: &str| parsed(line).0.listen.tcp;
    assert_eq!((tcp("no-tcp").len(), tcp("no-tcp=0").len()), (0, 1));
}

#[test]
fn users_have_the_passwords_that_coturn_gives_them() {
    let (config, notes) = parsed(&sample!("static-users.conf"));
    let users: Vec<_> = config.relay.users.iter().map(|(name, password)| (name.as_str(), password.reveal())).collect();
    assert_eq!(users, [("guest", "colon:word")]);
    // A user in the file is a whole application's.
    let limits = &config.relay.limits;
    assert_eq!(limits.allocations_per_user, limits.allocations);
    let told = told(&notes);
    for part in [
        "4: user: cannot",
        "5: user: cannot",
        "9: mobility: cannot",
        "10: no-tcp-relay: cannot",
        "11: no-auth: already",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert_eq!(config.relay.ports, 3480..=65535, "the largest part without a listening port: {told}");
}

#[test]
fn nothing_makes_the_whole_file_be_refused() {
    let (config, notes) = parsed(&sample!("refused-once.conf"));
    let told = told(&notes);
    assert_eq!(config.listen.udp, ["192.0.2.10:7880".parse().unwrap(), "192.0.2.10:7881".parse().unwrap()]);
    assert_eq!(config.listen.tcp, ["192.0.2.10:7880".parse().unwrap()]);
    assert_eq!(config.listen.http, "127.0.0.1:7881".parse().unwrap(), "{told}");
    assert_eq!(config.advertise, ["192.0.2.10".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(config.relay.ports, 7882..=60000);
    let limits = &config.relay.limits;
    assert_eq!((limits.kilobits_per_second, limits.allocations), (100_000_000, 100_000_000));
    assert_eq!(config.relay.secrets[0].reveal(), r#"secret-with-"quotes"-and-\backslashes-in-it"#);
    for part in
        ["6: external-ip: cannot", "external-ip, relay-ip: left out", "relay.ports is 7882-60000", "is 127.0.0.1:7881"]
    {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

#[test]
fn the_address_that_peers_see_is_found() {
    let advertise = |text: &str| -> Vec<String> { parsed(text).0.advertise.iter().map(ToString::to_string).collect() };
    assert_eq!(advertise(&sample!("bigbluebutton.conf")), ["203.0.113.5"]);
    assert_eq!(advertise(&sample!("ejabberd.conf")), ["192.0.2.10", "2001:db8::10"]);
    assert_eq!(advertise("relay-ip=192.0.2.7\nlistening-ip=192.0.2.6\n"), ["192.0.2.7"]);
    let several = "listening-ip=10.0.0.5\nlistening-ip=10.0.0.6\nexternal-ip=203.0.113.5/10.0.0.5\n";
    assert_eq!(advertise(several), ["203.0.113.5", "10.0.0.6"]);
    assert_eq!(advertise("external-ip=203.0.113.5\nexternal-ip=203.0.113.5\n"), ["203.0.113.5"]);
    assert_eq!(advertise("listening-ip=0.0.0.0\n"), [""; 0]);
}

#[test]
fn who_is_allowed_within_what_is_denied_is_a_peer_and_nobody_else() {
    let admits = |text: &str, ip: &str| {
        let relay = parsed(text).0.relay;
        relay::PeerPolicy::new(relay.allowed_peers, relay.denied_peers, Vec::new()).admits(ip.parse().unwrap())
    };
    let within = "denied-peer-ip=198.51.100.0-198.51.100.255\nallowed-peer-ip=198.51.100.7-198.51.100.8\n";
    assert!(["198.51.100.7", "198.51.100.8"].into_iter().all(|ip| admits(within, ip)));
    assert!(!["198.51.100.6", "198.51.100.9"].into_iter().any(|ip| admits(within, ip)));
    let around = "denied-peer-ip=10.0.0.7\nallowed-peer-ip=10.0.0.0-10.255.255.255\n";
    assert!(["10.0.0.6", "10.0.0.7"].into_iter().all(|ip| admits(around, ip)));
}

#[test]
fn limits_that_coturn_has_not_are_named() {
    let remark =
        |text: &str| told(&parsed(text).1).lines().find(|line| line.starts_with(" relay.limits: ")).map(str::to_owned);
    let with_none = remark("realm=a\n").unwrap();
    for limit in
        ["allocations = 10000", "allocations_per_user = 40", "allocations_per_source = 1000", "permissions = 64"]
    {
        assert!(with_none.contains(limit), "{with_none}");
    }
    let with_quotas = remark("user-quota=12\ntotal-quota=1200\n").unwrap();
    assert!(!with_quotas.contains("_per_user") && with_quotas.contains("allocations_per_source"), "{with_quotas}");
    assert_eq!(remark("stun-only\n"), None);
    let zero = of_lines(&parsed("total-quota=0\nuser-quota=0\n").1);
    assert!(zero[0].contains("relay.limits.allocations is 10000"), "{zero:?}");
    assert!(zero[1].contains("relay.limits.allocations_per_user is 40"), "{zero:?}");
}

#[test]
fn a_third_udp_port_is_spoken_of() {
    let speaks = |text: &str| told(&parsed(text).1).contains("two UDP ports, and 5349 is the second");
    let certificate = "cert=/c.pem\npkey=/k.pem\n";
    assert!(speaks(&format!("{certificate}alt-listening-port=3479\n")));
    assert!(!speaks("alt-listening-port=3479\n") && !speaks(certificate));
}

#[test]
fn metrics_stay_where_they_are() {
    let http = |text: &str| parsed(text).0.listen.http.to_string();
    assert_eq!(http("prometheus\n"), "0.0.0.0:9641");
    assert_eq!(http("prometheus\nprometheus-port=9000\nprometheus-address=127.0.0.1\n"), "127.0.0.1:9000");
    assert_eq!(http("prometheus-port=9000\n"), "127.0.0.1:7880");
}

#[test]
fn what_would_open_this_machine_is_left_out() {
    let (config, notes) = parsed("allowed-peer-ip=0.0.0.0-255.255.255.255\n");
    assert!(config.relay.allowed_peers.is_empty());
    assert!(notes[0].text.contains("open this machine"));
    let (config, notes) = parsed("allowed-peer-ip=127.0.0.53\nallowed-peer-ip=::1\nallowed-peer-ip=10.0.0.1\n");
    assert_eq!(config.relay.allowed_peers.len(), 1);
    assert_eq!(of_lines(&notes).len(), 2);
}

#[test]
fn private_peers_are_spoken_of_unless_they_are_denied() {
    let speaks = |text: &str| told(&parsed(text).1).contains("relay.allowed_peers: coturn relays to private");
    assert!(speaks(&sample!("nextcloud-talk.conf")) && speaks(&sample!("bigbluebutton.conf")));
    // One of them is allowed, which is carried over.
    assert!(!speaks(&sample!("synapse.conf")));
    assert!(!speaks("stun-only\n"));
}

#[test]
fn a_server_for_stun_alone_relays_for_nobody() {
    let (config, notes) = parsed("lt-cred-mech\nuser=bert:long-enough\nstun-only\n");
    assert!(config.relay.secrets.is_empty() && config.relay.users.is_empty());
    assert!(notes[1].text.contains("nobody can relay"));
}

#[test]
fn the_file_of_debians_package_is_known_whole() {
    let Ok(text) = std::fs::read_to_string("/etc/turnserver.conf") else { return };
    // What is commented out there as well.
    // Explanations begin with a blank behind the sign, and have several words.
    let is_option = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default();
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let examples: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('#')).filter(is_option).collect();
    assert!(examples.len() > 50, "{examples:?}");
    let (_, notes) = parsed(&[&text, "\n", &examples.join("\n")].concat());
    assert!(!notes.iter().any(|note| note.text.contains("no option")), "{notes:?}");
}

proptest::proptest! {
    /// Whatever stands in the file: what comes out is valid.
    #[test]
    fn the_result_is_valid_whatever_the_file_says(
        lines in proptest::collection::vec((0..152usize, 0..VALUES.len(), 0..VALUES.len()), 0..30),
        noise in "\\PC{0,40}",
    ) {
        let names: Vec<&str> = OPTIONS.lines().chain([noise.as_str()]).collect();
        let text: String =
            lines.iter().map(|&(name, one, two)| format!("{}={}{}\n", names[name], VALUES[one], VALUES[two])).collect();
        parsed(&text);
    }
}

const VALUES: [&str; 30] = [
    "",
    "0",
    "1",
    "-1",
    "80",
    "3478",
    "3479",
    "7880",
    "49152",
    "65535",
    "65536",
    "99999999999",
    "off",
    "0.0.0.0",
    "::",
    "192.0.2.1",
    "10.0.0.1",
    "2001:db8::1",
    "ff02::1",
    "224.0.0.1",
    "-10.255.255.255",
    "/10.0.0.1",
    "/8",
    "anna:",
    "0x",
    "a-long-enough-secret-for-everybody-here",
    "\"quoted",
    "\u{7f}\u{1}\\",
    "\u{fffd}",
    "/etc/turn.pem",
];
