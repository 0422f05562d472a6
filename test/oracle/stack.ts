// One side's folders on disk: layers, upper and workdir, and the steps a stack goes through while it
// lives: mounted, unmounted, its upper made a new lower. Used by campaign.ts for both sides.
// Subject and oracle keep their folders apart; mounting the other's folders is the cross check.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildImageOf, run, type StackFolders, type Subject } from '../support/subjects.js';
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
  /** By where it is mounted. */
  readonly #images = new Map<string, string>();
  #upperBase: string;
  #number = 0;

  constructor(
    name: string,
    layers: readonly (readonly LayerStep[])[],
    placement: Placement,
    filesystems: Filesystems,
    images = false,
  ) {
    const lowerBase = join(filesystems[placement === 'ext4' ? 'ext4' : 'tmpfs'], name);
    this.#upperBase = join(filesystems[placement === 'tmpfs' ? 'tmpfs' : 'ext4'], `${name}-up`);
    this.mountpoint = join(lowerBase, 'mnt');
    mkdirSync(this.mountpoint, { recursive: true });
    this.lowers = layers.map((steps, i) => {
      const folder = join(lowerBase, `l${i}`);
      mkdirSync(folder);
      buildLayer(folder, steps);
      return images ? this.#imageOf(folder) : folder;
    });
    this.lowers.reverse();
    this.#newUpper();
  }

  foldersFor(subject: Subject): StackFolders {
    const { mountpoint } = this;
    const lowers = subject.takesImages
      ? this.lowers.map((path) => this.#images.get(path) ?? path)
      : this.lowers;
    return { mountpoint, lowers, upper: this.#path('u'), work: this.#path('w') };
  }

  /** Makes an EROFS image of a layer, for whoever takes images, and mounts it for who does not. @returns where. */
  #imageOf(folder: string): string {
    const image = `${folder}.erofs`;
    const mounted = `${folder}.mounted`;
    mkdirSync(mounted);
    buildImageOf(folder, image);
    run('mount', ['-t', 'erofs', '-o', 'loop,ro', image, mounted]);
    this.#images.set(mounted, image);
    return mounted;
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
    subject.mount(this.foldersFor(subject));
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
