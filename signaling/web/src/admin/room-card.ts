import { el } from '../dom';
import { ParticipantRow } from './participant-row';
import { sureButton } from './sure-button';
import type { Operator, Room } from './survey';
import { duration, people, personName, roomTitle } from './words';

const COLUMNS = ['Participant', 'Sends', 'To us', 'From us', 'Round trip', 'Gets layer', ''];

export class RoomCard {
  readonly element = el('section', { class: 'room' });
  private readonly title = el('h2');
  private readonly detail = el('p', { class: 'detail' });
  private readonly toggle: HTMLButtonElement;
  private readonly table = el('div', { class: 'table' });
  private readonly body = el('tbody');
  private readonly rows = new Map<string, ParticipantRow>();

  constructor(
    private readonly operator: Operator,
    private readonly sid: string,
    private readonly act: (what: Promise<void>) => Promise<void>,
    public watched: boolean,
  ) {
    this.toggle = el('button', { type: 'button', class: 'toggle' });
    this.toggle.addEventListener('click', () => this.watch(!this.watched));
    const end = sureButton('End this call', 'Really end it for everybody?', () => act(operator.end(sid)));
    const head = el('header', {}, el('div', {}, this.title, this.detail), el('div', { class: 'actions' }, this.toggle, end));
    const columns = COLUMNS.map((name) => el('th', { scope: 'col' }, name));
    this.table.append(el('table', {}, el('thead', {}, el('tr', {}, ...columns)), this.body));
    this.element.append(head, this.table);
    this.watch(watched);
  }

  private watch(watched: boolean): void {
    this.watched = watched;
    this.table.hidden = !watched;
    this.toggle.textContent = watched ? 'Hide' : 'Show';
    this.toggle.setAttribute('aria-expanded', String(watched));
    if (!watched) {
      for (const row of this.rows.values()) row.remove();
      this.rows.clear();
      this.body.replaceChildren();
    }
  }

  update(room: Room, now: number): void {
    this.title.textContent = roomTitle(room);
    this.title.title = room.matrix_room ?? room.name;
    this.detail.textContent = `${people(room.participant_count)} · ${duration(now - room.since)}`;
    if (!this.watched) return;
    const names = new Map(room.participants.map((participant) => [participant.sid, personName(participant)]));
    for (const [sid, row] of this.rows) {
      if (names.has(sid)) continue;
      row.remove();
      this.rows.delete(sid);
    }
    for (const participant of room.participants) {
      let row = this.rows.get(participant.sid);
      if (!row) {
        row = new ParticipantRow(this.operator, participant.sid, COLUMNS.length, () => this.act(this.operator.remove(this.sid, participant.sid)));
        this.rows.set(participant.sid, row);
        this.body.append(row.element, row.below);
      }
      row.update(participant, names, now);
    }
  }
}
