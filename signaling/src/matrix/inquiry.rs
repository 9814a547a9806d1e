//! From a request for a token to the decision, as a state machine: every question that it needs answered is a step.
//!
//! What the operator forbids, and a server that nobody of the room is from, is refused before anybody outside of the
//! house is asked.

use std::time::Duration;

use datapath::Now;

use super::membership::{Membership, Verdict, Whom};
use super::refusal::{Refusal, Unproven};
use super::server_name::server_of;
use super::token_request::{Proof, TokenRequest};
use super::{Answer, Ask, Delegation, Member, MembershipUnknown, Seat, ServerName, Service, identity, openid};

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// The answer goes to [`Inquiry::handle_answer`].
    AskHomeserver(Ask),
    /// GET `path` at another server, found by its name; the answer goes to [`Inquiry::handle_answer`].
    AskServer {
        server: ServerName,
        path: String,
    },
    /// Then [`Inquiry::handle_waited`].
    Wait(Duration),
    Done(Result<Admission, Refusal>),
}

/// A user that may take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub seat: Seat,
    /// Whether the call begins with this user, if it has not begun.
    pub opens: bool,
    pub delegation: Option<Delegation>,
    pub wants_token: bool,
}

#[derive(Debug)]
enum Stage {
    New,
    /// Whether anybody of the user's server is in the room.
    Server(Membership),
    UserInfo,
    User(String, Membership),
}

pub struct Inquiry {
    request: TokenRequest,
    server: Option<ServerName>,
    stage: Stage,
}

impl Inquiry {
    pub fn new(request: TokenRequest) -> Inquiry {
        let server = match &request.proof {
            Proof::OpenId { server, .. } => Some(server.clone()),
            Proof::Homeserver { user_id } => server_of(user_id),
        };
        Inquiry { request, server, stage: Stage::New }
    }

    pub fn start(&mut self, service: &mut Service, now: Now) -> Step {
        self.begin(service, now).unwrap_or_else(|refusal| Step::Done(Err(refusal)))
    }

    pub fn handle_answer(&mut self, service: &mut Service, now: Now, answer: &Answer) -> Step {
        self.go_on(service, now, answer).unwrap_or_else(|refusal| Step::Done(Err(refusal)))
    }

    pub fn handle_waited(&mut self) -> Step {
        match &self.stage {
            Stage::Server(membership) | Stage::User(_, membership) => Step::AskHomeserver(membership.ask()),
            Stage::New | Stage::UserInfo => Step::Done(Err(Refusal::Internal)),
        }
    }

    fn begin(&mut self, service: &mut Service, now: Now) -> Result<Step, Refusal> {
        let settings = service.settings();
        let server = self.server.clone().ok_or(Refusal::Policy)?;
        let local = settings.is_local(&server);
        if !local && !settings.policy.permits_server(&server) || !settings.policy.permits_room(&self.request.room_id) {
            return Err(Refusal::Policy);
        }
        if self.request.delegation.is_some() && !local {
            return Err(match self.request.wants_token {
                true => Refusal::NoDelegationWithToken,
                false => Refusal::NoDelegation,
            });
        }
        match &self.request.proof {
            Proof::Homeserver { user_id } => {
                let user_id = user_id.clone();
                self.ask_for_user(service, now, user_id)
            }
            Proof::OpenId { .. } if local => self.ask_who(service),
            Proof::OpenId { .. } => {
                let membership = Membership::new(&self.request.room_id, Whom::Server(server));
                let step = Step::AskHomeserver(membership.ask());
                self.stage = Stage::Server(membership);
                Ok(step)
            }
        }
    }

    fn go_on(&mut self, service: &mut Service, now: Now, answer: &Answer) -> Result<Step, Refusal> {
        match &mut self.stage {
            Stage::New => Err(Refusal::Internal),
            Stage::Server(membership) => {
                let seen = service.seen(membership.room_id(), membership.whom());
                match membership.judge(now, answer, seen) {
                    Verdict::AskAgain(after) => Ok(Step::Wait(after)),
                    Verdict::Joined => self.ask_who(service),
                    Verdict::Unsupported if service.trusts() => self.ask_who(service),
                    Verdict::Unreachable => Err(Refusal::Busy),
                    Verdict::NotJoined | Verdict::Unsupported => Err(Refusal::Unauthorised(Unproven::ServerNotInRoom)),
                }
            }
            Stage::UserInfo => {
                let user_id = self.proven_user(service, now, answer)?;
                self.ask_for_user(service, now, user_id)
            }
            Stage::User(user_id, membership) => {
                let seen = service.seen(membership.room_id(), membership.whom());
                let user_id = user_id.clone();
                match membership.judge(now, answer, seen) {
                    Verdict::AskAgain(after) => Ok(Step::Wait(after)),
                    Verdict::Joined => Ok(Step::Done(Ok(self.admission(service, user_id)))),
                    Verdict::Unsupported | Verdict::Unreachable if service.trusts() => {
                        Ok(Step::Done(Ok(self.admission(service, user_id))))
                    }
                    Verdict::NotJoined => Err(Refusal::NotJoined),
                    Verdict::Unsupported => Err(Refusal::MembershipUnknown),
                    Verdict::Unreachable => Err(Refusal::Busy),
                }
            }
        }
    }

