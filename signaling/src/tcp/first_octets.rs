use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use datapath::stream::Framing;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What the first octets of a connection say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Tls,
    /// TURN, or ICE over TCP.
    Framed(Framing),
}

impl Kind {
    /// `None` as long as more octets are needed.
    fn of(octets: &[u8]) -> io::Result<Option<Kind>> {
        match octets.first() {
            None => Ok(None),
            // A method's name.
            Some(b'A'..=b'Z') => Ok(Some(Kind::Http)),
            // RFC 8446 §5.1: a handshake record.
            Some(22) => Ok(Some(Kind::Tls)),
            _ => match Framing::sniff(octets) {
                Ok(framing) => Ok(framing.map(Kind::Framed)),
                Err(_) => Err(io::Error::other("neither HTTP nor TLS nor STUN")),
            },
        }
    }
}

/// Octets of the longest first datagram that is looked at as a whole. Requests have a few hundred.
const DATAGRAM_LEN_MAX: usize = 2048;

/// A stream whose first octets have been looked at, and are read again.
pub struct Peeked<S> {
    inner: S,
    octets: Vec<u8>,
    read: usize,
}

impl<S> Peeked<S> {
    pub fn new(inner: S) -> Peeked<S> {
        Peeked { inner, octets: Vec::new(), read: 0 }
    }

    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The stream, and what was looked at and not read again.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        self.octets.drain(..self.read);
        (self.inner, self.octets)
    }
}

impl<S: AsyncRead + Unpin> Peeked<S> {
    pub async fn kind(&mut self) -> io::Result<Kind> {
        loop {
            if let Some(kind) = Kind::of(&self.octets[self.read..])? {
                return Ok(kind);
            }
            self.peek_more(10).await?;
        }
    }

    /// Looks at the first datagram of a framed connection; nothing if it is longer than requests are.
    pub async fn datagram(&mut self, framing: Framing) -> io::Result<Option<&[u8]>> {
        let unframed = |_| io::Error::other("no datagrams");
        while self.octets.len() - self.read < DATAGRAM_LEN_MAX {
            let octets = &self.octets[self.read..];
            if let Some(frame) = framing.next(octets).map_err(unframed)? {
                return Ok(Some(&self.octets[self.read..][frame.payload]));
            }
            self.peek_more(DATAGRAM_LEN_MAX).await?;
        }
        Ok(None)
    }

    /// Looks at the first `count` octets.
    pub async fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.octets.len() - self.read < count {
            self.peek_more(count).await?;
        }
        Ok(&self.octets[self.read..self.read + count])
    }

    /// Octets that were looked at are done with.
    pub fn consume(&mut self, count: usize) {
        self.read += count;
    }

    /// Never more than `count` in all: what follows may be another's, such as the first record of a handshake.
    async fn peek_more(&mut self, count: usize) -> io::Result<()> {
        let missing = (self.read + count).saturating_sub(self.octets.len());
        let more = (&mut self.inner).take(missing as u64).read_buf(&mut self.octets).await?;
        if more == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Peeked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = &self.octets[self.read..];
        if waiting.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peeked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(context, octets));
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A Binding request of twenty octets, framed for ICE over TCP.
    const CHECK: [u8; 22] = [0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

    #[tokio::test]
    async fn the_first_datagram_is_seen_whole_and_stays_unread() {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut peeked = Peeked::new(server);
        let client = async {
            for octet in CHECK {
                client.write_all(&[octet]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.write_all(b"more").await.unwrap();
            client
        };
        let look = async {
            assert_eq!(peeked.kind().await.unwrap(), Kind::Framed(Framing::Ice));
            assert_eq!(peeked.datagram(Framing::Ice).await.unwrap(), Some(&CHECK[2..]));
            peeked
        };
        let (_client, peeked) = tokio::join!(client, look);
        assert!(peeked.into_parts().1.starts_with(&CHECK));
    }

    #[tokio::test]
    async fn what_is_longer_than_a_request_is_not_waited_for() {
        let (mut client, server) = tokio::io::duplex(8192);
        let mut peeked = Peeked::new(server);
        client.write_all(&[&[0xFF; 2], &CHECK[2..], &[0; 4000]].concat()).await.unwrap();
        assert_eq!(peeked.datagram(Framing::Ice).await.unwrap(), None);
        assert_eq!(peeked.into_parts().1.len(), DATAGRAM_LEN_MAX);
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_is_nothing() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(&CHECK[..20]).await.unwrap();
        drop(client);
        assert!(Peeked::new(server).datagram(Framing::Ice).await.is_err());
    }
}
