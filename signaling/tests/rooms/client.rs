//! What a browser would do, as far as the server sees it: offers, and what it believes about the others.

use std::collections::BTreeMap;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{AddTrackRequest, ParticipantInfo, SimulcastCodec, TrackSource, TrackType, VideoLayer};
use sfu::ParticipantId;
use signaling::livekit::ConnectionId;

const LAYOUT: &str = include_str!("../../fuzz/corpus/sdp/chromium156_offer_v1_layout.sdp");
const PUBLISH: &str = include_str!("../../fuzz/corpus/sdp/chromium156_offer_publish_simulcast.sdp");

#[derive(Debug)]
pub struct Client {
    pub connection: ConnectionId,
    pub participant: ParticipantId,
    pub sid: String,
    pub offer_id: u32,
    head: String,
    sections: Vec<String>,
    /// Id, description, and which track each mid carries.
    pub answers: Vec<(u32, sdp_types::Session, BTreeMap<String, String>)>,
    /// By identity, as livekit-client keeps them.
    pub others: BTreeMap<String, ParticipantInfo>,
    pub own: Option<ParticipantInfo>,
    pub published: BTreeMap<String, String>,
    pub first: Option<&'static str>,
}

fn split(sdp: &str) -> (String, Vec<String>) {
    let mut parts = sdp.split("m=");
    let head = parts.next().unwrap().to_owned();
    (head, parts.map(|part| format!("m={part}")).collect())
}

impl Client {
    pub fn new(_identity: &str) -> Client {
        let (head, sections) = split(LAYOUT);
        Client {
            connection: ConnectionId(0),
            participant: ParticipantId(0),
            sid: String::new(),
            offer_id: 1,
            head,
            sections,
            answers: Vec::new(),
            others: BTreeMap::new(),
            own: None,
            published: BTreeMap::new(),
            first: None,
        }
    }

    pub fn sdp(&self) -> String {
        format!("{}{}", self.head, self.sections.concat())
    }

    /// Adds a section like the given one of the publishing browser and returns its mid.
    fn add(&mut self, template: usize, cid: Option<&str>) -> String {
        let mid = self.sections.len().to_string();
        let (_, templates) = split(PUBLISH);
        let lines = templates[template].lines().map(|line| match line.split_once(':') {
            Some(("a=mid", _)) => format!("a=mid:{mid}"),
            Some(("a=ice-ufrag" | "a=ice-pwd" | "a=fingerprint", _)) => self.line(line),
            Some(("a=msid", _)) => format!("a=msid:stream {}", cid.unwrap_or("-")),
            _ => line.to_owned(),
        });
        let section: String = lines.map(|line| line + "\r\n").collect();
        self.sections.push(section);
        mid
    }

    /// The transport's lines are the same in all sections.
    fn line(&self, like: &str) -> String {
        let name = like.split_once(':').unwrap().0;
        let found = self.sections[0].lines().find(|line| line.starts_with(name));
        found.unwrap().to_owned()
    }

    pub fn add_microphone(&mut self, cid: &str) -> String {
        self.add(6, Some(cid))
    }

    pub fn add_camera(&mut self, cid: &str) -> String {
        self.add(7, Some(cid))
    }

    /// Leaves the section with one payload type.
    pub fn offer_only(&mut self, mid: &str, payload_type: u8) {
        let line = format!("a=mid:{mid}\r\n");
        let section = self.sections.iter_mut().find(|section| section.contains(&line)).unwrap();
        let of_formats = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"];
        let this = of_formats.map(|attribute| format!("{attribute}{payload_type} "));
        let lines = section.lines().filter_map(|line| {
            if let Some(fields) = line.strip_prefix("m=") {
                let fields: Vec<&str> = fields.split(' ').take(3).collect();
                return Some(format!("m={} {payload_type}\r\n", fields.join(" ")));
            }
            let is_of_format = of_formats.iter().any(|attribute| line.starts_with(attribute));
            let stays = !is_of_format || this.iter().any(|this| line.starts_with(this));
            stays.then(|| format!("{line}\r\n"))
        });
        *section = lines.collect();
    }

    pub fn stop(&mut self, mid: &str) {
        let line = format!("a=mid:{mid}\r\n");
        let section = self.sections.iter_mut().find(|section| section.contains(&line));
        let section = section.unwrap();
        *section = section.replace("a=sendonly", "a=inactive");
    }

