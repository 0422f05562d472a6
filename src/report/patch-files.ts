// The files and symlinks that changes are about, one change each: what a directory took with it when it was deleted or renamed.
// Between union's readChanges(), whose cost follows the upper, and patch.ts, which knows no directories.
// Costs what lies in these directories; the order stays: a directory's content where the directory was.

import { isDirectory } from '../tree/tree.js';
import type { Change } from '../union/change.js';
import type { Stack } from '../union/changes.js';
import { SAME } from '../union/compare.js';
import type { Place, Union } from '../union/union.js';

/** @param changes of `stack`, or some of them. @throws SysError, TreeError, ErofsError. */
export function* filesOf(changes: Iterable<Change>, stack: Stack): Generator<Change> {
  for (const change of changes) {
    const { path, before, after } = change;
    const from = change.from ?? path;
    const wasDirectory = before !== undefined && isDirectory(before);
    const isNowDirectory = after !== undefined && isDirectory(after);
    if (wasDirectory && !isNowDirectory) yield* deleted(stack.before, from);
    if (wasDirectory && isNowDirectory) {
      if (from !== path && change.opaque !== true) yield* moved(stack, path, from);
    } else if (before !== undefined && after !== undefined && from !== path) {
      yield change.status === '=' ? { ...change, status: 'R' } : change;
    } else if (!isNowDirectory || before !== undefined) {
      yield change;
    }
  }
}

function* deleted(before: Union, path: string): Generator<Change> {
  const directory = before.at(path);
  if (directory === undefined) return;
  for (const place of filesBelow(before, directory)) {
    yield {
      path: place.path,
      status: 'D',
      before: before.node(place),
      differs: SAME,
      stored: 0,
    };
  }
}

/** What a renamed directory shows of the lowers; what the upper has in it are changes of their own. */
function* moved(stack: Stack, path: string, from: string): Generator<Change> {
  const { after } = stack;
  const directory = after.at(path);
  if (directory === undefined) return;
  for (const child of after.children(directory)) {
    if (child.spots[0].layer === 0) continue;
    for (const place of isDirectory(child.seen.node) ? filesBelow(after, child) : [child]) {
      const node = after.node(place);
      yield {
        path: place.path,
        status: 'R',
        from: from + place.path.slice(path.length),
        before: node,
        after: node,
        differs: SAME,
        stored: 0,
      };
    }
  }
}

/** Depth costs no stack. */
function* filesBelow(union: Union, directory: Place): Generator<Place> {
  const levels: Place[][] = [union.children(directory).reverse()];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const place = level.pop();
    if (place === undefined) levels.pop();
    else if (isDirectory(place.seen.node)) levels.push(union.children(place).reverse());
    else yield place;
  }
}
