// Waiting for something to become true, never for time to pass.

import { setTimeout as pause } from 'node:timers/promises';

/**
 * Asks `probe` until it answers something truthy, and returns that. When the deadline passes, the
 * error shows what was waited for and what the last answer (or exception) was.
 */
export async function until(what, probe, { seconds = 30, everyMs = 250, show = undefined } = {}) {
  const deadline = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      const seen = show ? await Promise.resolve(show()).catch((error) => error) : last;
      throw new Error(`waited ${seconds} s for: ${what}\nlast seen: ${describe(seen)}`);
    }
    await pause(everyMs);
  }
}

function describe(value) {
  if (value instanceof Error) return value.message.split('\n').slice(0, 6).join('\n');
  return JSON.stringify(value, null, 1) ?? String(value);
}
