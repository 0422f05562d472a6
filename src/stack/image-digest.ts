// Digests that the user names for images: what the bytes must be before anything is mounted.
// Called by mount.ts for the FUSE server, and by kernel-images.ts, which gives the kernel only bytes that nobody else can change.
// `sha256:` of the whole file, as sha256sum(1) prints it, or `fsverity-sha256:` (sha512), as `fsverity digest` does.

import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { VerityHasher } from '../store/verity.js';
import { MountError, reasonOf } from './errors.js';
import { type ImageFiles, imagesOf } from './images.js';

const CHUNK = 1024 * 1024;

/** Images and further devices of a mount, and what they may be. */
export interface DigestedFiles extends ImageFiles {
  readonly digests: readonly string[];
}

/**
 * Checks every image and further device of a mount, when digests are named at all; layers of an image store are layer-digest.ts's.
 * @throws MountError of kind `layer` that names the first file which is something else.
 */
export function requireDigests(files: DigestedFiles): void {
  if (files.digests.length === 0) return;
  for (const path of [...imagesOf(files), ...files.devices]) {
    const fd = openSync(path, 'r');
    try {
      requireDigest(fd, path, files.digests);
    } finally {
      closeSync(fd);
    }
  }
}

/**
 * Reads an opened file to its end.
 * @param path for the message. @param copy descriptor that receives the bytes too.
 * @throws MountError of kind `layer` when its digest is none of `digests`, or it cannot be read or copied.
 */
export function requireDigest(
  fd: number,
  path: string,
  digests: readonly string[],
  copy?: number,
): void {
  const kinds = [...new Set(digests.map(kindOf))];
  requireNamed(digestsOf(fd, path, kinds, copy), path, digests);
}

/**
 * What a named digest means as an fs-verity digest, which whoever reads the image can compare piece by piece.
 * @returns hex, of SHA-256 or SHA-512 as it is named; of SHA-256 where the digest is of another kind. @throws MountError as requireDigest().
 */
export function verityDigestOf(path: string, digest: string): string {
  const at = digest.indexOf(':') + 1;
  if (kindOf(digest) !== 'sha256') return digest.slice(at);
  const fd = openSync(path, 'r');
  try {
    const found = digestsOf(fd, path, ['sha256', VERITY], undefined);
    requireNamed(found.slice(0, 1), path, [digest]);
    return (found[1] as string).slice(VERITY.length + 1);
  } finally {
    closeSync(fd);
  }
}

function requireNamed(found: readonly string[], path: string, digests: readonly string[]): void {
  if (found.some((digest) => digests.includes(digest))) return;
  const named = digests.length === 1 ? 'not the one that is named' : 'none of those that are named';
  throw new MountError(
    'layer',
    `digest: ${path} has ${found.join(' and ')}, ${named}: it is another file, or was changed`,
  );
}

const VERITY = 'fsverity-sha256';

/** `sha256` of `sha256:HEX`. */
const kindOf = (digest: string): string => digest.slice(0, digest.indexOf(':'));

/** Takes the bytes of a file in order. */
interface Hasher {
  update(bytes: Uint8Array): unknown;
  digest(): Buffer;
}

function hasherOf(kind: string): Hasher {
  if (kind === 'sha256') return createHash('sha256');
  return new VerityHasher(kind === 'fsverity-sha512' ? 'sha512' : 'sha256');
}

/** Reads an opened file to its end, once for all kinds. */
function digestsOf(
  fd: number,
  path: string,
  kinds: readonly string[],
  copy: number | undefined,
): string[] {
  const hashers = kinds.map((kind) => ({ kind, hasher: hasherOf(kind) }));
  const chunk = new Uint8Array(CHUNK);
  try {
    for (let at = 0; ; ) {
      const n = readSync(fd, chunk, 0, CHUNK, at);
      if (n === 0) return hashers.map((h) => `${h.kind}:${h.hasher.digest().toString('hex')}`);
      const bytes = chunk.subarray(0, n);
      for (const { hasher } of hashers) hasher.update(bytes);
      for (let done = 0; copy !== undefined && done < n; ) done += writeSync(copy, bytes, done);
      at += n;
    }
  } catch (error) {
    const what = copy === undefined ? 'cannot be read' : 'cannot be copied';
    throw new MountError('layer', `${path}: ${what}: ${reasonOf(error)}`, { cause: error });
  }
}
