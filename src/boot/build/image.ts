// One layer of a boot image: a tree becomes an EROFS or btrfs image, an image that is ready is taken as it is.
// Called by build.ts, once a layer. EROFS: the same tree gives the same bytes; btrfs images carry times and ids of their making.
// Follows: mkfs.btrfs(8) of btrfs-progs 6.2 for --rootdir and --shrink.

import { closeSync, copyFileSync, openSync, readSync, statSync, truncateSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { eachInode } from '../../erofs/each-inode.js';
import { ErofsError } from '../../erofs/errors.js';
import { buildImage } from '../../erofs/write.js';
import type { BuildOptions } from '../../erofs/write-options.js';
import { S } from '../../linux/constants.js';
import { MountError } from '../../stack/errors.js';
import { openImage } from '../../stack/image-open.js';
import { extractTree } from '../../tree/extract.js';
import { count, type TreeNode } from '../../tree/tree.js';
import type { FsType } from '../config.js';
import { runTool } from '../run-tool.js';

export interface Payload {
  /** Objects; a hard link counts once. Of btrfs images that were ready 0, as they are not looked into. */
  readonly inodes: number;
  /** Of regular files. */
  readonly bytes: number;
}

const BLOCK = 4096;
/** One copy of everything, data and metadata in the same chunks: of 7 MB the image has 16 MB, not 102. */
const COMPACT = ['--quiet', '--mixed', '--metadata', 'single', '--data', 'single'];

/** Writes the image of a tree to `out`, in a folder that has room for temporary files. */
export async function makeImage(
  root: TreeNode,
  format: FsType,
  options: BuildOptions,
  out: string,
): Promise<Payload> {
  if (format === 'erofs') {
    const { inodes, fileBytes } = await buildImage(root, options, out);
    return { inodes, bytes: fileBytes };
  }
  const folder = `${out}.tree`;
  try {
    extractTree(root, folder);
    await runTool('mkfs.btrfs', [...COMPACT, '--rootdir', folder, '--shrink', out]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  pad(out);
  const { nodes, bytes } = count(root);
  return { inodes: nodes, bytes };
}

/** What an image is by its first bytes; undefined: none that can be a layer. */
export function imageFormat(path: string): FsType | undefined {
  const fd = openSync(path, 'r');
  try {
    const word = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(fd, bytes, 0, length, at));
    };
    if (word(1024, 4).equals(Buffer.from([0xe2, 0xe1, 0xf5, 0xe0]))) return 'erofs';
    if (word(65_536 + 64, 8).toString('latin1') === '_BHRfS_M') return 'btrfs';
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** Takes an image that is ready, in whole blocks. @throws MountError of kind `layer` for a damaged one. */
export function takeImage(from: string, format: FsType, out: string): Payload {
  copyFileSync(from, out);
  pad(out);
  if (format === 'btrfs') return { inodes: 0, bytes: 0 };
  const { image, close } = openImage(from);
  let inodes = 1;
  let bytes = 0;
  try {
    eachInode(image, (_path, inode) => {
      inodes++;
      if ((inode.mode & S.IFMT) === S.IFREG) bytes += inode.size;
    });
  } catch (error) {
    if (!(error instanceof ErofsError)) throw error;
    throw new MountError('layer', `${from}: ${error.message}: \`varve image check\` tells more`, {
      cause: error,
    });
  } finally {
    close();
  }
  return { inodes, bytes };
}

/** dm-verity and loop devices count in blocks of this size. One block has no hash tree, whose first block storage-init looks at. */
function pad(path: string): void {
  const { size } = statSync(path);
  const padded = Math.max(Math.ceil(size / BLOCK), 2) * BLOCK;
  if (size !== padded) truncateSync(path, padded);
}
