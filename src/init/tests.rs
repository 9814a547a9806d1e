use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn options(arguments: &[&str]) -> Init {
    let arguments = ["hausruf", "init"].iter().chain(arguments);
    match Cli::try_parse_from(arguments).unwrap().command {
        Some(Command::Init(options)) => options,
        other => panic!("{other:?}"),
    }
}

const ENOUGH: [&str; 4] = ["--server-name", "example.org", "--address", "203.0.113.5"];

fn answers(arguments: &[&str]) -> Answers {
    Answers::ask::<std::io::Empty, std::io::Sink>(&options(arguments), &mut None).unwrap()
}

fn written(existing: &HomeserverConfig) -> Vec<File> {
    files(&answers(&ENOUGH), existing, &Secrets::generate().unwrap()).unwrap()
}

fn text<'a>(files: &'a [File], path: &str) -> &'a str {
    &files.iter().find(|file| file.path == path).unwrap().text
}

#[test]
fn flags_are_enough_and_the_rest_is_usual() {
    let answers = answers(&ENOUGH);
    assert_eq!(answers.url, "https://calls.example.org");
    assert_eq!(answers.homeserver_url, "https://example.org");
    assert_eq!(answers.appservice_url, "http://127.0.0.1:7880");
    assert_eq!((answers.host(), answers.site().as_str()), ("calls.example.org", "https://example.org"));
    let none: &mut Option<(std::io::Empty, std::io::Sink)> = &mut None;
    let error = Answers::ask(&options(&ENOUGH[..2]), none).unwrap_err().to_string();
    assert!(error.contains("--address is missing"), "{error}");
    let error = Answers::ask(&options(&ENOUGH[2..]), none).unwrap_err().to_string();
    assert!(error.contains("--server-name is missing"), "{error}");
}

#[test]
fn at_a_terminal_what_is_missing_is_asked_for() {
    let input =
        Cursor::new("\nexample.org\nrtc.example.org\n203.0.113.5, 2001:db8::5\n\nhttps://matrix.example.org/\n");
    let mut output = Vec::new();
    let answers = Answers::ask(&options(&[]), &mut Some((input, &mut output))).unwrap();
    assert_eq!(answers.url, "https://rtc.example.org");
    assert_eq!(answers.addresses.len(), 2);
    assert_eq!(answers.homeserver, "http://127.0.0.1:8008");
    assert_eq!(answers.homeserver_url, "https://matrix.example.org");
    let asked = String::from_utf8(output).unwrap();
    assert!(asked.contains("The public address of calls [https://calls.example.org]: "), "{asked}");
}

#[test]
fn what_is_written_is_valid_and_the_secrets_agree() {
    let files = written(&HomeserverConfig::default());
    let config = config::Config::parse(text(&files, "hausruf.toml")).unwrap();
    let matrix = config.matrix.unwrap();
    assert_eq!((matrix.server_name.as_str(), matrix.url.as_str()), ("example.org", "https://calls.example.org"));
    assert_eq!(config.listen.http, "127.0.0.1:7880".parse().unwrap());
    let registration = text(&files, "synapse/hausruf-registration.yaml");
    assert!(registration.contains(matrix.as_token.reveal()) && registration.contains(matrix.hs_token.reveal()));
    // Whoever has the token acts as nobody's user.
    assert!(registration.contains("users: []") && registration.contains("rate_limited: false"));
    let synapse = text(&files, "synapse/conf.d/hausruf.yaml");
    assert!(synapse.contains(config.relay.secrets[0].reveal()));
    for line in [
        "turn:calls.example.org:3478?transport=udp",
        "livekit_service_url: \"https://calls.example.org\"",
        "max_event_delay_duration: 24h",
        "\nexperimental_features:\n",
        "msc4502_enabled: true",
        "\nextra_well_known_client_content:\n",
        "  - \"/etc/matrix-synapse/hausruf-registration.yaml\"",
    ] {
        assert!(synapse.contains(line), "{line} is not in {synapse}");
    }
    let well_known: serde_json::Value = serde_json::from_str(text(&files, "well-known/matrix/client")).unwrap();
    assert_eq!(well_known["m.homeserver"]["base_url"], "https://example.org");
    let again = written(&HomeserverConfig::default());
    assert_ne!(text(&again, "hausruf.toml"), text(&files, "hausruf.toml"));
}

