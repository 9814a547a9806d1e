//! Which subscribers share a link: those of one room who come from one public address.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use datapath::{Endpoint, Now};

use crate::congestion::Member;
use crate::participant::Participant;
use crate::sfu::Sfu;

/// Who has given no feedback for so long takes nothing of the link.
const SILENT: Duration = Duration::from_secs(1);

/// Where a subscriber is counted.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    network: IpAddr,
    member: Member,
    told: Instant,
}

/// What stands for the link to a participant: its IPv4 address, or its IPv6 network of 64 bits (RFC 4291 §2.5.4). Those
/// who come through a relay of ours have that in common, and no link.
fn network(participant: &Participant) -> Option<IpAddr> {
    let address = participant.address()?;
    match (address.local, address.remote.ip()) {
        (Endpoint::Relay { .. } | Endpoint::Memory { .. }, _) => None,
        (_, IpAddr::V6(ip)) => Some(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
        (_, ip) => Some(ip),
    }
}

impl Sfu {
    /// Before feedback is read: the estimate is told up to what it may rise. Returns what stands for the link.
    pub(crate) fn bound_by_shared_link(&mut self, now: Now, key: usize) -> Option<IpAddr> {
        let participant = &mut self.participants[key];
        let network = network(participant);
        if participant.behind.is_some_and(|behind| Some(behind.network) != network) {
            self.leave_shared_link(now, key);
        }
        let participant = &mut self.participants[key];
        let links = self.rooms.get(&participant.room).map(|room| &room.shared_links);
        let link = participant.behind.and_then(|behind| Some((links?.get(&behind.network)?, behind.member)));
        let bound = link.and_then(|(link, member)| link.bound_bps(now.instant, member));
        if let Some(send_side) = participant.estimate.send_side() {
            send_side.set_shared(bound, link.map(|(link, _)| link.probe_queue).unwrap_or_default());
        }
        network
    }

    /// After it: the others are told what it says.
    pub(crate) fn tell_shared_link(&mut self, now: Now, key: usize, network: IpAddr) {
        let participant = &mut self.participants[key];
        let Some(room) = self.rooms.get_mut(&participant.room) else { return };
        let Some(send_side) = participant.estimate.send_side() else { return };
        let bps = send_side.acknowledged_bps().unwrap_or(0.0) as u64;
        let member = Member { bps, queue: send_side.queue() };
        let link = room.shared_links.entry(network).or_default();
        let before = participant.behind.replace(Behind { network, member, told: now.instant });
        link.change(now.instant, before.map(|before| before.member), Some(member));
        if let Some(found) = send_side.found_bps() {
            link.note_found(now.instant, member, found as u64);
        }
        if send_side.has_yielded() {
            link.note_congestion(now.instant, member);
        }
    }

    /// A participant is sent a burst of a probe.
    pub(crate) fn tell_shared_link_of_burst(&mut self, now: Now, key: usize) {
        let participant = &self.participants[key];
        let link = participant.behind.and_then(|behind| {
            let room = self.rooms.get_mut(&participant.room)?;
            room.shared_links.get_mut(&behind.network)
        });
        if let Some(link) = link {
            link.probe_queue.note_burst(now.instant);
        }
    }

    /// To be called about once a second.
    pub(crate) fn leave_shared_link_if_silent(&mut self, now: Now, key: usize) {
        let behind = self.participants[key].behind;
        if behind.is_some_and(|behind| now.instant.saturating_duration_since(behind.told) > SILENT) {
            self.leave_shared_link(now, key);
        }
    }

    pub(crate) fn leave_shared_link(&mut self, now: Now, key: usize) {
        let participant = &mut self.participants[key];
        let Some(behind) = participant.behind.take() else { return };
        let Some(room) = self.rooms.get_mut(&participant.room) else { return };
        if let Some(link) = room.shared_links.get_mut(&behind.network) {
            link.change(now.instant, Some(behind.member), None);
            if link.is_empty() {
                room.shared_links.remove(&behind.network);
            }
        }
    }
}