    fn ask_who(&mut self, service: &Service) -> Result<Step, Refusal> {
        let Proof::OpenId { access_token, server, .. } = &self.request.proof else {
            return Err(Refusal::Internal);
        };
        let path = openid::userinfo_path(access_token);
        let step = match service.settings().is_local(server) {
            true => Step::AskHomeserver(Ask::get(path).without_token()),
            false => Step::AskServer { server: server.clone(), path },
        };
        self.stage = Stage::UserInfo;
        Ok(step)
    }

    fn proven_user(&self, service: &mut Service, now: Now, answer: &Answer) -> Result<String, Refusal> {
        let Proof::OpenId { access_token, server, claimed_user } = &self.request.proof else {
            return Err(Refusal::Internal);
        };
        if service.settings().is_local(server) && answer.status().is_none_or(|status| status >= 500) {
            return Err(Refusal::Busy);
        }
        let user = openid::user(answer, server).ok_or(Refusal::Unauthorised(Unproven::UserInfo))?;
        if claimed_user.as_ref().is_some_and(|claimed| *claimed != user) {
            return Err(Refusal::Unauthorised(Unproven::OtherUser));
        }
        let device_id = self.request.naming.device_id();
        if !service.admit_token(now, server, access_token, &self.request.room_id, device_id) {
            return Err(Refusal::Unauthorised(Unproven::Pinned));
        }
        Ok(user)
    }

    fn ask_for_user(&mut self, service: &mut Service, now: Now, user_id: String) -> Result<Step, Refusal> {
        service.allow(now, &user_id)?;
        let membership = Membership::new(&self.request.room_id, Whom::User(user_id.clone()));
        let step = Step::AskHomeserver(membership.ask());
        self.stage = Stage::User(user_id, membership);
        Ok(step)
    }

    fn admission(&self, service: &Service, user_id: String) -> Admission {
        let request = &self.request;
        let identity = request.naming.identity(&user_id);
        let opens = service.settings().may_open(&user_id);
        let member =
            Member { room_id: request.room_id.clone(), user_id, device_id: request.naming.device_id().to_owned() };
        let call = identity::call_name(&request.room_id, &request.slot_id);
        Admission {
            seat: Seat { member, call, identity },
            opens,
            delegation: request.delegation.clone(),
            wants_token: request.wants_token,
        }
    }
}

/// Somebody with a token at our door: it may have been made before the user was kicked.
pub struct Reentry {
    member: Member,
    membership: Membership,
}

/// What is to be done before the door opens.
#[derive(Debug, PartialEq)]
pub enum ReentryStep {
    AskHomeserver(Ask),
    Wait(Duration),
    /// Whether the user is (still) in the room.
    Done(bool),
}

impl Reentry {
    pub fn new(member: Member) -> Reentry {
        let membership = Membership::new(&member.room_id, Whom::User(member.user_id.clone()));
        Reentry { member, membership }
    }

    /// The policies may be others than when the token was made.
    pub fn start(&self, service: &Service) -> ReentryStep {
        let settings = service.settings();
        let permitted = server_of(&self.member.user_id)
            .is_some_and(|server| settings.is_local(&server) || settings.policy.permits_server(&server))
            && settings.policy.permits_room(&self.member.room_id);
        match permitted {
            true => ReentryStep::AskHomeserver(self.membership.ask()),
            false => ReentryStep::Done(false),
        }
    }

    pub fn handle_answer(&mut self, service: &Service, now: Now, answer: &Answer) -> ReentryStep {
        let seen = service.seen(self.membership.room_id(), self.membership.whom());
        match self.membership.judge(now, answer, seen) {
            Verdict::AskAgain(after) => ReentryStep::Wait(after),
            Verdict::Joined => ReentryStep::Done(true),
            Verdict::NotJoined => ReentryStep::Done(false),
            // The token says that the user was in the room within the hour. A homeserver that is away is no reason to
            // end calls; one that cannot be asked sends its events again until we have them, kicks included.
            Verdict::Unsupported | Verdict::Unreachable => ReentryStep::Done(true),
        }
    }

    /// There has been no answer for too long: whether the user may come in.
    pub fn handle_silence(&mut self, service: &Service, now: Now) -> bool {
        !matches!(
            self.handle_answer(service, now, &Answer::Unreachable),
            ReentryStep::Done(false) | ReentryStep::Wait(_)
        )
    }

    pub fn handle_waited(&self) -> ReentryStep {
        ReentryStep::AskHomeserver(self.membership.ask())
    }
}

impl Service {
    fn trusts(&self) -> bool {
        self.settings().policy.membership_unknown == MembershipUnknown::Trust
    }
}
