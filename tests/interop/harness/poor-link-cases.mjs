// The calls on poor links by name, as netsim's suite has them. Times are seconds from the moment when the call has begun and
// is good; `lead` seconds from there nothing has happened yet: who hears badly then is on a starved machine.

const link = (rate_kbps, roundTripMs, queue_ms, loss_percent = 0) => ({ rate_kbps, delay_ms: roundTripMs / 2, queue_ms, loss_percent });
const GOOD = link(10_000, 30, 300);
const CUT = { ...GOOD, rate_kbps: 0 };
const hotel = (loss) => link(200, 300, 500, loss);

/** Audio made up, as everywhere in percent of what is played; a real run may have two points more than a simulated one. */
const heard = (percent) => ({ concealed: percent + 2 });
const HOTEL_GOALS = { ...heard(2), gaps: 1, fps: 5, reconnects: 0 };

/** Good for ten seconds; counted from ten seconds after the onset, for forty. */
const afterOnset = (settings, goals, more = {}) => ({
  steps: [[0, GOOD], [10, settings]],
  lead: 10,
  scored: [20, 60],
  seconds: 60,
  goals,
  ...more,
});

const blackout = (seconds) => ({
  steps: [[0, GOOD], [10, CUT], [10 + seconds, GOOD]],
  lead: 10,
  drop: [10, 10 + seconds],
  // What lies in the blackout nobody can hear.
  scored: [10 + seconds + 5, 10 + seconds + 35],
  seconds: 10 + seconds + 40,
  goals: heard(1),
});

/**
 * `cold`: the viewer joins when the link is as it is, and the clock starts at its connect(); it has been there before, under
 * another name and on a good link, for the lead-in. `poor: 'speaker'`: a browser that publishes is behind the link, and one
 * that listens is near.
 */
export const CASES = {
  'P1 0 %': { title: '200 kbit/s, 300 ms, no loss', ...afterOnset(hotel(0), HOTEL_GOALS) },
  'P1 10 %': { title: 'the same with 10 % loss', ...afterOnset(hotel(10), HOTEL_GOALS) },
  'P1 20 %': { title: 'with 20 %', ...afterOnset(hotel(20), {}) },
  'P1e 10 %': {
    title: 'with 10 %, encrypted end to end, 48 kbit/s',
    ...afterOnset(hotel(10), heard(2), { voiceKbps: 60 }),
  },
  'P1u 10 %': { title: 'the speaker behind it, 10 %', ...afterOnset(hotel(10), heard(5), { poor: 'speaker' }) },
  P2: {
    title: 'joining at 200 kbit/s, 100 ms, a call of eight',
    steps: [[0, link(200, 100, 500)]],
    cold: true,
    bystanders: 4,
    scored: [5, 40],
    seconds: 40,
    goals: { firstAudio: 1, queueP95: 150, reconnects: 0, ...heard(2) },
  },
  P3: {
    title: '5 Mbit/s, 60 ms, 10 % loss',
    steps: [[0, link(5000, 60, 300, 10)]],
    cold: true,
    scored: [10, 40],
    seconds: 40,
    goals: { topLayer: 10, ...heard(2) },
  },
  'P4 8 s': { title: 'nothing for 8 s', ...blackout(8) },
  'P4 25 s': { title: 'nothing for 25 s', ...blackout(25) },
  P8: {
    title: 'another network (3 Mbit/s, 50 ms)',
    steps: [[0, link(3000, 50, 300)]],
    lead: 10,
    moveAt: 20,
    drop: [20, 20],
    scored: [20, 50],
    seconds: 50,
    goals: heard(5),
  },
  P10: {
    title: 'only TCP passes, 3 % loss',
    ...afterOnset(link(10_000, 30, 300, 3), heard(2), { onlyTcp: true }),
  },
  'B 250': {
    title: '250 kbit/s for 30 s (4 Mbit/s, 50 ms)',
    steps: [[0, link(4000, 50, 300)], [20, link(250, 50, 300)], [50, link(4000, 50, 300)]],
    lead: 20,
    drop: [20, 50],
    scored: [20, 50],
    seconds: 80,
    goals: { recovered: 5, fps: 5, reconnects: 0, ...heard(1) },
  },
};

/** The link as it is at first, and all of it: schedules for `netsim link`. */
export function schedules({ steps, cold }, seed) {
  const rows = (steps) => `seed = ${seed}\n${steps.map(([at, settings]) => row({ at_s: at, ...settings })).join('')}`;
  return { first: rows([[0, cold ? GOOD : steps[0][1]]]), whole: rows(steps) };
}

const row = (values) => `[[both]]\n${Object.entries(values).map(([key, value]) => `${key} = ${value}\n`).join('')}`;
