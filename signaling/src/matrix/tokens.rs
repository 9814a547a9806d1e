//! What the service knows of tokens: what OpenID tokens were used for, who asked how often, and what came of it.

use std::collections::BTreeMap;

use datapath::Now;

use super::allowance::Allowances;
use super::membership::Whom;
use super::pins::Pins;
use super::{Admission, Refusal, ServerName, Service, access_token};
use crate::livekit::Rooms;
use crate::livekit::token::Claims;

const PINS_MAX: usize = 20_000;
const USERS_MAX: usize = 20_000;

pub struct Tokens {
    pins: Pins,
    allowances: Allowances,
    granted: u64,
    /// By [`Refusal::label`].
    refused: BTreeMap<&'static str, u64>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        Tokens {
            pins: Pins::new(PINS_MAX),
            allowances: Allowances::new(USERS_MAX),
            granted: 0,
            refused: BTreeMap::new(),
        }
    }
}

/// For the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCensus {
    pub granted: u64,
    pub refused: Vec<(&'static str, u64)>,
    /// OpenID tokens whose first use is remembered.
    pub pinned: usize,
}

impl Service {
    /// What the homeserver's events told.
    pub(super) fn seen(&self, room_id: &str, whom: &Whom) -> Option<bool> {
        match whom {
            Whom::User(user_id) => self.seen_user(room_id, user_id),
            Whom::Server(server) => self.seen_server(room_id, server),
        }
    }

    pub(super) fn admit_token(
        &mut self,
        now: Now,
        server: &ServerName,
        token: &str,
        room_id: &str,
        device_id: &str,
    ) -> bool {
        self.tokens.pins.admit(now.instant, server, token, room_id, device_id)
    }

    pub(super) fn allow(&mut self, now: Now, user_id: &str) -> Result<(), Refusal> {
        self.tokens.allowances.take(now.instant, user_id).map_err(Refusal::Limited)
    }

    pub fn count_refused(&mut self, refusal: &Refusal) {
        *self.tokens.refused.entry(refusal.label()).or_default() += 1;
    }

    /// The token's content. Where the user may open the call, it is open from now on: others, who may not, come in as soon
    /// as they hear of it.
    pub fn admit(&mut self, rooms: &mut Rooms, now: Now, admission: &Admission) -> Claims {
        if admission.opens {
            rooms.open_for_call(now, &admission.seat.call);
        }
        self.tokens.granted += 1;
        access_token::claims(self.settings(), admission, now.unix)
    }

    pub(super) fn token_census(&self) -> TokenCensus {
        TokenCensus {
            granted: self.tokens.granted,
            refused: self.tokens.refused.iter().map(|(label, count)| (*label, *count)).collect(),
            pinned: self.tokens.pins.len(),
        }
    }
}
