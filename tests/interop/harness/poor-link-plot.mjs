// A recorded call as a picture (SVG): rate, queue, frames and made-up sound over time.

const WIDTH = 1000;
const LEFT = 60;
const COLOURS = ['#000', '#06c', '#e80', '#093'];

/** `record` as harness/poor-link-call.mjs makes it. */
export function plot(title, scenario, record) {
  const from = Math.min(0, Math.floor(record.connectS));
  const to = scenario.seconds;
  const x = (s) => LEFT + ((s - from) / (to - from)) * (WIDTH - LEFT);
  const samples = record.samples.filter(({ s }) => s >= from && s <= to);
  const names = [...new Set(samples.flatMap(({ tracks }) => Object.keys(tracks)))].sort();
  const cameras = names.filter((name) => name.endsWith('/camera'));
  const wire = record.link.map(({ s, bytes_out }) => [s, bytes_out * 0.08]);
  const out = [];

  /** A frame with a scale, and lines in it: `[colour, points]`. */
  function panel(top, height, max, label, unit, lines) {
    out.push(`<rect x='${LEFT}' y='${top}' width='${WIDTH - LEFT}' height='${height}' fill='none' stroke='#bbb'/>`);
    out.push(`<text x='${LEFT}' y='${top - 4}' font-size='12'>${label}</text><text x='2' y='${top + 11}' font-size='11'>${Math.round(max)} ${unit}</text>`);
    for (let s = Math.ceil(from / 10) * 10; s <= to; s += 10) {
      out.push(`<line x1='${x(s)}' y1='${top}' x2='${x(s)}' y2='${top + height}' stroke='#eee'/><text x='${x(s)}' y='${top + height + 11}' font-size='10'>${s}</text>`);
    }
    for (const [colour, points] of lines) {
      const path = points.map(([s, value]) => `${x(s).toFixed(1)},${(top + height * (1 - Math.min(1, value / max))).toFixed(1)}`).join(' ');
      out.push(`<polyline fill='none' stroke='${colour}' stroke-width='1.2' points='${path}'/>`);
    }
  }

  const rates = cameras.map((name) => perSecond(samples, name, 'bytes').map(([s, bytes]) => [s, bytes / 125]));
  const capacity = scenario.steps.flatMap(([at, { rate_kbps }], index) => [[at, rate_kbps], [scenario.steps[index + 1]?.[0] ?? to, rate_kbps]]);
  const highest = Math.max(400, ...rates.flat().map(([, rate]) => rate), ...smooth(wire).map(([, rate]) => rate)) * 1.1;
  const legend = cameras.map((name, index) => `<tspan fill='${COLOURS[index % COLOURS.length]}'>${name.split('/')[0]}</tspan>`).join(', ');
  panel(45, 200, highest, `capacity (grey), on the wire (green), video of ${legend}`, 'kbit/s', [
    ['#999', capacity],
    ['#093', smooth(wire)],
    ...rates.map((points, index) => [COLOURS[index % 3], points]),
  ]);
  panel(285, 90, 600, 'queue before the link', 'ms', [['#c30', record.link.map(({ s, queue_ms }) => [s, queue_ms])]]);
  panel(415, 110, 32, 'frames decoded a second', '', cameras.map((name, index) => [COLOURS[index % 3], perSecond(samples, name, 'frames')]));
  const voice = `${record.of}/microphone`;
  const madeUp = ratio(samples, voice);
  panel(565, 90, 100, 'sound made up (magenta), with the silence after it (grey)', '%', [
    ['#ccc', madeUp.map(([s, , all]) => [s, all])],
    ['#c0c', madeUp.map(([s, part]) => [s, part])],
  ]);
  return `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1020 680' font-family='sans-serif'>
<rect width='1020' height='680' fill='white'/>
<text x='${LEFT}' y='18' font-size='15'>${title}</text>
${out.join('\n')}
</svg>
`;
}

/** The rise of a counter over the last second, at each sample; nothing where the track is not there. */
function perSecond(samples, name, key) {
  const points = [];
  let back = 0;
  for (const [index, { s, tracks }] of samples.entries()) {
    while (samples[back].s < s - 1) back++;
    const [now, then] = [tracks[name], samples[back].tracks[name]];
    const seconds = s - samples[back].s;
    if (index === back || seconds <= 0) continue;
    points.push([s, now && then && now.ssrc === then.ssrc ? Math.max(0, ((now[key] ?? 0) - (then[key] ?? 0)) / seconds) : 0]);
  }
  return points;
}

/** Percent made up over the last half second, without and with silence. */
function ratio(samples, name) {
  const points = [];
  let back = 0;
  for (const { s, tracks } of samples) {
    while (samples[back].s < s - 0.5) back++;
    const [now, then] = [tracks[name], samples[back].tracks[name]];
    const played = (now?.samples ?? 0) - (then?.samples ?? 0);
    if (!now || !then || played <= 0) continue;
    const all = (100 * (now.concealed - then.concealed)) / played;
    points.push([s, all - (100 * (now.silent - then.silent)) / played, all]);
  }
  return points;
}

const smooth = (points) =>
  points.map(([s], index) => {
    const last = points.slice(Math.max(0, index - 9), index + 1);
    return [s, last.reduce((sum, [, value]) => sum + value, 0) / last.length];
  });
