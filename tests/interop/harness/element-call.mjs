// Element Call in a page, used as a person uses it.

import { until } from './until.mjs';

export class ElementCall {
  constructor(page, url, user) {
    this.page = page;
    this.url = url;
    this.user = user;
  }

  /** Before the first page: it reads `config` as its config.json, and the connections of the page are kept where getStats can be asked of them. */
  static async prepare(context, url, config) {
    await context.addInitScript(() => {
      const Original = globalThis.RTCPeerConnection;
      globalThis.hrConnections = [];
      globalThis.RTCPeerConnection = class extends Original {
        constructor(...args) {
          super(...args);
          globalThis.hrConnections.push(this);
        }
      };
    });
    await context.route(`${url}/config.json`, (route) => route.fulfill({ json: config }));
  }

  async logIn(name, password) {
    const { page } = this;
    await page.goto(`${this.url}/login`);
    await page.fill('[data-testid=login_username]', name);
    await page.fill('[data-testid=login_password]', password);
    await page.click('[data-testid=login_login]');
    await page.waitForURL((url) => url.pathname === '/', { timeout: 30_000 });
  }

  async open(room) {
    await this.page.goto(`${this.url}/room/#?roomId=${encodeURIComponent(room)}`);
    await this.page.waitForSelector('[data-testid=lobby_joinCall]', { timeout: 30_000 });
  }

  async join(room) {
    await this.open(room);
    await this.page.click('[data-testid=lobby_joinCall]');
    await this.page.waitForSelector('[data-testid=incall_leave]', { timeout: 30_000 });
  }

  async leave() {
    await this.page.click('[data-testid=incall_leave]');
    await this.page.waitForSelector('[data-testid=incall_leave]', { state: 'detached', timeout: 15_000 });
  }

  toggleScreen() {
    return this.page.click('[data-testid=incall_screenshare]');
  }

  /** The names on the tiles. */
  names() {
    return this.page.evaluate(() => [...document.querySelectorAll('[data-testid=videoTile] [data-testid=name_tag]')].map((tag) => tag.textContent));
  }

  /** What arrives, by getStats of every connection: pictures and sound that could be decrypted and decoded. */
  received() {
    return this.page.evaluate(async () => {
      const videos = [];
      let energy = 0;
      for (const connection of globalThis.hrConnections.filter((one) => one.connectionState === 'connected')) {
        for (const stat of (await connection.getStats()).values()) {
          if (stat.type !== 'inbound-rtp') continue;
          if (stat.kind === 'audio') energy += stat.totalAudioEnergy ?? 0;
          else videos.push({ id: `${connection.getConfiguration ? globalThis.hrConnections.indexOf(connection) : 0}/${stat.id}`, frames: stat.framesDecoded ?? 0, width: stat.frameWidth, height: stat.frameHeight });
        }
      }
      return { videos, energy };
    });
  }

  /** Waits until `videos` pictures move and sound is heard. */
  async seesAndHears({ videos = 1, audio = true, seconds = 40 } = {}) {
    const first = await this.received();
    const before = new Map(first.videos.map((video) => [video.id, video.frames]));
    await until(
      `${this.user} sees ${videos} and hears`,
      async () => {
        const now = await this.received();
        const moving = now.videos.filter((video) => video.frames > (before.get(video.id) ?? 0) + 3);
        return moving.length >= videos && (!audio || now.energy > first.energy + 1e-5);
      },
      { seconds, show: async () => ({ ...(await this.received()), names: await this.names() }) },
    );
  }
}
