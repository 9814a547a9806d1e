// A second Synapse in the server's namespace. Both believe one authority, which no system knows.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { placeBeside } from '../../../demo/matrix/beside.mjs';
import { Authority } from './authority.mjs';
import { ELEMENT_CALL_URLS } from './chromium.mjs';
import { MatrixWorld } from './matrix-world.mjs';
import { BASE_URL, HAUSRUF_BIN, SERVER_ADDRESS_OF_MEDIA as ADDRESS, Server } from './server.mjs';

export const NEIGHBOUR = 'as-token-beside-the-second-homeserver';
const TRANSPORTS = [{ type: 'livekit', livekit_service_url: BASE_URL }];

/** The second homeserver has no server for calls of its own and names ours. */
export class TwoHomeservers extends MatrixWorld {
  prepare(folder) {
    const authority = new Authority(join(folder, 'authority'));
    const settings = { federation_custom_ca_list: [authority.cert] };
    const tables = `[matrix.federation]\nca_file = "${authority.cert}"\nallowed_addresses = ["${ADDRESS}/32"]\n`;
    this.second = this.makeSynapse(
      { folder: join(folder, 'second'), address: ADDRESS, serverName: `${ADDRESS}:8449`, httpPort: 8009, tlsPort: 8449 },
      { ...settings, ...this.beside(folder) },
      authority.sign('second', ADDRESS),
    );
    this.placeBesideSecond(join(folder, 'beside-second'), tables);
    return { settings, tls: authority.sign('first', ADDRESS), tables };
  }

  /** Settings of the second homeserver for calls. */
  beside(folder) {
    // Somebody like us beside the second homeserver, who has requests signed and sent to ours.
    const registration = join(folder, 'neighbour.yaml');
    writeFileSync(
      registration,
      JSON.stringify({
        id: 'neighbour',
        url: null,
        as_token: NEIGHBOUR,
        hs_token: `${NEIGHBOUR}-back`,
        sender_localpart: 'neighbour',
        rate_limited: false,
        namespaces: {},
        'io.element.msc4512.proxy_prefix': 'rtc/livekit',
        'io.element.msc4512.proxy_url': `http://${ADDRESS}:9`,
      }),
    );
    return {
      app_service_config_files: [registration],
      max_event_delay_duration: '24h',
      matrix_rtc: { transports: TRANSPORTS },
      extra_well_known_client_content: { 'org.matrix.msc4143.rtc_foci': TRANSPORTS },
      experimental_features: { msc4143_enabled: true, msc4222_enabled: true, msc4354_enabled: true, msc4512_enabled: true },
    };
  }

  placeBesideSecond() {}

  async start() {
    await super.start();
    await this.startHomeserver(this.second, ELEMENT_CALL_URLS[1]);
  }

  async close() {
    await super.close();
    await this.second.stop('SIGKILL');
  }

  /** Alice of our homeserver and Bob of the other, in an encrypted room. */
  async sharedRoom() {
    const room = await this.room('alice');
    const [alice, bob] = [await this.session('alice'), await this.session('bob', this.second)];
    await this.asUser(alice.access_token, 'POST', `/rooms/${encodeURIComponent(room)}/invite`, { user_id: bob.user_id });
    await this.second.request('POST', `/_matrix/client/v3/join/${encodeURIComponent(room)}?server_name=${this.synapse.serverName}`, { token: bob.access_token, body: {} });
    return room;
  }

  bobsElementCall() {
    return this.elementCall(2, 'bob', { url: ELEMENT_CALL_URLS[1], synapse: this.second });
  }
}

/** Each homeserver has a server for calls of its own, and every user publishes to that of their homeserver. */
export class TwoHouses extends TwoHomeservers {
  beside() {
    return {};
  }

  placeBesideSecond(folder, tables) {
    const url = `http://${ADDRESS}:7881`;
    const config = placeBeside(this.second, { binary: HAUSRUF_BIN, folder, url, address: ADDRESS, listen: `${ADDRESS}:7881`, ports: [3480, 3481], tables });
    this.secondServer = new Server(this.net, `${this.name}-second`, () => [HAUSRUF_BIN, ['serve', '--config', config]], url);
  }

  async start() {
    await this.secondServer.start();
    await super.start();
  }

  async close() {
    await super.close();
    await this.secondServer.stop('SIGKILL');
  }
}
