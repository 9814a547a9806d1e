import { el } from './dom';
import { type IconName, icon } from './icon';

interface Actions {
  microphone: () => void;
  camera: () => void;
  screen: () => void;
  graphs: () => void;
  leave: () => void;
}

interface State {
  microphone: boolean;
  camera: boolean;
  screen: boolean;
}

/** The bar at the bottom, and the same actions on the keyboard. */
export class Controls {
  readonly element: HTMLElement;
  private readonly buttons: Record<keyof Actions, HTMLButtonElement>;
  private readonly onKey: (event: KeyboardEvent) => void;

  constructor(actions: Actions) {
    this.buttons = {
      microphone: button('M'),
      camera: button('V'),
      screen: button('S'),
      graphs: button('G'),
      leave: button(undefined),
    };
    for (const [name, element] of Object.entries(this.buttons)) {
      element.dataset.action = name;
      element.addEventListener('click', actions[name as keyof Actions]);
    }
    this.buttons.leave.classList.add('leave');
    paint(this.buttons.leave, 'leave', 'Leave the call', 'Leave');
    paint(this.buttons.graphs, 'graph', 'Show or hide the graphs (G)', 'Graphs');
    // A phone cannot share its screen from a browser: no button that can only fail.
    this.buttons.screen.hidden = navigator.mediaDevices !== undefined && !navigator.mediaDevices.getDisplayMedia;
    this.show({ microphone: false, camera: false, screen: false });

    this.element = el(
      'nav',
      { class: 'controls', 'aria-label': 'Call' },
      this.buttons.microphone,
      this.buttons.camera,
      this.buttons.screen,
      this.buttons.graphs,
      this.buttons.leave,
    );

    const keys: Record<string, keyof Actions> = { m: 'microphone', v: 'camera', s: 'screen', g: 'graphs' };
    this.onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      if (event.target instanceof HTMLInputElement || !this.element.isConnected) return;
      const action = keys[event.key.toLowerCase()];
      if (!action) return;
      event.preventDefault();
      this.buttons[action].click();
    };
    document.addEventListener('keydown', this.onKey);
  }

  show(state: State): void {
    toggle(this.buttons.microphone, state.microphone);
    toggle(this.buttons.camera, state.camera);
    toggle(this.buttons.screen, state.screen);
    paint(this.buttons.microphone, state.microphone ? 'mic' : 'mic-off', state.microphone ? 'Mute (M)' : 'Unmute (M)', 'Mic');
    paint(this.buttons.camera, state.camera ? 'camera' : 'camera-off', state.camera ? 'Camera off (V)' : 'Camera on (V)', 'Camera');
    paint(this.buttons.screen, state.screen ? 'screen-off' : 'screen', state.screen ? 'Stop sharing (S)' : 'Share a screen (S)', 'Share');
    this.buttons.screen.classList.toggle('active', state.screen);
  }

  close(): void {
    document.removeEventListener('keydown', this.onKey);
  }
}

function button(key: string | undefined): HTMLButtonElement {
  return el('button', { type: 'button', class: 'control', 'aria-keyshortcuts': key });
}

function toggle(element: HTMLButtonElement, on: boolean): void {
  element.setAttribute('aria-pressed', String(on));
  if (element.dataset.action === 'microphone' || element.dataset.action === 'camera') element.classList.toggle('off', !on);
}

function paint(element: HTMLButtonElement, name: IconName, label: string, caption: string): void {
  if (element.title === label) return;
  element.title = label;
  element.setAttribute('aria-label', label);
  element.replaceChildren(icon(name), el('span', { class: 'caption', 'aria-hidden': 'true' }, caption));
}
