//! The media sections of one client's PeerConnection: what each carries, and how many more are needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::Entropy;
use livekit_protocol::MediaSectionsRequirement;
use sfu::{Fingerprint, IceCredentials, Kind, TrackId};

use super::sdp::{Offer, Section, SectionKind};

/// The first change is negotiated after this, and those that follow close behind wait for one another.
const FIRST_DEBOUNCE: Duration = Duration::from_millis(10);
const DEBOUNCE: Duration = Duration::from_millis(150);

/// A client is asked for no more sections than this: a browser writes some 6 kB for each video section into every
/// offer, and offers end at 1 MiB. Later tracks wait until a section becomes free.
const SECTIONS_MAX: u32 = 240;

/// What a section carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carries {
    #[default]
    Nothing,
    /// What the client publishes.
    Up(TrackId),
    /// What we send.
    Down(TrackId),
    /// What we sent until now. The next answer says that it ends; only after that may the section carry something
    /// else, or the browser would not notice that the track is another.
    Ended,
}

/// A section in the client's last offer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    mid: String,
    kind: SectionKind,
    /// The client would receive in it.
    receives: bool,
    /// The client has stopped it. Another may take its place.
    rejected: bool,
}

impl Known {
    fn is_still(&self, section: &Section) -> bool {
        self.mid == section.mid && self.kind == section.kind
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferConflict {
    /// RFC 8829 §5.2.2: sections neither disappear nor change their place or kind, unless they are rejected.
    SectionsChanged,
    /// Another certificate on the same transport.
    FingerprintChanged,
}

#[derive(Clone, Debug)]
pub struct Negotiation {
    pub session_id: u64,
    pub session_version: u64,
    pub local_ice: Option<IceCredentials>,
    remote: Option<(IceCredentials, Fingerprint)>,
    known: Vec<Known>,
    carries: BTreeMap<String, Carries>,
    /// Sections (audio, video) asked for and not yet offered.
    requested: [u32; 2],
    /// When the client was last asked for an offer.
    last_request: Option<Instant>,
}

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Audio => 0,
        Kind::Video => 1,
    }
}

fn media_kind(kind: SectionKind) -> Option<Kind> {
    match kind {
        SectionKind::Audio => Some(Kind::Audio),
        SectionKind::Video => Some(Kind::Video),
        SectionKind::Application | SectionKind::Unknown => None,
    }
}

impl Negotiation {
    pub fn new(entropy: &mut Entropy) -> Negotiation {
        Negotiation {
            // RFC 8829 §5.2.1: 62 random bits.
            session_id: entropy.u64() >> 2,
            session_version: 1,
            local_ice: None,
            remote: None,
            known: Vec::new(),
            carries: BTreeMap::new(),
            requested: [0; 2],
            last_request: None,
        }
    }

    /// Takes in a new offer. True if its transport is new: the first offer, or an ICE restart (RFC 8839 §4.4.1.1.1).
    pub fn apply(&mut self, offer: &Offer) -> Result<bool, OfferConflict> {
        let unchanged = self.known.len() <= offer.sections.len()
            && self.known.iter().zip(&offer.sections).all(|(old, new)| old.rejected || old.is_still(new));
        if !unchanged {
            return Err(OfferConflict::SectionsChanged);
        }
        let restarted = match &self.remote {
            Some((_, fingerprint)) if *fingerprint != offer.fingerprint => {
                return Err(OfferConflict::FingerprintChanged);
            }
            Some((ice, _)) => *ice != offer.ice,
            None => true,
        };
        self.remote = Some((offer.ice.clone(), offer.fingerprint));
        for (at, section) in offer.sections.iter().enumerate() {
            match self.known.get(at) {
                Some(old) if old.is_still(section) => continue,
                Some(old) => _ = self.carries.remove(&old.mid),
                None => {}
            }
            if let Some(kind) = media_kind(section.kind).filter(|_| section.direction.receives()) {
                let requested = &mut self.requested[slot(kind)];
                *requested = requested.saturating_sub(1);
            }
        }
        self.known = offer
            .sections
            .iter()
            .map(|section| Known {
                mid: section.mid.clone(),
                kind: section.kind,
                receives: section.direction.receives() && !section.rejected,
                rejected: section.rejected,
            })
            .collect();
        Ok(restarted)
    }

