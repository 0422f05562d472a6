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

/**
 * Calls back for every run of the blob (device 1) that is data of a regular file; files that share content give the same runs.
 * @param run byte of the blob, and bytes. @param seen is told of each inode whose runs are in order. @throws LayerImageError, ErofsError.
 */
export function eachRun(
  image: ErofsImage,
  run: (at: number, length: number) => void,
  seen?: (path: string, inode: Inode) => void,
): ImageRuns {
  const { superblock: sb } = image;
  if (sb.devices.length !== 1) refuse(`${sb.devices.length} extra devices`);
  if (sb.packedNid !== undefined || sb.metaboxNid !== undefined) {
    refuse('it has a packed file or a metabox');
  }
  let inodes = 0;
  let bytes = 0;
  let budget = image.size * EXTENTS_PER_BYTE + SPARE_EXTENTS;
  const look = (path: string, inode: Inode): void => {
    inodes++;
    const isFile = (inode.mode & S.IFMT) === S.IFREG;
    if (!isFile && (inode.mode & S.IFMT) !== S.IFDIR && (inode.mode & S.IFMT) !== S.IFLNK) return;
    if (isFile) bytes += inode.size;
    for (const extent of image.extents(inode)) {
      if (--budget < 0) refuse('its files share block addresses again and again');
      const { where, device, storedAt, stored, algorithm } = extent;
      if (algorithm !== undefined || where === 'packed') refuse(`${path}: is compressed in it`);
      if (where === 'inline') continue;
      if (device === 1 && isFile) run(storedAt, extent.length);
      else if (device !== 0 || storedAt + stored > image.size) {
        refuse(`${path}: lies on device ${device} at byte ${storedAt}`);
      }
    }
    seen?.(path, inode);
  };
  look('/', image.inode(image.rootNid));
  eachInode(image, look);
  return { inodes, bytes };
}

function refuse(what: string): never {
  throw new LayerImageError(what);
}
