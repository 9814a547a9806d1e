//! Further viewers behind the same link, each a flow of its own to the server; and downloads there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use datapath::Endpoint;
use sfu::{LayerWish, TrackId};

use super::call::Policy;
use crate::link::Settings;
use crate::meeting::{Access, Meeting, Member};
use crate::nat::{Dependence, Nat, NatSpec};
use crate::tcp::download::{Downloader, Downloads, FileServer};
use crate::world::{HostId, HostSpec};

/// How many there may be.
pub const MOST: usize = 4;

/// When a viewer watches, and how far it is from the link that all share.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub from: Duration,
    pub pause: Range<Duration>,
    pub delay: Duration,
}

impl Beside {
    pub fn watches(&self, at: Duration) -> bool {
        at >= self.from && !self.pause.contains(&at)
    }
}

/// The router at the link that all share.
pub fn router(meeting: &mut Meeting, up: Settings, down: Settings) -> HostId {
    let outside = Ipv4Addr::new(203, 0, 113, 1);
    let nat = Nat::new(NatSpec {
        outside,
        inside: (Ipv4Addr::new(192, 168, 0, 0), 24),
        mapping: Dependence::EndpointIndependent,
        filtering: Dependence::EndpointIndependent,
        timeout: Duration::from_secs(120),
        hairpinning: false,
    });
    let spec =
        HostSpec { name: "router", addresses: vec![outside.into()], listeners: Vec::new(), gateway: None, up, down };
    meeting.world.add_host(spec, nat)
}

/// The way from a viewer to the router.
pub fn indoors(router: HostId, number: u8, delay: Duration) -> Access {
    let line = Settings { rate_bps: Some(50_000_000), delay, ..Settings::default() };
    Access { address: [192, 168, 0, number], gateway: Some(router), up: line, down: line, turn: false }
}

/// One voice, the speaker's camera at any size, the others small.
pub fn watch(meeting: &mut Meeting, viewer: Member, microphone: TrackId, cameras: &[TrackId]) {
    meeting.subscribe(viewer, microphone);
    for (at, &camera) in cameras.iter().enumerate() {
        meeting.subscribe(viewer, camera);
        if at > 0 {
            meeting.set_wish(viewer, camera, LayerWish { spatial_max: 0, ..LayerWish::EVERYTHING });
        }
    }
    for stream in &mut meeting.caller(viewer).received {
        stream.keyframe_patience = Duration::from_secs(3);
    }
}

/// What the viewer's client tells the server of its link.
pub fn report_as(meeting: &mut Meeting, viewer: Member, policy: Policy) {
    meeting.caller(viewer).reports_loss = policy != Policy::Unadapted;
    meeting.caller(viewer).estimates_remb = policy == Policy::Remb;
}

/// A server of files nearby, and who downloads from it behind the router. The clock of the downloads starts now.
pub fn download(meeting: &mut Meeting, router: HostId, downloads: &Downloads) -> HostId {
    let near = Settings { delay: Duration::from_micros(500), ..Settings::default() };
    let server = SocketAddr::from(([198, 51, 100, 60], 80));
    let host = |name, address: IpAddr, port, gateway| HostSpec {
        name,
        addresses: vec![address],
        listeners: vec![port],
        gateway,
        up: near,
        down: near,
    };
    meeting.world.add_host(host("files", server.ip(), server.port(), None), FileServer::default());
    let address = IpAddr::from([192, 168, 0, 100]);
    let local = Endpoint::Listener { index: 0, ip: address };
    let (now, chance) = (meeting.world.now().instant, meeting.world.entropy());
    let downloader = Downloader::new(local, server, downloads.clone(), now, chance);
    meeting.world.add_host(host("downloader", address, 40_000, Some(router)), downloader)
}

pub struct Neighbour {
    member: Member,
    spec: Beside,
    watching: bool,
    received: u64,
}

impl Neighbour {
    pub fn join(meeting: &mut Meeting, router: HostId, number: u8, spec: &Beside, policy: Policy) -> Neighbour {
        let member = meeting.join(1, "neighbour", indoors(router, number, spec.delay));
        report_as(meeting, member, policy);
        meeting.connect(&[member]);
        Neighbour { member, spec: spec.clone(), watching: false, received: 0 }
    }

    /// Begins and ends watching when it is time.
    pub fn act(&mut self, at: Duration, meeting: &mut Meeting, microphone: TrackId, cameras: &[TrackId]) {
        if self.spec.watches(at) == self.watching {
            return;
        }
        self.watching = !self.watching;
        self.received = 0;
        if self.watching {
            watch(meeting, self.member, microphone, cameras);
        } else {
            cameras.iter().chain([&microphone]).for_each(|&track| meeting.unsubscribe(self.member, track));
        }
    }

    /// Octets of media that have arrived since the last call.
    pub fn take_received(&mut self, meeting: &mut Meeting) -> u64 {
        let all: u64 = meeting.caller(self.member).received.iter().map(|stream| stream.wire_octets).sum();
        let fresh = all - self.received;
        self.received = all;
        fresh
    }
}
