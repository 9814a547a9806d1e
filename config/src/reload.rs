//! What a file that is read again changes in a program that runs.

use crate::{Config, Listen, Relay};

impl Config {
    /// What holds once `file` has been read again, and the keys of what it says otherwise but only a restart can change.
    pub fn reloaded(&self, file: Config) -> (Config, Vec<&'static str>) {
        // Every field by its name: whoever adds one decides.
        let Config {
            log,
            advertise,
            workers,
            listen,
            tls,
            api_keys,
            rooms,
            matrix,
            admin_token,
            control_socket,
            relay,
            media,
            limits,
        } = file;
        let Listen { udp, tcp, http, proxies } = listen;
        let Relay {
            realm,
            secrets,
            strict_expiry,
            expiry_grace,
            alternate_server,
            drain_deadline,
            ports,
            tcp_allocations,
            store,
            allowed_peers,
            denied_peers,
            users,
            limits: relay_limits,
        } = relay;
        let fixed = [
            ("advertise", advertise == self.advertise),
            ("workers", workers == self.workers),
            ("listen.udp", udp == self.listen.udp),
            ("listen.tcp", tcp == self.listen.tcp),
            ("listen.http", http == self.listen.http),
            ("listen.proxies", proxies == self.listen.proxies),
            ("[tls]", tls == self.tls),
            ("[api_keys]", api_keys == self.api_keys),
            ("[rooms]", rooms == self.rooms),
            ("[matrix]", matrix == self.matrix),
            ("admin.token", admin_token == self.admin_token),
            ("control.socket", control_socket == self.control_socket),
            ("relay.realm", realm == self.relay.realm),
            ("relay.ports", ports == self.relay.ports),
            ("relay.store", store == self.relay.store),
            ("[media]", media == self.media),
            ("[limits]", limits == self.limits),
        ];
        let relay = Relay {
            secrets,
            strict_expiry,
            expiry_grace,
            alternate_server,
            tcp_allocations,
            drain_deadline,
            allowed_peers,
            denied_peers,
            users,
            limits: relay_limits,
            ..self.relay.clone()
        };
        let differ = fixed.into_iter().filter(|(_, same)| !same).map(|(key, _)| key);
        (Config { log, relay, ..self.clone() }, differ.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_terms_change_and_what_needs_a_restart_is_named() {
        let running = Config::parse("relay.secrets = [\"an old secret, long enough to be one\"]").unwrap();
        let file = Config::parse(
            "log = \"debug\"\nworkers = 2\nlisten.http = \"127.0.0.1:1\"\nrelay.realm = \"other\"\n\
             relay.denied_peers = [\"9.9.9.9/32\"]\nrelay.limits.permissions = 3\n\
             relay.tcp_allocations = true\ncontrol.socket = \"none\"\nrelay.drain_deadline_s = 5",
        );
        let file = file.unwrap();
        let (now, restart) = running.reloaded(file.clone());
        assert_eq!(restart, ["workers", "listen.http", "control.socket", "relay.realm"]);
        let relay = Relay { realm: running.relay.realm.clone(), ..file.relay };
        assert_eq!(now, Config { log: "debug".into(), relay, ..running.clone() });
        assert_eq!(running.reloaded(running.clone()), (running, vec![]));
    }
}
