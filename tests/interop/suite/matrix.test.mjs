// Element Call, as its package has it, on a real Synapse.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MatrixWorld } from '../harness/matrix-world.mjs';
import { addressOf } from '../harness/net.mjs';
import { PEER, WS_URL } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('matrix', MatrixWorld, { skip: PEER !== 'hausruf' });

const MATRIX_2 = { settings: { matrix_rtc_mode: 'matrix_2_0' } };
const LISTENER = fileURLToPath(new URL('../harness/listener.mjs', import.meta.url));

/** Alice and Bob in the call of a new room, which is encrypted unless another one is given. */
async function call(world, { room, ...options } = {}) {
  room ??= await world.room('alice', 'bob');
  const [alice, bob] = await Promise.all([world.elementCall(1, 'alice', options), world.elementCall(2, 'bob', options)]);
  await alice.join(room);
  await bob.join(room);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
  return { room, alice, bob };
}

const users = async (world, room) => (await world.callMembers(room)).map(({ user }) => user).sort();

/** Waits until the room's state names exactly these users as members of the call. */
function inState(world, room, expected, seconds) {
  const wanted = expected.map(({ user }) => user).sort();
  return until(
    `the room's state has ${wanted.join(' and ') || 'nobody'} in the call`,
    async () => JSON.stringify(await users(world, room)) === JSON.stringify(wanted),
    { seconds, show: () => users(world, room) },
  );
}

/** Waits until the leaves of this many clients are in the server's hands. */
function delegated(world, count) {
  return until(`${count} leaves are delegated`, () => world.server.metric('hausruf_delayed_leaves_pending') === count, {
    seconds: 10,
    show: () => world.server.metric('hausruf_delayed_leaves_pending'),
  });
}

const participants = (world) => world.server.metric('hausruf_participants');
const alone = (call, seconds = 15) => until(`${call.user} is alone`, async () => (await call.names()).length === 1, { seconds, show: () => call.names() });

scenario('two people call each other in an encrypted room, share a screen and leave', async (world) => {
  const { room, alice, bob } = await call(world);
  await inState(world, room, [alice, bob], 5);
  assert.deepEqual((await alice.names()).sort(), ['alice', 'bob']);
  assert.ok((await alice.encrypts()) && (await bob.encrypts()), 'every frame is encrypted');
  await delegated(world, 2);

  await bob.toggleScreen();
  await alice.seesAndHears({ videos: 2 });
  await bob.toggleScreen();
  await until('the screen is gone', async () => (await alice.names()).length === 2);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);

  await bob.leave();
  await inState(world, room, [alice], 5);
  await alone(alice);
  await alice.leave();
  await inState(world, room, [], 5);
  await delegated(world, 0);
}, { seconds: 150 });

// Element Call 0.26.1, outside of a widget, does not see its own sticky events of an encrypted room: it keeps them as they
// were before they were decrypted.
scenario('the same as Matrix 2.0 does it: sticky events and hashed identities', async (world) => {
  const { room, alice, bob } = await call(world, { ...MATRIX_2, room: await world.plainRoom('alice', 'bob') });
  assert.deepEqual(await users(world, room), [], 'members of the call are in no state');
  await delegated(world, 2);
  await bob.leave();
  await alone(alice);
  await alice.leave();
  await delegated(world, 0);
}, { seconds: 150 });

scenario('a client that is killed is gone from the room within fifteen seconds', async (world) => {
  const { room, alice, bob } = await call(world);
  await inState(world, room, [alice, bob], 5);
  await delegated(world, 2);
  world.kill(2);
  await inState(world, room, [alice], 15);
  await alone(alice, 5);
}, { seconds: 120 });

scenario('who is kicked from the room is out of the call within two seconds, and stays out', async (world) => {
  const { room, alice, bob } = await call(world);
  assert.equal(participants(world), 2);
  const token = await world.sfuToken('bob', room);
  assert.equal(token.status, 200, JSON.stringify(token.body));
  const { access_token } = await world.session('alice');
  await world.asUser(access_token, 'POST', `/rooms/${encodeURIComponent(room)}/kick`, { user_id: bob.user });
  await until('bob is no participant', () => participants(world) === 1, { seconds: 2, everyMs: 50 });
  await until('bob sees that he is out', async () => !(await bob.isInCall()), { seconds: 15 });
  await alone(alice);
  const after = await world.sfuToken('bob', room);
  assert.deepEqual([after.status, after.body.errcode], [403, 'M_FORBIDDEN']);
  assert.notEqual((await world.validate(token.body.jwt)).status, 200, 'a token that outlived the kick');
}, { seconds: 120 });

scenario('a server that is killed and started again has both back without a click', async (world) => {
  const { room, alice, bob } = await call(world);
  await inState(world, room, [alice, bob], 5);
  await delegated(world, 2);
  await world.server.stop('SIGKILL');
  await world.server.start();
  await Promise.all([alice.seesAndHears({ seconds: 60 }), bob.seesAndHears({ seconds: 60 })]);
  await inState(world, room, [alice, bob], 5);
  // What was delegated to the server that was killed is known to the new one.
  world.kill(2);
  await inState(world, room, [alice], 15);
}, { seconds: 180 });

