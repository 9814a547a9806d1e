// Which way the media takes: straight to the SFU, or through the relay.

import assert from 'node:assert/strict';
import { PEER } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { directPair, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('relay');
const OURS = PEER === 'hausruf';
const RELAY_SOCKETS = 'hausruf_relay_sockets_opened_total';

const selected = (page) => until(`${page.identity} has a candidate pair`, () => page.evaluate(() => hr.pair()));

scenario('with every way allowed, media does not take the relay', async (world, room) => {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben')]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  for (const page of [a, b]) {
    const { remote } = await directPair(page);
    if (OURS) assert.equal(remote.port, 3478);
  }
});

scenario('a client that may only relay is in the call, and no relay socket was opened for it', async (world, room) => {
  const relayed = { options: { connect: { rtcConfig: { iceTransportPolicy: 'relay' } } } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', relayed), world.join(2, room, 'ben')]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  assert.equal((await selected(a)).local.type, 'relay');
  await directPair(b);
  if (OURS) assert.equal(world.server.metric(RELAY_SOCKETS), 0, RELAY_SOCKETS);
});

scenario('two clients that may only relay', async (world, room) => {
  const relayed = { options: { connect: { rtcConfig: { iceTransportPolicy: 'relay' } } } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', relayed), world.join(2, room, 'ben', relayed)]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  if (OURS) assert.equal(world.server.metric(RELAY_SOCKETS), 0, RELAY_SOCKETS);
});
