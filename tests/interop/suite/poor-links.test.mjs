// Who is on a poor link still hears: the short ones of netsim's scenarios, with a browser behind `netsim link`.

import assert from 'node:assert/strict';
import { until } from '../harness/until.mjs';
import { hears, remote, sees } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('poor-links');

const GOOD = 'seed = 7\n[[both]]\nrate_kbps = 10000\ndelay_ms = 15\nqueue_ms = 300\n';
const HOTEL = 'seed = 7\n[[both]]\nrate_kbps = 200\ndelay_ms = 150\nqueue_ms = 500\nloss_percent = 10\n';
const NARROW = 'seed = 7\n[[both]]\nrate_kbps = 250\ndelay_ms = 25\nqueue_ms = 300\n';
const RATE = 48_000;
/** A starved machine conceals too: such a run says nothing. */
const VOID = 'void: the machine conceals more than 1 % on a good link';

/** What is heard and seen of `identity` from now on, for so many seconds of sound. */
async function during(page, identity, seconds) {
  const [sound, picture] = [await remote(page, identity, 'microphone'), await remote(page, identity)];
  const since = Date.now();
  const heard = await until(
    `${page.identity} has played ${seconds} s of ${identity}`,
    async () => {
      const now = await remote(page, identity, 'microphone');
      return now.samples - sound.samples >= seconds * RATE && now;
    },
    { seconds: seconds * 2 + 20, show: () => remote(page, identity, 'microphone') },
  );
  const seen = await remote(page, identity);
  const madeUp = heard.concealed - heard.silentConcealed - (sound.concealed - sound.silentConcealed);
  return {
    concealed: (100 * madeUp) / (heard.samples - sound.samples),
    fps: ((seen.frames ?? 0) - (picture.frames ?? 0)) / ((Date.now() - since) / 1000),
  };
}

/** Anna speaks and shows herself; Ben is behind a link that is good until it is changed. */
async function call(world, room) {
  const link = await world.poorLink(2, GOOD);
  const publish = { video: { width: 640, height: 360, frameRate: 15 }, simulcast: true };
  const options = { publishDefaults: { dtx: false, red: false } };
  const [, ben] = await Promise.all([
    world.join(1, room, 'anna', { publish, options }),
    world.join(2, room, 'ben', { publish: false }),
  ]);
  await sees(ben, 'anna', { seconds: 45 });
  await hears(ben, 'anna');
  const before = await during(ben, 'anna', 8);
  console.log(`# on a good link: ${before.concealed.toFixed(2)} % concealed, ${before.fps.toFixed(1)} fps`);
  return { link, ben, isVoid: before.concealed > 1 };
}

scenario('200 kbit/s, 300 ms, 10 % loss: the speaker is heard', async (world, room, context) => {
  const { link, ben, isVoid } = await call(world, room);
  if (isVoid) return context.skip(VOID);
  link.change(HOTEL);
  const settling = await during(ben, 'anna', 10);
  const after = await during(ben, 'anna', 30);
  console.log(`# P1: ${after.concealed.toFixed(2)} % concealed, ${after.fps.toFixed(1)} fps (the first ten seconds: ${settling.concealed.toFixed(2)} %)`);
  assert.ok(after.concealed <= 4, `${after.concealed} % of what Ben hears is made up`);
}, { seconds: 240 });

scenario('250 kbit/s for 30 s: heard meanwhile, and whole again soon after', async (world, room, context) => {
  const { link, ben, isVoid } = await call(world, room);
  if (isVoid) return context.skip(VOID);
  await sees(ben, 'anna', { width: 640, seconds: 30 });
  link.change(NARROW);
  const settling = await during(ben, 'anna', 5);
  const meanwhile = await during(ben, 'anna', 25);
  link.change(GOOD);
  const since = Date.now();
  await sees(ben, 'anna', { width: 640, frames: 5, seconds: 30 });
  const back = (Date.now() - since) / 1000;
  console.log(`# B: ${meanwhile.concealed.toFixed(2)} % concealed, ${meanwhile.fps.toFixed(1)} fps (the first five seconds: ${settling.concealed.toFixed(2)} %); large again after ${back.toFixed(1)} s`);
  assert.ok(meanwhile.concealed <= 3, `${meanwhile.concealed} % of what Ben hears is made up`);
  assert.ok(meanwhile.fps >= 5, `${meanwhile.fps} pictures a second`);
  assert.ok(back <= 7, `large again after ${back} s`);
}, { seconds: 240 });
