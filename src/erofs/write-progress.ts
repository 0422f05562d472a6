// Counts what a build has done and tells who asked, not too often.
// Fed by write-data.ts and the image file; the command line draws it.
// Times are not its business: whoever shows a rate has a clock.

import type { BuildProgress } from './write-options.js';

/** Bytes read between two calls. */
const EVERY = 1024 * 1024;

export class ProgressMeter {
  readonly #inodes: number;
  readonly #files: number;
  readonly #bytes: number;
  readonly #tell: ((progress: BuildProgress) => void) | undefined;
  readonly #written: () => number;
  #filesDone = 0;
  #bytesIn = 0;
  #told = 0;

  /** @param written asks for the bytes that were written. */
  constructor(
    totals: { readonly inodes: number; readonly files: number; readonly bytes: number },
    written: () => number,
    tell: ((progress: BuildProgress) => void) | undefined,
  ) {
    this.#written = written;
    this.#inodes = totals.inodes;
    this.#files = totals.files;
    this.#bytes = totals.bytes;
    this.#tell = tell;
  }

  /** Bytes of a source were read. */
  read(bytes: number): void {
    this.#bytesIn += bytes;
    if (this.#bytesIn - this.#told >= EVERY) this.report();
  }

  fileDone(): void {
    this.#filesDone++;
  }

  /** Tells now. */
  report(): void {
    this.#told = this.#bytesIn;
    this.#tell?.({
      inodes: this.#inodes,
      files: this.#files,
      filesDone: this.#filesDone,
      bytes: this.#bytes,
      bytesIn: this.#bytesIn,
      bytesOut: this.#written(),
    });
  }
}
