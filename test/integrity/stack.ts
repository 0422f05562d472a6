// One lower, an upper and a mount for an integrity test, and the digest that shows whether the lower was touched.
// Used by the tests of test/integrity; mounts whatever VARVE_TEST_SUBJECT names, varve by default.
// The digest is over names, types, modes, owners, times and content, read below the mount.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readTree } from '../oracle/tree.js';
import { chosenSubject } from '../support/subjects.js';
import { AT, must, O, sys } from '../support/sys.js';

export class IntegrityStack {
  readonly lower: string;
  readonly upper: string;
  readonly mountpoint: string;
  readonly #work: string;
  readonly #subject = chosenSubject();
  #digest = '';

  /** @param base an empty folder, unmounted and deleted by the test */
  constructor(base: string) {
    // In memory: unmounting waits until everything is written, and a disk may be busy with others.
    const memory = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2g', 'integrity', base]);
    if (memory.status !== 0) throw new Error(`tmpfs on ${base}: ${memory.stderr}`);
    const folders = ['lower', 'upper', 'work', 'mnt'].map((name) => join(base, name));
    for (const folder of folders) mkdirSync(folder);
    [this.lower, this.upper, this.#work, this.mountpoint] = folders;
  }

  /** The lower is complete: remembers what it is like, and mounts. */
  start(): void {
    this.#digest = digestOf(this.lower);
    this.#mount();
  }

  remount(): void {
    this.stop();
    this.#mount();
  }

  stop(): void {
    this.#subject.unmount(this.mountpoint);
  }

  lowerIsUntouched(): boolean {
    return digestOf(this.lower) === this.#digest;
  }

  #mount(): void {
    const { lower, upper, mountpoint } = this;
    this.#subject.mount({ lowers: [lower], upper, work: this.#work, mountpoint });
  }
}

function digestOf(folder: string): string {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    const hash = createHash('sha256');
    for (const [path, line] of readTree(root, () => true).lines) hash.update(`${path}\0${line}\n`);
    return hash.digest('hex');
  } finally {
    sys.close(root);
  }
}
