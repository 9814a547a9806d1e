//! What a participant publishes: announced with `add_track`, alive once a media section carries it.

use std::time::{Duration, Instant};

use datapath::Entropy;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, SimulcastCodec, SimulcastCodecInfo, TimedVersion, TrackInfo,
    TrackSource, TrackType, VideoLayer, VideoQuality, video_layer,
};
use sfu::{Encoding, Kind, TrackId, TrackSpec};

use super::dynacast::Dynacast;
use super::identifier;
use super::sdp::Section;
use super::sdp::codec::{self, Choice, CodecKey};
use super::sdp::extension;

/// The SFU takes at most three encodings of a track.
const ENCODINGS_MAX: usize = 3;
/// More than there are.
pub const FEATURES_MAX: usize = 16;

/// What the section of a live track agreed on.
#[derive(Clone, Debug)]
pub struct Live {
    pub codec: CodecKey,
    /// The client's id for the track in `a=msid`; another one there is another track.
    pub msid: Option<String>,
    pub spec: TrackSpec,
    pub dynacast: Dynacast,
}

#[derive(Clone, Debug)]
pub struct Publication {
    pub id: TrackId,
    /// The client's own name for the track.
    pub cid: String,
    pub kind: Kind,
    pub info: TrackInfo,
    /// Short name of the codec that the client would like to send.
    codec_wish: Option<String>,
    pub live: Option<Live>,
    /// The server muted it, and its owner has not confirmed that by a mute of its own.
    pub mute_demanded: bool,
    /// Somebody subscribed at some time.
    pub had_subscriber: bool,
}

impl Publication {
    /// `None` for a kind of track that has no media.
    pub fn new(request: AddTrackRequest, id: TrackId, unix: Duration, entropy: &mut Entropy) -> Option<Publication> {
        let kind = match TrackType::try_from(request.r#type) {
            Ok(TrackType::Audio) => Kind::Audio,
            Ok(TrackType::Video) => Kind::Video,
            _ => return None,
        };
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let codec_wish = request
            .simulcast_codecs
            .first()
            .map(|codec| codec.codec.to_ascii_lowercase())
            .filter(|name| !name.is_empty());
        let cid = request.cid.clone();
        let info = track_info(request, kind, source, codec_wish.as_deref(), unix, entropy);
        Some(Publication { id, cid, kind, info, codec_wish, live: None, mute_demanded: false, had_subscriber: false })
    }

    /// Whether the client means this track by `name`, its own id of a track or of one of its codecs.
    pub fn has_cid(&self, name: &str) -> bool {
        self.cid == name || self.info.codecs.iter().any(|codec| codec.cid == name)
    }

    /// What the owner is told that has to mute it.
    pub fn mute(&self) -> MuteTrackRequest {
        MuteTrackRequest { sid: self.info.sid.clone(), muted: true }
    }

    /// The published qualities, lowest first, as many as there are encodings.
    pub fn qualities(&self) -> Vec<VideoQuality> {
        let encodings = self.encodings();
        let mut qualities: Vec<VideoQuality> = self
            .layers()
            .iter()
            .filter_map(|layer| VideoQuality::try_from(layer.quality).ok())
            .take(encodings)
            .collect();
        const ALL: [VideoQuality; 3] = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
        if qualities.len() < encodings {
            qualities = ALL[..encodings.min(3)].to_vec();
        }
        qualities
    }

    pub fn encodings(&self) -> usize {
        self.live.as_ref().map_or_else(|| self.layers().len().clamp(1, ENCODINGS_MAX), |live| live.spec.encodings.len())
    }

    /// Sorted by quality.
    pub fn layers(&self) -> &[VideoLayer] {
        match self.info.codecs.first() {
            Some(codec) if !codec.layers.is_empty() => &codec.layers,
            #[allow(deprecated)] // What clients without `codecs` still fill in.
            _ => &self.info.layers,
        }
    }

