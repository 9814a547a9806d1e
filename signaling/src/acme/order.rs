//! One certificate: from the order to the chain (RFC 8555 §7.4).

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};

use super::Challenge;
use super::challenges::Challenges;
use crate::control::now;

/// How long the ACME server may take to look at our answers, and then to sign.
const POLL: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_secs(1)).timeout(Duration::from_secs(120));

/// Characters of the ACME server's explanation that are told.
const EXPLANATION_MAX: usize = 600;

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the log.
    pub text: String,
    /// The ACME server does not know the account (any more).
    pub account_is_unknown: bool,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(text: impl std::fmt::Display) -> Failure {
        // A text of the ACME server's: it must not look like lines of our log.
        let text = text.to_string();
        let text = text.chars().take(EXPLANATION_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Failure { text, account_is_unknown: false, retry_after: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref().unwrap_or_default(),
            _ => "",
        };
        let retry_after = match error {
            Error::Timeout(Some(at)) => Some(at.saturating_duration_since(now().instant)),
            _ => None,
        };
        let account_is_unknown = kind == "urn:ietf:params:acme:error:accountDoesNotExist";
        Failure { account_is_unknown, retry_after, ..Failure::new(&error) }
    }
}

/// The key and the chain behind it, in one PEM text.
pub async fn obtain(
    account: &Account,
    domains: &[String],
    kind: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<String, Failure> {
    let identifiers: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    let kind = match kind {
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    };
    prove(&mut order, &kind, challenges).await?;
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&POLL).await?;
    Ok(format!("{key}{chain}"))
}

/// Shows that all names of the order lead here. The answers are there for as long as this runs.
async fn prove(order: &mut Order, kind: &ChallengeType, challenges: &Arc<Challenges>) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            // RFC 8555 §7.1.4: proven not long ago.
            AuthorizationStatus::Valid => continue,
            status => return Err(Failure::new(format!("{}: {status:?}", authorization.identifier()))),
        }
        let domain = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(Failure::new(format!("{domain}: the ACME server does not offer this challenge")));
        };
        let authorized = challenge.key_authorization();
        answers.push(match kind {
            ChallengeType::Http01 => challenges.answer_by_http(&challenge.token, authorized.as_str()),
            _ => {
                let digest = authorized.digest();
                let digest: &[u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 octets");
                challenges.answer_by_tls(&domain, digest).map_err(Failure::new)?
            }
        });
        challenge.set_ready().await?;
    }
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(status) => Err(explained(order, kind, Failure::new(format!("the order is {status:?}"))).await),
        Err(error) => Err(explained(order, kind, error.into()).await),
    }
}

/// What was wrong stands with the challenges (RFC 8555 §7.1.6).
async fn explained(order: &mut Order, kind: &ChallengeType, failure: Failure) -> Failure {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            break;
        }
        let domain = authorization.identifier().to_string();
        let challenge = authorization.challenges.iter().find(|challenge| challenge.r#type == *kind);
        if let Some(problem) = challenge.and_then(|challenge| challenge.error.as_ref()) {
            return Failure { text: Failure::new(format!("{domain}: {problem}")).text, ..failure };
        }
    }
    failure
}
