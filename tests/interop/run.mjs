// node run.mjs [suite…]: the end-to-end tests, one file after the other. Needs root (it makes network
// namespaces), Chromium, and the server: HAUSRUF_BIN, or PEER=livekit for LiveKit's own.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
if (process.getuid() !== 0) fail('run as root: the tests make network namespaces');
if (!existsSync(process.env.CHROMIUM ?? '/usr/bin/chromium')) fail('Chromium is missing: apt-get install chromium');
if (!existsSync(`${here}node_modules/playwright-core`)) fail('run `npm ci` in tests/interop first');

const wanted = process.argv.slice(2);
const files = readdirSync(`${here}suite`)
  .filter((file) => file.endsWith('.test.mjs'))
  .filter((file) => wanted.length === 0 || wanted.some((name) => file === `${name}.test.mjs`))
  .map((file) => `${here}suite/${file}`);
const only = process.env.ONLY ? ['--test-name-pattern', process.env.ONLY] : [];
const { status } = spawnSync(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', ...only, ...files], { stdio: 'inherit' });
process.exit(status ?? 1);

function fail(why) {
  console.error(why);
  process.exit(2);
}
