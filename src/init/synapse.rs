//! One file for Synapse's `conf.d`.

use super::answers::Answers;
use super::homeserver_config::HomeserverConfig;
use super::{Secrets, registration_path};

/// Features of Synapse that calls need, and those that make them better.
pub const FEATURES: [&str; 6] =
    ["msc3266_enabled", "msc4143_enabled", "msc4222_enabled", "msc4354_enabled", "msc4502_enabled", "msc4512_enabled"];

/// Top-level keys whose value in another file holds what is not ours: Synapse takes each key whole, from the last file
/// that has it.
pub const SHARED_KEYS: [&str; 3] =
    ["experimental_features", "app_service_config_files", "extra_well_known_client_content"];

/// Top-level keys that are all ours.
pub const OWN_KEYS: [&str; 5] =
    ["turn_uris", "turn_shared_secret", "turn_user_lifetime", "matrix_rtc", "max_event_delay_duration"];

/// The lines of one shared key.
pub fn shared(key: &str, answers: &Answers) -> String {
    match key {
        "experimental_features" => {
            let features: String = FEATURES.iter().map(|feature| format!("  {feature}: true\n")).collect();
            format!("{key}:\n{features}")
        }
        "app_service_config_files" => format!("{key}:\n  - \"{}\"\n", registration_path(answers).display()),
        _ => format!(
            "{key}:\n  org.matrix.msc4143.rtc_foci:\n    - type: livekit\n      livekit_service_url: \"{}\"\n",
            answers.url
        ),
    }
}

pub fn text(answers: &Answers, existing: &HomeserverConfig, secrets: &Secrets) -> String {
    let Answers { url, .. } = answers;
    let host = answers.host();
    let turn = &secrets.turn;
    let mut text = format!(
        "# Calls by Hausruf. Synapse takes each of these keys whole, from the last file that has it.\n\
         \n\
         # TURN for calls of the older kind, one to one.\n\
         turn_uris:\n\
         \x20 - \"turn:{host}:3478?transport=udp\"\n\
         \x20 - \"turn:{host}:3478?transport=tcp\"\n\
         turn_shared_secret: \"{turn}\"\n\
         turn_user_lifetime: 1h\n\
         \n\
         # Where Element Call finds us.\n\
         matrix_rtc:\n\
         \x20 transports:\n\
         \x20   - type: livekit\n\
         \x20     livekit_service_url: \"{url}\"\n\
         \n\
         # Whoever loses the connection leaves the call by an event that was sent ahead.\n\
         max_event_delay_duration: 24h\n"
    );
    for key in SHARED_KEYS {
        let lines = shared(key, answers);
        text.push('\n');
        match existing.file_with(key) {
            None => text.push_str(&lines),
            Some(file) => {
                text.push_str(&format!("# {} has this key too and would be hidden: merge there.\n", file.display()));
                lines.lines().for_each(|line| text.push_str(&format!("#{line}\n")));
            }
        }
    }
    text
}
