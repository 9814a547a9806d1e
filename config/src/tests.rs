use super::*;

const EXAMPLE: &str = include_str!("../example.toml");

#[test]
fn the_example_says_the_defaults() {
    assert_eq!(Config::parse(EXAMPLE).unwrap(), Config::default());
}

/// The example with its suggestions, except for some keys.
fn suggested(without: &[&str]) -> String {
    // `#key = value` is a suggestion, `# text` a comment; a suggestion takes the place of the default above it.
    let mut lines: Vec<String> = Vec::new();
    for line in EXAMPLE.lines() {
        let Some(suggestion) = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        else {
            lines.push(line.to_owned());
            continue;
        };
        let (key, _) = suggestion.split_once(" = ").unwrap();
        if without.contains(&key) {
            continue;
        }
        lines.retain(|line| !line.starts_with(&format!("{key} = ")));
        lines.push(suggestion.to_owned());
    }
    lines.join("\n")
}

#[test]
fn what_the_example_suggests_is_valid() {
    let suggested =
        |without: &[&str]| Config::parse(&suggested(without).replace("SECRET", &"secret".repeat(6))).unwrap();
    // A certificate comes from files or from an ACME server.
    let config = suggested(&["certificate", "key"]);
    let tls = config.tls.as_ref().unwrap();
    assert!(matches!(&tls.certificate, Certificate::Acme(acme) if acme.contact.len() == 1 && acme.root.is_some()));
    let config = suggested(&["domains", "contact", "agree_terms", "root"]);
    let tls = config.tls.as_ref().unwrap();
    assert!(matches!(&tls.certificate, Certificate::Files { chain, .. } if chain.ends_with("fullchain.pem")));
    assert_eq!(config.advertise.len(), 2);
    assert_eq!(config.api_keys.len(), 1);
    assert_eq!(config.relay.secrets.len(), 1);
    assert_eq!(config.relay.users.len(), 1);
    let matrix = config.matrix.as_ref().unwrap();
    assert_eq!(matrix.policy.camera, ["@*:example.org"]);
    assert_eq!(matrix.federation.allowed_addresses.len(), 1);
    assert_eq!(config.relay.allowed_peers[0].to_string(), "192.168.7.0/24");
    assert_eq!(config.relay.denied_peers.len(), 2);
    assert_eq!(config.control_socket, ControlSocket::At("/run/hausruf/control.sock".into()));
    assert_eq!(config.relay.drain_deadline, Duration::from_secs(600));
}

/// What stands in the example is known to everybody.
#[test]
fn the_secrets_of_the_example_are_refused() {
    let Err(Error::Invalid(problems)) = Config::parse(&suggested(&["certificate", "key"])) else { panic!() };
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let secrets = ["api_keys.matrix", "matrix.as_token", "matrix.hs_token", "admin.token", "relay.secrets"];
    assert_eq!(keys, [&secrets[..], &["relay.users.alice"]].concat());
}

#[test]
fn audio_is_repaired_unless_that_is_switched_off() {
    assert!(Config::default().media.audio_repair);
    assert!(!Config::parse("media.audio_repair = false").unwrap().media.audio_repair);
}

#[test]
fn an_empty_file_lets_nobody_in() {
    let config = Config::parse("").unwrap();
    assert!(config.api_keys.is_empty());
    assert!(config.relay.secrets.is_empty() && config.relay.users.is_empty());
    assert!(config.relay.allowed_peers.is_empty());
}

