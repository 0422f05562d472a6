// Random trees, random edits of them on a mount and on a plain copy, and what a tree is as text: for the rebase campaign.
// Used by rebase-property.test.ts.
// Every file that is written gets bytes that no other has, so that nothing can be lost unnoticed.

import {
  appendFileSync,
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { scan } from '../../src/tree/scan.js';
import { type TreeNode, walk } from '../../src/tree/tree.js';
import type { Random } from '../oracle/random.js';

/** What may go wrong when somebody edits without looking. */
const EXPECTED = new Set([
  'ENOENT',
  'EEXIST',
  'ENOTEMPTY',
  'ENOTDIR',
  'EISDIR',
  'EINVAL',
  'EXDEV',
  'EPERM',
  'ELOOP',
  'ENXIO',
  'ERR_FS_EISDIR',
]);

/** Which names a side edits, and where. */
export interface Names {
  readonly folders: readonly string[];
  readonly own: readonly string[];
}

export class Editor {
  readonly #random: Random;
  readonly #names: Names;
  readonly #tag: string;
  #count = 0;

  constructor(random: Random, names: Names, tag: string) {
    this.#random = random;
    this.#names = names;
    this.#tag = tag;
  }

  /** A relative path whose last name this side owns. */
  path(): string {
    const parts: string[] = [];
    const { folders, own } = this.#names;
    for (let i = this.#random.below(3); i > 0; i--) {
      parts.push(this.#random.oneIn(3) ? this.#random.pick(own) : this.#random.pick(folders));
    }
    return [...parts, this.#random.pick(own)].join('/');
  }

  bytes(): string {
    return `${this.#tag}-${this.#count++}-${'x'.repeat(this.#random.below(40))}\n`;
  }

  /** One edit below `root`; says what it was. */
  edit(root: string): string {
    const path = this.path();
    const other = this.path();
    const at = join(root, path);
    const to = join(root, other);
    const [what, act] = this.#random.pick<[string, () => void]>([
      ['write', () => writeFileSync(at, this.bytes())],
      ['write', () => writeFileSync(at, this.bytes())],
      ['append', () => lstatSync(at).isFile() && appendFileSync(at, this.bytes())],
      ['truncate', () => lstatSync(at).isFile() && truncateSync(at, 3)],
      ['chmod', () => chmodSync(at, this.#random.pick([0o600, 0o640, 0o755, 0o711]))],
      ['chown', () => lchownSync(at, this.#random.below(4), this.#random.below(4))],
      ['touch', () => utimesSync(at, 1000 + this.#random.below(1000), 77)],
      ['remove', () => rmSync(at, { recursive: true })],
      ['unlink', () => unlinkSync(at)],
      ['mkdir', () => mkdirSync(at)],
      [
        'refill',
        () => {
          rmSync(at, { recursive: true });
          mkdirSync(at);
        },
      ],
      ['symlink', () => symlinkSync(this.bytes().trim(), at)],
      ['link', () => linkSync(to, at)],
      ['rename', () => renameSync(to, at)],
      ['rename', () => renameSync(to, at)],
      [
        'replace',
        () => {
          writeFileSync(join(root, '.new'), this.bytes());
          renameSync(join(root, '.new'), at);
        },
      ],
    ]);
    try {
      act();
    } catch (error) {
      rmSync(join(root, '.new'), { force: true });
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined || !EXPECTED.has(code)) throw error;
      return '';
    }
    return `${what} ${path} ${other}`;
  }

  /** A tree to begin with. */
  fill(root: string): void {
    for (let i = 0; i < 60; i++) {
      const path = this.path();
      try {
        mkdirSync(join(root, path, '..'), { recursive: true });
        if (this.#random.oneIn(5)) mkdirSync(join(root, path), { recursive: true });
        else if (this.#random.oneIn(8)) symlinkSync(this.bytes().trim(), join(root, path));
        else writeFileSync(join(root, path), this.bytes(), { flag: 'wx' });
        if (this.#random.oneIn(6)) linkSync(join(root, path), join(root, this.path()));
        if (this.#random.oneIn(4)) chownSync(join(root, path), 1, 2);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === undefined || !EXPECTED.has(code)) throw error;
      }
    }
  }
}

/** A tree as text: path to everything but times, and what files hold. */
export interface Told {
  readonly objects: ReadonlyMap<string, string>;
  /** Bytes of files and targets of symlinks. */
  readonly contents: ReadonlySet<string>;
}

export function tell(folder: string): Told {
  const tree = scan(folder);
  try {
    const objects = new Map<string, string>();
    const contents = new Set<string>();
    walk(tree.root, (path, node) => {
      const held = contentOf(node);
      if (held !== '') contents.add(held);
      const xattrs = [...(node.xattrs ?? [])].map(([name, value]) => `${name}=${hex(value)}`);
      const what = [node.mode.toString(8), node.uid, node.gid, xattrs.join(), held];
      objects.set(path.slice(1), what.join(' '));
    });
    return { objects, contents };
  } finally {
    tree.close();
  }
}

const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');

function contentOf(node: TreeNode): string {
  if (node.target !== undefined) return `-> ${node.target}`;
  if (node.content === undefined) return node.size === 0 ? '' : `hole ${node.size}`;
  const bytes = Buffer.alloc(node.size);
  const open = node.content.open();
  open.read(0, bytes);
  open.close();
  return bytes.toString('latin1');
}

/** The naive merge of three trees, path by path. @returns undefined where a path has been changed by both. */
export function naiveMerge(base: Told, ours: Told, theirs: Told): Map<string, string> | undefined {
  const merged = new Map<string, string>();
  const paths = new Set([...base.objects.keys(), ...ours.objects.keys(), ...theirs.objects.keys()]);
  for (const path of paths) {
    const [b, o, t] = [base, ours, theirs].map(({ objects }) => objects.get(path));
    if (o !== b && t !== b && o !== t) return undefined;
    const result = o === b ? t : o;
    if (result !== undefined) merged.set(path, result);
  }
  return merged;
}
