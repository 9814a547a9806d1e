// node audio-arrivals.mjs [name…]: records when the packets of a voice arrive at a Chromium behind `netsim link`, and how much
// of the sound Chromium then made up, for netsim's model of its jitter buffer (netsim/tests/net_eq.rs). Needs root.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { concealed } from './harness/poor-link-scores.mjs';
import { OUT } from './harness/server.mjs';
import { until } from './harness/until.mjs';
import { World, hears } from './harness/world.mjs';

const FOLDER = process.env.ARRIVALS ?? fileURLToPath(new URL('../../netsim/tests/arrivals/', import.meta.url));
const ATTEMPTS = 3;
const NEAR = 1;
const POOR = 2;
const TRACK = 'anna/microphone';
/** Chromium's figures are of stretches so long. */
const STRETCH_S = 5;
/** The link is good for so long, and then not for so long. */
const LEAD_S = 10;
const POOR_S = 30;
/** So many must be there, the lead-in's among them. */
const STRETCHES_MIN = 6;

const GOOD = { rate_kbps: 10_000, delay_ms: 15, queue_ms: 300 };
const HOTEL = { rate_kbps: 200, delay_ms: 150, queue_ms: 500 };

const LINKS = {
  loss: ['200 kbit/s, 300 ms, 10 % lost', [[LEAD_S, { ...HOTEL, loss_percent: 10 }]]],
  bursts: ['200 kbit/s, 300 ms, 10 % lost in bursts of 3', [[LEAD_S, { ...HOTEL, loss_percent: 10, loss_burst: 3 }]]],
  // A voice of about 45 kbit/s builds a queue while there are 30.
  queue: [
    '200 kbit/s, jitter 20 ms, queue 500 ms, and 30 kbit/s for 1.2 s out of 8',
    Array.from({ length: POOR_S / 8 }, (_, index) => [
      [LEAD_S + 8 * index, { ...HOTEL, delay_ms: 60, jitter_ms: 20 }],
      [LEAD_S + 8 * index + 5, { rate_kbps: 30 }],
      [LEAD_S + 8 * index + 6.2, { rate_kbps: 200 }],
    ]).flat(),
  ],
};

const schedule = (steps) =>
  `seed = 7\n${steps
    .map(([at_s, settings]) => `[[both]]\n${Object.entries({ at_s, ...settings }).map(([key, value]) => `${key} = ${value}\n`).join('')}`)
    .join('')}`;

/** Samples of page/watch.js with `s`, seconds from `begun` (ms since 1970), and the RTP packets that left the link. */
async function record(world, steps) {
  const room = `arrivals-${Date.now()}`;
  const link = await world.poorLink(POOR, schedule([[0, GOOD]]));
  const capture = await Capture.start(world.net.client(POOR), 'link0');
  await world.join(NEAR, room, 'anna', { publish: { video: false }, options: { publishDefaults: { dtx: false, red: false } } });
  const page = await world.join(POOR, room, 'ben', { publish: false, watch: true });
  await hears(page, 'anna');
  const passed = (epochMs) =>
    until('time passes', () => page.evaluate((at) => hr.watched.at(-1)?.at >= at, epochMs), { seconds: LEAD_S + POOR_S + 60 });
  await passed(Date.now() + 5000);
  const begun = link.change(schedule([[0, GOOD], ...steps]));
  await passed(begun + (LEAD_S + POOR_S) * 1000);
  const samples = (await page.evaluate(() => hr.watched)).filter(({ tracks }) => tracks[TRACK]);
  return { samples: samples.map((sample) => ({ s: (sample.at - begun) / 1000, ...sample })), begun, packets: await capture.stop() };
}

/** What arrives at a device, as Wireshark's dumpcap sees it. */
class Capture {
  #file = join(OUT, 'audio-arrivals.pcap');
  #child;

