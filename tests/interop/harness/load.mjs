// The project's own load generator, in a namespace: participants that are not browsers.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { once } from 'node:events';
import { addressOf } from './net.mjs';
import { WS_URL } from './server.mjs';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const BINARY = process.env.BENCHES_BIN ?? join(ROOT, 'target/release/benches');

/** Starts it for client `index`; `finished` resolves with its report. */
export function startLoad(net, index, options) {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: cargo build --release -p benches`);
  const args = ['loadgen', '--url', WS_URL, '--bind', addressOf(index), ...options];
  const child = spawn('ip', ['netns', 'exec', net.client(index), BINARY, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  let complaint = '';
  child.stdout.on('data', (text) => {
    printed += text;
  });
  child.stderr.on('data', (text) => {
    complaint += text;
  });
  const finished = once(child, 'close').then(([code]) => {
    if (code !== 0) throw new Error(`the load generator ended with ${code}: ${complaint}`);
    return JSON.parse(printed);
  });
  finished.catch(() => {});
  return { finished, stop: () => child.kill('SIGKILL') };
}
