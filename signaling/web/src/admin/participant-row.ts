import { el } from '../dom';
import { icon, type IconName } from '../icon';
import { Sparkline } from './sparkline';
import { sureButton } from './sure-button';
import type { Participant } from './survey';
import { TRANSPORTS, duration, percent, personName, rate, source } from './words';

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

  constructor() {
    this.element.append(this.graph.element, el('div', { class: 'figures' }, this.rate, this.loss));
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
  private readonly who = el('span', { class: 'who' });
  private readonly detail = el('span', { class: 'detail' });
  private readonly tracks = el('td', { class: 'tracks' });
  private readonly up = new Direction();
  private readonly down = new Direction();
  private readonly roundTrip = el('td', { class: 'number' });
  private readonly videos = el('td', { class: 'videos' });

  constructor(remove: () => Promise<void>) {
    const name = el('th', { scope: 'row' }, this.who, this.detail);
    const action = el('td', { class: 'action' }, sureButton('Remove', 'Really remove?', remove));
    this.element.append(name, this.tracks, this.up.element, this.down.element, this.roundTrip, this.videos, action);
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
    this.down.element.title = link ? `About ${rate(link.available_bps)} would fit.` : '';
    const roundTrip = link?.round_trip_ms ?? null;
    this.roundTrip.textContent = roundTrip === null ? '–' : roundTrip < 1 ? '<1 ms' : `${Math.round(roundTrip)} ms`;
    const videos = (link?.videos ?? []).map(({ publisher, source: name, layer, layers }) => {
      const what = `${names.get(publisher) ?? '?'}, ${source(name)}`;
      return el('span', { class: layer === null ? 'layer none' : 'layer', title: what }, `${what}: ${layer === null ? 'nothing' : `${layer}/${layers}`}`);
    });
    this.videos.replaceChildren(...(videos.length > 0 ? videos : ['–']));
  }
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
