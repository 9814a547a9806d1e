// A Synapse, Hausruf beside it and Element Call, in the server's namespace. Clients are Chromiums with Element Call.

import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { placeBeside } from '../../../demo/matrix/beside.mjs';
import { configFor } from '../../../demo/matrix/element-call.mjs';
import { Synapse } from '../../../demo/matrix/synapse.mjs';
import { ELEMENT_CALL_URLS } from './chromium.mjs';
import { ElementCall } from './element-call.mjs';
import { Fetcher } from './fetcher.mjs';
import { BASE_URL, HAUSRUF_BIN, HTTP_PORT, OUT, SERVER_ADDRESS_OF_MEDIA as ADDRESS, Server } from './server.mjs';
import { until } from './until.mjs';
import { World } from './world.mjs';

const ELEMENT_CALL_SERVER = fileURLToPath(new URL('../../../demo/matrix/element-call.mjs', import.meta.url));

/** What a test does in a minute, people do in a day. */
const FAST = Object.fromEntries(
  ['rc_message', 'rc_joins_local', 'rc_delayed_event_mgmt', 'rc_login_address', 'rc_invites'].map((name) => [name, { per_second: 1000, burst_count: 1000 }]),
);

export class MatrixWorld extends World {
  #fetcher = new Fetcher(this.net.server);
  #children = [];
  #tokens = new Map();
  #rooms = 0;
  #calls = [];

  constructor(name) {
    super(name);
    const folder = join(OUT, `${name}-homeserver`);
    rmSync(folder, { recursive: true, force: true });
    const { settings, tls, ...more } = this.prepare(folder);
    this.synapse = this.makeSynapse({ folder, address: ADDRESS, serverName: `${ADDRESS}:8448` }, settings, tls);
    this.config = placeBeside(this.synapse, { binary: HAUSRUF_BIN, folder: join(folder, 'hausruf'), url: BASE_URL, address: ADDRESS, listen: `${ADDRESS}:${HTTP_PORT}`, ...more });
    this.server = new Server(this.net, name, () => [HAUSRUF_BIN, ['serve', '--config', this.config]]);
  }

  /** What a kind of world adds: `{settings, tls}` of the homeserver, `tables` of hausruf.toml. */
  prepare() {
    return {};
  }

  makeSynapse(options, settings = {}, tls = undefined) {
    const command = ['ip', 'netns', 'exec', this.net.server];
    const synapse = new Synapse({ ...options, command, fetch: (url, options) => this.fetch(url, options) });
    const login = FAST.rc_login_address;
    synapse.configure({ ...FAST, rc_login: { address: login, account: login, failed_attempts: login }, presence: { enabled: false }, ...settings }, tls);
    return synapse;
  }

  /** An HTTP request from the server's namespace; answers `{status, headers, body}`. */
  fetch(url, options) {
    return this.#fetcher.fetch(url, options);
  }

  async start() {
    await Promise.all([this.server.start(), this.startHomeserver(this.synapse, ELEMENT_CALL_URLS[0])]);
  }

  /** Starts a homeserver, and Element Call for it at `url`. */
  async startHomeserver(synapse, url) {
    const options = JSON.stringify({ homeserver: synapse.url, serverName: synapse.serverName });
    const { hostname, port } = new URL(url);
    this.#children.push(spawn('ip', ['netns', 'exec', this.net.server, process.execPath, ELEMENT_CALL_SERVER, hostname, port, options], { stdio: 'inherit' }));
    await synapse.start();
    await until(`Element Call is served on ${url}`, async () => (await this.fetch(`${url}/config.json`)).status === 200);
  }

  /** The session of a user (made when first asked for) that speaks to the homeserver's API itself. */
  async session(name, synapse = this.synapse) {
    const key = `${name}@${synapse.url}`;
    if (!this.#tokens.has(key)) {
      await synapse.register(name, name);
      this.#tokens.set(key, await synapse.login(name, name));
    }
    return this.#tokens.get(key);
  }

  /** A new encrypted room of the given users; the first one made it. Answers its id. */
  async room(...names) {
    return this.#room(names);
  }

  /** The same, not encrypted. */
  async plainRoom(...names) {
    return this.#room(names, { encrypted: false });
  }

