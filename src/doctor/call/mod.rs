//! A whole call through the public address: two participants, who say nothing and hear it.

mod media;
pub mod participant;
mod sdp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use media::Progress;
use participant::{Room, Trouble};

use super::connection::Dialer;
use super::report::Verdict;

/// Joining takes a second, and DTLS under loss a few.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The first one's trouble, and if it has none the second one's.
    pub trouble: Option<Trouble>,
    pub progress: [Progress; 2],
}

pub async fn call(dialer: &Dialer, websocket: &str, tokens: [String; 2]) -> Outcome {
    let room = Arc::new(Room::default());
    let [one, other] = tokens;
    let part = |token, index| {
        let taken = participant::take_part(dialer.clone(), websocket.to_owned(), token, room.clone(), index);
        tokio::time::timeout(PATIENCE, taken)
    };
    // Who gets no further has no trouble of its own: the progress tells.
    let (one, other) = tokio::join!(part(one, 0), part(other, 1));
    let trouble = [one, other].into_iter().find_map(|part| part.ok()?.err());
    let progress = room.progress.lock().expect("nobody panics with it").clone();
    Outcome { trouble, progress }
}

impl Outcome {
    fn is_heard(&self) -> bool {
        self.progress.iter().all(|one| one.heard > 0)
    }

    /// Whether the socket took the token.
    pub fn judge_token(&self, service: &str) -> Verdict {
        match &self.trouble {
            Some(Trouble::Refused(401, text)) => Verdict::Wrong(format!(
                "{service}/rtc refuses the token that it should accept ({text}): let matrix.url name this server, and no \
                 other one stand behind /rtc."
            )),
            Some(Trouble::Refused(404, text)) if text.is_empty() => Verdict::Wrong(format!(
                "{service}/rtc gets requests without the Upgrade header: let the proxy pass WebSockets on (nginx: \
                 proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";)."
            )),
            Some(Trouble::Refused(status, text)) => Verdict::Wrong(format!(
                "{service}/rtc refuses a participant with {status} ({text}): let the proxy pass /rtc on to hausruf \
                 unchanged, WebSockets included."
            )),
            Some(Trouble::Failed(_)) | None => Verdict::Fine("The signalling accepts the token.".into()),
        }
    }

    pub fn judge_call(&self, service: &str) -> Verdict {
        if self.is_heard() && self.trouble.is_none() {
            return Verdict::Fine(format!("Two participants hear each other through {service}."));
        }
        let behind = self.progress.iter().min_by_key(|one| (one.selected.is_some(), one.is_secured, one.heard));
        let one = behind.cloned().unwrap_or_default();
        if one.candidates.is_empty() {
            return Verdict::Wrong(match &self.trouble {
                Some(Trouble::Failed(reason)) => format!(
                    "A participant's signalling through {service} fails ({reason}): let the proxy pass WebSockets on to \
                     hausruf, and keep them open."
                ),
                _ if !one.is_answered => format!(
                    "{service} lets a participant in but does not answer its offer: let the proxy keep WebSockets open, and \
                     see hausruf's log."
                ),
                _ => format!(
                    "A participant joins through {service} but is told no address for media: write advertise = [\"…\"] \
                     with the server's public address into hausruf.toml, and restart it."
                ),
            });
        }
        Verdict::Wrong(match (one.selected, one.is_secured) {
            (None, _) => format!(
                "No address for media answers over UDP ({}): write the public one as advertise = [\"…\"] into \
                 hausruf.toml, and open its UDP port in the firewall.",
                list(&one.candidates)
            ),
            (Some(selected), false) => format!(
                "{selected} answers STUN but not DTLS: see whether something on the way drops large UDP packets."
            ),
            (Some(selected), true) => {
                let reason = match &self.trouble {
                    Some(Trouble::Failed(reason)) => format!("; {reason}"),
                    _ => String::new(),
                };
                format!(
                    "Participants connect to {selected} but do not hear each other ({} packets came{reason}): see \
                     hausruf's log, and whether another server answers for this address.",
                    one.heard
                )
            }
        })
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(trouble: Option<Trouble>, last: Progress) -> Outcome {
        let well = Progress {
            is_answered: true,
            candidates: vec!["192.0.2.1:3478".parse().unwrap()],
            selected: Some("192.0.2.1:3478".parse().unwrap()),
            is_secured: true,
            heard: 10,
        };
        Outcome { trouble, progress: [well, last] }
    }

    #[test]
    fn how_far_it_came_tells_what_is_wrong() {
        let at = "https://calls.example.org";
        let call = |last| match outcome(None, last).judge_call(at) {
            Verdict::Wrong(sentence) => sentence,
            other => panic!("{other:?}"),
        };
        let well = outcome(None, Progress::default()).progress[0].clone();
        assert!(matches!(outcome(None, well.clone()).judge_call(at), Verdict::Fine(_)));
        assert!(call(Progress::default()).contains("does not answer its offer"));
        let unadvertised = Progress { is_answered: true, ..Progress::default() };
        assert!(call(unadvertised).contains("is told no address for media"));
        assert!(
            call(Progress { selected: None, is_secured: false, heard: 0, ..well.clone() }).contains("192.0.2.1:3478")
        );
        assert!(call(Progress { is_secured: false, heard: 0, ..well.clone() }).contains("not DTLS"));
        assert!(call(Progress { heard: 0, ..well }).contains("do not hear each other"));
    }

    #[test]
    fn a_refusal_is_told_by_its_status() {
        let token = |status, text: &str| {
            let refused = Some(Trouble::Refused(status, text.into()));
            outcome(refused, Progress::default()).judge_token("https://c")
        };
        assert!(matches!(token(401, "invalid API key"), Verdict::Wrong(told) if told.contains("(invalid API key)")));
        assert!(matches!(token(404, ""), Verdict::Wrong(told) if told.contains("proxy_set_header Upgrade")));
        assert!(matches!(token(502, "x"), Verdict::Wrong(told) if told.contains("with 502")));
        assert!(matches!(outcome(None, Progress::default()).judge_token("https://c"), Verdict::Fine(_)));
    }
}
