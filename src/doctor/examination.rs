//! The order of the checks: what needs something that is wrong is left out, what does not is looked at all the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use config::{Config, Matrix};
use signaling::livekit::token::{self, Claims, VideoGrant};

use super::account::{self, Whoami};
use super::connection::{Dialer, Origin};
use super::http::HttpError;
use super::report::{Check, Report, Verdict};
use super::transports::Transports;
use super::{appservice, call, discovery, features, grant, homeserver, random, reach, service, transports};

/// Seconds for which a token of our own is good.
pub(super) const TOKEN_LIFE_S: u64 = 300;

/// What there is to look at.
pub struct Patient {
    pub dialer: Dialer,
    /// The address of the homeserver's name.
    pub site: String,
    pub config: Option<Config>,
    /// A user's access token.
    pub as_user: Option<String>,
}

/// Somebody whom the homeserver knows.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) token: String,
    pub(super) user: String,
}

/// What the checks so far have brought to light.
#[derive(Default)]
pub(super) struct Found {
    /// Base address of the homeserver's client API.
    pub(super) base: Option<String>,
    /// The appservice's own user, and the user given with `--as-user`.
    pub(super) appservice: Option<Account>,
    pub(super) user: Option<Account>,
    /// Base address of our own service.
    pub(super) service: Option<String>,
    pub(super) ahead_s: Vec<(String, i64)>,
    /// UDP addresses that answer.
    pub(super) udp: Vec<SocketAddr>,
    /// How we look from there.
    pub(super) seen_as: Option<SocketAddr>,
}

impl Found {
    pub(super) fn anybody(&self) -> Option<&Account> {
        self.user.as_ref().or(self.appservice.as_ref())
    }
}

pub(super) fn origin(url: &str) -> Option<Origin> {
    Origin::of(&url.parse().ok()?)
}

pub(super) fn unknown(sentence: &str) -> Verdict {
    Verdict::Unknown(sentence.to_owned())
}

impl Patient {
    fn matrix(&self) -> Option<&Matrix> {
        self.config.as_ref()?.matrix.as_ref()
    }

    pub(super) fn own_url(&self) -> Option<&str> {
        Some(self.matrix()?.url.as_str())
    }

    pub async fn examine(&self) -> Report {
        let mut report = Report::default();
        let mut found = Found { service: self.own_url().map(str::to_owned), ..Found::default() };
        self.find_homeserver(&mut report, &mut found).await;
        self.ask_homeserver(&mut report, &mut found).await;
        self.look_at_service(&mut report, &mut found).await;
        let clocks = homeserver::judge_clocks(&found.ahead_s);
        report.add(Check::Clock, clocks);
        self.look_at_relay(&mut report, &mut found).await;
        self.call(&mut report, &found).await;
        report
    }

    /// The name, its well-known document, and the homeserver behind it.
    async fn find_homeserver(&self, report: &mut Report, found: &mut Found) {
        let Some(site) = origin(&self.site) else {
            return;
        };
        let verdict = reach::judge(&self.dialer.reach(&site).await, "the web server");
        let is_unreachable = verdict.is_wrong();
        report.add(Check::Domain, verdict);
        if is_unreachable {
            return;
        }
        let mut base = self.site.clone();
        match discovery::ask(&self.dialer, &self.site).await {
            Ok(well_known) => {
                report.add(Check::WellKnown, well_known.judge(&self.site, found.service.as_deref()));
                base = well_known.base_url.unwrap_or(base);
                found.service = found.service.take().or_else(|| well_known.foci.first().cloned());
            }
            Err(error) => {
                report.add(Check::WellKnown, reach::judge_request(&site, &error, "the web server"));
                return;
            }
        }
        let Some(server) = origin(&base) else {
            let told = format!("{base}, the base_url in .well-known/matrix/client, is no address: correct it.");
            report.add(Check::Homeserver, Verdict::Wrong(told));
            return;
        };
        if server != site {
            let verdict = reach::judge(&self.dialer.reach(&server).await, "the proxy before Synapse");
            if verdict.is_wrong() {
                report.add(Check::Homeserver, verdict);
                return;
            }
        }
        let verdict = match homeserver::ask(&self.dialer, &base).await {
            Ok(versions) => {
                found.ahead_s.extend(versions.ahead_s.map(|ahead| (server.to_string(), ahead)));
                versions.judge(&base)
            }
            Err(error) => reach::judge_request(&server, &error, "Synapse"),
        };
        if !verdict.is_wrong() {
            found.base = Some(base);
        }
        report.add(Check::Homeserver, verdict);
    }

