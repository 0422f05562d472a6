// A composefs image without content: what a kernel overlayfs with `userxattr` and data-only layers is mounted on.
// Served by stack/server.ts inside the user namespace; files of the store are opened by overlayfs, never here.
// Follows: Documentation/filesystems/overlayfs.rst, "Data-only lower layers", as Linux 6.16 allows them with `userxattr`.

import { E } from '../linux/errno.js';
import type { Request } from '../vfs/filesystem.js';
import { isExternal } from './external.js';
import { ImageFileSystem, type ImageFileSystemOptions } from './image-filesystem.js';
import { METADATA } from './view.js';

export class MetadataFileSystem extends ImageFileSystem {
  readonly #options: Omit<ImageFileSystemOptions, 'view'>;
  #told = false;

  constructor(options: Omit<ImageFileSystemOptions, 'view'>) {
    super({ ...options, view: METADATA });
    this.#options = options;
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
