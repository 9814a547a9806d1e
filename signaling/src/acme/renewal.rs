use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datapath::Entropy;
use instant_acme::{Account, NewAccount};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use tracing::{error, info, warn};

use super::Settings;
use super::challenges::Challenges;
use super::client::Client;
use super::order::{self, Failure};
use super::schedule::{Retry, Schedule};
use super::store::{Store, StoredAccount, StoredRetry};
use crate::control::now;
use crate::outbound::Authorities;
use crate::tcp::{Certificates, Validity};

/// The clock may be set, and the machine may sleep: the time is looked at this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(3600);
/// For the whole of one attempt: every request and every wait for the ACME server.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(600);

/// Gets the certificate and renews it.
pub struct Renewal {
    settings: Settings,
    client: Client,
    store: Store,
    challenges: Arc<Challenges>,
    schedule: Schedule,
    entropy: Entropy,
}

impl Renewal {
    /// The certificates show what is stored, if it still is valid; else nothing yet. Nothing is asked here.
    ///
    /// # Errors
    /// The store's folder cannot be made, or what is in it cannot be read.
    pub fn open(
        settings: Settings,
        authorities: Authorities,
        mut entropy: Entropy,
    ) -> io::Result<(Certificates, Renewal)> {
        let now = now().unix;
        let challenges = Arc::new(Challenges::default());
        let certificates = Certificates::new(Some(Arc::clone(&challenges)));
        let store = Store::open(&settings.store, &settings.directory)?;
        let held = store.certificate()?.and_then(|pem| match Held::read(&pem) {
            Ok(held) if held.validity.not_after > now => Some((held, pem)),
            Ok(_) => None,
            Err(error) => {
                warn!("the certificate in {} is not used: {error}", store.folder().display());
                None
            }
        });
        let retry = store.retry()?.filter(|stored| stored.domains == settings.domains);
        let retry = retry.map_or(Retry::default(), |stored| stored.retry);
        let validity = held.as_ref().map(|(held, _)| held.validity);
        let mut schedule = Schedule::new(now, validity, retry, &mut entropy);
        if let Some((held, pem)) = held {
            if !settings.domains.iter().all(|domain| held.names(domain)) {
                schedule.renew_now();
            }
            certificates.show(held.chain, &pem).map_err(io::Error::other)?;
        }
        Ok((certificates, Renewal { settings, client: Client::new(authorities), store, challenges, schedule, entropy }))
    }

