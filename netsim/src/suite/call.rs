//! A call of a few participants of whom one is behind a poor link, and what is noted of it while it runs.

use std::time::{Duration, Instant};

use sfu::{Codec, TrackId};

use super::beside::{self, Beside, Neighbour};
use crate::caller::Caller;
use crate::link::Settings;
use crate::meeting::{Access, Meeting, Member};
use crate::received_stream::Shown;
use crate::tcp::download::{Downloader, Downloads};
use crate::workers::Workers;
use crate::world::HostId;

/// The encodings of a camera in the scenarios: rid, bit/s, size.
pub const CAMERA: [(&str, u32, (u16, u16)); 3] =
    [("q", 150_000, (320, 180)), ("h", 600_000, (640, 360)), ("f", 1_700_000, (1280, 720))];

/// Octets of IP, UDP, RTP with its extensions and SRTP's tag, and of media in a full packet of video.
const HEADERS: u32 = 72;
const PAYLOAD: u32 = 1100;

/// How often the state of things is noted.
pub const SAMPLE: Duration = Duration::from_millis(100);

/// What stands in the server's place in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The server as it is.
    Ours,
    /// The same server without the transport-wide extension and with every remedy off, driven by the viewer's receiver
    /// reports and its REMB: unbounded until a sign of congestion, and no video is ever paused. A model of LiveKit's
    /// defaults.
    Remb,
    /// Everything that is subscribed to is forwarded, whatever becomes of it.
    Unadapted,
}

/// Who is behind the poor link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poor {
    Viewer,
    Speaker,
    /// Who sends the last camera and is not the speaker.
    Publisher,
}

/// The link of the poor participant from a moment on, up and down alike.
#[derive(Clone, Copy, Debug)]
pub struct LinkStep {
    pub at: Duration,
    pub up: Settings,
    pub down: Settings,
}

#[derive(Clone, Debug)]
pub struct CallSpec {
    pub poor: Poor,
    pub audio_bps: u32,
    /// Octets of end-to-end encryption per frame.
    pub encryption: usize,
    /// Cameras, the speaker's included.
    pub cameras: usize,
    /// Participants besides the viewer.
    pub others: usize,
    /// The viewer comes when the others have been there for five seconds; its clock starts with it.
    pub steps: Vec<LinkStep>,
    pub duration: Duration,
    /// Another address at this moment.
    pub handover: Option<Duration>,
    /// Viewers behind the viewer's link, [`beside::MOST`] at most.
    pub beside: Vec<Beside>,
    /// Over TCP, through the viewer's link.
    pub downloads: Option<Downloads>,
}

impl CallSpec {
    /// What the viewer's link can be asked to carry when nothing is left out, in bit/s with all headers: the voice, the
    /// speaker's largest encoding and the smallest of each other camera.
    pub fn media_bps(&self) -> u64 {
        let video = |bps: u32| {
            let packets_per_second = 30 * (bps / 8 / 30).div_ceil(PAYLOAD);
            u64::from(bps + (packets_per_second * HEADERS + 30 * self.encryption as u32) * 8)
        };
        let small = self.cameras.saturating_sub(1) as u64;
        let voice = u64::from(self.audio_bps + 50 * 8 * (HEADERS + self.encryption as u32));
        voice + video(CAMERA[2].1) + small * video(CAMERA[0].1)
    }
}

/// The state of things at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Capacity of the poor link's direction that matters, in bit/s; 0 when there is none.
    pub capacity_bps: u64,
    pub estimate_bps: u64,
    /// What arrived of media in the last 100 ms.
    pub received_bps: u64,
    /// The part of it that does not come from a poor publisher.
    pub apart_bps: u64,
    /// The same of each viewer behind the same link.
    pub beside_bps: [u64; beside::MOST],
    /// The same of downloads, and whether one is under way.
    pub tcp_bps: u64,
    pub is_downloading: bool,
    pub queue: Duration,
    /// As the server sees it, 0 to 1.
    pub loss: f64,
    /// Of each packet of audio.
    pub copies: usize,
    /// Of each video: the encoding that was last forwarded, 0 when it is paused, else 1 + its index.
    pub layers: [u8; 3],
}

/// Everything that scores are made of. Times count from when the viewer came.
pub struct Record {
    pub samples: Vec<Sample>,
    /// The frames shown of each video, the speaker's first.
    pub shown: Vec<Vec<(Duration, Shown)>>,
    /// Of the viewer's (or, behind [`Poor::Speaker`], a listener's) loudspeaker.
    pub net_eq: crate::net_eq::NetEq,
    pub began: Instant,
    pub keyframes_asked: u64,
    pub replayed: u64,
    pub digest: u64,
}

