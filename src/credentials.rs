//! A TURN credential by hand: for another program's settings, or to try the relay out.

use std::time::Duration;

use anyhow::{Context, bail};
use config::Config;

use crate::cli::Credentials;

/// A REST credential as clients use it.
#[derive(Debug, PartialEq, Eq)]
pub struct Minted {
    pub username: String,
    pub password: String,
}

/// Makes a credential with the first of the configured secrets. `unix` is the time since the Unix epoch.
pub fn mint(config: &Config, wanted: &Credentials, unix: Duration) -> anyhow::Result<Minted> {
    let secret = config
        .relay
        .secrets
        .first()
        .context("relay.secrets = []: without a secret there is nothing to make it with")?;
    if wanted.user.is_empty() || wanted.user.len() > 400 {
        bail!("--user {:?}: write 1 to 400 octets, such as @anna:example.org", wanted.user);
    }
    let expiry = unix.as_secs() + wanted.lifetime_s;
    let username = format!("{expiry}:{}", wanted.user);
    let password = relay::rest_password(secret.reveal().as_bytes(), &username);
    Ok(Minted { username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(user: &str) -> Credentials {
        Credentials { config: None, user: user.into(), lifetime_s: 3600 }
    }

    #[test]
    fn the_relay_would_take_it() {
        let config = Config::parse("[relay]\nsecrets = [\"north-north-north-north-north-north\"]").unwrap();
        let minted = mint(&config, &wanted("@anna:example.org"), Duration::from_secs(1_800_000_000)).unwrap();
        assert_eq!(minted.username, "1800003600:@anna:example.org");
        // printf '1800003600:@anna:example.org' | openssl dgst -sha1 -hmac north-north-north-north-north-north -binary | base64
        assert_eq!(minted.password, "tJ8xiaz6Mh+3P1AUqsp8ICjieIg=");
    }

    #[test]
    fn what_is_missing_is_told() {
        let told = mint(&Config::default(), &wanted("anna"), Duration::ZERO).unwrap_err().to_string();
        assert!(told.contains("relay.secrets"), "{told}");
    }
}
