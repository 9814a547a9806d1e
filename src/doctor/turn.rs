//! A TURN client over UDP (RFC 8656): an allocation, a permission, and datagrams both ways.

use std::net::SocketAddr;
use std::time::Duration;

use stun_rs::attributes::stun::{ErrorCode, MessageIntegrity, Nonce, Realm, UserName};
use stun_rs::attributes::turn::{Data, LifeTime, RequestedTrasport, XorPeerAddress, XorRelayedAddress};
use stun_rs::methods::{ALLOCATE, CREATE_PERMMISSION, DATA, REFRESH, SEND};
use stun_rs::{Algorithm, AlgorithmId, HMACKey, MessageClass, MessageMethod, StunMessage, StunMessageBuilder};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::stun;

const ECHO_PATIENCE: Duration = Duration::from_secs(1);
const ECHO_TRIES: usize = 3;

#[derive(Clone)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnError {
    /// No answer, or none that can be read.
    Silent,
    /// ERROR-CODE. 401 here means that the credentials are not accepted.
    Refused(u16),
    /// Relayed datagrams do not arrive.
    NoEcho,
}

/// An allocation; released by [`Allocation::release`], or by its lifetime.
pub struct Allocation {
    socket: UdpSocket,
    credentials: Credentials,
    realm: String,
    nonce: String,
    key: HMACKey,
    pub relayed: SocketAddr,
}

impl Allocation {
    pub async fn request(server: SocketAddr, credentials: &Credentials) -> Result<Allocation, TurnError> {
        let socket = stun::connect(server).await.map_err(|_| TurnError::Silent)?;
        let wish = || {
            StunMessageBuilder::new(ALLOCATE, MessageClass::Request)
                .with_attribute(RequestedTrasport::new(stun_rs::protocols::UDP))
                .with_attribute(LifeTime::new(60))
        };
        // The first request earns realm and nonce (RFC 8489 §9.2.3).
        let challenge = exchange(&socket, &wish().build()).await?;
        let (realm, nonce) = challenged(&challenge).ok_or(TurnError::Silent)?;
        let algorithm = Algorithm::from(AlgorithmId::MD5);
        let key = HMACKey::new_long_term(&credentials.username, &realm, &credentials.password, algorithm)
            .map_err(|_| TurnError::Refused(401))?;
        let request = signed(wish(), credentials, &realm, &nonce, &key)?;
        let granted = exchange(&socket, &request).await?;
        if let Some(code) = error_code(&granted) {
            return Err(TurnError::Refused(code));
        }
        let relayed = granted
            .get::<XorRelayedAddress>()
            .and_then(|address| address.as_xor_relayed_address().ok())
            .map(|address| *address.socket_address())
            .ok_or(TurnError::Silent)?;
        Ok(Allocation { socket, credentials: credentials.clone(), realm, nonce, key, relayed })
    }

    pub async fn permit(&self, peer: SocketAddr) -> Result<(), TurnError> {
        let wish = StunMessageBuilder::new(CREATE_PERMMISSION, MessageClass::Request)
            .with_attribute(XorPeerAddress::from(peer));
        self.ask(wish).await
    }

    pub async fn release(self) {
        let wish = StunMessageBuilder::new(REFRESH, MessageClass::Request).with_attribute(LifeTime::new(0));
        let _ = self.ask(wish).await;
    }

    async fn ask(&self, wish: StunMessageBuilder) -> Result<(), TurnError> {
        let request = signed(wish, &self.credentials, &self.realm, &self.nonce, &self.key)?;
        let answer = exchange(&self.socket, &request).await?;
        error_code(&answer).map_or(Ok(()), |code| Err(TurnError::Refused(code)))
    }

    pub async fn send(&self, peer: SocketAddr, data: &[u8]) {
        let message = StunMessageBuilder::new(SEND, MessageClass::Indication)
            .with_attribute(XorPeerAddress::from(peer))
            .with_attribute(Data::new(data))
            .build();
        if let Some(octets) = stun::encode(&message) {
            let _ = self.socket.send(&octets).await;
        }
    }

