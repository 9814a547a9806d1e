//! The commands that a running program carries out: `sessions`, `reload`, `drain`, `revoke`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::Instant;

use super::protocol::{Answer, Census, Rate, Request, Session};
use super::table;
use crate::{cli, stdout};

/// An answer comes long before this, unless a drain is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Between the two readings that a rate is made of.
const RATE_TIME: Duration = Duration::from_secs(1);

struct Connection(BufReader<UnixStream>);

impl Connection {
    fn ask(socket: &Path, request: &Request) -> anyhow::Result<Connection> {
        let connect = UnixStream::connect(socket).with_context(|| {
            format!(
                "no running program can be reached at {}; control.socket in its configuration names the place, and only \
                 root and the user it runs as may connect (--socket names another)",
                socket.display()
            )
        });
        let mut stream = connect?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// The next answer; `None` when there are no more. A refusal is an error.
    fn next(&mut self) -> anyhow::Result<Option<Answer>> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("the running program does not answer")?;
        if line.is_empty() {
            return Ok(None);
        }
        match serde_json::from_str(&line).context("the running program is of another version")? {
            Answer::Error(error) => bail!("{error}"),
            answer => Ok(Some(answer)),
        }
    }
}

/// A session as it is shown.
#[derive(Serialize)]
pub struct Shown {
    #[serde(flatten)]
    pub session: Session,
    #[serde(flatten)]
    pub rate: Option<Rate>,
}

pub fn sessions(options: &cli::Sessions) -> anyhow::Result<()> {
    let earlier = match options.rate {
        true => {
            let (sessions, _) = read_sessions(options)?;
            let at = Instant::now();
            std::thread::sleep(RATE_TIME);
            Some((at, sessions))
        }
        false => None,
    };
    let (sessions, census) = read_sessions(options)?;
    let time = earlier.as_ref().map_or(Duration::ZERO, |(at, _)| at.elapsed());
    let earlier: HashMap<_, _> =
        earlier.iter().flat_map(|(_, sessions)| sessions).map(|session| (session.relayed, session)).collect();
    let rate = |session: &Session| session.rate_since(earlier.get(&session.relayed)?, time);
    let shown: Vec<Shown> = sessions.into_iter().map(|session| Shown { rate: rate(&session), session }).collect();
    let text = if options.json {
        serde_json::to_string_pretty(&serde_json::json!({ "sessions": shown, "census": census }))? + "\n"
    } else {
        table::sessions(&shown, &census)
    };
    stdout::print(&text)
}

/// All of them, in the order of their users.
fn read_sessions(options: &cli::Sessions) -> anyhow::Result<(Vec<Session>, Census)> {
    let mut connection = Connection::ask(&options.socket.path, &Request::Sessions { user: options.user.clone() })?;
    let (mut sessions, mut census) = (Vec::new(), None);
    while let Some(answer) = connection.next()? {
        match answer {
            Answer::Sessions(page) => sessions.extend(page),
            Answer::Census(all) => census = Some(all),
            other => bail!("unexpected: {other:?}"),
        }
    }
    let census = census.context("the running program ended before it had told everything")?;
    sessions
        .sort_by(|one, other| (&one.user, one.client, one.relayed).cmp(&(&other.user, other.client, other.relayed)));
    Ok((sessions, census))
}

pub fn reload(options: &cli::Socket) -> anyhow::Result<()> {
    let mut connection = Connection::ask(&options.path, &Request::Reload)?;
    match connection.next().context("nothing is reloaded")? {
        Some(Answer::Reloaded { restart }) => {
            let needs = |key| format!("{key} needs a restart: it stays as it was\n");
            stdout::print(&format!("reloaded\n{}", restart.into_iter().map(needs).collect::<String>()))
        }
        other => bail!("unexpected: {other:?}"),
    }
}

pub fn drain(options: &cli::Drain) -> anyhow::Result<()> {
    let request =
        Request::Drain { deadline_s: options.deadline.map(|deadline| deadline.as_secs()), wait: options.wait };
    let mut connection = Connection::ask(&options.socket.path, &request)?;
    if options.wait {
        connection.0.get_ref().set_read_timeout(None)?;
    }
    let mut ends = options.deadline.is_some();
    loop {
        match connection.next()? {
            Some(Answer::Draining { allocations, ends_in_s }) => {
                ends = ends_in_s.is_some();
                stdout::print(&table::draining(allocations, ends_in_s))?;
                if !options.wait {
                    return Ok(());
                }
            }
            Some(Answer::Drained) => return stdout::print("drained: the last allocation has gone\n"),
            Some(Answer::Ending { allocations: 0 }) => {
                stdout::print("drained: the last allocation has gone, the program ends\n")?
            }
            Some(Answer::Ending { allocations }) => {
                stdout::print(&format!(
                    "the deadline is over: the program ends, and {} with it\n",
                    table::allocations(allocations)
                ))?;
            }
            // Its connections end with it.
            None if ends => return stdout::print("ended\n"),
            None => bail!("the program ended before the last allocation had gone"),
            other => bail!("unexpected: {other:?}"),
        }
    }
}

pub fn revoke(options: &cli::Revoke) -> anyhow::Result<()> {
    let request = Request::Revoke { user: options.user.clone(), for_s: options.time.as_secs() };
    match Connection::ask(&options.socket.path, &request)?.next()? {
        Some(Answer::Revoked { allocations }) => stdout::print(&table::revoked(allocations, options.time.as_secs())),
        other => bail!("unexpected: {other:?}"),
    }
}
