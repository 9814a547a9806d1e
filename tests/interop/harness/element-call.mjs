// Element Call in a page, used as a person uses it.

import { until } from './until.mjs';

/** The first octet of a SignalResponse that holds one: field 1, length-delimited. */
const JOIN_RESPONSE = 0x0a;

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
      globalThis.hrEncoded = new WeakSet();
      const { createEncodedStreams } = RTCRtpSender.prototype;
      RTCRtpSender.prototype.createEncodedStreams = function (...args) {
        globalThis.hrEncoded.add(this);
        return createEncodedStreams.apply(this, args);
      };
    });
    await context.route(`${url}/config.json`, (route) => route.fulfill({ json: config }));
  }

  /**
   * By way of the first page, which shows its links when Element Call knows that nobody is logged in. What its login page
   * (0.26.1) is told before that comes to nothing: it stays at "Logging in…" for good.
   */
  async logIn(name, password) {
    const { page } = this;
    await page.goto(this.url);
    await page.click('[data-testid=home_login]', { timeout: 30_000 });
    await page.fill('[data-testid=login_username]', name);
    await page.fill('[data-testid=login_password]', password);
    await page.click('[data-testid=login_login]');
    // Not waitForURL: that waits for a load, and the page changes its address without one.
    await page.waitForFunction(() => location.pathname === '/', undefined, { timeout: 30_000 });
  }

  async open(room) {
    await this.page.goto(`${this.url}/room/#?roomId=${encodeURIComponent(room)}`);
    await this.page.waitForSelector('[data-testid=lobby_joinCall]', { timeout: 60_000 });
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

  isInCall() {
    return this.page.isVisible('[data-testid=incall_leave]');
  }

  /** Whether media has a way to the server and back. */
  isConnected() {
    return this.page.evaluate(() => globalThis.hrConnections.some((one) => one.connectionState === 'connected'));
  }

  /** Waits until a server lets the page into its call anew: a join response on a new WebSocket. */
  joinsAgain({ seconds = 20 } = {}) {
    return this.page.waitForEvent('websocket', {
      predicate: (socket) => socket.waitForEvent('framereceived', { timeout: 5_000 }).then(({ payload }) => payload[0] === JOIN_RESPONSE, () => false),
      timeout: seconds * 1000,
    });
  }

  toggleScreen() {
    return this.page.click('[data-testid=incall_screenshare]');
  }

  /** The names on the tiles. */
  names() {
    return this.page.evaluate(() => [...document.querySelectorAll('[data-testid=videoTile] [data-testid=name_tag]')].map((tag) => tag.textContent));
  }

  /** What arrives, by getStats of every live connection: pictures and sound that could be decrypted and decoded. */
  received() {
    return this.page.evaluate(async () => {
      const streams = {};
      for (const [index, connection] of globalThis.hrConnections.entries()) {
        if (connection.connectionState !== 'connected') continue;
        for (const stat of (await connection.getStats()).values()) {
          if (stat.type === 'inbound-rtp') streams[`${stat.kind} ${index}/${stat.id}`] = stat.kind === 'audio' ? (stat.totalAudioEnergy ?? 0) : (stat.framesDecoded ?? 0);
        }
      }
      return streams;
    });
  }

  /** Waits until `videos` pictures move, and sound is heard. */
  async seesAndHears({ videos = 1, seconds = 40 } = {}) {
    const before = await this.received();
    const grown = (now, kind, least) => Object.keys(now).filter((id) => id.startsWith(kind) && now[id] > (before[id] ?? 0) + least).length;
    await until(
      `${this.user} sees ${videos} and hears`,
      async () => {
        const now = await this.received();
        return grown(now, 'video', 3) >= videos && grown(now, 'audio', 1e-5) >= 1;
      },
      { seconds, show: async () => ({ ...(await this.received()), names: await this.names() }) },
    );
  }

  /** Whether everything that the page sends is encrypted by it, frame by frame. */
  encrypts() {
    return this.page.evaluate(() => {
      const senders = globalThis.hrConnections.filter((one) => one.connectionState === 'connected').flatMap((one) => one.getSenders().filter((sender) => sender.track));
      return senders.length > 0 && senders.every((sender) => sender.transform || globalThis.hrEncoded.has(sender));
    });
  }
}
