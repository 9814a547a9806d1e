// A client behind `netsim link`: everything it sends and receives crosses a link of given rate, delay
// and loss, through TUN devices.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { once } from 'node:events';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BINARY = process.env.NETSIM_BIN ?? join(ROOT, 'target/release/netsim');

export class PoorLink {
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
    const near = `10.88.${100 + this.#index}.1`;
    const far = `10.88.${100 + this.#index}.2`;
    const child = spawn(
      BINARY,
      [
        'link',
        ...['--a', this.#net.server, '--b', this.#net.client(this.#index)],
        ...['--a-address', `${near}/30`, '--b-address', `${far}/30`],
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
    this.#net.routeThrough(this.#index, near);
  }

  /** Another schedule, from now on. */
  change(schedule) {
    writeFileSync(this.#schedule, schedule);
    this.#child.kill('SIGHUP');
  }

  async stop() {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'exit');
    this.#net.routeThrough(this.#index, undefined);
  }
}
