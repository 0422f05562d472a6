// One side's folders on disk: layers, upper and workdir, and the steps a stack goes through while it
// lives: mounted, unmounted, its upper made a new lower. Used by campaign.ts for both sides.
// Subject and oracle keep their folders apart; mounting the other's folders is the cross check.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { StackFolders, Subject } from '../support/subjects.js';
import { AT, must, O, sys } from '../support/sys.js';
import { buildLayer, type LayerStep } from './layers.js';
import { readTree, type Tree } from './tree.js';

/** Where layers and upper live: all on one filesystem, or the upper on one of its own. */
export type Placement = 'tmpfs' | 'ext4' | 'both';

export interface Filesystems {
  tmpfs: string;
  ext4: string;
}

export class Stack {
  readonly mountpoint: string;
  lowers: string[];
  #upperBase: string;
  #number = 0;

  constructor(
    name: string,
    layers: readonly (readonly LayerStep[])[],
    placement: Placement,
    filesystems: Filesystems,
  ) {
    const lowerBase = join(filesystems[placement === 'ext4' ? 'ext4' : 'tmpfs'], name);
    this.#upperBase = join(filesystems[placement === 'tmpfs' ? 'tmpfs' : 'ext4'], `${name}-up`);
    this.mountpoint = join(lowerBase, 'mnt');
    mkdirSync(this.mountpoint, { recursive: true });
    this.lowers = layers.map((steps, i) => {
      const folder = join(lowerBase, `l${i}`);
      mkdirSync(folder);
      buildLayer(folder, steps);
      return folder;
    });
    this.lowers.reverse();
    this.#newUpper();
  }

  get folders(): StackFolders {
    const { mountpoint, lowers } = this;
    return { mountpoint, lowers, upper: this.#path('u'), work: this.#path('w') };
  }

  /** The upper becomes the topmost lower under a new, empty upper. Only while unmounted. */
  rotate(): void {
    this.lowers.unshift(this.#path('u'));
    this.#number += 1;
    this.#newUpper();
  }

  #newUpper(): void {
    mkdirSync(this.#path('u'), { recursive: true });
    mkdirSync(this.#path('w'));
    const root = must(sys.open(AT.FDCWD, this.#path('u'), O.DIRECTORY));
    // The root of the mount shows these.
    must(sys.chmod(root, '.', 0o777));
    must(
      sys.utimens(root, '.', [
        [1_000_000_000, 0],
        [1_000_000_000, 0],
      ]),
    );
    sys.close(root);
  }

  #path(kind: string): string {
    return join(this.#upperBase, `${kind}${this.#number}`);
  }

  /** The mounted tree as `subject` shows it, mounted only for that. */
  treeThrough(subject: Subject): Tree {
    subject.mount(this.folders);
    try {
      return treeOf(this.mountpoint);
    } finally {
      subject.unmount(this.mountpoint);
    }
  }

  /** All lowers as they are on disk, attributes of the overlay included. */
  lowerTrees(): Tree[] {
    return this.lowers.map(treeOf);
  }
}

function treeOf(folder: string): Tree {
  const root = must(sys.open(AT.FDCWD, folder, O.DIRECTORY));
  try {
    return readTree(root, () => true);
  } finally {
    sys.close(root);
  }
}
