// What a test sees of livekit-client in the page: `hr`.

import * as lk from 'livekit-client';

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
    .on(RoomEvent.EncryptionError, (error) => note('encryptionError', { message: String(error) }))
    .on(RoomEvent.ActiveSpeakersChanged, (speakers) => note('speakers', { identities: speakers.map((p) => p.identity) }))
    .on(RoomEvent.DataReceived, (payload, p, kind, topic) =>
      note('data', { identity: p?.identity, kind, topic, text: new TextDecoder().decode(payload) }),
    )
    .on(RoomEvent.TrackSubscribed, (track, pub, p) => {
      note('subscribed', { identity: p.identity, source: pub.source });
      const element = track.attach();
      if (track.kind === Track.Kind.Video) Object.assign(element.style, { width: '320px', height: '180px' });
      document.body.append(element);
      elements.set(`${p.identity}/${pub.source}`, element);
    })
    .on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
  return room;
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

  /** Joins; `options` are RoomOptions (JSON) plus `e2ee: passphrase`, `connect` ConnectOptions. */
  async join(url, token, { connect, ...options } = {}) {
    const room = newRoom(options);
    hr.room = room;
    if (options.e2ee) {
      await hr.keyReady;
      await room.setE2EEEnabled(true);
    }
    await room.connect(url, token, connect);
    return room.localParticipant.sid;
  },

  /** Publishes the fake microphone and camera. `video`: {width, height} or false. */
  async publish({ audio = true, video = { width: 320, height: 180 }, ...options } = {}) {
    const { localParticipant } = hr.room;
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
    return { ...base, ...streams.find((stream) => stream.direction === 'in') };
  },

  /** What we send from `source`: one entry per layer. */
  async local(source = 'camera') {
    const publication = hr.room.localParticipant.getTrackPublication(source);
    const sender = publication?.track?.sender;
    if (!sender) return undefined;
    const { streams } = digest(await sender.getStats());
    return streams.filter((stream) => stream.direction === 'out');
  },

  /** The candidate pair in use: `{local: {type, protocol, port}, remote, rttMs}`. */
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
