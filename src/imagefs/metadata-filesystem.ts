// A composefs image without content: what a kernel overlayfs with `userxattr` and data-only layers is mounted on.
// Served by stack/server.ts inside the user namespace; files of the store are opened by overlayfs, never here.
// Follows: Documentation/filesystems/overlayfs.rst, "Data-only lower layers", as Linux 6.16 allows them with `userxattr`.

import { METACOPY } from '../erofs/composefs-marks.js';
import { METADATA } from '../erofs/composefs-view.js';
import type { Inode } from '../erofs/image.js';
import { S } from '../linux/constants.js';
import { E } from '../linux/errno.js';
import { u8 } from '../linux/memory.js';
import type { Request } from '../vfs/filesystem.js';
import { GIVEN, GIVEN_SIZE } from '../vfs/layout.js';
import { isExternal } from './external.js';
import { ImageFileSystem, type ImageFileSystemOptions } from './image-filesystem.js';

/** The mark that overlayfs asks for when it looks a file up, before anybody can open it. */
const ASKED_FIRST = METADATA.shown(METACOPY, S.IFREG);
/** Bytes of a file in the image that the kernel is given unasked. */
const GIVEN_MOST = 4096;

export class MetadataFileSystem extends ImageFileSystem {
  readonly #options: Omit<ImageFileSystemOptions, 'view'>;
  #told = false;

  constructor(options: Omit<ImageFileSystemOptions, 'view'>) {
    super({ ...options, view: METADATA });
    this.#options = options;
  }

  /**
   * With the answer that a small file has no mark goes its content, so that it is read without a request. Once only: then
   * nobody can be waiting for a page of it, which the kernel would wait for in turn.
   */
  override getxattr(r: Request, name: number, nameLen: number, out: number, size: number): number {
    const result = super.getxattr(r, name, nameLen, out, size);
    if (result === -E.NODATA && nameLen === ASKED_FIRST?.length) this.#give(r, name, nameLen);
    return result;
  }

  #give(r: Request, name: number, nameLen: number): void {
    for (let i = 0; i < nameLen; i++) if (u8[name + i] !== ASKED_FIRST?.charCodeAt(i)) return;
    const inode = this.inodeOf(r);
    if ((inode.mode & S.IFMT) !== S.IFREG || inode.size === 0 || inode.size > GIVEN_MOST) return;
    if (!isFirstGift(inode.nid)) return;
    this.host.storeStart(r.nodeLo, r.nodeHi, 0, (_file, out, size) =>
      this.#contentOf(inode, out, size),
    );
  }

  #contentOf(inode: Inode, out: number, size: number): number {
    try {
      return this.served.read(inode, out, size, 0);
    } catch (error) {
      return this.served.failure(error);
    }
  }

  /** Small files, whose content is in the image. Who reads another one here gets EIO rather than zeros. */
  override read(
    r: Request,
    lo: number,
    hi: number,
    out: number,
    size: number,
    offset: number,
  ): number {
    try {
      if (isExternal(this.image, this.inodeOf(r))) {
        this.#tell();
        return -E.IO;
      }
    } catch (error) {
      return this.served.failure(error);
    }
    return super.read(r, lo, hi, out, size, offset);
  }

  /** Once: a program that walks through all files would fill the log. */
  #tell(): void {
    if (this.#told) return;
    this.#told = true;
    const { label, log } = this.#options;
    log(`${label}: content was asked for on the mount below the overlay, which has none`);
  }
}

/**
 * Notes that an inode's content is given, in memory that a successor shares: it must not give it a second time.
 * @returns whether it was not noted; false too for what is so far behind in the image that there is no bit.
 */
function isFirstGift(nid: number): boolean {
  if (nid >= GIVEN_SIZE * 8) return false;
  const at = GIVEN + Math.floor(nid / 8);
  const before = u8[at] as number;
  u8[at] = before | (1 << (nid & 7));
  return u8[at] !== before;
}
