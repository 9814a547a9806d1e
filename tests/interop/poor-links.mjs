// node poor-links.mjs [case…]: calls of real browsers on poor links, with our server and, where it is there, with LiveKit's in
// turns. Writes a table, and of each run a plot and what was sampled, to out/. Needs root. `make poor-links` runs all.
// ROUNDS=3: each that often, with other packets lost, and medians.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { record } from './harness/poor-link-call.mjs';
import { CASES } from './harness/poor-link-cases.mjs';
import { plot } from './harness/poor-link-plot.mjs';
import { missed, score, voidBecause } from './harness/poor-link-scores.mjs';
import { NAMES, median, table } from './harness/poor-link-table.mjs';
import { LIVEKIT_BIN, OUT, PEER } from './harness/server.mjs';
import { World } from './harness/world.mjs';

/** Runs that a starved machine spoils are repeated this often. */
const ATTEMPTS = 3;
/** A run that hangs is ended. */
const LONGEST_MS = 5 * 60_000;

const fileOf = (name, peer) => join(OUT, `poor-links-${name.toLowerCase().replace(/\W+/g, '-').replace(/-$/, '')}-${peer}`);

/** One run, in a process of its own (PEER says with which server): scores go to a file. */
async function one(name, seed) {
  const scenario = CASES[name];
  const world = await World.open('poor-links-run');
  try {
    const recorded = await record(world, `poor-${Date.now()}`, scenario, seed);
    const scores = score(scenario, recorded);
    const file = fileOf(name, PEER);
    writeFileSync(`${file}.json`, JSON.stringify({ name, peer: PEER, scores, record: recorded }));
    writeFileSync(`${file}.svg`, plot(`${name}: ${scenario.title} (${NAMES[PEER]})`, scenario, recorded));
  } catch (error) {
    await world.explain(`poor-links ${name}`);
    throw error;
  } finally {
    await world.close();
  }
}

/** Scores of a run that is not void; undefined when there is none. */
function run(name, peer, seed) {
  const result = `${fileOf(name, peer)}.json`;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const began = Date.now();
    const { status, error } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--one', name, String(seed)], {
      stdio: 'inherit',
      timeout: LONGEST_MS,
      env: { ...process.env, PEER: peer, LIVEKIT_LOG: 'warn', ...(CASES[name].onlyTcp && { LIVEKIT_TCP_PORT: '7881' }) },
    });
    if (status !== 0) {
      console.log(`${name}, ${NAMES[peer]}: failed (${error?.message ?? status})`);
      continue;
    }
    const { scores } = JSON.parse(readFileSync(result, 'utf8'));
    const figures = Object.entries(scores).filter(([, value]) => value !== undefined).map(([key, value]) => `${key} ${Number(value.toFixed(2))}`);
    console.log(`${name}, ${NAMES[peer]}: ${figures.join(', ')} (${Math.round((Date.now() - began) / 1000)} s)`);
    const why = voidBecause(scores);
    if (!why) return scores;
    console.log(`  void: ${why}`);
  }
  return undefined;
}

function all(wanted) {
  const names = Object.keys(CASES).filter((name) => wanted.length === 0 || wanted.some((part) => name.startsWith(part)));
  if (names.length === 0) fail(`no such case; there are: ${Object.keys(CASES).join(', ')}`);
  if (process.getuid() !== 0) fail('run as root: the calls need network namespaces');
  const peers = existsSync(LIVEKIT_BIN) ? ['hausruf', 'livekit'] : ['hausruf'];
  if (peers.length === 1) console.log(`${LIVEKIT_BIN} is not there: our server alone`);
  const rounds = Number(process.env.ROUNDS ?? 1);
  const results = Object.fromEntries(names.map((name) => [name, {}]));
  const shortfalls = [];
  mkdirSync(OUT, { recursive: true });
  for (const name of names) {
    const runs = Object.fromEntries(peers.map((peer) => [peer, []]));
    // The servers take turns, so that both meet the machine as it is.
    for (let seed = 1; seed <= rounds; seed++) {
      for (const peer of peers) runs[peer].push(run(name, peer, seed));
    }
    for (const peer of peers) results[name][peer] = median(runs[peer].filter(Boolean));
    const ours = results[name].hausruf;
    const short = ours ? missed(CASES[name], ours) : ['no run that was not void'];
    shortfalls.push(...short.map((what) => `${name}: ${what}`));
    writeFileSync(join(OUT, 'poor-links.md'), table(CASES, results));
  }
  console.log(`\n${table(CASES, results)}`);
  console.log(`table and plots: ${OUT}`);
  if (shortfalls.length === 0) return;
  console.log(`\ngoals missed:\n${shortfalls.map((line) => `  ${line}`).join('\n')}`);
  process.exitCode = 1;
}

function fail(why) {
  console.error(why);
  process.exit(2);
}

const [first, ...rest] = process.argv.slice(2);
if (first === '--one') await one(rest[0], Number(rest[1] ?? 1));
else all(first === undefined ? [] : [first, ...rest]);
