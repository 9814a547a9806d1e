// Who is on a weak connection is told so, in words, and so are the others.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { OUT, PEER } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { hears, remote, sees } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('weak-links', undefined, { skip: PEER !== 'hausruf' });

const GOOD = 'seed = 7\n[[both]]\nrate_kbps = 10000\ndelay_ms = 15\nqueue_ms = 300\n';
/** Sound fits, a picture does not. */
const VOICE = 'seed = 7\n[[both]]\nrate_kbps = 90\ndelay_ms = 40\nqueue_ms = 400\n';

/** What `page` was told of the connection of `identity`, oldest first. */
const qualities = (page, identity) =>
  page.evaluate((identity) => hr.events.filter((event) => event.event === 'quality' && event.identity === identity).map((event) => event.quality), identity);

scenario('both ends hear that a connection is weak, and that it is not any more', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const publish = { video: { width: 640, height: 360, frameRate: 15 }, simulcast: true };
  const [anna, ben] = await Promise.all([
    world.join(1, room, 'anna', { publish }),
    world.join(2, room, 'ben', { publish: { video: false } }),
  ]);
  await sees(ben, 'anna', { seconds: 45 });
  await hears(anna, 'ben');
  const is = (page, identity, quality, seconds) =>
    until(`${page.identity} hears that the connection of ${identity} is ${quality}`, async () => (await qualities(page, identity)).at(-1) === quality, {
      seconds,
      show: () => qualities(page, identity),
    });
  for (const [page, identity] of [[ben, 'ben'], [anna, 'ben'], [anna, 'anna'], [ben, 'anna']]) await is(page, identity, 'excellent', 40);
  link.change(VOICE);
  await Promise.all([is(ben, 'ben', 'poor', 25), is(anna, 'ben', 'poor', 25)]);
  assert.equal((await qualities(ben, 'anna')).at(-1), 'excellent', 'it is not the connection of Anna');
  link.change(GOOD);
  await Promise.all([is(ben, 'ben', 'excellent', 60), is(anna, 'ben', 'excellent', 60)]);
  for (const page of [anna, ben]) {
    const told = [...(await qualities(page, 'anna')), ...(await qualities(page, 'ben'))];
    assert.ok(!told.includes('lost'), `${page.identity} was told ${told}`);
  }
}, { seconds: 240 });

scenario('the page says in words that a connection is weak', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const pages = await Promise.all([1, 2].map((index) => world.demoPage(index, { path: `/#${room}`, context: { viewport: { width: 960, height: 600 } } })));
  const [anna, ben] = pages;
  for (const [page, name] of [[anna, 'Anna'], [ben, 'Ben']]) {
    page.identity = name;
    await page.fill('#name', name);
    await page.click('button[type=submit]');
    await page.waitForSelector('.call');
  }
  const moving = (page) =>
    page.waitForFunction(() => [...document.querySelectorAll('.tile video')].filter((video) => video.videoWidth > 0).length === 2, undefined, { timeout: 45_000 });
  await Promise.all([moving(anna), moving(ben)]);
  assert.equal(await ben.locator('[data-notice=weak]').count(), 0);
  link.change(VOICE);
  const words = 'Your connection is weak: video paused, audio kept.';
  await ben.waitForSelector(`[data-notice=weak]:has-text("${words}")`, { timeout: 30_000 });
  await ben.waitForSelector(`.tile .paused:not([hidden]):has-text("${words}")`);
  await anna.waitForSelector('.weak:not([hidden]):has-text("Ben’s connection is weak")', { timeout: 30_000 });
  await ben.screenshot({ path: join(OUT, 'weak-own.png') });
  await anna.screenshot({ path: join(OUT, 'weak-other.png') });
  link.change(GOOD);
  await ben.waitForSelector('[data-notice=weak]', { state: 'detached', timeout: 60_000 });
  await anna.waitForSelector('.weak:has-text("Ben’s")', { state: 'hidden', timeout: 60_000 });
}, { seconds: 240 });

/** What fits of a camera is its lowest layer, and of the next one a part. */
const NARROW = 'seed = 7\n[[both]]\nrate_kbps = 250\ndelay_ms = 20\nqueue_ms = 300\n';
const HD = { width: 1280, height: 720, frameRate: 10 };

const layers = (page) => page.evaluate(() => hr.local());

scenario('a publisher rests what no link of a viewer reaches, and sends it again when one does', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const [anna, ben] = await Promise.all([
    world.join(1, room, 'anna', { publish: { video: HD, simulcast: true }, options: { dynacast: true } }),
    world.join(2, room, 'ben', { publish: false }),
  ]);
  const top = async () => (await layers(anna)).find(({ rid }) => rid === 'f');
  await sees(ben, 'anna', { width: 1280, seconds: 45 });
  assert.ok((await top()).active);
  const narrow = link.change(NARROW);
  let sent;
  const rested = () => until(
    'anna rests her top layer',
    async () => {
      const before = sent;
      sent = await top();
      return !sent.active && sent.bytes === before?.bytes;
    },
    { seconds: 60, show: () => layers(anna) },
  );
  await rested();
  console.log(`# the top layer rests after ${((Date.now() - narrow) / 1000).toFixed(1)} s`);
  await sees(ben, 'anna', { frames: 30, seconds: 60 });
  await hears(ben, 'anna');
  assert.equal((await top()).bytes, sent.bytes, 'nothing was sent of what rests');
  const wide = link.change(GOOD);
  await sees(ben, 'anna', { width: 1280, seconds: 30 });
  console.log(`# it is seen again after ${((Date.now() - wide) / 1000).toFixed(1)} s`);
  const { width } = await sees(ben, 'anna', { frames: 100, seconds: 60 });
  assert.equal(width, 1280, 'and stays');
}, { seconds: 240 });

