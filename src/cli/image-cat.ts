// `varve image cat`: the content of files in an image, to standard output.
// Run by main.ts; reads in pieces, so that nothing is held whole.
// Manual: image-commands.ts.

import { writeSync } from 'node:fs';
import { S } from '../linux/constants.js';
import { MountError } from '../stack/errors.js';
import type { Arguments } from './args.js';
import { EXIT } from './exit-codes.js';
import { inodeAt, typeWord, withImage } from './image.js';

const PIECE = 1024 * 1024;

export function run(given: Arguments): Promise<number> {
  return withImage(given, (image) => {
    const piece = new Uint8Array(PIECE);
    for (const path of given.operands.slice(1)) {
      const inode = inodeAt(image, path);
      if ((inode.mode & S.IFMT) !== S.IFREG) {
        throw new MountError('option', `${path}: is a ${typeWord(inode.mode)}: name a file`);
      }
      for (let at = 0; at < inode.size; ) {
        const n = image.read(inode, piece.subarray(0, Math.min(PIECE, inode.size - at)), at);
        if (n === 0) break;
        if (!writeAll(piece.subarray(0, n))) return EXIT.ok;
        at += n;
      }
    }
    return EXIT.ok;
  });
}

/** @returns false when the reader has gone (a pipe to head). */
function writeAll(bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return false;
      if (code !== 'EAGAIN') throw error;
      // Standard output is a pipe or terminal that somebody made non-blocking.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
  return true;
}
