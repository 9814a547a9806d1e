use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use config::{Config, Secret};

use crate::cli::Demo;

/// The API key of the demonstration, whose secret everybody knows.
pub const API_KEY: &str = "devkey";
const API_SECRET: &str = "secret";

/// What `hausruf demo` serves.
pub fn config(demo: &Demo) -> Config {
    let mut config = Config::default();
    config.listen.http = demo.listen;
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    config.listen.udp = vec![SocketAddr::new(any, demo.udp_port), SocketAddr::new(any, demo.udp_port + 1)];
    config.listen.tcp = vec![SocketAddr::new(any, demo.udp_port)];
    config.advertise = demo.advertise.clone();
    config.api_keys.insert(API_KEY.into(), Secret::new(API_SECRET));
    config.admin_token = demo.admin_token.as_deref().map(Secret::new);
    config.control_socket = config::ControlSocket::Nowhere;
    // Its TURN secret is gone after a restart.
    config.relay.store = Default::default();
    config
}
