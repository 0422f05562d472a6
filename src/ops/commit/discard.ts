// A discard: what the upper has goes, all of it or below some paths, and what lies below shows again; mounted or not.
// Called by cli/discard.ts, which has asked. Whole: one rename; what was taken away is removed when nobody waits any more.
// Behind a live mount a server does it that takes over (stack/change-layers.ts). docs/commit.md.

import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AT, O } from '../../linux/constants.js';
import { check } from '../../linux/errno.js';
import { close } from '../../linux/files.js';
import { mapMemory } from '../../linux/memory.js';
import { getXattr, look, openName, openPath } from '../../linux/named.js';
import { readable } from '../../report/readable.js';
import { plain } from '../../report/words.js';
import { planDiscard, takeAway } from '../../stack/discard.js';
import { MountError } from '../../stack/errors.js';
import { takeAll } from '../../stack/freeze.js';
import { NOTHING_TOLD } from '../../stack/layer-change.js';
import type { MountSpec } from '../../stack/spec.js';
import { removeTree } from '../../tree/remove-tree.js';
import type { Change } from '../../union/change.js';
import { requireMovable } from './frozen-place.js';
import { changeLive } from './live-change.js';
import { withUpper } from './offline-upper.js';

export interface Discarded {
  /** Paths, latin1, that went beside those that were named: other names of the same files. */
  readonly beside: readonly string[];
  /** Of a live mount: how long nobody answered. */
  readonly stallMilliseconds?: number;
}

const TRASH = 'discarded-';

const show = (path: string): string => plain(readable(path).text);

/**
 * @param live it is mounted by a server. @param paths latin1, of the union; undefined: everything.
 * @throws MountError; then nothing was changed, but perhaps for the first of several paths.
 */
export async function discard(
  spec: MountSpec,
  live: boolean,
  paths: readonly string[] | undefined,
): Promise<Discarded> {
  mapMemory();
  const workdir = spec.workdir as string;
  sweepTrash(workdir);
  if (paths === undefined) requireMovable(spec.upperdir as string);
  const trash = join(workdir, `${TRASH}${process.pid}-${Date.now()}`);
  mkdirSync(trash, { mode: 0o700 });
  try {
    if (!live) return discardOffline(spec, trash, paths);
    const how = { kind: 'discard', trash, ...(paths === undefined ? {} : { paths }) } as const;
    const { told, stallMilliseconds } = await changeLive(spec.mountpoint, 'discard', spec, how);
    await untilTold(workdir);
    return { beside: told.beside, stallMilliseconds };
  } finally {
    removeFrom(workdir, basename(trash));
  }
}

/** Whatever it is that keeps something from being removed: the next discard tries again. */
function removeFrom(workdir: string, name: string): void {
  const parent = openName(AT.FDCWD, Buffer.from(workdir).toString('latin1'), O.PATH | O.DIRECTORY);
  if (parent < 0) return;
  removeTree(parent, Buffer.from(name).toString('latin1'));
  close(parent);
}

function discardOffline(
  spec: MountSpec,
  trash: string,
  paths: readonly string[] | undefined,
): Discarded {
  return withUpper(spec, trash, 'discard by its mount point, or', (place) => {
    if (paths === undefined) {
      takeAll(place);
      return NOTHING_TOLD;
    }
    const plan = planDiscard(place, paths);
    const into = check(openName(place.work, `../${basename(trash)}`, O.PATH | O.DIRECTORY), 'open');
    try {
      takeAway(place, plan, into);
    } finally {
      close(into);
    }
    return { beside: plan.paths.slice(paths.length) };
  });
}

/** What a discard has left that was killed. */
export function sweepTrash(workdir: string): void {
  for (const name of readdirSync(workdir)) {
    if (name.startsWith(TRASH)) removeFrom(workdir, name);
  }
}

/** Milliseconds that the kernel may take to forget names; afterwards it does so by itself. */
const PATIENCE = 5000;

async function untilTold(workdir: string): Promise<void> {
  const list = join(workdir, 'work', '#stale');
  for (const end = Date.now() + PATIENCE; existsSync(list) && Date.now() < end; ) await sleep(2);
}

/**
 * Whether each path can be discarded alone. @param changes of the whole stack.
 * @throws MountError: the upper has nothing of it, or it would not show again.
 */
export function requireDiscardable(
  spec: MountSpec,
  paths: readonly string[],
  changes: readonly Change[],
): void {
  mapMemory();
  const upper = check(
    openName(
      AT.FDCWD,
      Buffer.from(spec.upperdir as string).toString('latin1'),
      O.PATH | O.DIRECTORY,
    ),
    'open',
    spec.upperdir,
  );
  try {
    for (const path of paths) {
      requireUpperObject(spec, upper, path);
      requireNoSource(path, paths, changes);
    }
  } finally {
    close(upper);
  }
}

function requireUpperObject(spec: MountSpec, upper: number, path: string): void {
  const parts = path.split('/');
  for (let i = 0; i < parts.length; i++) {
    const above = parts.slice(0, i).join('/');
    const dir = openPath(upper, above, O.PATH | O.DIRECTORY);
    const found = dir === undefined ? undefined : look(dir, parts[i] as string);
    const opaque = dir !== undefined && above !== '' && isOpaque(spec, dir);
    if (dir !== undefined) close(dir);
    if (found === undefined) {
      throw new MountError('absent', `${show(path)}: the upper has nothing of it`);
    }
    if (opaque) {
      throw new MountError(
        'option',
        `${show(path)}: lies in ${show(above)}, which replaces the directory below it: discard that one`,
      );
    }
  }
}

function isOpaque({ userxattr }: MountSpec, dir: number): boolean {
  const name = `${userxattr ? 'user' : 'trusted'}.overlay.opaque`;
  return Buffer.from(getXattr(dir, '', name) ?? []).toString('latin1') === 'y';
}

/** A directory that was renamed would be there twice, with its old name back and the new one in place. */
function requireNoSource(path: string, paths: readonly string[], changes: readonly Change[]): void {
  const within = (one: string): boolean => one === path || one.startsWith(`${path}/`);
  const moved = changes.find(
    ({ status, from, path: now, after }) =>
      status === 'R' &&
      after?.entries !== undefined &&
      from !== undefined &&
      within(from) &&
      !paths.some((other) => now === other || now.startsWith(`${other}/`)),
  );
  if (moved === undefined) return;
  throw new MountError(
    'option',
    `${show(path)}: was renamed to ${show(moved.path)}: name that, too`,
  );
}
