//! Random calls over random networks: whatever happens, the invariants hold, and when the network has healed everybody
//! sees what they subscribe to.

use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::Entropy;
use sfu::{LayerWish, TrackId};

use crate::link::Settings;
use crate::loss::{Loss, unit};
use crate::meeting::{Access, Meeting, Member};
use crate::nat::{Dependence, Nat, NatSpec};
use crate::workers::by_address;
use crate::world::{HostId, HostSpec};

/// Things that happen in one run.
const HAPPENINGS: u64 = 30;
const MEMBERS_MAX: usize = 5;
const TRACKS_MAX: usize = 5;
/// Between the network's healing and the verdict: a keyframe may be asked for, consent be regained, the bandwidth rule
/// take back what it bounded.
const RECOVERY: Duration = Duration::from_secs(6);
const VERDICT: Duration = Duration::from_secs(2);

struct Swarm {
    meeting: Meeting,
    chance: Entropy,
    nats: Vec<HostId>,
    hosts: u8,
    /// Who subscribes to what, and whether it is wanted.
    subscriptions: Vec<(Member, TrackId, bool)>,
    muted: Vec<TrackId>,
}

/// One run, with one to three workers; returns its digest. Panics when an invariant is broken.
pub fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::among(1 + (seed % 3) as u8, by_address, seed);
    meeting.first_sequence = 1;
    let chance = meeting.world.entropy();
    let mut swarm = Swarm { meeting, chance, nats: Vec::new(), hosts: 0, subscriptions: Vec::new(), muted: Vec::new() };
    for behaviour in
        [Dependence::EndpointIndependent, Dependence::AddressDependent, Dependence::AddressAndPortDependent]
    {
        swarm.add_nat(behaviour);
    }
    for _ in 0..3 {
        swarm.join();
    }
    for _ in 0..HAPPENINGS {
        swarm.happen();
        let pause = swarm.chance.below(600);
        swarm.meeting.run_for(Duration::from_millis(pause));
    }
    swarm.heal_and_judge();
    swarm.meeting.world.digest()
}

