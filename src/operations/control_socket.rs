//! The unix socket over which the operator's commands reach the running program.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::Operations;
use super::protocol::{Answer, Passed, Request, Session, Transport};
use crate::remedies;

/// Commands carried out at once; one that waits for a drain is one of them.
const CONNECTIONS_MAX: usize = 16;

/// Octets of the longest request.
const REQUEST_LEN_MAX: u64 = 4096;

/// How long a request may take to arrive, and an answer to be taken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Ten years: no credential lasts as long.
const REVOCATION_MAX_S: u64 = 10 * 365 * 86_400;

/// After an error of accept (out of descriptors, mostly) there is no use in trying at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket's file, removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    pub path: PathBuf,
    /// Device and inode: what another program put there meanwhile stays.
    identity: (u64, u64),
}

impl ControlSocket {
    /// Opens the configured socket; `None` if there is to be none. `runtime_directory` is what systemd.exec(5) puts into
    /// the environment.
    pub fn open(
        configured: &config::ControlSocket,
        runtime_directory: Option<OsString>,
    ) -> anyhow::Result<Option<(ControlSocket, std::os::unix::net::UnixListener)>> {
        let path = match configured {
            config::ControlSocket::Nowhere => return Ok(None),
            config::ControlSocket::At(path) => path.clone(),
            config::ControlSocket::Auto => {
                let directories = runtime_directory.unwrap_or_default();
                // There may be several; the first is as good as any.
                let first = std::env::split_paths(&directories).next().filter(|first| first.is_absolute());
                let Some(first) = first else { return Ok(None) };
                first.join("control.sock")
            }
        };
        let told = |error: anyhow::Error| {
            let remedy = error.downcast_ref().map(|error| format!("; {}", remedies::for_writing(error)));
            anyhow!("control.socket = {path:?} cannot be opened: {error}{}", remedy.unwrap_or_default())
        };
        open(&path).map(Some).map_err(told)
    }
}

fn open(path: &Path) -> anyhow::Result<(ControlSocket, std::os::unix::net::UnixListener)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before it listens, so that nobody else can have connected.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let metadata = std::fs::symlink_metadata(path)?;
    let file = ControlSocket { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
    socket.listen(CONNECTIONS_MAX as i32)?;
    Ok((file, socket.into()))
}

/// Removes the socket of a program that was killed. That of one which lives is an error, and so is any other file.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(metadata) if !metadata.file_type().is_socket() => bail!("something else is there; name another path"),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("another instance serves it"),
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Ok(metadata) = std::fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == self.identity
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Carries out commands for ever.
pub async fn serve(listener: UnixListener, operations: Arc<Operations>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection to the control socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once.
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let operations = operations.clone();
        tokio::spawn(async move {
            let (read, write) = stream.into_split();
            let mut connection = Connection { read: BufReader::new(read.take(REQUEST_LEN_MAX)), write, operations };
            if let Err(error) = connection.serve().await {
                debug!(%error, "a command over the control socket got no whole answer");
            }
            drop(slot);
        });
    }
}

struct Connection {
    read: BufReader<tokio::io::Take<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    operations: Arc<Operations>,
}

impl Connection {
    async fn serve(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        timeout(TIMEOUT, self.read.read_until(b'\n', &mut line)).await??;
        let request = match line.last() {
            Some(b'\n') => serde_json::from_slice(&line).map_err(|error| format!("no request: {error}")),
            _ => Err(format!("a request is one line of at most {REQUEST_LEN_MAX} octets")),
        };
        match request {
            Err(error) => self.answer(&Answer::Error(error)).await,
            Ok(Request::Reload) => {
                info!("a reload was asked for over the control socket");
                let answer = match self.operations.reload() {
                    Ok(restart) => Answer::Reloaded { restart: restart.into_iter().map(str::to_owned).collect() },
                    Err(error) => Answer::Error(format!("{error:#}")),
                };
                self.answer(&answer).await
            }
            Ok(Request::Sessions { user }) => self.tell_sessions(user.as_deref()).await,
            Ok(Request::Revoke { user, for_s }) => {
                // A worker takes it as a moment, which has an end.
                let time = Duration::from_secs(for_s.min(REVOCATION_MAX_S));
                let answer = match self.operations.revoke(&user, time).await {
                    Ok(allocations) => Answer::Revoked { allocations },
                    Err(error) => Answer::Error(format!("{error:#}")),
                };
                self.answer(&answer).await
            }
            Ok(Request::Drain { deadline_s, wait }) => {
                self.operations.drain(deadline_s.map(Duration::from_secs));
                if wait { self.wait_for_drain().await } else { self.tell_draining().await }
            }
        }
    }

