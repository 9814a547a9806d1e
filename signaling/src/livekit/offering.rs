//! An offer comes in: what the client publishes is taken up, what it waits for is bound to sections, and it is answered.

use std::collections::HashMap;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{SessionDescription, SubscriptionError, SubscriptionResponse, TrackSubscribed};
use sfu::{Command, ParticipantId, SubscriptionSpec, TrackId, TransportSpec};

use super::identifier;
use super::negotiation::Carries;
use super::room::{Context, Room};
use super::sdp::codec::{self, Choice};
use super::sdp::extension;
use super::sdp::{Answer, Offer, OfferError, Section, SectionAnswer, SectionKind, SendStream};
use super::subscription::Bound;
use super::timers::Timer;

impl Room {
    pub fn handle_offer(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        id: u32,
        offer: Result<Offer, OfferError>,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let applied = offer.map_err(|error| tracing::debug!(?error, "offer refused")).and_then(|offer| {
            let restarted =
                session.negotiation.apply(&offer).map_err(|conflict| tracing::debug!(?conflict, "offer refused"))?;
            Ok((offer, restarted))
        });
        let Ok((offer, restarted)) = applied else {
            // A client cannot be told that its offer is wrong; it begins anew instead.
            return self.restart_client(ctx, participant);
        };
        // What the client still lacks after this one is asked for as always, not when it would have been otherwise.
        ctx.timers.cancel(Timer::Negotiate(participant));
        if restarted {
            let local_ice = identifier::ice_credentials(ctx.entropy, self.worker);
            session.negotiation.local_ice = Some(local_ice.clone());
            let transport =
                TransportSpec { local_ice, remote_ice: offer.ice.clone(), remote_fingerprint: offer.fingerprint };
            self.command(ctx, Command::SetTransport { participant, transport });
        }
        let ended = self.end_what_is_not_sent(ctx, participant, &offer);
        self.release_sections(ctx, participant, &offer);
        self.bind_waiting(ctx, participant, &offer);
        let mut begun = Vec::new();
        let sections: Vec<SectionAnswer> =
            offer.sections.iter().map(|section| self.answer_section(ctx, participant, section, &mut begun)).collect();
        self.send_answer(ctx, participant, id, &offer, sections);
        for track in &begun {
            if let Some(spec) = self.spec(participant, *track) {
                self.command(ctx, Command::Publish { participant, track: *track, spec });
            }
        }
        if ended || !begun.is_empty() {
            // Others have to know of a track before a description names it.
            self.announce(ctx, participant, false);
            self.schedule_update(ctx);
        }
        for track in begun {
            self.consider_track(ctx, participant, track);
        }
        self.schedule_negotiation(ctx, participant);
    }

    fn spec(&self, participant: ParticipantId, track: TrackId) -> Option<sfu::TrackSpec> {
        let publication = self.sessions.get(&participant)?.publications.get(&track)?;
        Some(publication.live.as_ref()?.spec.clone())
    }

    /// A section that the client stopped, or in which it now sends another track, ends the track it carried.
    fn end_what_is_not_sent(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, offer: &Offer) -> bool {
        let mut ended = Vec::new();
        if let Some(session) = self.sessions.get_mut(&participant) {
            for section in &offer.sections {
                let Carries::Up(track) = session.negotiation.carries(&section.mid) else {
                    continue;
                };
                let live = session.publications.get(&track).and_then(|publication| publication.live.as_ref());
                let same = live.is_some_and(|live| live.msid == section.track_id);
                if !section.direction.sends() || section.rejected || !same {
                    session.negotiation.set(&section.mid, Carries::Nothing);
                    ended.push(track);
                }
            }
        }
        for track in &ended {
            self.drop_publication(ctx, participant, *track);
        }
        !ended.is_empty()
    }

    /// Takes our streams out of sections that the client no longer receives in. They wait for another.
    fn release_sections(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, offer: &Offer) {
        let mut released = Vec::new();
        if let Some(session) = self.sessions.get_mut(&participant) {
            for section in &offer.sections {
                let Carries::Down(track) = session.negotiation.carries(&section.mid) else {
                    continue;
                };
                if !section.direction.receives() || section.rejected {
                    // One that is rejected is answered as such, and nobody waits for its end.
                    let carries = if section.rejected { Carries::Nothing } else { Carries::Ended };
                    session.negotiation.set(&section.mid, carries);
                    if let Some(subscription) = session.subscriptions.get_mut(&track) {
                        subscription.bound = None;
                        released.push(track);
                    }
                }
            }
        }
        for track in released {
            self.command(ctx, Command::Unsubscribe { participant, track });
        }
    }