  static async start(namespace, device) {
    const capture = new this();
    const child = spawn('ip', ['netns', 'exec', namespace, 'dumpcap', '-P', '-i', device, '-f', 'udp and src host 10.88.0.1', '-w', capture.#file], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    capture.#child = child;
    let said = '';
    child.stderr.on('data', (text) => {
      said += text;
    });
    await until('dumpcap listens', () => said.includes('File:'), { show: () => said });
    return capture;
  }

  /** `{ms, ssrc, timestamp}` of each RTP packet, `ms` since 1970. The headers are in the clear. */
  async stop() {
    this.#child.kill('SIGINT');
    await once(this.#child, 'exit');
    const pcap = readFileSync(this.#file);
    const packets = [];
    let length;
    for (let at = 24; at < pcap.length; at += 16 + length) {
      length = pcap.readUInt32LE(at + 8);
      const ip = pcap.subarray(at + 16, at + 16 + length);
      const udp = ip.subarray((ip[0] & 0xf) * 4);
      const rtp = udp.subarray(8);
      // RFC 7983 §7 and RFC 5761 §4: neither STUN nor DTLS nor RTCP.
      if (rtp.length < 12 || rtp[0] >> 6 !== 2 || (rtp[1] & 0x60) === 0x40) continue;
      packets.push({
        ms: pcap.readUInt32LE(at) * 1000 + pcap.readUInt32LE(at + 4) / 1000,
        timestamp: rtp.readUInt32BE(4),
        ssrc: rtp.readUInt32BE(8),
      });
    }
    return packets;
  }
}

async function run(name) {
  const [title, steps] = LINKS[name];
  const world = await World.open('audio-arrivals');
  let recorded;
  try {
    recorded = await record(world, steps);
  } finally {
    await world.close();
  }
  // A starved machine conceals too.
  const lead = concealed(recorded.samples, 'anna', 0, LEAD_S);
  const all = concealed(recorded.samples, 'anna', LEAD_S, LEAD_S + POOR_S);
  const stretches = played(recorded.samples);
  const isVoid = !(lead <= 1) || stretches.length < STRETCHES_MIN;
  const figures = `made up ${all.toFixed(2)} %, before that ${lead.toFixed(2)} %, ${stretches.length} stretches`;
  console.log(`${name}: ${figures}${isVoid ? ': void' : ''}`);
  if (isVoid) return false;
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(join(FOLDER, `${name}.txt`), arrivals(title, recorded, stretches));
  return true;
}

/** What Chromium's counters rose by in each stretch, up to the first in which it did not play in real time. */
function played(samples) {
  const stretches = [];
  const at = (s) => samples.find((sample) => sample.s >= s) ?? samples.at(-1);
  for (let s = 0; s < LEAD_S + POOR_S; s += STRETCH_S) {
    const [then, now] = [at(s), at(s + STRETCH_S)];
    const rise = (key) => now.tracks[TRACK][key] - then.tracks[TRACK][key];
    const stretch = { from: then.at, to: now.at, samples: rise('samples'), concealed: rise('concealed'), silent: rise('silent') };
    if (Math.abs(stretch.samples / 48 / (stretch.to - stretch.from) - 1) > 0.02) break;
    stretches.push(stretch);
  }
  return stretches;
}

/** The file: Chromium's counters stretch by stretch, then each packet. Milliseconds are from the first one. */
function arrivals(title, { samples, begun, packets }, stretches) {
  const { ssrc } = samples.at(-1).tracks[TRACK];
  const voice = packets.filter((packet) => packet.ssrc === ssrc);
  const [{ ms: origin, timestamp: first }] = voice;
  const ms = (epochMs) => (epochMs - origin).toFixed(1);
  const lines = [`# ${title}, from ${ms(begun + LEAD_S * 1000)} ms on`, '# heard: from and to in ms, samples played, of these made up, of these silence'];
  for (const { from, to, ...counts } of stretches) lines.push(['heard', ms(from), ms(to), counts.samples, counts.concealed, counts.silent].join(' '));
  lines.push('# packets: arrival in ms, number by the timestamp');
  for (const packet of voice.filter((packet) => packet.ms < stretches.at(-1).to)) lines.push(`${ms(packet.ms)} ${((packet.timestamp - first) | 0) / 960}`);
  return `${lines.join('\n')}\n`;
}

for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(LINKS)) {
  let done = false;
  for (let attempt = 0; attempt < ATTEMPTS && !done; attempt++) done = await run(name);
  if (!done) process.exitCode = 1;
}
