// A small picture for a camera: what Chromium's own fake camera sends is 720p, which two cores do not encode often.

const SECONDS = 2;

/** A YUV4MPEG2 file: a bright bar that moves from left to right over a grey ramp; Chromium repeats it. */
export function movingPicture({ width, height, fps }) {
  const frames = fps * SECONDS;
  const parts = [Buffer.from(`YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420\n`)];
  const bar = Math.ceil(width / 8);
  for (let frame = 0; frame < frames; frame++) {
    const luma = Buffer.alloc(width * height);
    const left = Math.floor((frame * width) / frames);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) luma[y * width + x] = x >= left && x < left + bar ? 220 : 40 + Math.floor((x * 100) / width);
    }
    const chroma = Buffer.alloc(Math.ceil(width / 2) * Math.ceil(height / 2) * 2, 128);
    parts.push(Buffer.from('FRAME\n'), luma, chroma);
  }
  return Buffer.concat(parts);
}
