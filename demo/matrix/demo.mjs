// node demo.mjs: a Synapse, Hausruf and Element Call on this machine, with two users and an encrypted room. HAUSRUF_BIN
// names the server. What they keep lies in data/; without that folder everything begins anew.

import { spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { placeBeside } from './beside.mjs';
import { serveElementCall } from './element-call.mjs';
import { Synapse } from './synapse.mjs';

const ADDRESS = '127.0.0.1';
const [CALLS_PORT, PAGE_PORT] = [7880, 8080];
const DATA = fileURLToPath(new URL('data/', import.meta.url));
const BINARY = process.env.HAUSRUF_BIN ?? fileURLToPath(new URL('../../target/release/hausruf', import.meta.url));
const USERS = ['alice', 'bob'];

const synapse = new Synapse({ folder: DATA, address: ADDRESS, serverName: 'localhost' });
const running = [];

async function end(code) {
  await Promise.all(running.splice(0).reverse().map((stop) => stop()));
  process.exit(code);
}
let ending = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (ending) return;
    ending = true;
    console.log('\nending');
    end(0);
  });
}

try {
  await main();
} catch (error) {
  if (!ending) {
    console.error(`demo: ${error.message}`);
    end(1);
  }
}

async function main() {
  for (const [port, whose] of [[synapse.httpPort, 'Synapse'], [synapse.tlsPort, 'Synapse'], [CALLS_PORT, 'Hausruf'], [PAGE_PORT, 'Element Call']]) {
    await assertFree(port, whose);
  }
  synapse.configure({ rc_login: { address: { per_second: 10, burst_count: 100 }, account: { per_second: 10, burst_count: 100 } } });
  const url = `http://${ADDRESS}:${CALLS_PORT}`;
  const config = placeBeside(synapse, { binary: BINARY, folder: join(DATA, 'hausruf'), url, address: ADDRESS, listen: `${ADDRESS}:${CALLS_PORT}` });
  console.log('starting Synapse (the first time takes a while), Hausruf and Element Call');
  await startHausruf(config, url);
  running.push(() => synapse.stop());
  await synapse.start();
  synapse.exited.then((how) => stopped('Synapse', how, synapse.logFile));
  await serveElementCall({ address: ADDRESS, port: PAGE_PORT, homeserver: synapse.url, serverName: synapse.serverName });
  const room = await makeRoom();
  console.log(`
  http://${ADDRESS}:${PAGE_PORT}/room/#?roomId=${encodeURIComponent(room)}

Open it in two browsers, or in a window and a private window. "Log In" as alice with the password alice, and in the
other as bob with the password bob. Ctrl-C ends everything.
`);
}

async function startHausruf(config, url) {
  const logFile = join(DATA, 'hausruf.log');
  const log = openSync(logFile, 'a');
  const child = spawn(BINARY, ['serve', '--config', config], { stdio: ['ignore', log, log], detached: true });
  const exited = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
  let how;
  exited.then((code) => {
    how = code;
  });
  running.push(async () => {
    child.kill('SIGTERM');
    await exited;
  });
  const answers = () => fetch(url, { signal: AbortSignal.timeout(1000) }).then((answer) => answer.ok, () => false);
  while (!(await answers())) {
    if (how !== undefined) throw new Error(`Hausruf ended with ${how}: ${readFileSync(logFile, 'utf8').trim().split('\n').at(-1)}`);
    await pause(100);
  }
  exited.then((code) => stopped('Hausruf', code, logFile));
}

function stopped(what, how, logFile) {
  if (ending) return;
  ending = true;
  console.error(`demo: ${what} ended with ${how}; ${logFile} says why`);
  end(1);
}

/** The encrypted room of both users; the same one in every run. */
async function makeRoom() {
  const known = join(DATA, 'room');
  if (existsSync(known)) return readFileSync(known, 'utf8');
  const ids = [];
  for (const name of USERS) ids.push(await synapse.register(name, name));
  const tokens = [];
  for (const name of USERS) tokens.push((await synapse.login(name, name)).access_token);
  const room = await synapse.createRoom(tokens[0], { name: 'Kitchen', invite: ids.slice(1) });
  await synapse.request('POST', `/_matrix/client/v3/join/${encodeURIComponent(room)}`, { token: tokens[1], body: {} });
  // No device remains for which clients would encrypt keys in vain.
  for (const token of tokens) await synapse.request('POST', '/_matrix/client/v3/logout', { token, body: {} });
  writeFileSync(known, room);
  return room;
}

function assertFree(port, whose) {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', ({ code }) => reject(new Error(`${whose} needs TCP port ${port} of ${ADDRESS}: ${code === 'EADDRINUSE' ? 'another program has it' : code}`)));
    probe.listen(port, ADDRESS, () => probe.close(resolve));
  });
}
