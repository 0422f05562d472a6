// Invariant: whatever the bytes of an image are, reading it ends soon, throws nothing but ErofsError, and holds bounded memory.
// Images are the pinned vectors with a few fields changed; `main` of fuzz.test.ts runs it, seconds and seed by flag.
// Each bug that was found is a row of hostile.test.ts.

import { type ByteSource, MemorySource } from '../../src/bytes/source.js';
import { checkImage } from '../../src/erofs/check.js';
import { ErofsError } from '../../src/erofs/errors.js';
import { ErofsImage, type Inode } from '../../src/erofs/image.js';
import { generator } from './sample.js';

/** Values that checks forget: ends of ranges, sign bits, sizes of things. */
const VALUES = [
  0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 4095, 4096, 32767,
  32768, 65535, 65536, 0x7ff, 0x800, 0xfff, 0x100000, 0x7fffffff, 0x80000000, 0xfffffffe,
  0xffffffff,
];

const NAMES = ['text', 'names', '.', '..', 'zzz', 'a', '\xff\xfe'].map((name) =>
  Buffer.from(name, 'latin1'),
);
const READ = 64 * 1024;
const MOST_INODES = 400;

/** A changed copy of an image. */
export function mutate(image: Uint8Array, next: () => number): Uint8Array {
  const out = Uint8Array.from(image);
  const view = new DataView(out.buffer);
  const changes = 1 + (next() % 6);
  for (let i = 0; i < changes; i++) {
    // Half of the changes go to the superblock and what follows it, where the structures are.
    const span = next() % 2 === 0 ? Math.min(out.length, 4096) : out.length;
    let at = next() % span;
    if (span <= 4096 && at < 1024) at = Math.min(1024 + (at % 144), out.length - 8);
    const value = VALUES[next() % VALUES.length] as number;
    switch (next() % 6) {
      case 0:
        out[at] = (out[at] as number) ^ (1 << (next() % 8));
        break;
      case 1:
        out[at] = value;
        break;
      case 2:
        if (at + 2 <= out.length) view.setUint16(at & ~1, value & 0xffff, true);
        break;
      case 3:
        if ((at & ~3) + 4 <= out.length) view.setUint32(at & ~3, value, true);
        break;
      case 4: {
        const length = Math.min(1 + (next() % 64), out.length - at);
        out.copyWithin(at, next() % (out.length - length), out.length);
        break;
      }
      default: {
        const length = Math.min(1 + (next() % 32), out.length - at);
        for (let k = 0; k < length; k++) out[at + k] = next();
      }
    }
  }
  return next() % 16 === 0 ? out.subarray(0, next() % out.length) : out;
}

/**
 * Does everything with an image that a server or a command does.
 * @returns messages of the errors that were met. @throws what is not an ErofsError: a bug.
 */
export function exercise(source: ByteSource): string[] {
  const errors: string[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof ErofsError)) throw error;
      errors.push(error.message);
    }
  };
  attempt(() => {
    const image = ErofsImage.open(source);
    image.checksumMatches();
    const pending: Inode[] = [image.inode(image.rootNid)];
    const seen = new Set<number>();
    for (let dir = pending.pop(); dir !== undefined; dir = pending.pop()) {
      const folder = dir;
      attempt(() => {
        image.list(folder, (name, nid) => {
          if (seen.size >= MOST_INODES) return false;
          if (seen.has(nid)) return true;
          seen.add(nid);
          attempt(() => {
            const inode = image.inode(nid);
            touch(image, inode, attempt);
            if ((inode.mode & 0o170000) === 0o040000) pending.push(inode);
          });
          attempt(() => image.lookup(folder, Uint8Array.from(name)));
          return true;
        });
      });
      for (const name of NAMES) attempt(() => image.lookup(folder, name));
    }
    let left = 2000;
    for (const problem of checkImage(image)) {
      errors.push(problem.message);
      if (problem.structure === 'image') throw new Error(`not named: ${problem.message}`);
      if (--left === 0) break;
    }
  });
  return errors;
}

const out = new Uint8Array(READ);

function touch(image: ErofsImage, inode: Inode, attempt: (work: () => void) => void): void {
  attempt(() => image.ino(inode.nid));
  attempt(() => image.getxattr(inode, 'user.shared'));
  attempt(() => image.listxattr(inode));
  attempt(() => image.xattrs(inode));
  if ((inode.mode & 0o170000) === 0o120000) attempt(() => image.readlink(inode));
  attempt(() => image.read(inode, out, 0));
  attempt(() => image.read(inode, out.subarray(0, 1000), Math.floor(inode.size / 3)));
  attempt(() => image.read(inode, out, Math.max(0, inode.size - 5000)));
  attempt(() => {
    let left = 1000;
    for (const extent of image.extents(inode)) {
      if (extent.length <= 0 || --left === 0) break;
    }
  });
}

/** What a run of the target found. */
export interface FuzzResult {
  readonly runs: number;
  /** Runs without any error: changes that were not seen. */
  readonly unseen: number;
}

export interface FuzzOptions {
  /** It ends with the time or with the images, whichever comes first. */
  readonly seconds: number;
  readonly images: number;
  readonly seed: number;
  /** Milliseconds that one image may take. */
  readonly patience: number;
  /** Bytes of buffers that may be held. */
  readonly memory: number;
}

/** @throws Error that names image and seed of the run that broke the invariant. */
export function fuzz(images: ReadonlyMap<string, Uint8Array>, options: FuzzOptions): FuzzResult {
  const list = [...images];
  const end = Date.now() + options.seconds * 1000;
  let runs = 0;
  let unseen = 0;
  for (; runs < options.images && Date.now() < end; runs++) {
    const seed = (options.seed + runs) >>> 0;
    const next = generator(seed);
    const [name, bytes] = list[next() % list.length] as [string, Uint8Array];
    const start = performance.now();
    try {
      if (exercise(new MemorySource(mutate(bytes, next))).length === 0) unseen++;
    } catch (error) {
      throw new Error(`image ${name}, seed ${seed}: ${(error as Error).stack}`, { cause: error });
    }
    const took = performance.now() - start;
    if (took > options.patience) {
      throw new Error(`image ${name}, seed ${seed}: took ${Math.round(took)} ms`);
    }
    const held = process.memoryUsage().arrayBuffers;
    if (held > options.memory) throw new Error(`image ${name}, seed ${seed}: holds ${held} bytes`);
  }
  return { runs, unseen };
}
