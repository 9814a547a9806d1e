// Access tokens as the server's own key signs them (HS256).

import { createHmac } from 'node:crypto';

export const API_KEY = 'devkey';
export const API_SECRET = 'secret';

const base64url = (value) => Buffer.from(value).toString('base64url');

export function signClaims(claims, secret = API_SECRET, header = { alg: 'HS256', typ: 'JWT' }) {
  const body = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

export function claimsFor(room, identity, { name, grant = {}, lifetimeSeconds = 3600 } = {}) {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: API_KEY,
    sub: identity,
    name: name ?? identity,
    nbf: now - 10,
    exp: now + lifetimeSeconds,
    video: { room, roomJoin: true, canPublish: true, canSubscribe: true, canUpdateOwnMetadata: true, ...grant },
  };
}

export function tokenFor(room, identity, options) {
  return signClaims(claimsFor(room, identity, options), options?.secret);
}
