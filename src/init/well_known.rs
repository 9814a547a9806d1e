//! `/.well-known/matrix/client` of the server name.

use serde_json::json;

use super::answers::Answers;

pub fn text(answers: &Answers) -> String {
    let content = json!({
        "m.homeserver": { "base_url": answers.homeserver_url },
        "org.matrix.msc4143.rtc_foci": [{ "type": "livekit", "livekit_service_url": answers.url }],
    });
    format!("{content:#}\n")
}
