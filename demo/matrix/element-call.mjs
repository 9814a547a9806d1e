// Serves Element Call, as its package has it, for one homeserver. As a program:
// node element-call.mjs ADDRESS PORT '{"homeserver": URL, "serverName": NAME}'

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('node_modules/@element-hq/element-call-embedded/dist/', import.meta.url));
const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.mp3': 'audio/mpeg',
  '.ogg': 'audio/ogg',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.woff': 'font/woff',
  '.woff2': 'font/woff2',
};

/** What Element Call's config.json says. */
export const configFor = ({ homeserver, serverName }) => ({ default_server_config: { 'm.homeserver': { base_url: homeserver, server_name: serverName } } });

/** Resolves with the listening server. */
export async function serveElementCall({ address, port, homeserver, serverName }) {
  const config = configFor({ homeserver, serverName });
  // The package's page is made to lie beside its assets; addresses such as /room/ need them at the root.
  const page = (await readFile(join(DIST, 'index.html'), 'utf8')).replaceAll('"./assets', '"/assets');
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://page').pathname);
    const send = (type, body) => response.writeHead(200, { 'content-type': type }).end(body);
    if (path === '/config.json') return send(TYPES['.json'], JSON.stringify(config));
    const type = TYPES[extname(path)];
    if (!type || path === '/index.html') return send(TYPES['.html'], page);
    try {
      send(type, await readFile(join(DIST, path)));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, resolve);
  });
  return server;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [address, port, options] = process.argv.slice(2);
  await serveElementCall({ address, port: Number(port), ...JSON.parse(options) });
  console.log('serving');
}
