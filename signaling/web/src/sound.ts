import { type RemoteTrack, type Room, Track } from 'livekit-client';
import { el } from './dom';

/** Plays what the others say: one audio element for each of their sound tracks. */
export class Sound {
  readonly element = el('div', { class: 'unseen', 'aria-hidden': 'true' });
  private readonly players = new Map<RemoteTrack, HTMLAudioElement>();

  constructor(private readonly room: Room) {}

  /**
   * Brings the players in line with the room. It looks instead of listening for TrackSubscribed,
   * since livekit-client 2.23 loses that event for tracks that come within two seconds after a
   * full reconnect, and silence would be the result.
   */
  update(): void {
    const wanted = new Set<RemoteTrack>();
    for (const participant of this.room.remoteParticipants.values()) {
      for (const { track } of participant.audioTrackPublications.values()) {
        if (track?.kind === Track.Kind.Audio) wanted.add(track as RemoteTrack);
      }
    }
    for (const [track, player] of this.players) {
      if (wanted.has(track)) continue;
      track.detach(player);
      player.remove();
      this.players.delete(track);
    }
    for (const track of wanted) {
      if (this.players.has(track)) continue;
      const player = el('audio', { autoplay: true });
      this.element.append(player);
      track.attach(player);
      this.players.set(track, player);
    }
  }

  close(): void {
    for (const [track, player] of this.players) track.detach(player);
    this.players.clear();
    this.element.remove();
  }
}
