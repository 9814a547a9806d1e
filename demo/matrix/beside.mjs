// What an administrator does to place Hausruf beside a Synapse: `hausruf init`, and its files put where they belong.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * For a Synapse whose homeserver.yaml is written. Files go to `folder` and to Synapse's own; answers that for `hausruf
 * serve --config`. `url`: where clients and the homeserver reach Hausruf over HTTP, which listens on `listen`; `address`:
 * that of its UDP `ports`, the first of them for media; `tables`: more of hausruf.toml.
 */
export function placeBeside(synapse, { binary, folder, url, address, listen, ports = [3478, 3479], tables = '' }) {
  if (!existsSync(binary)) throw new Error(`${binary} is not there: cargo build --release`);
  const answers = {
    'server-name': synapse.serverName,
    url,
    address,
    homeserver: synapse.url,
    'homeserver-url': synapse.url,
    listen,
    'homeserver-config': join(synapse.folder, 'homeserver.yaml'),
    'synapse-directory': synapse.folder,
    directory: folder,
  };
  const flags = Object.entries(answers).flatMap(([name, value]) => [`--${name}`, value]);
  const init = spawnSync(binary, ['init', '--force', ...flags], { encoding: 'utf8' });
  if (init.status !== 0) throw new Error(`hausruf init: ${init.stderr}`);

  mkdirSync(join(synapse.folder, 'conf.d'), { recursive: true });
  for (const file of ['hausruf-registration.yaml', 'conf.d/hausruf.yaml']) copyFileSync(join(folder, 'synapse', file), join(synapse.folder, file));
  // Nothing but this machine, and nothing outside of the folder.
  const config = join(folder, 'hausruf.toml');
  const text = readFileSync(config, 'utf8')
    .replace('[listen]\n', `[listen]\nudp = ${JSON.stringify(ports.map((port) => `${address}:${port}`))}\n`)
    .replace('[matrix]\n', `[matrix]\nstore = "${join(folder, 'matrix.redb')}"\n`)
    .replace('[relay]\n', `[relay]\nstore = "${join(folder, 'revocations.jsonl')}"\n`);
  writeFileSync(config, `${text}${tables}`);
  return config;
}
