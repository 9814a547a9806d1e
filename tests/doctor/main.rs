//! `hausruf doctor` on set-ups that are right, and on those that an administrator got wrong in one place: it names that
//! place, in one sentence, and nothing that only follows from it.

mod certificates;
mod homeserver;
mod http;
mod proxy;
mod world;

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

use proxy::Faults;
use world::{Findings, Plan, World};

fn examine(plan: &Plan) -> Findings {
    World::start(plan).examine()
}

/// The one thing that is wrong with a homeserver configured like this.
fn of_homeserver(change: impl Fn(&mut homeserver::Settings) + 'static) -> String {
    examine(&Plan { homeserver: Box::new(change), ..Plan::default() }).wrong()
}

fn of_proxy(proxy: Faults) -> String {
    examine(&Plan { proxy, ..Plan::default() }).wrong()
}

/// The one thing that is wrong when doctor's copy and the server's configuration differ like this.
fn of_copy(change: impl Fn(&mut world::Configuration) + 'static) -> String {
    examine(&Plan { copy: Box::new(change), ..Plan::default() }).wrong()
}

#[track_caller]
fn says(sentence: &str, beginning: &str, fix: &str) {
    assert!(sentence.starts_with(beginning), "{sentence:?} does not begin with {beginning:?}");
    assert!(sentence.contains(fix), "{fix:?} is not in {sentence:?}");
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_right_set_up_is_well_from_end_to_end() {
    let findings = examine(&Plan { tls: true, ..Plan::default() });
    assert!(findings.is_well(), "{findings:?}");
    assert!(findings.with("lost").is_empty() && findings.with("unknown").is_empty(), "{findings:?}");
    let fine: Vec<&str> = findings.with("fine").into_iter().map(|(check, _)| check).collect();
    for check in [
        "domain",
        "well_known",
        "homeserver",
        "account",
        "appservice",
        "membership",
        "transports",
        "proxying",
        "delayed_events",
        "service",
        "endpoints",
        "metrics",
        "socket",
        "clock",
        "udp",
        "tcp",
        "turn",
        "turn_server",
        "transactions",
        "open_id",
        "token",
        "call",
    ] {
        assert!(fine.contains(&check), "{check} is not in {findings:?}");
    }
}

#[test]
fn without_tls_it_says_what_is_lost() {
    let findings = examine(&Plan::default());
    assert!(findings.is_well(), "{findings:?}");
    let lost = findings.with("lost");
    assert!(lost.iter().all(|(_, told)| told.contains("browsers give camera and microphone")), "{findings:?}");
}

#[test]
fn a_user_s_token_is_enough_without_the_configuration() {
    let world = World::start(&Plan::default());
    let findings = world.examine_with(&world.site, &["--as-user", homeserver::USER_TOKEN]);
    assert!(findings.is_well(), "{findings:?}");
    let fine: Vec<&str> = findings.with("fine").into_iter().map(|(check, _)| check).collect();
    for check in ["transports", "delayed_events", "open_id", "token", "call", "turn_server"] {
        assert!(fine.contains(&check), "{check} is not in {findings:?}");
    }
    let findings = world.examine_with(&world.site, &["--as-user", "stale"]);
    let account = findings.with("wrong").into_iter().find(|(check, _)| *check == "account").unwrap();
    assert!(account.1.contains("does not accept the token given with --as-user (401 M_UNKNOWN_TOKEN)"), "{findings:?}");
}

#[test]
fn an_older_synapse_works_and_what_is_lost_is_said() {
    let older = |settings: &mut homeserver::Settings| {
        settings.msc4502 = false;
        settings.msc4512 = false;
    };
    let findings = examine(&Plan { homeserver: Box::new(older), tls: true, ..Plan::default() });
    assert!(findings.is_well(), "{findings:?}");
    let lost: Vec<&str> = findings.with("lost").into_iter().map(|(check, _)| check).collect();
    assert_eq!(lost, ["membership", "proxying"], "{findings:?}");
    assert!(findings.with("fine").iter().any(|(check, _)| *check == "call"), "{findings:?}");
}

#[test]
fn a_name_without_an_address() {
    let world = World::start(&Plan { runs: false, ..Plan::default() });
    // Longer than a label can be, so that no resolver asks for it.
    let findings = world.examine_with(&format!("https://{}.example", "a".repeat(64)), &[]);
    let (check, told) = findings.with("wrong")[0];
    assert_eq!(check, "domain");
    assert!(told.ends_with("has no address: add an A or AAAA record for it to the DNS."), "{told}");
}

#[test]
fn a_web_server_that_is_not_there() {
    let world = World::start(&Plan { runs: false, ..Plan::default() });
    let port = nobody().port();
    let findings = world.examine_with(&format!("https://127.0.0.1:{port}"), &[]);
    says(
        &findings.wrong(),
        &format!("127.0.0.1 (127.0.0.1) refuses connections on TCP port {port}"),
        "start the web server there, or correct the DNS record",
    );
}

#[test]
fn certificates_that_no_client_accepts() {
    let world = World::start(&Plan { runs: false, ..Plan::default() });
    let plain: SocketAddr = world.site.strip_prefix("http://").unwrap().parse().unwrap();
    let names = ["127.0.0.1"];
    for (address, told) in [
        (world.authority.terminate(plain, &["other.example"]), "is not for 127.0.0.1: get one that names 127.0.0.1."),
        (world.authority.terminate_expired(plain, &names), "has expired: renew it."),
        (certificates::terminate_self_signed(plain, &names), "is signed by nobody whom this system trusts: get one"),
        (plain, "does not speak TLS: let the proxy serve https there."),
    ] {
        let findings = world.examine_with(&format!("https://{address}"), &[]);
        says(&findings.wrong(), "", told);
    }
}

#[test]
fn a_missing_well_known_document() {
    let told = of_homeserver(|settings| settings.well_known = false);
    says(&told, "http://127.0.0.1:", "/.well-known/matrix/client answers 404: let the web server of that name serve");
}

#[test]
fn a_well_known_document_that_no_page_may_read() {
    let told = of_homeserver(|settings| settings.well_known_is_readable = false);
    says(&told, "http://127.0.0.1:", "comes without the header Access-Control-Allow-Origin: *, so no browser reads it");
}

#[test]
fn a_base_url_where_there_is_no_homeserver() {
    let elsewhere = http::listen(|mut stream| {
        // What is closed with a request unread is reset, and the answer with it.
        let _ = http::Request::read(&mut BufReader::new(&stream));
        let _ = http::Response::error(404, "").write(&mut stream);
    });
    let plan = Plan {
        homeserver: Box::new(move |settings| settings.base_url = Some(format!("http://{elsewhere}"))),
        ..Plan::default()
    };
    let told = examine(&plan).wrong();
    says(&told, &format!("http://{elsewhere}/_matrix/client/versions answers 404"), "correct base_url in .well-known");
}

#[test]
fn a_clock_that_is_behind() {
    let told = of_homeserver(|settings| settings.behind_s = 90);
    says(&told, "The clock of 127.0.0.1:", "s behind: let NTP set it, or tokens and TURN credentials are refused.");
}

#[test]
fn an_as_token_that_the_homeserver_does_not_know() {
    let told = of_copy(|copy| copy.as_token = "another-token-0123456789-0123456789".into());
    says(&told, "http://127.0.0.1:", "does not know the as_token of hausruf.toml (401 M_UNKNOWN_TOKEN)");
}

#[test]
fn swapped_tokens() {
    let swap = |ours: &mut world::Configuration| std::mem::swap(&mut ours.as_token, &mut ours.hs_token);
    let told = examine(&Plan { configuration: Box::new(swap), ..Plan::default() }).wrong();
    says(&told, "as_token and hs_token are swapped", "exchange them in hausruf.toml");
}

#[test]
fn a_server_name_that_is_not_the_homeserver_s() {
    let told = of_copy(|copy| copy.server_name = "matrix.house.example".into());
    says(&told, "hausruf.toml says matrix.server_name = \"matrix.house.example\"", "is \"house.example\": write that.");
}

#[test]
fn a_registration_that_names_the_wrong_address() {
    let nobody = nobody();
    let told = of_homeserver(move |settings| settings.appservice_url = format!("http://{nobody}"));
    says(&told, "The homeserver cannot connect to its appservice", "let url in the registration name the address");
}

#[test]
fn an_hs_token_that_differs() {
    let told = of_homeserver(|settings| settings.hs_token = "another-token-0123456789-0123456789".into());
    says(&told, "hausruf refuses the homeserver's hs_token", "have the same hs_token, and restart both.");
}

#[test]
fn a_registration_without_rooms() {
    let told = of_homeserver(|settings| settings.has_rooms_namespace = false);
    says(&told, "hausruf hears nothing of what happens in rooms", "rooms: [{exclusive: false, regex: \"!.*\"}]");
}

#[test]
fn a_registration_without_the_scope() {
    let told = of_homeserver(|settings| settings.has_scope = false);
    says(&told, "The registration lacks the scope for asking who is in a room", "add io.element.msc4502.scopes");
}

#[test]
fn a_homeserver_without_transports() {
    let told = of_homeserver(|settings| settings.msc4143 = false);
    says(&told, "The homeserver does not serve rtc/transports", "set msc4143_enabled: true");
}

#[test]
fn transports_that_lead_to_another_server() {
    let findings = examine(&Plan {
        homeserver: Box::new(|settings| settings.service = Some("https://old.example".into())),
        ..Plan::default()
    });
    let wrong = findings.with("wrong");
    let told = |check: &str| wrong.iter().find(|(other, _)| *other == check).unwrap().1;
    assert_eq!(wrong.len(), 2, "{findings:?}");
    says(told("transports"), "The homeserver sends calls to https://old.example and not to http://", "matrix_rtc");
    assert!(told("well_known").contains("sends older clients to https://old.example and not to http://"));
}

#[test]
fn delayed_events_that_are_forbidden_or_too_short() {
    let forbidden = of_homeserver(|settings| settings.max_delay_ms = 0);
    says(&forbidden, "The homeserver forbids delayed events", "set max_event_delay_duration: 24h");
    let short = of_homeserver(|settings| settings.max_delay_ms = 600_000);
    says(&short, "The homeserver delays events by 600 s at most", "set max_event_delay_duration: 24h");
}

#[test]
fn a_listener_without_openid() {
    let told = of_homeserver(|settings| settings.has_openid = false);
    says(&told, "hausruf cannot make sure of OpenID tokens", "that has the resource openid (or federation).");
}

#[test]
fn a_policy_that_forbids_every_room() {
    let plan = Plan { configuration: Box::new(|ours| ours.rooms = "!other:*".into()), ..Plan::default() };
    says(&examine(&plan).wrong(), "hausruf refuses a token to a member of a room (403", "see [matrix.policy]");
}

#[test]
fn a_server_that_is_not_running() {
    let findings = examine(&Plan { runs: false, ..Plan::default() });
    let wrong = findings.with("wrong");
    let told = |check: &str| wrong.iter().find(|(other, _)| *other == check).unwrap().1;
    says(told("service"), "The proxy at http://127.0.0.1:", "does not reach hausruf (502): start hausruf");
    says(told("appservice"), "The homeserver cannot connect to its appservice: start hausruf", "");
    says(told("udp"), "Nothing listens on UDP port ", "start hausruf there");
}

#[test]
fn a_proxy_that_does_not_pass_on_an_endpoint() {
    let told = of_proxy(Faults { without: Some("/get_token"), ..Faults::default() });
    says(&told, "http://127.0.0.1:", "/get_token answers 404: let the proxy pass it on to hausruf");
}

#[test]
fn a_proxy_that_does_not_pass_on_the_signalling() {
    let findings = examine(&Plan { proxy: Faults { without: Some("/rtc"), ..Faults::default() }, ..Plan::default() });
    let told = findings.wrong();
    says(&told, "http://127.0.0.1:", "/rtc/v1 answers 404 where the signalling answers 401");
}

#[test]
fn a_proxy_that_adds_headers_of_its_own() {
    let told = of_proxy(Faults { adds_cors: true, ..Faults::default() });
    says(
        &told,
        "http://127.0.0.1:",
        "sends Access-Control-Allow-Origin twice, which browsers refuse: remove it from the",
    );
}

#[test]
fn a_proxy_that_drops_websockets() {
    let told = of_proxy(Faults { drops_upgrade: true, ..Faults::default() });
    says(&told, "http://127.0.0.1:", "gets requests without the Upgrade header: let the proxy pass WebSockets on");
}

#[test]
fn a_proxy_that_refuses_long_addresses() {
    let told = of_proxy(Faults { short_lines_only: true, ..Faults::default() });
    says(&told, "The proxy refuses long addresses (414)", "large_client_header_buffers 4 32k;");
}

#[test]
fn a_proxy_that_shows_the_metrics_to_everybody() {
    let proxy = Faults { passes_metrics: true, ..Faults::default() };
    let findings = examine(&Plan { proxy, tls: true, ..Plan::default() });
    assert!(findings.is_well());
    let lost = findings.with("lost");
    assert_eq!(lost.len(), 1, "{findings:?}");
    says(lost[0].1, "Everybody can read https://127.0.0.1:", "leave it out of the proxy.");
}

#[test]
fn a_port_where_nothing_listens() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = of_copy(move |copy| copy.udp[1] = free);
    let port = free.port();
    says(&told, &format!("Nothing listens on UDP port {port} of 127.0.0.1"), "correct listen.udp in hausruf.toml");
}

