// The content of a file of a tree: of a small one whole, and its digest.
// Used where text is merged, for what an image says of itself, and for dumps and life stories of files.
// Large content is read in pieces, from Content.open().

import { sha256Of } from '../bytes/digest.js';
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

const ZEROS = {
  read: (_at: number, out: Uint8Array): void => {
    out.fill(0);
  },
};

/** SHA-256, lower-case hex; of what has no content, that of zeros. @throws TreeError, SysError as Content.open() does. */
export function contentDigest({ content, size }: TreeNode): string {
  const open = content?.open();
  try {
    return sha256Of(open ?? ZEROS, size).toString('hex');
  } finally {
    open?.close();
  }
}
