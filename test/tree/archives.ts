// What the tests of archives share: a folder with one of everything, headers by hand, reading from files and pipes.
// Used by test/tree/{tar,cpio}.test.ts.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import type { ArchiveOptions } from '../../src/tree/archive-input.js';
import type { SourceTree, TreeNode } from '../../src/tree/tree.js';
import { dir, file, makeTree, type Tree } from '../layer/tree.js';
import { AT, must, O, sys } from '../support/sys.js';

type Read = (fd: number, options?: ArchiveOptions) => SourceTree;

/** Reads an archive, hands over the tree, closes both. */
export function withArchive<T>(
  read: Read,
  source: string | Uint8Array,
  folder: string,
  use: (root: TreeNode) => T,
): T {
  const path = typeof source === 'string' ? source : join(folder, 'archive');
  if (typeof source !== 'string') fs.writeFileSync(path, source);
  const fd = fs.openSync(path, 'r');
  try {
    const tree = read(fd, { name: 'archive', spoolFolder: folder });
    try {
      return use(tree.root);
    } finally {
      tree.close();
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** As withArchive(), through a pipe: a fifo whose writer is another process. */
export function withPipe<T>(
  read: Read,
  path: string,
  folder: string,
  use: (root: TreeNode) => T,
): T {
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  execFileSync('sh', ['-c', 'cat "$0" > "$1" &', path, fifo], { stdio: 'ignore' });
  try {
    return withArchive(read, fifo, folder, use);
  } finally {
    fs.unlinkSync(fifo);
  }
}

/** The whole content of a regular file, latin1. */
export function contentOf(node: TreeNode | undefined): string {
  const opened = node?.content?.open();
  if (node === undefined || opened === undefined) return '';
  try {
    const out = Buffer.alloc(node.size);
    opened.read(0, out);
    return out.toString('latin1');
  } finally {
    opened.close();
  }
}

const long = (length: number) => 'long-name-'.repeat(length / 10);

/** One of everything that an archive can hold; needs root for owners and devices. */
export function makeEverything(path: string, more: Tree = {}): void {
  makeTree(path, {
    plain: file('hello, world\n', { mode: 0o640, uid: 12, gid: 34, mtime: [1_600_000_000, 0] }),
    empty: file('', { mode: 0o600 }),
    [`${long(200)}/${long(150)}`]: file('deep'),
    [long(90)]: file('x'),
    setuid: file('#!', { mode: 0o4755, uid: 1000 }),
    'sub dir': dir({ mode: 0o1777, gid: 5 }),
    'sub dir/link': { type: 'symlink', data: '../plain' },
    'sub dir/long link': { type: 'symlink', data: `${long(150)}/x` },
    'a-hard': file('linked'),
    'z-hard': { type: 'link', data: 'a-hard' },
    fifo: { type: 'fifo', mode: 0o600 },
    'new\nline \\ "quotes"': file('q'),
    ...more,
  });
  const fd = must(sys.open(AT.FDCWD, path, O.DIRECTORY));
  must(sys.mknod(fd, 'chr', 0o020600, 0x0507));
  must(sys.mknod(fd, 'blk', 0o060600, 0x10_0803));
  sys.close(fd);
  const sparse = fs.openSync(join(path, 'sparse'), 'w');
  for (let i = 0; i < 40; i++) fs.writeSync(sparse, `data ${i}`, 1_000_000 * i);
  fs.ftruncateSync(sparse, 60_000_000);
  fs.closeSync(sparse);
}
