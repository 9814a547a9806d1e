//! What is valid, and yet perhaps not meant.

use crate::{Certificate, Config, Tls};

impl Config {
    /// What clients of calls will miss: each with the key, its value, and what to write if it should be otherwise.
    pub fn notes(&self) -> Vec<String> {
        if self.api_keys.is_empty() && self.matrix.is_none() {
            return vec!["There are no [api_keys] and no [matrix]: nobody can join a call.".into()];
        }
        let mut notes = Vec::new();
        if let [only] = self.listen.udp[..] {
            notes.push(format!(
                "listen.udp = [\"{only}\"]: clients of calls are told of no TURN over UDP; write a second address for \
                 it, on another port"
            ));
        }
        if let Some(Tls { certificate: Certificate::Files { .. }, names }) = &self.tls
            && names.is_empty()
            && !self.listen.tcp.is_empty()
        {
            notes.push(
                "tls.names = []: clients of calls are not told of TURN over TLS; write the names in the certificate by \
                 which they reach this server, such as [\"calls.example.org\"]"
                    .into(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_of_calls_will_miss_is_told() {
        let key = format!("api_keys.a = \"{}\"", "x".repeat(32));
        let notes = |text: &str| Config::parse(&format!("{key}\n{text}")).unwrap().notes().join("\n");
        assert_eq!(notes(""), "");
        let files = "tls.certificate = \"/c.pem\"\ntls.key = \"/k.pem\"";
        assert!(notes(files).contains("tls.names = []"));
        assert_eq!(notes(&format!("{files}\ntls.names = [\"calls.example.org\"]")), "");
        assert_eq!(notes(&format!("{files}\nlisten.tcp = []")), "", "there is nowhere to be told of");
        assert!(notes("listen.udp = [\"[::]:3478\"]").starts_with("listen.udp = [\"[::]:3478\"]"));
        let nobody = Config::parse(&format!("{files}\nlisten.udp = [\"[::]:3478\"]")).unwrap().notes();
        assert!(matches!(&nobody[..], [note] if note.contains("nobody can join")), "{nobody:?}");
    }
}
