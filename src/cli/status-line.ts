// One line on the terminal that is written over and over, for work that takes long.
// Used by commands that read many files; nothing is written where there is no terminal.
// Results go to stdout by output.ts, when the line is gone.

import { plain } from '../report/words.js';

/** Milliseconds between two looks of the line. */
const EVERY = 100;

export class StatusLine {
  readonly #quiet: boolean;
  #last = 0;

  constructor(quiet: boolean) {
    this.#quiet = quiet || !process.stderr.isTTY;
  }

  show(text: string): void {
    if (this.#quiet) return;
    const now = performance.now();
    if (now - this.#last < EVERY) return;
    this.#last = now;
    const width = process.stderr.columns ?? 80;
    process.stderr.write(`\r\x1b[K${plain(text).slice(0, width - 1)}`);
  }

  /** Clears the line. */
  end(): void {
    if (this.#last !== 0) process.stderr.write('\r\x1b[K');
    this.#last = 0;
  }
}