impl Record {
    pub fn between(&self, from: Duration, to: Duration) -> &[Sample] {
        let index = |at: Duration| ((at.as_millis() / SAMPLE.as_millis()) as usize).min(self.samples.len());
        &self.samples[index(from)..index(to)]
    }
}

struct Call {
    meeting: Meeting,
    viewer: Member,
    /// Whose links are poor.
    poor: HostId,
    poor_is: Poor,
    microphone: TrackId,
    cameras: Vec<TrackId>,
    neighbours: Vec<Neighbour>,
    downloader: Option<HostId>,
    downloaded: u64,
    /// Octets received so far, and those that do not come from a poor publisher.
    received: (u64, u64),
    began: Duration,
    record: Record,
}

pub fn run(spec: &CallSpec, policy: Policy, seed: u64) -> Record {
    let mut meeting = Meeting::new(seed);
    meeting.first_sequence = 1;
    meeting.encryption = spec.encryption;
    meeting.transport_cc = policy == Policy::Ours;
    let near = |address: u8| {
        let line = Settings { rate_bps: Some(50_000_000), delay: Duration::from_micros(500), ..Settings::default() };
        Access { up: line, down: line, ..Access::good([198, 51, 100, address]) }
    };
    let first = spec.steps.first().copied();
    let sends_poorly = match spec.poor {
        Poor::Viewer => None,
        Poor::Speaker => Some(0),
        Poor::Publisher => Some(spec.cameras - 1),
    };
    let behind = |access: Access, is_poor: bool| match first {
        Some(step) if is_poor => Access { up: step.up, down: step.down, ..access },
        _ => access,
    };
    let others: Vec<Member> = (0..spec.others)
        .map(|index| {
            let access = near(30 + index as u8);
            meeting.join(1, "other", behind(access, sends_poorly == Some(index)))
        })
        .collect();
    meeting.connect(&others);
    if let Some(index) = sends_poorly {
        let now = meeting.world.now().instant;
        meeting.caller(others[index]).adapt(now);
    }
    let layers: Vec<_> = CAMERA.to_vec();
    let cameras: Vec<TrackId> =
        others.iter().take(spec.cameras).map(|&other| meeting.publish(other, Codec::Vp8, &layers)).collect();
    let microphone = meeting.publish(others[0], Codec::Opus, &[("", spec.audio_bps, (0, 0))]);
    // Everybody else sees everybody, so that no encoder rests.
    for &other in &others {
        for (at, &camera) in cameras.iter().enumerate() {
            if others[at] != other {
                meeting.subscribe(other, camera);
            }
        }
        if other != others[0] {
            meeting.subscribe(other, microphone);
        }
    }
    meeting.run_for(Duration::from_secs(5));
    let is_shared = !spec.beside.is_empty() || spec.downloads.is_some();
    let shared = first.filter(|_| is_shared).map(|step| beside::router(&mut meeting, step.up, step.down));
    let neighbours: Vec<Neighbour> = shared
        .iter()
        .flat_map(|&router| (3..).zip(&spec.beside).map(move |(number, beside)| (router, number, beside)))
        .map(|(router, number, beside)| Neighbour::join(&mut meeting, router, number, beside, policy))
        .collect();
    let access = match shared {
        Some(router) => beside::indoors(router, 2, Duration::from_micros(500)),
        None => behind(near(20), spec.poor == Poor::Viewer),
    };
    let began = meeting.world.elapsed();
    let viewer = meeting.join(1, "viewer", access);
    beside::report_as(&mut meeting, viewer, policy);
    let start = meeting.world.now().instant;
    let downloads = shared.zip(spec.downloads.as_ref());
    let downloader = downloads.map(|(router, downloads)| beside::download(&mut meeting, router, downloads));
    meeting.connect(&[viewer]);
    beside::watch(&mut meeting, viewer, microphone, &cameras);
    let poor = shared.unwrap_or(sends_poorly.map_or(viewer, |index| others[index]).host);
    let record = Record {
        samples: Vec::new(),
        shown: Vec::new(),
        net_eq: crate::net_eq::NetEq::default(),
        began: start,
        keyframes_asked: 0,
        replayed: 0,
        digest: 0,
    };
    let mut call = Call {
        meeting,
        viewer,
        poor,
        poor_is: spec.poor,
        microphone,
        cameras,
        neighbours,
        downloader,
        downloaded: 0,
        received: (0, 0),
        began,
        record,
    };
    call.play(spec);
    call.finish()
}

