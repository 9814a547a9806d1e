// Strangers and broken clients: refused or counted, and nobody else's call notices.

import assert from 'node:assert/strict';
import { PEER, SERVER_ADDRESS_OF_MEDIA, WS_URL } from '../harness/server.mjs';
import { tokenFor } from '../harness/token.mjs';
import { until } from '../harness/until.mjs';
import { countOf, remote, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('hostile');
const PORTS = PEER === 'hausruf' ? [3478, 3479] : [7882, 3479];

/** Runs `attack` beside a call of two, and checks that the call went on as if nothing had been. */
async function besideACall(world, room, attack) {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben')]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  const before = await remote(b, 'anna');
  const since = Date.now();
  await attack();
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  const after = await remote(b, 'anna');
  const fps = (after.frames - before.frames) / ((Date.now() - since) / 1000);
  const frozen = after.frozenMs - before.frozenMs;
  console.log(`# during ${((Date.now() - since) / 1000).toFixed(1)} s: ${fps.toFixed(1)} fps, frozen ${frozen.toFixed(0)} ms`);
  assert.ok(fps > 7, `${fps} pictures a second`);
  assert.ok(frozen < 2000, `frozen for ${frozen} ms`);
  for (const page of [a, b]) assert.equal(await countOf(page, 'participantDisconnected', { identity: page === a ? 'ben' : 'anna' }), 0);
  for (const page of [a, b]) assert.equal(await countOf(page, 'signalReconnecting') + (await countOf(page, 'reconnecting')), 0);
}

scenario('garbage on the UDP ports', async (world, room) => {
  await besideACall(world, room, async () => {
    const traffic = JSON.parse(await world.net.run(7, 'garbage.mjs', SERVER_ADDRESS_OF_MEDIA, PORTS.join(','), '20000', '42'));
    console.log(`# ${JSON.stringify(traffic)}`);
    assert.ok(traffic.answerBytes < traffic.sentBytes / 4, 'nobody can use the server to multiply what they send');
  });
});

scenario('joins that are wrong in every way', async (world, room) => {
  await besideACall(world, room, async () => {
    const page = await world.barePage(3);
    const token = tokenFor(room, 'mallory');
    const cases = {
      'an offer of 1 MiB': { sdp: `v=0\r\n${'a=x\r\n'.repeat(200_000)}` },
      'an offer that is no SDP': { sdp: 'hello' },
      'an offer without media': { sdp: 'v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n' },
      'an offer with 3000 sections': {
        sdp: `v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n${'m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n'.repeat(3000)}`,
      },
      'a bomb of zeros': { bomb: 64 << 20 },
      'a resume of nobody': { reconnect: true, participantSid: 'PA_nobodyatall' },
    };
    for (const [why, request] of Object.entries(cases)) {
      const outcome = await page.evaluate(([url, token, request]) => hr.rawJoin(url, token, request), [WS_URL, token, request]);
      console.log(`# ${why}: ${JSON.stringify(outcome)}`);
      // A bomb must not be let in; everything else may be let in or not, but must be answered.
      if (why === 'a bomb of zeros') assert.equal(outcome.opened, false, why);
      if (why === 'a resume of nobody') assert.deepEqual(outcome.messages.slice(0, 1), ['leave'], why);
    }
  });
});

scenario('messages that make no sense', async (world, room) => {
  await besideACall(world, room, async () => {
    const page = await world.barePage(3);
    // LiveKit 1.11.0 does not survive an answer from a client with one PeerConnection.
    const options = { answer: PEER === 'hausruf' };
    const outcome = await page.evaluate(([url, token, options]) => hr.rawNonsense(url, token, options), [WS_URL, tokenFor(room, 'mallory'), options]);
    console.log(`# ${JSON.stringify(outcome)}`);
    assert.equal(outcome.joined, true);
  });
});

scenario('a hundred joins at once, none of which goes on', async (world, room) => {
  await besideACall(world, room, async () => {
    const page = await world.barePage(3);
    const tokens = Array.from({ length: 100 }, (_, index) => tokenFor(`${room}-flood`, `flood-${index}`));
    const outcomes = await page.evaluate(([url, tokens]) => Promise.all(tokens.map((token) => hr.rawJoin(url, token, {}))), [WS_URL, tokens]);
    const opened = outcomes.filter((outcome) => outcome.opened).length;
    console.log(`# ${opened} of 100 let in`);
  });
  const late = await world.join(4, room, 'late');
  await until('a new client is let in afterwards', async () => (await late.evaluate(() => hr.people().length)) >= 2);
  await seesAndHears(late, 'anna');
});