    /// What only somebody with a token may ask.
    async fn ask_homeserver(&self, report: &mut Report, found: &mut Found) {
        let Some(base) = found.base.clone() else {
            return;
        };
        let failed = |error: HttpError| {
            let origin = origin(&base).expect("it was reached before");
            reach::judge_request(&origin, &error, "Synapse")
        };
        if let Some(token) = &self.as_user {
            match account::whoami(&self.dialer, &base, token).await {
                Ok(whoami) => {
                    report.add(Check::Account, account::judge_user(&whoami, &base));
                    if let Whoami::User(user) = whoami {
                        found.user = Some(Account { token: token.clone(), user });
                    }
                }
                Err(error) => return report.add(Check::Account, failed(error)),
            }
        }
        if let Some(matrix) = self.matrix() {
            match self.appservice_account(&base, matrix).await {
                Ok((verdict, account)) => {
                    report.add(Check::Account, verdict);
                    found.appservice = account;
                }
                Err(error) => return report.add(Check::Account, failed(error)),
            }
        }
        if let Some(Account { token, user }) = &found.appservice {
            let listen = self.config.as_ref().map(|config| config.listen.http.to_string()).unwrap_or_default();
            let ping = appservice::ping(&self.dialer, &base, token).await;
            report.add(Check::Appservice, ping.map_or_else(failed, |ping| appservice::judge(&ping, &listen)));
            let membership = features::membership(&self.dialer, &base, token, user).await;
            report.add(Check::Membership, membership.map_or_else(failed, |membership| membership.judge()));
        }
        let Some(Account { token, .. }) = found.anybody().cloned() else {
            if self.as_user.is_none() && self.matrix().is_none() {
                let hint = "Without --config FILE or --as-user TOKEN the homeserver is not asked any further.";
                report.add(Check::Account, unknown(hint));
            }
            return;
        };
        match transports::ask(&self.dialer, &base, &token).await {
            Ok(transports) => {
                report.add(Check::Transports, transports.judge(self.own_url()));
                if let Transports::Listed(urls) = transports {
                    // The homeserver's word comes before that of the well-known document, ours before both.
                    let listed = urls.into_iter().next();
                    found.service = self.own_url().map(str::to_owned).or(listed).or(found.service.take());
                }
            }
            Err(error) => report.add(Check::Transports, failed(error)),
        }
        // Where the appservice cannot be reached at all, that is the cause.
        if !report.is_wrong(Check::Appservice) {
            let proxying = features::proxying(&self.dialer, &base, &token).await;
            report.add(Check::Proxying, proxying.map_or_else(failed, |proxying| proxying.judge()));
        }
        let delayed = features::delayed_events(&self.dialer, &base, &token).await;
        report.add(Check::DelayedEvents, delayed.map_or_else(failed, |delayed| delayed.judge()));
    }

    async fn appservice_account(&self, base: &str, matrix: &Matrix) -> Result<(Verdict, Option<Account>), HttpError> {
        let token = matrix.as_token.reveal();
        let whoami = account::whoami(&self.dialer, base, token).await?;
        let other = match &whoami {
            Whoami::User(_) => None,
            Whoami::Refused(_) => Some(account::whoami(&self.dialer, base, matrix.hs_token.reveal()).await?),
        };
        let verdict = account::judge_appservice(&whoami, other.as_ref(), base, matrix);
        let account = match whoami {
            Whoami::User(user) => Some(Account { token: token.to_owned(), user }),
            Whoami::Refused(_) => None,
        };
        Ok((verdict, account))
    }

    /// Our own public address.
    async fn look_at_service(&self, report: &mut Report, found: &mut Found) {
        let Some(url) = found.service.take() else {
            let told =
                "Nothing says where calls are served, so that is not checked: give --config FILE, or --as-user TOKEN.";
            return report.add(Check::Service, unknown(told));
        };
        let Some(server) = origin(&url) else {
            let told = format!("{url} is no address for calls: write one such as https://calls.example.org.");
            return report.add(Check::Service, Verdict::Wrong(told));
        };
        if Some(&server) != origin(&self.site).as_ref() {
            let verdict = reach::judge(&self.dialer.reach(&server).await, "the proxy before hausruf");
            let is_unreachable = verdict.is_wrong();
            report.add(Check::Service, verdict);
            if is_unreachable {
                return;
            }
        } else if report.is_wrong(Check::Domain) {
            return;
        }
        let failed = |error: HttpError| reach::judge_request(&server, &error, "the proxy before hausruf");
        let health = service::health(&self.dialer, &url).await;
        let ahead = health.as_ref().ok().and_then(|health| health.ahead_s);
        found.ahead_s.extend(ahead.map(|ahead| (server.to_string(), ahead)));
        let verdict = health.map_or_else(failed, |health| health.judge(&url));
        let is_absent = verdict.is_wrong();
        report.add(Check::Service, verdict);
        if is_absent {
            return;
        }
        let endpoints = service::endpoints(&self.dialer, &url).await;
        report.add(
            Check::Endpoints,
            endpoints.map_or_else(failed, |endpoints| service::judge_endpoints(&endpoints, &url)),
        );
        let metrics = service::metrics_are_public(&self.dialer, &url).await;
        report.add(Check::Metrics, service::judge_metrics(metrics, &url));
        let (short, long) = service::socket(&self.dialer, &url).await;
        report.add(Check::Socket, service::judge_socket(&short, &long, &url));
        found.service = Some(url);
    }

