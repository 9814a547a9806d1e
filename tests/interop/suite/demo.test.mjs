// The page that `hausruf demo` serves, used as a person uses it.

import assert from 'node:assert/strict';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('demo');

async function enter(world, index, room, name, options) {
  const page = await world.demoPage(index, { path: `/#room=${room}`, ...options });
  page.identity = name;
  await page.waitForSelector('.preview.has-video, .problem:not([hidden])');
  await page.fill('#name', name);
  await page.click('button[type=submit]');
  await page.waitForSelector('.call', { timeout: 20_000 });
  return page;
}

/** The tile of somebody, found by the name a person reads on it. */
const tile = (page, name) => page.locator('.tile.person', { has: page.locator('.name-text', { hasText: name }) });

/** What getStats says about what arrives: picture size, frames, sound. */
const received = (page) =>
  page.evaluate(async () => {
    const report = await hausruf.call.room.engine.pcManager.publisher.getStats();
    const streams = [...report.values()].filter((stat) => stat.type === 'inbound-rtp');
    const video = streams.find((stat) => stat.kind === 'video' && stat.framesDecoded > 0);
    const audio = streams.filter((stat) => stat.kind === 'audio');
    return { width: video?.frameWidth, height: video?.frameHeight, frames: video?.framesDecoded ?? 0, energy: audio.reduce((sum, stat) => sum + (stat.totalAudioEnergy ?? 0), 0) };
  });

async function assertInCall(page) {
  const first = await received(page);
  const last = await until(
    `${page.identity} sees moving pictures and hears sound`,
    async () => {
      const now = await received(page);
      return now.width > 0 && now.frames > first.frames + 5 && now.energy > first.energy ? now : undefined;
    },
    { show: () => received(page) },
  );
  assert.ok(Math.abs(last.width / last.height - 16 / 9) < 0.1, JSON.stringify(last));
}

scenario('two people call each other, share a screen, mute and leave', async (world, room) => {
  const [a, b] = await Promise.all([enter(world, 1, room, 'Anna'), enter(world, 2, room, 'Ben')]);
  await tile(a, 'Ben').waitFor();
  await tile(b, 'Anna').waitFor();
  await Promise.all([assertInCall(a), assertInCall(b)]);

  await until('the graph of Ben shows a bitrate', async () => /\d (k|M)bit\/s · .* lost · .* ms/.test((await tile(a, 'Ben').locator('.graph-text').textContent()) ?? ''));
  await until('Ben is shown as speaking', () => a.evaluate(() => [...document.querySelectorAll('.tile.speaking .name-text')].some((name) => name.textContent === 'Ben')));

  await b.click('[data-action=microphone]');
  await tile(a, 'Ben').locator('.badge:not([hidden])').waitFor();
  await b.click('[data-action=microphone]');
  await tile(a, 'Ben').locator('.badge').waitFor({ state: 'hidden' });

  await b.keyboard.press('v');
  await a.waitForFunction(() => document.querySelectorAll('.tile.has-video').length === 1);
  await b.keyboard.press('v');
  await a.waitForFunction(() => document.querySelectorAll('.tile.has-video').length === 2);

  await b.click('[data-action=screen]');
  await a.waitForSelector('.tile.screen.main.has-video');
  await a.waitForFunction(() => document.querySelector('.tile.screen video').videoWidth > 0);
  await b.click('[data-action=screen]');
  await a.waitForSelector('.tile.screen', { state: 'detached' });
  await Promise.all([assertInCall(a), assertInCall(b)]);

  await b.click('[data-action=leave]');
  await b.waitForSelector('.end-card');
  await tile(a, 'Ben').waitFor({ state: 'detached' });
  assert.equal(await a.locator('.count').textContent(), 'only you');
  assert.deepEqual(a.problems.filter((problem) => problem.startsWith('page error')), []);
});

scenario('an encrypted call between two pages', async (world, room) => {
  const path = { path: `/?e2ee=over+the+fence#room=${room}` };
  const [a, b] = await Promise.all([enter(world, 1, room, 'Anna', path), enter(world, 2, room, 'Ben', path)]);
  await Promise.all([assertInCall(a), assertInCall(b)]);
  await a.waitForSelector('.sealed');
});

scenario('somebody without camera and microphone watches and listens', async (world, room) => {
  const [a, b] = await Promise.all([enter(world, 1, room, 'Anna'), enter(world, 6, room, 'Ben', { browser: { devices: 'none' } })]);
  await tile(a, 'Ben').waitFor();
  await assertInCall(b);
  await b.keyboard.press('v');
  await b.locator('.notice', { hasText: 'No camera found' }).waitFor();
});

scenario('a blocked camera is said in a sentence', async (world, room) => {
  const page = await world.demoPage(1, { path: `/#room=${room}`, context: { permissions: [] } });
  // The answer of the browser when the person says no.
  await page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('Permission denied', 'NotAllowedError'));
  });
  await page.reload();
  await page.locator('.problem', { hasText: 'Your browser blocked the camera' }).waitFor();
});

scenario('a server whose ports of media cannot be reached is said in a sentence', async (world, room) => {
  world.net.blockMedia(3, true);
  try {
    const page = await world.demoPage(3, { path: `/#room=${room}` });
    await page.waitForSelector('.preview.has-video');
    await page.fill('#name', 'Anna');
    await page.click('button[type=submit]');
    await page.locator('.problem', { hasText: /Cannot reach UDP \d+/ }).waitFor({ timeout: 45_000 });
  } finally {
    world.net.blockMedia(3, false);
  }
});

scenario('the page comes back by itself when the server restarts', async (world, room) => {
  const [a, b] = await Promise.all([enter(world, 1, room, 'Anna'), enter(world, 2, room, 'Ben')]);
  await Promise.all([assertInCall(a), assertInCall(b)]);
  await world.server.stop('SIGKILL');
  await a.locator('.notice', { hasText: 'may be restarting' }).waitFor({ timeout: 30_000 });
  await world.server.start();
  await a.locator('.notice', { hasText: 'Back in the call' }).waitFor({ timeout: 60_000 });
  await tile(a, 'Ben').waitFor({ timeout: 60_000 });
  await Promise.all([assertInCall(a), assertInCall(b)]);
}, { seconds: 180 });
