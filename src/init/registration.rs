//! The registration with which Synapse knows us as an appservice.

use super::Secrets;
use super::answers::Answers;

/// No user of the homeserver is in a namespace: whoever gets hold of the `as_token` can act as nobody but our own user.
pub fn text(answers: &Answers, secrets: &Secrets) -> String {
    let Answers { appservice_url, .. } = answers;
    let Secrets { as_token, hs_token, .. } = secrets;
    format!(
        "# Hausruf, as Synapse knows it. The tokens are those of hausruf.toml.\n\
         id: hausruf\n\
         url: \"{appservice_url}\"\n\
         as_token: \"{as_token}\"\n\
         hs_token: \"{hs_token}\"\n\
         sender_localpart: hausruf\n\
         rate_limited: false\n\
         namespaces:\n\
         \x20 users: []\n\
         \x20 aliases: []\n\
         \x20 # Memberships and calls of all rooms.\n\
         \x20 rooms:\n\
         \x20   - exclusive: false\n\
         \x20     regex: \"!.*\"\n\
         # MSC4502: may ask who is in a room.\n\
         io.element.msc4502.scopes:\n\
         \x20 - \"urn:matrix:client:io.element.msc4502:rooms:is_joined\"\n\
         # MSC4512: requests below this prefix are passed on.\n\
         io.element.msc4512.proxy_prefix: \"rtc/livekit\"\n\
         io.element.msc4512.proxy_url: \"{appservice_url}\"\n"
    )
}
