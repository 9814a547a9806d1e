//! A stand-in for a homeserver: the answers of Synapse 1.163 to what doctor and hausruf ask, and what an administrator can
//! get wrong about it.

use std::collections::HashMap;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::http::{self, Request, Response};

pub const SERVER_NAME: &str = "house.example";
pub const USER_TOKEN: &str = "the-token-of-alice";

/// What the administrator has configured.
#[derive(Clone, Debug)]
pub struct Settings {
    pub well_known: bool,
    pub well_known_is_readable: bool,
    /// Instead of its own address.
    pub base_url: Option<String>,
    /// Instead of our public address; `None`: no transports at all.
    pub service: Option<String>,
    pub msc4143: bool,
    pub msc4502: bool,
    pub has_scope: bool,
    pub msc4512: bool,
    pub max_delay_ms: u64,
    pub has_openid: bool,
    /// The registration.
    pub as_token: String,
    pub hs_token: String,
    pub appservice_url: String,
    pub has_rooms_namespace: bool,
    pub turn_uris: Vec<String>,
    pub turn_shared_secret: String,
    /// Seconds by which its clock is behind.
    pub behind_s: u64,
}

#[derive(Default)]
struct State {
    /// Room id → who is in it.
    rooms: HashMap<String, String>,
    /// OpenID token → user.
    openid: HashMap<String, String>,
    count: u64,
}

pub struct Homeserver {
    pub address: SocketAddr,
}

impl Homeserver {
    /// `settings` learns the address before it is used.
    pub fn start(settings: impl FnOnce(SocketAddr) -> Settings) -> Homeserver {
        let shared: Arc<Mutex<Option<Settings>>> = Arc::default();
        let state: Arc<Mutex<State>> = Arc::default();
        let known = Arc::clone(&shared);
        let address = http::listen(move |mut stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let Some(request) = Request::read(&mut reader) else {
                return;
            };
            let settings = known.lock().unwrap().clone().unwrap();
            let mut response = respond(&settings, &state, &request);
            response.headers.push(("Date".into(), date(settings.behind_s)));
            response.headers.push(("Server".into(), "Stand-in".into()));
            let _ = response.write(&mut stream);
        });
        let mut settings = settings(address);
        settings.base_url.get_or_insert_with(|| format!("http://{address}"));
        *shared.lock().unwrap() = Some(settings);
        Homeserver { address }
    }
}

fn date(behind_s: u64) -> String {
    #[allow(clippy::disallowed_methods)] // the real clock
    let at = SystemTime::now() - Duration::from_secs(behind_s);
    let unix = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{unix}"), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn user_of(settings: &Settings, request: &Request) -> Option<String> {
    let localpart = match request.bearer() {
        token if token == settings.as_token => "hausruf",
        USER_TOKEN => "alice",
        _ => return None,
    };
    Some(format!("@{localpart}:{SERVER_NAME}"))
}

fn respond(settings: &Settings, state: &Mutex<State>, request: &Request) -> Response {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let unserved = || Response::error(404, "M_UNRECOGNIZED");
    match (request.method.as_str(), path) {
        ("GET", "/.well-known/matrix/client") if settings.well_known => return well_known(settings),
        ("GET", "/_matrix/client/versions") => {
            let features = json!({ "org.matrix.msc4140": settings.max_delay_ms > 0 });
            return Response::json(200, json!({ "versions": ["v1.11"], "unstable_features": features }));
        }
        ("GET", "/_matrix/federation/v1/openid/userinfo") if settings.has_openid => {
            let token = query.strip_prefix("access_token=").unwrap_or_default();
            return match state.lock().unwrap().openid.get(token) {
                Some(user) => Response::json(200, json!({ "sub": user })),
                None => Response::error(401, "M_UNKNOWN_TOKEN"),
            };
        }
        (_, path) if !path.starts_with("/_matrix/client/") => return unserved(),
        _ => {}
    }
    let Some(user) = user_of(settings, request) else {
        return Response::error(401, "M_UNKNOWN_TOKEN");
    };
    let path = path.trim_start_matches("/_matrix/client/");
    match (request.method.as_str(), path) {
        ("GET", "v3/account/whoami") => Response::json(200, json!({ "user_id": user })),
        ("POST", "v1/appservice/hausruf/ping") => ping(settings),
        ("GET", "unstable/org.matrix.msc4143/rtc/transports") if settings.msc4143 => match &settings.service {
            Some(url) => {
                let transport = json!({ "type": "livekit", "livekit_service_url": url });
                Response::json(200, json!({ "rtc_transports": [transport] }))
            }
            None => Response::json(200, json!({})),
        },
        ("GET", "v3/capabilities") => {
            let delayed = json!({ "max_delay_ms": settings.max_delay_ms, "max_scheduled": 100 });
            Response::json(200, json!({ "capabilities": { "org.matrix.msc4140.delayed_events": delayed } }))
        }
        ("GET", "v3/voip/turnServer") => turn_server(settings, &user),
        ("POST", "v3/createRoom") => create_room(settings, state, &user),
        ("POST", path) if path.ends_with("/openid/request_token") => {
            let mut state = state.lock().unwrap();
            state.count += 1;
            let token = format!("openid{}", state.count);
            state.openid.insert(token.clone(), user);
            let server = SERVER_NAME;
            let answer = json!({ "access_token": token, "token_type": "Bearer", "matrix_server_name": server, "expires_in": 3600 });
            Response::json(200, answer)
        }
        ("GET", path) if path.ends_with("/is_joined") && settings.msc4502 => {
            if !settings.has_scope || !user.starts_with("@hausruf:") {
                return Response::error(403, "M_FORBIDDEN");
            }
            let room = path.split('/').nth(3).map(decoded).unwrap_or_default();
            let whom = query.strip_prefix("mxid=").map(decoded);
            let state = state.lock().unwrap();
            let joined = whom.is_some() && state.rooms.get(&room) == whom.as_ref();
            Response::json(200, json!({ "joined": joined }))
        }
        ("POST", path) if path.contains("/rtc/livekit/") && settings.msc4512 => proxied(settings, request, &user),
        ("POST", path) if path.ends_with("/leave") || path.ends_with("/forget") => Response::json(200, json!({})),
        _ => unserved(),
    }
}

