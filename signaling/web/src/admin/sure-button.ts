import { el } from '../dom';

const SURE_MS = 4_000;

/** A button that asks once more before it does what cannot be undone. */
export function sureButton(label: string, question: string, act: () => Promise<void>): HTMLButtonElement {
  const button = el('button', { type: 'button', class: 'danger' }, label);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const calm = () => {
    clearTimeout(timer);
    timer = undefined;
    button.textContent = label;
    button.classList.remove('asking');
  };
  button.addEventListener('click', () => {
    if (timer === undefined) {
      button.textContent = question;
      button.classList.add('asking');
      timer = setTimeout(calm, SURE_MS);
      return;
    }
    calm();
    button.disabled = true;
    void act().finally(() => {
      button.disabled = false;
    });
  });
  button.addEventListener('blur', calm);
  return button;
}
