import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linkTo, readAddress } from './address';

test('the room stands after the hash, with or without its name, or in the query', () => {
  assert.equal(readAddress(new URL('http://h/#kitchen')).room, 'kitchen');
  assert.equal(readAddress(new URL('http://h/#room=kitchen')).room, 'kitchen');
  assert.equal(readAddress(new URL('http://h/?room=kitchen')).room, 'kitchen');
  assert.equal(readAddress(new URL('http://h/#caf%C3%A9')).room, 'café');
  assert.equal(readAddress(new URL('http://h/#%E0%A4%A')).room, '%E0%A4%A');
  assert.equal(readAddress(new URL('http://h/')).room, '');
});

test('a link leads back to the same room and passphrase, and keeps the passphrase from the server', () => {
  const address = { room: 'living room & garden', passphrase: 'a=b&c #d' };
  const link = new URL(linkTo(new URL('http://h:7880/?e2ee=old'), address));
  assert.deepEqual(readAddress(link), address);
  assert.equal(link.search, '');
});
