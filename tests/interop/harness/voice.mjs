// Sound that detectors of speech take for speech: Chromium's own fake microphone gives a beep of 20 ms
// twice a second, which is nobody speaking.

const RATE = 48_000;

/**
 * A WAV file: syllables of a buzzing voice for so many seconds, then a pause; Chromium repeats it. Each `person` (0, 1…)
 * has a pitch, syllables and pauses of its own: two who say the same are each other's echo, and an echo canceller
 * silences one of them for as long as they stay in step.
 */
export function speechLike({ person = 0, speaks = 3, pauses = 1.5 + 0.17 * person } = {}) {
  const samples = Math.round(RATE * (speaks + pauses));
  const data = Buffer.alloc(samples * 2);
  for (let index = 0; index < RATE * speaks; index++) {
    const t = index / RATE;
    // Syllables, five and more a second, each on a pitch of its own; formants move with them.
    const beat = t * (5 + 0.3 * person);
    const syllable = Math.floor(beat) + 7 * person;
    const envelope = Math.sin(Math.PI * (beat % 1)) ** 0.5;
    const pitch = 110 + 13 * person + ((syllable * 37) % 50);
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