fn well_known(settings: &Settings) -> Response {
    let foci: Vec<Value> =
        settings.service.iter().map(|url| json!({ "type": "livekit", "livekit_service_url": url })).collect();
    let content = json!({
        "m.homeserver": { "base_url": settings.base_url },
        "org.matrix.msc4143.rtc_foci": foci,
    });
    let mut response = Response::json(200, content);
    if !settings.well_known_is_readable {
        response.headers.retain(|(name, _)| !name.starts_with("Access-Control"));
    }
    response
}

/// A request to the appservice, with the homeserver's token.
fn to_appservice(
    settings: &Settings,
    method: &str,
    path: &str,
    body: Vec<u8>,
    user: Option<&str>,
) -> Option<(u16, Vec<u8>)> {
    let mut headers = vec![("Authorization".to_owned(), format!("Bearer {}", settings.hs_token))];
    headers.extend(user.map(|user| ("X-Matrix-User-Identifier".to_owned(), user.to_owned())));
    let request = Request { method: method.to_owned(), headers, body, ..Request::default() };
    http::ask(&format!("{}{path}", settings.appservice_url), request)
}

fn ping(settings: &Settings) -> Response {
    match to_appservice(settings, "POST", "/_matrix/app/v1/ping", b"{}".to_vec(), None) {
        Some((200, _)) => Response::json(200, json!({ "duration_ms": 1 })),
        Some((status, _)) => Response::json(502, json!({ "errcode": "M_BAD_STATUS", "status": status })),
        None => Response::error(502, "M_CONNECTION_FAILED"),
    }
}

fn proxied(settings: &Settings, request: &Request, user: &str) -> Response {
    let path = request.target.as_str();
    match to_appservice(settings, "POST", path, request.body.clone(), Some(user)) {
        Some((status, body)) => Response { body, ..Response::json(status, Value::Null) },
        None => Response::error(500, "M_UNKNOWN"),
    }
}

fn create_room(settings: &Settings, state: &Mutex<State>, user: &str) -> Response {
    let (room, count) = {
        let mut state = state.lock().unwrap();
        state.count += 1;
        let room = format!("!room{}:{SERVER_NAME}", state.count);
        state.rooms.insert(room.clone(), user.to_owned());
        (room, state.count)
    };
    if settings.has_rooms_namespace {
        let joined = json!({
            "type": "m.room.member", "room_id": room, "sender": user, "state_key": user,
            "event_id": format!("$event{count}"), "origin_server_ts": 1, "content": { "membership": "join" },
        });
        let body = json!({ "events": [joined] }).to_string().into_bytes();
        let path = format!("/_matrix/app/v1/transactions/{count}");
        to_appservice(settings, "PUT", &path, body, None);
    }
    Response::json(200, json!({ "room_id": room }))
}

fn turn_server(settings: &Settings, user: &str) -> Response {
    if settings.turn_uris.is_empty() {
        return Response::json(200, json!({}));
    }
    #[allow(clippy::disallowed_methods)] // the real clock
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let username = format!("{}:{user}", unix + 3600);
    let password = relay::rest_password(settings.turn_shared_secret.as_bytes(), &username);
    let answer = json!({ "username": username, "password": password, "ttl": 3600, "uris": settings.turn_uris });
    Response::json(200, answer)
}

fn decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let digits: String = rest.by_ref().take(2).map(char::from).collect();
            octets.extend(u8::from_str_radix(&digits, 16));
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).unwrap()
}
