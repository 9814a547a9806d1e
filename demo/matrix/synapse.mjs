// A Synapse with SQLite in a folder: its configuration, its process, its users.

import { spawn, spawnSync } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const PYTHON = process.env.SYNAPSE_PYTHON ?? fileURLToPath(new URL('.venv/bin/python', import.meta.url));
const START_MS_MAX = 90_000;

export class Synapse {
  #child;

  /**
   * `address`: where it listens, plain HTTP on `httpPort`, TLS for other servers on `tlsPort`. `serverName`: the part of
   * user ids behind the colon. `command`: what its command line begins with (`ip netns exec …`). `fetch(url, options)`
   * reaches it and answers `{status, body}`.
   */
  constructor({ folder, address, serverName, httpPort = 8008, tlsPort = 8448, command = [], fetch = fetchHere }) {
    Object.assign(this, { folder, address, serverName, httpPort, tlsPort, command, fetch });
    this.url = `http://${address}:${httpPort}`;
    this.logFile = join(folder, 'synapse.log');
  }

  /**
   * Writes homeserver.yaml. `settings` are added to it and replace what has the same name; `tls`: files `{cert, key}`
   * made elsewhere, instead of a certificate that signs itself.
   */
  configure(settings = {}, tls = this.#selfSigned()) {
    mkdirSync(this.folder, { recursive: true });
    const own = {
      server_name: this.serverName,
      public_baseurl: `${this.url}/`,
      pid_file: join(this.folder, 'synapse.pid'),
      listeners: [
        { port: this.httpPort, bind_addresses: [this.address], type: 'http', tls: false, resources: [{ names: ['client', 'federation', 'openid'] }] },
        { port: this.tlsPort, bind_addresses: [this.address], type: 'http', tls: true, resources: [{ names: ['federation', 'openid'] }] },
      ],
      tls_certificate_path: tls.cert,
      tls_private_key_path: tls.key,
      database: { name: 'sqlite3', args: { database: join(this.folder, 'homeserver.db') } },
      media_store_path: join(this.folder, 'media'),
      signing_key_path: join(this.folder, 'signing.key'),
      registration_shared_secret: this.secret('registration'),
      macaroon_secret_key: this.secret('macaroon'),
      form_secret: this.secret('form'),
      trusted_key_servers: [],
      report_stats: false,
      // Nothing is asked of the internet, and everything that is asked is on this machine.
      ip_range_blacklist: [],
      bcrypt_rounds: 4,
    };
    // YAML reads JSON.
    writeFileSync(join(this.folder, 'homeserver.yaml'), `${JSON.stringify({ ...own, ...settings }, undefined, 2)}\n`);
  }

  /** A random text that stays the same for this folder. */
  secret(name) {
    mkdirSync(this.folder, { recursive: true });
    const file = join(this.folder, `${name}.secret`);
    if (!existsSync(file)) writeFileSync(file, randomBytes(24).toString('hex'), { mode: 0o600 });
    return readFileSync(file, 'utf8');
  }

  #selfSigned() {
    mkdirSync(this.folder, { recursive: true });
    const [cert, key] = [join(this.folder, 'tls.crt'), join(this.folder, 'tls.key')];
    if (!existsSync(cert)) {
      const subject = ['-subj', `/CN=${this.address}`, '-addext', `subjectAltName=${/^[\d.]+$/.test(this.address) ? 'IP' : 'DNS'}:${this.address}`];
      openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '3650', '-keyout', key, '-out', cert, ...subject);
    }
    return { cert, key };
  }

  /** Starts it, and returns when it answers. Files of `conf.d` in its folder add to homeserver.yaml, as Debian's do. */
  async start() {
    const drop = join(this.folder, 'conf.d');
    mkdirSync(drop, { recursive: true });
    const [program, ...args] = [...this.command, PYTHON, '-m', 'synapse.app.homeserver', '-c', join(this.folder, 'homeserver.yaml'), '-c', drop];
    if (!existsSync(PYTHON)) throw new Error(`${PYTHON} is not there: make matrix-peers installs Synapse`);
    if (!existsSync(join(this.folder, 'signing.key'))) {
      const made = spawnSync(program, [...args, '--generate-keys'], { encoding: 'utf8' });
      if (made.status !== 0) throw new Error(`Synapse makes no keys:\n${made.stderr}`);
    }
    const log = openSync(this.logFile, 'a');
    const child = spawn(program, args, { stdio: ['ignore', log, log], detached: true, cwd: this.folder });
    this.#child = child;
    this.exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
    let exit;
    this.exited.then((how) => {
      exit = how;
    });
    const deadline = Date.now() + START_MS_MAX;
    while ((await this.fetch(`${this.url}/health`).catch(() => undefined))?.status !== 200) {
      if (exit !== undefined) throw new Error(`Synapse ended with ${exit}: ${this.logFile} says why`);
      if (Date.now() > deadline) throw new Error(`Synapse does not answer on ${this.url}: ${this.logFile} says why`);
      await pause(250);
    }
  }

  async stop(signal = 'SIGTERM') {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.exited;
    clearTimeout(timer);
  }

  /** A client-server or admin request; answers the parsed body, and throws on a refusal unless `refusals` allows it. */
  async request(method, path, { token, body, refusals = [] } = {}) {
    const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
    const answer = await this.fetch(`${this.url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    if (answer.status !== 200 && !refusals.includes(answer.status)) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return JSON.parse(answer.body || '{}');
  }

  /** Makes a user, unless there is one of that name. */
  async register(name, password) {
    const path = '/_synapse/admin/v1/register';
    const { nonce } = await this.request('GET', path);
    // Synapse's "shared-secret registration": the fields, separated by zeros.
    const mac = createHmac('sha1', this.secret('registration')).update([nonce, name, password, 'notadmin'].join('\0')).digest('hex');
    const answer = await this.request('POST', path, { body: { nonce, username: name, password, admin: false, mac }, refusals: [400] });
    if (answer.errcode && answer.errcode !== 'M_USER_IN_USE') throw new Error(`no user ${name}: ${answer.error}`);
    return `@${name}:${this.serverName}`;
  }

  /** Logs a user in; answers `{user_id, access_token, device_id}`. */
  login(name, password) {
    const body = { type: 'm.login.password', identifier: { type: 'm.id.user', user: name }, password };
    return this.request('POST', '/_matrix/client/v3/login', { body });
  }

  /** A room in which everybody may take part in calls; answers its id. */
  async createRoom(token, { name, invite = [], encrypted = true }) {
    const body = {
      name,
      invite,
      preset: 'private_chat',
      initial_state: encrypted ? [{ type: 'm.room.encryption', state_key: '', content: { algorithm: 'm.megolm.v1.aes-sha2' } }] : [],
      power_level_content_override: { events: { 'org.matrix.msc3401.call.member': 0 } },
    };
    return (await this.request('POST', '/_matrix/client/v3/createRoom', { token, body })).room_id;
  }
}

async function fetchHere(url, options = {}) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(10_000), ...options });
  return { status: answer.status, body: await answer.text() };
}

export function openssl(...args) {
  const done = spawnSync('openssl', args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`openssl ${args[0]}: ${done.stderr || done.error}`);
}
