// The root node: what every lookup begins with, made of the roots of the layers.
// Called when an overlay starts, and by who looks at one that nobody has mounted.
// Follows ovl_get_root() of fs/overlayfs/super.c; the number is always the same (numbers.ts).

import { retainDir } from '../layer/layer.js';
import { DT } from '../linux/constants.js';
import { allocNode, clearFlag, F, FLAG, insertIno, put, ROOT, setFlag } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { noteRootMarks } from './lookup.js';
import { MARK } from './marks.js';
import { ROOT_INO } from './numbers.js';
import { setStack } from './stacks.js';

/** Makes the root node of an overlay whose tables are empty. */
export function makeRoot(o: Overlay): void {
  const root = allocNode(DT.DIR);
  if (root !== ROOT) throw new Error('the node table was not empty');
  put(root, F.nlookup, 1);
  giveLayers(o);
}

/** Gives the root its layers: a new one, or one that a predecessor has left. */
export function giveLayers(o: Overlay): void {
  const root = ROOT;
  const { upper, lowers } = o.config;
  if (upper !== undefined) {
    put(root, F.upper, upper.root);
    setFlag(root, FLAG.UPPER);
    const marks = noteRootMarks(o, upper);
    if (marks > 0 && marks & MARK.IMPURE) setFlag(root, FLAG.IMPURE);
    if (marks > 0 && marks & MARK.DEFAULT_ACL) setFlag(root, FLAG.DEFAULT_ACL);
    o.ownNumbers = marks > 0 && (marks & MARK.NUMBER) !== 0;
    // A predecessor may have had another upper.
    if (marks >= 0 && (marks & MARK.IMPURE) === 0) clearFlag(root, FLAG.IMPURE_SET);
  }
  if (lowers.length > 0 && upper !== undefined) setFlag(root, FLAG.IMPURE);
  for (const layer of lowers) {
    noteRootMarks(o, layer);
    retainDir(layer.root);
  }
  if (
    !setStack(
      root,
      lowers.map((layer) => layer.root),
    )
  )
    throw new Error('too many layers');
  const top = upper ?? lowers[0];
  if (top === undefined) throw new Error('an overlay needs a layer');
  const mode = top.statDir(top.root);
  if (mode < 0) throw new Error(`${top.label}: cannot be read (errno ${-mode})`);
  put(root, F.inoLo, ROOT_INO);
  if (o.exporting !== undefined) insertIno(root);
}
