// The pages that the tests open. They all seem to come from the server's own origin.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { build } from 'esbuild';
import { BASE_URL, PEER, WS_URL } from './server.mjs';
import { tokenFor } from './token.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const DEMO = join(HERE, '../../../signaling/web/dist');

const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
const typeOf = (path) => TYPES[path.split('.').pop()] ?? 'application/octet-stream';

let bundle;

/** livekit-client and the small API of page/bare.js, bundled once per process. */
function bareBundle() {
  bundle ??= build({
    entryPoints: { bare: join(HERE, '../page/bare.js'), 'e2ee-worker': 'livekit-client/e2ee-worker' },
    outdir: '/',
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'error',
  }).then(({ outputFiles }) => new Map(outputFiles.map((file) => [file.path.slice(1), file.text])));
  return bundle;
}

/** A page with nothing but livekit-client on it. */
export async function routeBarePage(context) {
  const files = await bareBundle();
  await context.route(`${BASE_URL}/bare/**`, async (route) => {
    const name = new URL(route.request().url()).pathname.slice('/bare/'.length);
    if (name === '') {
      const body = '<!doctype html><title>bare</title><body><script type="module" src="bare.js"></script>';
      await route.fulfill({ contentType: 'text/html', body });
    } else if (files.has(name)) {
      await route.fulfill({ contentType: 'text/javascript', body: files.get(name) });
    } else {
      await route.fulfill({ status: 404, body: '' });
    }
  });
}

/** Our own server serves the demo page and its tokens itself; for another server, the harness does. */
export async function routeDemoPage(context) {
  if (PEER === 'hausruf') return;
  await context.route(`${BASE_URL}/**`, async (route) => {
    const request = route.request();
    const { pathname } = new URL(request.url());
    if (pathname === '/demo/token') {
      const { room, name } = request.postDataJSON();
      const identity = `${name}-${Math.random().toString(36).slice(2, 8)}`;
      await route.fulfill({ json: { token: tokenFor(room, identity, { name }), url: WS_URL } });
      return;
    }
    if (request.method() !== 'GET' || pathname.startsWith('/rtc')) {
      await route.fallback();
      return;
    }
    try {
      const path = pathname === '/' ? 'index.html' : pathname.slice(1);
      await route.fulfill({ contentType: typeOf(path), body: await readFile(join(DEMO, path)) });
    } catch {
      await route.fallback();
    }
  });
}
