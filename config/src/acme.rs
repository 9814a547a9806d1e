//! `[tls.acme]`: a certificate that the server gets and renews by itself.

use std::path::PathBuf;

use crate::{Problems, file};

/// How the ACME server sees that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8737: in a TLS handshake on port 443.
    TlsAlpn01,
    /// RFC 8555 §8.3: over plain HTTP on port 80.
    Http01,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The names that the certificate is for, in lower case; at least one.
    pub domains: Vec<String>,
    /// `mailto:` addresses, for the ACME server's operator.
    pub contact: Vec<String>,
    /// An `https` address (RFC 8555 §7.1.1).
    pub directory: String,
    pub challenge: Challenge,
    /// The folder of the account's key and the certificates.
    pub store: PathBuf,
    /// Certificate authorities (PEM) for the ACME server itself, besides the system's.
    pub root: Option<PathBuf>,
}

impl Problems {
    /// `None` without domains.
    pub(crate) fn acme(&mut self, acme: &file::Acme) -> Option<Acme> {
        if acme.domains.is_empty() {
            if acme.agree_terms || !acme.contact.is_empty() {
                let fix = r#"write the names that the certificate is for, such as ["calls.example.org"]"#;
                self.add("tls.acme.domains", "[]", fix);
            }
            return None;
        }
        let mut domains: Vec<String> = Vec::new();
        for domain in &acme.domains {
            let name = domain.to_ascii_lowercase();
            let refusal = if domain.starts_with("*.") {
                "neither challenge can prove a wildcard; write each name, or get that certificate elsewhere and name \
                 its files in [tls]"
            } else if !is_domain(&name) {
                r#"write a host name such as "calls.example.org""#
            } else if domains.contains(&name) {
                "stands there twice; leave one"
            } else {
                domains.push(name);
                continue;
            };
            self.add("tls.acme.domains", format!("{domain:?}"), refusal);
        }
        for contact in &acme.contact {
            // RFC 8555 §7.3: one address, no header fields.
            let address = contact.strip_prefix("mailto:").filter(|address| !address.contains([',', '?', ' ']));
            if !address.is_some_and(|address| address.contains('@')) {
                let fix = r#"write a mail address behind mailto:, such as "mailto:admin@example.org""#;
                self.add("tls.acme.contact", format!("{contact:?}"), fix);
            }
        }
        let host = acme.directory.strip_prefix("https://").unwrap_or_default();
        if host.is_empty() || host.starts_with(['/', ':', '@']) || host.contains([' ', '#']) {
            let fix = r#"write an https address such as "https://acme-v02.api.letsencrypt.org/directory""#;
            self.add("tls.acme.directory", format!("{:?}", acme.directory), fix);
        }
        if !acme.agree_terms {
            let fix = "the ACME server gives certificates only to who agrees to its terms of service: read them, and \
                       write true";
            self.add("tls.acme.agree_terms", "false", fix);
        }
        let challenge = match acme.challenge.as_str() {
            "tls-alpn-01" => Challenge::TlsAlpn01,
            "http-01" => Challenge::Http01,
            other => {
                let fix = r#"write "tls-alpn-01" (port 443) or "http-01" (port 80)"#;
                self.add("tls.acme.challenge", format!("{other:?}"), fix);
                Challenge::TlsAlpn01
            }
        };
        if acme.store.is_empty() {
            let fix = r#"write a folder that only this server can read, such as "/var/lib/hausruf/acme""#;
            self.add("tls.acme.store", r#""""#, fix);
        }
        Some(Acme {
            domains,
            contact: acme.contact.clone(),
            directory: acme.directory.clone(),
            challenge,
            store: acme.store.clone().into(),
            root: Some(&acme.root).filter(|root| !root.is_empty()).map(PathBuf::from),
        })
    }
}

/// RFC 1123 §2.1, with at least two labels, and no IP address.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = |label: &str| label.chars().all(|c| c.is_ascii_digit());
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && !name.rsplit('.').next().is_some_and(numeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Certificate, Config, Error};

    const ACME: &str = r#"
        [tls.acme]
        domains = ["Calls.example.org", "turn.example.org"]
        contact = ["mailto:admin@example.org"]
        agree_terms = true
    "#;

    #[test]
    fn names_and_consent_are_enough() {
        let tls = Config::parse(ACME).unwrap().tls.unwrap();
        assert_eq!(tls.names, ["calls.example.org", "turn.example.org"]);
        let Certificate::Acme(acme) = tls.certificate else { panic!() };
        assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
        assert_eq!(acme.challenge, Challenge::TlsAlpn01);
        assert_eq!(acme.store, PathBuf::from("/var/lib/hausruf/acme"));
        assert_eq!(acme.root, None);
        let http =
            format!("{ACME}challenge = \"http-01\"\nroot = \"/etc/ca.pem\"\n[tls]\nnames = [\"turn.example.org\"]");
        let tls = Config::parse(&http).unwrap().tls.unwrap();
        assert_eq!(tls.names, ["turn.example.org"]);
        let Certificate::Acme(acme) = tls.certificate else { panic!() };
        assert_eq!((acme.challenge, acme.root), (Challenge::Http01, Some("/etc/ca.pem".into())));
    }

    #[test]
    fn every_wrong_value_is_named_with_its_fix() {
        for (from, to, key, fix) in [
            ("Calls.example.org", "*.example.org", "tls.acme.domains", "wildcard"),
            ("Calls.example.org", "https://calls.example.org", "tls.acme.domains", "calls.example.org"),
            ("Calls.example.org", "192.0.2.1", "tls.acme.domains", "host name"),
            ("Calls.example.org", "calls", "tls.acme.domains", "host name"),
            ("Calls.example.org", "-a.example.org", "tls.acme.domains", "host name"),
            ("Calls.example.org", "TURN.example.org", "tls.acme.domains", "twice"),
            ("mailto:admin@example.org", "admin@example.org", "tls.acme.contact", "mailto:"),
            ("mailto:admin@example.org", "mailto:a@example.org,b@example.org", "tls.acme.contact", "mailto:"),
            ("agree_terms = true", "agree_terms = false", "tls.acme.agree_terms", "terms of service"),
            ("agree_terms = true", "", "tls.acme.agree_terms", "write true"),
            ("agree_terms = true", "agree_terms = true\nchallenge = \"dns-01\"", "tls.acme.challenge", "http-01"),
            ("agree_terms = true", "agree_terms = true\nstore = \"\"", "tls.acme.store", "/var/lib/hausruf/acme"),
            ("agree_terms = true", "agree_terms = true\ndirectory = \"http://a.b/\"", "tls.acme.directory", "https"),
            ("agree_terms = true", "agree_terms = true\ndirectory = \"https://\"", "tls.acme.directory", "https"),
            (r#"["Calls.example.org", "turn.example.org"]"#, "[]", "tls.acme.domains", "calls.example.org"),
            ("[tls.acme]", "[tls]\ncertificate = \"a\"\nkey = \"b\"\n[tls.acme]", "tls.certificate", "leave out"),
            ("[tls.acme]", "[tls]\nkey = \"b\"\n[tls.acme]", "tls.key", "leave out"),
            ("[tls.acme]", "[tls]\nnames = [\"other.example.org\"]\n[tls.acme]", "tls.names", "tls.acme.domains"),
        ] {
            let text = ACME.replacen(from, to, 1);
            let Err(Error::Invalid(problems)) = Config::parse(&text) else { panic!("{text}") };
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert_eq!(problems[0].key, key, "{text}");
            assert!(problems[0].fix.contains(fix), "{}", problems[0]);
        }
    }
}