    /// Whether a datagram with this payload comes from a peer.
    pub async fn hears(&self, expected: &[u8]) -> bool {
        let mut buffer = vec![0; 2048];
        let listening = timeout(ECHO_PATIENCE, async {
            loop {
                let Ok(length) = self.socket.recv(&mut buffer).await else {
                    return false;
                };
                let data = stun::decode(&buffer[..length], None)
                    .filter(|message| message.method() == DATA)
                    .and_then(|message| message.get::<Data>()?.as_data().ok().map(|data| data.as_bytes().to_vec()));
                if data.as_deref() == Some(expected) {
                    return true;
                }
            }
        });
        listening.await.unwrap_or(false)
    }
}

/// Two allocations, and a datagram through both, there and back.
pub async fn echo(server: SocketAddr, credentials: &Credentials) -> Result<(), TurnError> {
    let one = Allocation::request(server, credentials).await?;
    let other = Allocation::request(server, credentials).await?;
    one.permit(other.relayed).await?;
    other.permit(one.relayed).await?;
    let mut echoed = Err(TurnError::NoEcho);
    for round in 0..ECHO_TRIES {
        let (there, back) = (format!("there {round}"), format!("back {round}"));
        one.send(other.relayed, there.as_bytes()).await;
        if !other.hears(there.as_bytes()).await {
            continue;
        }
        other.send(one.relayed, back.as_bytes()).await;
        if one.hears(back.as_bytes()).await {
            echoed = Ok(());
            break;
        }
    }
    one.release().await;
    other.release().await;
    echoed
}

/// Whether a peer that sends to a relayed address from elsewhere gets through: `Some(false)` means that something
/// between drops it; `None`, that the relay does not let us try.
pub async fn hears_from_outside(server: SocketAddr, seen_as: SocketAddr, credentials: &Credentials) -> Option<bool> {
    let allocation = Allocation::request(server, credentials).await.ok()?;
    let mut heard = None;
    if allocation.permit(seen_as).await.is_ok()
        && let Ok(peer) = stun::connect(allocation.relayed).await
    {
        // The relay sends first, so that its own socket is open.
        allocation.send(seen_as, b"open").await;
        heard = Some(false);
        for round in 0..ECHO_TRIES {
            let payload = format!("outside {round}");
            let _ = peer.send(payload.as_bytes()).await;
            if allocation.hears(payload.as_bytes()).await {
                heard = Some(true);
                break;
            }
        }
    }
    allocation.release().await;
    heard
}

fn signed(
    wish: StunMessageBuilder,
    credentials: &Credentials,
    realm: &str,
    nonce: &str,
    key: &HMACKey,
) -> Result<StunMessage, TurnError> {
    let username = UserName::new(&credentials.username).map_err(|_| TurnError::Refused(401))?;
    let realm = Realm::new(realm).map_err(|_| TurnError::Silent)?;
    let nonce = Nonce::new(nonce).map_err(|_| TurnError::Silent)?;
    let message = wish
        .with_attribute(username)
        .with_attribute(realm)
        .with_attribute(nonce)
        .with_attribute(MessageIntegrity::new(key.clone()));
    Ok(message.build())
}

async fn exchange(socket: &UdpSocket, request: &StunMessage) -> Result<StunMessage, TurnError> {
    let octets = stun::transact(socket, request).await.map_err(|_| TurnError::Silent)?;
    stun::decode(&octets, None).filter(|answer| is_of(answer, request.method())).ok_or(TurnError::Silent)
}

fn is_of(answer: &StunMessage, method: MessageMethod) -> bool {
    let class = answer.class();
    answer.method() == method && matches!(class, MessageClass::SuccessResponse | MessageClass::ErrorResponse)
}

fn error_code(answer: &StunMessage) -> Option<u16> {
    let code = answer.get::<ErrorCode>()?.as_error_code().ok()?;
    Some(code.error_code().error_code())
}

fn challenged(answer: &StunMessage) -> Option<(String, String)> {
    let realm = answer.get::<Realm>()?.as_realm().ok()?.as_str().to_owned();
    let nonce = answer.get::<Nonce>()?.as_nonce().ok()?.as_str().to_owned();
    Some((realm, nonce))
}
