// The server under test, in its namespace. PEER=livekit puts LiveKit's own server there instead:
// what the tests expect is then what the reference does.

import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SERVER_ADDRESS } from './net.mjs';
import { until } from './until.mjs';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
export const OUT = process.env.HAUSRUF_OUT ?? fileURLToPath(new URL('../out/', import.meta.url));

export const PEER = process.env.PEER ?? 'hausruf';
export const HTTP_PORT = 7880;
export const HAUSRUF_BIN = process.env.HAUSRUF_BIN ?? join(ROOT, 'target/release/hausruf');
export const BASE_URL = `http://${SERVER_ADDRESS}:${HTTP_PORT}`;
export { SERVER_ADDRESS as SERVER_ADDRESS_OF_MEDIA };
export const WS_URL = `ws://${SERVER_ADDRESS}:${HTTP_PORT}`;

export const LIVEKIT_BIN = process.env.LIVEKIT_BIN ?? join(homedir(), 'go/bin/server');

const LIVEKIT_CONFIG = `
port: ${HTTP_PORT}
bind_addresses: ["${SERVER_ADDRESS}", "127.0.0.1"]
keys: { devkey: secret }
development: true
log_level: ${process.env.LIVEKIT_LOG ?? 'debug'}
rtc: { udp_port: 7882, tcp_port: ${process.env.LIVEKIT_TCP_PORT ?? 0}, node_ip: "${SERVER_ADDRESS}", use_external_ip: false }
room: { auto_create: true, enabled_codecs: [{mime: audio/opus}, {mime: video/VP8}, {mime: video/H264}] }
turn: { enabled: true, udp_port: 3479, domain: "", relay_range_start: 40000, relay_range_end: 40100 }
`;

const ADMIN_TOKEN = 'the-token-of-the-tests';

function demoCommand() {
  if (PEER === 'livekit') {
    return [LIVEKIT_BIN, ['--config-body', LIVEKIT_CONFIG]];
  }
  return [HAUSRUF_BIN, ['demo', '--listen', `${SERVER_ADDRESS}:${HTTP_PORT}`, '--advertise', SERVER_ADDRESS, '--admin-token', ADMIN_TOKEN]];
}

export class Server {
  #net;
  #name;
  #command;
  #child;
  #starts = 0;
  #exited = Promise.resolve();
  expectExit = false;

  /** `command`: answers the program and its arguments at every start. `url`: where it then listens. */
  constructor(net, name, command = demoCommand, url = BASE_URL) {
    this.url = url;
    this.adminToken = command === demoCommand && PEER === 'hausruf' ? ADMIN_TOKEN : undefined;
    this.#net = net;
    this.#name = name;
    this.#command = command;
    mkdirSync(OUT, { recursive: true });
  }

  get logFile() {
    return join(OUT, `${this.#name}-${PEER}.log`);
  }

  get pid() {
    return this.#child?.pid;
  }

  async start() {
    const [binary, args] = this.#command();
    if (!existsSync(binary)) throw new Error(`${binary} is not there: build it first`);
    const log = createWriteStream(this.logFile, { flags: this.#starts++ === 0 ? 'w' : 'a' });
    // `ip netns exec` replaces itself by the program: the child's pid is the server's.
    const child = spawn('ip', ['netns', 'exec', this.#net.server, binary, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { RUST_LOG: 'info', RUST_BACKTRACE: '1', ...process.env },
    });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#child = child;
    this.expectExit = false;
    this.exit = undefined;
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.exit = signal ?? code;
        resolve();
      });
    });
    await until(`the server answers on ${this.url} (log: ${this.logFile})`, () => {
      if (this.exit !== undefined) throw new Error(`the server ended with ${this.exit}`);
      return this.#net.fetch(`${this.url}/`).status === 200;
    });
  }

  /** Ends the server with a signal, and waits until it is gone. */
  async stop(signal = 'SIGTERM') {
    if (!this.#child || this.exit !== undefined) return;
    this.expectExit = true;
    this.#child.kill(signal);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await this.#exited;
    clearTimeout(timer);
  }

  /** The sum of one metric over the label sets that have these `labels`; undefined when the server has none. */
  metric(name, labels = '') {
    const { status, body } = this.#net.fetch(`${this.url}/metrics`);
    if (status !== 200) return undefined;
    let sum;
    for (const line of body.split('\n')) {
      const match = /^([a-zA-Z_:][\w:]*)(\{[^}]*\})? (\S+)/.exec(line);
      if (match?.[1] === name && (match[2] ?? '').includes(labels)) sum = (sum ?? 0) + Number(match[3]);
    }
    return sum;
  }

  /** What it remembers of the links of who is in a call, if it tells. */
  links() {
    if (!this.adminToken) return [];
    const ask = (path) => {
      const headers = { Authorization: `Bearer ${this.adminToken}` };
      const { status, body } = this.#net.fetch(`${this.url}/admin/api/links${path}`, { headers });
      if (status !== 200) throw new Error(`/admin/api/links${path}: ${status}`);
      return JSON.parse(body);
    };
    return ask('').filter(({ present }) => present).map(({ sid }) => ask(`/${sid}`));
  }
}