// A client pauses between its tries, at random and longer each time, and a resume comes too late: what counts is that the
// first join gets it in.
scenario('after twenty-five seconds without a network a client is in the state within five, and in the call when it asks', async (world) => {
  const { room, alice, bob } = await call(world);
  await delegated(world, 2);
  const until25 = pause(25_000);
  world.net.setCable(2, false);
  try {
    await inState(world, room, [alice], 16);
    await until25;
    assert.equal(await bob.isConnected(), false);
  } finally {
    world.net.setCable(2, true);
  }
  const connected = async () => {
    await bob.joinsAgain();
    await until('bob is connected', () => bob.isConnected(), { seconds: 5 });
  };
  await Promise.all([inState(world, room, [alice, bob], 5), connected()]);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
}, { seconds: 150 });

scenario('a token is for members of the room, whom the homeserver vouched for', async (world) => {
  const room = await world.room('alice', 'bob');
  const elsewhere = await world.room('alice');
  await world.session('carol');
  assert.equal((await world.sfuToken('alice', room)).status, 200);
  const refusals = {
    'not in the room': await world.sfuToken('carol', room),
    'no such room': await world.sfuToken('alice', '!nowhere:example.org'),
    'a forged proof': await world.sfuToken('alice', room, { openid: { ...(await world.openid('alice')), access_token: 'forged' } }),
    'a device id with a colon': await world.sfuToken('alice', room, { device: '8448:D' }),
  };
  const openid = await world.openid('alice');
  assert.equal((await world.sfuToken('alice', room, { openid })).status, 200);
  refusals['a proof used for another room'] = await world.sfuToken('alice', elsewhere, { openid });
  refusals['a proof used for another device'] = await world.sfuToken('alice', room, { openid, device: 'OTHER' });
  assert.deepEqual(
    Object.fromEntries(Object.entries(refusals).map(([why, { status, body }]) => [why, [status, body.errcode]])),
    {
      'not in the room': [403, 'M_FORBIDDEN'],
      'no such room': [403, 'M_FORBIDDEN'],
      'a forged proof': [401, 'M_UNAUTHORIZED'],
      'a device id with a colon': [400, 'M_BAD_JSON'],
      'a proof used for another room': [401, 'M_UNAUTHORIZED'],
      'a proof used for another device': [401, 'M_UNAUTHORIZED'],
    },
  );
});

scenario('a token by way of the homeserver: its members need no other proof', async (world) => {
  const room = await world.room('alice', 'bob');
  const granted = await world.proxiedToken('alice', room);
  assert.equal(granted.status, 200, JSON.stringify(granted.body));
  assert.equal((await world.validate(granted.body.jwt)).status, 200);
  assert.equal((await world.proxiedToken('carol', room)).status, 403);
  assert.equal((await world.proxiedToken('alice', await world.room('bob'))).status, 403);
  // Whoever is not the homeserver cannot speak for its users.
  const direct = await world.service('/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token', { room_id: room, slot_id: 'm.call#ROOM', member: { id: 'one', claimed_device_id: 'D' } });
  assert.ok([401, 403].includes(direct.status), `${direct.status}`);
});

scenario('a leave is sent to the homeserver, whatever address the client names', async (world) => {
  const room = await world.room('alice', 'bob');
  const attacker = `http://${addressOf(3)}:8009`;
  const listener = spawn('ip', ['netns', 'exec', world.net.client(3), process.execPath, LISTENER, '8009']);
  let heard = '';
  listener.stdout.on('data', (text) => {
    heard += text;
  });
  try {
    await until('the attacker listens', () => heard.startsWith('listening'));
    await assert.rejects(world.fetch(attacker));
    await until('the attacker hears', () => heard.split('connection').length === 2);

    const { access_token, user_id } = await world.session('bob');
    const state = `/rooms/${encodeURIComponent(room)}/state/org.matrix.msc3401.call.member/${encodeURIComponent(`_${user_id}_DEVICE_m.call`)}`;
    const { delay_id } = await world.asUser(access_token, 'PUT', `${state}?org.matrix.msc4140.delay=3600000`);
    await world.asUser(access_token, 'PUT', state, { application: 'm.call', call_id: '', scope: 'm.room', device_id: 'DEVICE', expires: 14_400_000, focus_active: { type: 'livekit', focus_selection: 'multi_sfu' }, foci_preferred: [] });
    const token = await world.sfuToken('bob', room, { delay_id, delay_timeout: 3_600_000, delay_cs_api_url: attacker });
    assert.equal(token.status, 200, JSON.stringify(token.body));
    const page = await world.barePage(2);
    await page.evaluate(([url, token]) => hr.join(url, token), [WS_URL, token.body.jwt]);
    await inState(world, room, [{ user: user_id }], 5);
    await page.evaluate(() => hr.room.disconnect());
    await inState(world, room, [], 15);
    assert.equal(heard.split('connection').length, 2, 'nobody else came to the attacker');
  } finally {
    listener.kill('SIGKILL');
  }
});
