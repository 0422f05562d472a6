// `varve image dump`: the tree of an image as text, in the form of composefs-dump(5); a composefs image as what it was made of.
// Run by main.ts; tree/dump-write.ts writes the lines.
// Manual: image-commands.ts.

import { writeSync } from 'node:fs';
import { composefsTree } from '../erofs/composefs-tree.js';
import { imageTree } from '../erofs/to-tree.js';
import { S } from '../linux/constants.js';
import { writeDump } from '../tree/dump-write.js';
import { contentDigest } from '../tree/read-content.js';
import type { TreeNode } from '../tree/tree.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { inodeAt, withImage } from './image.js';

export function run(given: Arguments): Promise<number> {
  return withImage(given, (image) => {
    if (image.superblock.composefsVersion !== undefined && !given.has('raw')) {
      writeDump(composefsTree(image), toStdout);
    } else {
      const root = imageTree(image, inodeAt(image, '/'));
      writeDump(root, toStdout, { inlineMax: 0, digest: sha256 });
    }
    return EXIT.ok;
  });
}

function toStdout(text: Buffer): void {
  for (let at = 0; at < text.length; ) at += writeSync(1, text, at);
}

/** Lower-case hex of a file's content; undefined for what has none. */
function sha256(node: TreeNode): string | undefined {
  if ((node.mode & S.IFMT) !== S.IFREG || node.content === undefined) return undefined;
  return contentDigest(node);
}
