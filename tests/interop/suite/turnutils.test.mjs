// Debian's TURN client against the server, and Debian's echoing peer behind it, in a namespace of their own.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { until } from '../harness/until.mjs';

const BINARY = process.env.HAUSRUF_BIN ?? fileURLToPath(new URL('../../../target/release/hausruf', import.meta.url));
const SPACE = `tu-${process.pid}`;
const PEER_PORT = 3480;
const MESSAGES = 40;

const ALLOCATION = fileURLToPath(new URL('../harness/tcp-allocation.mjs', import.meta.url));

const configuration = (allowed, folder, { workers = 1, tcpAllocations = false }) => `
advertise = ["127.0.0.1", "::1"]
workers = ${workers}
control.socket = "${folder}/control.sock"
[listen]
http = "127.0.0.1:7880"
tcp = ["[::]:3478", "[::]:5349"]
[tls]
certificate = "${folder}/cert.pem"
key = "${folder}/key.pem"
[relay]
store = ""
tcp_allocations = ${tcpAllocations}
allowed_peers = ${JSON.stringify(allowed)}
secrets = ["a secret shared with the homeserver"]
[relay.users]
alice = "wonderland"
`;

const inside = (...command) => ['netns', 'exec', SPACE, ...command];
const ip = (...words) => {
  const { status, stderr } = spawnSync('ip', words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
};
const missing = spawnSync('which', ['turnutils_uclient']).status === 0 ? false : 'apt-get install coturn';

const lacksTshark = spawnSync('which', ['tshark']).status === 0 ? false : 'apt-get install tshark';

describe('turnutils', { skip: process.env.PEER === 'livekit' || missing }, () => {
  /** A peer that one test puts behind a narrow path. */
  const narrow = '127.0.0.2';
  const folder = mkdtempSync(join(tmpdir(), 'hausruf-turn-'));
  const running = [];

  const start = (...command) => {
    const child = spawn('ip', inside(...command), { stdio: 'ignore' });
    running.push(child);
    return child;
  };

  const metric = (name, worker = 0) => {
    const { stdout } = spawnSync('ip', inside('curl', '-s', 'http://127.0.0.1:7880/metrics'), { encoding: 'utf8' });
    const line = stdout.split('\n').find((line) => line.startsWith(`${name}{`) && line.includes(`worker="${worker}"`) || line.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.split(' ').at(-1));
  };

  const discarded = (reason) => {
    const { stdout } = spawnSync('ip', inside('curl', '-s', 'http://127.0.0.1:7880/metrics'), { encoding: 'utf8' });
    return Number(stdout.match(new RegExp(`discards_total\\{reason="${reason}",worker="0"\\} (\\d+)`))?.[1]);
  };

  /** Runs `act` beside a server that lets its clients reach these prefixes. */
  const serving = async (allowed, act, options = {}) => {
    const file = join(folder, 'hausruf.toml');
    writeFileSync(file, configuration(allowed, folder, options));
    const server = start(BINARY, 'serve', '--config', file);
    const exited = new Promise((resolve) => server.once('exit', resolve));
    try {
      await until('the server answers', () => metric('hausruf_relay_sockets_opened_total') !== undefined);
      await act();
    } finally {
      server.kill('SIGTERM');
      assert.equal(await exited, 0);
    }
  };

  /** Two clients send `MESSAGES` in all to the peer, which sends each back. */
  const exchange = (address, ...options) =>
    uclient(address, '-c', '-u', 'alice', '-w', 'wonderland', '-e', address, '-r', `${PEER_PORT}`, ...options);

  const uclient = (address, ...options) => {
    const words = ['-m', '2', '-n', `${MESSAGES / 2}`, '-p', '3478', ...options, address];
    return spawnSync('ip', inside('turnutils_uclient', ...words), { encoding: 'utf8', timeout: 60_000 }).stdout;
  };

  const assertComplete = (output, messages = MESSAGES) => {
    assert.match(output, new RegExp(`tot_send_msgs=${messages}, tot_recv_msgs=${messages}\\b`), output);
    assert.match(output, /Total lost packets 0 /, output);
  };

  /** What Wireshark sees on the loopback device of this space while `act` runs: the frames that a display filter shows. */
  const captured = async (filter, act) => {
    const capture = join(folder, 'turn.pcapng');
    const sniffer = spawn('ip', inside('tshark', '-q', '-i', 'lo', '-f', filter, '-w', capture), { stdio: ['ignore', 'ignore', 'pipe'] });
    const ended = new Promise((resolve) => sniffer.once('exit', resolve));
    let said = '';
    sniffer.stderr.on('data', (text) => {
      said += text;
    });
    await until('the capture begins', () => said.includes('Capturing on'));
    await act();
    sniffer.kill('SIGINT');
    await ended;
    return (shown) => {
      const { status, stdout, stderr } = spawnSync('tshark', ['-r', capture, '-Y', shown], { encoding: 'utf8', maxBuffer: 64 << 20 });
      assert.equal(status, 0, stderr);
      return stdout.split('\n').filter(Boolean);
    };
  };

  before(() => {
    const made = spawnSync('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem'), '-subj', '/CN=calls'],
    ]);
    assert.equal(made.status, 0);
    ip('netns', 'add', SPACE);
    ip('-n', SPACE, 'link', 'set', 'lo', 'up');
    start('turnutils_peer', '-L', '127.0.0.1', '-L', narrow, '-L', '::1', '-p', `${PEER_PORT}`);
  });

  after(() => {
    for (const child of running) child.kill('SIGKILL');
    ip('netns', 'del', SPACE);
    rmSync(folder, { recursive: true });
  });

  test('UDP passes with Send and with ChannelData where the policy allows the peer', async () => {
    await serving(['127.0.0.1', '::1'], async () => {
      assertComplete(exchange('127.0.0.1', '-s'));
      assertComplete(exchange('127.0.0.1'));
      assertComplete(exchange('::1', '-x', '-s'));
      assertComplete(exchange('::1', '-x'));
      await until('relay sockets are counted', () => metric('hausruf_relay_sockets_opened_total') >= 8);
    });
  });

  test('TCP and TLS to the client, on one port or another', async () => {
    await serving(['127.0.0.1'], async () => {
      assertComplete(exchange('127.0.0.1', '-t', '-s'));
      assertComplete(exchange('127.0.0.1', '-t'));
      assertComplete(exchange('127.0.0.1', '-t', '-S', '-p', '5349'));
      assertComplete(exchange('127.0.0.1', '-t', '-S', '-s'));
      assert.ok(metric('hausruf_streams') >= 0);
    });
  });

  test('Wireshark finds nothing malformed in what passes', { skip: lacksTshark }, async () => {
    const frames = await captured('port 3478', async () => {
      await serving(['127.0.0.1'], async () => {
        assertComplete(exchange('127.0.0.1', '-s'));
        assertComplete(exchange('127.0.0.1'));
        assertComplete(exchange('127.0.0.1', '-t'));
        const guessed = uclient('127.0.0.1', '-c', '-u', 'alice', '-w', 'guessed', '-e', '127.0.0.1', '-r', `${PEER_PORT}`);
        assert.doesNotMatch(guessed, /tot_recv_msgs=[1-9]/, guessed);
      });
    });
    for (const kind of ['stun && udp', 'stun && tcp', 'stun.att.error', 'stun.channel']) {
      assert.ok(frames(kind).length > 0, `no frame of ${kind}`);
    }
    assert.deepEqual(frames('stun && (_ws.malformed || _ws.expert.severity == "Error")'), []);
  });

  test('DONT-FRAGMENT: what is too long for the path comes back as an ICMP error', { skip: lacksTshark }, async () => {
    ip('-n', SPACE, 'route', 'add', 'local', narrow, 'dev', 'lo', 'mtu', '1000', 'table', 'local');
    await serving([narrow], async () => {
      const send = (...options) =>
        uclient('127.0.0.1', '-c', '-s', '-u', 'alice', '-w', 'wonderland', '-e', narrow, '-r', `${PEER_PORT}`, ...options);
      assertComplete(send('-l', '1200'));
      assertComplete(send('-g', '-l', '200'));
      const frames = await captured('port 3478', async () => {
        const output = send('-g', '-l', '1200');
        assert.doesNotMatch(output, /tot_recv_msgs=[1-9]/, output);
      });
      // RFC 8656 §18.13: fragmentation needed (type 3, code 4), and the MTU, 1000.
      assert.ok(frames('stun.type == 0x0017 && frame contains 80:04:00:08:00:00:06:04:00:00:03:e8').length > 0);
      await until('they are counted', () => discarded('send_failed') > 0);
    });
  });

  test('a client that moves (mobility)', async () => {
    await serving(['127.0.0.1'], async () => {
      assertComplete(exchange('127.0.0.1', '-M'));
      assertComplete(exchange('127.0.0.1', '-M', '-s'));
    });
  });

  test('a Binding request', async () => {
    await serving([], async () => {
      const { status, stdout } = spawnSync('ip', inside('turnutils_stunclient', '-p', '3478', '127.0.0.1'), { encoding: 'utf8', timeout: 20_000 });
      assert.equal(status, 0);
      assert.match(stdout, /UDP reflexive addr: 127\.0\.0\.1:/);
    });
  });

  test('a pair of ports: EVEN-PORT with the next one reserved', async () => {
    await serving(['127.0.0.1'], async () => {
      const words = ['-u', 'alice', '-w', 'wonderland', '-e', '127.0.0.1', '-r', `${PEER_PORT}`];
      assertComplete(uclient('127.0.0.1', ...words));
    });
  });

  test('a REST credential made with the shared secret', async () => {
    await serving(['127.0.0.1'], async () => {
      const secret = 'a secret shared with the homeserver';
      assertComplete(uclient('127.0.0.1', '-c', '-u', '@anna:example.org', '-W', secret, '-e', '127.0.0.1', '-r', `${PEER_PORT}`));
      const guessed = uclient('127.0.0.1', '-c', '-u', '@anna:example.org', '-W', 'guessed', '-e', '127.0.0.1', '-r', `${PEER_PORT}`);
      assert.doesNotMatch(guessed, /tot_recv_msgs=[1-9]/, guessed);
    });
  });

  test('two clients reach each other in memory, without any relay socket', async () => {
    await serving([], async () => {
      const words = ['-y', '-c', '-u', 'alice', '-w', 'wonderland'];
      assertComplete(uclient('127.0.0.1', ...words));
      assertComplete(uclient('127.0.0.1', '-s', ...words));
      assert.equal(metric('hausruf_relay_sockets_opened_total'), 0);
    });
  });

  test('two workers: allocations spread, and clients of one reach those of the other in memory', async () => {
    await serving(['127.0.0.1'], async () => {
      // Each run as another user: of one user there are forty allocations at most, and these have two a client.
      const twenty = (user, ...options) => {
        const words = ['-u', user, '-W', 'a secret shared with the homeserver', '-m', '20', '-n', '20', ...options];
        return uclient('127.0.0.1', ...words);
      };
      assertComplete(twenty('anna', '-y', '-c'), 400);
      assertComplete(twenty('ben', '-y', '-c', '-s'), 400);
      assert.equal(metric('hausruf_relay_sockets_opened_total'), 0);
      const passed = (worker) => metric('hausruf_worker_handovers_total', worker);
      await until('both workers have passed datagrams on', () => passed(0) > 0 && passed(1) > 0);
      // With a reserved port, which the second allocation of a client asks the first one's worker for.
      assertComplete(twenty('clara', '-e', '127.0.0.1', '-r', `${PEER_PORT}`), 400);
      assertComplete(exchange('127.0.0.1', '-M'));
      assertComplete(exchange('127.0.0.1', '-t'));
      for (const worker of [0, 1]) await until(`worker ${worker} has relayed`, () => metric('hausruf_relay_sockets_opened_total', worker) > 0);
    }, { workers: 2 });
  });

  test('TCP allocations: from client to client, over TCP and TLS', async () => {
    const words = ['-T', '-c', '-u', 'alice', '-w', 'wonderland'];
    await serving([], async () => {
      assertComplete(uclient('127.0.0.1', ...words));
      assertComplete(uclient('127.0.0.1', ...words, '-S', '-p', '5349'));
      await until('both ways are counted', () => metric('hausruf_peer_connections_opened_total') >= 4);
      await until('nothing is left', () => metric('hausruf_peer_connections') === 0);
    }, { tcpAllocations: true });
    await serving([], async () => {
      assertComplete(uclient('127.0.0.1', ...words, '-m', '6', '-n', '10'), 60);
      for (const worker of [0, 1]) await until(`worker ${worker} has connections`, () => metric('hausruf_peer_connections_opened_total', worker) > 0);
    }, { tcpAllocations: true, workers: 2 });
  });

  test('TCP allocations: to and from a plain peer, and not where the policy forbids it', async () => {
    const passes = (...words) => {
      const { stdout, stderr } = spawnSync('ip', inside(process.execPath, ALLOCATION, '127.0.0.1', '3478', ...words), { encoding: 'utf8', timeout: 30_000 });
      assert.equal(stdout, 'ok\n', stderr);
    };
    for (const workers of [1, 2]) {
      await serving(['127.0.0.1'], async () => {
        for (let time = 0; time < 4; time += 1) passes();
      }, { tcpAllocations: true, workers });
    }
    await serving([], async () => passes('forbidden'), { tcpAllocations: true });
    await serving(['127.0.0.1'], async () => {
      assert.doesNotMatch(uclient('127.0.0.1', '-T', '-c', '-u', 'alice', '-w', 'wonderland') ?? '', /tot_recv_msgs=[1-9]/);
    });
  });

  test('sessions are shown while their clients relay, and a drain waits for the last of them', async () => {
    await serving(['127.0.0.1'], async () => {
      const words = ['-c', '-u', 'alice', '-w', 'wonderland', '-e', '127.0.0.1', '-r', `${PEER_PORT}`, '-p', '3478'];
      // Without an end of their own: their allocations go with their connections.
      const client = start('turnutils_uclient', '-t', '-S', '-m', '2', '-n', '1000000', ...words, '127.0.0.1');
      const socket = ['--socket', join(folder, 'control.sock')];
      const sessions = () => {
        const { stdout } = spawnSync(BINARY, ['sessions', '--json', '--user', 'alice', ...socket], { encoding: 'utf8' });
        return JSON.parse(stdout).sessions;
      };
      const relays = ({ transport, to_peers, to_client }) => transport === 'tls' && to_peers.packets > 0 && to_client.packets > 0;
      await until('both clients have relayed', () => sessions().filter(relays).length === 2);

      const drain = spawn(BINARY, ['drain', '--wait', ...socket], { stdio: ['ignore', 'pipe', 'inherit'] });
      running.push(drain);
      const drained = new Promise((resolve) => drain.once('exit', resolve));
      let said = '';
      drain.stdout.on('data', (text) => {
        said += text;
      });
      // Over TLS each client of Debian's also keeps the connection of its first try, with an allocation.
      await until('the drain has begun', () => said.includes(`draining: ${sessions().length} allocations left`), { show: () => said });
      const late = exchange('127.0.0.1');
      assert.doesNotMatch(late, /tot_recv_msgs=[1-9]/, late);
      assert.equal(sessions().filter(relays).length, 2);
      client.kill('SIGKILL');
      assert.equal(await drained, 0);
      assert.match(said, /drained: the last allocation has gone/);
      assert.deepEqual(sessions(), []);
    });
  });

  test('nothing passes, and no relay socket opens, where the policy forbids the peer', async () => {
    await serving([], async () => {
      const output = exchange('127.0.0.1');
      assert.doesNotMatch(output, /tot_recv_msgs=[1-9]/, output);
      assert.equal(metric('hausruf_relay_sockets_opened_total'), 0);
    });
  });
});
