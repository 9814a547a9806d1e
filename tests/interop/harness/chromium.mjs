// Chromium in a namespace, driven over a pipe, so that the test needs no network to it.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { speechLike } from './voice.mjs';
import { chromium } from 'playwright-core';
import { movingPicture } from './picture.mjs';
import { BASE_URL, SERVER_ADDRESS_OF_MEDIA } from './server.mjs';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Where harnesses serve Element Call: one for each homeserver. */
export const ELEMENT_CALL_URLS = [8080, 8081].map((port) => `http://${SERVER_ADDRESS_OF_MEDIA}:${port}`);

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--autoplay-policy=no-user-gesture-required',
  '--use-fake-ui-for-media-stream',
  // A page counts as secure although it came over http from an address that is not loopback.
  `--unsafely-treat-insecure-origin-as-secure=${BASE_URL},${ELEMENT_CALL_URLS.join()}`,
  // A test looks at several tabs at once; none of them is in the background.
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--auto-select-tab-capture-source-by-title=hausruf-shared',
];

/**
 * `devices`: 'fake' (camera with a moving picture, microphone that speaks now and then), 'none', or 'blocked' (the
 * person says no). `person` is a number for whose voice it is. `camera`: `{width, height}` of a small camera, where sizes
 * do not matter; default: 720p and more.
 */
export async function launchChromium(namespace, { devices = 'fake', person = 0, camera, fps = 15, flags = [] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'hr-chromium-'));
  const wrapper = join(folder, 'chromium.sh');
  writeFileSync(wrapper, `#!/bin/sh\necho $$ > ${folder}/pid\nexec ip netns exec ${namespace} ${EXECUTABLE} "$@"\n`);
  chmodSync(wrapper, 0o755);
  const all = [...FLAGS, ...flags];
  if (devices === 'fake') {
    const voice = join(folder, 'voice.wav');
    writeFileSync(voice, speechLike({ person }));
    all.push(`--use-fake-device-for-media-stream=fps=${fps}`, `--use-file-for-fake-audio-capture=${voice}`);
    if (camera) {
      const picture = join(folder, 'picture.y4m');
      writeFileSync(picture, movingPicture({ ...camera, fps }));
      all.push(`--use-file-for-fake-video-capture=${picture}`);
    }
  }
  const browser = await chromium.launch({
    executablePath: wrapper,
    headless: true,
    // Playwright's own --headless is the old shell; the real browser is --headless=new.
    ignoreDefaultArgs: ['--headless', '--mute-audio', '--hide-scrollbars'],
    args: ['--headless=new', ...all],
    handleSIGINT: false,
  });
  browser.pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
  browser.once('disconnected', () => rmSync(folder, { recursive: true, force: true }));
  return browser;
}
