// The changes of a stack as one document: what `varve diff --json` prints and the HTML page shows.
// Made of union's Change records; version 1 of its form, described in docs/diff.md.
// Everything is Unicode here: `path` is for reading, `pathBytes` (base64) is there where the path is no UTF-8.

import { S } from '../linux/constants.js';
import type { TreeNode } from '../tree/tree.js';
import type { Change, Differs, Status } from '../union/change.js';
import { readable } from './readable.js';

export type ObjectType = 'file' | 'directory' | 'symlink' | 'device' | 'fifo' | 'socket';

/** Something as it was and as it is; one side is missing where the object was not there. */
export interface Sides<T> {
  readonly before?: T;
  readonly after?: T;
}

/** An extended attribute that is another one now; values in base64. */
export interface XattrChange extends Sides<string> {
  readonly name: string;
}

export interface ChangeEntry {
  /** Without a leading slash; `` is the root. */
  readonly path: string;
  readonly pathBytes?: string;
  readonly status: Status;
  readonly from?: string;
  readonly fromBytes?: string;
  /** As it is now; of a deletion: as it was. */
  readonly type: ObjectType;
  /** Of status T. */
  readonly typeBefore?: ObjectType;
  /** What differs, of an object that was there before. */
  readonly what: readonly (keyof Differs)[];
  /** Bytes, of files. */
  readonly size?: Sides<number>;
  /** Permissions, four octal digits. */
  readonly mode?: Sides<string>;
  /** uid and gid. */
  readonly owner?: Sides<readonly [number, number]>;
  /** mtime, ISO 8601 in UTC with nanoseconds; where it differs. */
  readonly time?: Sides<string>;
  /** Of symlinks; what is no UTF-8 is escaped as in `path`. */
  readonly target?: Sides<string>;
  /** `b 8:1` or `c 8:1`. */
  readonly device?: Sides<string>;
  readonly xattrs?: readonly XattrChange[];
  /** The first path of the same object, for every further hard-linked name. */
  readonly link?: string;
  readonly linkBytes?: string;
  readonly opaque?: boolean;
  /** Whether its content is no text; absent where nobody has looked. */
  readonly binary?: boolean;
  readonly bytesInUpper: number;
}

export interface Summary {
  readonly added: number;
  readonly modified: number;
  readonly deleted: number;
  readonly renamed: number;
  readonly typeChanged: number;
  /** In the upper, and equal to what it hides but for its mtime, or hiding nothing; directories are not counted. */
  readonly identical: number;
  /** What these take in the upper. */
  readonly identicalBytes: number;
  /** Sizes of files that are new, and what others have grown by; a hard-linked file counts once. */
  readonly bytesAdded: number;
  /** What everything takes in the upper. */
  readonly bytesStored: number;
}

export interface StackNames {
  /** Topmost first, as the options name them. */
  readonly lowerdirs: readonly string[];
  readonly upperdir: string;
}

export interface DiffDocument {
  readonly version: 1;
  readonly stack: StackNames;
  readonly summary: Summary;
  readonly changes: readonly ChangeEntry[];
}

/** @param about the stack's directories, as text. */
export function documentOf(changes: readonly Change[], about: StackNames): DiffDocument {
  return {
    version: 1,
    stack: { lowerdirs: [...about.lowerdirs], upperdir: about.upperdir },
    summary: summaryOf(changes),
    changes: changes.map(entryOf),
  };
}

export function summaryOf(changes: readonly Change[]): Summary {
  const counts: Record<Status, number> = { A: 0, M: 0, D: 0, R: 0, T: 0, '=': 0 };
  let identicalBytes = 0;
  let bytesAdded = 0;
  let bytesStored = 0;
  for (const change of changes) {
    const isIdentical = change.status === '=';
    // A directory is in the upper because of what is in it.
    if (!isIdentical || change.after?.entries === undefined) counts[change.status]++;
    bytesStored += change.stored;
    if (isIdentical) identicalBytes += change.stored;
    else if (change.link === undefined) {
      bytesAdded += Math.max(0, fileSize(change.after) - fileSize(change.before));
    }
  }
  return {
    added: counts.A,
    modified: counts.M,
    deleted: counts.D,
    renamed: counts.R,
    typeChanged: counts.T,
    identical: counts['='],
    identicalBytes,
    bytesAdded,
    bytesStored,
  };
}

