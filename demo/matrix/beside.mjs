// What joins a Synapse and Hausruf: an appservice registration, settings of Synapse, and hausruf.toml.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Writes the three files into `folder` and Synapse's own, for `hausruf serve --config <folder>/hausruf.toml`.
 * `url`: where clients and the homeserver reach Hausruf over HTTP, which listens on `listen`; `address`: that of its UDP
 * `ports`, the first of them for media; `tables`: more of hausruf.toml.
 */
export function placeBeside(synapse, { folder, url, address, listen, ports = [3478, 3479], tables = '' }) {
  mkdirSync(folder, { recursive: true });
  mkdirSync(join(synapse.folder, 'conf.d'), { recursive: true });
  const [asToken, hsToken, turnSecret] = ['as_token', 'hs_token', 'turn'].map((name) => synapse.secret(name));
  const registration = join(folder, 'registration.yaml');
  const json = (file, value) => writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
  json(registration, {
    id: 'hausruf',
    url,
    as_token: asToken,
    hs_token: hsToken,
    sender_localpart: 'hausruf',
    rate_limited: false,
    namespaces: { rooms: [{ exclusive: false, regex: '!.*' }] },
    'io.element.msc4502.scopes': ['urn:matrix:client:io.element.msc4502:rooms:is_joined'],
    'io.element.msc4512.proxy_prefix': 'rtc/livekit',
    'io.element.msc4512.proxy_url': url,
  });
  const transports = [{ type: 'livekit', livekit_service_url: url }];
  json(join(synapse.folder, 'conf.d/hausruf.yaml'), {
    app_service_config_files: [registration],
    turn_uris: [`turn:${address}:${ports[0]}?transport=udp`],
    turn_shared_secret: turnSecret,
    turn_user_lifetime: '1h',
    max_event_delay_duration: '24h',
    matrix_rtc: { transports },
    extra_well_known_client_content: { 'org.matrix.msc4143.rtc_foci': transports },
    experimental_features: {
      msc3266_enabled: true,
      msc4143_enabled: true,
      msc4222_enabled: true,
      msc4354_enabled: true,
      msc4502_enabled: true,
      msc4512_enabled: true,
    },
  });
  const config = join(folder, 'hausruf.toml');
  writeFileSync(
    config,
    `advertise = ["${address}"]

[listen]
http = "${listen}"
udp = ${JSON.stringify(ports.map((port) => `${address}:${port}`))}

[relay]
secrets = ["${turnSecret}"]

[matrix]
homeserver = "${synapse.url}"
server_name = "${synapse.serverName}"
url = "${url}"
as_token = "${asToken}"
hs_token = "${hsToken}"
store = "${join(folder, 'matrix.redb')}"
${tables}`,
  );
  return config;
}