    /// Takes up the section that the client sends the track in. `None` if it offers nothing that we can forward.
    pub fn go_live(&mut self, section: &Section, now: Instant) -> Option<(Choice, Option<String>)> {
        let choice = codec::choose_for_publisher(section, self.codec_wish.as_deref())?;
        let format = section.format(choice.payload_type)?;
        let encodings = self.encodings_of(section);
        self.info.mime_type = choice.key.mime_type().into();
        self.info.mid = section.mid.clone();
        if let Some(codec) = self.info.codecs.first_mut() {
            codec.mime_type = choice.key.mime_type().into();
            codec.mid = section.mid.clone();
            codec.sdp_cid = section.track_id.clone().unwrap_or_default();
            for (layer, encoding) in codec.layers.iter_mut().zip(&encodings) {
                layer.ssrc = encoding.ssrc.unwrap_or(0);
                layer.repair_ssrc = encoding.rtx_ssrc.unwrap_or(0);
                layer.rid = encoding.rid.clone().unwrap_or_default();
            }
        }
        let fmtp = (self.kind == Kind::Audio).then(|| self.opus_parameters(&format.fmtp));
        let spec = TrackSpec {
            codec: choice.key.codec(),
            mid: section.mid.clone(),
            payload_type: choice.payload_type,
            rtx_payload_type: choice.rtx_payload_type,
            extensions: extension::published_ids(section, choice.key.codec()),
            nack: format.feedback.iter().any(|feedback| feedback == "nack"),
            muted: self.info.muted,
            screen: self.info.source == TrackSource::ScreenShare as i32,
            encodings,
        };
        self.live = Some(Live {
            codec: choice.key,
            msid: section.track_id.clone(),
            dynacast: Dynacast::new(now, spec.encodings.len()),
            spec,
        });
        Some((choice, fmtp))
    }

    /// A section of a live track as it was agreed, for the next answer.
    pub fn fmtp(&self, section: &Section) -> Option<String> {
        let live = self.live.as_ref()?;
        let format = section.format(live.spec.payload_type)?;
        (self.kind == Kind::Audio).then(|| self.opus_parameters(&format.fmtp))
    }

    /// RFC 7587 §6.1: what we, the receiver, prefer. Chrome sends DTX only when it is told so.
    fn opus_parameters(&self, offered: &str) -> String {
        let has = |feature: AudioTrackFeature| self.info.audio_features.contains(&(feature as i32));
        let mut wanted = Vec::new();
        if !has(AudioTrackFeature::TfNoDtx) {
            wanted.push(("usedtx", "usedtx=1"));
        }
        if has(AudioTrackFeature::TfStereo) {
            wanted.push(("stereo", "stereo=1"));
            wanted.push(("maxaveragebitrate", "maxaveragebitrate=510000"));
        }
        let mut fmtp = offered.to_owned();
        for (name, parameter) in wanted {
            let present = fmtp.split(';').any(|pair| pair.trim().split('=').next() == Some(name));
            if !present {
                if !fmtp.is_empty() {
                    fmtp.push(';');
                }
                fmtp.push_str(parameter);
            }
        }
        fmtp
    }

    fn encodings_of(&self, section: &Section) -> Vec<Encoding> {
        let mut rids: Vec<Option<String>> = section.send_rids.iter().cloned().map(Some).collect();
        rids.sort_by_key(|rid| rid.as_deref().map(rid_rank));
        let streams: Vec<(Option<String>, Option<u32>)> = if !rids.is_empty() {
            rids.into_iter().map(|rid| (rid, None)).collect()
        } else if !section.simulcast_ssrcs.is_empty() {
            let ssrcs = section.simulcast_ssrcs.iter();
            ssrcs.map(|ssrc| (None, Some(*ssrc))).collect()
        } else {
            let ssrc = section.retransmissions.first().map(|(stream, _)| *stream);
            vec![(None, ssrc.or(section.ssrcs.first().copied()))]
        };
        let layers = self.layers();
        let count = streams.len().min(ENCODINGS_MAX);
        streams
            .into_iter()
            .take(ENCODINGS_MAX)
            .enumerate()
            .map(|(index, (rid, ssrc))| {
                let (width, height, bitrate) = match layers.get(index) {
                    Some(layer) => (layer.width, layer.height, layer.bitrate),
                    // Halved from layer to layer, as browsers do when nobody says otherwise.
                    None => {
                        let halvings = (count - 1 - index) as u32;
                        (self.info.width >> halvings, self.info.height >> halvings, 0)
                    }
                };
                Encoding {
                    rid,
                    ssrc,
                    rtx_ssrc: ssrc.and_then(|ssrc| section.retransmission_of(ssrc)),
                    width: u16::try_from(width).unwrap_or(u16::MAX),
                    height: u16::try_from(height).unwrap_or(u16::MAX),
                    bitrate_bps: bitrate,
                }
            })
            .collect()
    }
}

