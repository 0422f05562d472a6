// A tree of files with sizes as systems have them, in memory, from a seed.
// For tests of layers; changed() gives the same tree with some of its files changed.

import { S } from '../../src/linux/constants.js';
import { add, makeNode, memoryContent, type TreeNode } from '../../src/tree/tree.js';

/** 32 bits at a time, from a seed. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    x = (x ^ (x >>> 15)) >>> 0;
    return x;
  };
}

const WORDS = ['mount', 'layer', 'upper', 'lower', 'chunk', 'inode', 'return', 'struct', 'const'];

/** Half text that compresses, half bytes that do not. */
function content(size: number, seed: number): Uint8Array {
  const next = random(seed);
  const out = Buffer.alloc(size);
  const text = Math.floor(size / 2);
  for (let at = 0; at < text; ) {
    at += out.write(`${WORDS[next() % WORDS.length]} ${next() % 4096}\n`, at);
  }
  for (let at = text; at + 4 <= size; at += 4) out.writeUInt32LE(next(), at);
  return out;
}

/** Bytes of file number `i`: most are small, few are large. */
function sizeOf(i: number, next: () => number): number {
  if (i % 97 === 0) return 300_000 + (next() % 400_000);
  if (i % 11 === 0) return 20_000 + (next() % 60_000);
  return next() % 9000;
}

export interface SampleOptions {
  readonly files: number;
  readonly seed?: number;
  /** Files that have other content (and another size) than without this: every so many. */
  readonly changedEvery?: number;
}

export function sampleTree({ files, seed = 1, changedEvery }: SampleOptions): TreeNode {
  const next = random(seed);
  const root = makeNode(S.IFDIR | 0o755);
  let dir = root;
  for (let i = 0; i < files; i++) {
    if (i % 40 === 0) {
      dir = makeNode(S.IFDIR | 0o755, { mtime: i });
      add(root, `dir-${i}`, dir);
    }
    const isChanged = changedEvery !== undefined && i % changedEvery === changedEvery - 1;
    const size = sizeOf(i, next) + (isChanged ? 5000 : 0);
    const bytes = content(size, next() + (isChanged ? 1 : 0));
    const node = makeNode(S.IFREG | 0o644, {
      size,
      mtime: 1_700_000_000,
      content: size === 0 ? undefined : memoryContent(bytes),
    });
    add(dir, `file-${i}`, node);
  }
  return root;
}
