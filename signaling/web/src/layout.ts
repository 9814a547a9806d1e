/** Where tiles go: pure arithmetic in CSS pixels. */

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/**
 * Tiles are never wider than 16:9. In a wide window they are never narrower than 4:3, or a camera's
 * picture would lose its sides; on a phone held upright they may be.
 */
const ASPECT_MAX = 16 / 9;
const ASPECT_MIN_WIDE = 4 / 3;
const ASPECT_MIN_TALL = 4 / 5;

/**
 * Places `count` equal tiles in `width` × `height` so that each is as large as it can be.
 * A last row that is not full is centred, and the whole block is centred too.
 */
export function gridBoxes(count: number, width: number, height: number, gap: number): Box[] {
  if (count <= 0 || width <= 0 || height <= 0) return [];
  const aspectMin = height > width ? ASPECT_MIN_TALL : ASPECT_MIN_WIDE;
  let best = { columns: 1, tileWidth: 0, tileHeight: 0, score: -1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    if (cellWidth <= 0 || cellHeight <= 0) continue;
    const aspect = Math.min(ASPECT_MAX, Math.max(aspectMin, cellWidth / cellHeight));
    const tileWidth = Math.min(cellWidth, cellHeight * aspect);
    const tileHeight = tileWidth / aspect;
    // A picture that a camera took is 16:9 or 4:3: a tall tile shows only a strip of it. So a
    // tile counts by what it shows of such a picture as well as by its area.
    const shown = tileWidth * Math.min(tileHeight, tileWidth / (4 / 3));
    const score = shown + tileWidth * tileHeight;
    if (score > best.score + 0.5) best = { columns, tileWidth, tileHeight, score };
  }
  const { columns, tileWidth, tileHeight } = best;
  const rows = Math.ceil(count / columns);
  const top = (height - rows * tileHeight - (rows - 1) * gap) / 2;
  const boxes: Box[] = [];
  for (let index = 0; index < count; index++) {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (width - inRow * tileWidth - (inRow - 1) * gap) / 2;
    boxes.push({
      x: left + (index % columns) * (tileWidth + gap),
      y: top + row * (tileHeight + gap),
      width: tileWidth,
      height: tileHeight,
    });
  }
  return boxes;
}

/**
 * One large box for a shared screen (or a pinned person) and a strip of small ones for `others`:
 * at the right of a wide window, below in a tall one.
 */
export function spotlightBoxes(
  others: number,
  width: number,
  height: number,
  gap: number,
): { main: Box; strip: Box[] } {
  if (others <= 0) return { main: { x: 0, y: 0, width, height }, strip: [] };
  if (width >= height * 1.2) {
    const side = Math.min(Math.max(width * 0.22, 150), 320);
    const main = { x: 0, y: 0, width: width - side - gap, height };
    const strip = gridBoxes(others, side, height, gap).map((box) => ({ ...box, x: box.x + width - side }));
    return { main, strip };
  }
  const below = Math.min(Math.max(height * 0.26, 110), 260);
  const main = { x: 0, y: 0, width, height: height - below - gap };
  const strip = gridBoxes(others, width, below, gap).map((box) => ({ ...box, y: box.y + height - below }));
  return { main, strip };
}
