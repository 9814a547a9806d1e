use datapath::stun::{Class, Message, Method, TransactionId, Writer};
use datapath::{Counters, Outbox, Traffic};

use crate::allocation::FiveTuple;
use crate::credential::Seal;
use crate::refusal::Refusal;

/// More octets than the longest response has: Allocate's, with three addresses, a token and a ticket.
const RESPONSE_LEN_MAX: usize = 256;

/// Where the answer to a request goes and what it must look like.
#[derive(Clone, Debug)]
pub struct Reply {
    pub client: FiveTuple,
    pub method: Method,
    pub transaction_id: TransactionId,
    /// `None` as long as the client is not authenticated: then nothing seals the answer.
    pub seal: Option<Seal>,
    /// An authenticated request with FINGERPRINT gets one back (RFC 8489 §7).
    fingerprint: bool,
}

impl Reply {
    pub fn to(client: FiveTuple, request: &Message<'_>) -> Reply {
        Reply {
            client,
            method: request.method(),
            transaction_id: request.transaction_id(),
            seal: None,
            fingerprint: request.has_fingerprint(),
        }
    }

    pub fn success(&self, out: &mut Outbox, attributes: impl FnOnce(&mut Writer<'_>)) {
        self.send(Class::SuccessResponse, out, attributes);
    }

    pub fn refuse(&self, refusal: Refusal, out: &mut Outbox) {
        self.refuse_with(refusal, out, |_| ());
    }

    /// Refuses with further attributes.
    pub fn refuse_with(&self, refusal: Refusal, out: &mut Outbox, attributes: impl FnOnce(&mut Writer<'_>)) {
        self.send(Class::ErrorResponse, out, |writer| {
            writer.error_code(refusal.error_code());
            if let Refusal::UnknownAttributes(unknown) = refusal {
                writer.unknown_attributes(&unknown);
            }
            if let Refusal::TryAlternate(server) = refusal {
                writer.alternate_server(server);
            }
            attributes(writer);
        });
    }

    fn send(&self, class: Class, out: &mut Outbox, attributes: impl FnOnce(&mut Writer<'_>)) {
        let mut length = 0;
        let FiveTuple { local, remote } = self.client;
        let written = out.write(local, remote, RESPONSE_LEN_MAX, |buffer| {
            let mut writer = Writer::new(buffer, class, self.method, self.transaction_id);
            attributes(&mut writer);
            let written = match &self.seal {
                Some(seal) => seal.finish(writer, self.fingerprint),
                None => writer.finish(),
            };
            length = written.unwrap_or(0);
            written
        });
        assert!(written, "a response is longer than {RESPONSE_LEN_MAX} octets");
        count_sent(&mut out.counters, self.method, length);
    }
}

/// Counts a STUN message to a client: Binding is STUN's, all else TURN's.
pub fn count_sent(counters: &mut Counters, method: Method, length: usize) {
    counters.sent(traffic(method), length);
}

pub fn traffic(method: Method) -> Traffic {
    if method == Method::BINDING { Traffic::Stun } else { Traffic::Turn }
}
