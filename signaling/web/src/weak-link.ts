/** What is said of weak connections, in words. */

import { ConnectionQuality, type Participant, RemoteTrackPublication, Track } from 'livekit-client';

/** What a tile shows of its participant's link and of ours. */
export interface TileLink {
  isLocal: boolean;
  /** The server paused this picture, since it does not fit through our link. */
  isPaused: boolean;
  /** Of the participant's own connection. */
  quality: ConnectionQuality;
}

export const PAUSED = 'Your connection is weak: video paused, audio kept.';

const LOUDEST = 'Your connection is weak: video paused, and only the loudest are heard.';

/** One sentence for the whole window, about our own link: so many pictures are paused, and so many voices left out. */
export function ownSentence(quality: ConnectionQuality, paused: number, unheard: number): string | undefined {
  if (unheard > 0) return LOUDEST;
  if (paused > 0) return PAUSED;
  return isWeak(quality) ? 'Your connection is weak: picture and sound may suffer.' : undefined;
}

/** What stands in the middle of a tile whose picture does not move. */
export function pausedSentence({ isPaused }: TileLink): string | undefined {
  return isPaused ? PAUSED : undefined;
}

/** What stands beside the name of somebody whose connection is weak. */
export function weakSentence({ isLocal, quality }: TileLink, name: string): string | undefined {
  if (!isWeak(quality)) return undefined;
  return isLocal ? 'Your connection is weak' : `${name}’s connection is weak`;
}

function isWeak(quality: ConnectionQuality): boolean {
  return quality === ConnectionQuality.Poor || quality === ConnectionQuality.Lost;
}

export function isPaused(participant: Participant, source: Track.Source): boolean {
  const publication = participant.getTrackPublication(source);
  if (!(publication instanceof RemoteTrackPublication) || publication.isMuted) return false;
  return publication.track?.streamState === Track.StreamState.Paused;
}

/** Tracks of others that the server paused. */
export function pausedCount(participants: Iterable<Participant>, sources: Track.Source[]): number {
  let count = 0;
  for (const participant of participants) {
    for (const source of sources) count += Number(isPaused(participant, source));
  }
  return count;
}

/** A sentence that comes at once and goes when it has not been true for a while: links swing. */
export class Lasting {
  private text: string | undefined;
  private trueAtMs = 0;

  constructor(private readonly holdMs: number) {}

  update(text: string | undefined, nowMs: number): string | undefined {
    if (text !== undefined) {
      this.text = text;
      this.trueAtMs = nowMs;
    } else if (nowMs - this.trueAtMs >= this.holdMs) {
      this.text = undefined;
    }
    return this.text;
  }
}
