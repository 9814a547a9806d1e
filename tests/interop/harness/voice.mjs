// Sound that detectors of speech take for speech: Chromium's own fake microphone gives a beep of 20 ms
// twice a second, which is nobody speaking.

const RATE = 48_000;

/** A WAV file: syllables of a buzzing voice for so many seconds, then a pause; Chromium repeats it. */
export function speechLike({ speaks = 3, pauses = 1.5 } = {}) {
  const samples = Math.round(RATE * (speaks + pauses));
  const data = Buffer.alloc(samples * 2);
  for (let index = 0; index < RATE * speaks; index++) {
    const t = index / RATE;
    // Five syllables a second, each on a pitch of its own; formants move with them.
    const syllable = Math.floor(t * 5);
    const envelope = Math.sin(Math.PI * ((t * 5) % 1)) ** 0.5;
    const pitch = 110 + ((syllable * 37) % 50);
    let value = 0;
    for (let harmonic = 1; harmonic <= 24; harmonic++) {
      const frequency = pitch * harmonic;
      const formants = peak(frequency, 400 + ((syllable * 211) % 400)) + 0.6 * peak(frequency, 1200 + ((syllable * 467) % 1000));
      value += formants * Math.sin(2 * Math.PI * frequency * t + harmonic);
    }
    data.writeInt16LE(Math.round(Math.max(-1, Math.min(1, value * 0.35 * envelope)) * 32_000), index * 2);
  }
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + data.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20); // PCM
  head.writeUInt16LE(1, 22); // mono
  head.writeUInt32LE(RATE, 24);
  head.writeUInt32LE(RATE * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(data.length, 40);
  return Buffer.concat([head, data]);
}

const peak = (frequency, centre) => 1 / (1 + ((frequency - centre) / 120) ** 2);
