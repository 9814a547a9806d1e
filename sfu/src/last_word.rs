//! Who comes in hears what is being said, from the word that was said last: the next one may be 20 ms away, and on a narrow link
//! other things would be on the way before it by then.

use std::time::Duration;

use datapath::{Now, Outbox};

use crate::fan_out::{Original, Payload, forward};
use crate::rtp::Extensions;
use crate::sfu::Sfu;

/// What is older belongs to a pause: a packet of audio is 20 to 60 ms long.
const SAID: Duration = Duration::from_millis(60);

impl Sfu {
    /// The transport of a participant has just come up.
    pub(crate) fn send_last_words(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        for at in 0..participant.sinks.len() {
            let sink = participant.sinks[at];
            let subscription = &mut self.subscriptions[sink.subscription];
            let track = &self.tracks[subscription.track];
            if sink.is_repair || track.is_video() {
                continue;
            }
            let said = track.encodings.first().and_then(|stream| stream.history.get(stream.statistics.highest()?));
            let Some((media, payload)) = said else { continue };
            if now.instant.saturating_duration_since(media.arrival) >= SAID {
                continue;
            }
            let mut original = Original { media, extensions: Extensions::default(), payload: Payload::Kept(payload) };
            let sent = forward(now, track, (sink.subscription, subscription), participant, &mut original, out);
            participant.sent.receive(now.instant, sent);
        }
    }
}
