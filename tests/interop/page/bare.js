// What a test sees of livekit-client in the page: `hr`.

import { ClientInfo, ConnectionSettings, JoinRequest, SessionDescription, SignalRequest, SignalResponse, WrappedJoinRequest, WrappedJoinRequest_Compression } from '@livekit/protocol';
import * as lk from 'livekit-client';
import { watch } from './watch.js';

const { Room, RoomEvent, Track } = lk;

/** Everything the room said, oldest first: `{event, ...}`. */
const events = [];
const elements = new Map();

function note(event, detail = {}) {
  events.push({ event, atMs: Math.round(performance.now()), ...detail });
}

function newRoom({ e2ee, ...options } = {}) {
  const extra = {};
  if (e2ee) {
    const keyProvider = new lk.ExternalE2EEKeyProvider();
    extra.e2ee = { keyProvider, worker: new Worker('e2ee-worker.js', { type: 'module' }) };
    hr.keyReady = keyProvider.setKey(e2ee);
  }
  const room = new Room({ adaptiveStream: false, dynacast: false, ...options, ...extra });
  room
    .on(RoomEvent.ConnectionStateChanged, (state) => note('state', { state }))
    .on(RoomEvent.SignalReconnecting, () => note('signalReconnecting'))
    .on(RoomEvent.Reconnecting, () => note('reconnecting'))
    .on(RoomEvent.Reconnected, () => note('reconnected'))
    .on(RoomEvent.Disconnected, (reason) => note('disconnected', { reason }))
    .on(RoomEvent.ParticipantConnected, (p) => note('participantConnected', { identity: p.identity }))
    .on(RoomEvent.ParticipantDisconnected, (p) => note('participantDisconnected', { identity: p.identity }))
    .on(RoomEvent.TrackMuted, (pub, p) => note('muted', { identity: p.identity, source: pub.source }))
    .on(RoomEvent.TrackUnmuted, (pub, p) => note('unmuted', { identity: p.identity, source: pub.source }))
    .on(RoomEvent.TrackUnpublished, (pub, p) => note('unpublished', { identity: p.identity, source: pub.source }))
    .on(RoomEvent.TrackSubscriptionFailed, (sid, p, reason) => note('subscriptionFailed', { identity: p.identity, sid, reason }))
    .on(RoomEvent.TrackStreamStateChanged, (pub, streamState, p) => note('streamState', { identity: p.identity, source: pub.source, streamState }))
    .on(RoomEvent.ConnectionQualityChanged, (quality, p) => note('quality', { identity: p.identity, quality }))
    .on(RoomEvent.EncryptionError, (error) => note('encryptionError', { message: String(error) }))
    .on(RoomEvent.ActiveSpeakersChanged, (speakers) => note('speakers', { identities: speakers.map((p) => p.identity) }))
    .on(RoomEvent.DataReceived, (payload, p, kind, topic) =>
      note('data', { identity: p?.identity, kind, topic, text: new TextDecoder().decode(payload) }),
    )
    .on(RoomEvent.TrackSubscribed, (track, pub, p) => {
      note('subscribed', { identity: p.identity, source: pub.source });
      attachAll(room);
    })
    .on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
  // livekit-client 2.23 loses TrackSubscribed for tracks that come within two seconds after a full
  // reconnect: a page has to look as well as to listen.
  setInterval(() => attachAll(room), 250);
  return room;
}

function attachAll(room) {
  for (const participant of room.remoteParticipants.values()) {
    for (const { track, source } of participant.trackPublications.values()) {
      if (!track || track.attachedElements.length > 0) continue;
      const element = track.attach(document.createElement(track.kind));
      if (track.kind === Track.Kind.Video) {
        const [width, height] = hr.tiles[participant.identity] ?? [320, 180];
        Object.assign(element.style, { width: `${width}px`, height: `${height}px` });
      }
      document.body.append(element);
      elements.set(`${participant.identity}/${source}`, element);
    }
  }
}

/** livekit-client asks for a scalability mode with VP9 and AV1 alone; so it is put in on the way. */
function setScalabilityMode(scalabilityMode) {
  const { addTransceiver } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.addTransceiver = function (track, init) {
    if (track.kind === 'video') for (const encoding of init.sendEncodings) Object.assign(encoding, { scalabilityMode });
    return addTransceiver.call(this, track, init);
  };
}

