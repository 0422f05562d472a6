// What differs between two trees, as data: one record a path and aspect.
// Used by tests (source against image, image against mount) and by reports; content is compared byte by byte.
// Both trees are walked together in byte order, so that memory does not grow with their size.

import { S } from '../linux/constants.js';
import { dataOfEither, type OpenContent, show, sortedNames, type TreeNode } from './tree.js';

/** What can differ. `names`: which other names a hard-linked file has. */
export type Aspect =
  | 'missing'
  | 'extra'
  | 'type'
  | 'mode'
  | 'owner'
  | 'time'
  | 'device'
  | 'size'
  | 'target'
  | 'xattr'
  | 'names'
  | 'backing'
  | 'digest'
  | 'content';

export interface Difference {
  /** From the root, with a leading slash; latin1. */
  readonly path: string;
  readonly aspect: Aspect;
  /** For people: the values on both sides. */
  readonly detail: string;
}

export interface CompareOptions {
  /** Aspects that are not looked at. */
  readonly ignore?: readonly Aspect[];
  /** xattrs that are not looked at, by full name. */
  readonly ignoreXattr?: (name: string) => boolean;
  /** Differences after which comparing ends; default 1000. */
  readonly limit?: number;
}

const CHUNK = 256 * 1024;

/**
 * Compares `actual` with `expected`. What only one side has is reported once, without what is below it.
 * @returns differences in byte order of the paths; empty when the trees are equal. @throws the error of a content.
 */
export function compareTrees(
  expected: TreeNode,
  actual: TreeNode,
  options: CompareOptions = {},
): Difference[] {
  return new Comparison(options).run(expected, actual);
}

/** One line a difference, or `undefined`: for assertion messages. */
export function showDifferences(differences: readonly Difference[]): string {
  return differences
    .map(
      ({ path, aspect, detail }) => `${show(path)}: ${aspect}${detail === '' ? '' : `: ${detail}`}`,
    )
    .join('\n');
}

interface Level {
  readonly path: string;
  readonly expected: TreeNode;
  readonly actual: TreeNode;
  readonly names: readonly string[];
  next: number;
}

class Comparison {
  readonly #options: CompareOptions;
  readonly #limit: number;
  readonly #ignored: ReadonlySet<Aspect>;
  readonly #found: Difference[] = [];
  /** Hard-linked files of either side, and what they were compared with first. */
  readonly #partners = new Map<TreeNode, TreeNode>();

  constructor(options: CompareOptions) {
    this.#options = options;
    this.#limit = options.limit ?? 1000;
    this.#ignored = new Set(options.ignore);
  }

  run(expected: TreeNode, actual: TreeNode): Difference[] {
    const levels: Level[] = [];
    const enter = (path: string, a: TreeNode, b: TreeNode): void => {
      this.#node(path === '' ? '/' : path, a, b);
      if (a.entries === undefined || b.entries === undefined) return;
      const names = new Set([...sortedNames(a), ...sortedNames(b)]);
      levels.push({ path, expected: a, actual: b, names: [...names].sort(), next: 0 });
    };
    enter('', expected, actual);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      if (this.#found.length >= this.#limit) break;
      const name = level.names[level.next++];
      if (name === undefined) {
        levels.pop();
        continue;
      }
      const path = `${level.path}/${name}`;
      const a = level.expected.entries?.get(name);
      const b = level.actual.entries?.get(name);
      if (a !== undefined && b !== undefined) enter(path, a, b);
      else this.#add(path, a === undefined ? 'extra' : 'missing', '');
    }
    return this.#found;
  }

  #add(path: string, aspect: Aspect, detail: string): void {
    if (!this.#ignored.has(aspect)) this.#found.push({ path, aspect, detail });
  }

