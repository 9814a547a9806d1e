import { el } from './dom';
import { icon } from './icon';

export type Tone = 'info' | 'warning' | 'error';

interface Action {
  label: string;
  run: () => void;
}

/**
 * Sentences at the top of the window. A notice has a key: showing the same key again replaces the
 * text instead of stacking a second box.
 */
export class Notices {
  private readonly shown = new Map<string, HTMLElement>();

  constructor(
    private readonly container: HTMLElement,
    private readonly announcer: HTMLElement,
  ) {}

  /** `seconds`: goes away by itself after that long; without it, it stays until cleared. */
  show(key: string, tone: Tone, text: string, options: { action?: Action; seconds?: number } = {}): void {
    const close = el('button', { class: 'notice-close', type: 'button', 'aria-label': 'Dismiss' }, icon('close'));
    close.addEventListener('click', () => this.clear(key));
    const box = el(
      'div',
      { class: `notice ${tone}`, role: tone === 'error' ? 'alert' : 'status', 'data-notice': key },
      el('span', { class: 'notice-text' }, text),
    );
    if (options.action) {
      const { label, run } = options.action;
      const button = el('button', { class: 'notice-action', type: 'button' }, label);
      button.addEventListener('click', () => {
        this.clear(key);
        run();
      });
      box.append(button);
    }
    box.append(close);
    const before = this.shown.get(key);
    if (before) before.replaceWith(box);
    else this.container.append(box);
    this.shown.set(key, box);
    if (options.seconds !== undefined) {
      setTimeout(() => {
        if (this.shown.get(key) === box) this.clear(key);
      }, options.seconds * 1000);
    }
  }

  clear(key: string): void {
    this.shown.get(key)?.remove();
    this.shown.delete(key);
  }

  clearAll(): void {
    for (const key of [...this.shown.keys()]) this.clear(key);
  }

  /** For screen readers only: somebody came, somebody left. */
  announce(text: string): void {
    this.announcer.textContent = text;
  }
}
