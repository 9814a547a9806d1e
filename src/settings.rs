//! From the configuration to what each part is made with.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use config::Config;
use datapath::Entropy;
use datapath::shared_counters::SharedCounters;
use relay::{Credentials, PeerPolicy};
use sfu::transport::Certificate;
use signaling::matrix::{MembershipUnknown, Patterns, Policy};
use signaling::{CertificateFiles, Keeper, LeaveStore, acme};
use tokio::sync::watch;
use tracing::warn;

use crate::addresses::{Addresses, turn_urls};
use crate::revocation_store::{Revocation, RevocationStore};
use crate::{demo, remedies};

/// Life of the TURN credentials that clients of a call get. A call may outlast them.
const TURN_CREDENTIAL_TTL: Duration = Duration::from_secs(24 * 3600);

pub fn driver(config: &Config) -> datapath::driver::Settings {
    let mut settings = datapath::driver::Settings::new(config.listen.udp.clone());
    settings.shared = config.workers > 1;
    settings
}

pub fn sfu(config: &Config, certificate: &Certificate) -> sfu::Settings {
    let limits = &config.limits;
    sfu::Settings {
        limits: sfu::Limits {
            participants: limits.participants,
            participants_per_room: limits.participants_per_room,
            tracks_per_participant: limits.tracks_per_participant,
            subscriptions_per_participant: limits.subscriptions_per_participant,
            data_buffer_bytes: limits.data_buffer_bytes,
            handshakes: limits.handshakes,
            // Each worker has its part: rooms are dealt out to them in turn.
            uplink_bps: (limits.uplink_mbps > 0)
                .then(|| u64::from(limits.uplink_mbps) * 1_000_000 / u64::from(config.workers)),
            ..sfu::Limits::default()
        },
        audio_repair: config.media.audio_repair,
        certificate: certificate.clone(),
    }
}

/// The secret with which clients of a call get their TURN credentials: the first configured one, else one of this run.
pub fn turn_secret(config: &Config, of_this_run: &str) -> String {
    config.relay.secrets.first().map_or(of_this_run, |secret| secret.reveal()).to_owned()
}

pub fn relay(
    config: &Config,
    addresses: &Addresses,
    turn_secret: &str,
    nonce_key: [u8; 32],
    share: relay::Share,
) -> relay::Settings {
    let relay::Terms { credentials, peer_policy, alternate_server, limits } =
        relay_terms(config, addresses, turn_secret);
    relay::Settings {
        credentials,
        peer_policy,
        relayed: addresses.advertised.clone(),
        ports: config.relay.ports.clone(),
        share,
        candidates: addresses.behind(config.listen.udp[0]),
        alternate_server,
        nonce_key,
        limits,
    }
}

/// What of it may change while the relay serves.
pub fn relay_terms(config: &Config, addresses: &Addresses, turn_secret: &str) -> relay::Terms {
    let configured = &config.relay;
    let mut credentials = Credentials::new(&configured.realm);
    for (name, password) in &configured.users {
        credentials = credentials.with_user(name, password.reveal());
    }
    for secret in &configured.secrets {
        credentials = credentials.with_secret(secret.reveal().as_bytes());
    }
    // Without API keys and a homeserver there are no clients of calls, and so nobody who could know a secret of this run.
    if configured.secrets.is_empty() && (!config.api_keys.is_empty() || config.matrix.is_some()) {
        credentials = credentials.with_secret(turn_secret.as_bytes());
    }
    if configured.strict_expiry {
        credentials = credentials.with_expiry(configured.expiry_grace);
    }
    let limits = &configured.limits;
    relay::Terms {
        credentials,
        peer_policy: PeerPolicy::new(
            configured.allowed_peers.clone(),
            configured.denied_peers.clone(),
            addresses.own.clone(),
        ),
        alternate_server: configured.alternate_server,
        limits: relay::Limits {
            allocations: limits.allocations,
            allocations_per_user: limits.allocations_per_user,
            allocations_per_prefix: limits.allocations_per_source,
            permissions: limits.permissions,
            permissions_per_user: or_unlimited(limits.permissions_per_user),
            permissions_per_prefix: or_unlimited(limits.permissions_per_source),
            permissions_in_total: or_unlimited(limits.permissions_total),
            channels: limits.channels,
            channels_per_user: or_unlimited(limits.channels_per_user),
            channels_per_prefix: or_unlimited(limits.channels_per_source),
            channels_in_total: or_unlimited(limits.channels_total),
            octets_per_second: limits.kilobits_per_second as u64 * 125,
            octets_per_second_of_user: octets_per_second(limits.user_mbps),
            octets_per_second_of_prefix: octets_per_second(limits.source_mbps),
            octets_per_second_in_total: octets_per_second(limits.total_mbps),
            tcp: configured.tcp_allocations.then_some(relay::TcpLimits {
                connections: limits.tcp_connections,
                connections_per_user: limits.tcp_connections_per_user,
                connections_per_allocation: limits.tcp_connections_per_allocation,
                ..relay::TcpLimits::default()
            }),
            ..relay::Limits::default()
        },
    }
}

