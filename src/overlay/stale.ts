// What the kernel remembers of names that have gone from the upper while nobody served: it is told to forget them.
// Written down by stack/discard.ts in the workdir, read by the server that takes over, gone when all was said.
// Dropping a name may wait for a request that this server answers: workers say it (fuse/host.ts), between requests.

import { putBytes } from '../linux/memory.js';
import { readWhole, unlinkName } from '../linux/named.js';
import { F, FLAG, findName, get, hasFlag, nodeidHi, nodeidLo, slotOf } from '../vfs/nodes.js';
import type { Overlay } from './context.js';
import { isDir, resolve } from './places.js';
import { LISTED_NAME } from './work.js';

/** The list's name in the workdir. */
export const STALE = '#stale';

export interface StaleNames {
  /** Nodeids of directories, and names in them, latin1. */
  readonly names: readonly {
    readonly dir: readonly [number, number];
    readonly names: readonly string[];
  }[];
  /** Nodeids of files that have no name any more. */
  readonly lost: readonly (readonly [number, number])[];
}

/** Notifications that may be on their way at the same time. */
const AT_ONCE = 8;

/** Milliseconds after which it is left to the timeouts. */
const PATIENCE = 10_000;

/** Has the kernel told, if there is a list. */
export function tellOfStaleNames(o: Overlay): void {
  if (o.upper === undefined) return;
  const bytes = readWhole(o.config.workFd, STALE);
  if (bytes === undefined) return;
  const steps = tell(o, JSON.parse(Buffer.from(bytes).toString()) as StaleNames);
  const started = performance.now();
  let told = false;
  o.host.errand(() => {
    if (performance.now() - started > PATIENCE) return false;
    const pending = o.host.jobs.pending ?? 0;
    if (!told && pending < AT_ONCE) told = steps.next().done === true;
    if (!told || pending > 0) return true;
    unlinkName(o.config.workFd, STALE);
    return false;
  });
}

/** One notification, or a few that wait for nobody, a step. */
function* tell(o: Overlay, { names, lost }: StaleNames): Generator<void, void> {
  for (const [lo, hi] of lost) o.host.invalInode(lo, hi, -1, 0);
  for (const { dir, names: inside } of names) {
    const [lo, hi] = dir;
    const slot = slotOf(lo, hi);
    if (slot === 0) continue;
    o.host.invalInode(lo, hi, 0, 0);
    yield;
    for (const name of inside) {
      if (staysDirectory(o, slot, name)) continue;
      const length = putBytes(LISTED_NAME, name);
      o.host.invalEntry(lo, hi, LISTED_NAME, length);
      yield;
    }
  }
}

/** Whether the name still means the directory that the kernel knows: who works in it shall not lose it. */
function staysDirectory(o: Overlay, parent: number, name: string): boolean {
  const child = findName(parent, LISTED_NAME, putBytes(LISTED_NAME, name));
  if (child === 0 || !isDir(resolve(child))) return false;
  if (o.settle(child) === 0 || hasFlag(child, FLAG.ORPHAN) || get(child, F.name) === 0)
    return false;
  o.host.invalInode(nodeidLo(child), nodeidHi(child), -1, 0);
  return true;
}
