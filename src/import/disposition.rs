//! What becomes of the options that have no key of ours. Each answer begins with one of the four that there are.

use super::coturn_file::Line;

/// `None`: no option of coturn that is known here.
pub fn of(line: &Line) -> Option<&'static str> {
    let switch = SWITCHES.iter().find(|(names, ..)| names.contains(&line.name));
    if let Some((_, on, off)) = switch {
        return Some(match line.is_on() {
            Some(true) => on,
            Some(false) => off,
            None => "cannot be carried over: neither on nor off",
        });
    }
    let number = line.number();
    Some(match line.name {
        "stale-nonce" if number == Some(0) => "cannot be carried over: nonces expire; clients go on with the next one",
        "stale-nonce" => "already so: nonces expire, after an hour",
        "max-allocate-lifetime" if number == Some(3600) || line.value.is_empty() => "already so",
        "max-allocate-lifetime" => {
            "cannot be carried over: an allocation lasts an hour at most, then it has to be refreshed"
        }
        "channel-lifetime" if number == Some(600) || line.value.is_empty() => "already so",
        "permission-lifetime" if number == Some(300) || line.value.is_empty() => "already so",
        "channel-lifetime" | "permission-lifetime" => "cannot be carried over: the lifetimes are those of RFC 8656",
        "rest-api-separator" if line.value == ":" => "already so",
        "rest-api-separator" => {
            "cannot be carried over: a colon stands between expiry and user; set it where credentials are made"
        }
        "allocation-default-address-family" if line.value == "ipv4" => "already so",
        "allocation-default-address-family" => {
            "cannot be carried over: a client that asks for no family gets IPv4 (RFC 8656 §7.2)"
        }
        "prometheus-path" if line.value == "/metrics" => "already so",
        name => fixed(name)?,
    })
}

type Names = &'static [&'static str];