#[test]
fn an_advertised_address_that_is_not_the_public_one() {
    // Somebody else's machine, which says nothing: at the port that was found free in this try.
    let silent = Mutex::new(None);
    let plan = Plan {
        configuration: Box::new(move |ours| {
            ours.advertise = "127.0.0.3".into();
            *silent.lock().unwrap() = Some(UdpSocket::bind(("127.0.0.3", ours.udp[0].port())).unwrap());
        }),
        ..Plan::default()
    };
    let findings = examine(&plan);
    let (_, told) = findings.with("wrong").into_iter().find(|(check, _)| *check == "udp").unwrap();
    says(
        told,
        "127.0.0.3 is advertised but does not answer over UDP, while 127.0.0.1 does",
        "write advertise = [\"127.0.0.1\"] into hausruf.toml",
    );
}

#[test]
fn a_turn_secret_that_differs() {
    let told = of_homeserver(|settings| settings.turn_shared_secret = "another-secret-0123456789-0123456".into());
    says(&told, "turn:127.0.0.1:", "refuses the credentials that the homeserver hands out: let turn_shared_secret");
}

#[test]
fn a_homeserver_that_hands_out_no_turn_server() {
    let told = of_homeserver(|settings| settings.turn_uris = Vec::new());
    says(&told, "The homeserver hands out no TURN server", "set turn_uris, turn_shared_secret and turn_user_lifetime");
}

#[test]
fn turn_uris_that_lead_nowhere() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let told = of_homeserver(move |settings| settings.turn_uris = vec![format!("turn:{address}?transport=udp")]);
    says(&told, &format!("turn:{address}?transport=udp, which the homeserver hands out, does not answer"), "turn_uris");
}
