import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Box, gridBoxes, spotlightBoxes } from './layout';

const WINDOWS = [
  [1280, 720],
  [1920, 1080],
  [390, 780],
  [800, 300],
  [320, 320],
] as const;

function overlap(a: Box, b: Box): boolean {
  const slack = 0.01;
  return (
    a.x + a.width > b.x + slack &&
    b.x + b.width > a.x + slack &&
    a.y + a.height > b.y + slack &&
    b.y + b.height > a.y + slack
  );
}

function assertFits(boxes: Box[], width: number, height: number): void {
  for (const [index, box] of boxes.entries()) {
    assert.ok(box.width > 0 && box.height > 0, `tile ${index} has a size`);
    assert.ok(box.x >= -0.01 && box.x + box.width <= width + 0.01, `tile ${index} inside the width`);
    assert.ok(box.y >= -0.01 && box.y + box.height <= height + 0.01, `tile ${index} inside the height`);
    for (const other of boxes.slice(index + 1)) assert.ok(!overlap(box, other), 'no two tiles overlap');
  }
}

test('every tile is inside the window and overlaps no other', () => {
  for (const [width, height] of WINDOWS) {
    for (let count = 1; count <= 30; count++) {
      const boxes = gridBoxes(count, width, height, 8);
      assert.equal(boxes.length, count);
      assertFits(boxes, width, height);
    }
  }
});

test('two people sit side by side in a wide window, above each other in a tall one', () => {
  const wide = gridBoxes(2, 1280, 720, 8);
  assert.equal(wide[0]!.y, wide[1]!.y);
  const tall = gridBoxes(2, 390, 780, 8);
  assert.equal(tall[0]!.x, tall[1]!.x);
});

test('five people on a phone sit in two columns', () => {
  const columns = new Set(gridBoxes(5, 378, 670, 6).map((box) => Math.round(box.x)));
  assert.equal(columns.size, 3, 'two columns, and the centred last one');
});

test('a last row that is not full is centred', () => {
  const boxes = gridBoxes(5, 1280, 720, 8);
  const last = boxes.slice(3);
  const left = last[0]!.x;
  const right = 1280 - (last[1]!.x + last[1]!.width);
  assert.ok(Math.abs(left - right) < 0.01);
});

test('a spotlight gets most of the window and the strip does not cover it', () => {
  for (const [width, height] of WINDOWS) {
    for (let others = 0; others <= 12; others++) {
      const { main, strip } = spotlightBoxes(others, width, height, 8);
      assertFits([main, ...strip], width, height);
      assert.ok(main.width * main.height >= 0.45 * width * height, `${width}x${height} with ${others}`);
    }
  }
});

test('no room, no tiles', () => {
  assert.deepEqual(gridBoxes(3, 0, 720, 8), []);
  assert.deepEqual(gridBoxes(0, 1280, 720, 8), []);
});
