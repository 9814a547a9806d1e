import { percent as share } from '../link-graph';
import type { Participant, Room } from './survey';

export { rate } from '../link-graph';

/** `null`: not known yet. */
export function percent(lost: number | null): string {
  return lost === null ? '–' : share(lost);
}

/** How long ago, in the two largest units. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 24) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${whole} s`;
}

export function people(count: number): string {
  return count === 1 ? '1 participant' : `${count} participants`;
}

/** The name of the Matrix room where there is one, else what is known instead. */
export function roomTitle(room: Room): string {
  return room.title ?? room.matrix_room ?? room.name;
}

export function personName(participant: Participant): string {
  return participant.member?.user_id ?? (participant.name || participant.identity);
}

export const SOURCES: Record<string, string> = {
  microphone: 'microphone',
  camera: 'camera',
  screen_share: 'screen',
  screen_share_audio: 'screen’s sound',
};

/** Why a participant gets less of a video than it wants. */
export const PORTIONS = { whole: '', idle: '', lowered: ' (no room for more)', paused: ' (paused: no room)' } as const;

export function source(name: string): string {
  return SOURCES[name] ?? 'other';
}

export const TRANSPORTS: Record<Participant['transport'], string> = {
  connecting: 'connecting',
  connected: 'connected',
  silent: 'no media',
  lost: 'gone, may come back',
};
