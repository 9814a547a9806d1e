// What every test file shares: one world (of the given kind) for the file, and a report when a test fails.

import { after, before, test } from 'node:test';
import { World } from '../harness/world.mjs';

/**
 * `const scenario = suite('media')`, then `scenario('a title', async (world, room, context) => {…})`. Each
 * scenario gets a room name of its own; by the context it may say that it was skipped, and why.
 */
export function suite(name, Kind = World, { skip: skipAll = false } = {}) {
  let world;
  let rooms = 0;
  before(async () => {
    if (!skipAll) world = await Kind.open(name);
  });
  after(async () => {
    await world?.close();
  });
  return function scenario(title, body, { skip = skipAll, seconds = 90 } = {}) {
    test(title, { skip, timeout: seconds * 1000 }, async (context) => {
      try {
        await body(world, `${name}-${++rooms}`, context);
        if (world.server.exit !== undefined && !world.server.expectExit) {
          throw new Error(`the server ended with ${world.server.exit}`);
        }
      } catch (error) {
        await world.explain(title);
        throw error;
      } finally {
        await world.clear();
      }
    });
  };
}
