import { el } from '../dom';
import type { LinkAnswer, Operator } from './survey';

/** The button that asks what was wrong with somebody's link, and where the answer stands. */
export class Why {
  readonly button = el('button', { type: 'button', class: 'why', 'aria-expanded': 'false' }, 'Why?');
  readonly answer = el('div', { class: 'answer', hidden: true });
  private file: string | undefined;

  constructor(
    private readonly operator: Operator,
    private readonly sid: string,
    private readonly onToggle: (shown: boolean) => void = () => undefined,
  ) {
    this.button.title = 'What was wrong with this link in the last ten minutes';
    this.button.addEventListener('click', () => void this.toggle());
  }

  private async toggle(): Promise<void> {
    if (!this.answer.hidden) {
      this.show(false);
      return;
    }
    this.button.disabled = true;
    try {
      this.fill(await this.operator.link(this.sid));
    } catch (error) {
      this.answer.replaceChildren(el('p', { class: 'trouble' }, error instanceof Error ? error.message : String(error)));
    }
    this.button.disabled = false;
    this.show(true);
  }

  private fill(link: LinkAnswer): void {
    this.forget();
    this.file = URL.createObjectURL(new Blob([JSON.stringify(link, null, 1)], { type: 'application/json' }));
    const download = el('a', { href: this.file, download: `link-${link.sid}.json`, class: 'download' }, 'Download the last ten minutes (JSON)');
    const sentences = link.sentences.map((sentence) => el('li', {}, sentence));
    this.answer.replaceChildren(el('ul', {}, ...sentences), download);
  }

  private show(shown: boolean): void {
    this.answer.hidden = !shown;
    this.button.setAttribute('aria-expanded', String(shown));
    this.onToggle(shown);
  }

  forget(): void {
    if (this.file) URL.revokeObjectURL(this.file);
    this.file = undefined;
  }
}