/** The numbers of one stats report that tests look at, summed over its streams. */
function digest(report) {
  const out = { streams: [] };
  for (const stat of report.values()) {
    if (stat.type === 'inbound-rtp' || stat.type === 'outbound-rtp') {
      const codec = report.get(stat.codecId);
      out.streams.push({
        direction: stat.type === 'inbound-rtp' ? 'in' : 'out',
        kind: stat.kind,
        rid: stat.rid,
        active: stat.active,
        codec: codec?.mimeType,
        bytes: stat.bytesReceived ?? stat.bytesSent ?? 0,
        packets: stat.packetsReceived ?? stat.packetsSent ?? 0,
        lost: stat.packetsLost,
        width: stat.frameWidth,
        height: stat.frameHeight,
        frames: stat.framesDecoded ?? stat.framesEncoded,
        keyFrames: stat.keyFramesDecoded ?? stat.keyFramesEncoded,
        frozenMs: stat.totalFreezesDuration === undefined ? undefined : stat.totalFreezesDuration * 1000,
        audioEnergy: stat.totalAudioEnergy,
        concealed: stat.concealedSamples,
        silentConcealed: stat.silentConcealedSamples,
        samples: stat.totalSamplesReceived,
        nacks: stat.nackCount,
        plis: stat.pliCount,
        repaired: stat.retransmittedPacketsReceived ?? stat.retransmittedPacketsSent,
        limitation: stat.qualityLimitationReason,
        targetBps: stat.targetBitrate,
      });
    }
  }
  for (const stat of report.values()) {
    if (stat.type !== 'remote-outbound-rtp') continue;
    const stream = out.streams.find((stream) => stream.direction === 'in' && stream.kind === stat.kind);
    if (stream) Object.assign(stream, { senderReports: stat.reportsSent, senderClockMs: stat.remoteTimestamp });
  }
  return out;
}

const hr = {
  lk,
  events,
  room: undefined,
  /** Sizes of tiles by identity, `[width, height]`, where another one is wanted than 320x180. */
  tiles: {},

  /** Begins to watch what arrives; the samples are in `hr.watched`. */
  watch() {
    hr.watched = watch(() => hr.room);
  },

  /** Joins; `options` are RoomOptions (JSON) plus `e2ee: passphrase`, `connect` ConnectOptions. */
  async join(url, token, { connect, ...options } = {}) {
    const room = newRoom(options);
    hr.room = room;
    if (options.e2ee) {
      await hr.keyReady;
      await room.setE2EEEnabled(true);
    }
    note('connect', { epochMs: Date.now() });
    await room.connect(url, token, connect);
    return room.localParticipant.sid;
  },

  /** Publishes the fake microphone and camera. `video`: {width, height} or false. `layers`: a scalability mode. */
  async publish({ audio = true, video = { width: 320, height: 180 }, layers, ...options } = {}) {
    const { localParticipant } = hr.room;
    if (layers) setScalabilityMode(layers);
    if (audio) await localParticipant.setMicrophoneEnabled(true, { echoCancellation: false, noiseSuppression: false, autoGainControl: false });
    if (video) {
      await localParticipant.setCameraEnabled(true, { resolution: { ...video, frameRate: video.frameRate ?? 15 } }, { simulcast: false, ...options });
    }
  },

  /** `source` of a remote participant: what arrives here. Undefined until it is subscribed. */
  async remote(identity, source = 'camera') {
    const publication = hr.room.getParticipantByIdentity(identity)?.getTrackPublication(source);
    if (!publication) return undefined;
    const receiver = publication.track?.receiver;
    const base = { muted: publication.isMuted, subscribed: publication.isSubscribed, encrypted: publication.isEncrypted, mime: publication.mimeType };
    if (!receiver) return base;
    const { streams } = digest(await receiver.getStats());
    const element = elements.get(`${identity}/${source}`);
    const player = element && { paused: element.paused, ready: element.readyState, connected: element.isConnected, muted: element.muted };
    return { ...base, ...streams.find((stream) => stream.direction === 'in'), track: receiver.track.readyState, player };
  },

  /** What we send from `source`: one entry per layer. */
  async local(source = 'camera') {
    const publication = hr.room.localParticipant.getTrackPublication(source);
    const sender = publication?.track?.sender;
    if (!sender) return undefined;
    const { streams } = digest(await sender.getStats());
    return streams.filter((stream) => stream.direction === 'out');
  },

  /** The candidate pair in use: `{local: {type, protocol, port}, remote, rttMs, availableBps}`; the last is what the publisher estimates. */
  async pair() {
    const report = await hr.room.engine.pcManager.publisher.getStats();
    const transport = [...report.values()].find((stat) => stat.type === 'transport');
    const pair = report.get(transport?.selectedCandidatePairId);
    if (!pair) return undefined;
    const describe = (id) => {
      const candidate = report.get(id);
      return candidate && { type: candidate.candidateType, protocol: candidate.protocol, relayProtocol: candidate.relayProtocol, url: candidate.url, address: candidate.address, port: candidate.port };
    };
    return {
      local: describe(pair.localCandidateId),
      remote: describe(pair.remoteCandidateId),
      rttMs: (pair.currentRoundTripTime ?? 0) * 1000,
      availableBps: pair.availableOutgoingBitrate,
      srtp: transport.srtpCipher,
      dtls: transport.dtlsCipher,
      dtlsRole: transport.dtlsRole,
    };
  },

  /** Resizes the element that shows a remote picture: adaptive stream follows. */
  resize(identity, width, height, source = 'camera') {
    const element = elements.get(`${identity}/${source}`);
    Object.assign(element.style, { width: `${width}px`, height: `${height}px` });
  },

  people() {
    return [...hr.room.remoteParticipants.values()].map((p) => ({
      identity: p.identity,
      sid: p.sid,
      name: p.name,
      tracks: [...p.trackPublications.values()].map((pub) => ({ source: pub.source, muted: pub.isMuted, subscribed: pub.isSubscribed, sid: pub.trackSid })),
    }));
  },

  count(event, match = {}) {
    return events.filter((entry) => entry.event === event && Object.entries(match).every(([key, value]) => entry[key] === value)).length;
  },
};

