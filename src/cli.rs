use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Write everything that has to be configured for calls beside a Matrix homeserver. Asks for what no flag says.
    Init(Init),
    /// Check the whole chain of a Matrix call from where you are, and say what is wrong and what to change.
    Doctor(Doctor),
    /// Make a TURN credential with the first of relay.secrets, and print its username and password.
    Credentials(Credentials),
    /// Show who relays through the running program, for how long, and how much.
    Sessions(Sessions),
    /// Let the running program read its configuration again, and say what came of it (the same as SIGHUP).
    Reload(Socket),
    /// Let the running program make no more TURN allocations; with a deadline, let it end when those that there are have gone.
    Drain(Drain),
    /// End the TURN allocations of a user, and make no more for it for a time, whatever credential it shows.
    Revoke(Revoke),
    /// Translate coturn's turnserver.conf into a configuration, and name every option that cannot be carried over.
    Import(Import),
}

/// Where the running program is reached.
#[derive(Debug, Args)]
pub struct Socket {
    /// The socket that `control.socket` names.
    #[arg(long = "socket", value_name = "PATH", default_value = "/run/hausruf/control.sock")]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub struct Sessions {
    #[command(flatten)]
    pub socket: Socket,
    /// Only those of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Write them as JSON.
    #[arg(long)]
    pub json: bool,
    /// Read twice, a second apart, and show how much passes now, in bits per second (as JSON `to_peers_bps` and
    /// `to_client_bps`); none for an allocation that was made meanwhile.
    #[arg(long)]
    pub rate: bool,
}

#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    pub socket: Socket,
    /// The program ends when the last allocation has gone, and after this in any case: `90s`, `10m`, `2h`. Without it, it
    /// only makes no more of them.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub deadline: Option<Duration>,
    /// Tell how many allocations are left, and wait until none is; with a deadline, until the program has ended.
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct Revoke {
    #[command(flatten)]
    pub socket: Socket,
    /// As `hausruf sessions` shows it.
    #[arg(value_name = "USER")]
    pub user: String,
    /// How long it gets no allocation: `10m`, `24h`; `0s` lets it in again. It holds after a restart too, where
    /// `relay.store` can be written.
    #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = span)]
    pub time: Duration,
}

/// A number of seconds, minutes or hours.
fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 0,
    };
    let number = number.parse::<u32>().ok().filter(|_| seconds > 0);
    let number = number.ok_or("write a number and a unit, such as 90s, 10m or 2h")?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[derive(Debug, Args)]
pub struct Import {
    /// coturn's configuration file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the configuration is written. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite what is there already.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Credentials {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Whom it is for: quotas count by this name.
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// Seconds until it expires.
    #[arg(long = "lifetime", value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub lifetime_s: u64,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file (TOML). config/example.toml in the source explains every key.
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Check the configuration and the certificates that it names, say what is wrong, and end.
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
    /// Opens the operator's page, /admin, to whoever has it.
    #[arg(long, value_name = "TOKEN", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub admin_token: Option<String>,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// The homeserver's name, such as `https://example.org`.
    #[arg(value_name = "SERVER")]
    pub server: String,
    /// A copy of the server's configuration. With its tokens everything can be checked, from any machine.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The access token of a user of the homeserver; also taken from HAUSRUF_DOCTOR_TOKEN. With it, and without the
    /// configuration, most can be checked.
    #[arg(long, value_name = "TOKEN")]
    pub as_user: Option<String>,
    /// Write the report as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Init {
    /// The homeserver's name: what stands behind the colon of user ids.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// The public address of calls. Default: `https://calls.NAME`
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The public IP address of this machine; may be given several times.
    #[arg(long, value_name = "ADDR", num_args = 1..)]
    pub address: Vec<IpAddr>,
    /// Synapse's client API as this machine reaches it. Default: `http://127.0.0.1:8008`
    #[arg(long, value_name = "URL")]
    pub homeserver: Option<String>,
    /// Synapse's client API as clients reach it. Default: `https://NAME`
    #[arg(long, value_name = "URL")]
    pub homeserver_url: Option<String>,
    /// Where the proxy and Synapse reach this program.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7880")]
    pub listen: SocketAddr,
    /// The same, as Synapse reaches it. Default: `http://ADDR:PORT` of --listen
    #[arg(long, value_name = "URL")]
    pub appservice_url: Option<String>,
    /// Synapse's present configuration, a file or a directory: what it has already is not hidden but told. Default:
    /// that of Debian's package, if it is on this machine.
    #[arg(long, value_name = "PATH")]
    pub homeserver_config: Option<PathBuf>,
    /// Where Synapse will find the registration.
    #[arg(long, value_name = "DIR", default_value = "/etc/matrix-synapse")]
    pub synapse_directory: PathBuf,
    /// Where the files are written.
    #[arg(long, value_name = "DIR", default_value = "hausruf")]
    pub directory: PathBuf,
    /// Overwrite what is there already, with new secrets.
    #[arg(long)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("45", 45), ("0s", 0)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "m", "10 m", "-5s", "10min", "99999999999s"] {
            assert!(span(text).unwrap_err().contains("10m"), "{text}");
        }
    }
}
