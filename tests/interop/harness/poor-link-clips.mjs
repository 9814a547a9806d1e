// What the near participants of a call on a poor link publish: recordings, made once with Debian's ffmpeg. Two processors
// cannot encode three cameras and decode them too.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OUT } from './server.mjs';
import { speechLike } from './voice.mjs';

const FOLDER = join(OUT, 'clips');
/** Seconds before the clip's keyframe, in which the encoder finds its rate; and after it. */
const SETTLE_S = 4;
const CLIP_S = 12;
/** Width, height, and kbit/s of one, two and three temporal layers: 40 % of the bits are in the first. */
const LAYERS = [
  [320, 180, [60, 90, 150]],
  [640, 360, [240, 360, 600]],
  [1280, 720, [680, 1020, 1700]],
];

/** VP8 in three temporal layers (L1T3), the smallest encoding first; each file has its last keyframe at four seconds. */
export function videoClips() {
  return LAYERS.map(([width, height, rates]) =>
    made(`${height}.ivf`, (file) => {
      const rate = `${rates[2]}k`;
      ffmpeg(
        ...['-f', 'lavfi', '-i', `testsrc2=size=${width}x${height}:rate=30:duration=${SETTLE_S + CLIP_S},noise=alls=8:allf=t`],
        ...['-pix_fmt', 'yuv420p', '-c:v', 'libvpx', '-deadline', 'realtime', '-cpu-used', '8', '-lag-in-frames', '0'],
        ...['-b:v', rate, '-minrate', rate, '-maxrate', rate, '-bufsize', rate, '-max-intra-rate', '900'],
        ...['-error-resilient', 'default', '-g', '9999', '-force_key_frames', String(SETTLE_S)],
        '-ts-parameters',
        `ts_number_layers=3:ts_target_bitrate=${rates}:ts_rate_decimator=4,2,1:ts_periodicity=4:ts_layer_id=0,2,1,2:ts_layering_mode=3`,
        ...['-f', 'ivf', file],
      );
    }),
  );
}

/** A voice without pauses, in Opus packets of 20 ms and one size. */
export function voiceClip(kbps) {
  return made(`voice-${kbps}.opus`, (file) => {
    const sound = join(FOLDER, 'voice.wav');
    writeFileSync(sound, speechLike({ speaks: 12, pauses: 0 }));
    ffmpeg('-i', sound, '-c:a', 'libopus', '-b:a', `${kbps}k`, '-vbr', 'off', '-application', 'voip', '-frame_duration', '20', '-f', 'ogg', file);
  });
}

function made(name, make) {
  const file = join(FOLDER, name);
  if (!existsSync(file)) {
    mkdirSync(FOLDER, { recursive: true });
    make(`${file}.part`);
    // Whole or not there.
    renameSync(`${file}.part`, file);
  }
  return file;
}

function ffmpeg(...args) {
  const done = spawnSync('ffmpeg', ['-hide_banner', '-loglevel', 'error', '-y', ...args], { encoding: 'utf8' });
  if (done.error) throw new Error(`ffmpeg: ${done.error.message} (apt-get install ffmpeg)`);
  if (done.status !== 0) throw new Error(`ffmpeg ${args.join(' ')}: ${done.stderr}`);
}
