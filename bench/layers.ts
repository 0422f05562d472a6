// Makes the trees that the benchmark stacks: two lower layers and an upper, and one big file.
// Called by runner.ts before a case; client.ts asks it for the same names, so both sides agree without a list on disk.
// Follows: nothing; the shape of the trees is described in docs/benchmarks.md.

import { mkdirSync } from 'node:fs';
import { AT, O } from '../src/linux/constants.js';
import { close, ftruncate, openAt, write } from '../src/linux/files.js';
import { mapMemory, putBytes, SCRATCH_END, u8 } from '../src/linux/memory.js';

/** Files in every directory of a tree. */
export const FILES_PER_DIR = 100;

/** Bytes of a small file: one page. */
export const SMALL_FILE = 4096;

/** Which layer owns a file of the tree. */
export type Owner = 'lower-a' | 'lower-b' | 'upper';

/** `d007`, the name of the n-th directory; every layer has all of them, so all are merged. */
export function dirName(n: number): string {
  return `d${String(n).padStart(3, '0')}`;
}

/** `d007/f0042`, the path of the n-th file. */
export function filePath(n: number, filesPerDir = FILES_PER_DIR): string {
  const name = `f${String(n % filesPerDir).padStart(4, '0')}`;
  return `${dirName(Math.floor(n / filesPerDir))}/${name}`;
}

/** One file in ten lies in the upper, the others alternate between the two lowers. */
export function ownerOf(n: number): Owner {
  if (n % 10 === 0) return 'upper';
  return n % 2 === 0 ? 'lower-a' : 'lower-b';
}

// The arena above the scratch pages belongs to nobody in this process.
const PATH_AT = SCRATCH_END;
const DATA_AT = SCRATCH_END + 64 * 1024;
const CHUNK = 1024 * 1024;

/** Creates `path` with `bytes` bytes that are not zeros. @throws Error with the errno. */
export function makeFile(path: string, bytes: number): void {
  mapMemory();
  putBytes(PATH_AT, path);
  const fd = openAt(AT.FDCWD, PATH_AT, O.WRONLY | O.CREAT | O.TRUNC, 0o644);
  if (fd < 0) throw new Error(`cannot create ${path}: errno ${-fd}`);
  if (bytes > 0 && u8[DATA_AT] === 0) u8.fill(0x61, DATA_AT, DATA_AT + CHUNK);
  for (let left = bytes; left > 0; ) {
    const n = write(fd, DATA_AT, Math.min(left, CHUNK));
    if (n <= 0) throw new Error(`cannot write ${path}: errno ${-n}`);
    left -= n;
  }
  if (bytes === 0) ftruncate(fd, 0);
  close(fd);
}

/** Makes the directories of `count` files under `root`, and those files of `owner`. */
export function makeLayer(root: string, owner: Owner, count: number): void {
  for (let d = 0; d * FILES_PER_DIR < count; d++) {
    mkdirSync(`${root}/${dirName(d)}`, { recursive: true });
  }
  for (let n = 0; n < count; n++) {
    if (ownerOf(n) === owner) makeFile(`${root}/${filePath(n)}`, SMALL_FILE);
  }
}

/** Makes a layer of `count` empty files, a thousand a directory; two layers split them by parity. */
export function makeWideLayer(root: string, parity: 0 | 1, count: number): void {
  for (let d = 0; d * 1000 < count; d++) mkdirSync(`${root}/${dirName(d)}`, { recursive: true });
  for (let n = parity; n < count; n += 2) makeFile(`${root}/${filePath(n, 1000)}`, 0);
}
