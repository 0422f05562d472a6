// Three versions of one object become one, aspect by aspect: what only one side has changed is that side's.
// Asked by plan.ts for objects of one type; decides nothing about whether an object exists.
// The table of decisions: docs/rebase.md.

import { readContent } from '../../tree/read-content.js';
import { memoryContent, type TreeNode } from '../../tree/tree.js';
import { hasSameContent, hasSameXattrs } from '../../union/compare.js';
import { mergeText } from './merge-text.js';

/** What two sides can disagree about. */
/** links: names of one file that are two from now on. */
export type Aspect = 'existence' | 'type' | 'content' | 'mode' | 'owner' | 'xattr' | 'links';

/** A disagreement, and what each side has, for people. */
export interface Clash {
  readonly aspect: Aspect;
  /** Of an xattr. */
  readonly name?: string;
  readonly ours: string;
  readonly theirs: string;
}

/** One version of an object: without marks, with all its content. */
export interface Side {
  readonly node: TreeNode;
  /** Sides with the same key have the same bytes. */
  readonly bytes?: string;
}

export interface MergeOptions {
  /** Whose value is taken where both have changed it. */
  readonly favour: 'ours' | 'theirs';
  /** Merge the lines of texts that both have changed. */
  readonly lines: boolean;
}

export interface Merged {
  readonly node: TreeNode;
  /** Whose bytes the result has. `theirs` also where both are equal. */
  readonly content: 'ours' | 'theirs' | 'lines';
  readonly clashes: readonly Clash[];
  /** Nothing is left of our side: their object is the result. */
  readonly isTheirs: boolean;
  /** The result has something of their side that ours does not have. */
  readonly hasTheirs: boolean;
}

/**
 * @param base undefined: both have added it. All sides have the same type.
 * @throws the error of a content that cannot be read.
 */
export function mergeObjects(
  base: Side | undefined,
  ours: Side,
  theirs: Side,
  options: MergeOptions,
): Merged {
  const clashes: Clash[] = [];
  const pick = <T>(
    values: { readonly base: T | undefined; readonly ours: T; readonly theirs: T },
    isSame: (a: T, b: T) => boolean,
    clash: () => Clash,
  ): T => {
    if (isSame(values.ours, values.theirs)) return values.theirs;
    if (base !== undefined && isSame(values.base as T, values.ours)) return values.theirs;
    if (base !== undefined && isSame(values.base as T, values.theirs)) return values.ours;
    clashes.push(clash());
    return values[options.favour];
  };
  const nodes = { base: base?.node, ours: ours.node, theirs: theirs.node };

  const content = mergeContent(base, ours, theirs, options, clashes);
  const mode = pick(
    map(nodes, (node) => node.mode),
    (a, b) => a === b,
    () => ({ aspect: 'mode', ours: octal(ours.node), theirs: octal(theirs.node) }),
  );
  const owner = pick(
    map(nodes, ({ uid, gid }) => ({ uid, gid })),
    (a, b) => a.uid === b.uid && a.gid === b.gid,
    () => ({ aspect: 'owner', ours: ownerOf(ours.node), theirs: ownerOf(theirs.node) }),
  );
  const names = new Set<string>();
  for (const { xattrs } of [ours.node, theirs.node]) {
    for (const name of xattrs?.keys() ?? []) names.add(name);
  }
  const xattrs = new Map<string, Uint8Array>();
  for (const name of [...names].sort()) {
    const value = pick(
      map(nodes, (node) => node.xattrs?.get(name)),
      isSameValue,
      () => ({
        aspect: 'xattr',
        name,
        ours: hexOf(ours.node.xattrs?.get(name)),
        theirs: hexOf(theirs.node.xattrs?.get(name)),
      }),
    );
    if (value !== undefined) xattrs.set(name, value);
  }
  const from = content.from === 'lines' ? later(ours.node, theirs.node) : timeOf(content, nodes);
  const source = content.from === 'theirs' ? theirs.node : ours.node;
  const node: TreeNode = {
    ...source,
    ...content.fields,
    mode,
    ...owner,
    xattrs: xattrs.size === 0 ? undefined : xattrs,
    mtime: from.mtime,
    mtimeNsec: from.mtimeNsec,
  };
  const isLike = (side: TreeNode): boolean =>
    node.mode === side.mode &&
    node.uid === side.uid &&
    node.gid === side.gid &&
    hasSameXattrs(node.xattrs, side.xattrs) &&
    node.mtime === side.mtime &&
    node.mtimeNsec === side.mtimeNsec;
  return {
    node,
    content: content.from,
    clashes,
    isTheirs: content.from === 'theirs' && isLike(theirs.node),
    hasTheirs: content.isNewToUs || !isLike(ours.node),
  };
}