impl Swarm {
    fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let bound = list.len() as u64;
        (bound > 0).then(|| list[self.chance.below(bound.max(1)) as usize])
    }

    fn add_nat(&mut self, behaviour: Dependence) {
        let number = self.nats.len() as u8 + 1;
        let nat = Nat::new(NatSpec {
            outside: Ipv4Addr::new(203, 0, 113, number),
            inside: (Ipv4Addr::new(192, 168, number, 0), 24),
            mapping: behaviour,
            filtering: behaviour,
            timeout: Duration::from_secs(120),
            hairpinning: number == 1,
        });
        let line = Settings { delay: Duration::from_millis(3), ..Settings::default() };
        let spec = HostSpec {
            name: "nat",
            addresses: vec![Ipv4Addr::new(203, 0, 113, number).into()],
            listeners: Vec::new(),
            gateway: None,
            up: line,
            down: line,
        };
        let nat = self.meeting.world.add_host(spec, nat);
        self.nats.push(nat);
    }

    /// A line between good and bad.
    fn line(&mut self) -> Settings {
        let share = unit(&mut self.chance) * 0.12;
        let loss = if self.chance.below(2) == 0 {
            Loss::Bernoulli(share)
        } else {
            Loss::bursts(share, 3.0).expect("12 % in bursts of 3")
        };
        Settings {
            rate_bps: Some(1_000_000 + self.chance.below(40_000_000)),
            queue: Duration::from_millis(50 + self.chance.below(500)),
            delay: Duration::from_millis(self.chance.below(150)),
            jitter: Duration::from_millis(self.chance.below(10)),
            loss,
            duplicate: unit(&mut self.chance) * 0.02,
            reorder: unit(&mut self.chance) * 0.02,
            reorder_by: Duration::from_millis(self.chance.below(60)),
        }
    }

    fn join(&mut self) {
        if self.meeting.members().len() == MEMBERS_MAX {
            return;
        }
        self.hosts += 1;
        let room = 1 + self.chance.below(2);
        let behind = self.chance.below(5) as usize;
        let (up, down) = (self.line(), self.line());
        let turn = self.chance.below(4) == 0;
        let access = match self.nats.get(behind) {
            Some(&nat) => {
                let address = [192, 168, behind as u8 + 1, self.hosts + 1];
                Access { address, gateway: Some(nat), up, down, turn }
            }
            None => Access { address: [198, 51, 100, self.hosts + 100], gateway: None, up, down, turn },
        };
        let member = self.meeting.join(room, "member", access);
        if self.chance.below(4) > 0 {
            self.publish(member);
        }
        let tracks = self.meeting.tracks().to_vec();
        for (track, publisher, _) in tracks {
            if publisher.room == member.room && publisher != member {
                self.subscribe(member, track);
            }
        }
    }

    fn publish(&mut self, member: Member) {
        if self.meeting.tracks().len() == TRACKS_MAX {
            return;
        }
        let track = if self.chance.below(3) == 0 {
            self.meeting.publish_microphone(member)
        } else {
            self.meeting.publish_camera(member)
        };
        for subscriber in self.meeting.members().to_vec() {
            if subscriber.room == member.room && subscriber != member {
                self.subscribe(subscriber, track);
            }
        }
    }

    fn subscribe(&mut self, member: Member, track: TrackId) {
        self.meeting.subscribe(member, track);
        self.subscriptions.push((member, track, true));
    }

    fn happen(&mut self) {
        let members = self.meeting.members().to_vec();
        let tracks: Vec<TrackId> = self.meeting.tracks().iter().map(|&(track, _, _)| track).collect();
        let subscriptions: Vec<usize> = (0..self.subscriptions.len()).collect();
        match self.chance.below(12) {
            0 | 1 => self.join(),
            2 => {
                if let Some(member) = self.pick(&members) {
                    let gone: Vec<TrackId> = self
                        .meeting
                        .tracks()
                        .iter()
                        .filter(|(_, publisher, _)| *publisher == member)
                        .map(|(track, _, _)| *track)
                        .collect();
                    self.meeting.leave(member);
                    self.subscriptions.retain(|(known, track, _)| *known != member && !gone.contains(track));
                }
            }
            3 => {
                if let Some(member) = self.pick(&members) {
                    self.publish(member);
                }
            }
            4 => {
                if let Some(track) = self.pick(&tracks) {
                    self.meeting.unpublish(track);
                    self.subscriptions.retain(|(_, known, _)| *known != track);
                }
            }
            5 => {
                if let Some(track) = self.pick(&tracks) {
                    let muted = !self.muted.contains(&track);
                    self.meeting.set_muted(track, muted);
                    self.muted.retain(|known| *known != track);
                    if muted {
                        self.muted.push(track);
                    }
                }
            }
            6 | 7 => {
                if let Some(at) = self.pick(&subscriptions) {
                    let (member, track, _) = self.subscriptions[at];
                    let wish = LayerWish {
                        paused: self.chance.below(3) == 0,
                        spatial_max: self.chance.below(4) as u8,
                        temporal_max: self.chance.below(4) as u8,
                    };
                    self.meeting.set_wish(member, track, wish);
                    self.subscriptions[at].2 = !wish.paused;
                }
            }
            8 => {
                if let Some(at) = self.pick(&subscriptions) {
                    let (member, track, _) = self.subscriptions.remove(at);
                    self.meeting.unsubscribe(member, track);
                }
            }
            9 => {
                let nats = self.nats.clone();
                if let Some(nat) = self.pick(&nats) {
                    self.meeting.world.program::<Nat>(nat).reboot();
                }
            }
            _ => {
                if let Some(member) = self.pick(&members) {
                    let (mut up, mut down) = (self.line(), self.line());
                    if self.chance.below(3) == 0 {
                        (up.rate_bps, down.rate_bps) = (Some(0), Some(0));
                    }
                    self.meeting.world.set_links(member.host, up, down);
                }
            }
        }
    }

    fn heal_and_judge(&mut self) {
        let line = Access::good([0; 4]).up;
        for member in self.meeting.members().to_vec() {
            self.meeting.world.set_links(member.host, line, line);
        }
        self.meeting.run_for(RECOVERY);
        let subscriptions = self.subscriptions.clone();
        let wanted: Vec<(Member, TrackId)> = subscriptions
            .into_iter()
            .filter(|(_, track, wanted)| *wanted && !self.muted.contains(track))
            .map(|(member, track, _)| (member, track))
            // A client whose NAT forgot it has lost its allocation: that is for the client to repair.
            .collect();
        let mut wanted = wanted;
        wanted.retain(|&(member, track)| {
            let publisher = self.publisher(track);
            self.reaches(member) && self.reaches(publisher)
        });
        let before: Vec<usize> = wanted.iter().map(|&(member, track)| self.meeting.shown(member, track)).collect();
        self.meeting.run_for(VERDICT);
        for (&(member, track), before) in wanted.iter().zip(before) {
            let frames = self.meeting.shown(member, track) - before;
            // Half a second of video at 7.5 frames/s is the least that may be wished for.
            assert!(frames >= 4, "{member:?} saw {frames} frames of {track:?} in two seconds on a healed network");
        }
    }

    fn publisher(&mut self, track: TrackId) -> Member {
        let found = self.meeting.tracks().iter().find(|(known, _, _)| *known == track);
        found.expect("a published track").1
    }

    fn reaches(&mut self, member: Member) -> bool {
        self.meeting.caller(member).turn.is_none()
    }
}
