//! Whether a user, or anybody of a server, is in a room (MSC4502). Who has just joined may not be visible yet.

use std::time::{Duration, Instant};

use datapath::Now;
use serde::Deserialize;

use super::{Answer, Ask, ServerName, segment};

/// For so long "no" is asked again.
const VISIBLE_WITHIN: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_millis(400);
/// A stranger's question is asked less often: nobody has proven anything yet.
const STRANGER_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    User(String),
    Server(ServerName),
}

/// What is known after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Joined,
    NotJoined,
    /// Not joined so far.
    AskAgain(Duration),
    /// This homeserver does not answer such questions, nor did its events tell.
    Unsupported,
    /// It does not answer now.
    Unreachable,
}

/// One question, repeated while the answer may still change.
#[derive(Clone, Debug)]
pub struct Membership {
    room_id: String,
    whom: Whom,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct IsJoined {
    joined: bool,
}

impl Membership {
    pub fn new(room_id: &str, whom: Whom) -> Membership {
        Membership { room_id: room_id.to_owned(), whom, until: None }
    }

    pub fn ask(&self) -> Ask {
        let room = segment(&self.room_id);
        let (key, value) = match &self.whom {
            Whom::User(user_id) => ("mxid", segment(user_id)),
            Whom::Server(server) => ("server_name", segment(server.as_str())),
        };
        Ask::get(format!("/_matrix/client/unstable/io.element.msc4502/rooms/{room}/is_joined?{key}={value}"))
    }

    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    pub fn whom(&self) -> &Whom {
        &self.whom
    }

    /// `seen` is what the homeserver's events told, which counts where it does not answer.
    pub fn judge(&mut self, now: Now, answer: &Answer, seen: Option<bool>) -> Verdict {
        let until = *self.until.get_or_insert(now.instant + VISIBLE_WITHIN);
        let again = match self.whom {
            Whom::User(_) => Verdict::AskAgain(AGAIN_AFTER),
            Whom::Server(_) => Verdict::AskAgain(STRANGER_AGAIN_AFTER),
        };
        let no = || if now.instant < until { again } else { Verdict::NotJoined };
        if let Some(IsJoined { joined }) = answer.json() {
            return if joined { Verdict::Joined } else { no() };
        }
        // What it takes for no room or no user has nobody in it.
        if answer.status() == Some(400) {
            return no();
        }
        let unreachable = match answer.status() {
            None | Some(429 | 500..) => true,
            // 404: another version; 401 and 403: it gives us no such right.
            Some(_) => false,
        };
        match seen {
            Some(true) => Verdict::Joined,
            Some(false) => no(),
            None if unreachable => Verdict::Unreachable,
            // An event may be under way.
            None if now.instant < until => again,
            None => Verdict::Unsupported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::{after, start};

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer::Status { status, retry_after: None, body: body.into() }
    }

    #[test]
    fn names_are_data_in_the_question() {
        let user = Membership::new("!a/b?c:hs", Whom::User("@a&b:hs".into()));
        let path = "/_matrix/client/unstable/io.element.msc4502/rooms/%21a%2Fb%3Fc%3Ahs/is_joined?mxid=%40a%26b%3Ahs";
        assert_eq!(user.ask().path, path);
        let server = Membership::new("!r", Whom::Server(ServerName::parse("[::1]:8448").unwrap()));
        assert!(server.ask().path.ends_with("?server_name=%5B%3A%3A1%5D%3A8448"));
    }

    #[test]
    fn no_is_asked_again_for_two_seconds() {
        let now = start();
        let (yes, no) = (answer(200, r#"{"joined":true}"#), answer(200, r#"{"joined":false}"#));
        let mut question = Membership::new("!r", Whom::User("@a:hs".into()));
        assert_eq!(question.judge(now, &no, Some(true)), Verdict::AskAgain(AGAIN_AFTER), "its word comes first");
        let late = after(now, VISIBLE_WITHIN - Duration::from_millis(1));
        assert_eq!(question.judge(late, &no, None), Verdict::AskAgain(AGAIN_AFTER));
        assert_eq!(question.judge(late, &yes, Some(false)), Verdict::Joined);
        assert_eq!(question.judge(after(now, VISIBLE_WITHIN), &no, None), Verdict::NotJoined);
        assert_eq!(question.judge(after(now, VISIBLE_WITHIN), &answer(400, "{}"), None), Verdict::NotJoined);
    }

    #[test]
    fn events_count_where_the_homeserver_does_not_answer() {
        let now = start();
        let late = after(now, VISIBLE_WITHIN);
        for mute in [answer(404, r#"{"errcode":"M_UNRECOGNIZED"}"#), answer(403, "{}"), answer(200, "[]")] {
            let mut question = Membership::new("!r", Whom::User("@a:hs".into()));
            assert_eq!(question.judge(now, &mute, Some(true)), Verdict::Joined);
            assert_eq!(question.judge(now, &mute, Some(false)), Verdict::AskAgain(AGAIN_AFTER));
            assert_eq!(question.judge(now, &mute, None), Verdict::AskAgain(AGAIN_AFTER));
            assert_eq!(question.judge(late, &mute, Some(false)), Verdict::NotJoined);
            assert_eq!(question.judge(late, &mute, None), Verdict::Unsupported);
        }
        for away in [Answer::Unreachable, answer(502, ""), answer(429, "{}")] {
            let mut question = Membership::new("!r", Whom::User("@a:hs".into()));
            assert_eq!(question.judge(now, &away, None), Verdict::Unreachable);
            assert_eq!(question.judge(now, &away, Some(true)), Verdict::Joined);
        }
    }
}
