use serde::{Deserialize, Serialize};

/// Whom a token was made for: one device of a user in one Matrix room.
///
/// It stands in the token itself (claim `matrix`), so that a session is still known by it after a restart of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    pub room_id: String,
    pub user_id: String,
    pub device_id: String,
}
