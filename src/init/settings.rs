//! Our own configuration.

use super::Secrets;
use super::answers::Answers;

pub fn text(answers: &Answers, secrets: &Secrets) -> String {
    let addresses: Vec<String> = answers.addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
    let Answers { server_name, url, homeserver, listen, .. } = answers;
    let Secrets { as_token, hs_token, turn } = secrets;
    format!(
        "# Everything that is not here has the default that config/example.toml explains.\n\
         \n\
         # The addresses under which the internet reaches this machine.\n\
         advertise = [{}]\n\
         \n\
         [listen]\n\
         # The proxy with TLS passes requests on to this, and Synapse speaks to it.\n\
         http = \"{listen}\"\n\
         \n\
         [matrix]\n\
         homeserver = \"{homeserver}\"\n\
         server_name = \"{server_name}\"\n\
         url = \"{url}\"\n\
         # As in hausruf-registration.yaml.\n\
         as_token = \"{as_token}\"\n\
         hs_token = \"{hs_token}\"\n\
         \n\
         [relay]\n\
         # As turn_shared_secret in Synapse's configuration.\n\
         secrets = [\"{turn}\"]\n",
        addresses.join(", ")
    )
}
