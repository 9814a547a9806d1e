//! Commands of the control plane.

use datapath::{Discard, Now, Outbox};

use crate::command::{Command, Delivery, Event, ParticipantId, Refusal, RoomId, TrackId, TransportSpec};
use crate::participant::{Participant, Sink, Source};
use crate::published_track::PublishedTrack;
use crate::sfu::Sfu;
use crate::subscription::Subscription;
use crate::track::{ExtensionIds, SubscriptionSpec, TrackSpec};
use crate::transport::ice::let_go;
use crate::transport::{DataChannels, DtlsSession, IceLite, MasterKeys, Sent};

impl Sfu {
    /// Carries out a command. What cannot be done becomes [`Event::Refused`]; a command about something that is already
    /// gone has no effect, since the two planes are not in step.
    pub fn handle_command(&mut self, now: Now, command: Command, out: &mut Outbox) {
        let participant = command.participant();
        if let Err(reason) = self.carry_out(now, command, out)
            && let Some(participant) = participant
        {
            self.events.push_back(Event::Refused { participant, reason });
        }
    }

    fn carry_out(&mut self, now: Now, command: Command, out: &mut Outbox) -> Result<(), Refusal> {
        match command {
            Command::Join { room, participant } => self.join(now, room, participant),
            Command::SetTransport { participant, transport } => {
                let key = self.participant_key(participant)?;
                self.set_transport(now, key, &transport)
            }
            Command::Leave { participant } => {
                if let Some(&key) = self.participant_keys.get(&participant) {
                    self.leave(now, key, out);
                }
                Ok(())
            }
            Command::Publish { participant, track, spec } => {
                let key = self.participant_key(participant)?;
                self.publish(now, key, track, spec)
            }
            Command::Unpublish { track } => {
                if let Some(&key) = self.track_keys.get(&track) {
                    self.unpublish(now, key);
                }
                Ok(())
            }
            Command::SetMuted { track, muted } => {
                if let Some(&key) = self.track_keys.get(&track) {
                    self.set_muted(now, key, muted);
                }
                Ok(())
            }
            Command::Subscribe { participant, track, spec } => {
                let key = self.participant_key(participant)?;
                self.subscribe(now, key, track, spec)
            }
            Command::Unsubscribe { participant, track } => {
                if let Some(subscription) = self.subscription_key(participant, track) {
                    self.unsubscribe(now, subscription);
                }
                Ok(())
            }
            Command::SetWish { participant, track, wish } => {
                if let Some(subscription) = self.subscription_key(participant, track) {
                    self.set_wish(now, subscription, wish);
                }
                Ok(())
            }
            Command::SendData { participant, label, delivery, payload } => {
                let key = self.participant_key(participant)?;
                let limit = self.settings.limits.data_buffer_bytes;
                let data = self.participants[key].data.get_or_insert_with(|| Box::new(DataChannels::new(limit)));
                if data.send(label, payload, delivery == Delivery::Reliable) == Sent::Dropped {
                    out.counters.discard(Discard::LimitReached);
                }
                self.drive_secure_channel(now, key, out);
                Ok(())
            }
            Command::LimitBandwidth { participant, bitrate_bps } => {
                let key = self.participant_key(participant)?;
                self.limit_bandwidth(now, key, bitrate_bps);
                Ok(())
            }
        }
    }

    /// Gives a participant that has a transport its media keys in place of a DTLS handshake: for a virtual world, whose
    /// runs must not depend on entropy that DTLS draws by itself. The address is still learned by ICE alone.
    #[doc(hidden)]
    pub fn install_keys(&mut self, participant: ParticipantId, keys: &MasterKeys) -> Result<(), Refusal> {
        let key = self.participant_key(participant)?;
        let (sender, receiver) = keys.server_contexts();
        let participant = &mut self.participants[key];
        participant.dtls = None;
        participant.sender = Some(sender);
        participant.receiver = Some(receiver);
        Ok(())
    }

    fn participant_key(&self, participant: ParticipantId) -> Result<usize, Refusal> {
        self.participant_keys.get(&participant).copied().ok_or(Refusal::UnknownParticipant)
    }

