// XMPP servers of Debian hand out TURN credentials by XEP-0215, made with the secret that they share with the relay.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { HAUSRUF_BIN } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';

const SPACE = `xm-${process.pid}`;
const DOMAIN = 'example.org';
const SECRET = 'a secret shared with the XMPP server';
const ASK = fileURLToPath(new URL('../harness/xmpp-services.mjs', import.meta.url));
const MESSAGES = 20;

const HAUSRUF = `
advertise = ["127.0.0.1"]
[listen]
http = "127.0.0.1:7880"
[relay]
store = ""
secrets = ["${SECRET}"]
`;

const PROSODY = (folder) => `
run_as_root = true
daemonize = false
pidfile = "${folder}/prosody.pid"
data_path = "${folder}"
interfaces = { "127.0.0.1" }
modules_enabled = { "saslauth", "disco", "turn_external" }
modules_disabled = { "s2s" }
authentication = "anonymous"
c2s_require_encryption = false
turn_external_secret = "${SECRET}"
turn_external_host = "127.0.0.1"
turn_external_port = 3478
log = { info = "*console" }
VirtualHost "${DOMAIN}"
`;

const EJABBERD = `
hosts: ["${DOMAIN}"]
auth_method: anonymous
anonymous_protocol: sasl_anon
listen:
  - port: 5222
    ip: "127.0.0.1"
    module: ejabberd_c2s
acl:
  local:
    user_regexp: ""
access_rules:
  local:
    allow: local
modules:
  mod_disco: {}
  mod_stun_disco:
    secret: "${SECRET}"
    credentials_lifetime: 1h
    services:
      - host: 127.0.0.1
        port: 3478
        type: turn
        transport: udp
        restricted: true
`;

const inside = (...command) => ['netns', 'exec', SPACE, ...command];
const missing = ['prosody', 'ejabberdctl', 'turnutils_uclient'].filter((tool) => spawnSync('which', [tool]).status !== 0);

describe('XMPP', { skip: process.env.PEER === 'livekit' || (missing.length > 0 && `apt-get install ${missing}`) }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'hausruf-xmpp-'));
  const running = new Set();

  const start = (environment, ...command) => {
    const child = spawn('ip', inside(...command), { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
    const log = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => log.push(text));
    running.add(child);
    return {
      log: () => Buffer.concat(log).toString(),
      async stop() {
        if (child.exitCode === null && child.signalCode === null) {
          const exited = new Promise((resolve) => child.once('exit', resolve));
          child.kill('SIGKILL');
          await exited;
        }
        running.delete(child);
      },
    };
  };

  /** An allocation, and packets from client to client in memory; answers what the client says. */
  const relay = (user, password) =>
    spawnSync('ip', inside('turnutils_uclient', '-y', '-c', '-m', '2', '-n', `${MESSAGES / 2}`, '-p', '3478', '-u', user, '-w', password, '127.0.0.1'), { encoding: 'utf8', timeout: 60_000 }).stdout;

  /** What a server says about TURN, and that the relay takes it. */
  const assertRelays = async (server, userPattern) => {
    const turn = await until(
      'the XMPP server names a TURN service',
      () => {
        const { status, stdout, stderr } = spawnSync('ip', inside(process.execPath, ASK, '5222', DOMAIN), { encoding: 'utf8' });
        if (status !== 0) throw new Error(`${stderr}\n${server.log()}`);
        return JSON.parse(stdout).find(({ type }) => type === 'turn');
      },
      { seconds: 30 },
    );
    assert.deepEqual([turn.host, turn.port, turn.transport], ['127.0.0.1', '3478', 'udp']);
    assert.match(turn.username, userPattern);
    assert.match(relay(turn.username, turn.password), new RegExp(`tot_send_msgs=${MESSAGES}, tot_recv_msgs=${MESSAGES}\\b`));
    assert.doesNotMatch(relay(turn.username, `${turn.password}x`), /tot_recv_msgs=[1-9]/);
  };

  before(async () => {
    for (const words of [['netns', 'add', SPACE], ['-n', SPACE, 'link', 'set', 'lo', 'up']]) assert.equal(spawnSync('ip', words).status, 0);
    const file = join(folder, 'hausruf.toml');
    writeFileSync(file, HAUSRUF);
    const server = start({}, HAUSRUF_BIN, 'serve', '--config', file);
    await until('the server answers', () => spawnSync('ip', inside('curl', '-sf', 'http://127.0.0.1:7880/')).status === 0, { show: server.log });
  });

  after(() => {
    for (const child of running) child.kill('SIGKILL');
    spawnSync('ip', ['netns', 'del', SPACE]);
    rmSync(folder, { recursive: true });
  });

  test('prosody (mod_turn_external)', async () => {
    const file = join(folder, 'prosody.cfg.lua');
    writeFileSync(file, PROSODY(folder));
    const prosody = start({}, 'prosody', '--config', file);
    await assertRelays(prosody, /^\d+$/).finally(prosody.stop);
  });

  test('ejabberd (mod_stun_disco)', async () => {
    const file = join(folder, 'ejabberd.yml');
    writeFileSync(file, EJABBERD);
    mkdirSync(join(folder, 'spool'));
    const libraries = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu')).map((name) => `/usr/lib/${name}`).join(':');
    // As ejabberdctl starts it, but as this user, and without a name that epmd would have to know.
    const environment = { EJABBERD_CONFIG_PATH: file, EJABBERD_LOG_PATH: join(folder, 'ejabberd.log'), ERL_LIBS: libraries, HOME: folder };
    const ejabberd = start(environment, 'erl', '-noinput', '-mnesia', 'dir', `"${join(folder, 'spool')}"`, '-s', 'ejabberd');
    await assertRelays(ejabberd, /^\d+:.+$/).finally(ejabberd.stop);
  });
});