/// Switches: what it means that they are on, and that they are off.
const SWITCHES: &[(Names, &str, &str)] = &[
    (
        &["lt-cred-mech"],
        "already so: relay.users and relay.secrets are valid together",
        "cannot be carried over: nobody gets an allocation without a credential",
    ),
    (
        &["no-auth"],
        "cannot be carried over: nobody gets an allocation without a credential; write relay.secrets or relay.users",
        "already so",
    ),
    (
        &["fingerprint"],
        "not needed: a message with FINGERPRINT is answered with one",
        "already so: only a message with FINGERPRINT is answered with one",
    ),
    (
        &["no-multicast-peers"],
        "already so: multicast addresses are never peers",
        "cannot be carried over: multicast addresses are never peers",
    ),
    (
        &["mobility"],
        "already so: clients that ask for a ticket get one",
        "cannot be carried over: a client that asks for a ticket gets one, good for its user only",
    ),
    (
        &["no-dtls"],
        "already so: TURN over DTLS is not served",
        "cannot be carried over: TURN over DTLS is not served; clients take TLS",
    ),
    (
        &["dtls"],
        "cannot be carried over: TURN over DTLS is not served; clients take TLS",
        "already so: TURN over DTLS is not served",
    ),
    (
        &["no-tcp-relay"],
        "already so: TCP allocations are off",
        "cannot be carried over: see relay.tcp_allocations, which lets clients connect to peers; calls do not use it",
    ),
    (
        &["no-rfc5780"],
        "already so: a Binding reply has XOR-MAPPED-ADDRESS only",
        "cannot be carried over: NAT behaviour discovery (RFC 5780) is not served",
    ),
    (
        &["rfc5780"],
        "cannot be carried over: NAT behaviour discovery (RFC 5780) is not served",
        "already so: a Binding reply has XOR-MAPPED-ADDRESS only",
    ),
    (
        &["no-stun-backward-compatibility"],
        "already so: a Binding reply has XOR-MAPPED-ADDRESS only",
        "cannot be carried over: clients of RFC 3489 are not served",
    ),
    (
        &["stun-backward-compatibility", "rfc3489-compatibility"],
        "cannot be carried over: clients of RFC 3489 are not served",
        "already so: a Binding reply has XOR-MAPPED-ADDRESS only",
    ),
    (
        &["response-origin-only-with-rfc5780"],
        "already so: a Binding reply has XOR-MAPPED-ADDRESS only",
        "cannot be carried over: RESPONSE-ORIGIN is never sent; clients do without",
    ),
    (
        &["rfc5766-channel-numbers"],
        "already so: channels up to 0x7FFE are accepted",
        "cannot be carried over: channels up to 0x7FFE are accepted",
    ),
    (
        &["no-software-attribute", "prod"],
        "already so: SOFTWARE is never sent",
        "cannot be carried over: SOFTWARE is never sent; clients do without",
    ),
    (
        &["software-attribute"],
        "cannot be carried over: SOFTWARE is never sent; clients do without",
        "already so: SOFTWARE is never sent",
    ),
    (
        &["include-reason-string"],
        "cannot be carried over: an error has its number only, since what is sent to strangers is short",
        "already so: an error has its number only",
    ),
    (
        &["no-tlsv1", "no-tlsv1_1", "no-sslv2", "no-sslv3"],
        "already so: TLS 1.2 and 1.3 only",
        "cannot be carried over: TLS 1.2 and 1.3 only",
    ),
    (&["tlsv1", "tlsv1_1"], "cannot be carried over: TLS 1.2 and 1.3 only", "already so: TLS 1.2 and 1.3 only"),
    (&["no-tlsv1_2"], "cannot be carried over: TLS 1.2 is on, with safe ciphers only", "already so"),
    (
        &["no-udp"],
        "cannot be carried over: STUN and TURN over UDP are always served; close the port in the firewall",
        "already so",
    ),
    (
        &["no-udp-relay"],
        "cannot be carried over: relayed addresses are UDP; without [relay] secrets and users there are none",
        "already so",
    ),
    (&["no-stun"], "cannot be carried over: a Binding request is answered, with no more than 32 octets", "already so"),
    (
        &["secure-stun"],
        "cannot be carried over: a Binding request needs no credential; the reply is as short as it can be",
        "already so",
    ),
    (
        &["allow-loopback-peers"],
        "cannot be carried over: it would open this machine; calls through this server need it not",
        "already so",
    ),
    (&["no-loopback-peers"], "already so", "cannot be carried over: it would open this machine"),
    (&["server-relay"], "cannot be carried over: a peer without a permission is never heard", "already so"),
    (
        &["check-origin-consistency"],
        "cannot be carried over: ORIGIN is not read; a credential says who somebody is",
        "already so",
    ),
    (
        &["oauth"],
        "cannot be carried over: third-party authorization (RFC 7635) is not served; use relay.secrets",
        "already so",
    ),
    (
        &["raw-public-keys"],
        "cannot be carried over: TLS has certificates (RFC 7250 is not served); name one in [tls]",
        "already so",
    ),
    (
        &["keep-address-family"],
        "cannot be carried over: a client that asks for no family gets IPv4 (RFC 8656 §7.2)",
        "already so",
    ),
    (
        &["verbose", "Verbose"],
        "cannot be carried over: write log = \"debug\" for more, which names addresses and users",
        "already so",
    ),
    (&["cli"], "cannot be carried over: there is no telnet CLI", "already so: there is no telnet CLI"),
    (
        &["web-admin", "web-admin-listen-on-workers"],
        "cannot be carried over: the page at /admin shows calls; see admin.token",
        "already so",
    ),
    (
        &["multiplex-peer"],
        "cannot be carried over: each allocation has a port of its own, from relay.ports",
        "already so: each allocation has a port of its own",
    ),
    (
        &["unauthorized-ratelimit"],
        "already so: answers to strangers are limited per network",
        "cannot be carried over: answers to strangers are limited per network",
    ),
    (
        &["stateless-nonce"],
        "already so: nothing is kept of who has not shown a credential",
        "cannot be carried over: nothing is kept of who has not shown a credential",
    ),
    (
        &["drop-invalid-packets"],
        "already so: what is invalid is dropped and counted in /metrics",
        "cannot be carried over: what is invalid is dropped",
    ),
    (
        &["respond-http-unsupported"],
        "not needed: HTTP is understood on every TCP port",
        "not needed: HTTP is understood on every TCP port",
    ),
];

