// `varve image extract`: the tree of an image as files in a directory.
// Run by main.ts; tree/extract.ts writes, and never outside of the target.
// Manual: image-commands.ts.

import { imageTree } from '../erofs/to-tree.js';
import { MountError } from '../stack/errors.js';
import { type ExtractWarning, extractTree } from '../tree/extract.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { asMountError, inodeAt, isDir, withImage } from './image.js';
import { counted, remark } from './output.js';

export function run(given: Arguments): Promise<number> {
  const target = given.operands[1] as string;
  return withImage(given, (image) => {
    const path = given.value('path') ?? '/';
    const start = inodeAt(image, path);
    if (!isDir(start)) {
      throw new MountError('option', `--path ${path}: not a directory: take \`varve image cat\``);
    }
    let warnings: ExtractWarning[];
    try {
      warnings = extractTree(imageTree(image, start), target);
    } catch (error) {
      throw asMountError(error, target);
    }
    for (const { problem, path: first, count } of warnings) {
      const more = count > 1 ? ` and ${counted(count - 1, 'other')}` : '';
      remark(given, `${first}${more}: ${problem}`);
    }
    return EXIT.ok;
  });
}
