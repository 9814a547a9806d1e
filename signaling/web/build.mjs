// Bundles the page into dist/, from where the server embeds it.
//   node build.mjs            one build
//   node build.mjs --watch    again at every change
//   node build.mjs --tests    the unit tests, into .tests/
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { context, build } from 'esbuild';

const watch = process.argv.includes('--watch');

if (process.argv.includes('--tests')) {
  await rm('.tests', { recursive: true, force: true });
  const tests = (await readdir('src')).filter((name) => name.endsWith('.test.ts'));
  await build({
    entryPoints: tests.map((name) => `src/${name}`),
    outdir: '.tests',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
  });
} else {
  await rm('dist', { recursive: true, force: true });
  await mkdir('dist', { recursive: true });
  await cp('static', 'dist', { recursive: true });
  const options = {
    entryPoints: {
      app: 'src/main.ts',
      admin: 'src/admin/main.ts',
      // The frame cryptor runs in a worker, so it is a file of its own.
      'e2ee-worker': 'livekit-client/e2ee-worker',
    },
    outdir: 'dist',
    bundle: true,
    format: 'esm',
    target: ['chrome110', 'firefox115', 'safari16'],
    minify: !watch,
    legalComments: 'linked',
    logLevel: 'info',
  };
  if (watch) {
    await (await context(options)).watch();
  } else {
    await build(options);
  }
}