    /// Page by page: neither a worker nor this one ever holds all of them.
    async fn tell_sessions(&mut self, user: Option<&str>) -> io::Result<()> {
        for worker in 0..self.operations.workers() {
            let mut from = Some(0);
            while let Some(place) = from {
                let Some(page) = self.operations.page(worker, place).await else {
                    return self.answer(&Answer::Error("a worker has ended, and the program ends".into())).await;
                };
                let told = page.usages.into_iter().zip(page.encrypted);
                let mut sessions: Vec<Session> =
                    told.map(|(usage, encrypted)| session(worker, usage, encrypted)).collect();
                sessions.retain(|session| user.is_none_or(|user| session.user == user));
                if !sessions.is_empty() {
                    self.answer(&Answer::Sessions(sessions)).await?;
                }
                from = page.next;
            }
        }
        let census = self.operations.census().await.unwrap_or_default();
        self.answer(&Answer::Census(census)).await
    }

    async fn tell_draining(&mut self) -> io::Result<()> {
        let ends_at = self.operations.watch_drain().borrow().ends_at;
        let census = self.operations.census().await.unwrap_or_default();
        self.answer(&Answer::Draining { allocations: census.allocations, ends_in_s: ends_at.map(until) }).await
    }

    /// Tells how many allocations are left whenever that changes, until none is or the program ends.
    async fn wait_for_drain(&mut self) -> io::Result<()> {
        let mut changes = self.operations.watch_drain();
        let mut told = None;
        loop {
            let drain = *changes.borrow_and_update();
            if let Some(allocations) = drain.left {
                if drain.over {
                    self.answer(&Answer::Ending { allocations }).await?;
                    // The end waits for that.
                    drop(changes);
                    // The connection ends with the program, or when nobody listens any more.
                    self.is_gone().await;
                    return Ok(());
                }
                if allocations == 0 && drain.ends_at.is_none() {
                    return self.answer(&Answer::Drained).await;
                }
                if told != Some((allocations, drain.ends_at)) {
                    told = Some((allocations, drain.ends_at));
                    self.answer(&Answer::Draining { allocations, ends_in_s: drain.ends_at.map(until) }).await?;
                }
            }
            tokio::select! {
                // The sender lives as long as the program.
                _ = changes.changed() => {}
                () = self.is_gone() => return Ok(()),
            }
        }
    }

    /// Ready when the other end closes, or says more than there is to say.
    async fn is_gone(&mut self) {
        let _ = self.read.read_u8().await;
    }

    async fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        timeout(TIMEOUT, self.write.write_all(&line)).await?
    }
}

/// Whole seconds from now on.
fn until(at: Instant) -> u64 {
    at.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64
}

fn session(worker: usize, usage: relay::Usage, encrypted: bool) -> Session {
    let passed = |count: datapath::counters::PacketsAndBytes| Passed { packets: count.packets, bytes: count.bytes };
    Session {
        user: String::from_utf8_lossy(&usage.user).into_owned(),
        client: usage.client,
        transport: match usage.local {
            datapath::Endpoint::Stream { .. } if encrypted => Transport::Tls,
            datapath::Endpoint::Stream { .. } => Transport::Tcp,
            _ => Transport::Udp,
        },
        relayed: usage.relayed,
        worker,
        age_s: usage.age.as_secs(),
        remaining_s: usage.remaining.as_secs(),
        permissions: usage.permissions,
        channels: usage.channels,
        to_peers: passed(usage.data.to_peers),
        to_client: passed(usage.data.to_client),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for one test, removed in the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("hausruf-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
        let directory = Directory::new("socket");
        let path = directory.0.join("control.sock");
        let (file, listener) = open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(open(&path).unwrap_err().to_string().contains("another instance"));
        // Killed: the file stays, and nobody listens.
        std::mem::forget(file);
        drop(listener);
        let (file, _listener) = open(&path).unwrap();
        drop(file);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("something else"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_another_program_put_there_stays() {
        let directory = Directory::new("another");
        let path = directory.0.join("control.sock");
        let (file, _listener) = open(&path).unwrap();
        std::fs::rename(&path, directory.0.join("elsewhere")).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn by_itself_it_is_where_systemd_gives_a_place() {
        let directory = Directory::new("auto");
        let open = |runtime: Option<&Path>| {
            ControlSocket::open(&config::ControlSocket::Auto, runtime.map(|path| path.as_os_str().to_owned())).unwrap()
        };
        assert!(open(None).is_none());
        let (file, _listener) = open(Some(&directory.0)).unwrap();
        assert_eq!(file.path, directory.0.join("control.sock"));
        let nowhere = ControlSocket::open(&config::ControlSocket::Nowhere, Some(directory.0.clone().into()));
        assert!(nowhere.unwrap().is_none());
    }
}