  #differ(path: string, aspect: Aspect, a: unknown, b: unknown): void {
    if (a !== b) this.#add(path, aspect, `expected ${text(a)}, is ${text(b)}`);
  }

  #node(path: string, a: TreeNode, b: TreeNode): void {
    const type = a.mode & S.IFMT;
    if (type !== (b.mode & S.IFMT)) {
      this.#add(path, 'type', `expected ${a.mode.toString(8)}, is ${b.mode.toString(8)}`);
      return;
    }
    if (a.entries === undefined && this.#isKnownPair(path, a, b)) return;
    this.#differ(path, 'mode', a.mode.toString(8), b.mode.toString(8));
    this.#differ(path, 'owner', `${a.uid}:${a.gid}`, `${b.uid}:${b.gid}`);
    this.#differ(path, 'time', `${a.mtime}.${a.mtimeNsec}`, `${b.mtime}.${b.mtimeNsec}`);
    if (type === S.IFCHR || type === S.IFBLK) this.#differ(path, 'device', a.rdev, b.rdev);
    this.#differ(path, 'target', a.target, b.target);
    this.#differ(path, 'backing', a.backing?.path, b.backing?.path);
    this.#differ(path, 'digest', a.digest, b.digest);
    this.#xattrs(path, a, b);
    if (type !== S.IFREG) return;
    this.#differ(path, 'size', a.size, b.size);
    if (a.size === b.size && a.size > 0 && !this.#ignored.has('content')) {
      this.#content(path, a, b);
    }
  }

  /** Whether two hard-linked files were compared under another name; says so when they were compared with others. */
  #isKnownPair(path: string, a: TreeNode, b: TreeNode): boolean {
    if (a.links < 2 && b.links < 2) return false;
    const partnerOfA = this.#partners.get(a);
    const partnerOfB = this.#partners.get(b);
    if (partnerOfA === b) return true;
    if (partnerOfA !== undefined || partnerOfB !== undefined) {
      this.#add(path, 'names', 'it is another file than under the names before');
      return false;
    }
    this.#differ(path, 'names', a.links, b.links);
    this.#partners.set(a, b);
    this.#partners.set(b, a);
    return false;
  }

  #xattrs(path: string, a: TreeNode, b: TreeNode): void {
    if (a.xattrs === b.xattrs) return;
    const names = new Set([...(a.xattrs?.keys() ?? []), ...(b.xattrs?.keys() ?? [])]);
    for (const name of [...names].sort()) {
      if (this.#options.ignoreXattr?.(name)) continue;
      const one = hex(a.xattrs?.get(name));
      const other = hex(b.xattrs?.get(name));
      if (one !== other) this.#differ(path, 'xattr', `${show(name)} ${one}`, other);
    }
  }

  #content(path: string, a: TreeNode, b: TreeNode): void {
    const one = a.content?.open();
    let other: OpenContent | undefined;
    try {
      other = b.content?.open();
      // Without content a file is a hole, unless its bytes are an object elsewhere.
      if (one === undefined && a.backing !== undefined) return;
      if (other === undefined && b.backing !== undefined) return;
      const at = firstDifference(one, other, a, b);
      if (at >= 0) this.#add(path, 'content', `first different byte at ${at} of ${a.size}`);
    } finally {
      one?.close();
      other?.close();
    }
  }
}

/** Position of the first byte that differs, or -1. An undefined side is all zeros; where both have holes nothing is read. */
function firstDifference(
  one: OpenContent | undefined,
  other: OpenContent | undefined,
  left: TreeNode,
  right: TreeNode,
): number {
  if (one === undefined && other === undefined) return -1;
  const a = Buffer.alloc(Math.min(CHUNK, left.size));
  const b = Buffer.alloc(a.length);
  for (const { at, length } of dataOfEither(left, right, CHUNK)) {
    one?.read(at, a.subarray(0, length));
    other?.read(at, b.subarray(0, length));
    if (a.compare(b, 0, length, 0, length) === 0) continue;
    let i = 0;
    while (a[i] === b[i]) i++;
    return at + i;
  }
  return -1;
}

/** Whole values, shortened for people only where they are long. */
function hex(value: Uint8Array | undefined): string {
  return value === undefined ? 'absent' : `0x${Buffer.from(value).toString('hex')}`;
}

function text(value: unknown): string {
  if (value === undefined) return 'none';
  const whole = typeof value === 'string' ? show(value).slice(1, -1) : String(value);
  return whole.length > 200 ? `${whole.slice(0, 200)}... (${whole.length} characters)` : whole;
}
