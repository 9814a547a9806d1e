// What arrives at a participant, ten times a second: the counters of getStats as they are, for the harness to score.

const EVERY_MS = 100;

/** `room()` answers the room, once there is one. The samples are of `{at, state, tracks: {'identity/source': {…}}}`. */
export function watch(room) {
  const samples = [];
  let busy = false;
  setInterval(async () => {
    if (busy || !room()) return;
    busy = true;
    const sample = await take(room()).catch(() => undefined);
    busy = false;
    if (sample) samples.push(sample);
  }, EVERY_MS);
  return samples;
}

async function take(room) {
  const publications = [...room.remoteParticipants.values()].flatMap((participant) =>
    [...participant.trackPublications.values()].map((publication) => [`${participant.identity}/${publication.source}`, publication]),
  );
  const tracks = await Promise.all(
    publications
      .filter(([, { track }]) => track?.receiver)
      .map(async ([name, { track }]) => {
        const report = await track.receiver.getStats();
        const stat = [...report.values()].find((stat) => stat.type === 'inbound-rtp');
        return stat && [name, { ...digest(stat), paused: track.streamState === 'paused' }];
      }),
  );
  return { at: Date.now(), state: room.state, tracks: Object.fromEntries(tracks.filter(Boolean)) };
}

function digest(stat) {
  if (stat.kind === 'audio') {
    return {
      takenAt: stat.timestamp,
      ssrc: stat.ssrc,
      bytes: stat.bytesReceived,
      packets: stat.packetsReceived,
      lost: stat.packetsLost,
      samples: stat.totalSamplesReceived,
      concealed: stat.concealedSamples,
      silent: stat.silentConcealedSamples,
      energy: stat.totalAudioEnergy,
      bufferedS: stat.jitterBufferDelay,
      emitted: stat.jitterBufferEmittedCount,
    };
  }
  return {
    ssrc: stat.ssrc,
    bytes: stat.bytesReceived,
    packets: stat.packetsReceived,
    lost: stat.packetsLost,
    repaired: stat.retransmittedPacketsReceived,
    width: stat.frameWidth,
    height: stat.frameHeight,
    frames: stat.framesDecoded,
    keyFrames: stat.keyFramesDecoded,
    dropped: stat.framesDropped,
    freezes: stat.freezeCount,
    frozenS: stat.totalFreezesDuration,
    plis: stat.pliCount,
    nacks: stat.nackCount,
  };
}
