// `varve diff --trees OLD NEW`: two whole trees, of which neither is a layer.
// Called by diff.ts; a tree is a directory, an EROFS image, or an archive.
// What OLD alone has was deleted; nothing tells a rename from a deletion and an addition here.

import { imageTree } from '../erofs/to-tree.js';
import { MountError } from '../stack/errors.js';
import { openImage } from '../stack/image-open.js';
import { isErofs, isImage } from '../stack/images.js';
import { openTreeSource } from '../tree/source.js';
import type { TreeNode } from '../tree/tree.js';
import { treeChanges } from '../union/tree-changes.js';
import type { Arguments } from './args.js';
import { type Compared, insidePath, splitOperands, withinPaths } from './diff-compared.js';
import { asMountError } from './image.js';

export function compareTrees(given: Arguments): Compared {
  const [operands, paths] = splitOperands(given);
  const [old, now] = operands;
  if (old === undefined || now === undefined || operands.length > 2) {
    throw new MountError('option', '--trees: compares two: write OLD NEW');
  }
  if (given.has('options')) {
    throw new MountError(
      'option',
      '--trees: -o describes a stack of layers: leave one of the two out',
    );
  }
  const limits = paths.map((path) => insidePath(path));
  const before = openTree(old);
  try {
    const after = openTree(now);
    try {
      const changes = withinPaths(treeChanges(before.root, after.root), limits);
      const close = (): void => {
        before.close();
        after.close();
      };
      return { changes, names: { lowerdirs: [old], upperdir: now }, close };
    } catch (error) {
      after.close();
      throw asMountError(error, now);
    }
  } catch (error) {
    before.close();
    throw error;
  }
}

interface Tree {
  readonly root: TreeNode;
  close(): void;
}

function openTree(path: string): Tree {
  try {
    if (!isImage(path) || !isErofs(path)) return openTreeSource(path);
  } catch (error) {
    throw asMountError(error, path);
  }
  const { image, close } = openImage(path);
  try {
    return { root: imageTree(image, image.inode(image.rootNid)), close };
  } catch (error) {
    close();
    throw asMountError(error, path);
  }
}
