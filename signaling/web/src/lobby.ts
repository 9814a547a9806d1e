import { createLocalTracks, type LocalTrack, LocalVideoTrack, Track } from 'livekit-client';
import type { Address } from './address';
import { el } from './dom';
import { icon } from './icon';
import { type Device, devicesAreHidden, deviceSentence } from './sentence';

const NAME_KEY = 'hausruf.name';

export interface Entry {
  name: string;
  room: string;
  passphrase: string;
  /** Tracks of the preview; the call publishes them, so that nobody is asked twice. */
  tracks: LocalTrack[];
}

/** The first screen: how one looks, one's name, which room. */
export class Lobby {
  readonly element: HTMLElement;
  private readonly video = el('video', { playsinline: true, autoplay: true, muted: true, class: 'mirror', 'aria-hidden': 'true' });
  private readonly previewText = el('p', { class: 'preview-text' });
  /** Why one did not get into the call, and what is the matter with a device. */
  private readonly problem = el('p', { class: 'problem', role: 'alert', hidden: true });
  private readonly deviceProblem = el('p', { class: 'problem', role: 'alert', hidden: true });
  private readonly join = el('button', { class: 'primary', type: 'submit' }, 'Join');
  private readonly nameInput: HTMLInputElement;
  private readonly roomInput: HTMLInputElement;
  private readonly passInput: HTMLInputElement;
  private readonly micButton: HTMLButtonElement;
  private readonly cameraButton: HTMLButtonElement;
  private readonly tracks = new Map<Device, LocalTrack>();
  private starting: Promise<void> = Promise.resolve();
  private isStarting = false;
  private closed = false;