/// Where it is kept whom the relay shuts out, and who that is. Without a place for it the relay serves all the same.
pub fn revocations(config: &Config) -> (RevocationStore, Vec<Revocation>) {
    let store = &config.relay.store;
    RevocationStore::open(store).unwrap_or_else(|error| {
        // Whoever has credentials of one run alone is shut out by its end.
        if !config.relay.secrets.is_empty() || !config.relay.users.is_empty() {
            warn!(
                "relay.store = {store:?} cannot be used ({error}): whoever is revoked, or removed from a call, from now on \
                 may relay again after a restart; write a file that this user may write, or \"\" if that is as it should be"
            );
        }
        (RevocationStore::default(), RevocationStore::read(store))
    })
}

/// 0 is no limit.
fn or_unlimited(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// 0 is no limit.
fn octets_per_second(mbps: u32) -> Option<u64> {
    (mbps > 0).then_some(u64::from(mbps) * 125_000)
}

/// What the control plane is made with, but for what the program itself provides.
pub struct Signaling {
    pub turn_secret: watch::Receiver<String>,
    pub fingerprint: sfu::Fingerprint,
    pub counters: Vec<Arc<SharedCounters>>,
    pub matrix: Option<signaling::Matrix>,
    pub entropy: Entropy,
    pub is_demo: bool,
}

pub fn signaling(config: &Config, addresses: &Addresses, parts: Signaling) -> signaling::Options {
    let limits = &config.limits;
    let urls = turn_urls(config, addresses);
    let turn =
        (!urls.is_empty()).then_some(signaling::Turn { secret: parts.turn_secret, urls, ttl: TURN_CREDENTIAL_TTL });
    let counters = parts.counters;
    signaling::Options {
        api_keys: config.api_keys.iter().map(|(key, secret)| (key.clone(), secret.reveal().to_owned())).collect(),
        media_candidates: addresses.behind(config.listen.udp[0]),
        media_tcp_candidates: config.listen.tcp.first().map(|&first| addresses.behind(first)).unwrap_or_default(),
        tcp: signaling::Tcp { proxies: config.listen.proxies.clone(), ..signaling::Tcp::default() },
        fingerprint: parts.fingerprint,
        turn,
        // The program puts the workers there.
        turn_withdrawals: Box::new(|_, _| {}),
        limits: signaling::Limits {
            connections: limits.connections,
            participants: limits.participants,
            rooms: limits.rooms,
            participants_per_room: limits.participants_per_room,
            tracks_per_participant: limits.tracks_per_participant,
            messages_per_second: u32::try_from(limits.messages_per_second).unwrap_or(u32::MAX),
            message_burst: u32::try_from(limits.message_burst).unwrap_or(u32::MAX),
            queued_messages: limits.queued_messages,
        },
        room_defaults: signaling::RoomDefaults {
            auto_create: config.rooms.auto_create,
            empty_timeout: config.rooms.empty_timeout,
            departure_timeout: config.rooms.departure_timeout,
            max_participants: config.rooms.max_participants,
            ..signaling::RoomDefaults::default()
        },
        drain: signaling::Drain::default(),
        metrics: Arc::new(move || counters.iter().map(|counters| counters.snapshot()).collect()),
        demo_key: parts.is_demo.then(|| demo::API_KEY.to_owned()),
        admin_token: config.admin_token.as_ref().map(|token| token.reveal().to_owned()),
        matrix: parts.matrix,
        entropy: parts.entropy,
    }
}

/// The certificate of TLS and who replaces it, if there is to be one.
pub fn certificates(config: &Config, entropy: Entropy) -> anyhow::Result<Option<(signaling::Certificates, Keeper)>> {
    Ok(match config.tls.as_ref().map(|tls| &tls.certificate) {
        None => None,
        Some(config::Certificate::Files { chain, key }) => {
            let (certificates, files) = certificate_files(chain, key)?;
            Some((certificates, Keeper::Files(files)))
        }
        Some(config::Certificate::Acme(configured)) => {
            let authorities = authorities("tls.acme.root", configured.root.as_deref())?;
            let store = &configured.store;
            let settings = acme::Settings {
                domains: configured.domains.clone(),
                contact: configured.contact.clone(),
                directory: configured.directory.clone(),
                challenge: match configured.challenge {
                    config::Challenge::TlsAlpn01 => acme::Challenge::TlsAlpn01,
                    config::Challenge::Http01 => acme::Challenge::Http01,
                },
                store: store.clone(),
            };
            let (certificates, renewal) = acme::Renewal::open(settings, authorities, entropy)
                .map_err(|error| unusable("tls.acme.store", store, &error, remedies::for_writing))?;
            Some((certificates, Keeper::Acme(Box::new(renewal))))
        }
    })
}

fn certificate_files(chain: &Path, key: &Path) -> anyhow::Result<(signaling::Certificates, CertificateFiles)> {
    // Each by itself first, so that what cannot be read is told with its key.
    for (name, path) in [("tls.certificate", chain), ("tls.key", key)] {
        File::open(path).map_err(|error| unusable(name, path, &error, remedies::for_reading))?;
    }
    CertificateFiles::open(chain, key).context("[tls] cannot be used")
}

fn authorities(key: &str, extra: Option<&Path>) -> anyhow::Result<signaling::Authorities> {
    signaling::Authorities::load(extra)
        .map_err(|error| unusable(key, extra.unwrap_or(Path::new("")), &error, remedies::for_reading))
}

fn unusable(key: &str, path: &Path, error: &io::Error, remedy: fn(&io::Error) -> &'static str) -> anyhow::Error {
    anyhow!("{key} = {path:?} cannot be used: {error}; {}", remedy(error))
}

/// Opens what the start only reads, so that a check fails where a start would. What is written is left alone.
pub fn check_files(config: &Config) -> anyhow::Result<()> {
    match config.tls.as_ref().map(|tls| &tls.certificate) {
        Some(config::Certificate::Files { chain, key }) => _ = certificate_files(chain, key)?,
        Some(config::Certificate::Acme(acme)) => _ = authorities("tls.acme.root", acme.root.as_deref())?,
        None => {}
    }
    if let Some(matrix) = &config.matrix {
        authorities("matrix.federation.ca_file", matrix.federation.ca_file.as_deref())?;
    }
    Ok(())
}

/// The homeserver beside us, if there is one.
pub fn matrix(config: &Config) -> anyhow::Result<Option<signaling::Matrix>> {
    let Some(matrix) = &config.matrix else {
        return Ok(None);
    };
    let authorities = authorities("matrix.federation.ca_file", matrix.federation.ca_file.as_deref())?;
    let allowed = matrix.federation.allowed_addresses.clone();
    // What TURN clients may not reach, a stranger's server name may not lead us to; but other servers may well be
    // behind an address of our own.
    let addresses = PeerPolicy::new(allowed, Vec::new(), Vec::new());
    let store = &matrix.store;
    let leave_store =
        LeaveStore::open(store).map_err(|error| unusable("matrix.store", store, &error, remedies::for_writing))?;
    let leaves = leave_store.load().with_context(|| format!("matrix.store = {store:?} cannot be read"))?;
    let policy = &matrix.policy;
    Ok(Some(signaling::Matrix {
        settings: signaling::matrix::Settings {
            server_name: matrix.server_name.clone(),
            homeserver: matrix.homeserver.clone(),
            service_url: matrix.url.clone(),
            websocket_url: matrix.websocket_url(),
            as_token: matrix.as_token.reveal().to_owned(),
            hs_token: matrix.hs_token.reveal().to_owned(),
            policy: Arc::new(Policy {
                servers: Patterns::new(&policy.servers),
                opening_servers: Patterns::new(&policy.opening_servers),
                rooms: Patterns::new(&policy.rooms),
                microphone: Patterns::new(&policy.microphone),
                camera: Patterns::new(&policy.camera),
                screen: Patterns::new(&policy.screen),
                membership_unknown: match matrix.membership_unknown {
                    config::MembershipUnknown::Refuse => MembershipUnknown::Refuse,
                    config::MembershipUnknown::Trust => MembershipUnknown::Trust,
                },
            }),
        },
        authorities,
        may_ask: Arc::new(move |ip| addresses.admits(ip)),
        leaves,
        leave_store: Some(leave_store),
    }))
}
