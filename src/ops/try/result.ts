// What a trial has changed, over all of its overlays: one list of changes, as if it were one upper over the root directory.
// Called when the command has ended; reads the uppers, and of the system what they have something to say about.
// See union/changes.ts for how an upper is read.

import { S } from '../../linux/constants.js';
import { type Change, isNews } from '../../union/change.js';
import { readChanges, type Stack, stackOf } from '../../union/changes.js';
import { SAME } from '../../union/compare.js';
import { viewDirectory } from '../../union/directory-view.js';
import type { LayerView } from '../../union/view.js';
import { text } from './paths.js';
import { placeId, type TrySession, type TryUpper } from './session.js';

/** The changes of one overlay. */
export interface Part {
  readonly upper: TryUpper;
  readonly stack: Stack;
  /** Paths within the overlay; its root directory is no change unless the command made it one. */
  readonly changes: readonly Change[];
}

export interface TryResult {
  readonly parts: readonly Part[];
  /** All of them, paths from the root directory, in byte order. */
  readonly changes: readonly Change[];
  close(): void;
}

/** @throws SysError, TreeError. */
export function readResult(session: TrySession): TryResult {
  const marks = session.record.userxattr ? 'user.overlay.' : 'trusted.overlay.';
  const views: LayerView[] = [];
  const view = (path: string): LayerView => {
    const opened = viewDirectory(path, marks);
    views.push(opened);
    return opened;
  };
  const close = (): void => {
    for (const opened of views) opened.close();
  };
  try {
    const parts = session.record.uppers.map((upper): Part => {
      const layers: [LayerView, ...LayerView[]] = [view(session.upperOf(upper))];
      // What was mounted there may be gone.
      if (placeId(upper.path) !== undefined) layers.push(view(text(upper.path)));
      const stack = stackOf(layers);
      const changes = readChanges(stack).map((change) =>
        change.path !== '' || isRootNews(upper, change) ? change : unchanged(change),
      );
      return { upper, stack, changes };
    });
    return { parts, changes: merged(parts), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The root of an overlay was made by varve: only what the command has changed of it counts. */
function isRootNews({ made }: TryUpper, { after }: Change): boolean {
  if (after === undefined) return false;
  const [mode, uid, gid] = made;
  return (mode & ~S.IFMT) !== (after.mode & ~S.IFMT) || uid !== after.uid || gid !== after.gid;
}

function unchanged(change: Change): Change {
  const { before, after = before } = change;
  return { ...change, status: '=', differs: SAME, before: after, after };
}

function merged(parts: readonly Part[]): Change[] {
  const all = parts.flatMap(({ upper, changes }) => {
    const prefix = upper.path === '/' ? '' : upper.path.slice(1);
    return prefix === '' ? changes : changes.map((change) => prefixed(change, prefix));
  });
  return all.sort((a, b) => compareNames(a.path, b.path));
}

function prefixed(change: Change, prefix: string): Change {
  const put = (path: string): string => (path === '' ? prefix : `${prefix}/${path}`);
  const { from, link } = change;
  return {
    ...change,
    path: put(change.path),
    ...(from === undefined ? {} : { from: put(from) }),
    ...(link === undefined ? {} : { link: put(link) }),
  };
}

/** A directory before what is in it, siblings in byte order. */
function compareNames(a: string, b: string): number {
  const [x, y] = [a.split('/'), b.split('/')];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const [m, n] = [x[i] as string, y[i] as string];
    if (m !== n) return m < n ? -1 : 1;
  }
  return x.length - y.length;
}

/** Whether there is anything to commit. */
export function hasNews(result: TryResult): boolean {
  return result.changes.some(isNews);
}
