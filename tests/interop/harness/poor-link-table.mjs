// What was measured, as a table in Markdown: a row for each link, our server's figure and LiveKit's side by side.

export const NAMES = { hausruf: 'Hausruf', livekit: 'LiveKit' };

const COLUMNS = [
  ['audio made up %', (scores) => scores.concealed.toFixed(1)],
  ['gaps/min', (scores) => scores.gaps.toFixed(0)],
  ['speaker\'s frames/s', (scores) => scores.fps.toFixed(1)],
  ['frozen %', (scores) => scores.frozen.toFixed(0)],
  ['queue p95 ms', (scores) => scores.queueP95.toFixed(0)],
];

/** What only some cases have. */
const REMARKS = [
  ['firstAudio', 'first sound'],
  ['firstFrame', 'first frame'],
  ['topLayer', '720p'],
  ['heardAgain', 'heard again'],
  ['recovered', 'whole again'],
];

/** `results`: by case and peer; a peer without a run that counts is left blank. */
export function table(cases, results) {
  const peers = ['hausruf', 'livekit'].filter((peer) => Object.values(results).some((of) => of[peer]));
  const heading = ['link', ...COLUMNS.map(([name]) => (peers.length > 1 ? `${name}: ${peers.map((peer) => NAMES[peer]).join(' / ')}` : name)), 'also'];
  const rows = Object.entries(results)
    .filter(([, of]) => peers.some((peer) => of[peer]))
    .map(([name, of]) => {
      const figures = COLUMNS.map(([, show]) => peers.map((peer) => (of[peer] ? show(of[peer]) : '–')).join(' / '));
      return [`${cases[name].title}`, ...figures, remarks(of, peers)];
    });
  const line = (cells) => `| ${cells.join(' | ')} |\n`;
  return line(heading) + line(heading.map((_, index) => (index === 0 || index === heading.length - 1 ? '---' : '---:'))) + rows.map(line).join('');
}

function remarks(of, peers) {
  const parts = REMARKS.filter(([key]) => peers.some((peer) => of[peer] && key in of[peer])).map(([key, name]) => {
    const figures = peers.map((peer) => (of[peer] ? (of[peer][key] === undefined ? 'never' : `${of[peer][key].toFixed(1)} s`) : '–'));
    return `${name} ${figures.join(' / ')}`;
  });
  if (peers.some((peer) => of[peer]?.reconnects > 0)) parts.push(`reconnects ${peers.map((peer) => of[peer]?.reconnects ?? '–').join(' / ')}`);
  return parts.join('; ');
}

/** Score by score over runs. What was never reached counts as the worst. */
export function median(runs) {
  if (runs.length === 0) return undefined;
  const keys = new Set(runs.flatMap(Object.keys));
  return Object.fromEntries(
    [...keys].map((key) => {
      const values = runs.map((scores) => scores[key] ?? Infinity).sort((a, b) => a - b);
      const middle = values[Math.floor(values.length / 2)];
      return [key, middle === Infinity ? undefined : middle];
    }),
  );
}
