// What breaks and comes back: sockets, networks, servers.

import assert from 'node:assert/strict';
import { BASE_URL, HTTP_PORT, PEER, WS_URL } from '../harness/server.mjs';
import { tokenFor } from '../harness/token.mjs';
import { until } from '../harness/until.mjs';
import { countOf, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('reconnect');

async function pair(world, room) {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben')]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  return [a, b];
}

const sid = (page) => page.evaluate(() => hr.room.localParticipant.sid);

/** `page` resumes: it stays the same participant, and nobody sees it go. */
async function assertResumed(page, other, before) {
  await until(`${page.identity} is back`, () => countOf(page, 'reconnected'), { seconds: 40 });
  assert.equal(await sid(page), before, 'the participant is the same');
  assert.equal(await countOf(other, 'participantDisconnected'), 0, 'the other never saw it go');
  await Promise.all([seesAndHears(page, other.identity), seesAndHears(other, page.identity)]);
}

scenario('a WebSocket that closes is resumed', async (world, room) => {
  const [a, b] = await pair(world, room);
  const before = await sid(a);
  await a.evaluate(() => hr.room.simulateScenario('signal-reconnect'));
  await assertResumed(a, b, before);
});

scenario('a TCP connection that is cut is resumed, again and again', async (world, room) => {
  const [a, b] = await pair(world, room);
  const before = await sid(a);
  for (let round = 1; round <= 3; round++) {
    world.net.cutTcp(1, HTTP_PORT);
    await until(`resume ${round}`, async () => (await countOf(a, 'reconnected')) >= round, { seconds: 40 });
  }
  await assertResumed(a, b, before);
  // What changed while the socket was down is known after it.
  await b.evaluate(() => hr.room.localParticipant.setMicrophoneEnabled(false));
  await until('anna knows that ben is muted', () => countOf(a, 'muted', { identity: 'ben' }));
});

scenario('what happens while the socket is down is told after it', async (world, room) => {
  const [a, b] = await pair(world, room);
  const before = await sid(a);
  await a.evaluate(() => hr.room.engine.client.close(false));
  world.net.cutTcp(1, HTTP_PORT);
  await b.evaluate(() => hr.room.localParticipant.setCameraEnabled(false));
  const c = await world.join(3, room, 'clara');
  await until('anna is back', () => countOf(a, 'reconnected'), { seconds: 40 });
  assert.equal(await sid(a), before);
  await seesAndHears(a, 'clara');
  await seesAndHears(c, 'anna');
  await until('anna knows that ben hides', () => a.evaluate(() => hr.room.getParticipantByIdentity('ben').getTrackPublication('camera').isMuted));
});

scenario('a full reconnect is a new participant with the same identity', async (world, room) => {
  const [a, b] = await pair(world, room);
  const before = await sid(a);
  await a.evaluate(() => hr.room.simulateScenario('full-reconnect'));
  await until('anna is back', () => countOf(a, 'reconnected'), { seconds: 40 });
  assert.notEqual(await sid(a), before);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  assert.equal((await b.evaluate(() => hr.people())).length, 1);
});

scenario('a client that changes its address stays in the call', async (world, room) => {
  const [a, b] = await pair(world, room);
  const before = await sid(a);
  world.net.moveClient(1, 101);
  try {
    await Promise.all([seesAndHears(a, 'ben', { seconds: 60 }), seesAndHears(b, 'anna', { seconds: 60 })]);
    assert.equal(await sid(a), before);
    assert.equal(await countOf(b, 'participantDisconnected'), 0);
  } finally {
    world.net.moveClient(1, 1);
  }
}, { seconds: 150 });

scenario('a cable that is pulled for a moment', async (world, room) => {
  const [a, b] = await pair(world, room);
  world.net.setCable(1, false);
  await until('anna notices', () => a.evaluate(() => hr.events.some((e) => e.event === 'signalReconnecting' || e.event === 'reconnecting')), { seconds: 40 });
  world.net.setCable(1, true);
  await Promise.all([seesAndHears(a, 'ben', { seconds: 60 }), seesAndHears(b, 'anna', { seconds: 60 })]);
}, { seconds: 150 });

scenario('the token is refreshed', async (world, room) => {
  const page = await world.barePage(1);
  const first = tokenFor(room, 'anna', { lifetimeSeconds: 120 });
  page.identity = 'anna';
  await page.evaluate(([url, token]) => hr.join(url, token), [WS_URL, first]);
  const fresh = await until('a new token arrives', async () => {
    const token = await page.evaluate(() => hr.room.engine.token);
    return token !== first && token;
  });
  const claims = JSON.parse(Buffer.from(fresh.split('.')[1], 'base64url').toString());
  assert.equal(claims.sub, 'anna');
  assert.equal(claims.video.room, room);
  assert.ok(claims.exp > Date.now() / 1000 + 540, 'it lasts at least ten minutes from now');
  const request = Buffer.from([0x08, 0x00, 0x12, 0x02, 0x0a, 0x00]).toString('base64url');
  assert.equal(world.net.fetch(`${BASE_URL}/rtc/v1/validate?join_request=${request}&access_token=${fresh}`).status, 200);
  // The client uses it when it comes back.
  const before = await sid(page);
  await page.evaluate(() => hr.room.simulateScenario('full-reconnect'));
  await until('anna is back', () => countOf(page, 'reconnected'), { seconds: 40 });
  assert.notEqual(await sid(page), before);
});

scenario('a server that is killed and started again has its calls back', async (world, room) => {
  const [a, b] = await pair(world, room);
  await world.server.stop('SIGKILL');
  await until('both notice', async () => (await Promise.all([a, b].map((page) => page.evaluate(() => hr.room.state)))).every((state) => state !== 'connected'), { seconds: 40 });
  await world.server.start();
  await until('both are back', async () => (await Promise.all([a, b].map((page) => page.evaluate(() => hr.room.state)))).every((state) => state === 'connected'), {
    seconds: 60,
    show: () => Promise.all([a, b].map((page) => page.evaluate(() => hr.events.slice(-6)))),
  });
  await Promise.all([seesAndHears(a, 'ben', { seconds: 40 }), seesAndHears(b, 'anna', { seconds: 40 })]);
}, { seconds: 180 });

scenario('a server that is asked to stop sends its clients away so that they come back', async (world, room) => {
  const [a, b] = await pair(world, room);
  const since = Date.now();
  await world.server.stop('SIGTERM');
  assert.ok(Date.now() - since < 5000, `it took ${Date.now() - since} ms to stop`);
  assert.equal(world.server.exit, 0);
  await world.server.start();
  await until('both are back', async () => (await Promise.all([a, b].map((page) => page.evaluate(() => hr.room.state)))).every((state) => state === 'connected'), {
    seconds: 60,
    show: () => Promise.all([a, b].map((page) => page.evaluate(() => hr.events.slice(-6)))),
  });
  await Promise.all([seesAndHears(a, 'ben', { seconds: 40 }), seesAndHears(b, 'anna', { seconds: 40 })]);
}, { skip: PEER !== 'hausruf' && 'LiveKit ends calls when it stops', seconds: 150 });
