//! What waits for one client to be sent: bounded in messages and in octets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use livekit_protocol::signal_response::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::livekit::ConnectionId;

/// Messages may be large: a participant's metadata alone may have half a megabyte.
const OCTETS_MAX: usize = 8 << 20;
/// Of no message more is counted: what tells a client of everybody in the room is to go through, and what follows it.
const CHARGE_MAX: usize = OCTETS_MAX / 2;

struct Waiting {
    octets: usize,
    /// Boxed: a queue sets aside the room for several messages, and one as large as a join would cost every idle client
    /// some 14 kB.
    message: Box<Message>,
}

/// A client's side of the rooms: what it is to be sent, ending when it is to be closed.
pub struct Inbox {
    pub connection: ConnectionId,
    queue: mpsc::Receiver<Waiting>,
    octets: Arc<AtomicUsize>,
}

/// The rooms' side of a client.
pub struct InboxSender {
    queue: mpsc::Sender<Waiting>,
    octets: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The client does not read.
    Full,
    Closed,
}

/// An inbox for so many messages.
pub fn inbox(connection: ConnectionId, messages: usize) -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::channel(messages);
    let octets = Arc::new(AtomicUsize::new(0));
    (InboxSender { queue: sender, octets: Arc::clone(&octets) }, Inbox { connection, queue: receiver, octets })
}

impl InboxSender {
    pub fn send(&self, message: Message) -> Result<(), SendError> {
        let octets = message.encoded_len().min(CHARGE_MAX);
        if self.octets.load(Ordering::Relaxed) + octets > OCTETS_MAX {
            return Err(SendError::Full);
        }
        self.octets.fetch_add(octets, Ordering::Relaxed);
        self.queue.try_send(Waiting { octets, message: Box::new(message) }).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Closed(_) => SendError::Closed,
        })
    }
}

impl Inbox {
    /// `None`: the client is to be closed.
    pub async fn recv(&mut self) -> Option<Message> {
        let waiting = self.queue.recv().await?;
        self.octets.fetch_sub(waiting.octets, Ordering::Relaxed);
        Some(*waiting.message)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn of(octets: usize) -> Message {
        Message::RefreshToken("x".repeat(octets))
    }

    #[test]
    fn octets_count_until_they_are_taken() {
        let (sender, mut inbox) = inbox(ConnectionId(1), 100);
        for _ in 0..7 {
            assert_eq!(sender.send(of(1 << 20)), Ok(()));
        }
        assert!(inbox.recv().now_or_never().flatten().is_some());
        assert_eq!(sender.send(of(1 << 20)), Ok(()), "one was taken");
        assert_eq!(sender.send(of(1 << 20)), Err(SendError::Full));
    }

    #[test]
    fn a_giant_goes_through_with_what_follows_it() {
        let (sender, mut inbox) = inbox(ConnectionId(1), 100);
        assert_eq!(sender.send(of(2 * OCTETS_MAX)), Ok(()));
        assert_eq!(sender.send(of(1 << 20)), Ok(()));
        assert_eq!(sender.send(of(2 * OCTETS_MAX)), Err(SendError::Full), "not with a second one");
        assert!(inbox.recv().now_or_never().flatten().is_some());
        assert_eq!(sender.send(of(2 * OCTETS_MAX)), Ok(()));
    }

    #[test]
    fn messages_count_as_well() {
        let (sender, inbox) = inbox(ConnectionId(1), 2);
        assert_eq!(sender.send(of(1)), Ok(()));
        assert_eq!(sender.send(of(1)), Ok(()));
        assert_eq!(sender.send(of(1)), Err(SendError::Full));
        drop(inbox);
        assert_eq!(sender.send(of(1)), Err(SendError::Closed));
    }
}
