import { TokenError } from './sentence';

export interface Ticket {
  token: string;
  /** WebSocket address of the server, `ws://…` or `wss://…`. */
  url: string;
}

/** Asks the server that served this page for a token: `POST demo/token {"room","name"}`. */
export async function fetchTicket(room: string, name: string): Promise<Ticket> {
  let response: Response;
  try {
    response = await fetch('demo/token', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ room, name }),
      cache: 'no-store',
    });
  } catch {
    throw new TokenError(`The server at ${location.hostname} does not answer. Is it running?`);
  }
  if (!response.ok) {
    const text = (await response.text()).trim();
    throw new TokenError(text ? `The server refused: ${text}` : `The server refused (${response.status}).`);
  }
  const answer = (await response.json()) as Partial<Ticket>;
  if (!answer.token) throw new TokenError('The server sent no token.');
  return { token: answer.token, url: answer.url ?? location.origin.replace(/^http/, 'ws') };
}
