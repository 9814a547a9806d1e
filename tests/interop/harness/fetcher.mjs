// Many HTTP requests from inside a namespace, without a process for each.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(new URL('./fetch-child.mjs', import.meta.url));

export class Fetcher {
  #child;
  #waiting = new Map();
  #requests = 0;

  constructor(namespace) {
    this.#child = spawn('ip', ['netns', 'exec', namespace, process.execPath, CHILD], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child.on('message', ({ id, error, ...answer }) => {
      const { resolve, reject, what } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(new Error(`${what}: ${error}`));
      else resolve(answer);
    });
  }

  /** Answers `{status, headers, body}`. */
  fetch(url, options = {}) {
    return new Promise((resolve, reject) => {
      const id = ++this.#requests;
      this.#waiting.set(id, { resolve, reject, what: `${options.method ?? 'GET'} ${url}` });
      this.#child.send({ id, url, options });
    });
  }

  close() {
    this.#child.disconnect();
  }
}
