// A small world of network namespaces: one for the server, one for each client, joined by a bridge
// that lives in the server's namespace. Nothing in it can reach the machine's own network, so any
// number of worlds run beside each other with the same addresses.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';

export const SERVER_ADDRESS = '10.88.0.1';

const IP = 'ip';
const FETCH = fileURLToPath(new URL('./fetch.mjs', import.meta.url));
let worlds = 0;

function ip(...args) {
  const done = spawnSync(IP, args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`ip ${args.join(' ')}: ${done.stderr || done.error}`);
  return done.stdout;
}

export class Net {
  #prefix = `hr-${process.pid.toString(36)}${(worlds++).toString(36)}`;
  #namespaces = [];
  #clients = new Map();

  constructor() {
    removeLeftovers();
    this.server = this.#add('s');
    // Left alone, a bridge takes the lowest address among its cables: each further client may change it, and whoever
    // has resolved the old one is not answered for a minute.
    ip('-n', this.server, 'link', 'add', 'br0', 'address', '02:00:0a:58:00:01', 'type', 'bridge');
    ip('-n', this.server, 'addr', 'add', `${SERVER_ADDRESS}/24`, 'dev', 'br0');
    ip('-n', this.server, 'link', 'set', 'br0', 'up');
    process.once('exit', () => this.close());
  }

  #add(name) {
    const namespace = `${this.#prefix}-${name}`;
    ip('netns', 'add', namespace);
    this.#namespaces.push(namespace);
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    return namespace;
  }

  /** A namespace for client `index` (1..200), with a cable to the bridge. */
  client(index) {
    const known = this.#clients.get(index);
    if (known) return known;
    const namespace = this.#add(`c${index}`);
    const port = `p${index}`;
    ip('-n', this.server, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    ip('-n', this.server, 'link', 'set', port, 'master', 'br0', 'up');
    ip('-n', namespace, 'addr', 'add', `${addressOf(index)}/24`, 'dev', 'eth0');
    ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    // A browser that may not name its interfaces asks which address the default route has. There
    // must be one, though nothing answers behind it.
    ip('-n', namespace, 'route', 'add', 'default', 'via', SERVER_ADDRESS);
    this.#clients.set(index, namespace);
    return namespace;
  }

  /** Pulls the cable of a client, or plugs it in again. */
  setCable(index, plugged) {
    ip('-n', this.server, 'link', 'set', `p${index}`, plugged ? 'up' : 'down');
  }

  /** The same client comes back with another address, as a phone that changes its network. */
  moveClient(index, to) {
    this.readdress(index, 'eth0', `${addressOf(to)}/24`, SERVER_ADDRESS);
  }

  /** Another address for one device of a client; its way out stays `gateway`. */
  readdress(index, device, address, gateway) {
    const namespace = this.client(index);
    ip('-n', namespace, 'addr', 'flush', 'dev', device);
    ip('-n', namespace, 'addr', 'add', address, 'dev', device);
    ip('-n', namespace, 'route', 'replace', 'default', 'via', gateway);
  }

  /** Kills the TCP connections of a client to one port of the server. */
  cutTcp(index, port) {
    const namespace = this.client(index);
    execFileSync(IP, ['netns', 'exec', namespace, 'ss', '-K', 'dst', SERVER_ADDRESS, 'dport', '=', String(port)], { stdio: 'ignore' });
  }

  /** Sends everything of a client through `gateway` instead of its cable; undefined: back to the cable. */
  routeThrough(index, gateway) {
    const namespace = this.client(index);
    ip('-n', namespace, 'link', 'set', 'eth0', gateway ? 'down' : 'up');
    ip('-n', namespace, 'route', 'replace', 'default', 'via', gateway ?? SERVER_ADDRESS);
  }

  /** Drops all UDP that a client sends, as a strict firewall does. */
  blockUdp(index, blocked) {
    ip('-n', this.client(index), 'rule', blocked ? 'add' : 'del', 'pref', '10', 'ipproto', 'udp', 'blackhole');
  }

  /** Drops all UDP of a client, and TCP to the port of media: nothing but HTTP gets through. */
  blockMedia(index, blocked) {
    this.blockUdp(index, blocked);
    const tcp = ['ipproto', 'tcp', 'dport', '3478', 'blackhole'];
    ip('-n', this.client(index), 'rule', blocked ? 'add' : 'del', 'pref', '11', ...tcp);
  }

  /** An HTTP request made inside the server's namespace; answers `{status, headers, body}`. */
  fetch(url, options = {}) {
    const done = spawnSync(IP, ['netns', 'exec', this.server, process.execPath, FETCH, url, JSON.stringify(options)], {
      encoding: 'utf8',
      maxBuffer: 1 << 24,
    });
    if (done.status !== 0) throw new Error(`${options.method ?? 'GET'} ${url}: ${done.stderr.trim()}`);
    return JSON.parse(done.stdout);
  }

  /** Runs a script of this folder in the namespace of client `index`; answers what it printed. */
  async run(index, script, ...args) {
    const file = fileURLToPath(new URL(`./${script}`, import.meta.url));
    const { stdout } = await promisify(execFile)(IP, ['netns', 'exec', this.client(index), process.execPath, file, ...args]);
    return stdout;
  }

  close() {
    for (const namespace of this.#namespaces.splice(0).reverse()) {
      spawnSync(IP, ['netns', 'del', namespace]);
    }
  }
}

export function addressOf(index) {
  return `10.88.0.${10 + index}`;
}

/** Namespaces of runs that were killed before they could clean up. */
function removeLeftovers() {
  for (const line of ip('netns', 'list').split('\n')) {
    const namespace = line.split(' ')[0];
    const match = /^hr-([0-9a-z]+)-(s|c\d+)$/.exec(namespace);
    if (!match) continue;
    const pid = parseInt(match[1].slice(0, -1), 36);
    try {
      process.kill(pid, 0);
    } catch {
      spawnSync(IP, ['netns', 'del', namespace]);
    }
  }
}
