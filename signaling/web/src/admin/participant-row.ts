import { el } from '../dom';
import { icon, type IconName } from '../icon';
import { Sparkline } from './sparkline';
import { sureButton } from './sure-button';
import type { Link, Operator, Participant } from './survey';
import { Why } from './why';
import { PORTIONS, TRANSPORTS, duration, percent, personName, rate, source } from './words';

const ICONS: Record<string, [IconName, IconName]> = {
  microphone: ['mic', 'mic-off'],
  camera: ['camera', 'camera-off'],
  screen_share: ['screen', 'screen-off'],
};
/** From here on a share of lost packets is shown as trouble. */
const LOSS_BAD = 0.02;

/** One direction of the link. */
class Direction {
  readonly element = el('td', { class: 'direction' });
  private readonly graph = new Sparkline();
  private readonly rate = el('span', { class: 'rate' });
  private readonly loss = el('span', { class: 'loss' });
  private readonly fits = el('span', { class: 'loss', hidden: true });

  constructor() {
    this.element.append(this.graph.element, el('div', { class: 'figures' }, this.rate, this.loss, this.fits));
  }

  note(text: string, isBad: boolean): void {
    this.fits.textContent = text;
    this.fits.hidden = text === '';
    this.fits.classList.toggle('bad', isBad);
  }

  update(bitrateBps: number | undefined, loss: number | null): void {
    this.rate.textContent = bitrateBps === undefined ? '–' : rate(bitrateBps);
    this.loss.textContent = bitrateBps === undefined ? '' : `${percent(loss)} lost`;
    this.loss.classList.toggle('bad', (loss ?? 0) >= LOSS_BAD);
    if (bitrateBps !== undefined) this.graph.push({ bitrateBps, loss });
  }
}

export class ParticipantRow {
  readonly element = el('tr');
  /** The row below it, with the answer to Why. */
  readonly below = el('tr', { class: 'below', hidden: true });
  private readonly why: Why;
  private readonly who = el('span', { class: 'who' });
  private readonly detail = el('span', { class: 'detail' });
  private readonly tracks = el('td', { class: 'tracks' });
  private readonly up = new Direction();
  private readonly down = new Direction();
  private readonly roundTrip = el('td', { class: 'number' });
  private readonly videos = el('td', { class: 'videos' });

  constructor(operator: Operator, sid: string, columns: number, remove: () => Promise<void>) {
    this.why = new Why(operator, sid, (shown) => {
      this.below.hidden = !shown;
    });
    this.below.append(el('td', { colspan: String(columns) }, this.why.answer));
    const name = el('th', { scope: 'row' }, this.who, this.detail);
    const action = el('td', { class: 'action' }, this.why.button, sureButton('Remove', 'Really remove?', remove));
    this.element.append(name, this.tracks, this.up.element, this.down.element, this.roundTrip, this.videos, action);
  }

  remove(): void {
    this.why.forget();
    this.element.remove();
    this.below.remove();
  }

  update(participant: Participant, names: Map<string, string>, now: number): void {
    this.who.textContent = personName(participant);
    this.who.title = participant.identity;
    const state = TRANSPORTS[participant.transport] + (participant.socket ? '' : ', no socket');
    const device = participant.member ? `${participant.member.device_id} · ` : '';
    this.detail.textContent = `${device}${state} · ${duration(now - participant.since)}`;
    this.element.dataset.transport = participant.transport;
    this.tracks.replaceChildren(...participant.tracks.map(trackChip));
    const { link } = participant;
    this.up.update(link?.up_bps, link?.loss_up ?? null);
    this.down.update(link?.down_bps, link?.loss_down ?? null);
    this.down.element.title = link ? linkTitle(link) : '';
    const isTight = link !== null && link.estimate_bps !== null && link.estimate_bps < link.wanted_bps;
    this.down.note(isTight ? linkSentence(link) : '', isTight);
    const roundTrip = link?.round_trip_ms ?? null;
    this.roundTrip.textContent = roundTrip === null ? '–' : roundTrip < 1 ? '<1 ms' : `${Math.round(roundTrip)} ms`;
    const videos = (link?.videos ?? []).map(({ publisher, source: name, layer, layers, portion }) => {
      const what = `${names.get(publisher) ?? '?'}, ${source(name)}`;
      return el('span', { class: layer === null ? 'layer none' : 'layer', title: what }, `${what}: ${layer === null ? 'nothing' : `${layer}/${layers}`}${PORTIONS[portion]}`);
    });
    this.videos.replaceChildren(...(videos.length > 0 ? videos : ['–']));
  }
}

function linkSentence(link: Link): string {
  return `${rate(link.estimate_bps ?? 0)} of ${rate(link.wanted_bps)} fit`;
}

function linkTitle(link: Link): string {
  const fits = link.estimate_bps === null ? 'Nothing bounds the link.' : `About ${rate(link.estimate_bps)} fit; ${rate(link.wanted_bps)} are wanted.`;
  const copies = ['', ' Audio is sent twice.', ' Audio is sent three times.'][link.audio_copies] ?? '';
  const lost = link.audio_lost === null ? '' : ` Of audio, ${percent(link.audio_lost)} are lost after repair.`;
  return `${fits} ${link.queue_ms} ms stand in a queue.${copies}${lost}`;
}

function trackChip(track: Participant['tracks'][number]): HTMLElement {
  const [on, off] = ICONS[track.source] ?? ['graph', 'graph'];
  const bitrates = track.encodings_bps.filter((bps) => bps > 0).map(rate);
  const title = `${source(track.source)}${track.muted ? ', muted' : ''}${bitrates.length > 0 ? `: ${bitrates.join(' + ')}` : ''}`;
  const chip = el('span', { class: track.muted ? 'track muted' : 'track', title });
  const name = el('span', { class: 'unseen' }, title);
  chip.append(icon(track.muted ? off : on), name);
  return chip;
}
