// What the server says over plain HTTP: the checks that a client's error messages come from.

import assert from 'node:assert/strict';
import { BASE_URL, PEER } from '../harness/server.mjs';
import { claimsFor, signClaims, tokenFor } from '../harness/token.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('http');
const OURS = PEER === 'hausruf';

const validate = (world, path, token, options) =>
  world.net.fetch(`${BASE_URL}${path}${token === undefined ? '' : `${path.includes('?') ? '&' : '?'}access_token=${token}`}`, options);

/** `join_request` of an empty JoinRequest: WrappedJoinRequest{} is zero bytes, but must not be empty. */
const EMPTY_JOIN_REQUEST = Buffer.from([0x08, 0x00, 0x12, 0x02, 0x0a, 0x00]).toString('base64url');
const V1 = `/rtc/v1/validate?join_request=${EMPTY_JOIN_REQUEST}`;

scenario('a good token validates', async (world, room) => {
  const answer = validate(world, V1, tokenFor(room, 'anna'));
  assert.equal(answer.status, 200);
  assert.equal(answer.body, 'success');
});

scenario('the token may come in the Authorization header', async (world, room) => {
  const headers = { authorization: `Bearer ${tokenFor(room, 'anna')}` };
  assert.equal(validate(world, V1, undefined, { headers }).status, 200);
  assert.equal(validate(world, V1, undefined, { headers: { authorization: headers.authorization.slice(7) } }).status, 401);
});

scenario('bad tokens are refused with 401', async (world, room) => {
  const good = claimsFor(room, 'anna');
  const now = Math.floor(Date.now() / 1000);
  const bad = {
    'no token': undefined,
    'not a token': 'nonsense',
    'another secret': signClaims(good, 'guessed'),
    'an unknown key': signClaims({ ...good, iss: 'other' }),
    'no signature': `${signClaims(good, '', { alg: 'none', typ: 'JWT' }).split('.').slice(0, 2).join('.')}.`,
    expired: signClaims({ ...good, nbf: now - 7200, exp: now - 3600 }),
    'not yet valid': signClaims({ ...good, nbf: now + 3600, exp: now + 7200 }),
    'no video grant': signClaims({ ...good, video: undefined }),
    'may not join': signClaims({ ...good, video: { ...good.video, roomJoin: false } }),
  };
  for (const [why, token] of Object.entries(bad)) {
    const answer = validate(world, V1, token);
    assert.equal(answer.status, 401, `${why}: ${answer.status} ${answer.body}`);
    assert.notEqual(answer.body, '', `${why}: the body says what is wrong`);
  }
});

scenario('requests that make no sense are refused with 400', async (world, room) => {
  const cases = {
    'empty identity': [V1, signClaims(claimsFor(room, ''))],
    'identity too long': [V1, tokenFor(room, 'x'.repeat(257))],
    'room name too long': [V1, tokenFor('x'.repeat(257), 'anna')],
    'no join_request': ['/rtc/v1/validate', tokenFor(room, 'anna')],
    'join_request is not base64': ['/rtc/v1/validate?join_request=%25%25%25', tokenFor(room, 'anna')],
    'join_request is not protobuf': [`/rtc/v1/validate?join_request=${Buffer.from([0xff, 0xff, 0xff]).toString('base64url')}`, tokenFor(room, 'anna')],
  };
  for (const [why, [path, token]] of Object.entries(cases)) {
    const answer = validate(world, path, token);
    assert.equal(answer.status, 400, `${why}: ${answer.status} ${answer.body}`);
  }
});

scenario(
  'clients that want two PeerConnections hear 400, never 404',
  async (world, room) => {
    const answer = validate(world, '/rtc/validate', tokenFor(room, 'anna'));
    assert.equal(answer.status, 400);
    assert.match(answer.body, /single PeerConnection required/);
  },
  { skip: !OURS && 'LiveKit serves both modes' },
);

scenario('every answer may be read by a page from elsewhere', async (world, room) => {
  const origin = 'https://call.example.org';
  for (const [path, token] of [
    ['/', undefined],
    [V1, tokenFor(room, 'anna')],
    [V1, 'nonsense'],
    ['/rtc/validate', tokenFor(room, 'anna')],
  ]) {
    const answer = validate(world, path, token, { headers: { origin } });
    assert.ok(['*', origin].includes(answer.headers['access-control-allow-origin']), `${path}: ${JSON.stringify(answer.headers)}`);
  }
  const preflight = world.net.fetch(`${BASE_URL}/rtc/v1/validate`, {
    method: 'OPTIONS',
    headers: { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' },
  });
  assert.ok(preflight.status < 300, `preflight: ${preflight.status}`);
  assert.match(preflight.headers['access-control-allow-headers'] ?? '', /\*|authorization/i);
});

scenario('HEAD / is answered, for browsers that come back online', async (world) => {
  assert.equal(world.net.fetch(`${BASE_URL}/`, { method: 'HEAD' }).status, 200);
});

scenario('a plain GET of the WebSocket address is 404', async (world, room) => {
  assert.equal(world.net.fetch(`${BASE_URL}/rtc/v1?access_token=${tokenFor(room, 'anna')}&join_request=${EMPTY_JOIN_REQUEST}`).status, 404);
});

scenario('a request line of 60 kB is read', async (world, room) => {
  const answer = validate(world, `${V1}&padding=${'x'.repeat(60_000)}`, tokenFor(room, 'anna'));
  assert.equal(answer.status, 200);
});
