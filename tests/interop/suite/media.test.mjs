// Calls between bare livekit-clients: what is published, what arrives, what changes while it does.

import assert from 'node:assert/strict';
import { startLoad } from '../harness/load.mjs';
import { until } from '../harness/until.mjs';
import { countOf, directPair, hears, remote, sees, seesAndHears } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const scenario = suite('media');

const eventually = (page, event, match, options) =>
  until(`${page.identity} is told ${event} ${JSON.stringify(match)}`, () => countOf(page, event, match), options);

scenario('five people see and hear each other, the last one late', async (world, room) => {
  const names = ['anna', 'ben', 'clara', 'david'];
  const options = { publish: { video: { width: 160, height: 120, frameRate: 8 } } };
  const pages = await Promise.all(names.map((name, index) => world.join(index + 1, room, name, options)));
  await Promise.all(pages.map((page) => until(`${page.identity} knows the others`, async () => (await page.evaluate(() => hr.people())).length === 3)));
  pages.push(await world.join(5, room, 'late', options));
  await Promise.all(
    pages.flatMap((page) => pages.filter((other) => other !== page).map((other) => seesAndHears(page, other.identity, { seconds: 60, width: 160, height: 120 }))),
  );
  // The protocol names a participant before it describes its media; a client that gets them the
  // other way round drops the track.
  for (const page of pages) assert.equal(await countOf(page, 'subscriptionFailed'), 0);
}, { seconds: 150 });

