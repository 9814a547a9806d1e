// Calls over poor links, made by `netsim link`.

import assert from 'node:assert/strict';
import { until } from '../harness/until.mjs';
import { hears, remote, sees, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('loss');

const LOSSY = 'seed = 7\n[[both]]\ndelay_ms = 20\nloss_percent = 5\n';

/** Watches `probe` grow over `pictures` decoded pictures, and says at what rate and how smoothly. */
async function watch(page, identity, pictures) {
  const first = await remote(page, identity);
  const since = Date.now();
  const last = await sees(page, identity, { frames: pictures, seconds: 60 });
  return {
    fps: (last.frames - first.frames) / ((Date.now() - since) / 1000),
    frozenMs: last.frozenMs - first.frozenMs,
    last,
  };
}

scenario('5 % loss on the way to the subscriber is repaired', async (world, room) => {
  await world.poorLink(2, LOSSY);
  const publish = { video: { width: 640, height: 360 } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', { publish }), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna');
  const { fps, frozenMs, last } = await watch(b, 'anna', 150);
  console.log(`# ${fps.toFixed(1)} fps, frozen ${Math.round(frozenMs)} ms, ${last.lost} lost, ${last.nacks} NACKs, ${last.repaired} repaired, ${last.plis} PLIs`);
  assert.ok(last.nacks > 0, 'the browser asked for what was lost');
  assert.ok(last.repaired > 0, 'the server sent it again, as RTX');
  assert.ok(fps > 11, `${fps} pictures a second of 15`);
  assert.ok(frozenMs < 1500, `frozen for ${frozenMs} ms`);
  await hears(b, 'anna');
  // The publisher is on a good link: it is not asked to repeat what the server has.
  const [sent] = await a.evaluate(() => hr.local());
  assert.ok(sent.nacks <= 2, `${sent.nacks} NACKs reached the publisher`);
});

scenario('5 % loss on the way from the publisher is repaired', async (world, room) => {
  await world.poorLink(1, LOSSY);
  const publish = { video: { width: 640, height: 360 } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', { publish }), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna', { seconds: 40 });
  const { fps, frozenMs } = await watch(b, 'anna', 150);
  const [sent] = await a.evaluate(() => hr.local());
  console.log(`# ${fps.toFixed(1)} fps, frozen ${Math.round(frozenMs)} ms, ${sent.nacks} NACKs, ${sent.repaired} repeated, ${sent.plis} PLIs`);
  assert.ok(sent.nacks > 0, 'the server asked for what was lost');
  assert.ok(sent.repaired > 0, 'the publisher sent it again');
  assert.ok(fps > 11, `${fps} pictures a second of 15`);
  assert.ok(frozenMs < 1500, `frozen for ${frozenMs} ms`);
});

scenario('a link that becomes narrow gets a smaller picture, and a larger one when it is wide again', async (world, room) => {
  const rate = (kbps) => `seed = 7\n[[both]]\ndelay_ms = 20\nrate_kbps = ${kbps}\nqueue_ms = 200\n`;
  const link = await world.poorLink(2, rate(20_000));
  const publish = { video: { width: 1280, height: 720, frameRate: 10 }, simulcast: true };
  const [, b] = await Promise.all([world.join(1, room, 'anna', { publish, browser: { fps: 10 } }), world.join(2, room, 'ben', { publish: false })]);
  const large = await sees(b, 'anna', { width: 1280, seconds: 45 });
  // What a busy machine makes of a large picture may be little, and half of its frames are less: so little that not even
  // these fit.
  const since = Date.now();
  const later = await sees(b, 'anna', { width: 1280, frames: 40, seconds: 45 });
  const kbps = (8 * (later.bytes - large.bytes)) / (Date.now() - since);
  const narrow = Math.max(200, Math.round(kbps / 2));
  console.log(`# the large picture takes ${kbps.toFixed(0)} kbit/s, the link ${narrow}`);
  link.change(rate(narrow));
  await until(
    'ben gets a smaller picture',
    async () => {
      const now = await remote(b, 'anna');
      return now.width < 1280 && now;
    },
    { seconds: 45, show: () => remote(b, 'anna') },
  );
  console.log(`# smaller after ${((Date.now() - since) / 1000).toFixed(1)} s`);
  await sees(b, 'anna', { frames: 20 });
  await hears(b, 'anna');
  link.change(rate(20_000));
  const wide = Date.now();
  await sees(b, 'anna', { width: 1280, seconds: 60 });
  console.log(`# large again after ${((Date.now() - wide) / 1000).toFixed(1)} s`);
}, { seconds: 240 });