  async #room(names, options) {
    const sessions = [];
    for (const name of names) sessions.push(await this.session(name));
    const [owner, ...others] = sessions;
    const room = await this.synapse.createRoom(owner.access_token, { name: `Kitchen ${++this.#rooms}`, invite: others.map((other) => other.user_id), ...options });
    for (const { access_token } of others) await this.asUser(access_token, 'POST', `/join/${encodeURIComponent(room)}`);
    return room;
  }

  asUser(token, method, path, body = {}) {
    return this.synapse.request(method, `/_matrix/client/v3${path}`, { token, ...(method !== 'GET' && { body }) });
  }

  /** The call memberships in the state of the room: user id, device and content of each. */
  async callMembers(room, name = 'alice') {
    const { access_token } = await this.session(name);
    const state = await this.asUser(access_token, 'GET', `/rooms/${encodeURIComponent(room)}/state`);
    return state.filter(({ type, content }) => type === 'org.matrix.msc3401.call.member' && Object.keys(content).length > 0).map(({ sender, content }) => ({ user: sender, device: content.device_id, content }));
  }

  /** Asks the service for a token as Element Call does: answers `{status, headers, body}`, the body parsed. */
  async sfuToken(name, room, { synapse = this.synapse, device = 'DEVICE', openid, ...more } = {}) {
    const body = { room, openid_token: openid ?? (await this.openid(name, synapse)), device_id: device, ...more };
    return this.service('/sfu/get', body);
  }

  /** A proof of who `name` is, from its homeserver. */
  async openid(name, synapse = this.synapse) {
    const { user_id, access_token } = await this.session(name, synapse);
    return synapse.request('POST', `/_matrix/client/v3/user/${encodeURIComponent(user_id)}/openid/request_token`, { token: access_token, body: {} });
  }

  /** Asks for a token by way of the user's homeserver (MSC4195, MSC4512): answers `{status, body}`, the body parsed. */
  async proxiedToken(name, room, { synapse = this.synapse, ...more } = {}) {
    const { access_token, device_id } = await this.session(name, synapse);
    const answer = await this.fetch(`${synapse.url}/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${access_token}` },
      body: JSON.stringify({ room_id: room, slot_id: 'm.call#ROOM', member: { id: 'one', claimed_device_id: device_id }, ...more }),
    });
    return { status: answer.status, body: JSON.parse(answer.body) };
  }

  /** Asks whether the socket takes this token: answers `{status, body}`. */
  validate(jwt, url = BASE_URL) {
    // A JoinRequest that says nothing, as it is and not compressed.
    const request = Buffer.from([0x08, 0x00, 0x12, 0x02, 0x0a, 0x00]).toString('base64url');
    return this.fetch(`${url}/rtc/v1/validate?join_request=${request}&access_token=${jwt}`);
  }

  async service(path, body) {
    const answer = await this.fetch(`${BASE_URL}${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    return { ...answer, body: JSON.parse(answer.body) };
  }

  /** Element Call of client `index`, logged in as `name`. `settings` go into its config.json. */
  async elementCall(index, name, { url = ELEMENT_CALL_URLS[0], synapse = this.synapse, settings, context } = {}) {
    await this.session(name, synapse);
    const page = await this.page(index, {
      browser: { camera: { width: 320, height: 180 }, fps: 8 },
      context: { viewport: { width: 1000, height: 700 }, ...context },
      origin: url,
      route: (context) => ElementCall.prepare(context, url, { ...configFor({ homeserver: synapse.url, serverName: synapse.serverName }), ...settings }),
    });
    page.identity = name;
    const call = new ElementCall(page, url, `@${name}:${synapse.serverName}`);
    await call.logIn(name, name);
    this.#calls.push(call);
    return call;
  }

  /** Everybody leaves, so that no one lingers in the next scenario. */
  async clear() {
    await Promise.all(this.#calls.splice(0).map(async (call) => (await call.isInCall().catch(() => false)) && call.leave().catch(() => {})));
    await super.clear();
  }

  async close() {
    await super.close();
    for (const child of this.#children.splice(0)) child.kill('SIGKILL');
    await this.synapse.stop('SIGKILL').catch(() => {});
    this.#fetcher.close();
  }
}
