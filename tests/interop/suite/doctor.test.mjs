// What `hausruf init` writes, on a real Synapse, and what `hausruf doctor` says of it from another machine.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MatrixWorld } from '../harness/matrix-world.mjs';
import { BASE_URL, HAUSRUF_BIN, HTTP_PORT, PEER, SERVER_ADDRESS_OF_MEDIA as ADDRESS } from '../harness/server.mjs';
import { suite } from './scenario.mjs';

class InitWorld extends MatrixWorld {
  constructor(name) {
    super(name);
    const { folder, url, serverName } = this.synapse;
    const directory = join(folder, 'init');
    const options = {
      'server-name': serverName,
      url: BASE_URL,
      address: ADDRESS,
      homeserver: url,
      'homeserver-url': url,
      listen: `${ADDRESS}:${HTTP_PORT}`,
      'homeserver-config': join(folder, 'homeserver.yaml'),
      'synapse-directory': folder,
      directory,
    };
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    this.told = execFileSync(HAUSRUF_BIN, ['init', ...flags], { encoding: 'utf8' });
    // The handgrips.
    for (const file of ['hausruf-registration.yaml', 'conf.d/hausruf.yaml']) copyFileSync(join(directory, 'synapse', file), join(folder, file));
    this.config = join(directory, 'hausruf.toml');
    const text = readFileSync(this.config, 'utf8').replace('[matrix]\n', `[matrix]\nstore = "${join(folder, 'matrix.redb')}"\n`);
    writeFileSync(this.config, text);
  }

  /** Doctor's report from the namespace of client `index`; `args` say what it knows. */
  doctor(index, ...args) {
    const command = ['netns', 'exec', this.net.client(index), HAUSRUF_BIN, 'doctor', this.synapse.url, '--json', ...args];
    return new Promise((resolve, reject) => {
      execFile('ip', command, (error, stdout, stderr) => {
        if (!stdout) return reject(error ?? new Error(stderr));
        const report = JSON.parse(stdout);
        const told = (verdict) => report.checks.filter((check) => check.verdict === verdict);
        resolve({ code: error?.code ?? 0, report, told });
      });
    });
  }
}

const scenario = suite('doctor', InitWorld, { skip: PEER !== 'hausruf' });

scenario('what init writes works, and doctor finds nothing wrong from another machine', async (world) => {
  const { code, report, told } = await world.doctor(1, '--config', world.config);
  assert.deepEqual(told('wrong'), [], JSON.stringify(report, undefined, 2));
  assert.equal(code, 0);
  const fine = told('fine').map(({ check }) => check);
  for (const check of ['well_known', 'account', 'appservice', 'transactions', 'membership', 'proxying', 'transports', 'delayed_events', 'endpoints', 'socket', 'open_id', 'udp', 'turn', 'turn_server', 'token', 'call']) {
    assert.ok(fine.includes(check), `${check} is fine in ${JSON.stringify(report, undefined, 2)}`);
  }
  // No proxy stands in front, so there is no TLS, and /metrics is for everybody.
  for (const { sentence } of told('lost')) assert.match(sentence, /without TLS|\/metrics/);
  assert.match(world.told, /Three things are left to do/);
});

scenario("a user's token is enough without the configuration", async (world) => {
  const { access_token } = await world.session('alice');
  const { code, report, told } = await world.doctor(1, '--as-user', access_token);
  assert.deepEqual(told('wrong'), [], JSON.stringify(report, undefined, 2));
  assert.equal(code, 0);
  assert.ok(told('fine').some(({ check }) => check === 'call'));
});

scenario('a wrong as_token is named', async (world) => {
  const copy = join(world.synapse.folder, 'copy.toml');
  writeFileSync(copy, readFileSync(world.config, 'utf8').replace(/as_token = ".*"/, 'as_token = "another-token-0123456789-0123456789"'));
  const { code, report, told } = await world.doctor(1, '--config', copy);
  assert.equal(code, 1);
  assert.equal(told('wrong').length, 1, JSON.stringify(report, undefined, 2));
  assert.match(told('wrong')[0].sentence, /does not know the as_token of hausruf.toml \(401 M_UNKNOWN_TOKEN\)/);
});

scenario('a network without UDP is named', async (world) => {
  world.net.client(2);
  world.net.blockUdp(2, true);
  const { code, report, told } = await world.doctor(2, '--config', world.config);
  assert.equal(code, 1);
  assert.ok(told('wrong').some(({ check, sentence }) => check === 'call' && /No address for media answers over UDP \(10\.88\.0\.1:3478\)/.test(sentence)), JSON.stringify(report, undefined, 2));
});
