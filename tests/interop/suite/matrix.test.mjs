// Element Call, as its package has it, on a real Synapse: calls in encrypted rooms.

import assert from 'node:assert/strict';
import { MatrixWorld } from '../harness/matrix-world.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('matrix', MatrixWorld);

const MATRIX_2 = { settings: { matrix_rtc_mode: 'matrix_2_0' } };

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
  return until(
    `the room's state has ${expected.map(({ user }) => user).join(' and ') || 'nobody'} in the call`,
    async () => JSON.stringify(await users(world, room)) === JSON.stringify(expected.map(({ user }) => user).sort()),
    { seconds, show: () => users(world, room) },
  );
}

scenario('two people call each other in an encrypted room, share a screen and leave', async (world) => {
  const { room, alice, bob } = await call(world);
  await inState(world, room, [alice, bob], 5);
  assert.deepEqual((await alice.names()).sort(), ['alice', 'bob']);

  await bob.toggleScreen();
  await alice.seesAndHears({ videos: 2 });
  await bob.toggleScreen();
  await until('the screen is gone', async () => (await alice.names()).length === 2);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);

  await bob.leave();
  await inState(world, room, [alice], 5);
  await until('alice is alone', async () => (await alice.names()).length === 1);
  await alice.leave();
  await inState(world, room, [], 5);
}, { seconds: 150 });

// Element Call 0.26.1, outside of a widget, does not see its own sticky events of an encrypted room: it keeps them as they
// were before they were decrypted.
scenario('the same as Matrix 2.0 does it: sticky events and hashed identities', async (world) => {
  const { room, alice, bob } = await call(world, { ...MATRIX_2, room: await world.plainRoom('alice', 'bob') });
  assert.deepEqual(await users(world, room), [], 'members of the call are in no state');
  await bob.leave();
  await until('alice is alone', async () => (await alice.names()).length === 1, { seconds: 15 });
}, { seconds: 150 });
