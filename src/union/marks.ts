// overlayfs's own xattrs on an object of a layer: what they say, and the attributes without them.
// Used by union.ts for lookups and by changes.ts; overlay/marks.ts is the same for a server, in shared memory.
// Follows: fs/overlayfs/{namei,util,xattrs}.c and "Nesting overlayfs mounts" in Documentation/filesystems/overlayfs.rst.

import { S } from '../linux/constants.js';
import { isWhiteout, type TreeNode } from '../tree/tree.js';
import type { Handle, MarkPrefix } from './view.js';

export interface Marks {
  /** y: hides what is below. x: may hold whiteouts in xattr form. */
  readonly opaque?: 'y' | 'x';
  /** Absolute path, or a name; latin1. */
  readonly redirect?: string;
  readonly metacopy: boolean;
  /** The lower object that this was copied from. */
  readonly origin?: Handle;
  /** Names that an indexed object has in the union, relative to the upper's or a lower's (`U+1`, `L-2`). */
  readonly nlink?: string;
  /** It is a whiteout in xattr form, where its directory says that there are some. */
  readonly whiteout: boolean;
}

const NONE: Marks = { metacopy: false, whiteout: false };

/** Bytes of struct ovl_fb before the handle: version, magic, len, flags, type, uuid[16]. */
const ORIGIN_HEADER = 21;
const ORIGIN_UUID = 5;
const ORIGIN_MAGIC = 0xfb;

/** fuse-overlayfs's opaque mark, which it writes beside or in place of the kernel's. */
const FUSE_OPAQUE = 'user.fuseoverlayfs.opaque';

const textOf = (value: Uint8Array): string => Buffer.from(value).toString('latin1');

/** The marks of an object. */
export function marksOf(node: TreeNode, prefix: MarkPrefix): Marks {
  const { xattrs } = node;
  if (xattrs === undefined) return NONE;
  const value = (name: string): Uint8Array | undefined => xattrs.get(prefix + name);
  const opaque = value('opaque');
  const isOpaque =
    (opaque !== undefined && textOf(opaque) === 'y') ||
    (prefix === 'user.overlay.' && xattrs.has(FUSE_OPAQUE));
  const redirect = value('redirect');
  const nlink = value('nlink');
  return {
    opaque: isOpaque ? 'y' : opaque !== undefined && textOf(opaque) === 'x' ? 'x' : undefined,
    redirect: redirect === undefined ? undefined : textOf(redirect).replace(/\0+$/, ''),
    metacopy: (node.mode & S.IFMT) === S.IFREG && value('metacopy') !== undefined,
    origin: originOf(value('origin')),
    nlink: nlink === undefined ? undefined : textOf(nlink),
    whiteout: isWhiteoutFile(node) && value('whiteout') !== undefined,
  };
}

function isWhiteoutFile(node: TreeNode): boolean {
  return (node.mode & S.IFMT) === S.IFREG && node.size === 0;
}

/** What the struct ovl_fb of an origin mark, or of an index entry's name, says. */
export function originOf(value: Uint8Array | undefined): Handle | undefined {
  if (value === undefined || value.length <= ORIGIN_HEADER || value[1] !== ORIGIN_MAGIC) {
    return undefined;
  }
  const uuid = value.subarray(ORIGIN_UUID, ORIGIN_HEADER);
  return { type: value[4] as number, bytes: value.subarray(ORIGIN_HEADER), uuid };
}

/** Whether an object hides its name. @param inHiding its directory says that whiteouts in xattr form are there. */
export function hides(node: TreeNode, marks: Marks, inHiding: boolean): boolean {
  return isWhiteout(node) || (inHiding && marks.whiteout);
}

const stripped = new WeakMap<
  ReadonlyMap<string, Uint8Array>,
  ReadonlyMap<string, Uint8Array> | undefined
>();

/** The attributes as the union shows them: marks left out, one escape (`overlay.overlay.X`) undone. */
export function withoutMarks(
  xattrs: ReadonlyMap<string, Uint8Array> | undefined,
  prefix: MarkPrefix,
): ReadonlyMap<string, Uint8Array> | undefined {
  if (xattrs === undefined) return undefined;
  if (stripped.has(xattrs)) return stripped.get(xattrs);
  const shown = new Map<string, Uint8Array>();
  const escaped = `${prefix}overlay.`;
  for (const [name, value] of xattrs) {
    if (name.startsWith(escaped)) shown.set(prefix + name.slice(escaped.length), value);
    else if (!name.startsWith(prefix) && name !== FUSE_OPAQUE) shown.set(name, value);
  }
  const result = shown.size === 0 ? undefined : new Map([...shown].sort(byName));
  stripped.set(xattrs, result);
  return result;
}

/** The way back: attributes of a union as a layer has to hold them. */
export function escaped(
  xattrs: ReadonlyMap<string, Uint8Array> | undefined,
  prefix: MarkPrefix,
): ReadonlyMap<string, Uint8Array> | undefined {
  if (xattrs === undefined || ![...xattrs.keys()].some((name) => name.startsWith(prefix))) {
    return xattrs;
  }
  const stored = [...xattrs].map(([name, value]): [string, Uint8Array] => [
    name.startsWith(prefix) ? `${prefix}overlay.${name.slice(prefix.length)}` : name,
    value,
  ]);
  return new Map(stored.sort(byName));
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
