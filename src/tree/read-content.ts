// The content of a small file of a tree, whole.
// Used where text is merged, and for what an image says of itself.
// Large content is read in pieces, from Content.open().

import type { TreeNode } from './tree.js';

/** `size` bytes; of what has no content, zeros. @throws TreeError, SysError as Content.open() does. */
export function readContent({ content, size }: TreeNode): Buffer {
  const bytes = Buffer.alloc(size);
  const open = content?.open();
  try {
    open?.read(0, bytes);
  } finally {
    open?.close();
  }
  return bytes;
}
