use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncRead;

use super::Peeked;

/// Whom a proxy speaks for (the PROXY protocol, version 2, §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const HEAD_LEN: usize = 16;

/// Octets of addresses and further fields that a proxy may send: the longest that one receive brings (§2.2).
const REST_LEN_MAX: usize = 520;

impl ProxyHeader {
    /// Reads the header. `None`: the connection is the proxy's own (LOCAL).
    pub async fn read<S: AsyncRead + Unpin>(stream: &mut Peeked<S>) -> io::Result<Option<ProxyHeader>> {
        let length = ProxyHeader::rest_length(stream.peek(HEAD_LEN).await?)?;
        let header = ProxyHeader::parse(stream.peek(HEAD_LEN + length).await?)?;
        stream.consume(HEAD_LEN + length);
        Ok(header)
    }

    /// How many octets follow the first sixteen.
    fn rest_length(head: &[u8]) -> io::Result<usize> {
        let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
        if head[..12] != SIGNATURE || head[12] >> 4 != 2 || length > REST_LEN_MAX {
            return Err(io::Error::other("no PROXY header of version 2"));
        }
        Ok(length)
    }

    fn parse(header: &[u8]) -> io::Result<Option<ProxyHeader>> {
        let (head, rest) = header.split_at(HEAD_LEN);
        let invalid = || io::Error::other("a PROXY header that cannot be understood");
        let ip = |octets: &[u8]| match octets.len() {
            4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        };
        let addresses = |size: usize| {
            let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
            let source = SocketAddr::new(ip(rest.get(..size)?)?, port(2 * size)?);
            let destination = SocketAddr::new(ip(rest.get(size..2 * size)?)?, port(2 * size + 2)?);
            Some(ProxyHeader { source, destination })
        };
        match (head[12] & 15, head[13]) {
            (0, _) => Ok(None),
            (1, 0x11) => addresses(4).map(Some).ok_or_else(invalid),
            (1, 0x21) => addresses(16).map(Some).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

/// The body of a fuzz target: nothing panics.
#[doc(hidden)]
pub fn fuzz_proxy_header(data: &[u8]) {
    if data.len() >= HEAD_LEN
        && let Ok(length) = ProxyHeader::rest_length(data)
        && let Some(header) = data.get(..HEAD_LEN + length)
    {
        let _ = ProxyHeader::parse(header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[0x20 | command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    async fn read(octets: &[u8]) -> io::Result<(Option<ProxyHeader>, Vec<u8>)> {
        let mut stream = Peeked::new(octets);
        let header = ProxyHeader::read(&mut stream).await?;
        let (inner, unread) = stream.into_parts();
        Ok((header, [&unread, inner].concat()))
    }

    #[tokio::test]
    async fn addresses_of_both_families_and_none() {
        let v4 = [header(1, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 0, 2, 0, 4, 0, 1, 9]), b"GET".to_vec()].concat();
        let (addresses, rest) = read(&v4).await.unwrap();
        let source = "192.0.2.1:256".parse().unwrap();
        let destination = "192.0.2.2:512".parse().unwrap();
        assert_eq!(addresses, Some(ProxyHeader { source, destination }));
        assert_eq!(rest, b"GET", "fields behind the addresses are passed over");
        let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 12], &[0x20, 1, 0xd, 0xb8], &[1; 12], &[1, 2, 3, 4]].concat();
        let (addresses, _) = read(&header(1, 0x21, &v6)).await.unwrap();
        assert_eq!(addresses.unwrap().source, "[2001:db8::]:258".parse().unwrap());
        assert_eq!(read(&header(0, 0, &[])).await.unwrap().0, None);
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let short = header(1, 0x11, &[192, 0, 2, 1]);
        let unix = header(1, 0x31, &[0; 216]);
        let huge = header(1, 0x11, &[0; 600]);
        for octets in
            [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", &short, &unix, &huge]
        {
            assert!(read(octets).await.is_err());
        }
    }
}
