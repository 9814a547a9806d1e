import {
  type DisconnectReason,
  ExternalE2EEKeyProvider,
  type LocalTrack,
  type Participant,
  Room,
  RoomEvent,
  type RoomOptions,
  Track,
  VideoPresets,
} from 'livekit-client';
import type { Address } from './address';
import { linkTo } from './address';
import { Controls } from './controls';
import { el } from './dom';
import { icon } from './icon';
import type { Entry } from './lobby';
import type { Notices } from './notice';
import { deviceSentence, endSentence, joinSentence, screenSentence } from './sentence';
import { Sound } from './sound';
import { Stage } from './stage';
import type { Ticket } from './token';
import { Lasting, ownSentence, pausedCount } from './weak-link';

const SAMPLE_MS = 1000;
/** A weak connection is spoken of for so long after it was one. */
const WEAK_MS = 3000;

/** A call that failed before one was in it; `message` is ready to be shown. */
export class JoinError extends Error {}

/** The second screen: one call, from joining to leaving. */
export class Call {
  readonly element: HTMLElement;
  readonly room: Room;
  private readonly stage: Stage;
  private readonly controls: Controls;
  private readonly count = el('span', { class: 'count' });
  private readonly sound: Sound;
  private readonly address: Address;
  private sampler: ReturnType<typeof setInterval> | undefined;
  private readonly weak = new Lasting(WEAK_MS);
  private saidWeak: string | undefined;
  private updateQueued = false;
  private signalled = false;
  private joined = false;
  private leaving = false;

  constructor(
    private readonly entry: Entry,
    private readonly notices: Notices,
    /** `sentence` is undefined when the person left on purpose. */
    private readonly onEnd: (sentence: string | undefined) => void,
  ) {
    this.address = { room: entry.room, passphrase: entry.passphrase };
    this.room = new Room(this.roomOptions());
    this.controls = new Controls({
      microphone: () => this.setMicrophone(!this.room.localParticipant.isMicrophoneEnabled),
      camera: () => this.setCamera(!this.room.localParticipant.isCameraEnabled),
      screen: () => this.setScreen(!this.room.localParticipant.isScreenShareEnabled),
      graphs: () => this.element.classList.toggle('graphs'),
      leave: () => this.leave(),
    });

    const copy = el('button', { type: 'button', class: 'quiet', title: 'Copy a link to this room' }, icon('link'), el('span', {}, 'Copy link'));
    copy.addEventListener('click', () => void this.copyLink());
    const invite = el('button', { type: 'button', class: 'primary small' }, icon('link'), 'Copy link');
    invite.addEventListener('click', () => void this.copyLink());
    const nobody = el('div', { class: 'nobody' }, el('p', {}, 'Nobody else is here yet.'), invite);

    this.sound = new Sound(this.room);
    this.stage = new Stage(this.room, nobody);
    const title = el('h1', {}, entry.room);
    const head = el('header', { class: 'call-head' }, title, this.count);
    if (entry.passphrase) head.append(el('span', { class: 'sealed', title: 'End-to-end encrypted' }, icon('lock'), el('span', {}, 'encrypted')));
    head.append(copy);
    this.element = el('div', { class: 'call graphs' }, head, this.stage.element, this.controls.element, this.sound.element);
    this.listen();
  }

  async join(ticket: Ticket): Promise<void> {
    try {
      if (this.entry.passphrase) await this.room.setE2EEEnabled(true);
      await this.room.connect(ticket.url, ticket.token);
    } catch (error) {
      this.leaving = true;
      const sentence = joinSentence(error, this.signalled, this.mediaPorts());
      await this.room.disconnect(true).catch(() => undefined);
      this.close();
      throw new JoinError(sentence);
    }
    this.joined = true;
    this.update();
    this.sampler = setInterval(() => {
      this.update();
      void this.stage.sample();
    }, SAMPLE_MS);
    await Promise.all(this.entry.tracks.map((track) => this.publish(track)));
  }

