// Why did Ben freeze? The server remembers, and says so in a sentence.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BASE_URL, HAUSRUF_BIN, HTTP_PORT, OUT, PEER, SERVER_ADDRESS_OF_MEDIA, Server } from '../harness/server.mjs';
import { until } from '../harness/until.mjs';
import { World, hears, sees } from '../harness/world.mjs';
import { suite } from './scenario.mjs';

const TOKEN = 'an-operators-token-of-forty-characters-x';
const SECRET = 'a-secret-of-forty-characters-for-tests-x';
const GOOD = 'seed = 7\n[[both]]\nrate_kbps = 10000\ndelay_ms = 15\nqueue_ms = 300\n';
/** Sound fits, a picture does not. */
const VOICE = 'seed = 7\n[[both]]\nrate_kbps = 90\ndelay_ms = 40\nqueue_ms = 400\n';
const CUT = 'seed = 7\n[[both]]\nrate_kbps = 0\ndelay_ms = 15\nqueue_ms = 300\n';

/** A server with an operator. */
class OperatedWorld extends World {
  constructor(name) {
    super(name);
    const config = join(OUT, `${name}.toml`);
    const address = SERVER_ADDRESS_OF_MEDIA;
    const command = () => {
      writeFileSync(
        config,
        `advertise = ["${address}"]\n[listen]\nhttp = "${address}:${HTTP_PORT}"\n[api_keys]\ndevkey = "${SECRET}"\n[relay]\nstore = ""\n[admin]\ntoken = "${TOKEN}"\n`,
      );
      return [HAUSRUF_BIN, ['serve', '--config', config]];
    };
    this.server = new Server(this.net, name, command);
  }

  /** What the operator hears of links; asked from the namespace of the server by way of a browser of its own. */
  async operator() {
    const page = await this.page(3, { route: () => {} });
    await page.goto(`${BASE_URL}/admin`);
    return (path) =>
      page.evaluate(async ([path, token]) => {
        const response = await fetch(`admin/api/links${path}`, { headers: { Authorization: `Bearer ${token}` } });
        return response.ok ? response.json() : { status: response.status };
      }, [path, TOKEN]);
  }
}

const scenario = suite('why', OperatedWorld, { skip: PEER !== 'hausruf' });

scenario('a pause, a cut and who left are told in sentences', async (world, room) => {
  const link = await world.poorLink(2, GOOD);
  const publish = { video: { width: 640, height: 360, frameRate: 15 }, simulcast: true };
  const token = { secret: SECRET };
  const [anna, ben] = await Promise.all([
    world.join(1, room, 'anna', { publish, token }),
    world.join(2, room, 'ben', { publish: { video: false }, token }),
  ]);
  await sees(ben, 'anna', { seconds: 45 });
  await hears(anna, 'ben');
  const ask = await world.operator();
  const entry = (await ask('')).find(({ name }) => name === 'ben');
  assert.equal(entry.present, true);
  const sentences = async () => (await ask(`/${entry.sid}`)).sentences;
  const says = (pattern, seconds) =>
    until(`the server says ${pattern}`, async () => (await sentences()).some((sentence) => pattern.test(sentence)), { seconds, show: sentences });

  // A fall is told where there was something to fall from: what was measured some seconds before.
  const measured = async () => (await ask(`/${entry.sid}`)).seconds.filter(({ estimate_kbps }) => estimate_kbps > 0);
  await until('ben has been measured for a while', async () => (await measured()).length >= 5, { seconds: 30 });
  link.change(VOICE);
  await says(/^At [\d:]+-[\d:]+ ben's download fell to \d+ kbit\/s.*: video of anna was paused, audio .*lost after repair\)/, 45);
  link.change(GOOD);
  await sees(ben, 'anna', { width: 640, seconds: 60 });
  link.change(CUT);
  await until('ben is silent', async () => (await ask(`/${entry.sid}`)).seconds.at(-1).silent_s >= 6, { seconds: 30 });
  link.change(GOOD);
  await says(/^At [\d:]+-[\d:]+ ben's client was silent \(no packet for \d+ s\): network or laptop asleep\.$/, 60);

  await ben.evaluate(() => hr.room.disconnect());
  await until('ben has left', async () => (await ask('')).some(({ sid, present }) => sid === entry.sid && !present), { seconds: 10 });
  const told = await ask(`/${entry.sid}`);
  console.log(told.sentences.map((sentence) => `# ${sentence}`).join('\n'));
  assert.ok(told.sentences.length >= 2);
  assert.deepEqual([told.events.at(0).event, told.events.at(-1).event], ['joined', 'left']);
  assert.deepEqual(await ask('/PA_nobody'), { status: 404 });
}, { seconds: 240 });
