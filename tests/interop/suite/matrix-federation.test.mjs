// Users of two homeservers in one call. The second homeserver has no server for calls of its own and names ours.

import assert from 'node:assert/strict';
import { NEIGHBOUR, TwoHomeservers } from '../harness/two-homeservers.mjs';
import { PEER } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('matrix-federation', TwoHomeservers, { skip: PEER !== 'hausruf' });

scenario('a user of another homeserver waits until somebody of ours has opened the call', async (world) => {
  const room = await world.sharedRoom();
  const before = await world.sfuToken('bob', room, { synapse: world.second });
  assert.equal(before.status, 200, JSON.stringify(before.body));
  const refused = await world.validate(before.body.jwt);
  assert.deepEqual([refused.status, refused.body], [404, 'requested room does not exist']);

  const bob = await world.bobsElementCall();
  await bob.open(room);
  await bob.page.click('[data-testid=lobby_joinCall]');
  await bob.page.getByText('restricted').first().waitFor({ timeout: 20_000 });

  const ours = await world.sfuToken('alice', room);
  assert.equal(ours.status, 200, JSON.stringify(ours.body));
  assert.equal((await world.validate(before.body.jwt)).status, 200);
});

scenario('users of two homeservers see and hear each other through our server', async (world) => {
  const room = await world.sharedRoom();
  const [alice, bob] = await Promise.all([world.elementCall(1, 'alice'), world.bobsElementCall()]);
  await alice.join(room);
  await bob.join(room);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
  await bob.leave();
  await until('alice is alone', async () => (await alice.names()).length === 1);
}, { seconds: 120 });

scenario('nobody of another homeserver gets a token with a proof that it did not give', async (world) => {
  const room = await world.sharedRoom();
  const openid = await world.openid('bob', world.second);
  const refused = async (changes) => {
    const { status, body } = await world.sfuToken('bob', room, { openid: { ...openid, ...changes } });
    return [status, body.errcode];
  };
  assert.deepEqual(await refused({ access_token: 'forged' }), [401, 'M_UNAUTHORIZED']);
  assert.deepEqual(await refused({ matrix_server_name: world.synapse.serverName }), [401, 'M_UNAUTHORIZED']);
  // A server that is not there.
  assert.deepEqual(await refused({ matrix_server_name: `${world.synapse.address}:9` }), [401, 'M_UNAUTHORIZED']);
  assert.equal((await world.sfuToken('bob', room, { openid, synapse: world.second })).status, 200);
});

scenario('another homeserver asks for its user, with a signature that ours has checked', async (world) => {
  const room = await world.sharedRoom();
  const { user_id, device_id } = await world.session('bob', world.second);
  const ask = (user) =>
    world.second.request('POST', '/_matrix/client/unstable/io.element.msc4512/appservice/fed_proxy', {
      token: NEIGHBOUR,
      body: {
        destination: world.synapse.serverName,
        method: 'POST',
        path: '/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token',
        body: { user_id: user, room_id: room, slot_id: 'm.call#ROOM', member: { id: 'one', claimed_device_id: device_id } },
      },
    });
  const granted = await ask(user_id);
  assert.equal(granted.status, 200, JSON.stringify(granted));
  await world.sfuToken('alice', room);
  assert.equal((await world.validate(granted.content.jwt)).status, 200);
  // It speaks for its own users only, and for those in the room.
  for (const user of [(await world.session('alice')).user_id, `@carol:${world.second.serverName}`]) {
    assert.equal((await ask(user)).status, 403);
  }
});
