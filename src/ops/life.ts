// What has happened to a path in each layer of a stack, the lowest first: added, changed, deleted, renamed.
// Part of the answer of `varve why`; the path is followed back over renames of itself and of directories above it.
// What a layer has done is the difference between the stack that ends below it and the one that ends with it.

import { S } from '../linux/constants.js';
import { type ChangeEntry, entryOf } from '../report/document.js';
import { readable } from '../report/readable.js';
import { changeWords } from '../report/words.js';
import { join } from '../tree/path.js';
import { contentDigest } from '../tree/read-content.js';
import { isDirectory, type TreeNode } from '../tree/tree.js';
import type { Change, Status } from '../union/change.js';
import { compareNodes, SAME } from '../union/compare.js';
import { type Place, Union } from '../union/union.js';
import type { OpenLayers } from './open-stack.js';

export interface LifeEvent {
  /** `upper`, `lower 1`... */
  readonly role: string;
  /** The layer as it is named. */
  readonly layer: string;
  /** What the path is called in the union that ends with this layer. */
  readonly path: string;
  /** Letters of diff: A M D R T, and `=` for a copy that changes nothing. */
  readonly status: Status;
  /** Of R, or where a directory above was renamed. */
  readonly from?: string;
  /** For people: `content`, `mode 0644 → 0600`... */
  readonly what: readonly string[];
  readonly type: ChangeEntry['type'];
  /** Bytes, of a file. */
  readonly size?: number;
  /** Of a file, lower-case hex, when it was asked for. */
  readonly sha256?: string;
  /** The layer has its metadata alone. */
  readonly metadataOnly?: boolean;
}

/** @param roles of the layers and data-only layers. @param names of the path, latin1. @throws as Union does. */
export function lifeOf(
  { layers, data, ...options }: OpenLayers,
  roles: readonly string[],
  names: readonly string[],
  hash: boolean,
): LifeEvent[] {
  const events: LifeEvent[] = [];
  let path = names.join('/');
  let after = new Union(layers, data, options);
  for (let i = 0; i < layers.length; i++) {
    const rest = layers.slice(i + 1);
    const before = new Union(rest, data, { ...options, index: undefined });
    const place = after.at(path);
    const from = pathBelow(after, path);
    const was = rest.length === 0 ? undefined : before.at(from);
    const isTold = place === undefined ? was !== undefined : place.spots[0].layer <= 0;
    if (isTold || (was !== undefined && from !== path)) {
      const label = layers[i]?.label ?? '';
      const change = changeOf(path, from, place && after.node(place), was && before.node(was));
      if (change !== undefined) {
        const told = eventOf(change, place, after, hash && isTold);
        events.push({ role: roles[i] as string, layer: label, ...told });
      }
    }
    if (was !== undefined) path = from;
    after = before;
  }
  return events.reverse();
}

/** The path without the topmost layer: what its redirects say, on the way and at the end. */
function pathBelow(union: Union, path: string): string {
  let below = '';
  let here = '';
  for (const name of path.split('/')) {
    here = join(here, name);
    const place = path === '' ? undefined : union.at(here);
    const redirect = place?.spots[0].layer === 0 ? place.marks.redirect : undefined;
    if (redirect === undefined) below = join(below, name);
    else below = redirect.startsWith('/') ? redirect.slice(1) : join(below, redirect);
  }
  return below;
}

function changeOf(
  path: string,
  from: string,
  after: TreeNode | undefined,
  before: TreeNode | undefined,
): Change | undefined {
  const common = { path, ...(from === path ? {} : { from }), stored: 0 };
  if (after === undefined) {
    return before && { ...common, status: 'D', before, differs: SAME };
  }
  if (before === undefined) return { path, stored: 0, status: 'A', after, differs: SAME };
  if ((before.mode & S.IFMT) !== (after.mode & S.IFMT)) {
    return { ...common, status: 'T', before, after, differs: { ...SAME, content: true } };
  }
  const differs = compareNodes(before, after);
  const isOther = differs.content || differs.mode || differs.owner || differs.xattr;
  const status = from === path ? (isOther ? 'M' : '=') : 'R';
  return { ...common, status, before, after, differs };
}

function eventOf(
  change: Change,
  place: Place | undefined,
  union: Union,
  hash: boolean,
): Omit<LifeEvent, 'role' | 'layer'> {
  const entry = entryOf(change);
  const isFile = place !== undefined && entry.type === 'file';
  const opaque = place !== undefined && isDirectory(place.seen.node) && place.marks.opaque === 'y';
  return {
    path: entry.path,
    status: change.status,
    ...(change.from === undefined ? {} : { from: readable(change.from).text }),
    what: [...changeWords(entry), ...(opaque ? ['opaque'] : [])],
    type: entry.type,
    ...(isFile ? { size: place.seen.node.size } : {}),
    ...(isFile && hash ? { sha256: contentDigest(union.node(place)) } : {}),
    ...(place?.marks.metacopy ? { metadataOnly: true } : {}),
  };
}