interface ContentChoice {
  readonly from: 'ours' | 'theirs' | 'lines';
  /** Neither side has changed it. */
  readonly isUntouched: boolean;
  /** What our side has is not it. */
  readonly isNewToUs: boolean;
  readonly fields?: Pick<TreeNode, 'content' | 'size'>;
}

function mergeContent(
  base: Side | undefined,
  ours: Side,
  theirs: Side,
  { favour, lines }: MergeOptions,
  clashes: Clash[],
): ContentChoice {
  const changedHere = base === undefined || !hasSameBytes(base, ours);
  const changedThere = base === undefined || !hasSameBytes(base, theirs);
  if (!changedHere) {
    return { from: 'theirs', isUntouched: !changedThere, isNewToUs: changedThere };
  }
  if (!changedThere) return { from: 'ours', isUntouched: false, isNewToUs: false };
  if (hasSameBytes(ours, theirs)) return { from: 'theirs', isUntouched: false, isNewToUs: false };
  const merged = lines && base !== undefined ? mergedLines(base, ours, theirs) : undefined;
  if (merged !== undefined) {
    const fields = { content: memoryContent(merged), size: merged.length };
    return { from: 'lines', isUntouched: false, isNewToUs: true, fields };
  }
  clashes.push({ aspect: 'content', ours: whatOf(ours.node), theirs: whatOf(theirs.node) });
  return { from: favour, isUntouched: false, isNewToUs: favour === 'theirs' };
}

function hasSameBytes(a: Side, b: Side): boolean {
  if (a.bytes !== undefined && a.bytes === b.bytes) return true;
  return hasSameContent(a.node, b.node);
}

function mergedLines(base: Side, ours: Side, theirs: Side): Buffer | undefined {
  if (base.node.target !== undefined) return undefined;
  const [old, mine, other] = [base, ours, theirs].map((side) => readAll(side.node));
  if (old === undefined || mine === undefined || other === undefined) return undefined;
  return mergeText(old, mine, other);
}

/** Bytes that are read whole at most, of a text to be merged. */
const LARGEST = 4 * 1024 * 1024;

function readAll(node: TreeNode): Buffer | undefined {
  return node.size > LARGEST ? undefined : readContent(node);
}

type Three<T> = { readonly base: T | undefined; readonly ours: T; readonly theirs: T };

function map<T>(
  nodes: Three<TreeNode>,
  value: (node: TreeNode) => T,
): { readonly base: T | undefined; readonly ours: T; readonly theirs: T } {
  const { base, ours, theirs } = nodes;
  return {
    base: base === undefined ? undefined : value(base),
    ours: value(ours),
    theirs: value(theirs),
  };
}

/** The time goes with the content; where nobody has changed that, ours counts if it was set. */
function timeOf({ from, isUntouched }: ContentChoice, nodes: Three<TreeNode>): TreeNode {
  const { base, ours, theirs } = nodes;
  if (!isUntouched || base === undefined) return nodes[from as 'ours' | 'theirs'];
  return base.mtime === ours.mtime && base.mtimeNsec === ours.mtimeNsec ? theirs : ours;
}

function later(a: TreeNode, b: TreeNode): TreeNode {
  return a.mtime > b.mtime || (a.mtime === b.mtime && a.mtimeNsec > b.mtimeNsec) ? a : b;
}

function isSameValue(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.from(a).equals(b);
}

const octal = ({ mode }: TreeNode): string => (mode & 0o7777).toString(8).padStart(4, '0');
const ownerOf = ({ uid, gid }: TreeNode): string => `${uid}:${gid}`;
const hexOf = (value: Uint8Array | undefined): string =>
  value === undefined ? 'absent' : `0x${Buffer.from(value).toString('hex')}`;

/** What an object holds, in words. */
export function whatOf(node: TreeNode): string {
  if (node.target !== undefined) return `-> ${Buffer.from(node.target, 'latin1').toString()}`;
  if (node.entries !== undefined) return 'directory';
  return `${node.size} ${node.size === 1 ? 'byte' : 'bytes'}`;
}
