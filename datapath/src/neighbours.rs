//! The other workers on the same port: what the kernel gives to the wrong one is passed on, and so is what the parts of
//! different workers hand over in memory.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Instant;

use crate::envelope::{Envelope, Matter};
use crate::owners::Owners;
use crate::ring::{Consumer, Producer, ring};
use crate::sockets::Waker;
use crate::{Counters, Datagram, Deadline, Discard, Endpoint, steering};

pub use crate::envelope::Side;

/// Octets of all rings into one worker, shared among those that write them.
const RINGS_LEN: usize = 2 << 20;

/// Octets of a ring, however many there are: two of the longest datagrams.
const RING_LEN_MIN: usize = 160 << 10;

/// Sixteenths of a ring that are for everybody. The rest is for whom its receiver knows: strangers who name it crowd out
/// nobody.
const STRANGERS_SHARE: usize = 8;
const WHOLE: usize = 16;

/// A worker's hold on the others.
#[derive(Debug)]
pub struct Neighbours {
    own: u8,
    /// By the number of the other worker; none to itself.
    links: Vec<Option<Link>>,
    media: Owners,
    relay: Owners,
    /// The ports of relayed addresses, by worker.
    ports: Vec<RangeInclusive<u16>>,
    /// Long enough ago to be due at once.
    start: Instant,
}

#[derive(Debug)]
struct Link {
    to: Producer,
    from: Consumer,
    /// Wakes the other worker; a virtual one needs none.
    waker: Option<Waker>,
    /// Something was written that the other may not know of.
    written: bool,
}

/// Where a datagram belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub worker: u8,
    /// It has said so itself of this five-tuple.
    pub is_known: bool,
}

/// Datagrams that another worker has passed on.
#[derive(Debug, Default)]
pub struct Inbox {
    pub octets: Vec<u8>,
    pub passed: Vec<Passed>,
}

#[derive(Clone, Debug)]
pub struct Passed {
    pub local: Endpoint,
    pub remote: SocketAddr,
    pub ecn: u8,
    /// Where it lies in [`Inbox::octets`]: right behind the one before and an envelope.
    pub range: Range<usize>,
}

