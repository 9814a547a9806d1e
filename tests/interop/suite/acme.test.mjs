// A certificate from a real ACME server (pebble): got, verified, renewed, kept over a restart.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Authority } from '../harness/authority.mjs';
import { HAUSRUF_BIN } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';

const PEBBLE = process.env.PEBBLE_BIN ?? join(homedir(), 'go/bin/pebble');
const SPACE = `ac-${process.pid}`;
/** What `ip netns exec` puts over /etc. */
const ETC = `/etc/netns/${SPACE}`;
const DOMAINS = ['calls.example.org', 'turn.example.org'];
const DIRECTORY = 'https://127.0.0.1:14000/dir';
/** Seconds that a certificate of this pebble lives: it is renewed after 30 to 32 of them. */
const LIFE_S = 45;

const missing = !existsSync(PEBBLE) && `${PEBBLE} is not there: go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3`;
if (missing) console.error(`\n*** The tests of ACME are SKIPPED: ${missing}\n`);

const inside = (...command) => spawnSync('ip', ['netns', 'exec', SPACE, ...command], { encoding: 'utf8', timeout: 20_000 });

class Process {
  #child;
  #log = [];

  constructor(environment, ...command) {
    this.#child = spawn('ip', ['netns', 'exec', SPACE, ...command], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream.on('data', (text) => this.#log.push(text));
  }

