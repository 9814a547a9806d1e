import { el } from '../dom';
import type { LinkEntry, Operator } from './survey';
import { Why } from './why';

/** Who left within the last minutes: it is often asked afterwards what was wrong. */
export class Departed {
  readonly element = el('details', { class: 'departed' }, el('summary', {}, 'Who left lately'));
  private readonly list = el('ul');
  private readonly whys: Why[] = [];

  constructor(private readonly operator: Operator) {
    this.element.append(this.list);
    this.element.addEventListener('toggle', () => {
      if (this.element.open) void this.load();
    });
  }

  private async load(): Promise<void> {
    this.list.replaceChildren(el('li', {}, '…'));
    try {
      const gone = (await this.operator.links()).filter((entry) => !entry.present);
      for (const why of this.whys.splice(0)) why.forget();
      const entries = gone.map((entry) => this.entry(entry));
      this.list.replaceChildren(...(entries.length > 0 ? entries : [el('li', {}, 'Nobody.')]));
    } catch (error) {
      this.list.replaceChildren(el('li', { class: 'trouble' }, error instanceof Error ? error.message : String(error)));
    }
  }

  private entry(entry: LinkEntry): HTMLElement {
    const why = new Why(this.operator, entry.sid);
    this.whys.push(why);
    const until = entry.to === null ? 'never connected' : `until ${new Date(entry.to * 1000).toLocaleTimeString()}`;
    const who = el('span', { class: 'gone' }, entry.name);
    return el('li', {}, el('div', { class: 'entry' }, who, el('span', { class: 'detail' }, `${entry.room.name} · ${until}`), why.button), why.answer);
  }
}