    /// A token, by the way of every client or made with our own key, and a call with it.
    async fn call(&self, report: &mut Report, found: &Found) {
        let Some(service) = &found.service else {
            return;
        };
        // Every call would end where the signalling cannot be reached.
        if report.is_wrong(Check::Socket) {
            return;
        }
        let mut room = None;
        let mut tokens = self.granted_tokens(report, found, service, &mut room).await;
        if tokens.is_none() {
            tokens = self.own_tokens();
        }
        match tokens {
            Some(tokens) => {
                let outcome = call::call(&self.dialer, &service::websocket_url(service), tokens).await;
                let verdict = outcome.judge_token(service);
                let is_refused = verdict.is_wrong();
                report.add(Check::Token, verdict);
                // Where UDP is dead, that is the cause.
                let is_deaf = report.is_wrong(Check::Udp) && found.udp.is_empty();
                if !is_refused && !is_deaf {
                    report.add(Check::Call, outcome.judge_call(service));
                }
            }
            None if found.anybody().is_none() => {
                let told = "A call needs a token: give --config FILE or --as-user TOKEN.";
                report.add(Check::Call, unknown(told));
            }
            None => {}
        }
        if let (Some(room), Some(base), Some(account)) = (room, &found.base, found.anybody()) {
            room.leave(&self.dialer, base, &account.token).await;
        }
    }

    async fn granted_tokens(
        &self,
        report: &mut Report,
        found: &Found,
        service: &str,
        made: &mut Option<grant::Room>,
    ) -> Option<[String; 2]> {
        let (base, account) = (found.base.as_deref()?, found.anybody()?);
        if report.is_wrong(Check::Endpoints) {
            return None;
        }
        let failed = |error: HttpError, url: &str| {
            let origin = origin(url).expect("it was reached before");
            reach::judge_request(&origin, &error, "the server")
        };
        let homeserver = self.matrix().map(|matrix| matrix.homeserver.as_str());
        // Where the homeserver cannot even ping us, that is the cause of its silence.
        let hs_token = self
            .matrix()
            .map(|matrix| matrix.hs_token.reveal())
            .filter(|_| found.appservice.is_some() && !report.is_wrong(Check::Appservice));
        let before = match hs_token {
            Some(hs_token) => appservice::transactions(&self.dialer, service, hs_token).await,
            None => None,
        };
        let room = match grant::create_room(&self.dialer, base, &account.token).await {
            Ok(Ok(room)) => room,
            Ok(Err(granted)) => {
                report.add(Check::OpenId, granted.judge_openid(homeserver));
                return None;
            }
            Err(error) => {
                report.add(Check::OpenId, failed(error, base));
                return None;
            }
        };
        if let Some(hs_token) = hs_token {
            let heard = appservice::hears(&self.dialer, service, hs_token, before).await;
            report.add(Check::Transactions, appservice::judge_transactions(heard));
        }
        let asker = grant::Asker { base, token: &account.token, user: &account.user };
        let mut tokens = Vec::new();
        for device in ["HAUSRUFDOCTOR1", "HAUSRUFDOCTOR2"] {
            match grant::ask(&self.dialer, service, &asker, &room, device).await {
                Ok(grant::Granted::Token(token)) => tokens.push(token),
                Ok(granted) => {
                    report.add(Check::OpenId, granted.judge_openid(homeserver));
                    if let Some(verdict) = granted.judge_grant() {
                        report.add(Check::Token, verdict);
                    }
                    break;
                }
                Err(error) => {
                    report.add(Check::OpenId, failed(error, service));
                    break;
                }
            }
        }
        *made = Some(room);
        let tokens: Option<[String; 2]> = tokens.try_into().ok();
        if tokens.is_some() {
            let granted = grant::Granted::Token(String::new());
            report.add(Check::OpenId, granted.judge_openid(homeserver));
        }
        tokens
    }

    /// Tokens signed with the first API key.
    fn own_tokens(&self) -> Option<[String; 2]> {
        let (key, secret) = self.config.as_ref()?.api_keys.first_key_value()?;
        let keys = BTreeMap::from([(key.clone(), secret.reveal().to_owned())]);
        let room = format!("hausruf-doctor-{}", random::hex(8).ok()?);
        let sign = |identity: &str| {
            let claims = Claims {
                iss: key.clone(),
                sub: identity.to_owned(),
                exp: Some(unix_s() + TOKEN_LIFE_S),
                video: Some(VideoGrant { room_join: true, room: room.clone(), ..VideoGrant::default() }),
                ..Claims::default()
            };
            token::sign(&claims, &keys)
        };
        Some([sign("doctor-1")?, sign("doctor-2")?])
    }
}

#[allow(clippy::disallowed_methods)] // the real clock
pub(super) fn unix_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
