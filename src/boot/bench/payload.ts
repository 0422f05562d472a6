// What is in the initramfs of a bench: real files of this machine up to a size, or an initramfs that is given; with an init that reports.
// Called by run.ts; every variant is made of the same archive.
// Files are taken in an order that does not depend on the folder's: the same machine gives the same payload.

import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { requireRange } from '../../bytes/source.js';
import { S } from '../../linux/constants.js';
import { MountError, reasonOf } from '../../stack/errors.js';
import {
  add,
  type Content,
  find,
  makeNode,
  memoryContent,
  remove,
  type TreeNode,
  walk,
} from '../../tree/tree.js';
import { openInitramfs } from '../build/input.js';
import { needProgram } from '../run-tool.js';
import { BENCH_FOLDER, reportingInit } from './machine.js';

export interface Payload {
  /** For tables: `100 MB`, or the file's name. */
  readonly name: string;
  readonly root: TreeNode;
  /** Bytes of all its files. */
  readonly bytes: number;
  readonly files: number;
  close(): void;
}

/** Programs, libraries, drivers, fonts, texts: they compress like what an initramfs has. */
const SOURCES = ['/usr/lib', '/usr/bin', '/usr/sbin', '/usr/share'] as const;
/** Larger ones would make small payloads lopsided. */
const FILE_MAX = 8 * 1000 * 1000;

const DIR = S.IFDIR | 0o755;
const FILE = S.IFREG | 0o755;

/**
 * A payload of files of this machine.
 * @param bytes of all files together, which it keeps to within 1 %. @throws MountError of kind `layer` when there are not enough.
 */
export function madePayload(bytes: number, sources: readonly string[] = SOURCES): Payload {
  const root = makeNode(DIR);
  addReport(root);
  let left = bytes - totalOf(root).bytes;
  for (const file of regularFiles(sources)) {
    if (left < bytes / 100) break;
    if (file.size > Math.min(left, FILE_MAX) || file.size === 0) continue;
    put(root, file.path.slice(1), makeNode(FILE, { size: file.size, content: contentOf(file) }));
    left -= file.size;
  }
  if (left > Math.max(bytes / 100, 64_000)) {
    throw new MountError(
      'layer',
      `payload of ${bytes} bytes: ${sources.join(', ')} have ${left} bytes too few: ask for a smaller one`,
    );
  }
  return { name: megabytes(bytes), root, ...totalOf(root), close: () => {} };
}

/** An initramfs, whose init is put aside. @throws MountError of kind `layer` when it is none. */
export function givenPayload(path: string): Payload {
  const input = openInitramfs(path);
  const { root } = input;
  addReport(root);
  return {
    name: path.split('/').at(-1) as string,
    root,
    ...totalOf(root),
    close: () => input.close(),
  };
}

const megabytes = (bytes: number): string => `${Number((bytes / 1e6).toFixed(1))} MB`;

function addReport(root: TreeNode): void {
  const busybox = needProgram('busybox');
  const folder = makeNode(DIR);
  remove(root, BENCH_FOLDER);
  add(root, BENCH_FOLDER, folder);
  add(folder, 'proc', makeNode(DIR));
  const size = statSync(busybox).size;
  add(folder, 'busybox', makeNode(FILE, { size, content: contentOf({ path: busybox, size }) }));
  const shell = ['bin/sh', 'usr/bin/sh'].some((name) => find(root, name) !== undefined);
  const init = Buffer.from(reportingInit(shell ? '/bin/sh' : `/${BENCH_FOLDER}/busybox sh`));
  remove(root, 'init');
  add(root, 'init', makeNode(FILE, { size: init.length, content: memoryContent(init) }));
}

interface RegularFile {
  readonly path: string;
  readonly size: number;
}

/** Of each source in turn, in byte order of the paths; what cannot be read is passed over. */
function* regularFiles(sources: readonly string[]): Generator<RegularFile> {
  for (const source of sources) {
    let entries: { name: string; isFile(): boolean; isDirectory(): boolean }[];
    try {
      entries = readdirSync(source, { withFileTypes: true });
    } catch {
      continue;
    }
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(source, entry.name);
      if (entry.isDirectory()) yield* regularFiles([path]);
      else if (entry.isFile()) yield { path, size: statSync(path).size };
    }
  }
}

/** Gives `node` its path, and makes the folders on the way. */
function put(root: TreeNode, path: string, node: TreeNode): void {
  const names = path.split('/');
  const last = names.pop() as string;
  let folder = root;
  for (const name of names) {
    let next = folder.entries?.get(name);
    if (next === undefined) {
      next = makeNode(DIR);
      add(folder, name, next);
    }
    folder = next;
  }
  add(folder, last, node);
}

function contentOf({ path, size }: RegularFile): Content {
  return {
    open: () => {
      const fd = openFile(path);
      return {
        size,
        file: { fd, offset: 0 },
        read: (at, out) => {
          requireRange(at, out.length, size);
          if (readSync(fd, out, 0, out.length, at) !== out.length) {
            throw new MountError('busy', `${path}: has become shorter: measure again`);
          }
        },
        close: () => closeSync(fd),
      };
    },
  };
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new MountError('layer', `${path}: ${reasonOf(error)}: measure as root`, { cause: error });
  }
}

function totalOf(root: TreeNode): { bytes: number; files: number } {
  let bytes = 0;
  const seen = new Set<TreeNode>();
  walk(root, (_, node) => {
    if ((node.mode & S.IFMT) !== S.IFREG || seen.has(node)) return;
    seen.add(node);
    bytes += node.size;
  });
  return { bytes, files: seen.size };
}