    pub fn carries(&self, mid: &str) -> Carries {
        self.carries.get(mid).copied().unwrap_or_default()
    }

    pub fn set(&mut self, mid: &str, carries: Carries) {
        if carries == Carries::Nothing {
            self.carries.remove(mid);
        } else {
            self.carries.insert(mid.to_owned(), carries);
        }
    }

    /// A section that the client only receives in and that carries nothing.
    pub fn free_section(&self, kind: Kind) -> Option<&str> {
        self.known.iter().find(|known| self.is_free(known, kind)).map(|known| known.mid.as_str())
    }

    fn is_free(&self, known: &Known, kind: Kind) -> bool {
        known.receives && media_kind(known.kind) == Some(kind) && self.carries(&known.mid) == Carries::Nothing
    }

    /// When the client is to be asked for an offer, a change having happened at `now`.
    pub fn due(&self, now: Instant) -> Instant {
        match self.last_request {
            Some(last) if now < last + DEBOUNCE => last + DEBOUNCE,
            _ => now + FIRST_DEBOUNCE,
        }
    }

    /// What to ask the client for, with `waiting` (audio, video) subscriptions that have no section yet. `None` if
    /// there is nothing to negotiate, or if what was asked for before will bring the offer that is needed.
    pub fn requirement(&mut self, now: Instant, waiting: [u32; 2]) -> Option<MediaSectionsRequirement> {
        let mut missing = [0; 2];
        let mut bindable = false;
        for kind in [Kind::Audio, Kind::Video] {
            let free = self.known.iter().filter(|known| self.is_free(known, kind)).count();
            let free = u32::try_from(free).unwrap_or(u32::MAX);
            let index = slot(kind);
            bindable |= waiting[index] > 0 && free > 0;
            missing[index] = waiting[index].saturating_sub(free).saturating_sub(self.requested[index]);
        }
        let known = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let mut budget = SECTIONS_MAX.saturating_sub(known.saturating_add(self.requested.iter().sum()));
        for missing in &mut missing {
            *missing = (*missing).min(budget);
            budget -= *missing;
        }
        let ended = self.carries.values().any(|carries| *carries == Carries::Ended);
        let offer_is_coming = self.requested != [0, 0];
        if missing == [0, 0] && ((!bindable && !ended) || offer_is_coming) {
            return None;
        }
        for (requested, missing) in self.requested.iter_mut().zip(missing) {
            *requested += missing;
        }
        self.last_request = Some(now);
        Some(MediaSectionsRequirement { num_audios: missing[0], num_videos: missing[1] })
    }

