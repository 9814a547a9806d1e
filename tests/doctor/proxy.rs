//! The proxy in front of hausruf, and what an administrator can get wrong about it.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::http::{self, Request, Response};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A path that is not passed on.
    pub without: Option<&'static str>,
    pub adds_cors: bool,
    pub drops_upgrade: bool,
    pub short_lines_only: bool,
    pub passes_metrics: bool,
}

const ROUTES: [&str; 4] = ["/sfu/get", "/get_token", "/delegate_delayed_leave", "/healthz"];

/// Passes on to `upstream` what the snippets of init pass on.
pub fn start(upstream: SocketAddr, faults: Faults) -> SocketAddr {
    http::listen(move |stream| {
        let _ = serve(stream, upstream, faults);
    })
}

fn serve(mut stream: TcpStream, upstream: SocketAddr, faults: Faults) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(mut request) = Request::read(&mut reader) else {
        return Ok(());
    };
    if faults.short_lines_only && request.target.len() > 8000 {
        return refuse(&mut stream, 414);
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let is_passed = ROUTES.contains(&path) || path.starts_with("/rtc") || (faults.passes_metrics && path == "/metrics");
    if !is_passed || faults.without.is_some_and(|without| path.starts_with(without)) {
        return refuse(&mut stream, 404);
    }
    let Ok(mut server) = TcpStream::connect(upstream) else {
        return refuse(&mut stream, 502);
    };
    if faults.drops_upgrade {
        request.headers.retain(|(name, _)| !["upgrade", "connection"].contains(&name.to_lowercase().as_str()));
    }
    if request.header("upgrade").is_none() {
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("connection"));
        request.headers.push(("Connection".into(), "close".into()));
    }
    request.write(&mut server)?;
    let mut back = server.try_clone()?;
    let mut client = stream.try_clone()?;
    let answers = std::thread::spawn(move || {
        if faults.adds_cors {
            // Behind the status line.
            let mut line = Vec::new();
            let mut octet = [0];
            while back.read(&mut octet)? == 1 {
                line.push(octet[0]);
                if octet[0] == b'\n' {
                    break;
                }
            }
            client.write_all(&line)?;
            client.write_all(b"Access-Control-Allow-Origin: *\r\n")?;
        }
        let copied = std::io::copy(&mut back, &mut client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        copied
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = answers.join();
    Ok(())
}

fn refuse(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    Response { status, headers: Vec::new(), body: b"a proxy's page".to_vec() }.write(stream)
}
