import assert from 'node:assert/strict';
import { test } from 'node:test';
import { paths } from './admin/sparkline';
import { duration, percent, personName, rate, roomTitle } from './admin/words';

test('figures are short', () => {
  assert.deepEqual([999, 64_400, 999_499, 1_250_000].map(rate), ['1 kbit/s', '64 kbit/s', '999 kbit/s', '1.3 Mbit/s']);
  assert.deepEqual([null, 0, 0.004, 0.126].map(percent), ['–', '0 %', '0.4 %', '13 %']);
  assert.deepEqual([-3, 59, 61, 3_600, 90_000].map(duration), ['0 s', '59 s', '1 min', '1 h 0 min', '1 d 1 h']);
});

test('a room has the best name that is known', () => {
  const room = { sid: 'RM', name: 'hash', matrix_room: '!r:hs', title: 'Kitchen', since: 0, participant_count: 0, participants: [] };
  assert.equal(roomTitle(room), 'Kitchen');
  assert.equal(roomTitle({ ...room, title: null }), '!r:hs');
  assert.equal(roomTitle({ ...room, title: null, matrix_room: null }), 'hash');
  const person = { sid: 'PA', identity: 'aGFzaA', name: '', member: null, since: 0, transport: 'connected' as const, socket: true, tracks: [], link: null };
  assert.equal(personName(person), 'aGFzaA');
  assert.equal(personName({ ...person, member: { room_id: '!r', user_id: '@a:hs', device_id: 'D' } }), '@a:hs');
});

test('a graph begins at the right and shows loss only where there is some', () => {
  const one = paths([{ bitrateBps: 1_000_000, loss: 0 }]);
  assert.match(one.line, /^M96 /);
  assert.equal(one.area, '');
  assert.equal(one.bars, '');
  const two = paths([{ bitrateBps: 0, loss: null }, { bitrateBps: 500_000, loss: 0.5 }]);
  assert.match(two.line, /^M94\.4 25L96 3\.\d$/);
  assert.equal(two.bars, 'M96 26v-26');
});
