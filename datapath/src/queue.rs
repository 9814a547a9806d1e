//! The bounded queue from the control plane to a worker.

use std::sync::mpsc::{Receiver as Inner, SyncSender, TryRecvError, TrySendError, sync_channel};

use crate::sockets::Waker;

/// The queue is full (or its worker is gone): the item comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The control plane's end. Never blocks.
#[derive(Debug)]
pub struct Sender<T> {
    items: SyncSender<T>,
    waker: Waker,
}

/// The worker's end.
#[derive(Debug)]
pub struct Receiver<T> {
    items: Inner<T>,
}

/// A queue of at most `capacity` items whose sender wakes the worker's driver.
pub fn bounded<T>(capacity: usize, waker: Waker) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let sender = Sender { items: sender, waker };
    (sender, Receiver { items: receiver })
}

impl<T> Sender<T> {
    pub fn try_send(&self, item: T) -> Result<(), Full<T>> {
        match self.items.try_send(item) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => Err(Full(item)),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { items: self.items.clone(), waker: self.waker.clone() }
    }
}

impl<T> Receiver<T> {
    /// The next item, if there is one.
    pub fn try_recv(&self) -> Option<T> {
        self.items.try_recv().ok()
    }

    /// Whether every sender is gone and nothing is left.
    pub fn next(&self) -> Next<T> {
        match self.items.try_recv() {
            Ok(item) => Next::Item(item),
            Err(TryRecvError::Empty) => Next::Empty,
            Err(TryRecvError::Disconnected) => Next::Ended,
        }
    }
}

/// What [`Receiver::next`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<T> {
    Item(T),
    Empty,
    /// Every sender is gone, and nothing is left.
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let waker = Waker::new().unwrap();
        let (sender, receiver) = bounded(2, waker.clone());
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.clone().try_send(2), Ok(()));
        assert!(waker.take());
        assert_eq!(sender.try_send(3), Err(Full(3)));
        assert!(!waker.take(), "nothing new to look at");
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
        assert!(waker.take());
        drop(sender);
        assert_eq!(receiver.next(), Next::Item(2));
        assert_eq!(receiver.next(), Next::Item(3));
        assert_eq!(receiver.next(), Next::Ended);
    }

    #[test]
    fn a_worker_that_is_gone_refuses() {
        let (sender, receiver) = bounded(2, Waker::new().unwrap());
        drop(receiver);
        assert_eq!(sender.try_send(1), Err(Full(1)));
    }
}
