// A server and its clients, for one test file.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launchChromium } from './chromium.mjs';
import { Net } from './net.mjs';
import { PoorLink } from './poor-link.mjs';
import { routeBarePage, routeDemoPage } from './pages.mjs';
import { BASE_URL, OUT, Server, WS_URL } from './server.mjs';
import { tokenFor } from './token.mjs';
import { until } from './until.mjs';

export class World {
  net = new Net();
  #browsers = new Map();
  #pages = [];
  #links = [];

  constructor(name) {
    this.name = name;
    this.server = new Server(this.net, name);
  }

  static async open(name) {
    const world = new this(name);
    try {
      await world.start();
    } catch (error) {
      await world.close();
      throw error;
    }
    return world;
  }

  async start() {
    await this.server.start();
  }

  /** The browser of client `index`; starts when it is first asked for, then serves the whole file. */
  async browser(index, options) {
    const known = this.#browsers.get(index);
    if (known?.isConnected()) return known;
    const browser = await launchChromium(this.net.client(index), { person: index, ...options });
    this.#browsers.set(index, browser);
    return browser;
  }

  /** Puts a poor link between client `index` and the server; `schedule` as netsim's README says. */
  async poorLink(index, schedule) {
    const link = new PoorLink(this.net, index, join(OUT, `${this.name}-link${index}`));
    this.#links.push(link);
    await link.start(schedule);
    return link;
  }