    fn subscription_key(&self, participant: ParticipantId, track: TrackId) -> Option<usize> {
        let subscriber = *self.participant_keys.get(&participant)?;
        let track = &self.tracks[*self.track_keys.get(&track)?];
        track.subscriptions.iter().copied().find(|&key| self.subscriptions[key].subscriber == subscriber)
    }

    fn join(&mut self, now: Now, room: RoomId, id: ParticipantId) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        if self.participant_keys.contains_key(&id) {
            return Err(Refusal::Conflict);
        }
        let present = self.rooms.get(&room).map_or(0, |room| room.participants.len());
        if self.participants.len() >= limits.participants || present >= limits.participants_per_room {
            return Err(Refusal::LimitReached);
        }
        let feedback_ssrc = self.entropy.u32();
        let key = self.participants.insert(Box::new(Participant::new(id, room, feedback_ssrc, now.instant)));
        self.participant_keys.insert(id, key);
        self.rooms.entry(room).or_default().participants.push(key);
        self.wake(key, now.instant);
        self.schedule_uplink(now);
        Ok(())
    }

    fn set_transport(&mut self, now: Now, key: usize, transport: &TransportSpec) -> Result<(), Refusal> {
        let participant = &mut self.participants[key];
        if participant.ice.as_ref().is_some_and(|ice| ice.is_current(&transport.local_ice)) {
            return Ok(());
        }
        if !self.routes.is_free(&transport.local_ice.ufrag) {
            return Err(Refusal::Conflict);
        }
        match &mut participant.ice {
            None => {
                participant.ice = Some(IceLite::new(&transport.local_ice, &transport.remote_ice));
                let certificate = &self.settings.certificate;
                let session = DtlsSession::new(certificate, transport.remote_fingerprint, now.instant);
                participant.dtls = Some(Box::new(session));
            }
            Some(ice) => {
                if let Some(retired) = ice.restart(&transport.local_ice, &transport.remote_ice) {
                    self.routes.remove_ufrag(&retired);
                }
            }
        }
        self.routes.add_ufrag(&transport.local_ice.ufrag, key);
        Ok(())
    }

    fn leave(&mut self, now: Now, key: usize, out: &mut Outbox) {
        while let Some(&track) = self.participants[key].tracks.last() {
            self.unpublish(now, track);
        }
        while let Some(sink) = self.participants[key].sinks.last() {
            let subscription = sink.subscription;
            self.unsubscribe(now, subscription);
        }
        self.backlog.forget(key);
        self.leave_shared_link(now, key);
        let participant = self.participants.remove(key);
        self.participant_keys.remove(&participant.id);
        if let Some(ice) = &participant.ice {
            ice.ufrags().for_each(|ufrag| self.routes.remove_ufrag(ufrag));
            for five_tuple in ice.five_tuples() {
                self.routes.unbind(five_tuple, key);
                let_go(five_tuple, out);
            }
        }
        if let Some(room) = self.rooms.get_mut(&participant.room) {
            room.participants.retain(|&present| present != key);
            if room.participants.is_empty() {
                self.rooms.remove(&participant.room);
            }
        }
    }

    fn publish(&mut self, now: Now, key: usize, id: TrackId, spec: TrackSpec) -> Result<(), Refusal> {
        let participant = &mut self.participants[key];
        if participant.tracks.len() >= self.settings.limits.tracks_per_participant {
            return Err(Refusal::LimitReached);
        }
        if self.track_keys.contains_key(&id) || spec.encodings.is_empty() || spec.encodings.len() > 3 {
            return Err(Refusal::Conflict);
        }
        merge(&mut participant.extensions, &spec.extensions);
        let known: Vec<_> = spec.encodings.iter().map(|encoding| (encoding.ssrc, encoding.rtx_ssrc)).collect();
        let track = self.tracks.insert(PublishedTrack::new(id, key, spec));
        self.track_keys.insert(id, track);
        participant.tracks.push(track);
        for (encoding, (ssrc, rtx_ssrc)) in (0u8..).zip(known) {
            for (ssrc, is_repair) in [(ssrc, false), (rtx_ssrc, true)] {
                if let Some(ssrc) = ssrc {
                    participant.bind_source(Source { ssrc, track, encoding, is_repair });
                }
            }
        }
        self.wake(key, now.instant);
        Ok(())
    }

    fn unpublish(&mut self, now: Now, key: usize) {
        while let Some(&subscription) = self.tracks[key].subscriptions.last() {
            self.unsubscribe(now, subscription);
        }
        let track = self.tracks.remove(key);
        self.track_keys.remove(&track.id);
        let publisher = &mut self.participants[track.publisher];
        publisher.tracks.retain(|&published| published != key);
        publisher.sources.retain(|source| source.track != key);
    }

    fn subscribe(&mut self, now: Now, key: usize, id: TrackId, spec: SubscriptionSpec) -> Result<(), Refusal> {
        // The track may have gone while the command was under way.
        let Some(&track) = self.track_keys.get(&id) else { return Ok(()) };
        let subscriber = &mut self.participants[key];
        let publisher = self.tracks[track].publisher;
        if publisher == key {
            return Err(Refusal::Conflict);
        }
        assert_eq!(
            self.rooms.get(&subscriber.room).map(|room| room.participants.contains(&publisher)),
            Some(true),
            "a subscription across rooms"
        );
        if subscriber.is_spent() || subscriber.sinks.len() >= 2 * self.settings.limits.subscriptions_per_participant {
            return Err(Refusal::LimitReached);
        }
        let taken = |ssrc| !subscriber.is_unused(ssrc);
        let already = self.tracks[track].subscriptions.iter().any(|&known| self.subscriptions[known].subscriber == key);
        if already || taken(spec.ssrc) || spec.rtx_ssrc.is_some_and(|ssrc| taken(ssrc) || ssrc == spec.ssrc) {
            return Err(Refusal::Conflict);
        }
        let (ssrc, rtx_ssrc) = (spec.ssrc, spec.rtx_ssrc);
        if spec.extensions.transport_cc.is_some() {
            subscriber.estimate.expect_feedback();
        }
        let subscription = Subscription::new(track, key, spec, &self.tracks[track].spec, &mut self.entropy);
        let subscription = self.subscriptions.insert(Box::new(subscription));
        subscriber.add_sink(Sink { ssrc, subscription, is_repair: false });
        if let Some(ssrc) = rtx_ssrc {
            subscriber.add_sink(Sink { ssrc, subscription, is_repair: true });
        }
        self.tracks[track].subscriptions.push(subscription);
        self.start_subscription(now, subscription);
        self.report_wanted_encodings(track);
        Ok(())
    }

    fn unsubscribe(&mut self, now: Now, key: usize) {
        let subscription = self.subscriptions.remove(key);
        let track = &mut self.tracks[subscription.track];
        track.subscriptions.retain(|&known| known != key);
        if track.subscriptions.is_empty() {
            track.want_nothing();
        }
        let subscriber = &mut self.participants[subscription.subscriber];
        subscriber.remove_sinks(key);
        subscriber.pacer.retain(|departure| departure.subscription != key);
        self.report_wanted_encodings(subscription.track);
        // What it took is free for the subscriber's other videos.
        self.wake(subscription.subscriber, now.instant);
    }
}

/// Adds what another section negotiated.
fn merge(known: &mut ExtensionIds, more: &ExtensionIds) {
    known.mid = more.mid.or(known.mid);
    known.rid = more.rid.or(known.rid);
    known.repaired_rid = more.repaired_rid.or(known.repaired_rid);
    known.audio_level = more.audio_level.or(known.audio_level);
    known.transport_cc = more.transport_cc.or(known.transport_cc);
    known.abs_send_time = more.abs_send_time.or(known.abs_send_time);
    known.abs_capture_time = more.abs_capture_time.or(known.abs_capture_time);
    known.dependency_descriptor = more.dependency_descriptor.or(known.dependency_descriptor);
}
