//! How many TCP connections there are at once: in all, over the listeners that strangers reach, and from each network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Nobody's network has more than this part of all places. And what comes over the listeners for everybody leaves as much to
/// the door of plain HTTP, where the operator's proxy is.
const PART: usize = 4;

#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    of_strangers: Arc<Semaphore>,
    by_network: Mutex<HashMap<IpAddr, usize>>,
    of_a_network_max: usize,
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    _of_all: OwnedSemaphorePermit,
    of_strangers: Option<OwnedSemaphorePermit>,
    network: Option<IpAddr>,
}

impl Places {
    pub fn new(connections: usize) -> Arc<Places> {
        Arc::new(Places {
            all: Arc::new(Semaphore::new(connections)),
            of_strangers: Arc::new(Semaphore::new(connections - connections / PART)),
            by_network: Mutex::default(),
            of_a_network_max: connections.div_ceil(PART),
        })
    }

    /// A place for a connection over the door of plain HTTP, or over a listener for everybody; if there is one.
    pub fn take(self: &Arc<Self>, plain_http: bool) -> Option<Place> {
        let of_strangers = match plain_http {
            true => None,
            false => Some(Arc::clone(&self.of_strangers).try_acquire_owned().ok()?),
        };
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { places: Arc::clone(self), _of_all: of_all, of_strangers, network: None })
    }
}

impl Place {
    /// Counts the connection for the network of its client, once that is known: a /24 (IPv4) or a /64. False if too many
    /// come from there. What comes over plain HTTP comes from a proxy, and what is from this host from the operator.
    pub fn is_for(&mut self, client: IpAddr) -> bool {
        if self.of_strangers.is_none() || client.is_loopback() {
            return true;
        }
        let length = if client.is_ipv4() { 24 } else { 64 };
        let network = IpNet::new(client, length).map_or(client, |prefix| prefix.network());
        let mut by_network = self.places.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_network.entry(network).or_default();
        if *count >= self.places.of_a_network_max {
            return false;
        }
        *count += 1;
        self.network = Some(network);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut by_network = self.places.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_does_not_take_every_place() {
        let places = Places::new(80);
        let mut taken = Vec::new();
        let mut come = |client: &str| {
            let mut place = places.take(false).unwrap();
            let is_welcome = place.is_for(ip(client));
            if is_welcome {
                taken.push(place);
            }
            is_welcome
        };
        for host in 1..=20 {
            assert!(come(&format!("192.0.2.{host}")));
        }
        assert!(!come("192.0.2.200"));
        assert!(come("192.0.3.1") && come("2001:db8::1"));
        for _ in 0..30 {
            assert!(come("127.0.0.1"), "the operator's own proxy");
        }
        taken.remove(0);
        let mut place = places.take(false).unwrap();
        assert!(place.is_for(ip("192.0.2.200")), "one has gone");
        drop((taken, place));
        assert!(places.by_network.lock().unwrap().is_empty());
    }

    #[test]
    fn strangers_leave_room_for_those_who_come_by_way_of_the_proxy() {
        let places = Places::new(8);
        let strangers: Vec<Place> = (0..8).map_while(|_| places.take(false)).collect();
        assert_eq!(strangers.len(), 6);
        let mut guests: Vec<Place> = (0..8).map_while(|_| places.take(true)).collect();
        assert_eq!(guests.len(), 2);
        assert!(guests[0].is_for(ip("192.0.2.1")));
        drop(strangers);
        guests.extend((0..8).map_while(|_| places.take(true)));
        assert_eq!(guests.len(), 8);
    }
}
