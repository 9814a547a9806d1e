//! The servers of a run, each started on the servers' core with a configuration for loopback only.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::suite::{Options, SERVER_CORE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    Floor,
    Hausruf,
    LiveKit,
    Coturn,
}

/// Where the floor listens: at an address of its own, so that everybody's relay sockets find their ports free.
pub const FLOOR: &str = "127.0.0.3:3490";
const COTURN_PORT: u16 = 3480;
const HAUSRUF_PORT: u16 = 3478;
const KEY: &str = "bench";
const SECRET: &str = "a-secret-of-the-bench-alone-0123456789";
const PASSWORD: &str = "a-password-of-the-bench-alone";

impl Server {
    pub fn name(self) -> &'static str {
        match self {
            Server::Floor => "bare forwarder",
            Server::Hausruf => "hausruf",
            Server::LiveKit => "LiveKit",
            Server::Coturn => "coturn",
        }
    }

    fn http_port(self) -> Option<u16> {
        match self {
            Server::Hausruf => Some(7880),
            Server::LiveKit => Some(7980),
            Server::Floor | Server::Coturn => None,
        }
    }
}

/// A started server; it ends with this value.
pub struct Running {
    pub server: Server,
    child: Child,
    directory: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Running {
    pub fn start(server: Server, options: &Options) -> Result<Running> {
        let directory = std::env::temp_dir().join(format!("bn-{}-{}", std::process::id(), server.name()));
        std::fs::create_dir_all(&directory)?;
        let own = std::env::current_exe()?;
        let beside = own.with_file_name("hausruf");
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]);
        match server {
            Server::Floor => {
                command.arg(own).args(["forwarder", "--listen", FLOOR]);
            }
            Server::Hausruf => {
                let file = directory.join("hausruf.toml");
                std::fs::write(&file, hausruf_config())?;
                command.arg(options.server.as_ref().unwrap_or(&beside)).arg("--config").arg(file);
            }
            Server::LiveKit => {
                let path = options.livekit.as_ref().context("no path to LiveKit")?;
                command.arg(path).arg("--config-body").arg(livekit_config());
            }
            Server::Coturn => {
                let path = options.coturn.as_ref().context("no path to coturn")?;
                command.arg(path).args(coturn_arguments(&directory));
            }
        }
        let log = std::fs::File::create(directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut running = Running { server, child, directory };
        running.wait_until_ready()?;
        Ok(running)
    }

    #[allow(clippy::disallowed_methods)] // a program at the edge: it waits for other processes
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        let port = match self.server {
            Server::Floor => return Ok(()), // its first command is repeated until it answers
            Server::Coturn => COTURN_PORT,
            Server::Hausruf | Server::LiveKit => self.server.http_port().context("it serves HTTP")?,
        };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.server.name(), self.log());
            }
            ensure!(Instant::now() < deadline, "{} does not listen: {}", self.server.name(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The generator's arguments for joining here.
    pub fn login(&self) -> String {
        let port = self.server.http_port().unwrap_or_default();
        format!("--url ws://127.0.0.1:{port} --key {KEY} --secret {SECRET}")
    }

    /// The generator's arguments for allocating here.
    pub fn turn_login(&self) -> String {
        let port = match self.server {
            Server::Floor => return format!("--server {FLOOR}"),
            Server::Coturn => COTURN_PORT,
            Server::Hausruf | Server::LiveKit => HAUSRUF_PORT,
        };
        format!("--server 127.0.0.1:{port} --user bench --password {PASSWORD}")
    }
}

fn hausruf_config() -> String {
    format!(
        r#"log = "warn"
advertise = ["127.0.0.1"]

[listen]
udp = ["127.0.0.1:{HAUSRUF_PORT}", "127.0.0.1:3479"]
http = "127.0.0.1:7880"

[api_keys]
{KEY} = "{SECRET}"

[relay]
store = ""
allowed_peers = ["127.0.0.1"]

[relay.users]
bench = "{PASSWORD}"

[relay.limits]
allocations = 20000
allocations_per_user = 20000
allocations_per_source = 20000
"#
    )
}

fn livekit_config() -> String {
    format!(
        "port: 7980\nbind_addresses: [\"127.0.0.1\"]\nkeys:\n  {KEY}: {SECRET}\nrtc:\n  udp_port: 7982\n  \
         tcp_port: 7981\n  use_external_ip: false\n  node_ip: 127.0.0.1\n  enable_loopback_candidate: true\n  \
         use_ice_lite: true\nlogging:\n  level: error\n"
    )
}

fn coturn_arguments(directory: &Path) -> Vec<String> {
    let directory = directory.display();
    let mut arguments: Vec<String> = [
        "-n",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--lt-cred-mech",
        "--realm=bench",
        "--listening-ip=127.0.0.1",
        "--relay-ip=127.0.0.1",
        "--allow-loopback-peers",
        "--no-stdout-log",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--user=bench:{PASSWORD}"));
    arguments.push(format!("--listening-port={COTURN_PORT}"));
    arguments.push(format!("--pidfile={directory}/pid"));
    arguments.push(format!("--userdb={directory}/db"));
    arguments.push(format!("--log-file={directory}/coturn.log"));
    arguments
}