  /** Publishing is part of the call: a track that fails leaves the call as it is. */
  private async publish(track: LocalTrack): Promise<void> {
    try {
      await this.room.localParticipant.publishTrack(track);
    } catch {
      track.stop();
      const what = track.kind === Track.Kind.Video ? 'picture' : 'sound';
      if (!this.leaving) this.notices.show(`publish-${what}`, 'error', `The server did not take your ${what}. Switch it off and on to try again.`);
    }
    this.update();
  }

  private roomOptions(): RoomOptions {
    const options: RoomOptions = {
      adaptiveStream: true,
      dynacast: true,
      videoCaptureDefaults: { resolution: VideoPresets.h720.resolution },
      publishDefaults: {
        simulcast: true,
        videoSimulcastLayers: [VideoPresets.h180, VideoPresets.h360],
        videoCodec: codecFromQuery(),
        dtx: true,
        red: false,
        stopMicTrackOnMute: false,
      },
    };
    if (this.entry.passphrase) {
      const keyProvider = new ExternalE2EEKeyProvider();
      void keyProvider.setKey(this.entry.passphrase);
      options.e2ee = { keyProvider, worker: new Worker('e2ee-worker.js', { type: 'module' }) };
    }
    return options;
  }

  private listen(): void {
    const { room } = this;
    const update = () => this.update();
    for (const event of [
      RoomEvent.TrackSubscribed,
      RoomEvent.TrackUnsubscribed,
      RoomEvent.TrackPublished,
      RoomEvent.TrackUnpublished,
      RoomEvent.TrackMuted,
      RoomEvent.TrackUnmuted,
      RoomEvent.LocalTrackPublished,
      RoomEvent.LocalTrackUnpublished,
      RoomEvent.ActiveSpeakersChanged,
      RoomEvent.ParticipantNameChanged,
      RoomEvent.ConnectionStateChanged,
      RoomEvent.TrackStreamStateChanged,
      RoomEvent.ConnectionQualityChanged,
    ] as const) {
      room.on(event, update);
    }
    room
      .on(RoomEvent.SignalConnected, () => {
        this.signalled = true;
      })
      .on(RoomEvent.ParticipantConnected, (participant) => this.announce(participant, 'joined'))
      .on(RoomEvent.ParticipantDisconnected, (participant) => this.announce(participant, 'left'))
      .on(RoomEvent.TrackSubscriptionFailed, (_sid, participant) => {
        this.notices.show('subscription', 'warning', `Something that ${nameOf(participant)} shares cannot be shown.`, { seconds: 8 });
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => {
        if (room.canPlaybackAudio) this.notices.clear('playback');
        else
          this.notices.show('playback', 'info', 'Your browser waits for a click before it plays sound.', {
            action: { label: 'Play sound', run: () => void room.startAudio() },
          });
      })
      .on(RoomEvent.EncryptionError, () => {
        this.notices.show('e2ee', 'error', 'Somebody here uses another passphrase: you cannot see or hear each other.');
      })
      .on(RoomEvent.SignalReconnecting, () => void this.sayReconnecting())
      .on(RoomEvent.Reconnecting, () => void this.sayReconnecting())
      .on(RoomEvent.Reconnected, () => {
        this.element.classList.remove('waiting');
        this.notices.clear('line');
        this.notices.show('back', 'info', 'Back in the call.', { seconds: 3 });
        this.update();
      })
      .on(RoomEvent.Disconnected, (reason) => this.ended(reason));
  }

  /** The browser only knows that the line broke; one question to the server says which side it was. */
  private async sayReconnecting(): Promise<void> {
    this.element.classList.add('waiting');
    if (!navigator.onLine) {
      this.notices.show('line', 'warning', 'This computer is offline. Waiting for the network…');
      return;
    }
    this.notices.show('line', 'warning', 'The connection broke. Reconnecting…');
    let answers = false;
    try {
      answers = (await fetch('.', { method: 'HEAD', cache: 'no-store', signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      // No answer is the answer.
    }
    if (!answers && this.element.classList.contains('waiting')) {
      this.notices.show('line', 'warning', 'The server does not answer; it may be restarting. Reconnecting…');
    }
  }

  private sayWeak(): void {
    const { localParticipant, remoteParticipants } = this.room;
    const paused = (...sources: Track.Source[]) => pausedCount(remoteParticipants.values(), sources);
    const [pictures, voices] = [paused(Track.Source.Camera, Track.Source.ScreenShare), paused(Track.Source.Microphone)];
    const now = ownSentence(localParticipant.connectionQuality, pictures, voices);
    const text = this.weak.update(now, performance.now());
    if (text === this.saidWeak) return;
    this.saidWeak = text;
    if (text) this.notices.show('weak', 'warning', text);
    else this.notices.clear('weak');
  }

  private announce(participant: Participant, what: 'joined' | 'left'): void {
    this.notices.announce(`${nameOf(participant)} ${what}`);
    this.update();
  }

  private update(): void {
    if (this.updateQueued) return;
    this.updateQueued = true;
    queueMicrotask(() => {
      this.updateQueued = false;
      this.stage.update();
      this.sound.update();
      this.sayWeak();
      const { localParticipant: me, remoteParticipants } = this.room;
      const people = remoteParticipants.size + 1;
      this.count.textContent = people === 1 ? 'only you' : `${people} people`;
      this.controls.show({ microphone: me.isMicrophoneEnabled, camera: me.isCameraEnabled, screen: me.isScreenShareEnabled });
    });
  }

  private async setMicrophone(on: boolean): Promise<void> {
    await this.switchDevice('microphone', () => this.room.localParticipant.setMicrophoneEnabled(on));
  }

  private async setCamera(on: boolean): Promise<void> {
    await this.switchDevice('camera', () => this.room.localParticipant.setCameraEnabled(on));
  }

  private async switchDevice(device: 'camera' | 'microphone', change: () => Promise<unknown>): Promise<void> {
    try {
      await change();
      this.notices.clear(device);
    } catch (error) {
      this.notices.show(device, 'error', deviceSentence(device, error));
    }
    this.update();
  }

  private async setScreen(on: boolean): Promise<void> {
    try {
      await this.room.localParticipant.setScreenShareEnabled(on, {
        audio: true,
        contentHint: 'detail',
        selfBrowserSurface: 'include',
        surfaceSwitching: 'include',
      });
      this.notices.clear('screen');
    } catch (error) {
      const sentence = screenSentence(error);
      if (sentence) this.notices.show('screen', 'error', sentence);
    }
    this.update();
  }

  private async copyLink(): Promise<void> {
    const link = linkTo(new URL(location.href), this.address);
    try {
      await navigator.clipboard.writeText(link);
      this.notices.show('link', 'info', 'The link is in your clipboard. Send it to the others.', { seconds: 4 });
    } catch {
      // Without https there is no clipboard.
      this.notices.show('link', 'info', `Send this link to the others: ${link}`);
    }
  }

  private async leave(): Promise<void> {
    this.leaving = true;
    await this.room.disconnect(true);
    this.close();
    this.onEnd(undefined);
  }

  private ended(reason: DisconnectReason | undefined): void {
    // Before one is in the call, `join` says what went wrong.
    if (this.leaving || !this.joined) return;
    this.leaving = true;
    this.close();
    this.onEnd(endSentence(reason));
  }

  private close(): void {
    clearInterval(this.sampler);
    for (const track of this.entry.tracks) track.stop();
    this.controls.close();
    this.stage.close();
    this.sound.close();
    this.notices.clear('weak');
    this.room.removeAllListeners();
    this.element.remove();
  }

  /** `UDP 3478`, or whatever ports the server named as its candidates. */
  private mediaPorts(): string {
    const ports = new Set<string>();
    const description = this.room.engine?.pcManager?.publisher?.getRemoteDescription?.();
    for (const match of description?.sdp?.matchAll(/^a=candidate:\S+ \d+ (udp|tcp) \d+ \S+ (\d+) /gim) ?? []) {
      ports.add(`${match[1]!.toUpperCase()} ${match[2]}`);
    }
    return ports.size > 0 ? [...ports].slice(0, 3).join(' or ') : 'UDP 3478';
  }
}

function nameOf(participant: Participant): string {
  return participant.name || participant.identity;
}

/** `?codec=h264` publishes H.264 instead of VP8. */
function codecFromQuery(): 'vp8' | 'h264' {
  return new URLSearchParams(location.search).get('codec') === 'h264' ? 'h264' : 'vp8';
}
