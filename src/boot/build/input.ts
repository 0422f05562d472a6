// What `varve boot build` is given: an initramfs in all of its forms, a tree, or an image that is ready.
// Called by build.ts; early archives (microcode, ACPI tables) are kept as they are, for the kernel looks for them uncompressed
// and in front of everything else.
// Follows: Documentation/arch/x86/microcode.rst and early-userspace/buffer-format.rst of Linux 6.18.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { SysError } from '../../linux/errno.js';
import { mapMemory } from '../../linux/memory.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import { openArchive } from '../../tree/archive-input.js';
import { readCpioParts } from '../../tree/cpio-read.js';
import { TreeError } from '../../tree/errors.js';
import { scan } from '../../tree/scan.js';
import type { SourceTree, TreeNode } from '../../tree/tree.js';

export interface BootInput {
  /** For messages. */
  readonly name: string;
  /** Archives that the kernel reads before it unpacks anything, verbatim; a multiple of 4 bytes. */
  readonly early: Uint8Array;
  readonly root: TreeNode;
  close(): void;
}

const NEWC_HEADER = 110;
/** Far more than there is of microcode for all processors of a maker. */
const EARLY_MAX = 256 * 1024 * 1024;

/** @throws MountError of kind `layer` that names the file and what is wrong with it. */
export function openInitramfs(path: string, onProgress?: (names: number) => void): BootInput {
  mapMemory();
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: name an initramfs`, {
      cause: error,
    });
  }
  try {
    const size = checkFile(fd, path);
    const end = earlyEnd(fd, size);
    const tree = openArchive(fd, { name: path, onProgress }, (archive) => {
      // Where something early is, the file begins uncompressed, and the archive's window is the file itself.
      archive.input.skip(end);
      return { kind: 'cpio', root: readCpioParts(archive) };
    });
    const early = new Uint8Array(end);
    readSync(fd, early, 0, end, 0);
    return {
      name: path,
      early,
      root: tree.root,
      close: () => {
        tree.close();
        closeSync(fd);
      },
    };
  } catch (error) {
    closeSync(fd);
    if (!(error instanceof TreeError)) throw error;
    const where = error.message.startsWith(path) ? '' : `${path}: `;
    const message = `${where}${error.message}: an initramfs is wanted (cpio, plain or compressed)`;
    throw new MountError('layer', message, { cause: error });
  }
}

function checkFile(fd: number, path: string): number {
  const stat = fstatSync(fd);
  if (stat.isDirectory()) {
    throw new MountError('option', `${path}: is a directory: name it by --root`);
  }
  if (!stat.isFile())
    throw new MountError('option', `${path}: is no regular file: name an initramfs`);
  if (stat.size === 0) throw new MountError('layer', `${path}: is empty: name an initramfs`);
  return stat.size;
}

/** @throws MountError of kind `layer`. */
export function openRoot(folder: string, onProgress?: (names: number) => void): BootInput {
  mapMemory();
  let tree: SourceTree;
  try {
    tree = scan(folder, { onProgress });
  } catch (error) {
    if (error instanceof TreeError || error instanceof SysError) {
      throw new MountError('layer', error.message, { cause: error });
    }
    throw new MountError('layer', `${folder}: ${reasonOf(error)}: name a folder`, { cause: error });
  }
  return { name: folder, early: new Uint8Array(0), root: tree.root, close: () => tree.close() };
}

/** @returns the program that unpacks what is behind the early archives; undefined: busybox does, or nothing is packed. */
export function unpackerOf(path: string): 'zstd' | 'lz4' | undefined {
  const fd = openSync(path, 'r');
  try {
    const magic = Buffer.alloc(4);
    readSync(fd, magic, 0, 4, earlyEnd(fd, fstatSync(fd).size));
    switch (magic.toString('hex')) {
      case '28b52ffd':
        return 'zstd';
      case '02214c18':
      case '04224d18':
        return 'lz4';
      default:
        return undefined;
    }
  } finally {
    closeSync(fd);
  }
}

/** Bytes of the archives at the beginning that are for the early kernel alone, with the zeros behind them. */
function earlyEnd(fd: number, size: number): number {
  let end = 0;
  while (end < size && end < EARLY_MAX) {
    const next = earlyArchive(fd, end);
    if (next === undefined) break;
    end = zerosEnd(fd, next);
  }
  // What is nothing but early has no payload; the reader then says that there is none.
  return end;
}

/** @returns where the archive at `start` ends; undefined: it is none, or not for the early kernel. */
function earlyArchive(fd: number, start: number): number | undefined {
  const head = Buffer.alloc(NEWC_HEADER + 256);
  let isEarly = false;
  for (let at = start; at < start + EARLY_MAX; ) {
    const n = readSync(fd, head, 0, head.length, at);
    const text = head.toString('latin1', 0, n);
    if (n < NEWC_HEADER || !/^07070[12][0-9a-fA-F]{104}/.test(text)) return undefined;
    const field = (index: number): number =>
      Number.parseInt(text.slice(6 + index * 8, 14 + index * 8), 16);
    const nameSize = field(11);
    const name = text.slice(NEWC_HEADER, NEWC_HEADER + nameSize - 1).replace(/^\.?\//, '');
    const data = at + align4(NEWC_HEADER + nameSize);
    if (name === 'TRAILER!!!') return isEarly ? data : undefined;
    if (name.startsWith('kernel/')) isEarly = true;
    else if (name !== '.' && name !== '' && name !== 'kernel' && name !== 'early_cpio')
      return undefined;
    at = data + align4(field(6));
  }
  return undefined;
}

function zerosEnd(fd: number, from: number): number {
  const buffer = Buffer.alloc(4096);
  for (let at = from; ; ) {
    const n = readSync(fd, buffer, 0, buffer.length, at);
    for (let i = 0; i < n; i++) if (buffer[i] !== 0) return at + i;
    at += n;
    if (n === 0) return at;
  }
}

const align4 = (n: number): number => Math.ceil(n / 4) * 4;