/** One change as it stands in the document. */
export function entryOf(change: Change): ChangeEntry {
  const { before, after, status } = change;
  const node = after ?? before;
  const path = readable(change.path);
  const from = change.from === undefined ? undefined : readable(change.from);
  const link = change.link === undefined ? undefined : readable(change.link);
  // Neither: a whiteout of nothing.
  const type = node === undefined ? 'device' : typeOf(node);
  const sides = <T>(value: (of: TreeNode) => T | undefined): Sides<T> | undefined => {
    const was = before === undefined ? undefined : value(before);
    const is = after === undefined ? undefined : value(after);
    return was === undefined && is === undefined ? undefined : { before: was, after: is };
  };
  // Absent values are left out by JSON.stringify.
  return {
    path: path.text,
    pathBytes: path.bytes,
    status,
    from: from?.text,
    fromBytes: from?.bytes,
    type,
    typeBefore: status === 'T' && before !== undefined ? typeOf(before) : undefined,
    what: ASPECTS.filter((aspect) => change.differs[aspect]),
    size: sides((of) => (isFile(of) ? of.size : undefined)),
    mode: sides((of) =>
      (of.mode & S.IFMT) === S.IFLNK ? undefined : (of.mode & 0o7777).toString(8).padStart(4, '0'),
    ),
    owner: sides((of) => [of.uid, of.gid] as const),
    time: change.differs.time ? sides(timeText) : undefined,
    target: sides((of) => (of.target === undefined ? undefined : readable(of.target).text)),
    device: sides(deviceText),
    xattrs: xattrChanges(before, after),
    link: link?.text,
    linkBytes: link?.bytes,
    opaque: change.opaque,
    bytesInUpper: change.stored,
  };
}

const ASPECTS = ['content', 'mode', 'owner', 'xattr', 'time'] as const;

const TYPES: Readonly<Record<number, ObjectType>> = {
  [S.IFREG]: 'file',
  [S.IFDIR]: 'directory',
  [S.IFLNK]: 'symlink',
  [S.IFCHR]: 'device',
  [S.IFBLK]: 'device',
  [S.IFIFO]: 'fifo',
  [S.IFSOCK]: 'socket',
};

function typeOf(node: TreeNode): ObjectType {
  return TYPES[node.mode & S.IFMT] ?? 'file';
}

function isFile(node: TreeNode): boolean {
  return (node.mode & S.IFMT) === S.IFREG;
}

function fileSize(node: TreeNode | undefined): number {
  return node !== undefined && isFile(node) ? node.size : 0;
}

/** `2026-01-31T12:00:00.000000001Z`; seconds that no Date can hold as `@SECONDS`. */
function timeText(node: TreeNode): string {
  const date = new Date(node.mtime * 1000);
  if (Number.isNaN(date.getTime())) return `@${node.mtime}`;
  return date.toISOString().replace(/\.\d+Z$/, `.${String(node.mtimeNsec).padStart(9, '0')}Z`);
}

/** rdev is in the kernel's new_encode_dev() form: minor low 8 bits, major 12 bits, minor high 12 bits. */
function deviceText(node: TreeNode): string | undefined {
  const type = node.mode & S.IFMT;
  if (type !== S.IFCHR && type !== S.IFBLK) return undefined;
  const major = (node.rdev >>> 8) & 0xfff;
  const minor = (node.rdev & 0xff) | ((node.rdev >>> 12) & 0xfff00);
  return `${type === S.IFBLK ? 'b' : 'c'} ${major}:${minor}`;
}

function xattrChanges(
  before: TreeNode | undefined,
  after: TreeNode | undefined,
): XattrChange[] | undefined {
  const names = new Set([...(before?.xattrs?.keys() ?? []), ...(after?.xattrs?.keys() ?? [])]);
  const changes: XattrChange[] = [];
  for (const name of [...names].sort()) {
    const was = base64(before?.xattrs?.get(name));
    const is = base64(after?.xattrs?.get(name));
    if (was !== is) changes.push({ name: readable(name).text, before: was, after: is });
  }
  return changes.length === 0 ? undefined : changes;
}

function base64(value: Uint8Array | undefined): string | undefined {
  return value === undefined ? undefined : Buffer.from(value).toString('base64');
}