  /** Ends the browser of client `index` as a crash does: no goodbye. */
  kill(index) {
    process.kill(this.#browsers.get(index).pid, 'SIGKILL');
    this.#browsers.delete(index);
  }

  /** A page of `origin` in the browser of client `index`, in a context of its own. */
  async page(index, { browser: browserOptions, context: contextOptions, origin = BASE_URL, route }) {
    const browser = await this.browser(index, browserOptions);
    const context = await browser.newContext(contextOptions);
    // Chromium cannot know that a page which the harness served came from the same machine as the
    // server, and would refuse it the way there.
    await context.grantPermissions(['local-network-access'], { origin });
    await route(context);
    const page = await context.newPage();
    page.problems = [];
    page.on('pageerror', (error) => page.problems.push(`page error: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') page.problems.push(`${message.type()}: ${message.text()}`);
    });
    this.#pages.push(page);
    return page;
  }

  async demoPage(index, { path = '/', ...options } = {}) {
    const page = await this.page(index, { ...options, route: routeDemoPage });
    await page.goto(`${BASE_URL}${path}`);
    return page;
  }

  async barePage(index, options = {}) {
    const page = await this.page(index, { ...options, route: routeBarePage });
    await page.goto(`${BASE_URL}/bare/`);
    await page.waitForFunction(() => globalThis.hr !== undefined);
    return page;
  }

  /**
   * A bare client that is in the room. `publish` is handed to hr.publish; false publishes nothing. `tiles` are sizes by
   * identity; `watch` records what arrives.
   */
  async join(index, room, identity, { publish = {}, options = {}, token = {}, tiles = {}, watch = false, browser, context } = {}) {
    const page = await this.barePage(index, { browser, context });
    const jwt = tokenFor(room, identity, token);
    page.identity = identity;
    await page.evaluate(([tiles, watch]) => {
      Object.assign(hr.tiles, tiles);
      if (watch) hr.watch();
    }, [tiles, watch]);
    page.sid = await page.evaluate(([url, token, options]) => hr.join(url, token, options), [WS_URL, jwt, options]);
    if (publish) await page.evaluate((publish) => hr.publish(publish), publish);
    return page;
  }

  /** Ends every page and link of a finished test, so that the next one has the machine for itself. */
  async clear() {
    await Promise.all(
      this.#pages.splice(0).map(async (page) => {
        await page.evaluate(() => (globalThis.hr?.room ?? globalThis.hausruf?.call?.room)?.disconnect()).catch(() => {});
        await page.context().close().catch(() => {});
      }),
    );
    for (const link of this.#links.splice(0)) await link.stop();
  }

  /** After a failed test: what every page looks like and complained about. */
  async explain(testName) {
    mkdirSync(OUT, { recursive: true });
    for (const [index, page] of this.#pages.entries()) {
      if (page.isClosed()) continue;
      const file = join(OUT, `${testName.replace(/\W+/g, '-').slice(0, 80)}-${index}.png`);
      await page.screenshot({ path: file, timeout: 5000 }).catch(() => {});
      const events = await page.evaluate(() => globalThis.hr?.events.filter((event) => event.event !== 'speakers').slice(-25)).catch(() => undefined);
      console.error(`--- page ${page.identity ?? index}: ${file}`);
      if (events) console.error(events.map((event) => JSON.stringify(event)).join('\n'));
      if (page.problems.length) console.error(page.problems.slice(-15).join('\n'));
    }
    try {
      for (const link of this.server.links()) console.error(describeLink(link));
    } catch (error) {
      console.error(`what the server remembers of links: ${error.message}`);
    }
    console.error(`--- server log: ${this.server.logFile}`);
  }

  async close() {
    await this.clear();
    await Promise.all([...this.#browsers.values()].map((browser) => browser.close().catch(() => {})));
    this.#browsers.clear();
    await this.server.stop().catch(() => {});
    this.net.close();
  }
}

/** What the server remembers of somebody's link: what it says, the last half minute, and which layer was sent when. */
function describeLink({ name, sentences, seconds, tracks, changes }) {
  const named = new Map(tracks.map(({ track, publisher, source }) => [track, `${publisher}/${source}`]));
  const told = (second) => JSON.stringify(Object.fromEntries(Object.entries(second).filter(([, value]) => value !== null && value !== 0)));
  return [
    `--- the link of ${name}`,
    ...sentences,
    ...seconds.slice(-30).map(told),
    ...changes.slice(-40).map(({ at, track, layer, portion }) => `${at} ${named.get(track) ?? track}: layer ${layer}, ${portion}`),
  ].join('\n');
}

/** Waits until `page` decodes more pictures of `identity` and hears more of its sound. */
export async function seesAndHears(page, identity, { audio = true, video = true, seconds = 30, width, height } = {}) {
  if (video) await sees(page, identity, { seconds, width, height });
  if (audio) await hears(page, identity, { seconds });
}

export async function sees(page, identity, { source = 'camera', seconds = 30, frames = 5, width, height } = {}) {
  const first = await remote(page, identity, source);
  return until(
    `${page.identity} sees ${source} of ${identity}${width ? ` at ${width}x${height}` : ''}`,
    async () => {
      const now = await remote(page, identity, source);
      if (!now?.width || (width && now.width !== width) || (height && now.height !== height)) return undefined;
      return now.frames >= (first?.frames ?? 0) + frames ? now : undefined;
    },
    { seconds, show: () => remote(page, identity, source) },
  );
}

export async function hears(page, identity, { source = 'microphone', seconds = 30 } = {}) {
  const first = await remote(page, identity, source);
  return until(
    `${page.identity} hears ${source} of ${identity}`,
    async () => {
      const now = await remote(page, identity, source);
      return now?.audioEnergy > (first?.audioEnergy ?? 0) + 1e-5 ? now : undefined;
    },
    { seconds, show: () => remote(page, identity, source) },
  );
}

export function remote(page, identity, source = 'camera') {
  return page.evaluate(([identity, source]) => hr.remote(identity, source), [identity, source]);
}

export function countOf(page, event, match) {
  return page.evaluate(([event, match]) => hr.count(event, match), [event, match]);
}

/** The candidate pair of a page without a relay: a browser begins with what answers first, and goes over to the best. */
export function directPair(page) {
  const selected = () => page.evaluate(() => hr.pair());
  return until(
    `${page.identity} has a candidate pair without a relay`,
    async () => {
      const pair = await selected();
      return pair && pair.local.type !== 'relay' && pair;
    },
    { show: selected },
  );
}
