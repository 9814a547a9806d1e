// A certificate authority of a test, and what it signs.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openssl } from '../../../demo/matrix/synapse.mjs';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export class Authority {
  constructor(folder) {
    mkdirSync(folder, { recursive: true });
    this.folder = folder;
    this.cert = join(folder, 'authority.crt');
    this.key = join(folder, 'authority.key');
    openssl('req', '-x509', ...KEY, '-days', '30', '-subj', '/CN=authority of a test', '-keyout', this.key, '-out', this.cert);
  }

  /** A certificate for an IP address: the files `{cert, key}`. */
  sign(name, address) {
    const [cert, key, request, extensions] = ['crt', 'key', 'csr', 'ext'].map((ending) => join(this.folder, `${name}.${ending}`));
    openssl('req', '-new', ...KEY, '-subj', `/CN=${name}`, '-keyout', key, '-out', request);
    writeFileSync(extensions, `subjectAltName = IP:${address}\nbasicConstraints = critical, CA:FALSE\n`);
    openssl('x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.key, '-CAcreateserial', '-days', '30', '-extfile', extensions, '-out', cert);
    return { cert, key };
  }
}
