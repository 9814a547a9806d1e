// The operator's page, beside a call of Element Call.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MatrixWorld } from '../harness/matrix-world.mjs';
import { BASE_URL, OUT, PEER } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { suite } from './scenario.mjs';

const TOKEN = 'an-operators-token-of-forty-characters-x';

class AdminWorld extends MatrixWorld {
  prepare() {
    return { tables: `\n[admin]\ntoken = "${TOKEN}"\n` };
  }
}

const scenario = suite('admin', AdminWorld, { skip: PEER !== 'hausruf' });

/** The page, with everything that it asks other servers for. */
async function open(world, token, colorScheme = 'light') {
  const page = await world.page(3, { context: { viewport: { width: 1280, height: 720 }, colorScheme }, route: () => {} });
  page.elsewhere = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(BASE_URL)) page.elsewhere.push(request.url());
  });
  await page.goto(`${BASE_URL}/admin`);
  await page.fill('#token', token);
  await page.click('button[type=submit]');
  return page;
}

const row = (page, user) => page.locator('tr', { has: page.locator('.who', { hasText: user }) });
const figure = async (page, user, column) => (await row(page, user).locator('td').nth(column).innerText()).replace(/\s+/g, ' ');

scenario('the operator sees a call and its links, removes somebody and ends it', async (world) => {
  const stranger = await open(world, 'x'.repeat(40));
  await stranger.waitForSelector('text=The server does not know this token.');

  const room = await world.room('alice', 'bob');
  const [alice, bob] = [await world.elementCall(1, 'alice'), await world.elementCall(2, 'bob')];
  await alice.join(room);
  await bob.join(room);
  await Promise.all([alice.seesAndHears(), bob.seesAndHears()]);

  const page = await open(world, TOKEN);
  await page.waitForSelector('h2:has-text("Kitchen 1")');
  assert.equal(await page.locator('.counts').innerText(), '1 call · 2 participants');
  for (const user of [alice.user, bob.user]) {
    await until(`the link of ${user} is shown`, async () => /\d+ kbit\/s.*% lost/.test(await figure(page, user, 1)) && /\d+ kbit\/s.*% lost/.test(await figure(page, user, 2)), { seconds: 20, show: () => figure(page, user, 1) });
    await until(`its round trip`, async () => /^<?\d+ ms$/.test(await figure(page, user, 3)), { seconds: 20, show: () => figure(page, user, 3) });
    await until(`its layer`, async () => /camera: [1-3]\/[1-3]/.test(await figure(page, user, 4)), { seconds: 20, show: () => figure(page, user, 4) });
  }
  await until('a graph has a history', async () => ((await row(page, bob.user).locator('.line').first().getAttribute('d')) ?? '').split('L').length > 8);

  // Why did Bob freeze?
  await row(page, bob.user).locator('button', { hasText: 'Why?' }).click();
  const answer = page.locator('tr.below:not([hidden]) .answer');
  await answer.locator('li').first().waitFor();
  assert.match(await answer.innerText(), new RegExp(bob.user), 'the sentence is about Bob');
  const [download] = await Promise.all([page.waitForEvent('download'), answer.locator('a.download').click()]);
  const log = JSON.parse(await readFile(await download.path(), 'utf8'));
  assert.ok(log.seconds.length > 3 && log.seconds.some((second) => second.sent_kbps > 0), `${log.seconds.length} seconds`);
  assert.ok(log.tracks.some((track) => track.name === alice.user && track.source === 'camera'), JSON.stringify(log.tracks));
  assert.ok(log.changes.some((change) => change.layer > 0 && change.portion === 'whole'), JSON.stringify(log.changes));
  await page.screenshot({ path: join(OUT, 'admin-light.png') });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: join(OUT, 'admin-dark.png') });

  const remove = row(page, bob.user).locator('button.danger');
  await remove.click();
  assert.equal(await remove.innerText(), 'Really remove?');
  await remove.click();
  await until('bob is no longer shown', async () => (await page.locator('.who').count()) === 1);
  await until('bob is out', () => world.server.metric('hausruf_participants') === 1);

  await page.locator('.departed summary').click();
  // It may have been here twice: Element Call joins anew of its own accord.
  const gone = page.locator('.departed li', { hasText: bob.user }).first();
  await gone.locator('button').click();
  await gone.locator('.answer li').first().waitFor();

  const end = page.locator('button', { hasText: 'End this call' });
  await end.click();
  await page.locator('button', { hasText: 'Really end it' }).click();
  await page.waitForSelector('text=Nobody is in a call.');
  assert.equal(world.server.metric('hausruf_participants'), 0);
  assert.deepEqual(page.elsewhere, [], 'nothing comes from elsewhere');
  const complaints = page.problems.filter((problem) => !problem.includes('401'));
  assert.deepEqual(complaints, []);
}, { seconds: 150 });
