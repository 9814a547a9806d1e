use serde::{Deserialize, Serialize};

use super::Member;

/// A member's place in a call, as the SFU's side names it. One member may have two: Element Call looks at a call under the
/// hashed identity first, and then takes part under the plain one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seat {
    pub member: Member,
    /// The room's name at the SFU.
    pub call: String,
    /// The participant's name at the SFU.
    pub identity: String,
}

/// How a seat stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its transport is up.
    Present,
    /// It was told to join anew, and is expected within seconds.
    Returning,
    /// Neither its socket nor its media has given a sign for too long, or it has left or was removed.
    Absent,
}
