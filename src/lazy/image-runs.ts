// Which bytes of its blob a metadata image refers to, and that it is nothing but metadata of a kind that layers have.
// Used by build/ to cut the blob into chunks, and by pull/ to see that a stranger's table covers what readers will read.
// Follows: erofs_fs.h of Linux 6.18 (chunk-based inodes, device table).

import { eachInode } from '../erofs/each-inode.js';
import type { ErofsImage, Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';

/** A metadata image that no layer can have. */
export class LayerImageError extends Error {
  constructor(message: string) {
    super(`metadata image: ${message}`);
    this.name = 'LayerImageError';
  }
}

/** What was seen in an image. */
export interface ImageRuns {
  readonly inodes: number;
  /** Bytes of all regular files. */
  readonly bytes: number;
}

/** Extents for each byte of the image: inodes may share their addresses, but not so that reading them takes for ever. */
const EXTENTS_PER_BYTE = 1 / 4;
const SPARE_EXTENTS = 1 << 16;

/** Takes the runs of an image from a walk through its inodes. */
export class RunWalk {
  readonly found = { inodes: 0, bytes: 0 };
  readonly #image: ErofsImage;
  readonly #run: (at: number, length: number) => void;
  #budget: number;

  /**
   * @param run called for every run of the blob (device 1) that is data of a regular file: byte of it, and bytes. Files that share
   * content give the same runs. @throws LayerImageError when it is no image of a layer.
   */
  constructor(image: ErofsImage, run: (at: number, length: number) => void) {
    const { superblock: sb } = image;
    if (sb.devices.length !== 1) refuse(`${sb.devices.length} extra devices`);
    if (sb.packedNid !== undefined || sb.metaboxNid !== undefined) {
      refuse('it has a packed file or a metabox');
    }
    this.#image = image;
    this.#run = run;
    this.#budget = image.size * EXTENTS_PER_BYTE + SPARE_EXTENTS;
  }

  /** Every inode once, the root too. @throws LayerImageError, ErofsError. */
  visit(path: string, inode: Inode): void {
    this.found.inodes++;
    const isFile = (inode.mode & S.IFMT) === S.IFREG;
    if (!isFile && (inode.mode & S.IFMT) !== S.IFDIR && (inode.mode & S.IFMT) !== S.IFLNK) return;
    if (isFile) this.found.bytes += inode.size;
    for (const extent of this.#image.extents(inode)) {
      if (--this.#budget < 0) refuse('its files share block addresses again and again');
      const { where, device, storedAt, stored, algorithm } = extent;
      if (algorithm !== undefined || where === 'packed') refuse(`${path}: is compressed in it`);
      if (where === 'inline') continue;
      if (device === 1 && isFile) this.#run(storedAt, extent.length);
      else if (device !== 0 || storedAt + stored > this.#image.size) {
        refuse(`${path}: lies on device ${device} at byte ${storedAt}`);
      }
    }
  }
}

/** As RunWalk, through all of the image. @throws LayerImageError, ErofsError. */
export function eachRun(image: ErofsImage, run: (at: number, length: number) => void): ImageRuns {
  const walk = new RunWalk(image, run);
  walk.visit('/', image.inode(image.rootNid));
  eachInode(image, (path, inode) => walk.visit(path, inode));
  return walk.found;
}

function refuse(what: string): never {
  throw new LayerImageError(what);
}
