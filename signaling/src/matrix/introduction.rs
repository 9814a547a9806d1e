//! What the homeserver is asked first. The answers go into the log: a set-up that is not finished is the commonest trouble.

use super::membership::{Membership, Whom};
use super::{Answer, Ask, Settings, openid};

/// In this order; the last two follow when the first is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether it knows the as_token.
    AsToken,
    /// Whether it says where we ask it who its users are.
    OpenId,
    /// Whether it says who is in a room (MSC4502).
    Membership,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Fine,
    /// To be asked again.
    NoAnswer,
    Trouble(&'static str),
    /// Calls work, but not as well as they could.
    Lack(&'static str),
}

impl Question {
    pub fn ask(self, settings: &Settings) -> Ask {
        match self {
            Question::AsToken => Ask::get("/_matrix/client/v3/account/whoami".into()),
            Question::OpenId => Ask::get(openid::userinfo_path("nobodys")).without_token(),
            Question::Membership => {
                // A room that nobody can have.
                let user = format!("@nobody:{}", settings.server_name);
                Membership::new(&format!("!nobody:{}", settings.server_name), Whom::User(user)).ask()
            }
        }
    }

    pub fn judge(self, answer: &Answer) -> Finding {
        match (self, answer.status()) {
            (_, None | Some(429 | 500..)) => Finding::NoAnswer,
            (Question::AsToken, Some(200)) => Finding::Fine,
            (Question::AsToken, Some(401 | 403)) => Finding::Trouble(
                "the homeserver does not know matrix.as_token: compare it with the registration file, and restart the \
                 homeserver if that is new",
            ),
            (Question::AsToken, Some(_)) => {
                Finding::Trouble("what answers at matrix.homeserver is no Matrix homeserver; compare the address")
            }
            (Question::OpenId, Some(400 | 401)) => Finding::Fine,
            (Question::OpenId, Some(_)) => Finding::Trouble(
                "the homeserver does not say at matrix.homeserver who its users are, so nobody gets a token: let that \
                 listener have the resource \"openid\" (Synapse), or the proxy pass on \
                 /_matrix/federation/v1/openid/userinfo",
            ),
            (Question::Membership, Some(200 | 400)) => Finding::Fine,
            (Question::Membership, Some(_)) => Finding::Lack(
                "the homeserver does not say who is in a room (MSC4502, and the scope in the registration): what its \
                 events told counts, else matrix.membership_unknown",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_is_told_from_what_is_wrong() {
        let judge = |question: Question, status| {
            question.judge(&Answer::Status { status, retry_after: None, body: Default::default() })
        };
        for (question, fine, bad) in [
            (Question::AsToken, 200, 403),
            (Question::AsToken, 200, 404),
            (Question::OpenId, 401, 404),
            (Question::Membership, 200, 404),
            (Question::Membership, 400, 403),
        ] {
            assert_eq!(judge(question, fine), Finding::Fine);
            assert!(!matches!(judge(question, bad), Finding::Fine | Finding::NoAnswer), "{question:?}");
            assert_eq!(judge(question, 502), Finding::NoAnswer);
            assert_eq!(question.judge(&Answer::Unreachable), Finding::NoAnswer);
        }
    }
}
