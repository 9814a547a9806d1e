use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Calls that stay in the house: STUN/TURN relay and selective forwarding unit beside a Matrix homeserver.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Without a command: serve.
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve calls as the configuration says.
    Serve(Serve),
    /// Serve a web page for calls on this machine, with the API key `devkey` and the secret `secret`.
    Demo(Demo),
}

#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file (TOML). config/example.toml in the source explains every key.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Check the configuration, say what is wrong, and end.
    #[arg(long)]
    pub check_config: bool,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Where the page and the signalling are served.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7880")]
    pub listen: SocketAddr,
    /// An IP address under which clients reach this machine; may be given several times. Default: every address that it
    /// has, loopback included.
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    pub advertise: Vec<IpAddr>,
    /// UDP and TCP port for calls; the next one serves TURN over UDP.
    #[arg(long, value_name = "PORT", default_value_t = 3478, value_parser = clap::value_parser!(u16).range(1..=65534))]
    pub udp_port: u16,
}
