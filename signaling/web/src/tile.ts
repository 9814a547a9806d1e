import { type Participant, Track, type TrackPublication } from 'livekit-client';
import { el } from './dom';
import { icon } from './icon';
import type { Box } from './layout';
import { LinkGraph } from './link-graph';
import { LinkStats, tracksOf } from './link-stats';
import { Lasting, isPaused, pausedSentence, weakSentence } from './weak-link';

/** A pause is shown for so long at least: links swing. */
const PAUSED_MS = 2000;

export type TileKind = 'person' | 'screen';

/** One rectangle of the stage: a person, or a screen that a person shares. */
export class Tile {
  readonly element: HTMLElement;
  readonly key: string;
  private readonly video: HTMLVideoElement;
  private readonly avatar: HTMLElement;
  private readonly nameText: HTMLElement;
  private readonly badge: HTMLElement;
  private readonly weak: HTMLElement;
  private readonly paused = el('div', { class: 'paused', hidden: true });
  private readonly pinButton: HTMLButtonElement;
  private readonly graph = new LinkGraph();
  private readonly stats = new LinkStats();
  private readonly saidPaused = new Lasting(PAUSED_MS);
  private attached: Track | undefined;
  private sampling = false;
  private placed = false;

  constructor(
    readonly participant: Participant,
    readonly kind: TileKind,
    onPin: (tile: Tile) => void,
  ) {
    this.key = Tile.keyOf(participant, kind);
    this.video = el('video', { playsinline: true, autoplay: true, muted: true, 'aria-hidden': 'true' });
    this.video.muted = true;
    this.avatar = el('div', { class: 'avatar', 'aria-hidden': 'true' });
    this.nameText = el('span', { class: 'name-text' });
    this.badge = el('span', { class: 'badge', hidden: true }, icon('mic-off'), el('span', { class: 'unseen' }, 'microphone off'));
    this.weak = el('div', { class: 'weak', hidden: true }, icon('weak'), el('span', { class: 'weak-text' }));
    this.pinButton = el('button', { class: 'pin', type: 'button' }, icon('pin'));
    this.pinButton.addEventListener('click', () => onPin(this));
    this.element = el(
      'section',
      { class: `tile ${kind}`, 'data-tile': this.key },
      this.avatar,
      this.video,
      this.paused,
      this.weak,
      el('div', { class: 'tile-foot' }, el('div', { class: 'name' }, this.badge, this.nameText), this.graph.element),
      this.pinButton,
    );
    this.video.addEventListener('resize', () => this.fitVideo());
    this.update(false);
  }

  static keyOf(participant: Participant, kind: TileKind): string {
    return `${participant.identity}/${kind}`;
  }

  place(box: Box): void {
    const { style } = this.element;
    if (!this.placed) {
      // A new tile appears where it belongs; only later changes are shown as movement.
      this.placed = true;
      requestAnimationFrame(() => requestAnimationFrame(() => this.element.classList.add('moves')));
    }
    style.transform = `translate(${box.x}px, ${box.y}px)`;
    style.width = `${box.width}px`;
    style.height = `${box.height}px`;
    this.fitVideo();
  }

  update(pinned: boolean): void {
    const { participant } = this;
    const name = participant.name || participant.identity;
    const label = this.kind === 'screen' ? `${participant.isLocal ? 'Your' : `${name}’s`} screen` : participant.isLocal ? `${name} (you)` : name;
    this.nameText.textContent = label;
    const muted = this.kind === 'person' && !participant.isMicrophoneEnabled;
    this.badge.hidden = !muted;
    this.element.classList.toggle('speaking', this.kind === 'person' && participant.isSpeaking && !muted);
    const said = this.sayWeak(name);
    this.element.setAttribute('aria-label', [label, muted ? 'microphone off' : '', ...said].filter(Boolean).join(', '));
    this.avatar.textContent = initials(name);
    this.avatar.style.setProperty('--hue', String(hueOf(participant.identity)));
    this.pinButton.replaceChildren(icon(pinned ? 'unpin' : 'pin'));
    this.pinButton.setAttribute('aria-label', pinned ? `Make ${label} small again` : `Enlarge ${label}`);
    this.pinButton.setAttribute('aria-pressed', String(pinned));
    this.attach(this.videoPublication());
  }

  /** Says what is wrong with links; returns it. */
  private sayWeak(name: string): string[] {
    const { participant } = this;
    const link = { isLocal: participant.isLocal, isPaused: isPaused(participant, this.source), quality: participant.connectionQuality };
    const paused = this.saidPaused.update(pausedSentence(link), performance.now());
    const weak = this.kind === 'person' ? weakSentence(link, name) : undefined;
    setText(this.paused, this.paused, paused);
    setText(this.weak, this.weak.querySelector('.weak-text'), weak);
    this.weak.title = weak ?? '';
    this.element.classList.toggle('is-paused', paused !== undefined);
    return [paused, weak].filter((text) => text !== undefined);
  }

  private get source(): Track.Source {
    return this.kind === 'screen' ? Track.Source.ScreenShare : Track.Source.Camera;
  }

  private videoPublication(): TrackPublication | undefined {
    return this.participant.getTrackPublication(this.source);
  }

  private attach(publication: TrackPublication | undefined): void {
    const track = publication && !publication.isMuted ? publication.track : undefined;
    if (track !== this.attached) {
      this.attached?.detach(this.video);
      this.attached = track;
      track?.attach(this.video);
    }
    this.element.classList.toggle('has-video', track !== undefined);
    // One sees oneself as in a mirror; a shared screen stays readable.
    this.video.classList.toggle('mirror', this.participant.isLocal && this.kind === 'person');
  }

  /** A picture that is upright in a wide tile (or the reverse) is shown whole instead of cropped. */
  private fitVideo(): void {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth || !videoHeight) return;
    const tile = this.element.clientWidth / Math.max(1, this.element.clientHeight);
    const ratio = videoWidth / videoHeight / tile;
    this.element.classList.toggle('whole', this.kind === 'screen' || ratio < 0.5 || ratio > 2.3);
  }

  async sample(): Promise<void> {
    if (this.sampling) return;
    this.sampling = true;
    try {
      const sources =
        this.kind === 'screen'
          ? [Track.Source.ScreenShare, Track.Source.ScreenShareAudio]
          : [Track.Source.Camera, Track.Source.Microphone];
      this.graph.push(await this.stats.sample(tracksOf(this.participant, sources)));
    } finally {
      this.sampling = false;
    }
  }

  remove(): void {
    this.attached?.detach(this.video);
    this.attached = undefined;
    this.element.remove();
  }
}

/** A text that stays the same is not announced again. */
function setText(box: HTMLElement, target: Element | null, text: string | undefined): void {
  box.hidden = text === undefined;
  if (target && target.textContent !== (text ?? '')) target.textContent = text ?? '';
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0]!, words[words.length - 1]!] : words;
  return letters
    .map((word) => [...word][0] ?? '')
    .join('')
    .toLocaleUpperCase();
}

/** The same person has the same colour on every screen. */
function hueOf(identity: string): number {
  let hash = 0;
  for (const char of identity) hash = (hash * 31 + char.codePointAt(0)!) >>> 0;
  return hash % 360;
}