/// Octets of the longest among the names that a publication keeps; others are told most of them.
pub fn longest_name(request: &AddTrackRequest) -> usize {
    let codec = request.simulcast_codecs.first();
    let codec_names = codec.iter().flat_map(|codec| [&codec.codec, &codec.cid]);
    let codec_layers = codec.iter().flat_map(|codec| &codec.layers);
    let rids = request.layers.iter().chain(codec_layers).map(|layer| &layer.rid);
    let names = [&request.cid, &request.name, &request.stream].into_iter().chain(codec_names).chain(rids);
    names.map(String::len).max().unwrap_or(0)
}

/// Lowest quality first; ids of nobody's convention keep the order of the offer.
fn rid_rank(rid: &str) -> u8 {
    match rid {
        "q" | "2" => 0,
        "h" | "1" => 1,
        "f" | "0" => 2,
        _ => 3,
    }
}

fn track_info(
    request: AddTrackRequest,
    kind: Kind,
    source: TrackSource,
    codec_wish: Option<&str>,
    unix: Duration,
    entropy: &mut Entropy,
) -> TrackInfo {
    let letters = match (kind, source) {
        (Kind::Audio, TrackSource::Microphone) => "AM",
        (Kind::Audio, TrackSource::ScreenShareAudio) => "As",
        (Kind::Video, TrackSource::Camera) => "VC",
        (Kind::Video, TrackSource::ScreenShare) => "VS",
        (Kind::Audio, _) => "AU",
        (Kind::Video, _) => "VU",
    };
    let stream = match source {
        _ if !request.stream.is_empty() => request.stream.clone(),
        TrackSource::Camera | TrackSource::Microphone => "camera".into(),
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screenshare".into(),
        TrackSource::Unknown => "unknown".into(),
    };
    let mut layers = request.layers;
    layers.truncate(ENCODINGS_MAX);
    sort_layers(&mut layers);
    let mime_type = match (kind, codec_wish) {
        (Kind::Audio, _) => "audio/opus",
        (Kind::Video, Some("h264")) => "video/H264",
        (Kind::Video, _) => "video/VP8",
    };
    // One entry, for the first codec: further ones (a backup) are not forwarded. Clients look into it, so there is one
    // also for those that name no codec.
    let first = request.simulcast_codecs.into_iter().next();
    let first = first.unwrap_or_else(|| SimulcastCodec { cid: request.cid.clone(), ..Default::default() });
    let mut codec_layers = match first.layers.is_empty() {
        true => layers.clone(),
        false => first.layers,
    };
    codec_layers.truncate(ENCODINGS_MAX);
    sort_layers(&mut codec_layers);
    let layer_count = codec_layers.len();
    let codecs = vec![SimulcastCodecInfo {
        mime_type: mime_type.into(),
        cid: first.cid,
        layers: codec_layers,
        video_layer_mode: match kind {
            Kind::Audio => video_layer::Mode::Unused as i32,
            Kind::Video => video_layer::Mode::OneSpatialLayerPerStream as i32,
        },
        ..Default::default()
    }];
    let mut audio_features = request.audio_features;
    audio_features.truncate(FEATURES_MAX);
    let mut packet_trailer_features = request.packet_trailer_features;
    packet_trailer_features.truncate(FEATURES_MAX);
    #[allow(deprecated)]
    for (set, feature) in
        [(request.stereo, AudioTrackFeature::TfStereo), (request.disable_dtx, AudioTrackFeature::TfNoDtx)]
    {
        if set && !audio_features.contains(&(feature as i32)) {
            audio_features.push(feature as i32);
        }
    }
    #[allow(deprecated)]
    TrackInfo {
        sid: identifier::sid(entropy, &format!("TR_{letters}")),
        r#type: request.r#type,
        name: request.name,
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: kind == Kind::Video && layer_count > 1,
        disable_dtx: request.disable_dtx,
        source: source as i32,
        layers,
        mime_type: mime_type.into(),
        codecs,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream,
        version: Some(TimedVersion { unix_micro: unix.as_micros() as i64, ticks: 0 }),
        audio_features,
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features,
        mid: String::new(),
    }
}

fn sort_layers(layers: &mut [VideoLayer]) {
    layers.sort_by_key(|layer| layer.quality);
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.spatial_layer = index as i32;
        if layer.rid.is_empty() {
            layer.rid = ["q", "h", "f"][index.min(2)].into();
        }
    }
}