/// Options whose value does not matter.
fn fixed(name: &str) -> Option<&'static str> {
    Some(match name {
        "use-auth-secret" => "already so: relay.secrets are all that it takes",
        "no-cli" | "cli-ip" | "cli-port" | "cli-password" | "cli-max-output-sessions" => {
            "not needed: there is no telnet CLI"
        }
        "log-file"
        | "syslog"
        | "syslog-facility"
        | "simple-log"
        | "no-stdout-log"
        | "new-log-timestamp"
        | "new-log-timestamp-format"
        | "log-binding"
        | "log-min-level" => "not needed: logs go to standard error, for the service manager; see log",
        "drop-invalid-packets-log" | "udp-recvmmsg-log" | "udp-sendmmsg-log" => "not needed: /metrics counts it",
        "udp-recvmmsg" | "udp-gso" => "not needed: datagrams are received and sent in batches wherever it helps",
        "daemon" | "proc-user" | "proc-group" | "pidfile" => "not needed: the service manager's affair",
        "no-auth-pings" | "no-dynamic-ip-list" | "no-dynamic-realms" => "not needed: there is no database",
        "secret-ts-exp-time" => "not needed: coturn does not heed it either",
        "server-name" => "not needed: it is for oauth only",
        "max-allocate-timeout" => "not needed: nothing is kept of who has not shown a credential",
        "alt-tls-listening-port" => "not needed: it is for TURN over DTLS and RFC 5780",
        "udp-self-balance" => "not needed: it is for aux-server",
        "cipher-list" | "ec-curve-name" | "dh566" | "dh1066" | "dh2066" | "dh-file" => {
            "not needed: TLS 1.2 and 1.3 with safe ciphers only"
        }
        "relay-threads" | "cpus" => {
            "not needed: a worker does the work of several threads there; write workers if one is not enough"
        }
        "sock-buf-size" => "not needed: socket buffers are as large as net.core.rmem_max and wmem_max allow",
        "unauthorized-ratelimit-rps" => "not needed: answers to strangers are limited per network",
        "stateless-nonce-secret" => "not needed: a nonce of an earlier run is replaced in the next answer",
        "drain-min-allocations" => "not needed: draining, the server serves the allocations that there are",
        "multiplex-peer-port" | "multiplex-peer-max-peers" => "not needed: each allocation has a port of its own",
        "ne" => "not needed: there is one network engine",
        "version" => "not needed: hausruf --version",
        "web-admin-ip" | "web-admin-port" => "not needed: the page at /admin, of calls, is served at listen.http",
        "prometheus-username-labels" => "cannot be carried over: no metric names users",
        "prometheus-path" => "cannot be carried over: the path is /metrics",
        "prometheus-tls" | "prometheus-cert" | "prometheus-key" => {
            "cannot be carried over: put a proxy with TLS in front of listen.http"
        }
        "userdb" | "db" | "psql-userdb" | "sql-userdb" | "mysql-userdb" | "mongo-userdb" | "redis-userdb" => {
            "cannot be carried over: there is no database; write its users to relay.users and its secrets to relay.secrets"
        }
        "redis-statsdb" => "cannot be carried over: there is no database; /metrics counts",
        "secret-key-file" => "not needed: it is for the database, which there is none of",
        "alternate-server" | "tls-alternate-server" | "tcp-alternate-server" | "udp-alternate-server" => {
            "cannot be carried over: relay.alternate_server is for draining only, and no load is balanced"
        }
        "aux-server" => "cannot be carried over: two UDP ports are all; listen.tcp may have more",
        "pkey-pwd" => "cannot be carried over: write the key without a password, readable for the service only",
        "CA-file" => "cannot be carried over: clients are not asked for certificates, so their credentials alone count",
        "acme-redirect" => "cannot be carried over: let the web server on port 80 answer what ACME asks",
        "listening-device" => "cannot be carried over: write the interface's addresses to listen.udp and listen.tcp",
        "relay-device" => "cannot be carried over: write the interface's address to advertise",
        _ => return None,
    })
}