impl Neighbours {
    /// Connects as many workers as there are parts of the ports for relayed addresses, and gives each its own end.
    /// Panics unless each has a waker, or `None`, and there are 256 of them at most.
    pub fn connect(ports: &[RangeInclusive<u16>], wakers: &[Option<Waker>], now: Instant) -> Vec<Neighbours> {
        let count = ports.len();
        assert!(count == wakers.len() && count <= 256);
        let octets = (RINGS_LEN / count.saturating_sub(1).max(1)).max(RING_LEN_MIN);
        let mut links: Vec<Vec<Option<Link>>> = (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
        for a in 0..count {
            for b in 0..a {
                let ((to_b, from_a), (to_a, from_b)) = (ring(octets), ring(octets));
                links[a][b] = Some(Link { to: to_b, from: from_b, waker: wakers[b].clone(), written: false });
                links[b][a] = Some(Link { to: to_a, from: from_a, waker: wakers[a].clone(), written: false });
            }
        }
        let neighbours = |(own, links)| Neighbours {
            own: own as u8,
            links,
            media: Owners::new(now),
            relay: Owners::new(now),
            ports: ports.to_vec(),
            start: now,
        };
        links.into_iter().enumerate().map(neighbours).collect()
    }

    /// The other workers' numbers.
    pub fn others(&self) -> impl Iterator<Item = u8> + use<> {
        let own = self.own;
        (0..self.links.len()).map(|worker| worker as u8).filter(move |worker| *worker != own)
    }

    /// The other worker that a datagram belongs to: the one that it names, or the one that has its five-tuple.
    pub fn owner(&mut self, side: Side, local: Endpoint, remote: SocketAddr, payload: &[u8]) -> Option<Owner> {
        let (owners, named) = match (side, payload.first()) {
            (Side::Media, Some(0..=3)) => (&mut self.media, steering::of_check(payload)),
            (Side::Media, _) => (&mut self.media, None),
            (Side::Relay, _) => (&mut self.relay, steering::of_request(payload)),
        };
        let known = owners.find(local, remote);
        let named = named.filter(|&worker| usize::from(worker) < self.links.len());
        let worker = named.or(known).filter(|&worker| worker != self.own)?;
        Some(Owner { worker, is_known: known == Some(worker) })
    }

    /// The other worker that has this relayed address.
    pub fn owner_of_relayed(&self, relayed: SocketAddr) -> Option<Owner> {
        let worker = self.ports.iter().position(|ports| ports.contains(&relayed.port()))? as u8;
        // An allocation of ours sends it.
        (worker != self.own).then_some(Owner { worker, is_known: true })
    }

    /// Copies a datagram into the ring to its owner.
    pub fn pass(&mut self, owner: Owner, datagram: &Datagram<'_>, counters: &mut Counters) {
        let matter = Matter::Datagram { ecn: datagram.ecn };
        let envelope = Envelope { matter, local: datagram.local, remote: datagram.remote };
        let share = if owner.is_known { WHOLE } else { STRANGERS_SHARE };
        if self.write(owner.worker, &envelope, datagram.payload, share) {
            counters.passed_to_workers += 1;
        } else {
            counters.discard(Discard::WorkerBusy);
        }
    }

    /// What this turn's datagrams proved to one side: five-tuples from which they had come, through the worker `from` or
    /// straight. That worker is told where they belong; what was believed of the others holds no longer.
    pub fn settle(&mut self, side: Side, from: Option<u8>, proved: impl Iterator<Item = (Endpoint, SocketAddr)>) {
        for (local, remote) in proved {
            match from {
                // If there is no room it is told the next time.
                Some(worker) => {
                    _ = self.write(worker, &Envelope { matter: Matter::Claim(side), local, remote }, &[], WHOLE);
                }
                None => self.owners(side).forget(local, remote),
            }
        }
    }

    fn owners(&mut self, side: Side) -> &mut Owners {
        match side {
            Side::Relay => &mut self.relay,
            Side::Media => &mut self.media,
        }
    }

    fn write(&mut self, worker: u8, envelope: &Envelope, payload: &[u8], share: usize) -> bool {
        let Some(link) = &mut self.links[usize::from(worker)] else { return false };
        let written = link.to.push([&envelope.encode(), payload], share);
        link.written |= written;
        written
    }

    /// Wakes those for whom something was written and who sleep.
    pub fn rouse(&mut self) {
        for link in self.links.iter_mut().flatten() {
            if std::mem::take(&mut link.written)
                && let Some(waker) = &link.waker
            {
                waker.rouse();
            }
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.links.iter().flatten().any(|link| !link.from.is_empty())
    }

    /// At once, if others have written something.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.is_waiting().then_some(Deadline { at: self.start, reason: "datagrams from another worker" })
    }

    /// Takes all that another worker has written so far: claims are learned, datagrams go into the inbox. Says whether
    /// there was anything.
    pub fn receive(&mut self, from: u8, inbox: &mut Inbox, now: Instant) -> bool {
        let looked = self.links[usize::from(from)].as_mut().is_some_and(|link| link.from.look());
        if !looked {
            return false;
        }
        inbox.octets.clear();
        inbox.passed.clear();
        while let Some(link) = &mut self.links[usize::from(from)] {
            let start = inbox.octets.len();
            let Some([envelope, _]) = link.from.pop(&mut inbox.octets) else { break };
            let payload = start + envelope..inbox.octets.len();
            let envelope = inbox.octets[start..payload.start].try_into().expect("its writer has the same program");
            let Envelope { matter, local, remote } = Envelope::decode(envelope);
            match matter {
                Matter::Datagram { ecn } => inbox.passed.push(Passed { local, remote, ecn, range: payload }),
                Matter::Claim(side) => self.owners(side).learn(local, remote, from, now),
            }
        }
        true
    }
}

impl Inbox {
    /// The datagrams, in `batch`.
    pub fn datagrams<'a>(&'a mut self, now: Instant, batch: &mut Vec<Datagram<'a>>) {
        let (mut rest, mut position) = (&mut self.octets[..], 0);
        for Passed { local, remote, ecn, range } in &self.passed {
            let (_, tail) = rest.split_at_mut(range.start - position);
            let (payload, tail) = tail.split_at_mut(range.len());
            (rest, position) = (tail, range.end);
            // The octets are gone when the turn ends: the outbox copies what it forwards.
            let (local, remote, ecn) = (*local, *remote, *ecn);
            batch.push(Datagram { local, remote, ecn, received_at: now, payload, origin: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::stun::{Class, Method, TransactionId, Writer};

    const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    const MEDIA: [u8; 1000] = [0x80; 1000];

    fn client(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn now() -> Instant {
        Instant::now()
    }

    fn two(wakers: [Option<Waker>; 2]) -> [Neighbours; 2] {
        Neighbours::connect(&[50_000..=50_099, 50_100..=50_199], &wakers, now()).try_into().unwrap()
    }

    /// An ICE check that names this worker.
    fn check(worker: u8) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([7; 12]));
        writer.username(format!("{}:theirs", steering::ufrag(worker, "rest")).as_bytes());
        let length = writer.finish().unwrap();
        buffer[..length].to_vec()
    }

    fn pass(neighbours: &mut Neighbours, owner: Owner, remote: SocketAddr, payload: &[u8], counters: &mut Counters) {
        let mut payload = payload.to_vec();
        let payload = &mut payload[..];
        let datagram = Datagram { local: LISTENER, remote, ecn: 1, received_at: now(), payload, origin: Some(5) };
        neighbours.pass(owner, &datagram, counters);
    }

    /// What the worker with these neighbours finds in the inbox from `from`.
    fn received(neighbours: &mut Neighbours, from: u8) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut inbox = Inbox::default();
        _ = neighbours.receive(from, &mut inbox, now());
        let mut batch = Vec::new();
        inbox.datagrams(now(), &mut batch);
        assert!(batch.iter().all(|datagram| (datagram.local, datagram.ecn, datagram.origin) == (LISTENER, 1, None)));
        batch.iter().map(|datagram| (datagram.remote, datagram.payload.to_vec())).collect()
    }

    #[test]
    fn a_check_finds_the_worker_that_it_names_and_its_proof_leads_the_media_there() {
        let [mut here, mut there] = two([None, None]);
        let mut counters = Counters::default();
        let check = check(1);
        let owner = here.owner(Side::Media, LISTENER, client(1), &check).unwrap();
        assert_eq!(owner, Owner { worker: 1, is_known: false });
        assert_eq!(there.owner(Side::Media, LISTENER, client(1), &check), None, "it is here");
        pass(&mut here, owner, client(1), &check, &mut counters);
        assert_eq!(here.owner(Side::Media, LISTENER, client(1), &MEDIA), None, "nothing is proved");
        assert!(there.is_waiting() && there.poll_timeout().is_some());
        assert_eq!(received(&mut there, 0), [(client(1), check.clone())]);
        assert!(!there.is_waiting());

        there.settle(Side::Media, Some(0), [(LISTENER, client(1))].into_iter());
        assert_eq!(received(&mut here, 1), []);
        let known = Some(Owner { worker: 1, is_known: true });
        assert_eq!(here.owner(Side::Media, LISTENER, client(1), &MEDIA), known);
        assert_eq!(here.owner(Side::Media, LISTENER, client(1), &check), known);
        assert_eq!(here.owner(Side::Relay, LISTENER, client(1), &[0x40]), None, "the other side is another's");
        // It proves itself here.
        here.settle(Side::Media, None, [(LISTENER, client(1))].into_iter());
        assert_eq!(here.owner(Side::Media, LISTENER, client(1), &MEDIA), None);
        assert_eq!(counters.passed_to_workers, 1);
    }

    #[test]
    fn a_number_that_no_worker_has_names_nobody() {
        let [mut here, _] = two([None, None]);
        assert_eq!(here.owner(Side::Media, LISTENER, client(1), &check(2)), None);
    }

    #[test]
    fn a_relayed_address_names_its_worker() {
        let [here, there] = two([None, None]);
        let of = |neighbours: &Neighbours, port| neighbours.owner_of_relayed(client(port)).map(|owner| owner.worker);
        assert_eq!([of(&here, 50_099), of(&here, 50_100), of(&here, 50_200)], [None, Some(1), None]);
        assert_eq!([of(&there, 50_099), of(&there, 50_100)], [Some(0), None]);
    }

    #[test]
    fn strangers_crowd_out_nobody() {
        let [mut here, mut there] = two([None, None]);
        let mut counters = Counters::default();
        let stranger = Owner { worker: 1, is_known: false };
        while counters.discarded(Discard::WorkerBusy) == 0 {
            pass(&mut here, stranger, client(1), &MEDIA, &mut counters);
        }
        let known = Owner { worker: 1, is_known: true };
        let before = counters.passed_to_workers;
        assert!(before > 900);
        while counters.discarded(Discard::WorkerBusy) == 1 {
            pass(&mut here, known, client(2), &MEDIA, &mut counters);
        }
        assert!(counters.passed_to_workers > before * 2 - 10);
        assert_eq!(received(&mut there, 0).len() as u64, counters.passed_to_workers);
    }

    #[test]
    fn only_who_sleeps_is_woken() {
        let waker = Waker::new().unwrap();
        let [mut here, there] = two([None, Some(waker.clone())]);
        let mut counters = Counters::default();
        let mut pass_and_rouse = |here: &mut Neighbours| {
            pass(here, Owner { worker: 1, is_known: true }, client(1), &MEDIA, &mut counters);
            here.rouse();
        };
        pass_and_rouse(&mut here);
        assert!(!waker.take(), "it looks before it sleeps");
        waker.fall_asleep();
        assert!(there.is_waiting());
        here.rouse();
        assert!(!waker.take(), "nothing new");
        pass_and_rouse(&mut here);
        assert!(waker.take());
        pass_and_rouse(&mut here);
        assert!(!waker.take(), "once is enough");
    }
}
