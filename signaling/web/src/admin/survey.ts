/** What `POST admin/survey` answers: see `Survey` in the server's `livekit/survey.rs`. */

export interface Survey {
  room_count: number;
  participant_count: number;
  rooms: Room[];
}

export interface Room {
  sid: string;
  name: string;
  matrix_room: string | null;
  title: string | null;
  since: number;
  participant_count: number;
  /** Of a watched room. */
  participants: Participant[];
}

export interface Participant {
  sid: string;
  identity: string;
  name: string;
  member: { room_id: string; user_id: string; device_id: string } | null;
  since: number;
  transport: 'connecting' | 'connected' | 'silent' | 'lost';
  socket: boolean;
  tracks: Track[];
  link: Link | null;
}

export interface Track {
  sid: string;
  source: string;
  video: boolean;
  muted: boolean;
  encodings_bps: number[];
}

export interface Link {
  round_trip_ms: number | null;
  up_bps: number;
  down_bps: number;
  /** null: nothing bounds it. */
  estimate_bps: number | null;
  wanted_bps: number;
  queue_ms: number;
  loss_up: number | null;
  loss_down: number | null;
  /** Of audio, after repair. */
  audio_lost: number | null;
  audio_copies: number;
  videos: { publisher: string; source: string; layer: number | null; layers: number; portion: 'whole' | 'lowered' | 'paused' | 'idle' }[];
}

/** What `GET admin/api/links` answers. */
export interface LinkEntry {
  sid: string;
  name: string;
  room: { sid: string; name: string };
  present: boolean;
  from: number | null;
  to: number | null;
}

/** What `GET admin/api/links/<sid>` answers: `LinkAnswer` in the server's `links/answer.rs`. */
export interface LinkAnswer {
  sid: string;
  name: string;
  sentences: string[];
}

/** The server's refusal, or that there was no answer. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

export class Operator {
  constructor(private readonly token: string) {}

  async survey(rooms: string[]): Promise<Survey> {
    return (await this.ask('survey', { rooms })).json() as Promise<Survey>;
  }

  async end(room: string): Promise<void> {
    await this.ask('end', { room });
  }

  async remove(room: string, participant: string): Promise<void> {
    await this.ask('remove', { room, participant });
  }

  async links(): Promise<LinkEntry[]> {
    return (await this.ask('api/links')).json() as Promise<LinkEntry[]>;
  }

  /** Times of day in its sentences are this browser's. */
  async link(sid: string): Promise<LinkAnswer> {
    const offset = -new Date().getTimezoneOffset();
    return (await this.ask(`api/links/${encodeURIComponent(sid)}?utc_offset_minutes=${offset}`)).json() as Promise<LinkAnswer>;
  }

  private async ask(what: string, body?: object): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`admin/${what}`, {
        method: body ? 'POST' : 'GET',
        headers: { Authorization: `Bearer ${this.token}` },
        ...(body ? { body: JSON.stringify(body) } : {}),
        signal: AbortSignal.timeout(8_000),
      });
    } catch {
      throw new Refused(0, 'The server does not answer.');
    }
    if (!response.ok) throw new Refused(response.status, await response.text());
    return response;
  }
}