    pub fn restart_ice(&mut self) {
        for section in &mut self.sections {
            *section = section.replace("a=ice-ufrag:", "a=ice-ufrag:r");
        }
    }

    /// Takes in what the server said. True if it asks for an offer; the sections that it wants are added.
    pub fn hear(&mut self, messages: Vec<Told>) -> bool {
        let mut asked = false;
        for message in messages {
            match message {
                Told::Join(join) => {
                    self.first.get_or_insert("join");
                    let own = join.participant.unwrap();
                    self.sid = own.sid.clone();
                    self.own = Some(own);
                    for other in join.other_participants {
                        self.others.insert(other.identity.clone(), other);
                    }
                }
                Told::Reconnect(_) => {
                    self.first.get_or_insert("reconnect");
                }
                Told::Update(update) => {
                    for info in update.participants {
                        self.know(info);
                    }
                }
                Told::Answer(answer) => {
                    let session = sdp_types::Session::parse(answer.sdp.as_bytes()).unwrap();
                    // livekit-client drops tracks of participants and publications that it does not know by then.
                    let tracks: BTreeMap<String, String> = answer.mid_to_track_id.into_iter().collect();
                    for sid in tracks.values() {
                        let known =
                            self.others.values().any(|other| other.tracks.iter().any(|track| track.sid == *sid));
                        assert!(known, "{sid} is described before it is announced");
                    }
                    self.answers.push((answer.id, session, tracks));
                }
                Told::TrackPublished(published) => {
                    let track = published.track.unwrap();
                    self.published.insert(published.cid, track.sid);
                }
                Told::MediaSectionsRequirement(requirement) => {
                    asked = true;
                    for _ in 0..requirement.num_audios {
                        self.add(0, None);
                    }
                    for _ in 0..requirement.num_videos {
                        self.add(3, None);
                    }
                }
                _ => {}
            }
        }
        asked
    }

    fn know(&mut self, info: ParticipantInfo) {
        if info.sid == self.sid {
            self.own = Some(info);
            return;
        }
        if info.state() == State::Disconnected {
            self.others.remove(&info.identity);
            return;
        }
        if let Some(known) = self.others.get(&info.identity)
            && known.sid == info.sid
        {
            assert!(known.version <= info.version, "an update older than the last");
        }
        self.others.insert(info.identity.clone(), info);
    }

    /// The section of the last answer with this mid.
    pub fn answered(&self, mid: &str) -> Vec<String> {
        let (_, session, _) = self.answers.last().unwrap();
        let attributes = |media: &sdp_types::Media| -> Vec<String> {
            media
                .attributes
                .iter()
                .map(|attribute| match &attribute.value {
                    Some(value) => format!("{}:{value}", attribute.attribute),
                    None => attribute.attribute.clone(),
                })
                .collect()
        };
        session.medias.iter().map(attributes).find(|lines| lines.contains(&format!("mid:{mid}"))).unwrap()
    }

    /// Track sids of the last answer, sorted.
    pub fn receiving(&self) -> Vec<String> {
        let (_, _, tracks) = self.answers.last().unwrap();
        let mut sids: Vec<String> = tracks.clone().into_values().collect();
        sids.sort();
        sids
    }

    pub fn mid_of(&self, sid: &str) -> Option<String> {
        let (_, _, tracks) = self.answers.last().unwrap();
        tracks.iter().find(|(_, track)| *track == sid).map(|(mid, _)| mid.clone())
    }
}

pub fn microphone(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..Default::default()
    }
}

pub fn camera(cid: &str) -> AddTrackRequest {
    let layers: Vec<VideoLayer> = [(2, 1280, 720), (1, 640, 360), (0, 320, 180)]
        .map(|(quality, width, height)| VideoLayer {
            quality,
            width,
            height,
            bitrate: height * 1000,
            ..Default::default()
        })
        .to_vec();
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        width: 1280,
        height: 720,
        layers: layers.clone(),
        simulcast_codecs: vec![SimulcastCodec { codec: "vp8".into(), cid: cid.into(), layers, ..Default::default() }],
        encryption: 1,
        ..Default::default()
    }
}
