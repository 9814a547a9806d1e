import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionQuality } from 'livekit-client';
import { Lasting, PAUSED, ownSentence, pausedSentence, weakSentence } from './weak-link';

const { Excellent, Good, Poor, Unknown } = ConnectionQuality;

test('a pause says that audio is kept', () => {
  assert.equal(ownSentence(Excellent, 0, 0), undefined);
  assert.equal(ownSentence(Good, 0, 0), undefined);
  assert.equal(ownSentence(Unknown, 0, 0), undefined);
  assert.equal(ownSentence(Good, 2, 0), 'Your connection is weak: video paused, audio kept.');
  assert.equal(ownSentence(Good, 2, 1), 'Your connection is weak: video paused, and only the loudest are heard.');
  assert.match(ownSentence(Poor, 0, 0) ?? '', /^Your connection is weak: picture and sound/);
});

test('a tile tells our link from that of its participant', () => {
  assert.equal(pausedSentence({ isLocal: false, isPaused: true, quality: Excellent }), PAUSED);
  assert.equal(weakSentence({ isLocal: false, isPaused: true, quality: Excellent }, 'Anna'), undefined);
  assert.equal(weakSentence({ isLocal: false, isPaused: false, quality: Poor }, 'Anna'), 'Anna’s connection is weak');
  assert.equal(weakSentence({ isLocal: true, isPaused: false, quality: Poor }, 'Anna'), 'Your connection is weak');
});

test('a sentence does not flicker', () => {
  const lasting = new Lasting(3_000);
  assert.equal(lasting.update(undefined, 10_000), undefined);
  assert.equal(lasting.update('a', 11_000), 'a');
  assert.equal(lasting.update(undefined, 13_000), 'a');
  assert.equal(lasting.update('b', 13_500), 'b');
  assert.equal(lasting.update(undefined, 16_400), 'b');
  assert.equal(lasting.update(undefined, 16_500), undefined);
});
