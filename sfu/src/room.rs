//! A room: nothing crosses from one to another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::Now;

use crate::command::Event;
use crate::congestion::SharedLink;
use crate::deadlines::Timer;
use crate::sfu::Sfu;
use crate::speaker::{INTERVAL, SpeakerLevels};

/// Who is in it.
#[derive(Default)]
pub struct Room {
    /// Slab keys of its participants, in the order in which they came.
    pub participants: Vec<usize>,
    pub levels: SpeakerLevels,
    /// By the network from which its subscribers come.
    pub shared_links: BTreeMap<IpAddr, SharedLink>,
}

impl Sfu {
    /// Compares who speaks in each room with what was last reported. Goes on as long as anybody does.
    pub(crate) fn compare_speakers(&mut self, now: Now) {
        let mut anybody = false;
        for (&id, room) in &mut self.rooms {
            let (participants, tracks) = (&self.participants, &self.tracks);
            let levels = room.participants.iter().flat_map(|&key| {
                let participant = &participants[key];
                let audio = participant.tracks.iter().filter_map(|&track| tracks[track].audio.as_ref());
                audio.map(|audio| (participant.id, audio.level(now.instant)))
            });
            let mut speakers = Vec::new();
            room.levels.compare(now.instant, levels, &mut speakers);
            anybody |= room.levels.current().next().is_some();
            if !speakers.is_empty() {
                self.events.push_back(Event::Speakers { room: id, speakers });
            }
        }
        if anybody {
            self.speakers_due.schedule(now.instant + INTERVAL, Timer::Speakers, &mut self.deadlines);
        }
    }
}
