// Who is on a poor link still hears: the short ones of `make poor-links`.

import assert from 'node:assert/strict';
import { before } from 'node:test';
import { record } from '../harness/poor-link-call.mjs';
import { CASES } from '../harness/poor-link-cases.mjs';
import { videoClips, voiceClip } from '../harness/poor-link-clips.mjs';
import { missed, score, voidBecause } from '../harness/poor-link-scores.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('poor-links');

// Encoding takes a minute, once.
before(() => [videoClips(), voiceClip(32)]);

/** What is asked of every single run, when the estimate has come down; `make poor-links` asks for all goals, all the time. */
for (const [name, title, scored, goals] of [
  ['P1 10 %', '200 kbit/s, 300 ms, 10 % loss: the speaker is heard', [20, 60], { concealed: 4, gaps: 1, reconnects: 0 }],
  [
    'B 250',
    '250 kbit/s for 30 s: heard and seen meanwhile, and whole again soon after',
    [25, 50],
    { concealed: 3, fps: 5, recovered: 7, reconnects: 0 },
  ],
]) {
  scenario(title, async (world, room, context) => {
    const scores = score({ ...CASES[name], scored }, await record(world, room, CASES[name]));
    console.log(`# ${name}: ${Object.entries(scores).map(([key, value]) => `${key} ${value?.toFixed(2) ?? 'never'}`).join(', ')}`);
    const why = voidBecause(scores);
    if (why) return context.skip(`void, the machine is starved: ${why}`);
    assert.deepEqual(missed({ goals }, scores), []);
  }, { seconds: 240 });
}
