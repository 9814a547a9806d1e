//! What becomes of the options that have no key of ours.

/// `None`: no option of coturn that is known here.
pub fn of(name: &str) -> Option<&'static str> {
    Some(match name {
        "use-auth-secret" | "lt-cred-mech" => "not needed: relay.secrets and relay.users are valid together",
        "no-auth" => "cannot be carried over: nobody gets an allocation without a credential",
        "fingerprint" => "not needed: a message with FINGERPRINT is answered with one",
        "no-multicast-peers" => "already so: multicast addresses are never peers",
        "mobility" => "already so: clients that ask for a ticket get one",
        "stale-nonce" => "already so: nonces expire",
        "no-dtls" => "already so: TURN over DTLS is not served",
        "no-tcp-relay" => "already so: TCP allocations are off",
        "no-rfc5780" | "no-stun-backward-compatibility" | "response-origin-only-with-rfc5780" => {
            "already so: a Binding reply has XOR-MAPPED-ADDRESS only"
        }
        "no-software-attribute" | "no-tlsv1" | "no-tlsv1_1" => "already so",
        "no-udp" | "no-udp-relay" | "no-stun" | "secure-stun" | "no-tlsv1_2" => {
            "cannot be carried over: there is no such switch; close the port in the firewall if it has to be"
        }
        "allow-loopback-peers" | "server-relay" => "cannot be carried over: it is not safe",
        "verbose" | "Verbose" => "cannot be carried over: write log = \"debug\" for more, which names addresses",
        "log-file"
        | "syslog"
        | "syslog-facility"
        | "simple-log"
        | "no-stdout-log"
        | "new-log-timestamp"
        | "new-log-timestamp-format"
        | "log-binding" => "not needed: logs go to standard error, for the service manager",
        "prometheus" | "prometheus-port" | "prometheus-username-labels" => "not needed: /metrics at listen.http",
        "no-cli" | "cli-ip" | "cli-port" | "cli-password" | "cli-max-output-sessions" => {
            "not needed: there is no telnet CLI"
        }
        "web-admin" | "web-admin-ip" | "web-admin-port" | "web-admin-listen-on-workers" => {
            "cannot be carried over: the page at /admin shows calls; see admin.token"
        }
        "userdb" | "db" | "psql-userdb" | "mysql-userdb" | "mongo-userdb" | "redis-userdb" | "redis-statsdb"
        | "secret-key-file" | "sql-userdb" => {
            "cannot be carried over: there is no database; write users to relay.users and secrets to relay.secrets"
        }
        "proc-user" | "proc-group" | "pidfile" => "not needed: the service manager's affair",
        "alternate-server" | "tls-alternate-server" | "aux-server" | "udp-self-balance" => {
            "cannot be carried over: relay.alternate_server is for draining only, and no load is balanced"
        }
        "cipher-list" | "ec-curve-name" | "dh566" | "dh1066" | "dh2066" | "dh-file" => {
            "not needed: TLS 1.2 and 1.3 with safe ciphers only"
        }
        "pkey-pwd" => "cannot be carried over: write the key without a password, readable for the service only",
        "relay-threads" => "cannot be carried over: see workers",
        "tcp-proxy-port" => "cannot be carried over: name the proxies in listen.proxies",
        _ => return other(name),
    })
}

fn other(name: &str) -> Option<&'static str> {
    let known = [
        "oauth",
        "server-name",
        "check-origin-consistency",
        "alt-listening-port",
        "alt-tls-listening-port",
        "listening-device",
        "relay-device",
        "max-allocate-lifetime",
        "channel-lifetime",
        "permission-lifetime",
        "max-allocate-timeout",
        "CA-file",
        "rest-api-separator",
        "keep-address-family",
        "acme-redirect",
        "ne",
        "allocation-default-address-family",
        "rfc5780",
    ];
    known.contains(&name).then_some("cannot be carried over: there is no such key; leave it out")
}
