// The root directory of a layer whose archive says nothing of it: that of the layer below, as containers/storage has it.
// Called for every tar layer before its image is made: an overlay shows the root of its topmost layer, and tools put none into those.

import { ErofsImage } from '../../erofs/image.js';
import { S } from '../../linux/constants.js';
import { FileSource } from '../../linux/file-source.js';
import type { TreeNode } from '../../tree/tree.js';
import type { LayerFolder } from '../layer-folder.js';

/** Mode, owner and time of a root that no member of the archive has described. @param below undefined: the lowest layer. */
export function inheritRoot(root: TreeNode, below: LayerFolder | undefined): void {
  // An engine that looks for layers one by one may not have asked for that one.
  if (below?.exists !== true || !isUndescribed(root)) return;
  const meta = FileSource.open(below.meta);
  const blob = FileSource.open(below.blob);
  try {
    const image = ErofsImage.open(meta, [blob]);
    const { mode, uid, gid, mtime, mtimeNsec } = image.inode(image.rootNid);
    Object.assign(root, { mode, uid, gid, mtime, mtimeNsec });
  } finally {
    meta.close();
    blob.close();
  }
}

/** As tree/assemble.ts makes it. */
function isUndescribed({ mode, uid, gid, mtime, mtimeNsec, xattrs }: TreeNode): boolean {
  const isPlain = mode === (S.IFDIR | 0o755) && uid === 0 && gid === 0;
  return isPlain && mtime === 0 && mtimeNsec === 0 && xattrs === undefined;
}
