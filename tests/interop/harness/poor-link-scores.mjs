// Figures of a recorded call. Counters begin anew when a client comes back with another connection; so everything is summed
// over steps from one sample to the next.

/** What each of `keys` of the track rose by, sample by sample: `[{s, seconds, key: difference, …}]`. */
function steps(samples, name, keys) {
  return samples.slice(1).map((sample, index) => {
    const before = samples[index];
    const [now, then] = [sample.tracks[name], before.tracks[name]];
    const step = { s: sample.s, seconds: sample.s - before.s };
    for (const key of keys) {
      const value = now?.[key] ?? 0;
      step[key] = value - (now && then?.ssrc === now.ssrc && then[key] <= value ? (then[key] ?? 0) : 0);
    }
    return step;
  });
}

const within = (entries, from, to) => entries.filter(({ s }) => s > from && s <= to);
const sum = (entries, key) => entries.reduce((total, entry) => total + entry[key], 0);

/** Between two rows of the link's log, and how much more there may be. */
const LOG_EVERY_MS = 100;
const LATE_MS = 100;

const AUDIO = ['samples', 'concealed', 'silent'];

/** Percent of what was played that was made up; silence put in for what had faded away already is not counted. */
export function concealed(samples, of, from = -Infinity, to = Infinity) {
  const played = within(steps(samples, `${of}/microphone`, AUDIO), from, to);
  return (100 * (sum(played, 'concealed') - sum(played, 'silent'))) / Math.max(1, sum(played, 'samples'));
}

/** Stretches of more than 200 ms without anything of the voice, `[from, to]`; one that the end cuts off is there as well. */
function gaps(samples, of, from = -Infinity, to = Infinity) {
  const found = [];
  let began;
  const played = within(steps(samples, `${of}/microphone`, AUDIO), from, to);
  for (const { s, seconds, samples, concealed } of [...played, { s: played.at(-1)?.s, seconds: 0, concealed: 0, samples: 1 }]) {
    if (samples === 0 || concealed >= 0.9 * samples) began ??= s - seconds;
    else {
      // The voice came back within this step.
      if (began !== undefined && s - seconds - began > 0.2) found.push([began, s - seconds]);
      began = undefined;
    }
  }
  return found;
}

/**
 * Seconds in which a picture stood. The browser counts a freeze when the next frame comes, which may be never: what is
 * longer than a second is taken from the frames themselves.
 */
function frozen(pictures) {
  let total = 0;
  let without = 0;
  for (const { seconds, frames, frozenS } of [...pictures, { seconds: 0, frames: 1, frozenS: 0 }]) {
    if (frames === 0) {
      without += seconds;
      continue;
    }
    total += without > 1 ? without : 0;
    total += frozenS <= 1 ? frozenS : 0;
    without = 0;
  }
  return total;
}

/**
 * When the received rate is back: the first second with 90 % of the mean of the ten before the drop, which the five from then
 * on have as well. (Single ones need not: what a camera sends differs more than that from second to second.)
 */
function recovered(samples, [drop, end]) {
  const names = new Set(samples.flatMap(({ tracks }) => Object.keys(tracks)));
  const series = [...names].flatMap((name) => steps(samples, name, ['bytes']));
  const mean = (from, to) => sum(within(series, from, to), 'bytes') / (to - from);
  const enough = 0.9 * mean(drop - 10, drop);
  const last = samples.at(-1).s;
  for (let at = end + 1; at + 4 <= last; at += 0.1) {
    if (mean(at - 1, at) >= enough && mean(at - 1, at + 4) >= enough) return at - end;
  }
  return undefined;
}

/** When the voice is there again after what happened at `end`: behind the last gap that began within ten seconds. */
function heardAgain(samples, of, end) {
  const last = gaps(samples, of).findLast(([from, to]) => from < end + 10 && to > end);
  return last ? last[1] - end : 0;
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

/** Seconds from connect() to the first sample whose tracks `test` accepts. */
const first = ({ samples, connectS }, test) => {
  const found = samples.find(({ s, tracks }) => s >= connectS && test(tracks));
  return found && found.s - connectS;
};

/** What a browser plays in a second. */
const SAMPLES = 48_000;

/**
 * Seconds from connect() to the first sound. A browser counts what it plays of a voice from its first packet on, what it makes up
 * included: how much that is at a moment says when it began, but not before it had still been nothing (it plays some in advance).
 */
function firstSound({ samples, connectS }, of) {
  const voice = ({ tracks }) => tracks[`${of}/microphone`];
  const seconds = (sample) => sample.s + (voice(sample).takenAt - sample.at) / 1000 - connectS;
  const there = samples.filter((sample) => sample.s >= connectS && voice(sample));
  const at = there.findIndex((sample) => voice(sample).samples > 0);
  if (at < 0) return undefined;
  return Math.max(seconds(there[at]) - voice(there[at]).samples / SAMPLES, ...there.slice(0, at).map(seconds));
}

export function score(scenario, record) {
  const { samples, of, link } = record;
  const [from, to] = scenario.scored;
  const picture = `${of}/camera`;
  const pictures = within(steps(samples, picture, ['frames', 'freezes', 'frozenS', 'plis', 'nacks', 'keyFrames']), from, to);
  const sizes = within(samples, from, to).map(({ tracks }) => tracks[picture]?.height ?? 0);
  const minutes = (to - from) / 60;
  const cold = scenario.cold && {
    firstAudio: firstSound(record, of),
    firstFrame: first(record, (tracks) => tracks[picture]?.frames > 0),
    ...('topLayer' in scenario.goals && { topLayer: first(record, (tracks) => tracks[picture]?.height >= 720) }),
  };
  return {
    lead: concealed(record.lead, of),
    idle: record.idle,
    linkLate: Math.max(...link.slice(1).map(({ t_ms }, index) => t_ms - link[index].t_ms - LOG_EVERY_MS)),
    concealed: concealed(samples, of, from, to),
    gaps: gaps(samples, of, from, to).length / minutes,
    fps: sum(pictures, 'frames') / (to - from),
    freezes: sum(pictures, 'freezes') / minutes,
    frozen: (100 * frozen(pictures)) / (to - from),
    keyframeRequests: sum(pictures, 'plis') / minutes,
    keyframes: sum(pictures, 'keyFrames') / minutes,
    nacks: sum(pictures, 'nacks') / minutes,
    switches: sizes.slice(1).filter((size, index) => size !== sizes[index]).length / minutes,
    queueP95: quantile(within(link, from, to).map(({ queue_ms }) => queue_ms), 0.95),
    reconnects: record.reconnects,
    ...cold,
    ...(scenario.drop && { heardAgain: heardAgain(samples, of, scenario.drop[1]), recovered: recovered(samples, scenario.drop) }),
  };
}

/**
 * A starved machine conceals too, and a link that stood still for a while lets go in one burst what it held: such runs say
 * nothing. Answers why a run does not count.
 */
export function voidBecause({ lead, linkLate }) {
  if (!(lead <= 1)) return `${lead.toFixed(2)} % made up before anything happened`;
  if (linkLate > LATE_MS) return `the link stood still for ${linkLate} ms`;
  return undefined;
}

const AT_LEAST = new Set(['fps']);

/** The goals that were missed, in words. */
export function missed({ goals }, scores) {
  return Object.entries(goals)
    .filter(([key, goal]) => !(AT_LEAST.has(key) ? scores[key] >= goal : scores[key] <= goal))
    .map(([key, goal]) => `${key} ${scores[key]?.toFixed?.(2) ?? 'never'} (goal: ${AT_LEAST.has(key) ? 'at least' : 'at most'} ${goal})`);
}
