// A TURN client with a TCP allocation (RFC 6062) and a plain TCP peer, in one process: run inside of a namespace.
//   node tcp-allocation.mjs SERVER PORT [forbidden]
// Prints "ok" when what passes is what was sent.

import assert from 'node:assert/strict';
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';

const [host, port, mode] = process.argv.slice(2);
const COOKIE = 0x2112a442;
const [ALLOCATE, PERMIT, CONNECT, BIND, ATTEMPT] = [0x003, 0x008, 0x00a, 0x00b, 0x01c];
const [USERNAME, INTEGRITY, ERROR, PEER, REALM, NONCE, RELAYED, TRANSPORT, CONNECTION_ID] =
  [0x0006, 0x0008, 0x0009, 0x0012, 0x0014, 0x0015, 0x0016, 0x0019, 0x002a];

const attribute = (type, value) => {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(value.length, 2);
  return Buffer.concat([header, value, Buffer.alloc(-value.length & 3)]);
};

const xored = (peerPort) => {
  const value = Buffer.from([0, 1, 0, 0, 127, 0, 0, 1]);
  value.writeUInt16BE(peerPort ^ (COOKIE >>> 16), 2);
  value.writeUInt32BE((value.readUInt32BE(4) ^ COOKIE) >>> 0, 4);
  return value;
};

const portOf = (value) => value.readUInt16BE(2) ^ (COOKIE >>> 16);

/** Messages of one connection, and what comes behind them. */
class Connection {
  constructor() {
    this.socket = net.connect({ host, port: Number(port), allowHalfOpen: true });
    this.octets = Buffer.alloc(0);
    this.ended = once(this.socket, 'end');
    this.socket.on('data', (more) => {
      this.octets = Buffer.concat([this.octets, more]);
      this.heard?.();
    });
  }

  async read(count) {
    while (this.octets.length < count) await new Promise((resolve) => { this.heard = resolve; });
    const read = this.octets.subarray(0, count);
    this.octets = this.octets.subarray(count);
    return read;
  }

  async message() {
    const header = await this.read(20);
    const body = await this.read(header.readUInt16BE(2));
    const attributes = new Map();
    for (let at = 0; at < body.length;) {
      const length = body.readUInt16BE(at + 2);
      attributes.set(body.readUInt16BE(at), body.subarray(at + 4, at + 4 + length));
      at += 4 + length + (-length & 3);
    }
    const error = attributes.get(ERROR);
    return { type: header.readUInt16BE(0), attributes, error: error && error[2] * 100 + error[3] };
  }

  request(method, attributes, sealed = this.sealed) {
    const parts = attributes.map(([type, value]) => attribute(type, value));
    if (sealed) {
      parts.push(attribute(USERNAME, Buffer.from('alice')), attribute(REALM, sealed.realm), attribute(NONCE, sealed.nonce));
    }
    const body = Buffer.concat(parts);
    const header = Buffer.alloc(20);
    header.writeUInt16BE(method, 0);
    header.writeUInt16BE(body.length + (sealed ? 24 : 0), 2);
    header.writeUInt32BE(COOKIE, 4);
    randomBytes(12).copy(header, 8);
    const message = Buffer.concat([header, body]);
    if (!sealed) return message;
    const key = createHash('md5').update(`alice:${sealed.realm}:wonderland`).digest();
    return Buffer.concat([message, attribute(INTEGRITY, createHmac('sha1', key).update(message).digest())]);
  }

  async ask(method, attributes) {
    this.socket.write(this.request(method, attributes));
    return this.message();
  }
}

const pattern = (length) => Buffer.from(Array.from({ length }, (_, index) => index % 251));

const echo = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
await once(echo, 'listening');
const peerPort = echo.address().port;

const control = new Connection();
const challenge = await control.ask(ALLOCATE, [[TRANSPORT, Buffer.from([6, 0, 0, 0])]]);
assert.equal(challenge.error, 401);
control.sealed = { realm: challenge.attributes.get(REALM), nonce: challenge.attributes.get(NONCE) };
const allocated = await control.ask(ALLOCATE, [[TRANSPORT, Buffer.from([6, 0, 0, 0])]]);
assert.equal(allocated.error, undefined);
const relayed = portOf(allocated.attributes.get(RELAYED));

if (mode === 'forbidden') {
  assert.equal((await control.ask(CONNECT, [[PEER, xored(peerPort)]])).error, 403);
  assert.equal((await control.ask(CONNECT, [[PEER, xored(Number(port))]])).error, 403);
} else {
  // To a peer: what the client has to say comes along with its request.
  const connected = await control.ask(CONNECT, [[PEER, xored(peerPort)]]);
  assert.equal(connected.error, undefined);
  const data = new Connection();
  const sent = pattern(3_000_000);
  const bind = data.request(BIND, [[CONNECTION_ID, connected.attributes.get(CONNECTION_ID)]], control.sealed);
  data.socket.write(Buffer.concat([bind, sent]));
  data.socket.end();
  assert.equal((await data.message()).type, 0x10b);
  assert.ok((await data.read(sent.length)).equals(sent));
  await data.ended;
  assert.equal((await control.ask(CONNECT, [[PEER, xored(1)]])).error, 447);

  // From a peer.
  assert.equal((await control.ask(PERMIT, [[PEER, xored(peerPort)]])).error, undefined);
  const peer = net.connect({ host: '127.0.0.1', port: relayed });
  await once(peer, 'connect');
  const attempt = await control.message();
  assert.equal(attempt.type, ATTEMPT);
  assert.equal(portOf(attempt.attributes.get(PEER)), peer.address().port);
  peer.write('a greeting');
  const fetched = new Connection();
  fetched.socket.write(fetched.request(BIND, [[CONNECTION_ID, attempt.attributes.get(CONNECTION_ID)]], control.sealed));
  assert.equal((await fetched.message()).type, 0x10b);
  assert.equal((await fetched.read(10)).toString(), 'a greeting');
  fetched.socket.write('an answer');
  assert.equal((await once(peer, 'data'))[0].toString(), 'an answer');

  // The allocation goes, and its connections with it.
  control.socket.destroy();
  await Promise.all([once(peer, 'close'), fetched.ended]);
}
console.log('ok');
process.exit(0);
