// Two workers on the one port: calls and relayed calls go on whichever of them the kernel gives the packets to.

import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startLoad } from '../harness/load.mjs';
import { SERVER_ADDRESS } from '../harness/net.mjs';
import { HAUSRUF_BIN, HTTP_PORT, PEER, Server } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { World, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const SECRET = 'secret-secret-secret-secret-secret';

class TwoWorkers extends World {
  constructor(name) {
    super(name);
    const file = join(mkdtempSync(join(tmpdir(), 'hr-workers-')), 'hausruf.toml');
    writeFileSync(file, `
advertise = ["${SERVER_ADDRESS}"]
workers = 2
[listen]
http = "${SERVER_ADDRESS}:${HTTP_PORT}"
[api_keys]
devkey = "${SECRET}"
[relay]
store = ""
[relay.users]
alice = "wonderland"
`);
    this.server = new Server(this.net, name, () => [HAUSRUF_BIN, ['serve', '--config', file]]);
  }
}

const scenario = suite('workers', TwoWorkers, { skip: PEER === 'livekit' });

const token = { secret: SECRET };
const direct = { token, publish: { video: { width: 320, height: 180 } } };
const relayed = { ...direct, options: { connect: { rtcConfig: { iceTransportPolicy: 'relay' } } } };
const overTcp = {
  ...direct,
  options: {
    connect: {
      rtcConfig: {
        iceTransportPolicy: 'relay',
        iceServers: [{ urls: `turn:${SERVER_ADDRESS}:3478?transport=tcp`, username: 'alice', credential: 'wonderland' }],
      },
    },
  },
};

/** No TURN server at all. */
const unaided = { ...direct, options: { connect: { rtcConfig: { iceServers: [] } } } };

const size = { width: 320, height: 180 };

/** What a metric of one worker says. */
const ofWorker = (world, worker, name, labels = '') => {
  const { body } = world.net.fetch(`${world.server.url}/metrics`);
  const of = (line) => line.startsWith(`${name}{`) && line.includes(`worker="${worker}"`) && line.includes(labels);
  return body.split('\n').filter(of).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
};

/** Rooms go round the workers: two rooms, one at each. `check` is given a selected pair of candidates. */
async function twoCalls(world, room, how, check = () => {}) {
  for (const [index, name] of [`${room}-one`, `${room}-two`].entries()) {
    const [a, b] = await Promise.all([world.join(2 * index + 1, name, 'anna', how), world.join(2 * index + 2, name, 'ben', how)]);
    await Promise.all([seesAndHears(a, 'ben', size), seesAndHears(b, 'anna', size)]);
    await check(await selected(a));
  }
}

const selected = (page) => until(`${page.identity} has a candidate pair`, () => page.evaluate(() => hr.pair()));

const handovers = (world) => world.server.metric('hausruf_worker_handovers_total');

scenario('two calls, one at each worker', async (world, room) => {
  await twoCalls(world, room, direct);
  for (const worker of [0, 1]) {
    const sent = () => ofWorker(world, worker, 'hausruf_packets_total', 'direction="out",kind="rtp"');
    assert.ok(await until(`worker ${worker} has sent media`, () => sent() > 0));
  }
}, { seconds: 150 });

scenario('fifty sockets: half of them arrive at the wrong worker, and nothing is lost', async (world, room) => {
  const before = handovers(world);
  const options = ['--room', room, '--secret', SECRET, '--rooms', '2', '--publishers', '1', '--subscribers', '24', '--duration', '5'];
  const load = startLoad(world.net, 5, options);
  try {
    const report = await load.finished;
    assert.equal(report.connected, 50);
    assert.equal(report.tracks_flowing, 96, JSON.stringify(report));
    assert.equal(report.bad_tags, 0);
    assert.ok(report.lost < report.video_packets / 1000, `${report.lost} of ${report.video_packets} packets lost`);
    // Two of fifty five-tuples send media, the others checks, handshakes and feedback.
    await until('hand-overs are counted', () => handovers(world) - before > 500, { show: () => handovers(world) });
    assert.equal(world.server.metric('hausruf_discards_total', 'reason="worker_busy"'), 0);
  } finally {
    load.stop();
  }
}, { seconds: 90 });

scenario('calls of clients that may only relay, in memory from worker to worker', async (world, room) => {
  await twoCalls(world, room, relayed, ({ local }) => assert.equal(local.type, 'relay'));
  assert.equal(world.server.metric('hausruf_relay_sockets_opened_total'), 0);
}, { seconds: 150 });

scenario('calls over TURN/TCP alone', async (world, room) => {
  await twoCalls(world, room, overTcp, ({ local }) => assert.equal(local.relayProtocol, 'tcp', JSON.stringify(local)));
  assert.equal(world.server.metric('hausruf_relay_sockets_opened_total'), 0);
}, { seconds: 150 });

scenario('ICE over TCP finds the worker that has the room', async (world, room) => {
  for (const index of [1, 2, 3, 4]) world.net.blockUdp(index, true);
  try {
    await twoCalls(world, room, unaided, ({ local, remote }) => {
      assert.deepEqual([local.type === 'relay', remote.protocol], [false, 'tcp'], JSON.stringify({ local, remote }));
    });
  } finally {
    for (const index of [1, 2, 3, 4]) world.net.blockUdp(index, false);
  }
}, { seconds: 150 });
