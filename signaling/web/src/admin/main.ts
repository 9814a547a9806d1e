import { el } from '../dom';
import { Departed } from './departed';
import { RoomCard } from './room-card';
import './style.css';
import { Operator, Refused, type Survey } from './survey';
import { people } from './words';

const POLL_MS = 1_000;
/** As many rooms are shown in full without being asked for. */
const SHOWN = 5;
/** More than these the server does not watch for one page. */
const WATCHED_MAX = 20;
const STORED = 'hausruf.admin.token';

const screen = document.getElementById('screen') as HTMLElement;

function askForToken(complaint = ''): void {
  const input = el('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true });
  const form = el(
    'form',
    { class: 'entrance' },
    el('h1', {}, 'Calls on this server'),
    el('label', { for: 'token' }, 'Token of [admin] in the configuration'),
    input,
    el('p', { class: 'complaint', role: 'alert' }, complaint),
    el('button', { type: 'submit', class: 'primary' }, 'Show the calls'),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(STORED, input.value.trim());
    void show(input.value.trim());
  });
  screen.replaceChildren(form);
  input.focus();
}

async function show(token: string): Promise<void> {
  const operator = new Operator(token);
  const counts = el('p', { class: 'counts' });
  const trouble = el('p', { class: 'trouble', role: 'status' });
  const list = el('main');
  const empty = el('p', { class: 'empty' }, 'Nobody is in a call.');
  const leave = el('button', { type: 'button', class: 'toggle' }, 'Forget the token');
  const departed = new Departed(operator);
  const cards = new Map<string, RoomCard>();
  let present = true;
  leave.addEventListener('click', () => {
    present = false;
    sessionStorage.removeItem(STORED);
    askForToken();
  });

  const act = async (what: Promise<void>) => {
    try {
      await what;
      trouble.textContent = '';
    } catch (error) {
      trouble.textContent = error instanceof Error ? error.message : String(error);
    }
  };

  const update = (survey: Survey) => {
    const now = Date.now() / 1000;
    const rooms = survey.room_count === 1 ? '1 call' : `${survey.room_count} calls`;
    const hidden = survey.room_count - survey.rooms.length;
    counts.textContent = `${rooms} · ${people(survey.participant_count)}${hidden > 0 ? ` · the ${survey.rooms.length} largest are shown` : ''}`;
    empty.hidden = survey.rooms.length > 0;
    const there = new Set(survey.rooms.map((room) => room.sid));
    for (const [sid, card] of cards) {
      if (there.has(sid)) continue;
      card.element.remove();
      cards.delete(sid);
    }
    for (const room of survey.rooms) {
      let card = cards.get(room.sid);
      if (!card) {
        const shown = [...cards.values()].filter((other) => other.watched).length;
        card = new RoomCard(operator, room.sid, act, shown < SHOWN);
        cards.set(room.sid, card);
        list.append(card.element);
      }
      card.update(room, now);
    }
  };

  while (present) {
    const watched = [...cards].filter(([, card]) => card.watched).map(([sid]) => sid);
    try {
      const survey = await operator.survey(watched.slice(0, WATCHED_MAX));
      if (!present) return;
      if (!list.isConnected) {
        screen.replaceChildren(el('header', { class: 'top' }, el('h1', {}, 'Calls'), counts, leave), trouble, empty, list, departed.element);
      }
      document.body.classList.remove('stale');
      if (trouble.dataset.lost) {
        trouble.textContent = '';
        delete trouble.dataset.lost;
      }
      update(survey);
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 404)) {
        sessionStorage.removeItem(STORED);
        askForToken(error.status === 401 ? 'The server does not know this token.' : 'This server has no [admin] token.');
        return;
      }
      document.body.classList.add('stale');
      trouble.textContent = error instanceof Error ? error.message : String(error);
      trouble.dataset.lost = 'yes';
      if (!list.isConnected) askForToken(trouble.textContent);
      if (!list.isConnected) return;
    }
    await new Promise((resolve) => setTimeout(resolve, document.hidden ? 4 * POLL_MS : POLL_MS));
  }
}

const stored = sessionStorage.getItem(STORED);
if (stored) void show(stored);
else askForToken();