  get log() {
    return Buffer.concat(this.#log).toString();
  }

  get ended() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async stop(signal = 'SIGKILL') {
    if (this.ended) return;
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill(signal);
    await exited;
  }
}

describe('ACME', { skip: process.env.PEER === 'livekit' || missing }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'hausruf-acme-'));
  const store = join(folder, 'store');
  const file = (name) => join(folder, name);
  let authority;
  let pebble;
  let server;

  const startPebble = async () => {
    const { cert, key } = authority.sign('pebble', '127.0.0.1');
    const config = {
      pebble: {
        listenAddress: '127.0.0.1:14000',
        managementListenAddress: '127.0.0.1:15000',
        certificate: cert,
        privateKey: key,
        httpPort: 7880,
        tlsPort: 443,
        keyAlgorithm: 'ecdsa',
        retryAfter: { authz: 1, order: 1 },
        profiles: { short: { description: 'for tests', validityPeriod: LIFE_S } },
      },
    };
    writeFileSync(file('pebble.json'), JSON.stringify(config));
    // Of its nonces it refuses one in twenty, and half of its authorizations it remembers, as it does by default.
    pebble = new Process({ PEBBLE_VA_NOSLEEP: '1' }, PEBBLE, '-config', file('pebble.json'));
    await until('pebble answers', () => inside('curl', '-sf', '--cacert', authority.cert, DIRECTORY).status === 0, { show: () => pebble.log });
    // Every start makes a new root.
    const root = inside('curl', '-sf', '--cacert', authority.cert, 'https://127.0.0.1:15000/roots/0');
    assert.match(root.stdout, /BEGIN CERTIFICATE/);
    writeFileSync(file('root.pem'), root.stdout);
  };

  const start = async ({ domains = DOMAINS, challenge = 'tls-alpn-01', into = store } = {}) => {
    writeFileSync(file('hausruf.toml'), `
advertise = ["127.0.0.1"]
[listen]
http = "127.0.0.1:7880"
tcp = ["127.0.0.1:3478", "127.0.0.1:443"]
[relay]
store = ""
[tls.acme]
domains = ${JSON.stringify(domains)}
contact = ["mailto:admin@example.org"]
directory = "${DIRECTORY}"
agree_terms = true
challenge = "${challenge}"
store = "${into}"
root = "${authority.cert}"
`);
    // One that a failed test left.
    await server?.stop();
    server = new Process({}, HAUSRUF_BIN, 'serve', '--config', file('hausruf.toml'));
    await until('the server answers over plain HTTP', () => inside('curl', '-sf', 'http://127.0.0.1:7880/').stdout === 'OK', { show: () => server.log });
  };

  /** Whether HTTPS is answered with a certificate for `domain` that pebble's root vouches for. */
  const verifies = (domain) => inside('curl', '-sf', '--cacert', file('root.pem'), `https://${domain}/`).stdout === 'OK';

  /** The serial number of the certificate that is shown. */
  const serial = () => {
    const { stdout } = inside('sh', '-c', 'openssl s_client -connect 127.0.0.1:443 -servername calls.example.org </dev/null 2>/dev/null | openssl x509 -noout -serial');
    return /serial=(\w+)/.exec(stdout)?.[1];
  };

  const metric = (name) => {
    const line = inside('curl', '-sf', 'http://127.0.0.1:7880/metrics').stdout.split('\n').find((line) => line.startsWith(`${name} `));
    return line && Number(line.split(' ')[1]);
  };
  const issued = () => metric('hausruf_acme_orders_total{outcome="issued"}');
  const failed = () => metric('hausruf_acme_orders_total{outcome="failed"}');

  const show = () => `${server?.log}\n--- pebble\n${pebble?.log.split('\n').slice(-30).join('\n')}`;
  const holds = (what, probe, seconds = 60) => until(what, probe, { seconds, show });
  const says = (pattern) => holds(`the log says ${pattern}`, () => pattern.test(server.log));
  const forget = (name, at = store) => rmSync(join(at, readdirSync(at)[0], name));

  before(() => {
    for (const words of [['netns', 'add', SPACE], ['-n', SPACE, 'link', 'set', 'lo', 'up']]) assert.equal(spawnSync('ip', words).status, 0);
    mkdirSync(ETC, { recursive: true });
    // Nobody listens at other.example.org.
    writeFileSync(join(ETC, 'hosts'), `127.0.0.1 localhost ${DOMAINS.join(' ')}\n127.0.0.2 other.example.org\n`);
    writeFileSync(join(ETC, 'nsswitch.conf'), 'hosts: files\n');
    authority = new Authority(join(folder, 'authority'));
  });

  after(async () => {
    await server?.stop();
    await pebble?.stop();
    spawnSync('ip', ['netns', 'del', SPACE]);
    rmSync(ETC, { recursive: true, force: true });
    rmSync(folder, { recursive: true });
  });

  test('without a certificate and without the ACME server, everything but TLS works', async () => {
    await start();
    await holds('the attempt fails', () => failed() === 1);
    await says(/there is no new certificate: 127.0.0.1:14000 takes no connection; the next attempt comes in \d+ (seconds|minutes); until then TLS is refused/);
    assert.notEqual(inside('curl', '-skf', 'https://calls.example.org/').status, 0);
    assert.ok(metric('hausruf_tls_refused_total') >= 1);
    assert.equal(metric('hausruf_certificate_expiry_timestamp_seconds'), undefined);
    await server.stop('SIGTERM');
    // The next start remembers that an attempt has failed, and says how to make another at once.
    await startPebble();
    await start();
    await says(/the last attempt failed: the next comes in .+; to make it at once, remove (\S+)\/retry.json and restart/);
    assert.doesNotMatch(server.log, /asking/);
    await server.stop('SIGTERM');
    forget('retry.json');
  });

  test('a certificate comes, for all names, and clients can verify it', async () => {
    await start();
    await holds('there is a certificate', () => issued() === 1);
    for (const domain of DOMAINS) assert.ok(verifies(domain), `${domain}\n${show()}`);
    const ends = metric('hausruf_certificate_expiry_timestamp_seconds') - Date.now() / 1000;
    assert.ok(ends > 0 && ends <= LIFE_S, `${ends} s left`);
    const [at] = readdirSync(store);
    assert.equal(statSync(store).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(join(store, at)).sort(), ['account.json', 'certificate.pem']);
    for (const name of readdirSync(join(store, at))) assert.equal(statSync(join(store, at, name)).mode & 0o777, 0o600, name);
    assert.doesNotMatch(server.log, /PRIVATE KEY|key_pkcs8/);
  });

  test('who asks for acme-tls/1 without a challenge is shown nothing', () => {
    const { stdout, stderr } = inside('sh', '-c', 'openssl s_client -connect 127.0.0.1:443 -servername calls.example.org -alpn acme-tls/1 </dev/null');
    assert.doesNotMatch(stdout, /BEGIN CERTIFICATE/);
    assert.match(stdout + stderr, /alert/);
  });

  test('it is renewed without a restart, and no handshake fails meanwhile', async () => {
    const first = serial();
    const before = issued();
    await holds('another certificate is shown', () => {
      assert.ok(DOMAINS.every(verifies), `a client is refused\n${show()}`);
      return serial() !== first;
    });
    assert.ok(issued() > before);
    assert.equal(failed(), 0);
    assert.ok(!server.ended);
  });

  test('a restart uses the stored certificate and asks for nothing, even after kill -9', async () => {
    // A fresh one, so that no renewal comes in between.
    const old = serial();
    await holds('a fresh certificate', () => serial() !== old);
    const fresh = serial();
    await server.stop('SIGKILL');
    await pebble.stop();
    await start();
    assert.equal(serial(), fresh);
    assert.ok(DOMAINS.every(verifies));
    await says(/the stored certificate is in use, and is renewed in \d+ seconds/);
    assert.deepEqual([issued(), failed()], [0, 0]);
    assert.doesNotMatch(server.log, /asking/);
  });

  test('while the ACME server is away the old certificate serves, and when it is back all is well again', async () => {
    const old = serial();
    await holds('a renewal fails', () => failed() >= 1);
    assert.equal(serial(), old);
    await says(/the present certificate ends in \d+ seconds/);
    // It comes back without a memory: another root, and no account.
    await startPebble();
    await holds('a certificate under the new root', () => issued() >= 1 && DOMAINS.every(verifies));
    assert.notEqual(serial(), old);
    await says(/does not know our account any more/);
  });

  test('killed in the middle of its attempt, it does not ask again at every start', async () => {
    await server.stop('SIGKILL');
    forget('certificate.pem');
    await start();
    await says(/asking/);
    await server.stop('SIGKILL');
    rmSync(join(store, readdirSync(store)[0], 'certificate.pem'), { force: true });
    if (existsSync(join(store, readdirSync(store)[0], 'retry.json'))) {
      await start();
      await says(/the last attempt failed/);
      assert.doesNotMatch(server.log, /asking/);
      await server.stop('SIGKILL');
      forget('retry.json');
    }
    await start();
    await holds('there is a certificate', () => issued() === 1 && DOMAINS.every(verifies));
  });

  test('a name that leads elsewhere is told, and the other keeps its certificate', async () => {
    const old = serial();
    await server.stop('SIGKILL');
    await start({ domains: [DOMAINS[0], 'other.example.org'] });
    await holds('the attempt fails', () => failed() >= 1);
    await says(/there is no new certificate: other\.example\.org: .*Failed to connect to 127\.0\.0\.2:443/);
    assert.equal(serial(), old);
    await server.stop('SIGKILL');
  });

  test('HTTP-01 does it as well', async () => {
    const into = file('store-http');
    await start({ domains: DOMAINS, challenge: 'http-01', into });
    await holds('there is a certificate', () => issued() === 1 && DOMAINS.every(verifies));
    const { stdout } = inside('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', 'http://127.0.0.1:7880/.well-known/acme-challenge/nonsense');
    assert.equal(stdout, '404');
    assert.match(readFileSync(join(into, readdirSync(into)[0], 'certificate.pem'), 'utf8'), /^-----BEGIN PRIVATE KEY-----/);
    await server.stop('SIGTERM');
  });
});
