// A client behind `netsim link`: everything it sends and receives crosses a link of given rate, delay
// and loss, through TUN devices.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { once } from 'node:events';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BINARY = process.env.NETSIM_BIN ?? join(ROOT, 'target/release/netsim');

/** The addresses of the ends: the server's, the client's, and the one that the client moves to. */
const addresses = (index) => [1, 2, 3].map((last) => `10.88.${100 + index}.${last}`);

export class PoorLink {
  /** When each schedule began, as epoch time in ms. */
  #began = [];
  #net;
  #index;
  #schedule;
  #log;
  #child;

  constructor(net, index, file) {
    this.#net = net;
    this.#index = index;
    this.#schedule = `${file}.toml`;
    this.#log = `${file}.csv`;
  }

  /** The server is end A of the link, the client end B. */
  async start(schedule) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: cargo build --release -p netsim`);
    writeFileSync(this.#schedule, schedule);
    const [near, far] = addresses(this.#index);
    // Before everything else that runs: a link that comes late lets go in one burst what it has held up.
    const child = spawn(
      'nice',
      [
        ...['-n', '-15', BINARY, 'link'],
        ...['--a', this.#net.server, '--b', this.#net.client(this.#index)],
        ...['--a-address', `${near}/29`, '--b-address', `${far}/29`],
        ...['--a-device', `link${this.#index}`, '--b-device', 'link0'],
        ...['--schedule', this.#schedule, '--log', this.#log],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    let complaint = '';
    child.stderr.on('data', (text) => {
      complaint += text;
    });
    const ready = once(createInterface(child.stdout), 'line');
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`netsim link ended with ${code}: ${complaint}`);
    });
    ended.catch(() => {});
    await Promise.race([ready, ended]);
    this.#began = [Date.now()];
    this.#net.routeThrough(this.#index, near);
  }

  /** Another schedule, from now on; answers when that is, as epoch time in ms. */
  change(schedule) {
    writeFileSync(this.#schedule, schedule);
    this.#child.kill('SIGHUP');
    this.#began.push(Date.now());
    return this.#began.at(-1);
  }

  /** The client goes on with another address, as a phone that changes its network. */
  move() {
    const [near, , other] = addresses(this.#index);
    this.#net.readdress(this.#index, 'link0', `${other}/29`, near);
  }

  /** The log: a row for each direction and tenth of a second, `{at, direction, queue_ms, …}`, `at` in epoch ms. */
  rows() {
    const rows = [];
    let names;
    let schedule = -1;
    for (const line of readFileSync(this.#log, 'utf8').split('\n')) {
      if (line.startsWith('t_ms,')) {
        names = line.split(',');
        schedule++;
      } else if (line) {
        const row = Object.fromEntries(line.split(',').map((value, index) => [names[index], Number.isNaN(Number(value)) ? value : Number(value)]));
        rows.push({ at: this.#began[schedule] + row.t_ms, ...row });
      }
    }
    return rows;
  }

  async stop() {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
    this.#net.routeThrough(this.#index, undefined);
  }
}
