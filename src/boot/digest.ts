// SHA-256 of files and of ranges, as boot.json and initoverlayfs.conf have it.
// Called by everything in boot/ that writes or compares digests.
// The hash itself is bytes/digest.ts.

import { statSync } from 'node:fs';
import { sha256Of } from '../bytes/digest.js';
import type { ByteSource } from '../bytes/source.js';
import { FileSource } from '../linux/file-source.js';

/** Lower-case hex. */
export function digestOf(source: ByteSource): string {
  return sha256Of(source, source.size).toString('hex');
}

/** @returns bytes and digest. @throws the error of open(2) or pread(2). */
export function digestOfFile(path: string): { size: number; sha256: string } {
  const source = FileSource.open(path);
  try {
    return { size: source.size, sha256: digestOf(source) };
  } finally {
    source.close();
  }
}

/** SHA-256 of a file, hex; undefined: there is none. @throws the error of open(2) or pread(2). */
export function digestIfThere(path: string): string | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  return digestOfFile(path).sha256;
}
