// Networks that let no UDP out: TURN over TCP, TURN over TLS, and ICE over TCP.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SERVER_ADDRESS } from '../harness/net.mjs';
import { HTTP_PORT, PEER, Server } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { World, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const BINARY = process.env.HAUSRUF_BIN ?? new URL('../../../target/release/hausruf', import.meta.url).pathname;
const TCP_PORT = 3478;
const TLS_PORT = 443;
const RELAY_SOCKETS = 'hausruf_relay_sockets_opened_total';

/** A server with a certificate of its own. */
class EncryptedWorld extends World {
  constructor(name) {
    super(name);
    const folder = mkdtempSync(join(tmpdir(), 'hr-tls-'));
    const file = (name) => join(folder, name);
    execFileSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', file('key.pem'), '-out', file('cert.pem'), '-subj', '/CN=calls', '-addext', `subjectAltName=IP:${SERVER_ADDRESS}`],
    ], { stdio: 'ignore' });
    writeFileSync(file('hausruf.toml'), `
advertise = ["${SERVER_ADDRESS}"]
[listen]
http = "${SERVER_ADDRESS}:${HTTP_PORT}"
tcp = ["0.0.0.0:${TCP_PORT}", "0.0.0.0:${TLS_PORT}"]
[tls]
certificate = "${file('cert.pem')}"
key = "${file('key.pem')}"
names = ["${SERVER_ADDRESS}"]
[api_keys]
devkey = "secret-secret-secret-secret-secret"
[relay]
store = ""
[relay.users]
alice = "wonderland"
`);
    this.server = new Server(this.net, name, () => [BINARY, ['serve', '--config', file('hausruf.toml')]]);
  }
}

const scenario = suite('tcp', EncryptedWorld);
const ours = { skip: PEER === 'livekit' };

/** May only relay, and only through this server. */
const only = (url) => ({
  browser: { flags: ['--ignore-certificate-errors'] },
  token: { secret: 'secret-secret-secret-secret-secret' },
  options: {
    connect: {
      rtcConfig: { iceTransportPolicy: 'relay', iceServers: [{ urls: url, username: 'alice', credential: 'wonderland' }] },
    },
  },
});

const direct = { token: { secret: 'secret-secret-secret-secret-secret' } };

const selected = (page) => until(`${page.identity} has a candidate pair`, () => page.evaluate(() => hr.pair()));

for (const [title, url, protocol] of [
  ['TCP', `turn:${SERVER_ADDRESS}:${TCP_PORT}?transport=tcp`, 'tcp'],
  ['TLS', `turns:${SERVER_ADDRESS}:${TLS_PORT}?transport=tcp`, 'tls'],
]) {
  scenario(`a call with only TURN over ${title}, in memory to the SFU`, async (world, room) => {
    world.net.blockUdp(1, true);
    try {
      const [a, b] = await Promise.all([world.join(1, room, 'anna', only(url)), world.join(2, room, 'ben', direct)]);
      await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
      const { local } = await selected(a);
      assert.equal(local.type, 'relay', JSON.stringify(local));
      assert.equal(local.relayProtocol, protocol, JSON.stringify(local));
      assert.equal(world.server.metric(RELAY_SOCKETS), 0, RELAY_SOCKETS);
      assert.ok(world.server.metric('hausruf_streams') >= 1);
    } finally {
      world.net.blockUdp(1, false);
    }
  }, ours);
}

scenario('where no UDP passes, ICE finds the way over TCP by itself', async (world, room) => {
  world.net.blockUdp(1, true);
  try {
    const [a, b] = await Promise.all([world.join(1, room, 'anna', direct), world.join(2, room, 'ben', direct)]);
    await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
    const { local, remote } = await selected(a);
    assert.equal(remote.protocol === 'tcp' || local.relayProtocol === 'tcp', true, JSON.stringify({ local, remote }));
  } finally {
    world.net.blockUdp(1, false);
  }
}, ours);