    /// A client that comes back over a new connection has forgotten what it was asked for.
    pub fn forget_requests(&mut self) {
        self.requested = [0; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    const LAYOUT: &str = include_str!("../../fuzz/corpus/sdp/chromium156_offer_v1_layout.sdp");

    fn negotiation() -> Negotiation {
        let mut negotiation = Negotiation::new(&mut Entropy::from_seed([1; 32]));
        assert_eq!(negotiation.apply(&Offer::parse(LAYOUT.as_bytes()).unwrap()), Ok(true));
        negotiation
    }

    fn start() -> Instant {
        test_clock::start().instant
    }

    fn asked(negotiation: &mut Negotiation, waiting: [u32; 2]) -> Option<(u32, u32)> {
        negotiation.requirement(start(), waiting).map(|requirement| (requirement.num_audios, requirement.num_videos))
    }

    #[test]
    fn free_sections_are_used_before_more_are_asked_for() {
        let mut negotiation = negotiation();
        assert_eq!(asked(&mut negotiation, [0, 0]), None);
        assert_eq!(asked(&mut negotiation, [3, 1]), Some((0, 0)));
        assert_eq!(asked(&mut negotiation, [5, 3]), Some((2, 0)));
        // What was asked for is not asked for again; the offer is on its way.
        assert_eq!(asked(&mut negotiation, [5, 3]), None);
        assert_eq!(asked(&mut negotiation, [5, 4]), Some((0, 1)));
        negotiation.forget_requests();
        assert_eq!(asked(&mut negotiation, [5, 4]), Some((2, 1)));
    }

    #[test]
    fn a_large_room_does_not_ask_for_an_offer_that_is_too_large() {
        let mut negotiation = negotiation();
        let (audios, videos) = asked(&mut negotiation, [150, 500]).unwrap();
        assert_eq!((audios, videos), (147, 240 - 7 - 147));
        assert_eq!(asked(&mut negotiation, [150, 600]), None);
    }

    #[test]
    fn an_ended_section_is_free_only_after_an_answer() {
        let mut negotiation = negotiation();
        let mid = negotiation.free_section(Kind::Audio).unwrap().to_owned();
        negotiation.set(&mid, Carries::Down(TrackId(1)));
        assert_ne!(negotiation.free_section(Kind::Audio), Some(mid.as_str()));
        negotiation.set(&mid, Carries::Ended);
        assert_ne!(negotiation.free_section(Kind::Audio), Some(mid.as_str()));
        assert_eq!(asked(&mut negotiation, [0, 0]), Some((0, 0)));
        negotiation.set(&mid, Carries::Nothing);
        assert_eq!(negotiation.free_section(Kind::Audio), Some(mid.as_str()));
        assert_eq!(asked(&mut negotiation, [0, 0]), None);
    }

    #[test]
    fn requested_sections_count_until_they_are_offered() {
        let mut negotiation = negotiation();
        assert_eq!(asked(&mut negotiation, [4, 3]), Some((1, 0)));
        let again = Offer::parse(LAYOUT.as_bytes()).unwrap();
        assert_eq!(negotiation.apply(&again), Ok(false));
        assert_eq!(asked(&mut negotiation, [4, 3]), None);
        let mut more = again.clone();
        let mut section = more.sections[0].clone();
        section.mid = "new".into();
        more.sections.push(section);
        assert_eq!(negotiation.apply(&more), Ok(false));
        assert_eq!(asked(&mut negotiation, [4, 3]), Some((0, 0)));
        assert_eq!(negotiation.apply(&again), Err(OfferConflict::SectionsChanged));
    }

    #[test]
    fn another_section_may_take_the_place_of_a_rejected_one() {
        let mut negotiation = negotiation();
        assert_eq!(asked(&mut negotiation, [0, 4]), Some((0, 1)));
        let mut offer = Offer::parse(LAYOUT.as_bytes()).unwrap();
        let at = offer.sections.iter().position(|section| section.kind == SectionKind::Audio).unwrap();
        let mid = offer.sections[at].mid.clone();
        negotiation.set(&mid, Carries::Down(TrackId(1)));
        let video = offer.sections.iter().find(|section| section.kind == SectionKind::Video).unwrap();
        let another = Section { mid: "new".into(), ..video.clone() };
        let recycled = |offer: &Offer| {
            let mut offer = offer.clone();
            offer.sections[at] = another.clone();
            offer
        };
        assert_eq!(negotiation.apply(&recycled(&offer)), Err(OfferConflict::SectionsChanged));
        offer.sections[at].rejected = true;
        assert_eq!(negotiation.apply(&offer), Ok(false));
        assert_eq!(negotiation.apply(&recycled(&offer)), Ok(false));
        assert_eq!(negotiation.carries(&mid), Carries::Nothing);
        // It is the one that was asked for.
        assert_eq!(asked(&mut negotiation, [0, 5]), Some((0, 1)));
    }

    #[test]
    fn new_ice_credentials_are_a_restart_and_a_new_certificate_is_refused() {
        let mut negotiation = negotiation();
        let mut offer = Offer::parse(LAYOUT.as_bytes()).unwrap();
        offer.ice.ufrag.push('x');
        assert_eq!(negotiation.apply(&offer), Ok(true));
        assert_eq!(negotiation.apply(&offer), Ok(false));
        offer.fingerprint.0[0] ^= 1;
        assert_eq!(negotiation.apply(&offer), Err(OfferConflict::FingerprintChanged));
    }

    #[test]
    fn changes_in_a_row_wait_for_one_another() {
        let mut negotiation = negotiation();
        let now = start();
        assert_eq!(negotiation.due(now), now + FIRST_DEBOUNCE);
        negotiation.requirement(now, [1, 0]);
        assert_eq!(negotiation.due(now + FIRST_DEBOUNCE), now + DEBOUNCE);
        let later = now + Duration::from_secs(1);
        assert_eq!(negotiation.due(later), later + FIRST_DEBOUNCE);
    }
}
