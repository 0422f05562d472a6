// One line on a terminal that says how far a transfer is; nothing where nobody looks.
// Used by pull, push and what obtains images on its way.
// Written to standard error, and wiped when the work is done.

import { isatty } from 'node:tty';
import { bytesText, plain } from '../report/words.js';
import type { Arguments } from './args.js';

/** How far a transfer is. */
export interface TransferState {
  /** What is being done: `layer 2 of 5`. */
  readonly what: string;
  /** Bytes done, and in all where that is known. */
  readonly done: number;
  readonly total?: number;
}

/** Milliseconds between two lines. */
const OFTEN = 100;

export class FetchProgress {
  readonly #shown: boolean;
  readonly #since = performance.now();
  #last = 0;
  #any = false;

  constructor(given: Arguments) {
    this.#shown = !given.has('quiet') && !given.has('json') && isatty(2);
  }

  show({ what, done, total }: TransferState): void {
    const now = performance.now();
    if (!this.#shown || now - this.#last < OFTEN) return;
    this.#last = now;
    this.#any = true;
    const rate = done / Math.max((now - this.#since) / 1000, 0.001);
    const of = total === undefined ? '' : ` of ${bytesText(total)}`;
    process.stderr.write(`\r\x1b[K${plain(what)}: ${bytesText(done)}${of}, ${bytesText(rate)}/s`);
  }

  /** Wipes the line. */
  end(): void {
    if (this.#any) process.stderr.write('\r\x1b[K');
  }
}