    /// Runs for as long as it is polled.
    pub async fn run(mut self, certificates: Arc<Certificates>) {
        self.tell(certificates.census().not_after.is_some());
        loop {
            self.wait().await;
            let retry = self.schedule.begin(now().unix, &mut self.entropy);
            // What cannot be stored would be asked for again after every restart.
            let outcome = match self.keep(retry) {
                Ok(()) => {
                    info!(
                        "asking {} for a certificate for {}",
                        self.settings.directory,
                        self.settings.domains.join(", ")
                    );
                    let timed_out = |_| Err(Failure::new("the ACME server takes too long"));
                    let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.attempt(&certificates));
                    attempt.await.unwrap_or_else(timed_out)
                }
                Err(error) => Err(Failure::new(format!("nothing can be stored: {error}"))),
            };
            let now = now().unix;
            match outcome {
                Ok(validity) => {
                    self.challenges.issued.fetch_add(1, Ordering::Relaxed);
                    self.schedule.handle_success(now, validity, &mut self.entropy);
                    if let Err(error) = self.store.forget_retry() {
                        warn!(%error, "tls.acme.store does not forget what failed earlier");
                    }
                    let ends = span(validity.not_after.saturating_sub(now));
                    let next = span(self.schedule.next().saturating_sub(now));
                    info!("a new certificate is in use: it ends in {ends} and is renewed in {next}");
                }
                Err(failure) => {
                    self.challenges.failed.fetch_add(1, Ordering::Relaxed);
                    let patience = self.client.take_patience().max(failure.retry_after);
                    let retry = self.schedule.handle_failure(now, patience, &mut self.entropy);
                    let _ = self.keep(retry);
                    let next = span(self.schedule.next().saturating_sub(now));
                    let after = self.left(now);
                    warn!("there is no new certificate: {}; the next attempt comes in {next}{after}", failure.text);
                }
            }
        }
    }

    fn tell(&self, has_certificate: bool) {
        let now = now().unix;
        let next = self.schedule.next().saturating_sub(now);
        if !has_certificate {
            info!("there is no valid certificate in {}: TLS is refused until there is", self.store.folder().display());
        }
        match (has_certificate, next.is_zero()) {
            (true, false) => info!("the stored certificate is in use, and is renewed in {}", span(next)),
            (false, false) => info!(
                "the last attempt failed: the next comes in {}; to make it at once, remove {}/retry.json and restart",
                span(next),
                self.store.folder().display()
            ),
            (_, true) => {}
        }
    }

    /// For who reads that an attempt failed.
    fn left(&self, now: Duration) -> String {
        match self.schedule.held() {
            None => "; until then TLS is refused".to_owned(),
            Some(validity) if validity.not_after <= now => "; the present certificate has ended".to_owned(),
            Some(validity) => format!("; the present certificate ends in {}", span(validity.not_after - now)),
        }
    }

    async fn wait(&self) {
        loop {
            let left = self.schedule.next().saturating_sub(now().unix);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_INTERVAL)).await;
        }
    }

    fn keep(&self, retry: Retry) -> io::Result<()> {
        self.store.keep_retry(&StoredRetry { domains: self.settings.domains.clone(), retry })
    }

    async fn attempt(&self, certificates: &Certificates) -> Result<Validity, Failure> {
        // Of an earlier attempt.
        self.client.take_patience();
        let pem = match self.issue(false).await {
            Err(failure) if failure.account_is_unknown => {
                info!("the ACME server does not know our account any more: there will be a new one");
                self.issue(true).await?
            }
            issued => issued?,
        };
        let held = Held::read(pem.as_bytes()).map_err(Failure::new)?;
        if held.validity.not_after <= now().unix {
            return Err(Failure::new("the certificate has ended before it came: is this machine's clock right?"));
        }
        certificates.show(held.chain, pem.as_bytes()).map_err(Failure::new)?;
        if let Err(error) = self.store.keep_certificate(pem.as_bytes()) {
            error!("the new certificate cannot be stored, and a restart will ask for another: {error}");
        }
        Ok(held.validity)
    }

    async fn issue(&self, with_new_account: bool) -> Result<String, Failure> {
        let account = self.account(with_new_account).await?;
        order::obtain(&account, &self.settings.domains, self.settings.challenge, &self.challenges).await
    }

    async fn account(&self, anew: bool) -> Result<Account, Failure> {
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let contact: Vec<&str> = self.settings.contact.iter().map(String::as_str).collect();
        let stored = if anew { None } else { self.store.account().map_err(Failure::new)? };
        if let Some(stored) = stored {
            let account = builder.from_credentials(stored.credentials).await?;
            if stored.contact != self.settings.contact {
                account.update_contacts(&contact).await?;
                if let Some(stored) = self.store.account().map_err(Failure::new)? {
                    let stored = StoredAccount { contact: self.settings.contact.clone(), ..stored };
                    self.store.keep_account(&stored).map_err(Failure::new)?;
                }
            }
            return Ok(account);
        }
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&wanted, self.settings.directory.clone(), None).await?;
        let stored = StoredAccount { contact: self.settings.contact.clone(), credentials };
        self.store.keep_account(&stored).map_err(Failure::new)?;
        info!("a new account at the ACME server: {}", account.id());
        Ok(account)
    }
}

/// A certificate and its chain.
struct Held {
    chain: Vec<CertificateDer<'static>>,
    validity: Validity,
}

impl Held {
    fn read(pem: &[u8]) -> Result<Held, String> {
        let chain = Certificates::chain(pem)?;
        let validity = chain.first().and_then(|leaf| Validity::of(leaf));
        Ok(Held { chain, validity: validity.ok_or("it does not say how long it is valid")? })
    }

    fn names(&self, domain: &str) -> bool {
        let leaf = self.chain.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let name = ServerName::try_from(domain).ok();
        matches!((leaf, name), (Some(leaf), Some(name)) if verify_server_name(&leaf, &name).is_ok())
    }
}

/// Roughly how long, for people.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