scenario('who publishes one encoding is held to what its viewer has room for', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const [anna, ben] = await Promise.all([
    world.join(1, room, 'anna', { publish: { video: HD } }),
    world.join(2, room, 'ben', { publish: false }),
  ]);
  await sees(ben, 'anna', { width: 1280, seconds: 45 });
  const estimate = async () => (await anna.evaluate(() => hr.pair())).availableBps;
  const is = (what, check, seconds) => until(`anna is ${what}`, async () => check(await estimate()), { seconds, show: estimate });
  await is('free', (bps) => bps > 1_000_000, 30);
  const narrow = link.change(NARROW);
  await is('capped', (bps) => bps < 300_000, 30);
  await sees(ben, 'anna', { frames: 5, seconds: 30 });
  console.log(`# ben sees anna again after ${((Date.now() - narrow) / 1000).toFixed(1)} s`);
  const frozen = (await remote(ben, 'anna')).frozenMs;
  const { frozenMs } = await sees(ben, 'anna', { frames: 200, seconds: 90 });
  assert.ok(frozenMs - frozen < 5000, `frozen for ${frozenMs - frozen} ms`);
  const held = await estimate();
  assert.ok(held < 300_000, `she is still held back: ${held}`);
  const wide = link.change(GOOD);
  await is('free again', (bps) => bps > 1_000_000, 30);
  console.log(`# free again after ${((Date.now() - wide) / 1000).toFixed(1)} s`);
}, { seconds: 240 });

/**
 * Of a camera with three temporal layers (230 to 300 kbit/s) the base layer fits beside a voice that is sent twice, as it is
 * when the queue ran over as the link became narrow; and not the whole.
 */
const BASE = 'seed = 7\n[[both]]\nrate_kbps = 215\ndelay_ms = 20\nqueue_ms = 300\n';
const LAYERED = { video: { width: 640, height: 360, frameRate: 30 }, videoCodec: 'h264', layers: 'L1T3', videoEncoding: { maxBitrate: 800_000, maxFramerate: 30 } };

scenario('H.264 with temporal layers: who has a narrow link sees fewer pictures, and they do not stand', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const [, ben, clara] = await Promise.all([
    world.join(4, room, 'anna', { publish: LAYERED, browser: { fps: 30 } }),
    world.join(2, room, 'ben', { publish: false }),
    // For her all of it is sent.
    world.join(3, room, 'clara', { publish: false }),
  ]);
  await Promise.all([ben, clara].map((page) => sees(page, 'anna', { width: 640, seconds: 45 })));
  const seen = () => Promise.all([ben, clara].map((page) => remote(page, 'anna')));
  assert.match((await seen())[0].codec, /H264/i);
  /** What comes in some seconds: Ben's part of the pictures that Clara sees, and what befell his. */
  const measure = async (seconds) => {
    const before = await seen();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const [his, hers] = (await seen()).map((now, index) => {
      const since = (field) => now[field] - before[index][field];
      return { frames: since('frames'), frozenMs: since('frozenMs'), keyFrames: since('keyFrames'), plis: since('plis') };
    });
    return { part: his.frames / hers.frames, hers: hers.frames / seconds, ...his };
  };
  let last;
  const is = (what, check) => until(`ben sees ${what}`, async () => check(last = await measure(4)), { seconds: 60, show: () => last });
  await is('everything', ({ part }) => part > 0.9);
  const narrow = link.change(BASE);
  // Every fourth picture, or every second when the middle layer fits.
  await is('the lower layers', ({ part, frozenMs }) => part < 0.6 && frozenMs === 0);
  console.log(`# thinned and flowing within ${((Date.now() - narrow) / 1000).toFixed(1)} s`);
  const thinned = await measure(15);
  console.log(`# ${JSON.stringify(thinned)}`);
  assert.ok(thinned.part > 0.2 && thinned.part < 0.6, 'whole layers');
  assert.ok(thinned.hers > 15, 'what clara sees is not thinned');
  assert.deepEqual([thinned.keyFrames, thinned.plis], [0, 0], 'it needs no keyframe');
  assert.ok(thinned.frozenMs < 1000, `frozen for ${thinned.frozenMs} ms`);
  const [before] = await seen();
  const wide = link.change(GOOD);
  await is('everything again', ({ part }) => part > 0.9);
  console.log(`# everything again within ${((Date.now() - wide) / 1000).toFixed(1)} s`);
  assert.equal((await remote(ben, 'anna')).keyFrames, before.keyFrames, 'without a keyframe');
}, { seconds: 240 });
