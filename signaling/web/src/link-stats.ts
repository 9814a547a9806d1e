/** Reads what getStats says about one tile's tracks and turns counters into rates. */

import type { Participant, Track } from 'livekit-client';
import { LocalTrack, RemoteTrack } from 'livekit-client';

export interface LinkSample {
  /** Bits per second that this tile's tracks receive (or, for our own tile, send). */
  bitrateBps: number;
  /** Share of packets lost since the last sample, 0..1. */
  loss: number;
  /** Round trip to the server, milliseconds; undefined until something measured it. */
  rttMs: number | undefined;
  /** What the decoder (or encoder) delivers, for the tooltip: `640×360, 24 fps`. */
  picture: string | undefined;
}

interface Counters {
  atMs: number;
  bytes: number;
  packets: number;
  lost: number;
}

export class LinkStats {
  private last: Counters | undefined;

  /** Tracks of one tile; a track that changed makes the counters jump, which reads as a restart. */
  async sample(tracks: Track[]): Promise<LinkSample | undefined> {
    const now: Counters = { atMs: performance.now(), bytes: 0, packets: 0, lost: 0 };
    let rttMs: number | undefined;
    let picture: string | undefined;
    let measured = false;
    for (const track of tracks) {
      const report = await reportOf(track);
      if (!report) continue;
      measured = true;
      for (const stat of report.values()) {
        switch (stat.type) {
          case 'inbound-rtp':
            now.bytes += stat.bytesReceived ?? 0;
            now.packets += stat.packetsReceived ?? 0;
            now.lost += Math.max(0, stat.packetsLost ?? 0);
            if (stat.frameWidth) picture = describe(stat);
            break;
          case 'outbound-rtp':
            now.bytes += stat.bytesSent ?? 0;
            now.packets += stat.packetsSent ?? 0;
            if (stat.frameWidth && stat.active !== false) picture = describe(stat);
            break;
          case 'remote-inbound-rtp':
            now.lost += Math.max(0, stat.packetsLost ?? 0);
            if (rttMs === undefined && stat.roundTripTime) rttMs = stat.roundTripTime * 1000;
            break;
          case 'candidate-pair':
            if (stat.nominated && stat.currentRoundTripTime !== undefined) rttMs = stat.currentRoundTripTime * 1000;
            break;
        }
      }
    }
    const before = this.last;
    this.last = measured ? now : undefined;
    if (!measured || !before) return undefined;
    const seconds = (now.atMs - before.atMs) / 1000;
    const bytes = now.bytes - before.bytes;
    const packets = now.packets - before.packets;
    const lost = now.lost - before.lost;
    if (seconds <= 0 || bytes < 0 || packets < 0) return undefined;
    const expected = packets + Math.max(0, lost);
    return {
      bitrateBps: (bytes * 8) / seconds,
      loss: expected > 0 ? Math.min(1, Math.max(0, lost) / expected) : 0,
      rttMs,
      picture,
    };
  }
}

/** The tracks whose traffic a participant's tile stands for. */
export function tracksOf(participant: Participant, sources: Track.Source[]): Track[] {
  const tracks: Track[] = [];
  for (const source of sources) {
    const track = participant.getTrackPublication(source)?.track;
    if (track) tracks.push(track);
  }
  return tracks;
}

async function reportOf(track: Track): Promise<RTCStatsReport | undefined> {
  try {
    if (track instanceof RemoteTrack) return await track.receiver?.getStats();
    if (track instanceof LocalTrack) return await track.sender?.getStats();
  } catch {
    // The connection was closed between two samples.
  }
  return undefined;
}

function describe(stat: { frameWidth: number; frameHeight: number; framesPerSecond?: number }): string {
  const size = `${stat.frameWidth}×${stat.frameHeight}`;
  return stat.framesPerSecond ? `${size}, ${Math.round(stat.framesPerSecond)} fps` : size;
}
