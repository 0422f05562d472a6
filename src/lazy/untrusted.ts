// What is taken from a registry for metadata: small blobs whole, zstd frames to memory or to a file, each with its limit.
// Used by pull/, push/, tar/ and podman/; content is fetched chunk by chunk instead (load/).
// Untrusted by nature: sizes are checked before memory is taken, and a frame that says nothing of its size is refused.

import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { zstdDecompress } from '../linux/codecs.js';
import { addressOf, allocate, copyNative, nativeBytes, release } from '../linux/native-memory.js';
import { openDecoder, StreamError } from '../linux/stream-codecs.js';
import { zstdContentSize } from '../linux/zstd-frame.js';
import { RegistryError } from '../oci/errors.js';
import type { Descriptor } from '../oci/manifest.js';
import type { Reference } from '../oci/reference.js';
import type { Registry } from '../oci/registry.js';

/** Bytes of a metadata image, of a chunk table, of a configuration and of a list of first uses. */
export const LIMITS = {
  meta: 2 ** 31,
  chunks: 2 ** 30,
  config: 2 ** 22,
  order: 2 ** 28,
} as const;

/** A compressed table or image is read into memory up to this many bytes. */
const MOST_COMPRESSED = 2 ** 30;

/** A blob in memory, its digest verified. @throws RegistryError `limit` when it is larger than `most`. */
export async function fetchWhole(
  registry: Registry,
  ref: Reference,
  descriptor: Descriptor,
  most: number,
): Promise<Uint8Array> {
  if (descriptor.size > most) throw tooLarge(ref, descriptor, descriptor.size, most);
  const out = new Uint8Array(descriptor.size);
  let at = 0;
  for await (const piece of await registry.blob(ref, descriptor)) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

/** A blob that is one zstd frame, decompressed. @throws RegistryError `limit`, or `wrong` when it is none. */
export async function fetchFrame(
  registry: Registry,
  ref: Reference,
  descriptor: Descriptor,
  most: number,
): Promise<Uint8Array> {
  const frame = await fetchWhole(registry, ref, descriptor, MOST_COMPRESSED);
  const size = zstdContentSize(frame);
  if (size === undefined) throw wrong(ref, descriptor, 'is no zstd frame that says its size');
  if (size > most) throw tooLarge(ref, descriptor, size, most);
  const out = new Uint8Array(size);
  if (!zstdDecompress(frame, 0, frame.length, out, 0, size, false)) {
    throw wrong(ref, descriptor, 'is no zstd frame of the size that it says');
  }
  return out;
}

/** Bytes of output that are written at a time. */
const PART = 1 << 20;
/** Pieces of input that come at once: more than a connection gives. */
const INPUT = 1 << 20;

/**
 * As fetchFrame(), to a new file at `path`, synced.
 * @returns SHA-256 of the content.
 */
export async function fetchFrameTo(
  registry: Registry,
  ref: Reference,
  descriptor: Descriptor,
  most: number,
  path: string,
): Promise<Uint8Array> {
  const fd = openSync(path, 'wx', 0o644);
  const input = allocate(INPUT);
  const output = allocate(PART);
  const out = nativeBytes(output, PART);
  const decoder = openDecoder('zstd', new Uint8Array(0));
  const hash = createHash('sha256');
  let written = 0;
  const give = (n: number): void => {
    if (written + n > most) throw tooLarge(ref, descriptor, written + n, most);
    hash.update(out.subarray(0, n));
    for (let done = 0; done < n; ) done += writeSync(fd, out, done, n - done, written + done);
    written += n;
  };
  try {
    for await (const piece of await registry.blob(ref, descriptor)) {
      for (let from = 0; from < piece.length; from += INPUT) {
        const n = Math.min(INPUT, piece.length - from);
        copyNative(input, addressOf(piece) + from, n);
        for (let taken = 0; taken < n || decoder.produced === PART; ) {
          if (decoder.ended) {
            if (taken < n) throw new StreamError('something follows the zstd frame');
            break;
          }
          decoder.step(input + taken, n - taken, output, PART);
          taken += decoder.consumed;
          give(decoder.produced);
        }
      }
    }
    if (!decoder.ended) throw new StreamError('the zstd frame has no end');
    fsyncSync(fd);
    return hash.digest();
  } catch (error) {
    if (error instanceof StreamError) throw wrong(ref, descriptor, error.message);
    throw error;
  } finally {
    closeSync(fd);
    decoder.close();
    release(input, INPUT);
    release(output, PART);
  }
}

const nameOf = (ref: Reference, { digest }: Descriptor): string =>
  `blob ${digest} of ${ref.registry}/${ref.repository}`;

function tooLarge(ref: Reference, descriptor: Descriptor, size: number, most: number): Error {
  return new RegistryError(
    'limit',
    `${nameOf(ref, descriptor)}: ${size} bytes (${descriptor.mediaType}), at most ${most} are taken`,
  );
}

/** What a registry gave is not what it should be. */
export function wrong(ref: Reference, descriptor: Descriptor, what: string): Error {
  return new RegistryError('wrong', `${nameOf(ref, descriptor)}: ${what}`);
}
