//! A server, a proxy in front of it and a homeserver beside it, all on loopback.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::homeserver::{self, Homeserver, SERVER_NAME};
use crate::http::PATIENCE;
use crate::proxy::{self, Faults};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hausruf");
const POLL: Duration = Duration::from_millis(20);

/// What of hausruf.toml the tests get wrong.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub advertise: String,
    pub udp: [SocketAddr; 2],
    pub http: SocketAddr,
    pub homeserver: String,
    pub server_name: String,
    pub url: String,
    pub as_token: String,
    pub hs_token: String,
    pub secret: String,
    pub rooms: String,
    pub store: PathBuf,
}

impl Configuration {
    fn text(&self) -> String {
        let Configuration { advertise, udp: [first, second], http, homeserver, server_name, url, .. } = self;
        let Configuration { as_token, hs_token, secret, rooms, store, .. } = self;
        format!(
            "advertise = [\"{advertise}\"]\n\
             listen.udp = [\"{first}\", \"{second}\"]\n\
             listen.http = \"{http}\"\n\
             [matrix]\n\
             homeserver = \"{homeserver}\"\n\
             server_name = \"{server_name}\"\n\
             url = \"{url}\"\n\
             as_token = \"{as_token}\"\n\
             hs_token = \"{hs_token}\"\n\
             store = \"{}\"\n\
             policy.rooms = [\"{rooms}\"]\n\
             [relay]\n\
             store = \"\"\n\
             # Apart from the ports that the system hands out.\n\
             ports = \"20000-29999\"\n\
             secrets = [\"{secret}\"]\n",
            store.display()
        )
    }
}

/// How the set-up differs from a right one.
pub struct Plan {
    pub homeserver: Box<dyn Fn(&mut homeserver::Settings)>,
    pub proxy: Faults,
    /// The server's configuration, of which doctor gets a copy.
    pub configuration: Box<dyn Fn(&mut Configuration)>,
    /// Doctor's copy.
    pub copy: Box<dyn Fn(&mut Configuration)>,
    pub runs: bool,
    /// TLS before homeserver and proxy.
    pub tls: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            homeserver: Box::new(|_| ()),
            proxy: Faults::default(),
            configuration: Box::new(|_| ()),
            copy: Box::new(|_| ()),
            runs: true,
            tls: false,
        }
    }
}

pub struct World {
    server: Option<Child>,
    pub directory: PathBuf,
    /// The address of the homeserver's name.
    pub site: String,
    pub authority: Authority,
}

impl World {
    pub fn start(plan: &Plan) -> World {
        // Ports that were free a moment ago. Taken meanwhile, the start fails and others are tried.
        (0..10).find_map(|_| World::try_start(plan)).expect("no free ports")
    }

    fn try_start(plan: &Plan) -> Option<World> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("hausruf-doctor-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let authority = Authority::new(&directory);
        let [http] = [TcpListener::bind("127.0.0.1:0").unwrap()].map(|socket| socket.local_addr().unwrap());
        let udp = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap()).map(|socket| socket.local_addr().unwrap());

        let front = |address: SocketAddr| match plan.tls {
            true => format!("https://{}", authority.terminate(address, &["127.0.0.1"])),
            false => format!("http://{address}"),
        };
        let service = front(proxy::start(http, plan.proxy));
        let secret = "the-secret-that-both-have-for-turn".to_owned();
        let (as_token, hs_token) = ("as-token-0123456789-0123456789-0123", "hs-token-0123456789-0123456789-0123");
        let homeserver = Homeserver::start(|address| {
            let mut settings = homeserver::Settings {
                well_known: true,
                well_known_is_readable: true,
                base_url: plan.tls.then(|| front(address)),
                service: Some(service.clone()),
                msc4143: true,
                msc4502: true,
                has_scope: true,
                msc4512: true,
                max_delay_ms: 86_400_000,
                has_openid: true,
                as_token: as_token.to_owned(),
                hs_token: hs_token.to_owned(),
                appservice_url: format!("http://{http}"),
                has_rooms_namespace: true,
                turn_uris: vec![format!("turn:{}?transport=udp", udp[0])],
                turn_shared_secret: secret.clone(),
                behind_s: 0,
            };
            (plan.homeserver)(&mut settings);
            settings
        });
        let mut configuration = Configuration {
            advertise: "127.0.0.1".into(),
            udp,
            http,
            homeserver: format!("http://{}", homeserver.address),
            server_name: SERVER_NAME.into(),
            url: service.clone(),
            as_token: as_token.into(),
            hs_token: hs_token.into(),
            secret,
            rooms: "*".into(),
            store: directory.join("matrix.redb"),
        };
        (plan.configuration)(&mut configuration);
        let path = directory.join("server.toml");
        std::fs::write(&path, configuration.text()).unwrap();
        (plan.copy)(&mut configuration);
        std::fs::write(directory.join("hausruf.toml"), configuration.text()).unwrap();

        let site = front(homeserver.address);
        let mut world = World { server: None, directory, site, authority };
        if plan.runs {
            let server = world.spawn(&path);
            world.server = Some(server);
            world.wait(http)?;
        }
        Some(world)
    }

    fn spawn(&self, configuration: &Path) -> Child {
        let log = std::fs::File::create(self.directory.join("server.log")).unwrap();
        Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(configuration)
            .env_remove("RUST_LOG")
            .env("SSL_CERT_FILE", self.authority.file())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Until the server takes connections; `None` if it ended instead.
    #[allow(clippy::disallowed_methods)] // the real clock
    fn wait(&mut self, http: SocketAddr) -> Option<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(http).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            let ended = self.server.as_mut().and_then(|server| server.try_wait().unwrap());
            if ended.is_some() {
                let log = std::fs::read_to_string(self.directory.join("server.log")).unwrap_or_default();
                assert!(log.contains("in use"), "the server does not start: {log}");
                return None;
            }
            std::thread::sleep(POLL);
        }
        Some(())
    }

    /// Doctor, with a copy of the configuration.
    pub fn examine(&self) -> Findings {
        let path = self.directory.join("hausruf.toml");
        self.examine_with(&self.site, &["--config", path.to_str().unwrap()])
    }

    pub fn examine_with(&self, site: &str, arguments: &[&str]) -> Findings {
        let output = Command::new(PROGRAM)
            .args(["doctor", site, "--json"])
            .args(arguments)
            .env("SSL_CERT_FILE", self.authority.file())
            .output()
            .unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
        let findings = Findings { json };
        assert_eq!(output.status.code(), Some(i32::from(!findings.is_well())), "{output:?}");
        findings
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What doctor says.
#[derive(Debug)]
pub struct Findings {
    json: serde_json::Value,
}

impl Findings {
    pub fn is_well(&self) -> bool {
        self.json["well"].as_bool().unwrap()
    }

    /// Check and sentence of everything with this verdict.
    pub fn with(&self, verdict: &str) -> Vec<(&str, &str)> {
        let checks = self.json["checks"].as_array().unwrap();
        let told = checks.iter().filter(|check| check["verdict"] == verdict);
        told.map(|check| (check["check"].as_str().unwrap(), check["sentence"].as_str().unwrap())).collect()
    }

    /// The one thing that is wrong.
    pub fn wrong(&self) -> String {
        match self.with("wrong")[..] {
            [(_, sentence)] => sentence.to_owned(),
            _ => panic!("{:#}", self.json),
        }
    }
}
