// Hard links of lowers that were changed under one name, and so are others under their further names, which the upper has not.
// Used by union.ts, which shows such names as the index has them, and by changes.ts, which tells all of them.
// Follows "Index" in Documentation/filesystems/overlayfs.rst and fs/overlayfs/{namei,inode}.c: an entry is named by the origin in hex.

import { isDirectory, isWhiteout } from '../tree/tree.js';
import { HandleMap } from './handle-map.js';
import { type Marks, marksOf, originOf } from './marks.js';
import type { Handle, LayerView, Seen } from './view.js';

/** An object of the index: what the union shows under every name of a lower object that has no name in the upper. */
export interface Indexed {
  /** Name in the index directory. */
  readonly name: string;
  readonly origin: Handle;
  readonly seen: Seen;
  readonly marks: Marks;
}

export class IndexNames {
  readonly view: LayerView;
  #entries: readonly Indexed[] | undefined;
  readonly #byOrigin = new HandleMap<Indexed>();

  /** @param view of the index directory; the caller closes it. */
  constructor(view: LayerView) {
    this.view = view;
  }

  /** Every object of it. Directories are indexed for file handles only and are left out. */
  get entries(): readonly Indexed[] {
    if (this.#entries !== undefined) return this.#entries;
    const entries: Indexed[] = [];
    for (const name of this.view.list('')) {
      const origin = /^(?:[0-9a-f]{2})+$/.test(name) && originOf(Buffer.from(name, 'hex'));
      const seen = origin ? this.view.look(name) : undefined;
      if (!origin || seen === undefined || isDirectory(seen.node) || isWhiteout(seen.node))
        continue;
      const indexed = { name, origin, seen, marks: marksOf(seen.node, this.view.marks) };
      entries.push(indexed);
      this.#byOrigin.set(origin, indexed);
    }
    this.#entries = entries;
    return entries;
  }

  /** What stands for an object of a lower that has several names there. */
  of(view: LayerView, at: string): Indexed | undefined {
    if (this.entries.length === 0) return undefined;
    const handle = view.handle(at);
    return handle === undefined ? undefined : this.#byOrigin.get(handle);
  }
}

/**
 * How many names an indexed object has in the union. @param lowerLinks st_nlink of the lower object.
 * @returns undefined where nobody has noted it.
 */
export function unionLinks({ seen, marks }: Indexed, lowerLinks: number): number | undefined {
  const [, of, difference] = /^([UL])([+-]?\d+)/.exec(marks.nlink ?? '') ?? [];
  if (difference === undefined) return undefined;
  return (of === 'U' ? seen.links : lowerLinks) + Number(difference);
}
