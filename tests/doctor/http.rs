//! As much of HTTP/1.1 as a stand-in needs: one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// An answer comes long before this.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn bearer(&self) -> &str {
        self.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
    }

    /// The request's head, and the body as far as its length is told.
    pub fn read(stream: &mut impl BufRead) -> Option<Request> {
        let mut request = Request::default();
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        request.method = words.next()?.to_owned();
        request.target = words.next()?.to_owned();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            request.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        request.body = vec![0; length];
        stream.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    pub fn write(&self, stream: &mut impl Write) -> std::io::Result<()> {
        write!(stream, "{} {} HTTP/1.1\r\n", self.method, self.target)?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        stream.write_all(&self.body)
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// As a homeserver answers: JSON that every page may read.
    pub fn json(status: u16, body: serde_json::Value) -> Response {
        let headers = [("Content-Type", "application/json"), ("Access-Control-Allow-Origin", "*")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Response { status, headers, body: body.to_string().into_bytes() }
    }

    pub fn error(status: u16, errcode: &str) -> Response {
        Response::json(status, serde_json::json!({ "errcode": errcode, "error": "no" }))
    }

    pub fn write(&self, stream: &mut impl Write) -> std::io::Result<()> {
        write!(stream, "HTTP/1.1 {} X\r\n", self.status)?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len())?;
        stream.write_all(&self.body)
    }
}

/// Hands every connection to `serve`, each in a thread of its own.
pub fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                serve(stream);
            });
        }
    });
    address
}

/// One request to `url` (`http://host:port/path`), answered as status and body; `None` when nothing answers.
pub fn ask(url: &str, mut request: Request) -> Option<(u16, Vec<u8>)> {
    let (authority, path) = url.strip_prefix("http://")?.split_once('/')?;
    request.target = format!("/{path}");
    let length = request.body.len().to_string();
    request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    for (name, value) in [("Host", authority), ("Content-Length", length.as_str()), ("Connection", "close")] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let mut stream = TcpStream::connect(authority).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    request.write(&mut stream).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split_whitespace().nth(1)?.parse().ok()?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).ok()?;
    let body = rest.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((status, rest.split_off(body + 4)))
}