globalThis.hr = hr;

/** What a client sends that was written against the protocol, but badly. */
Object.assign(hr, {
  /** Opens a session by hand, closes it a second after the first message; never answers anything. */
  async rawJoin(url, token, { sdp, bomb, reconnect, participantSid }) {
    const socket = await openRaw(url, token, { sdp, bomb, reconnect, participantSid });
    const messages = [];
    socket.onmessage = ({ data }) => messages.push(SignalResponse.fromBinary(new Uint8Array(data)).message.case);
    const opened = await new Promise((resolve) => {
      socket.onopen = () => resolve(true);
      socket.onerror = () => resolve(false);
    });
    if (opened) await new Promise((resolve) => setTimeout(resolve, 1000));
    const stillOpen = socket.readyState === WebSocket.OPEN;
    socket.close();
    return { opened, messages, stillOpen };
  },

  /** Joins properly, then says things that no client says. */
  async rawNonsense(url, token, { answer = true } = {}) {
    let socket = await openRaw(url, token, {});
    const random = (length) => crypto.getRandomValues(new Uint8Array(length));
    const request = (message) => new SignalRequest({ message }).toBinary();
    const nonsense = [
      random(1000),
      new Uint8Array(0),
      new Uint8Array(3 << 20),
      'a text frame',
      '{"trickle":{"candidateInit":"{","target":"PUBLISHER"}}',
      request({ case: undefined }),
      // Field 1000: a request of a later version.
      new Uint8Array([0xc2, 0x3e, 0x02, 0x08, 0x01]),
      request({ case: 'offer', value: { type: 'offer', sdp: 'nonsense', id: 7 } }),
      ...(answer ? [request({ case: 'answer', value: { type: 'answer', sdp: '', id: 1 } })] : []),
      request({ case: 'trickle', value: { candidateInit: '{"candidate":"candidate:x","sdpMid":null}', target: 0 } }),
      request({ case: 'addTrack', value: { cid: '', name: 'x'.repeat(100_000), type: 1 } }),
      request({ case: 'addTrack', value: { cid: 'same', type: 1, layers: Array.from({ length: 500 }, () => ({ width: 4e9, height: 4e9 })) } }),
      request({ case: 'mute', value: { sid: 'TR_notmine', muted: true } }),
      request({ case: 'subscription', value: { trackSids: Array.from({ length: 5000 }, (_, i) => `TR_${i}`), subscribe: true } }),
      request({ case: 'trackSetting', value: { trackSids: ['TR_nothing'], width: 4e9, height: 4e9, fps: 4e9 } }),
      request({ case: 'updateMetadata', value: { metadata: 'x'.repeat(1 << 20), name: 'y'.repeat(1 << 18) } }),
      request({ case: 'simulate', value: { scenario: { case: 'speakerUpdate', value: -5 } } }),
      request({ case: 'leave', value: { action: 77 } }),
    ];
    let joined = false;
    let closed = 0;
    for (const frame of nonsense) {
      if (socket.readyState !== WebSocket.OPEN) {
        await new Promise((resolve) => {
          socket.onopen = resolve;
          socket.onerror = resolve;
        });
      }
      if (socket.readyState !== WebSocket.OPEN) break;
      joined = true;
      socket.send(frame);
      await new Promise((resolve) => setTimeout(resolve, 100));
      if (socket.readyState !== WebSocket.OPEN) {
        closed++;
        socket = await openRaw(url, token, {});
      }
    }
    socket.close();
    return { joined, closed };
  },
});

async function gzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function openRaw(url, token, { sdp, bomb, reconnect, participantSid }) {
  const request = new JoinRequest({
    clientInfo: new ClientInfo({ sdk: 1, protocol: 17, version: '0.0.0' }),
    connectionSettings: new ConnectionSettings({ autoSubscribe: true }),
    publisherOffer: sdp === undefined ? undefined : new SessionDescription({ type: 'offer', sdp, id: 1 }),
    reconnect,
    participantSid,
  });
  const wrapped = new WrappedJoinRequest({
    compression: WrappedJoinRequest_Compression.GZIP,
    joinRequest: await gzip(bomb ? new Uint8Array(bomb) : request.toBinary()),
  });
  const text = btoa(Array.from(wrapped.toBinary(), (byte) => String.fromCharCode(byte)).join('')).replaceAll('+', '-').replaceAll('/', '_');
  const query = new URLSearchParams({ access_token: token, join_request: text });
  const socket = new WebSocket(`${url}/rtc/v1?${query}`);
  socket.binaryType = 'arraybuffer';
  return socket;
}
