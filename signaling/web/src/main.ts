import './style.css';
import { linkTo, readAddress } from './address';
import { Call, JoinError } from './call';
import { el } from './dom';
import { brand, type Entry, Lobby } from './lobby';
import { Notices } from './notice';
import { TokenError, unexpectedSentence } from './sentence';
import { fetchTicket } from './token';

const screen = document.getElementById('screen')!;
const notices = new Notices(document.getElementById('notices')!, document.getElementById('announcer')!);

/** For the browser's console, and for tests: the call that is going on. */
declare global {
  var hausruf: { call: Call | undefined };
}
globalThis.hausruf = { call: undefined };

function showLobby(sentence?: string): void {
  document.title = 'Hausruf';
  const lobby = new Lobby(readAddress(new URL(location.href)), (entry) => void enter(lobby, entry));
  screen.replaceChildren(lobby.element);
  lobby.start();
  if (sentence) lobby.fail(sentence);
}

async function enter(lobby: Lobby, entry: Entry): Promise<void> {
  notices.clearAll();
  try {
    const ticket = await fetchTicket(entry.room, entry.name);
    const call = new Call(entry, notices, (sentence) => {
      globalThis.hausruf.call = undefined;
      notices.clearAll();
      showEnd(entry, sentence);
    });
    globalThis.hausruf.call = call;
    const joined = call.join(ticket);
    call.room.once('connected', () => {
      // The address bar names the room, so that a reload comes back to it.
      history.replaceState(null, '', linkTo(new URL(location.href), { room: entry.room, passphrase: entry.passphrase }) );
      document.title = `${entry.room} · Hausruf`;
      lobby.close(entry.tracks);
      screen.replaceChildren(call.element);
    });
    await joined;
  } catch (error) {
    globalThis.hausruf.call = undefined;
    const known = error instanceof JoinError || error instanceof TokenError;
    const sentence = known ? error.message : unexpectedSentence(error);
    if (lobby.element.isConnected) {
      lobby.close([]);
      showLobby(sentence);
    } else {
      showEnd(entry, sentence);
    }
  }
}

/** After a call: what happened, and the way back. */
function showEnd(entry: Entry, sentence: string | undefined): void {
  document.title = 'Hausruf';
  const again = el('button', { class: 'primary', type: 'button' }, sentence ? 'Try again' : 'Back to the room');
  again.addEventListener('click', () => showLobby());
  const text = sentence ?? 'You left the call.';
  const box = el(
    'div',
    { class: 'lobby' },
    el('div', { class: 'end-card' }, brand(), el('p', { class: sentence ? 'problem' : 'end-text', role: sentence ? 'alert' : 'status' }, text), el('p', { class: 'hint' }, `Room “${entry.room}”`), again),
  );
  screen.replaceChildren(box);
  again.focus();
}

showLobby();