  constructor(address: Address, onEnter: (entry: Entry) => void) {
    this.nameInput = el('input', { id: 'name', name: 'name', autocomplete: 'name', maxlength: '64', required: true, placeholder: 'How the others see you' });
    this.roomInput = el('input', { id: 'room', name: 'room', maxlength: '128', required: true, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' });
    this.passInput = el('input', { id: 'passphrase', name: 'passphrase', type: 'password', autocomplete: 'off', placeholder: 'none' });
    this.nameInput.value = remembered();
    this.roomInput.value = address.room || 'kitchen';
    this.passInput.value = address.passphrase;
    this.micButton = this.toggle('microphone');
    this.cameraButton = this.toggle('camera');

    const form = el(
      'form',
      { class: 'lobby-form' },
      el('label', { for: 'name' }, 'Your name'),
      this.nameInput,
      el('label', { for: 'room' }, 'Room'),
      this.roomInput,
      el(
        'details',
        { open: address.passphrase !== '' },
        el('summary', {}, 'End-to-end encryption'),
        el('label', { for: 'passphrase' }, 'Passphrase'),
        this.passInput,
        el('p', { class: 'hint' }, 'Everybody in the room types the same one. The server never learns it.'),
      ),
      this.join,
      this.problem,
      this.deviceProblem,
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const name = this.nameInput.value.trim();
      const room = this.roomInput.value.trim();
      if (!name || !room) return;
      remember(name);
      this.problem.hidden = true;
      this.setBusy(true);
      if (this.isStarting) this.say('Answer your browser’s question about the camera and microphone first.');
      void this.starting.then(() => {
        const tracks = [...this.tracks.values()];
        onEnter({ name, room, passphrase: this.passInput.value, tracks });
      });
    });

    this.element = el(
      'div',
      { class: 'lobby' },
      el(
        'div',
        { class: 'lobby-card' },
        el(
          'div',
          { class: 'preview' },
          this.video,
          this.previewText,
          el('div', { class: 'preview-bar' }, this.micButton, this.cameraButton),
        ),
        el('div', { class: 'lobby-side' }, brand(), form),
      ),
    );
    this.showState();
  }

  /** Asks for both devices at once (one question in the browser), then for each alone. */
  start(): void {
    this.wait(this.startBoth());
    (this.nameInput.value ? this.join : this.nameInput).focus({ preventScroll: true });
  }

  /** The call failed before it began: the lobby stays, with the sentence under the button. */
  fail(sentence: string): void {
    this.problem.textContent = sentence;
    this.problem.hidden = false;
    this.setBusy(false);
  }

  /** Stops showing the preview; `keep` are tracks that now belong to the call. */
  close(keep: LocalTrack[]): void {
    this.closed = true;
    for (const track of this.tracks.values()) {
      track.detach();
      if (!keep.includes(track)) track.stop();
    }
    this.tracks.clear();
    this.element.remove();
  }

  /** One question to the browser at a time: what a second one brought would have no button to end it. */
  private wait(starting: Promise<unknown>): void {
    this.isStarting = true;
    this.showState();
    this.starting = starting.then(() => {
      this.isStarting = false;
      this.showState();
    });
  }

  private async startBoth(): Promise<void> {
    if (devicesAreHidden()) {
      this.say(deviceSentence('camera and microphone', undefined));
      return;
    }
    try {
      this.adopt(await createLocalTracks({ audio: true, video: { resolution: { width: 1280, height: 720 } } }));
      this.say('');
    } catch (error) {
      if (error instanceof Error && error.name === 'NotAllowedError') {
        this.say(deviceSentence('camera and microphone', error));
      } else {
        const failures = [await this.startOne('microphone'), await this.startOne('camera')];
        if (failures[0] && failures[1]) this.say(deviceSentence('camera and microphone', failures[1]));
        else this.say(failures.find((failure) => failure)?.sentence ?? '');
      }
    }
  }

  private async startOne(device: 'camera' | 'microphone'): Promise<(Error & { sentence: string }) | undefined> {
    try {
      const options = device === 'camera' ? { audio: false, video: { resolution: { width: 1280, height: 720 } } } : { audio: true, video: false };
      this.adopt(await createLocalTracks(options));
      this.say('');
      return undefined;
    } catch (error) {
      const sentence = deviceSentence(device, error);
      this.say(sentence);
      return Object.assign(error instanceof Error ? error : new Error(String(error)), { sentence });
    }
  }

  private adopt(tracks: LocalTrack[]): void {
    for (const track of tracks) {
      if (this.closed) {
        track.stop();
        continue;
      }
      this.tracks.set(track.kind === Track.Kind.Video ? 'camera' : 'microphone', track);
      if (track instanceof LocalVideoTrack) track.attach(this.video);
    }
  }

  private toggle(device: 'camera' | 'microphone'): HTMLButtonElement {
    const button = el('button', { type: 'button', class: 'round' });
    button.addEventListener('click', () => {
      const track = this.tracks.get(device);
      if (track) {
        track.detach();
        track.stop();
        this.tracks.delete(device);
        this.showState();
      } else {
        this.wait(this.startOne(device));
      }
    });
    return button;
  }

  private say(text: string): void {
    this.deviceProblem.textContent = text;
    this.deviceProblem.hidden = text === '';
  }

  private setBusy(busy: boolean): void {
    this.join.disabled = busy;
    this.join.textContent = busy ? 'Joining…' : 'Join';
  }

  private showState(): void {
    const camera = this.tracks.has('camera');
    const microphone = this.tracks.has('microphone');
    this.element.querySelector('.preview')?.classList.toggle('has-video', camera);
    this.previewText.textContent = camera ? '' : this.isStarting ? 'Starting…' : 'Camera off';
    this.micButton.disabled = this.isStarting;
    this.cameraButton.disabled = this.isStarting;
    setToggle(this.micButton, microphone, 'mic', 'mic-off', 'microphone');
    setToggle(this.cameraButton, camera, 'camera', 'camera-off', 'camera');
  }
}

function setToggle(button: HTMLButtonElement, on: boolean, onIcon: 'mic' | 'camera', offIcon: 'mic-off' | 'camera-off', what: string): void {
  const label = on ? `Join without ${what}` : `Join with ${what}`;
  button.replaceChildren(icon(on ? onIcon : offIcon));
  button.classList.toggle('off', !on);
  button.title = label;
  button.setAttribute('aria-label', label);
  button.setAttribute('aria-pressed', String(on));
}

export function brand(): HTMLElement {
  return el('div', { class: 'brand' }, el('img', { src: 'favicon.svg', alt: '', width: '34', height: '34' }), el('h1', {}, 'Hausruf'), el('p', {}, 'Calls that stay in the house.'));
}

function remembered(): string {
  try {
    return localStorage.getItem(NAME_KEY) ?? '';
  } catch {
    return '';
  }
}

function remember(name: string): void {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // A private window without storage: the name is typed again next time.
  }
}
