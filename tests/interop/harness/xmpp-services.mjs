// node xmpp-services.mjs PORT DOMAIN: asks the XMPP server on this host which services it knows (XEP-0215), as a client
// that logged in anonymously. Prints a JSON list of their attributes.

import { connect } from 'node:net';

const [port, domain] = process.argv.slice(2);
const socket = connect(Number(port), '127.0.0.1');
socket.setEncoding('utf8');
const deadline = setTimeout(() => fail('no answer'), 10_000);
let received = '';

const fail = (why) => {
  console.error(`${why}: ${received}`);
  process.exit(1);
};

/** What arrived up to the end of `pattern`. */
async function expect(pattern) {
  for (;;) {
    const match = pattern.exec(received);
    if (match) {
      received = received.slice(match.index + match[0].length);
      return match[0];
    }
    if (/<failure|type='error'|<stream:error/.test(received)) fail('refused');
    received += await new Promise((resolve, reject) => {
      socket.once('data', resolve);
      socket.once('error', reject);
    });
  }
}

const open = () => socket.write(`<stream:stream to='${domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>`);
const services = /<services.*<\/services>/s;

open();
await expect(/<\/stream:features>/);
socket.write(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>`);
await expect(/<success[^>]*>/);
open();
await expect(/<\/stream:features>/);
socket.write(`<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>`);
await expect(/<iq[^>]*id=['"]bind['"].*?<\/iq>/s);
socket.write(`<iq type='get' id='services' to='${domain}'><services xmlns='urn:xmpp:extdisco:2'/></iq>`);
const answer = await expect(services);
const list = [...answer.matchAll(/<service ([^>]*?)\/?>/g)].map(([, attributes]) =>
  Object.fromEntries([...attributes.matchAll(/(\w+)=(['"])(.*?)\2/g)].map(([, name, , value]) => [name, value])),
);
clearTimeout(deadline);
console.log(JSON.stringify(list));
process.exit();