/// The one problem of a file with this text.
fn problem(text: &str) -> Problem {
    match Config::parse(text) {
        Err(Error::Invalid(problems)) if problems.len() == 1 => problems[0].clone(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_wrong_value_is_named_with_its_fix() {
    for (text, key, value, fix) in [
        (r#"log = "loud""#, "log", r#""loud""#, r#""info""#),
        (r#"advertise = ["example.org"]"#, "advertise", r#""example.org""#, "203.0.113.5"),
        (r#"advertise = ["0.0.0.0"]"#, "advertise", r#""0.0.0.0""#, "under which they reach"),
        (r#"advertise = ["192.0.2.1", "192.0.2.1"]"#, "advertise", r#""192.0.2.1""#, "twice"),
        ("workers = 0", "workers", "0", "1 to 32"),
        ("workers = 300", "workers", "300", "1 to 32"),
        ("workers = 8\nrelay.ports = \"50000-50015\"", "workers", "8", "fewer workers"),
        (r#"listen.udp = []"#, "listen.udp", "[]", "[::]:3479"),
        (r#"listen.udp = ["[::]"]"#, "listen.udp", r#""[::]""#, "[::]:3478"),
        (r#"listen.udp = ["[::]:0"]"#, "listen.udp", r#""[::]:0""#, "[::]:3478"),
        (r#"listen.udp = ["[::]:1", "[::]:2", "[::]:3"]"#, "listen.udp", "[::]:3", "3479"),
        (r#"listen.udp = ["[::]:5000", "[::]:5000"]"#, "listen.udp", "5000", "5001"),
        (r#"listen.http = "7880""#, "listen.http", r#""7880""#, "0.0.0.0:7880"),
        (r#"listen.tcp = ["[::]:443", "0.0.0.0:443"]"#, "listen.tcp", r#""0.0.0.0:443""#, r#""[::]:443" is this"#),
        (r#"listen.tcp = ["192.0.2.1:443", "0.0.0.0:443"]"#, "listen.tcp", "192.0.2.1:443", "leave it out"),
        (r#"tls.names = ["calls.example.org"]"#, "tls.names", "calls.example.org", "tls.certificate"),
        (r#"api_keys.matrix = "short""#, "api_keys.matrix", "…", "openssl rand"),
        (r#"relay.realm = """#, "relay.realm", r#""""#, "1 to 16"),
        (r#"relay.realm = "a-very-long-realm.example""#, "relay.realm", "a-very", "1 to 16"),
        (r#"relay.secrets = ["short"]"#, "relay.secrets", "…", "openssl rand"),
        (r#"relay.users.al = "short""#, "relay.users.al", "…", "8 characters"),
        (r#"relay.users."a:b" = "long enough""#, "relay.users", r#""a:b""#, "colon"),
        (r#"relay.ports = "50000""#, "relay.ports", r#""50000""#, "49152-65535"),
        (r#"relay.ports = "60000-50000""#, "relay.ports", "60000-50000", "49152-65535"),
        (r#"relay.ports = "3000-4000""#, "relay.ports", "3000-4000", "listening port"),
        (r#"relay.denied_peers = ["10.0.0.1/8"]"#, "relay.denied_peers", "10.0.0.1/8", "10.0.0.0/8"),
        (r#"relay.limits.channels = 0"#, "relay.limits.channels", "0", "1 to"),
        (r#"relay.limits.channels_total = 100000001"#, "relay.limits.channels_total", "100000001", "0 for no limit"),
        (r#"relay.limits.user_mbps = 1000001"#, "relay.limits.user_mbps", "1000001", "0 for no limit"),
        (r#"control.socket = "control.sock""#, "control.socket", "control.sock", "/run/hausruf/control.sock"),
        (r#"control.socket = """#, "control.socket", r#""""#, r#""none""#),
        (r#"limits.rooms = 0"#, "limits.rooms", "0", "1 to"),
    ] {
        // `3000-4000` holds both listeners: one of them is enough here.
        let text = match key {
            "relay.ports" if text.contains("3000") => format!("listen.udp = [\"[::]:3478\"]\n{text}"),
            _ => text.to_owned(),
        };
        let problem = problem(&text);
        assert_eq!(problem.key, key, "{text}");
        assert!(problem.value.contains(value), "{text}: {problem}");
        assert!(problem.fix.contains(fix), "{text}: {problem}");
    }
}

#[test]
fn listeners_that_do_not_meet_are_taken() {
    for tcp in [r#""[::]:443", "0.0.0.0:5349""#, r#""0.0.0.0:443", "[::1]:443""#, r#""192.0.2.1:443", "192.0.2.2:443""#]
    {
        assert!(Config::parse(&format!("listen.tcp = [{tcp}]")).is_ok(), "{tcp}");
    }
}

#[test]
fn the_control_socket_is_where_it_says_and_its_path_fits() {
    let socket = |text: &str| Config::parse(&format!("control.socket = {text:?}")).map(|config| config.control_socket);
    assert_eq!(socket("none").unwrap(), ControlSocket::Nowhere);
    let longest = format!("/{}", "x".repeat(106));
    assert_eq!(socket(&longest).unwrap(), ControlSocket::At(longest.clone().into()));
    assert!(socket(&format!("{longest}x")).unwrap_err().to_string().contains("107 octets"));
}

#[test]
fn all_problems_are_told_at_once() {
    let Err(Error::Invalid(problems)) = Config::parse("listen.http = \"x\"\nrelay.ports = \"y\"\nlimits.rooms = 0")
    else {
        panic!();
    };
    assert_eq!(problems.len(), 3);
}

#[test]
fn an_address_family_without_a_listener_is_told() {
    let problem = problem("listen.udp = [\"0.0.0.0:3478\"]\nadvertise = [\"192.0.2.1\", \"2001:db8::1\"]");
    assert_eq!(problem.key, "advertise");
    assert!(problem.value.contains("2001:db8::1"));
}

#[test]
fn unknown_keys_and_wrong_types_name_the_line() {
    let message = |text| Config::parse(text).unwrap_err().to_string();
    let unknown = message("log = \"info\"\nlissten = 5");
    assert!(unknown.contains("line 2") && unknown.contains("lissten") && unknown.contains("listen"), "{unknown}");
    let wrong = message("[listen]\nhttp = 7880");
    assert!(wrong.contains("line 2") && wrong.contains("7880") && wrong.contains("string"), "{wrong}");
    assert!(message("[relay]\nuser = {}").contains("users"));
}

#[test]
fn secrets_do_not_appear_in_messages_or_debug_output() {
    let secret = "a secret that nobody may read, ever";
    let text = format!("api_keys.a = \"{secret}\"\nrelay.secrets = [\"{secret}\"]\nrelay.users.b = \"{secret}\"");
    let config = Config::parse(&text).unwrap();
    assert!(!format!("{config:?}").contains(secret));
    for broken in [
        format!("relay.secrets = \"{secret}\""),
        format!("[relay]\nsecret = \"{secret}\""),
        format!("[api_keys]\nkey = [\"{secret}\"]"),
        format!("[relay.users]\nalice = {{ is = \"{secret}\" }}"),
        format!("api_keys.a = \"{secret}"),
        format!("api_keys = \"{secret}\""),
        format!("[relay]\nsecrets = [\n  \"x\"\n  \"{secret}\",\n]"),
        format!("[relay]\nsecrets = [\n  \"{secret}\",\n  \"{secret},\n]"),
        format!("[relay]\nsecrets = [\n  \"{secret}=\",\n  \"x\" \"{secret}=\",\n]"),
        format!("[relay]\nrealm = \"\"\"\n{secret}\n\"\" \"{secret}"),
    ] {
        let message = Config::parse(&broken).unwrap_err().to_string();
        assert!(!message.contains(secret), "{message}");
    }
}

#[test]
fn numbers_that_may_be_secrets_do_not_appear_in_messages() {
    let message = Config::parse("[relay]\nsecrets = [\n  4711471147114711,\n]").unwrap_err().to_string();
    assert!(!message.contains("4711"), "{message}");
    assert!(message.contains("line 3") && message.contains("relay.secrets"), "{message}");
}

#[test]
fn a_secret_without_quotation_marks_that_looks_like_a_key_does_not_appear_in_messages() {
    for above in ["", "  \"another\",\n", "  # the first\n\n"] {
        let text = format!("[relay]\nsecrets = [ # of init\n{above}  dGhpcyBpcyBhIHNlY3JldA=\n]");
        let message = Config::parse(&text).unwrap_err().to_string();
        assert!(!message.contains("dGhpcy") && message.contains("relay.secrets"), "{message}");
    }
}

#[test]
fn blanks_in_a_filter_mean_nothing() {
    assert_eq!(Config::parse("log = \" info, sfu = debug \"").unwrap().log, "info,sfu=debug");
}

#[test]
fn what_is_no_toml_or_of_the_wrong_type_has_a_fix() {
    for (text, words) in [
        ("[relay]\nsecrets = \"x\"", ["line 2", "relay.secrets = …", "write a list"]),
        ("advertise = 203.0.113.5", ["line 1", "203.0.113.5", "quotation marks"]),
        ("workers = -1", ["line 1", "-1", "whole number"]),
        ("[relay]\nrealm = 5", ["line 2", "realm = 5", "quotation marks"]),
        ("[relay]\nstrict_expiry = \"yes\"", ["line 2", "yes", "true or false"]),
        ("[relay]\nlog = \"info\"", ["line 2", "`log`", "above the first"]),
        ("[listen]\nhttp = \"0.0.0.0:1\"\n[listen]", ["line 3", "listen", "further up"]),
        ("listen = 5", ["line 1", "listen = 5", "in brackets"]),
        ("[relay]\nallowed_peers = [\n  10,\n]", ["line 3", "relay.allowed_peers = …", "quotation marks"]),
    ] {
        let message = Config::parse(text).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{text:?}: {word:?} is missing: {message}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let message = Config::load(Path::new("/nowhere/hausruf.toml")).unwrap_err().to_string();
    assert!(message.contains("/nowhere/hausruf.toml") && message.contains("--config"), "{message}");
}

#[test]
fn a_file_that_may_not_be_read_is_not_looked_for_elsewhere() {
    let forbidden = std::io::ErrorKind::PermissionDenied.into();
    let message = Error::Unreadable("/etc/hausruf/hausruf.toml".into(), forbidden).to_string();
    assert!(message.contains("able to read it") && !message.contains("--config"), "{message}");
}

#[test]
fn prefixes_are_read_and_written() {
    for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/32"] {
        assert_eq!(prefix(text).unwrap().to_string(), text);
    }
    assert_eq!(prefix("192.0.2.1").unwrap().prefix_len(), 32);
    assert_eq!(prefix("::1").unwrap().prefix_len(), 128);
}

#[test]
fn a_wrong_prefix_is_explained() {
    for (text, word) in [
        ("here", "no IP address"),
        ("192.0.2.0/33", "0 to 32"),
        ("::/-1", "0 to 128"),
        ("192.0.2.1/24", r#""192.0.2.0/24""#),
        ("2001:db8::1/32", r#""2001:db8::/32""#),
    ] {
        let message = prefix(text).unwrap_err();
        assert!(message.contains(word), "{text}: {message}");
    }
}
