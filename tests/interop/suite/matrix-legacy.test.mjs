// Calls of the older kind (m.call.*): the homeserver hands out credentials, the media is relayed.

import assert from 'node:assert/strict';
import { MatrixWorld } from '../harness/matrix-world.mjs';
import { PEER } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('matrix-legacy', MatrixWorld, { skip: PEER !== 'hausruf' });

/** What `/voip/turnServer` answers, as a browser wants it. */
async function iceServers(world, name) {
  const { access_token } = await world.session(name);
  const { uris, username, password, ttl } = await world.asUser(access_token, 'GET', '/voip/turnServer');
  assert.match(username, new RegExp(`^\\d+:@${name}:`));
  assert.equal(ttl, 3600);
  return [{ urls: uris, username, credential: password }];
}

/** A page with a connection that may only relay, camera and microphone on it. */
async function caller(world, index, name) {
  const page = await world.barePage(index, { browser: { camera: { width: 320, height: 180 }, fps: 8 } });
  page.identity = name;
  await page.evaluate(async (iceServers) => {
    const connection = new RTCPeerConnection({ iceServers, iceTransportPolicy: 'relay' });
    globalThis.connection = connection;
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    for (const track of media.getTracks()) connection.addTrack(track, media);
    connection.ontrack = ({ track }) => {
      const element = document.createElement(track.kind);
      element.autoplay = true;
      element.srcObject = new MediaStream([track]);
      document.body.append(element);
    };
    /** The local description with all its candidates. */
    globalThis.described = async () => {
      await connection.setLocalDescription();
      while (connection.iceGatheringState !== 'complete') await new Promise((resolve) => connection.addEventListener('icegatheringstatechange', resolve, { once: true }));
      return { type: connection.localDescription.type, sdp: connection.localDescription.sdp };
    };
  }, await iceServers(world, name));
  return page;
}

/** Sends a call event into the room, as the clients do. */
async function send(world, name, room, type, content) {
  const { access_token } = await world.session(name);
  const event = { call_id: 'call-1', party_id: name, version: '1', ...content };
  await world.asUser(access_token, 'PUT', `/rooms/${encodeURIComponent(room)}/send/${type}/${type}`, event);
}

/** The event of that type, as `name` reads it in the room. */
function read(world, name, room, type) {
  return until(`${name} reads ${type}`, async () => {
    const { access_token } = await world.session(name);
    const { chunk } = await world.asUser(access_token, 'GET', `/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=20`);
    return chunk.find((event) => event.type === type)?.content;
  });
}

const stats = (page) =>
  page.evaluate(async () => {
    const report = [...(await connection.getStats()).values()];
    const pair = report.find((stat) => stat.type === 'candidate-pair' && stat.nominated && stat.state === 'succeeded');
    const inbound = report.filter((stat) => stat.type === 'inbound-rtp');
    return {
      local: report.find(({ id }) => id === pair?.localCandidateId)?.candidateType,
      remote: report.find(({ id }) => id === pair?.remoteCandidateId)?.candidateType,
      frames: inbound.find(({ kind }) => kind === 'video')?.framesDecoded ?? 0,
      energy: inbound.find(({ kind }) => kind === 'audio')?.totalAudioEnergy ?? 0,
    };
  });

scenario('two pages that may only relay call each other with credentials of the homeserver', async (world) => {
  const room = await world.plainRoom('alice', 'bob');
  const [a, b] = await Promise.all([caller(world, 1, 'alice'), caller(world, 2, 'bob')]);
  await send(world, 'alice', room, 'm.call.invite', { lifetime: 60_000, offer: await a.evaluate(() => described()) });
  const { offer } = await read(world, 'bob', room, 'm.call.invite');
  const answer = await b.evaluate(async (offer) => {
    await connection.setRemoteDescription(offer);
    return described();
  }, offer);
  await send(world, 'bob', room, 'm.call.answer', { answer });
  await a.evaluate((answer) => connection.setRemoteDescription(answer), (await read(world, 'alice', room, 'm.call.answer')).answer);
  for (const page of [a, b]) {
    const before = await stats(page);
    const now = await until(
      `${page.identity} sees and hears`,
      async () => {
        const now = await stats(page);
        return now.frames > before.frames + 5 && now.energy > before.energy && now;
      },
      { show: () => stats(page) },
    );
    assert.deepEqual([now.local, now.remote], ['relay', 'relay']);
  }
  assert.equal(world.server.metric('hausruf_relay_sockets_opened_total'), 0, 'both ends of the relay are handed over in memory');
  await until('the server has seen the call', () => world.server.metric('hausruf_legacy_calls_total') >= 1);
  await send(world, 'alice', room, 'm.call.hangup', { reason: 'user_hangup' });
});

scenario('credentials of the homeserver with another password relay nothing', async (world) => {
  const page = await world.barePage(1, { browser: { camera: { width: 320, height: 180 }, fps: 8 } });
  const [server] = await iceServers(world, 'alice');
  const found = (credential) =>
    page.evaluate(async (server) => {
      const connection = new RTCPeerConnection({ iceServers: [server], iceTransportPolicy: 'relay' });
      const candidates = [];
      connection.onicecandidate = ({ candidate }) => candidate?.candidate && candidates.push(candidate.type);
      connection.createDataChannel('one');
      await connection.setLocalDescription();
      while (connection.iceGatheringState !== 'complete') await new Promise((resolve) => connection.addEventListener('icegatheringstatechange', resolve, { once: true }));
      connection.close();
      return candidates;
    }, { ...server, credential });
  // Over UDP and over TCP.
  assert.deepEqual(await found(server.credential), server.urls.map(() => 'relay'));
  assert.deepEqual(await found(`${server.credential}x`), []);
});
