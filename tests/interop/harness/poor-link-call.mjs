// One call with a participant on a poor link, watched: the viewer is a Chromium behind `netsim link`; near the server one
// speaker and three cameras come out of the load generator, as recordings.

import { readFileSync } from 'node:fs';
import { startLoad } from './load.mjs';
import { schedules } from './poor-link-cases.mjs';
import { videoClips, voiceClip } from './poor-link-clips.mjs';
import { PEER } from './server.mjs';
import { until } from './until.mjs';
import { hears, sees } from './world.mjs';

const NEAR = 1;
const POOR = 2;
const LISTENER = 3;
/** Seconds on a good link, after everything has begun, before anything is judged. */
const SETTLE_S = 5;
/** Seconds of a lead-in that is not part of the case. */
const LEAD_S = 10;
const SPEAKER = 'near-0';
const TILES = { [SPEAKER]: [960, 540], 'near-1': [240, 135], 'near-2': [240, 135] };
const VIEWER = {
  publish: false,
  options: { adaptiveStream: true, dynacast: true },
  // Three tiles have to be in the picture, or adaptive stream pauses them.
  context: { viewport: { width: 1280, height: 900 } },
  watch: true,
  tiles: TILES,
};

/**
 * Runs the case, with a link that draws from `seed`, and answers what was recorded: `samples` (of page/watch.js) and `link` (rows of the link's log) with `s`,
 * seconds from the beginning of the case; whom they are of; `connectS`, when the judged client called connect().
 */
export async function record(world, room, scenario, seed = 7) {
  const plan = schedules(scenario, seed);
  const link = await world.poorLink(POOR, plan.first);
  if (scenario.onlyTcp) world.net.blockUdp(POOR, true);
  try {
    return await (scenario.poor === 'speaker' ? speakerBehind : viewerBehind)(world, room, scenario, link, plan);
  } finally {
    if (scenario.onlyTcp) world.net.blockUdp(POOR, false);
  }
}

async function viewerBehind(world, room, scenario, link, plan) {
  const load = startLoad(world.net, NEAR, [
    ...['--room', room, '--identity', 'near', '--publishers', '3', '--subscribers', '0', '--speakers', '1'],
    ...['--bystanders', String(scenario.bystanders ?? 0), '--duration', '100000'],
    ...videoClips().flatMap((file) => ['--video', file]),
    ...['--voice', voiceClip(scenario.voiceKbps ?? 32)],
  ]);
  try {
    let page = await Promise.race([world.join(POOR, room, scenario.cold ? 'visitor' : 'ben', VIEWER), load.finished]);
    if (!page.evaluate) throw new Error('the load generator has ended');
    await Promise.all([sees(page, SPEAKER, { seconds: 45 }), hears(page, SPEAKER)]);
    await settled(page);
    let lead;
    if (scenario.cold) {
      const since = await epoch(page);
      await passed(page, since, LEAD_S);
      lead = (await samplesOf(page)).filter(({ at }) => at >= since);
      await page.evaluate(() => hr.room.disconnect());
      await page.context().close();
    }
    const begun = link.change(plan.whole);
    const idle = idleShare();
    if (scenario.cold) page = await world.join(POOR, room, 'ben', VIEWER);
    const move = scenario.moveAt && passed(page, begun, scenario.moveAt).then(() => link.move());
    await passed(page, begun, scenario.seconds);
    await move;
    return await recording(page, { scenario, begun, link, lead, of: SPEAKER, toward: 'a_to_b', idle: idle() });
  } finally {
    load.stop();
  }
}

async function speakerBehind(world, room, scenario, link, plan) {
  const publish = { video: { width: 640, height: 360, frameRate: 15 }, simulcast: true };
  const [, page] = await Promise.all([
    world.join(POOR, room, 'anna', { publish, options: { publishDefaults: { dtx: false, red: false } } }),
    world.join(LISTENER, room, 'ben', { ...VIEWER, tiles: { anna: TILES[SPEAKER] } }),
  ]);
  await sees(page, 'anna', { seconds: 45 });
  await hears(page, 'anna');
  await settled(page);
  const begun = link.change(plan.whole);
  const idle = idleShare();
  await passed(page, begun, scenario.seconds);
  return recording(page, { scenario, begun, link, of: 'anna', toward: 'b_to_a', idle: idle() });
}

async function recording(page, { scenario, begun, link, lead, of, toward, idle }) {
  const timed = (entries) => entries.map((entry) => ({ s: (entry.at - begun) / 1000, ...entry }));
  const samples = timed(await samplesOf(page));
  const events = await page.evaluate(() => hr.events);
  const connect = events.find(({ event }) => event === 'connect');
  return {
    peer: PEER,
    of,
    samples,
    connectS: (connect.epochMs - begun) / 1000,
    lead: lead ?? samples.filter(({ s }) => s >= 0 && s < scenario.lead),
    link: timed(link.rows()).filter(({ s, direction }) => s >= 0 && s <= scenario.seconds && direction === toward),
    reconnects: events.filter(({ event, atMs }) => /econnecting$/.test(event) && atMs > connect.atMs).length,
    idle,
  };
}

const samplesOf = (page) => page.evaluate(() => hr.watched);

const epoch = (page) => page.evaluate(() => Date.now());

/** Until so many seconds after `since` have been sampled. */
function passed(page, since, seconds) {
  return until(
    `${seconds} s of the call have passed`,
    () => page.evaluate((at) => hr.watched.at(-1)?.at >= at, since + seconds * 1000),
    { seconds: seconds + 60 },
  );
}

const settled = async (page) => passed(page, await epoch(page), SETTLE_S);

/** The share of processor time that nobody wanted, from now until the answer is called: a crowded machine has none. */
function idleShare() {
  const now = () => readFileSync('/proc/stat', 'utf8').split('\n')[0].split(/\s+/).slice(1, 9).map(Number);
  const before = now();
  return () => {
    const spent = now().map((value, index) => value - before[index]);
    return spent[3] / spent.reduce((sum, value) => sum + value, 0);
  };
}