impl Call {
    fn play(&mut self, spec: &CallSpec) {
        let mut steps = spec.steps.iter().skip(1).peekable();
        let mut handover = spec.handover;
        loop {
            let at = self.meeting.world.elapsed() - self.began;
            if at >= spec.duration {
                return;
            }
            while let Some(step) = steps.next_if(|step| step.at <= at) {
                self.meeting.world.set_links(self.poor, step.up, step.down);
            }
            if handover.is_some_and(|moment| moment <= at) {
                handover = None;
                self.meeting.move_to(self.viewer, [198, 51, 100, 99]);
            }
            for neighbour in &mut self.neighbours {
                neighbour.act(at, &mut self.meeting, self.microphone, &self.cameras);
            }
            self.meeting
                .run_for(SAMPLE.saturating_sub(Duration::from_nanos((at.as_nanos() % SAMPLE.as_nanos()) as u64)));
            self.sample();
        }
    }

    fn sample(&mut self) {
        let (up, down) = self.meeting.world.standing_delays(self.poor);
        let (up_settings, down_settings) = self.meeting.world.link_settings(self.poor);
        let (queue, settings) = if self.poor_is == Poor::Viewer { (down, down_settings) } else { (up, up_settings) };
        let poor_camera = self.cameras.last().filter(|_| self.poor_is == Poor::Publisher).copied();
        let caller = self.meeting.caller(self.viewer);
        let (mut all, mut apart) = (0, 0);
        for stream in &caller.received {
            all += stream.wire_octets;
            if poor_camera.is_none_or(|camera| camera.0 != stream.spec.track) {
                apart += stream.wire_octets;
            }
        }
        let received_bps = (all - self.received.0) * 8 * 10;
        let apart_bps = (apart - self.received.1) * 8 * 10;
        self.received = (all, apart);
        let mut beside_bps = [0; beside::MOST];
        for (bps, neighbour) in beside_bps.iter_mut().zip(&mut self.neighbours) {
            *bps = neighbour.take_received(&mut self.meeting) * 8 * 10;
        }
        let (mut tcp_bps, mut is_downloading) = (0, false);
        if let Some(host) = self.downloader {
            let downloader = self.meeting.world.program::<Downloader>(host);
            tcp_bps = (downloader.received - self.downloaded) * 8 * 10;
            self.downloaded = downloader.received;
            is_downloading = downloader.is_active();
        }
        let viewer = self.viewer;
        let sfu = &mut self.meeting.world.program::<Workers>(self.meeting.server).planes[0].sfu;
        let mut layers = [0; 3];
        for (layer, &camera) in layers.iter_mut().zip(&self.cameras) {
            *layer = sfu.forwarded_encoding(viewer.id, camera).map_or(0, |encoding| encoding + 1);
        }
        let link = sfu.link_state(viewer.id).unwrap_or_default();
        let capacity_bps = settings.rate_bps.unwrap_or(0);
        self.record.samples.push(Sample {
            capacity_bps,
            estimate_bps: link.available_bps.unwrap_or(0),
            received_bps,
            apart_bps,
            beside_bps,
            tcp_bps,
            is_downloading,
            queue,
            loss: link.loss.unwrap_or(0.0),
            copies: link.audio_copies,
            layers,
        });
    }

    fn finish(mut self) -> Record {
        let now = self.meeting.world.now().instant;
        let start = self.record.began;
        let asked: u64 = self
            .meeting
            .members()
            .to_vec()
            .into_iter()
            .map(|member| self.meeting.caller(member).counters.keyframes_asked)
            .sum();
        let (microphone, viewer) = (self.microphone, self.viewer);
        let cameras = std::mem::take(&mut self.cameras);
        let caller: &mut Caller = self.meeting.caller(viewer);
        for camera in cameras {
            let shown = &caller.reception(camera.0).shown;
            let shown = shown.iter().map(|&frame| (frame.at.saturating_duration_since(start), frame)).collect();
            self.record.shown.push(shown);
        }
        self.record.net_eq = caller.reception(microphone.0).net_eq.clone();
        self.record.net_eq.advance(now);
        self.record.replayed = caller.counters.replayed;
        self.record.keyframes_asked = asked;
        self.record.digest = self.meeting.world.digest();
        self.record
    }
}