    /// Gives sections to the subscriptions that wait for one, the oldest track first.
    fn bind_waiting(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, offer: &Offer) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let mut bound = Vec::new();
        for (track, subscription) in &mut session.subscriptions {
            if subscription.bound.is_some() || subscription.impossible {
                continue;
            }
            let Some(mid) = session.negotiation.free_section(subscription.kind) else {
                continue;
            };
            let Some(section) = offer.sections.iter().find(|section| section.mid == mid) else {
                continue;
            };
            let Some(choice) = codec::choose_for_subscriber(section, subscription.codec) else {
                subscription.impossible = true;
                let message = Message::SubscriptionResponse(SubscriptionResponse {
                    track_sid: subscription.track_sid.clone(),
                    err: SubscriptionError::SeCodecUnsupported as i32,
                });
                ctx.send(session.connection, message);
                continue;
            };
            let format = section.format(choice.payload_type);
            let nack = format.is_some_and(|format| format.feedback.iter().any(|feedback| feedback == "nack"));
            let spec = SubscriptionSpec {
                mid: section.mid.clone(),
                ssrc: subscription.ssrc,
                rtx_ssrc: choice.rtx_payload_type.map(|_| subscription.rtx_ssrc),
                payload_type: choice.payload_type,
                rtx_payload_type: choice.rtx_payload_type,
                extensions: extension::subscribed_ids(section, subscription.kind),
                nack,
                wish: sfu::LayerWish::EVERYTHING,
            };
            let mid = mid.to_owned();
            session.negotiation.set(&mid, Carries::Down(*track));
            subscription.bound = Some(Bound { mid, choice });
            bound.push((*track, subscription.track_sid.clone(), subscription.publisher, spec));
        }
        for (track, sid, publisher, mut spec) in bound {
            spec.wish = self.wish(participant, &sid);
            self.command(ctx, Command::Subscribe { participant, track, spec });
            self.tell_first_subscriber(ctx, publisher, track, sid);
        }
    }

    fn tell_first_subscriber(
        &mut self,
        ctx: &mut Context<'_>,
        publisher: ParticipantId,
        track: TrackId,
        track_sid: String,
    ) {
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        let Some(publication) = session.publications.get_mut(&track) else {
            return;
        };
        if !std::mem::replace(&mut publication.had_subscriber, true) {
            let message = Message::TrackSubscribed(TrackSubscribed { track_sid });
            ctx.send(session.connection, message);
        }
    }

    fn answer_section(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        section: &Section,
        begun: &mut Vec<TrackId>,
    ) -> SectionAnswer {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return SectionAnswer::Rejected;
        };
        if section.rejected || section.kind == SectionKind::Unknown {
            return SectionAnswer::Rejected;
        }
        if section.kind == SectionKind::Application {
            return SectionAnswer::Application;
        }
        if codec::supported(section).is_empty() {
            return SectionAnswer::Foreign;
        }
        match session.negotiation.carries(&section.mid) {
            Carries::Up(track) => {
                let agreed = session.publications.get(&track).and_then(|publication| {
                    let live = publication.live.as_ref()?;
                    let choice = Choice {
                        key: live.codec,
                        payload_type: live.spec.payload_type,
                        rtx_payload_type: live.spec.rtx_payload_type,
                    };
                    Some(receive(choice, publication.fmtp(section), section))
                });
                agreed.unwrap_or(SectionAnswer::Idle)
            }
            Carries::Down(track) => match session.subscriptions.get(&track) {
                Some(subscription) => match &subscription.bound {
                    Some(bound) => SectionAnswer::Send(SendStream {
                        choice: bound.choice,
                        stream_id: subscription.stream_id.clone(),
                        track_id: subscription.track_sid.clone(),
                        ssrc: subscription.ssrc,
                        rtx_ssrc: bound.choice.rtx_payload_type.map(|_| subscription.rtx_ssrc),
                    }),
                    None => SectionAnswer::Idle,
                },
                None => SectionAnswer::Idle,
            },
            Carries::Ended => {
                session.negotiation.set(&section.mid, Carries::Nothing);
                SectionAnswer::Idle
            }
            Carries::Nothing if section.direction.sends() => {
                let kind = match section.kind {
                    SectionKind::Audio => sfu::Kind::Audio,
                    _ => sfu::Kind::Video,
                };
                // The client's track id names it; some clients rename their tracks, then it is the first announced.
                let pending = || {
                    session
                        .publications
                        .values()
                        .filter(|publication| publication.live.is_none() && publication.kind == kind)
                };
                let named = |name: &String| pending().find(|publication| publication.has_cid(name));
                let found = section
                    .track_id
                    .as_ref()
                    .and_then(named)
                    .or_else(|| pending().next())
                    .map(|publication| publication.id);
                let live = found.and_then(|track| session.publications.get_mut(&track)).and_then(|publication| {
                    let (choice, fmtp) = publication.go_live(section, ctx.now.instant)?;
                    Some((publication.id, choice, fmtp))
                });
                match live {
                    Some((track, choice, fmtp)) => {
                        session.negotiation.set(&section.mid, Carries::Up(track));
                        begun.push(track);
                        receive(choice, fmtp, section)
                    }
                    None => SectionAnswer::Idle,
                }
            }
            Carries::Nothing => SectionAnswer::Idle,
        }
    }

    fn send_answer(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        id: u32,
        offer: &Offer,
        sections: Vec<SectionAnswer>,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let Some(ice) = &session.negotiation.local_ice else {
            return;
        };
        let mid_to_track_id: HashMap<String, String> = offer
            .sections
            .iter()
            .zip(&sections)
            .filter_map(|(section, answer)| match answer {
                SectionAnswer::Send(stream) => Some((section.mid.clone(), stream.track_id.clone())),
                _ => None,
            })
            .collect();
        let answer = Answer {
            session_id: session.negotiation.session_id,
            session_version: session.negotiation.session_version,
            ice,
            fingerprint: ctx.settings.fingerprint,
            candidates: &ctx.settings.candidates,
            tcp_candidates: &ctx.settings.tcp_candidates,
            sections,
        };
        let sdp = answer.write(offer);
        session.negotiation.session_version += 1;
        // The client's number, also when it is 0: by it the client knows which offer was answered.
        let message = Message::Answer(SessionDescription { r#type: "answer".into(), sdp, id, mid_to_track_id });
        ctx.send(session.connection, message);
    }
}

fn receive(choice: Choice, fmtp: Option<String>, section: &Section) -> SectionAnswer {
    SectionAnswer::Receive { choice, fmtp, rids: section.send_rids.clone() }
}
