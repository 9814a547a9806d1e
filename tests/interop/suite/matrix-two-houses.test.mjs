// Two homeservers, each with a server for calls beside it: everybody publishes at home and listens at both.

import assert from 'node:assert/strict';
import { PEER } from '../harness/server.mjs';
import { TwoHouses } from '../harness/two-homeservers.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('matrix-two-houses', TwoHouses, { skip: PEER !== 'hausruf' });

scenario('each is heard through the server of the other house', async (world) => {
  const room = await world.sharedRoom();
  const [alice, bob] = await Promise.all([world.elementCall(1, 'alice'), world.bobsElementCall()]);
  await alice.join(room);
  await bob.join(room);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);
  for (const server of [world.server, world.secondServer]) assert.equal(server.metric('hausruf_participants'), 2);

  // The house of one is on fire: the other is heard by nobody, but its own house stands, and all is well after it.
  await world.secondServer.stop('SIGKILL');
  await world.secondServer.start();
  await Promise.all([alice.seesAndHears({ seconds: 60 }), bob.seesAndHears({ seconds: 60 })]);

  await bob.leave();
  await until('alice is alone', async () => (await alice.names()).length === 1);
  await until('nobody is left in the house of bob', () => world.secondServer.metric('hausruf_participants') === 0, { seconds: 30 });
}, { seconds: 180 });

scenario('a token of the other house, by way of both homeservers', async (world) => {
  const room = await world.sharedRoom();
  const wish = { server_name: world.second.serverName };
  const granted = await world.proxiedToken('alice', room, wish);
  assert.equal(granted.status, 200, JSON.stringify(granted.body));
  const validate = () => world.validate(granted.body.jwt, world.secondServer.url);
  assert.equal((await validate()).status, 404, 'nobody of that house has opened the call');
  assert.equal((await world.proxiedToken('bob', room, { synapse: world.second })).status, 200);
  assert.equal((await validate()).status, 200);
  assert.notEqual((await world.validate(granted.body.jwt)).status, 200, 'it is not for our own house');
  assert.equal((await world.proxiedToken('alice', await world.room('alice'), wish)).status, 403);
});
