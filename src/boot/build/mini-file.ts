// initramfs.img as a file: early archives, the mini-initramfs, and with --embed an archive of the images.
// Called by build.ts when all images are there; mini.ts says what is in the mini-initramfs.
// Layout: docs/boot-format.md.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { S } from '../../linux/constants.js';
import { writeCpio } from '../../tree/cpio-write.js';
import { add, type Content, makeNode, type TreeNode } from '../../tree/tree.js';
import { compressMini, type MiniCompress } from './compress.js';
import type { Layer } from './layers.js';

export interface MiniFileParts {
  readonly early: Uint8Array;
  readonly root: TreeNode;
  readonly compress: MiniCompress;
  /** The images that go into it. */
  readonly embedded: readonly Layer[];
  /** Seconds since 1970. */
  readonly time: number;
}

export interface MiniFile {
  /** Bytes. */
  readonly size: number;
  readonly sha256: string;
  /** Name of an embedded image -> the byte at which it begins. */
  readonly offsets: ReadonlyMap<string, number>;
}

export function writeMiniFile(path: string, parts: MiniFileParts): MiniFile {
  const pieces: Buffer[] = [];
  writeCpio(parts.root, (piece) => pieces.push(Buffer.from(piece)));
  const packed = compressMini(Buffer.concat(pieces), parts.compress);
  const fd = openSync(path, 'wx', 0o644);
  const out = new HashedFile(fd);
  const offsets = new Map<string, number>();
  try {
    out.write(parts.early);
    out.write(packed);
    if (parts.embedded.length > 0) {
      // LZ4 in legacy frames ends at a word of zeros, and an archive begins at a multiple of 4.
      out.write(new Uint8Array(8 - (out.size % 4)));
      const images = imagesTree(parts, (file) => offsets.set(file, out.size));
      writeCpio(images, (piece) => out.write(piece));
    }
  } finally {
    closeSync(fd);
  }
  return { size: out.size, sha256: out.digest(), offsets };
}

class HashedFile {
  size = 0;
  readonly #fd: number;
  readonly #hash = createHash('sha256');

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    this.#hash.update(bytes);
    this.size += bytes.length;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}

/** /images, uncompressed, so that all that the kernel does with it is copying. @param onData called before each one's data. */
function imagesTree({ embedded, time }: MiniFileParts, onData: (file: string) => void): TreeNode {
  const root = makeNode(S.IFDIR | 0o755, { mtime: time });
  const images = makeNode(S.IFDIR | 0o755, { mtime: time });
  add(root, 'images', images);
  for (const { file, path, size } of embedded) {
    const content = imageContent(path, size, () => onData(file));
    add(images, file, makeNode(S.IFREG | 0o644, { mtime: time, size, content }));
  }
  return root;
}

function imageContent(path: string, size: number, onOpen: () => void): Content {
  return {
    open: () => {
      onOpen();
      const fd = openSync(path, 'r');
      return {
        size,
        read: (at, out) => {
          for (let done = 0; done < out.length; ) {
            done += readSync(fd, out, done, out.length - done, at + done);
          }
        },
        close: () => closeSync(fd),
      };
    },
  };
}
