// SHA-256 and SHA-512 of many blocks of 4 KiB: what an fs-verity tree is made of.
// Called by store/verity.ts, on every thread that hashes; knows nothing of trees.
// Follows: openssl/sha.h 3.0 (SHA256_Init and so on), of the OpenSSL that Node itself carries; node:crypto without it.

import * as crypto from 'node:crypto';
import koffi from 'koffi';
import type { CCall } from './libc.js';
import { addressOf, allocate } from './native-memory.js';

export type ShaAlgorithm = 'sha256' | 'sha512';

/** Bytes of a digest. */
export const SHA_SIZE = { sha256: 32, sha512: 64 } as const;

/**
 * Hashes `count` runs of `length` bytes, the first at byte `from` of `bytes`, one behind the other; the digests go to
 * `out` from byte `at`, one behind the other.
 */
export type HashRuns = (
  bytes: Uint8Array,
  from: number,
  length: number,
  count: number,
  out: Uint8Array,
  at: number,
) => void;

/** Room for SHA256_CTX (112 bytes) and SHA512_CTX (216) in any OpenSSL, LibreSSL or BoringSSL. */
const CONTEXT_SIZE = 512;

const known = new Map<ShaAlgorithm, HashRuns>();

/** The fastest way of this process. */
export function shaRuns(algorithm: ShaAlgorithm): HashRuns {
  let runs = known.get(algorithm);
  if (runs === undefined) {
    runs = nativeRuns(algorithm) ?? nodeRuns(algorithm);
    known.set(algorithm, runs);
  }
  return runs;
}

/** By OpenSSL's own functions; undefined where Node does not show them, or where they do not work (FIPS). */
function nativeRuns(algorithm: ShaAlgorithm): HashRuns | undefined {
  const name = algorithm.toUpperCase();
  let init: CCall;
  let update: CCall;
  let final: CCall;
  try {
    const self = koffi.load(null);
    const declare = (prototype: string) => self.func(prototype) as unknown as CCall;
    init = declare(`int ${name}_Init(uint64_t context)`);
    update = declare(`int ${name}_Update(uint64_t context, uint64_t data, size_t length)`);
    final = declare(`int ${name}_Final(uint64_t out, uint64_t context)`);
  } catch {
    return undefined;
  }
  const context = allocate(CONTEXT_SIZE);
  const size = SHA_SIZE[algorithm];
  const runs: HashRuns = (bytes, from, length, count, out, at) => {
    if (from + count * length > bytes.length || at + count * size > out.length) {
      throw new RangeError(`${count} runs of ${length} bytes at ${from} of ${bytes.length}`);
    }
    const target = addressOf(out) + at;
    const source = addressOf(bytes) + from;
    for (let i = 0; i < count; i++) {
      init(context);
      update(context, source + i * length, length);
      final(target + i * size, context);
    }
  };
  const sample = Buffer.from('abc');
  const digest = Buffer.alloc(size);
  runs(sample, 0, sample.length, 1, digest, 0);
  return digest.equals(crypto.createHash(algorithm).update(sample).digest()) ? runs : undefined;
}

/** By node:crypto: 1.05 to 1.2 times as long for 4 KiB. */
function nodeRuns(algorithm: ShaAlgorithm): HashRuns {
  const size = SHA_SIZE[algorithm];
  return (bytes, from, length, count, out, at) => {
    for (let i = 0; i < count; i++) {
      const run = bytes.subarray(from + i * length, from + (i + 1) * length);
      out.set(crypto.createHash(algorithm).update(run).digest(), at + i * size);
    }
  };
}