scenario('two browsers and three participants of the load generator', async (world, room) => {
  // What was on its way to a video that is paused again, while links are being found out, is lost and not missed.
  const settled = ['--settle', '4', '--duration', '8'];
  const options = ['--room', room, '--publishers', '3', '--subscribers', '0', '--publishers-subscribe', ...settled];
  const publish = { video: { width: 320, height: 180 } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', { publish }), world.join(2, room, 'ben', { publish })]);
  const load = startLoad(world.net, 8, options);
  try {
    const others = await until('three more come', async () => {
      const people = await a.evaluate(() => hr.people());
      return people.length === 4 && people.map((person) => person.identity).filter((identity) => identity !== 'ben');
    });
    await Promise.all([seesAndHears(a, 'ben', { width: 320, height: 180 }), seesAndHears(b, 'anna', { width: 320, height: 180 })]);
    for (const page of [a, b]) for (const other of others) await sees(page, other);
    const report = await load.finished;
    assert.equal(report.connected, 3);
    // Each of the three gets sound and picture of four others.
    assert.equal(report.tracks_flowing, 24, JSON.stringify(report));
    assert.equal(report.bad_tags, 0);
    assert.deepEqual(report.ended, []);
    assert.ok(report.lost < report.video_packets / 1000, `${report.lost} of ${report.video_packets} packets lost`);
  } finally {
    load.stop();
  }
}, { seconds: 120 });

scenario('three layers start, and the subscriber gets the one that fits its picture', async (world, room) => {
  const browser = { fps: 10 };
  const publish = { audio: false, video: { width: 1280, height: 720, frameRate: 10 }, simulcast: true };
  const a = await world.join(1, room, 'anna', { publish, browser });
  const b = await world.join(2, room, 'ben', { publish: false, options: { adaptiveStream: true }, context: { viewport: { width: 1400, height: 900 } } });
  await sees(b, 'anna');
  // With the feedback of the server, bandwidth estimation lets all layers start.
  await until(
    'all three layers are sent',
    async () => {
      const layers = await a.evaluate(() => hr.local());
      return layers?.length === 3 && layers.every((layer) => layer.frames > 0) ? layers : undefined;
    },
    { seconds: 45, show: () => a.evaluate(() => hr.local()) },
  );
  for (const [width, height] of [[1280, 720], [300, 169], [640, 360], [1280, 720]]) {
    await b.evaluate(([width, height]) => hr.resize('anna', width, height), [width, height]);
    await sees(b, 'anna', { width: width === 300 ? 320 : width, seconds: 45 });
  }
  const { frozenMs } = await remote(b, 'anna');
  assert.ok(frozenMs < 4000, `layer switches froze the picture for ${frozenMs} ms`);
}, { seconds: 180 });

scenario('layers that nobody watches are not sent', async (world, room) => {
  const browser = { fps: 10 };
  const publish = { audio: false, video: { width: 1280, height: 720, frameRate: 10 }, simulcast: true };
  const a = await world.join(1, room, 'anna', { publish, options: { dynacast: true }, browser });
  const b = await world.join(2, room, 'ben', { publish: false, options: { adaptiveStream: true }, context: { viewport: { width: 1400, height: 900 } } });
  await sees(b, 'anna');
  await b.evaluate(() => hr.resize('anna', 300, 169));
  const active = async () => {
    const sender = await a.evaluate(() => hr.room.localParticipant.getTrackPublication('camera').track.sender.getParameters().encodings.map((e) => [e.rid, e.active]));
    return Object.fromEntries(sender);
  };
  await until('the upper layers rest', async () => {
    const layers = await active();
    return layers.q && !layers.h && !layers.f;
  }, { seconds: 45, show: active });
  await sees(b, 'anna', { width: 320 });
  await b.evaluate(() => hr.resize('anna', 1280, 720));
  await until('the top layer is sent again', async () => (await active()).f, { seconds: 20, show: active });
  await sees(b, 'anna', { width: 1280, seconds: 45 });
}, { seconds: 150 });

scenario('muting and unmuting', async (world, room) => {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna');

  await a.evaluate(() => hr.room.localParticipant.setMicrophoneEnabled(false));
  await eventually(b, 'muted', { identity: 'anna', source: 'microphone' });
  assert.equal((await remote(b, 'anna', 'microphone')).muted, true);
  await a.evaluate(() => hr.room.localParticipant.setMicrophoneEnabled(true));
  await eventually(b, 'unmuted', { identity: 'anna', source: 'microphone' });
  await hears(b, 'anna');

  await a.evaluate(() => hr.room.localParticipant.setCameraEnabled(false));
  await eventually(b, 'muted', { identity: 'anna', source: 'camera' });
  await a.evaluate(() => hr.room.localParticipant.setCameraEnabled(true));
  await eventually(b, 'unmuted', { identity: 'anna', source: 'camera' });
  await sees(b, 'anna');
  // A server that repeats the mute state to its owner makes the two ask each other for ever.
  assert.equal(await countOf(b, 'muted', { identity: 'anna' }), 2);
  assert.equal(await countOf(b, 'unmuted', { identity: 'anna' }), 2);
});

scenario('who speaks is shown to the others and to oneself', async (world, room) => {
  const [a, b] = await Promise.all([
    world.join(1, room, 'anna', { publish: { video: false } }),
    world.join(2, room, 'ben', { publish: false }),
  ]);
  await hears(b, 'anna');
  const speaks = (page) =>
    until(`${page.identity} sees that anna speaks`, () => page.evaluate(() => hr.events.some((e) => e.event === 'speakers' && e.identities.includes('anna'))));
  await Promise.all([speaks(a), speaks(b)]);
  await a.evaluate(() => hr.room.localParticipant.setMicrophoneEnabled(false));
  await until('ben sees that anna is silent', () => b.evaluate(() => !hr.room.activeSpeakers.some((p) => p.identity === 'anna')));
});

scenario('a shared screen has sound, and goes when it is unpublished', async (world, room) => {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna');
  await a.evaluate(() => hr.room.localParticipant.setScreenShareEnabled(true, { audio: true, resolution: { width: 640, height: 360, frameRate: 5 } }));
  await sees(b, 'anna', { source: 'screen_share', frames: 2 });
  await until('ben receives the sound of the screen', async () => (await remote(b, 'anna', 'screen_share_audio'))?.packets > 5, {
    show: () => remote(b, 'anna', 'screen_share_audio'),
  });
  await a.evaluate(() => hr.room.localParticipant.setScreenShareEnabled(false));
  await eventually(b, 'unpublished', { identity: 'anna', source: 'screen_share' });
  await eventually(b, 'unpublished', { identity: 'anna', source: 'screen_share_audio' });
  await seesAndHears(b, 'anna');
  // The freed media sections serve the next share.
  await a.evaluate(() => hr.room.localParticipant.setScreenShareEnabled(true, { audio: false, resolution: { width: 640, height: 360, frameRate: 5 } }));
  await sees(b, 'anna', { source: 'screen_share', frames: 2 });
});

scenario('unsubscribing and subscribing again', async (world, room) => {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben', { publish: false })]);
  await sees(b, a.identity);
  const subscribe = (yes) => b.evaluate((yes) => hr.room.getParticipantByIdentity('anna').getTrackPublication('camera').setSubscribed(yes), yes);
  await subscribe(false);
  await until('the camera is gone', async () => (await remote(b, 'anna')).subscribed === false);
  await hears(b, 'anna');
  await subscribe(true);
  await sees(b, 'anna');
});

scenario('the second of two with the same identity stays', async (world, room) => {
  const [first, watcher] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben', { publish: false })]);
  await sees(watcher, 'anna');
  const second = await world.join(3, room, 'anna');
  const reason = await until('the first is sent away', () => first.evaluate(() => hr.events.find((e) => e.event === 'disconnected')?.reason));
  assert.equal(reason, 2, 'DUPLICATE_IDENTITY');
  await until('ben sees the second', async () => (await watcher.evaluate(() => hr.people())).some((p) => p.sid === second.sid && p.tracks.length === 2));
  await seesAndHears(watcher, 'anna');
  assert.equal(await countOf(second, 'disconnected'), 0);
});

scenario('leaving is seen at once', async (world, room) => {
  const [a, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben')]);
  await seesAndHears(b, 'anna');
  await a.evaluate(() => hr.room.disconnect());
  await eventually(b, 'participantDisconnected', { identity: 'anna' }, { seconds: 3, everyMs: 50 });
  assert.deepEqual(await b.evaluate(() => hr.people()), []);
});

scenario('a browser that is killed is gone for the others within half a minute', async (world, room) => {
  const [a, b] = await Promise.all([world.join(4, room, 'anna'), world.join(2, room, 'ben')]);
  await seesAndHears(b, 'anna');
  const since = Date.now();
  world.kill(4);
  await eventually(b, 'participantDisconnected', { identity: 'anna' }, { seconds: 35 });
  console.log(`# gone after ${((Date.now() - since) / 1000).toFixed(1)} s`);
  assert.equal(a.isClosed(), true);
});

scenario('data packets, reliable and lossy, to all and to one', async (world, room) => {
  const [a, b, c] = await Promise.all(['anna', 'ben', 'clara'].map((name, index) => world.join(index + 1, room, name, { publish: false })));
  await until('all know each other', async () => (await Promise.all([a, b, c].map((page) => page.evaluate(() => hr.people().length)))).every((n) => n === 2));
  const send = (page, text, options) =>
    page.evaluate(([text, options]) => hr.room.localParticipant.publishData(new TextEncoder().encode(text), options), [text, options]);
  await send(a, 'to all', { reliable: true, topic: 'chat' });
  for (const page of [b, c]) await eventually(page, 'data', { text: 'to all', identity: 'anna', topic: 'chat', kind: 0 });
  await send(a, 'to ben', { reliable: true, destinationIdentities: ['ben'] });
  await eventually(b, 'data', { text: 'to ben', identity: 'anna' });
  // A lossy packet may be lost; one of several arrives.
  await until('a lossy packet arrives', async () => {
    await send(b, 'lossy', { reliable: false });
    return (await countOf(c, 'data', { text: 'lossy', identity: 'ben', kind: 1 })) > 0;
  });
  // Reliable packets keep their order, and a whole message of many chunks arrives.
  await a.evaluate(async () => {
    for (let i = 0; i < 50; i++) await hr.room.localParticipant.publishData(new TextEncoder().encode(`n${i}`), { reliable: true, topic: 'count' });
  });
  await eventually(c, 'data', { text: 'n49' });
  const order = await c.evaluate(() => hr.events.filter((e) => e.event === 'data' && e.topic === 'count').map((e) => e.text));
  assert.deepEqual(order, Array.from({ length: 50 }, (_, i) => `n${i}`));
  await b.evaluate(() => hr.room.registerTextStreamHandler('book', async (reader) => hr.events.push({ event: 'book', length: (await reader.readAll()).length })));
  await a.evaluate(() => hr.room.localParticipant.sendText('x'.repeat(200_000), { topic: 'book', destinationIdentities: ['ben'] }));
  await eventually(b, 'book', { length: 200_000 });
  // What comes after a pause leaves in one burst, as long as the window has grown.
  for (const length of [60_000, 60_001, 150_000]) {
    await a.evaluate((length) => hr.room.localParticipant.sendText('x'.repeat(length), { topic: 'book', destinationIdentities: ['ben'] }), length);
    await eventually(b, 'book', { length });
  }
  assert.equal(await b.evaluate(() => hr.events.filter(({ event }) => /econnecting$/.test(event)).length), 0, 'the call has gone on');
  assert.equal(await countOf(c, 'data', { text: 'to ben' }), 0, 'what is for ben does not reach clara');
  assert.equal(await countOf(a, 'data', { text: 'to all' }), 0, 'nothing comes back to its sender');
});

scenario('a remote procedure call', async (world, room) => {
  const [a, b] = await Promise.all(['anna', 'ben'].map((name, index) => world.join(index + 1, room, name, { publish: false })));
  await until('they know each other', async () => (await a.evaluate(() => hr.people().length)) === 1);
  await b.evaluate(() => hr.room.registerRpcMethod('greet', async ({ payload, callerIdentity }) => `${payload} ${callerIdentity}`));
  const answer = await a.evaluate(() => hr.room.localParticipant.performRpc({ destinationIdentity: 'ben', method: 'greet', payload: 'hello' }));
  assert.equal(answer, 'hello anna');
});

scenario('end-to-end encryption passes untouched', async (world, room) => {
  const sealed = { options: { e2ee: 'what the cat said' } };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', sealed), world.join(2, room, 'ben', sealed)]);
  await Promise.all([seesAndHears(a, 'ben'), seesAndHears(b, 'anna')]);
  assert.equal((await remote(b, 'anna')).encrypted, true);
  const c = await world.join(3, room, 'clara', { publish: false, options: { e2ee: 'something else' } });
  await eventually(c, 'encryptionError');
  const arriving = await until('the picture arrives, sealed', async () => {
    const camera = await remote(c, 'anna');
    return camera?.packets > 20 && camera;
  });
  assert.equal(arriving.frames, 0, 'without the passphrase there is no picture');
});

scenario('H.264', async (world, room) => {
  const publish = { video: { width: 320, height: 240 }, videoCodec: 'h264' };
  const [a, b] = await Promise.all([world.join(1, room, 'anna', { publish }), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna');
  assert.match((await remote(b, 'anna')).codec, /H264/i);
  assert.match((await a.evaluate(() => hr.local()))[0].codec, /H264/i);
  // Somebody who comes later starts at a key frame that was asked for.
  const c = await world.join(3, room, 'clara', { publish: false });
  await sees(c, 'anna');
});

scenario('sender reports tie sound and picture to one clock', async (world, room) => {
  const [, b] = await Promise.all([world.join(1, room, 'anna'), world.join(2, room, 'ben', { publish: false })]);
  await seesAndHears(b, 'anna');
  const streams = () => Promise.all([remote(b, 'anna', 'camera'), remote(b, 'anna', 'microphone')]);
  const [video, audio] = await until(
    'two sender reports for each stream',
    async () => {
      const both = await streams();
      return both.every((stream) => stream.senderReports >= 2) && both;
    },
    { show: streams },
  );
  // Both ends have the clock of this machine, so the reports' NTP time must be about now.
  for (const stream of [video, audio]) assert.ok(Math.abs(Date.now() - stream.senderClockMs) < 15_000, JSON.stringify(stream));
});

scenario('the transport is what was promised', async (world, room) => {
  const a = await world.join(1, room, 'anna');
  const pair = await directPair(a);
  console.log(`# ${JSON.stringify(pair)}`);
  assert.equal(pair.remote.protocol, 'udp');
});