#[test]
fn proxies_pass_on_what_clients_need_and_no_more() {
    let files = written(&HomeserverConfig::default());
    for (path, upstream) in
        [("proxy/Caddyfile", "reverse_proxy 127.0.0.1:7880"), ("proxy/nginx.conf", "proxy_pass http://127.0.0.1:7880")]
    {
        let text = text(&files, path);
        for part in ["sfu/get", "get_token", "delegate_delayed_leave", "healthz", "rtc", upstream, "calls.example.org"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("metrics"));
    }
    let nginx = text(&files, "proxy/nginx.conf");
    assert!(nginx.contains("Upgrade $http_upgrade") && nginx.contains("large_client_header_buffers 4 32k"));
}

#[test]
fn what_synapse_has_already_is_not_hidden() {
    let mut existing = HomeserverConfig::default();
    let file = Path::new("/etc/matrix-synapse/homeserver.yaml");
    existing.add(
        file,
        "server_name: example.org\nturn_uris: []\nexperimental_features:\n  msc3061_enabled: true\n# turns:\n",
    );
    let files = written(&existing);
    let synapse = text(&files, "synapse/conf.d/hausruf.yaml");
    assert!(
        !synapse.contains("\nexperimental_features:") && synapse.contains("\n#experimental_features:"),
        "{synapse}"
    );
    assert!(synapse.contains("\napp_service_config_files:") && synapse.contains("\nturn_uris:"));
    let told = told(&answers(&ENOUGH), &existing, &files);
    assert!(told.contains("homeserver.yaml has experimental_features already"), "{told}");
    assert!(told.contains("    experimental_features:\n      msc3266_enabled: true"), "{told}");
    assert!(told.contains("Synapse's present turn_uris give way to the new ones."), "{told}");
    assert!(told.contains("merging what is said above"), "{told}");
}

#[test]
fn who_had_turn_over_tls_is_told_that_it_goes() {
    let mut existing = HomeserverConfig::default();
    existing.add(Path::new("homeserver.yaml"), "turn_uris:\n  - \"turns:turn.example.org?transport=tcp\"\n");
    let told = told(&answers(&ENOUGH), &existing, &written(&existing));
    assert!(told.contains("turn_uris give way to the new ones (add `turns:` URIs again"), "{told}");
}

#[test]
fn the_steps_lead_to_the_service() {
    let existing = HomeserverConfig::default();
    let told = told(&answers(&ENOUGH), &existing, &written(&existing));
    for step in [
        "install -o matrix-synapse -m 600 hausruf/synapse/hausruf-registration.yaml /etc/matrix-synapse/\n",
        "install -o matrix-synapse -m 600 hausruf/synapse/conf.d/hausruf.yaml /etc/matrix-synapse/conf.d/\n",
        "Let the name calls.example.org lead to this machine",
        "Stop coturn, LiveKit and lk-jwt-service",
        "install -g hausruf -m 640 hausruf/hausruf.toml /etc/hausruf/hausruf.toml && systemctl restart hausruf\n",
        "else: hausruf serve --config hausruf/hausruf.toml\n",
        "hausruf doctor https://example.org --config hausruf/hausruf.toml\n",
    ] {
        assert!(told.contains(step), "{step} is not in: {told}");
    }
}

#[test]
fn files_are_private_and_never_overwritten_unasked() {
    let directory = std::env::temp_dir().join(format!("hausruf-init-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let files = written(&HomeserverConfig::default());
    write(&directory, &files, false).unwrap();
    let mode = |path: &str| std::fs::metadata(directory.join(path)).unwrap().permissions().mode() & 0o777;
    for path in ["hausruf.toml", "synapse/hausruf-registration.yaml", "synapse/conf.d/hausruf.yaml"] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    let before = std::fs::read_to_string(directory.join("hausruf.toml")).unwrap();
    let others = written(&HomeserverConfig::default());
    let error = write(&directory, &others, false).unwrap_err().to_string();
    assert!(error.contains("hausruf.toml") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read_to_string(directory.join("hausruf.toml")).unwrap(), before);
    write(&directory, &others, true).unwrap();
    assert_eq!(std::fs::read_to_string(directory.join("hausruf.toml")).unwrap(), text(&others, "hausruf.toml"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn wrong_answers_are_refused() {
    let none: &mut Option<(std::io::Empty, std::io::Sink)> = &mut None;
    let with_path = [&ENOUGH[..], &["--url", "https://example.org/calls"]].concat();
    let error = Answers::ask(&options(&with_path), none).unwrap_err().to_string();
    assert!(error.contains("without a path"), "{error}");
    let mut odd = answers(&ENOUGH);
    odd.server_name = "@alice:example.org".into();
    let error = files(&odd, &HomeserverConfig::default(), &Secrets::generate().unwrap()).unwrap_err().to_string();
    assert!(error.contains("matrix.server_name"), "{error}");
}
