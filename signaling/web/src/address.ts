/**
 * What the address bar says: `#room=kitchen`, `#kitchen`, `?room=kitchen`, and a passphrase as
 * `#…&e2ee=…` or `?e2ee=…`. The part after `#` never leaves the browser, so links that we make put
 * the passphrase there.
 */
export interface Address {
  room: string;
  passphrase: string;
}

export function readAddress(url: URL): Address {
  const raw = url.hash.replace(/^#/, '');
  const hash = new URLSearchParams(raw.includes('=') ? raw : '');
  const plain = raw.includes('=') ? '' : safeDecode(raw);
  return {
    room: hash.get('room') ?? (plain || url.searchParams.get('room') || ''),
    passphrase: hash.get('e2ee') ?? url.searchParams.get('e2ee') ?? '',
  };
}

export function linkTo(url: URL, address: Address): string {
  const link = new URL(url);
  link.searchParams.delete('room');
  link.searchParams.delete('e2ee');
  const hash = new URLSearchParams({ room: address.room });
  if (address.passphrase) hash.set('e2ee', address.passphrase);
  link.hash = hash.toString();
  return link.toString();
}

function safeDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
