// node garbage.mjs ADDRESS PORT,PORT… COUNT SEED: what strangers send to an open UDP port. Half of it is
// noise, the rest begins like something the server reads. Prints how much of it came back.

import { createSocket } from 'node:dgram';
import { setImmediate as breathe, setTimeout as pause } from 'node:timers/promises';

const [address, portList, countText, seedText] = process.argv.slice(2);
const ports = portList.split(',').map(Number);
const count = Number(countText);

let state = BigInt(seedText) | 1n;
/** xorshift64: the same garbage for the same seed. */
function random(below) {
  state ^= (state << 13n) & 0xffffffffffffffffn;
  state ^= state >> 7n;
  state ^= (state << 17n) & 0xffffffffffffffffn;
  return Number(state % BigInt(below));
}

const noise = (length) => Buffer.from(Array.from({ length }, () => random(256)));

function stun(type, attributes) {
  const body = Buffer.concat(
    attributes.map(([number, value]) => {
      const head = Buffer.alloc(4);
      head.writeUInt16BE(number, 0);
      head.writeUInt16BE(value.length, 2);
      return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
    }),
  );
  const head = Buffer.alloc(20);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(body.length, 2);
  head.writeUInt32BE(0x2112a442, 4);
  noise(12).copy(head, 8);
  return Buffer.concat([head, body]);
}

const KINDS = [
  () => noise(random(1400)),
  () => Buffer.alloc(0),
  // An ICE check for nobody, with an integrity that fits nothing.
  () => stun(0x0001, [[0x0006, Buffer.from(`${noise(4).toString('hex')}:abcd`)], [0x0024, noise(4)], [0x0008, noise(20)]]),
  // TURN requests: no credentials, wrong ones, nonsense attributes.
  () => stun(0x0003, [[0x0019, Buffer.from([17, 0, 0, 0])]]),
  () => stun(0x0003, [[0x0019, Buffer.from([17, 0, 0, 0])], [0x0006, Buffer.from('9999999999:mallory')], [0x0014, Buffer.from('hausruf')], [0x0015, noise(16)], [0x0008, noise(20)]]),
  () => stun(0x0016, [[0x0012, noise(8)], [0x0013, noise(random(1000))]]),
  // A header that promises more than there is, or less.
  () => {
    const message = stun(0x0001, [[0x0006, noise(40)]]);
    message.writeUInt16BE(random(65536), 2);
    return message.subarray(0, 1 + random(message.length));
  },
  // Looks like DTLS, like RTP, like RTCP, like ChannelData.
  () => Buffer.concat([Buffer.from([22, 254, 253]), noise(10 + random(200))]),
  () => Buffer.concat([Buffer.from([0x90, random(128)]), noise(random(1200))]),
  () => Buffer.concat([Buffer.from([0x80, 200 + random(8)]), noise(random(100))]),
  () => Buffer.concat([Buffer.from([0x40 + random(16), random(256)]), noise(random(500))]),
];

const socket = createSocket('udp4');
const traffic = { sent: count, sentBytes: 0, answers: 0, answerBytes: 0 };
socket.on('message', (message) => {
  traffic.answers++;
  traffic.answerBytes += message.length;
});
await new Promise((resolve) => socket.bind(0, resolve));
for (let sent = 0; sent < count; sent++) {
  const kind = random(2) === 0 ? KINDS[0] : KINDS[random(KINDS.length)];
  const datagram = kind();
  traffic.sentBytes += datagram.length;
  await new Promise((resolve) => socket.send(datagram, ports[random(ports.length)], address, resolve));
  if (sent % 16 === 0) await breathe();
}
await pause(300);
socket.close();
console.log(JSON.stringify(traffic));
