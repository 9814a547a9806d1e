import { el } from './dom';
import type { LinkSample } from './link-stats';

const SAMPLES = 45;
const WIDTH = 84;
const HEIGHT = 22;

/** The last 45 seconds of one tile's link: bitrate as a line, lost packets as red bars from below. */
export class LinkGraph {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly text: HTMLElement;
  private readonly samples: LinkSample[] = [];

  constructor() {
    this.canvas = el('canvas', { 'aria-hidden': 'true' });
    this.text = el('span', { class: 'graph-text' });
    this.element = el('div', { class: 'graph', hidden: true }, this.canvas, this.text);
  }

  push(sample: LinkSample | undefined): void {
    if (!sample) return;
    this.samples.push(sample);
    if (this.samples.length > SAMPLES) this.samples.shift();
    const parts = [rate(sample.bitrateBps), `${percent(sample.loss)} lost`];
    if (sample.rttMs !== undefined) parts.push(milliseconds(sample.rttMs));
    this.text.textContent = parts.join(' · ');
    const title = [
      `Bitrate ${rate(sample.bitrateBps)}`,
      `lost packets ${percent(sample.loss)}`,
      sample.rttMs === undefined ? '' : `round trip to the server ${milliseconds(sample.rttMs)}`,
      sample.picture ?? '',
    ];
    this.element.title = title.filter(Boolean).join('; ');
    this.element.hidden = false;
    this.draw();
  }

  private draw(): void {
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== WIDTH * scale) {
      this.canvas.width = WIDTH * scale;
      this.canvas.height = HEIGHT * scale;
    }
    const context = this.canvas.getContext('2d');
    if (!context) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, WIDTH, HEIGHT);
    const top = Math.max(64_000, ...this.samples.map((sample) => sample.bitrateBps)) * 1.15;
    const step = WIDTH / (SAMPLES - 1);
    const first = SAMPLES - this.samples.length;
    const x = (index: number) => (first + index) * step;
    const y = (bitrateBps: number) => HEIGHT - 1 - (bitrateBps / top) * (HEIGHT - 3);

    context.beginPath();
    for (const [index, sample] of this.samples.entries()) context.lineTo(x(index), y(sample.bitrateBps));
    context.strokeStyle = '#8fd6bd';
    context.lineWidth = 1.5;
    context.lineJoin = 'round';
    context.stroke();
    context.lineTo(x(this.samples.length - 1), HEIGHT);
    context.lineTo(x(0), HEIGHT);
    context.closePath();
    context.fillStyle = 'rgb(143 214 189 / 0.22)';
    context.fill();

    // Full height means a tenth of all packets: more than that is bad however much it is.
    context.fillStyle = '#ff7a6b';
    for (const [index, sample] of this.samples.entries()) {
      if (sample.loss <= 0) continue;
      const height = Math.max(1.5, Math.min(1, sample.loss / 0.1) * HEIGHT);
      context.fillRect(x(index) - 0.75, HEIGHT - height, 1.5, height);
    }
  }
}

export function rate(bps: number): string {
  if (bps >= 999_500) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1000)} kbit/s`;
}

function milliseconds(ms: number): string {
  return ms < 1 ? '<1 ms' : `${Math.round(ms)} ms`;
}

export function percent(share: number): string {
  if (share <= 0) return '0 %';
  return share < 0.01 ? `${(share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`;
}
