const SVG = 'http://www.w3.org/2000/svg';
const SAMPLES = 60;
const WIDTH = 96;
const HEIGHT = 26;
/** Full height means this share of all packets: more than that is bad however much it is. */
const LOSS_FULL = 0.1;

export interface Sample {
  bitrateBps: number;
  loss: number | null;
}

/** The last minute of one direction of a link: bitrate as a line, lost packets as bars from below. */
export class Sparkline {
  readonly element = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'sparkline', 'aria-hidden': 'true' });
  private readonly area = shape('path', { class: 'area' });
  private readonly line = shape('path', { class: 'line' });
  private readonly bars = shape('path', { class: 'bars' });
  private readonly samples: Sample[] = [];

  constructor() {
    this.element.append(this.area, this.line, this.bars);
  }

  push(sample: Sample): void {
    this.samples.push(sample);
    if (this.samples.length > SAMPLES) this.samples.shift();
    const { line, area, bars } = paths(this.samples);
    this.line.setAttribute('d', line);
    this.area.setAttribute('d', area);
    this.bars.setAttribute('d', bars);
  }
}

/** The newest sample is at the right edge. */
export function paths(samples: readonly Sample[]): { line: string; area: string; bars: string } {
  const top = Math.max(64_000, ...samples.map((sample) => sample.bitrateBps)) * 1.1;
  const step = WIDTH / (SAMPLES - 1);
  const x = (index: number) => round((SAMPLES - samples.length + index) * step);
  const y = (bps: number) => round(HEIGHT - 1 - (bps / top) * (HEIGHT - 2));
  const line = samples.map((sample, index) => `${index === 0 ? 'M' : 'L'}${x(index)} ${y(sample.bitrateBps)}`).join('');
  const area = samples.length > 1 ? `${line}L${x(samples.length - 1)} ${HEIGHT}L${x(0)} ${HEIGHT}Z` : '';
  const lossy = samples.flatMap(({ loss }, index) => (loss ? [{ loss, index }] : []));
  const bars = lossy.map(({ loss, index }) => `M${x(index)} ${HEIGHT}v-${round(Math.max(2, Math.min(1, loss / LOSS_FULL) * HEIGHT))}`).join('');
  return { line, area, bars };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function shape<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Record<string, string>): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
