// node screenshots.mjs [name…]: pictures of the page in its states, into out/. To be looked at by a
// person; the tests do not compare pixels.

import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { OUT } from './harness/server.mjs';
import { until } from './harness/until.mjs';
import { World } from './harness/world.mjs';

const only = process.argv.slice(2);
const world = await World.open('screenshots');
mkdirSync(OUT, { recursive: true });

async function shot(page, name) {
  const path = join(OUT, `shot-${name}.png`);
  await page.screenshot({ path });
  console.log(path);
}

async function enter(page, name) {
  await page.fill('#name', name);
  await page.click('button[type=submit]');
  await page.waitForSelector('.call');
}

const people = (page, count) => page.waitForFunction((count) => document.querySelectorAll('.tile').length === count, count);
const pictures = (page, count) =>
  page.waitForFunction(
    (count) => [...document.querySelectorAll('.tile video')].filter((video) => video.videoWidth > 0).length >= count,
    count,
    { timeout: 30_000 },
  );
const graphs = (page) => page.waitForSelector('.graph:not([hidden])', { state: 'attached' });
const moments = (page, seconds) => page.waitForTimeout(seconds * 1000);

const light = { viewport: { width: 1280, height: 760 }, colorScheme: 'light' };
const dark = { ...light, colorScheme: 'dark' };
const phone = { viewport: { width: 390, height: 800 }, colorScheme: 'light', deviceScaleFactor: 2 };

const SHOTS = {
  async lobby() {
    for (const [name, context] of Object.entries({ light, dark, phone })) {
      const page = await world.demoPage(1, { context, path: '/#kitchen' });
      await page.waitForSelector('.preview.has-video');
      await moments(page, 1);
      await shot(page, `lobby-${name}`);
    }
  },
  async one() {
    const page = await world.demoPage(1, { context: light, path: '/#kitchen' });
    await enter(page, 'Martha Weber');
    await pictures(page, 1);
    await graphs(page);
    await moments(page, 4);
    await shot(page, 'one-light');
  },
  async two() {
    const a = await world.demoPage(1, { context: light, path: '/#kitchen' });
    const b = await world.demoPage(2, { context: dark, path: '/#kitchen' });
    await enter(a, 'Martha Weber');
    await enter(b, 'Jakob');
    await pictures(a, 2);
    await pictures(b, 2);
    await moments(a, 12);
    await shot(a, 'two-light');
    await shot(b, 'two-dark');
    await b.keyboard.press('v');
    await b.keyboard.press('m');
    await a.waitForSelector('.tile:not(.has-video)');
    await moments(a, 1);
    await shot(a, 'two-muted');
    await b.setViewportSize({ width: 390, height: 800 });
    await moments(b, 1);
    await shot(b, 'two-narrow');
  },
  async five() {
    const names = ['Martha Weber', 'Jakob', 'Oma Inge', 'Paul K.', 'Dr. Sophie Lindemann-Hartwig'];
    const pages = [];
    for (const [index, name] of names.entries()) {
      const page = await world.demoPage(1 + (index % 3), { context: index === 0 ? dark : { ...light, viewport: { width: 480, height: 360 } }, path: '/#kitchen' });
      await enter(page, name);
      pages.push(page);
    }
    const [a] = pages;
    await people(a, 5);
    await pages[3].keyboard.press('v');
    await pages[2].keyboard.press('m');
    await pictures(a, 4);
    await moments(a, 8);
    await shot(a, 'five-dark');
    await a.emulateMedia({ colorScheme: 'light' });
    await moments(a, 1);
    await shot(a, 'five-light');
    await a.setViewportSize({ width: 390, height: 800 });
    await moments(a, 2);
    await shot(a, 'five-narrow');
    await a.setViewportSize({ width: 1280, height: 760 });
    await pages[1].click('[data-action=screen]');
    await people(a, 6);
    await moments(a, 4);
    await shot(a, 'five-screen');
    await a.setViewportSize({ width: 390, height: 800 });
    await moments(a, 1);
    await shot(a, 'five-screen-narrow');
  },
  async weak() {
    const link = await world.poorLink(4, 'seed = 7\n[[both]]\nrate_kbps = 10000\ndelay_ms = 15\nqueue_ms = 300\n');
    const names = ['Martha Weber', 'Jakob', 'Oma Inge', 'Paul K.'];
    const pages = [];
    for (const [index, name] of names.entries()) {
      const page = await world.demoPage(1 + index, { context: index === 3 ? light : { ...light, viewport: { width: 480, height: 360 } }, path: '/#kitchen' });
      await enter(page, name);
      pages.push(page);
    }
    await pictures(pages[3], 4);
    await moments(pages[3], 6);
    link.change('seed = 7\n[[both]]\nrate_kbps = 200\ndelay_ms = 150\nqueue_ms = 500\n');
    await pages[3].waitForSelector('[data-notice=weak]', { timeout: 30_000 });
    await moments(pages[3], 8);
    await shot(pages[3], 'weak-own');
    await shot(pages[0], 'weak-other');
  },
  async errors() {
    const none = await world.demoPage(4, { context: light, path: '/#kitchen', browser: { devices: 'none' } });
    await none.waitForSelector('.problem:not([hidden])');
    await shot(none, 'error-no-devices');
    await enter(none, 'Jakob');
    await none.keyboard.press('v');
    await none.waitForSelector('.notice');
    await shot(none, 'error-in-call');
    const page = await world.demoPage(1, { context: dark, path: '/#kitchen' });
    await enter(page, 'Martha');
    await moments(page, 2);
    await world.server.stop('SIGKILL');
    await page.waitForSelector('.notice.warning');
    await moments(page, 3);
    await shot(page, 'error-restarting');
    const late = await world.demoPage(2, { context: light, path: '/' }).catch(() => undefined);
    if (late) {
      await late.fill('#name', 'Paul');
      await late.click('button[type=submit]');
      await late.waitForSelector('.problem:not([hidden])', { timeout: 60_000 });
      await shot(late, 'error-no-server');
    }
    await until('the call gives up', () => page.$('.end-card'), { seconds: 120 }).catch(() => undefined);
    await shot(page, 'error-end');
  },
};

try {
  for (const [name, run] of Object.entries(SHOTS)) {
    if (only.length > 0 && !only.includes(name)) continue;
    await run();
    await world.clear();
  }
} catch (error) {
  await world.explain('screenshots');
  console.error(error);
  process.exitCode = 1;
} finally {
  await world.close();
}
