// A server that takes over a mount in order to give it other layers: makes the change, or finds that it is made already.
// Called by server.ts before the layers are opened. The one rename in freeze.ts is the moment: before it the old spec holds,
// after it the new one, whoever of the processes dies; then the supervisor is told, and forgets the old descriptors.

import { basename, dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { AT, O } from '../linux/constants.js';
import { check, E, errnoName, SysError } from '../linux/errno.js';
import { close, openAt } from '../linux/files.js';
import { u32 } from '../linux/memory.js';
import { look, openName, renameName, sameObject } from '../linux/named.js';
import { lockFile } from '../linux/peer.js';
import { CAP, hasCapability } from '../linux/process.js';
import { heightAt } from '../overlay/heights.js';
import { openUpperFiles } from '../overlay/open-files.js';
import { allInherited, reportChanged, reportUnchanged } from '../supervisor/orders.js';
import type { StackChange } from '../supervisor/protocol.js';
import { Counter, FILL, get as getCounter } from '../vfs/counters.js';
import { unfinished } from '../vfs/journal.js';
import { LAYER_KEYS } from '../vfs/layout.js';
import { withoutLower } from './detach.js';
import { forgetDiscarded, isBelow, planDiscard, takeAway } from './discard.js';
import { MountError } from './errors.js';
import {
  type FreezePlace,
  finishFreeze,
  freeze,
  TooMuch,
  takeAll,
  whereUpperIs,
} from './freeze.js';
import {
  type ChangeTold,
  COPY_BUDGET,
  type DiscardChange,
  type FreezeChange,
  type LayerChange,
  NOTHING_TOLD,
} from './layer-change.js';
import { commonFolder, openLower, putPath } from './open-dirs.js';
import type { MountSpec } from './spec.js';

/** Names under which the supervisor keeps what is needed for the change alone. */
const UPPER_PARENT = 'change upper';
const FROZEN_PARENT = 'change frozen';

/** Opens what is named by path, while the old server answers. @throws MountError. */
export function prepareChange({ spec, how }: StackChange): Map<string, number> {
  const change = how as LayerChange;
  if (change.kind === 'respec' || change.kind === 'drop') return new Map();
  return new Map([
    [UPPER_PARENT, openParent((spec as MountSpec).upperdir as string)],
    [FROZEN_PARENT, openParent(targetOf(change))],
  ]);
}

type UpperChange = FreezeChange | DiscardChange;

/** What takes the upper's place. */
function targetOf(change: UpperChange): string {
  return change.kind === 'freeze' ? change.frozen : change.trash;
}

function openParent(path: string): number {
  const parent = dirname(path);
  const fd = openAt(AT.FDCWD, putPath(parent), O.PATH | O.DIRECTORY);
  if (fd >= 0) return fd;
  throw new MountError('layer', `${parent}: cannot be opened (${errnoName(fd)})`);
}

/** Makes the change, whose descriptors are inherited. @returns the spec to serve. */
export function changeLayers(old: MountSpec, { spec, how }: StackChange): MountSpec {
  const next = spec as MountSpec;
  const change = how as LayerChange;
  if (change.kind === 'respec') {
    reportChanged(new Map(allInherited()), NOTHING_TOLD);
    return next;
  }
  if (change.kind === 'drop') return dropLower(old, next, change.index);
  const place = placeOf(old, targetOf(change));
  let told: ChangeTold;
  if (unfinished() && whereUpperIs(place) === 'before') {
    // What that request has done lies in this upper, and is to be recognised there.
    const message = `${old.mountpoint}: its server died meanwhile: try again`;
    reportUnchanged({ kind: 'busy', message }, { ...NOTHING_TOLD, again: true });
    return old;
  }
  try {
    told = change.kind === 'freeze' ? freezeUpper(place, old) : discard(place, old, change);
  } catch (error) {
    // After the rename there is no way back: the supervisor's next server goes on where this one stopped.
    if (whereUpperIs(place) === 'after') throw error;
    refuse(error);
    return old;
  }
  reportChanged(descriptorsAfter(place, next, change), told);
  return next;
}

/** Takes a lower out of the stack. What was moved since its predecessor looked at everything is for another one to look at. */
function dropLower(old: MountSpec, next: MountSpec, index: number): MountSpec {
  const { detaching } = old;
  const wanted = detaching === undefined ? old : withoutLower(old, detaching.place).next;
  if (detaching === undefined || !isDeepStrictEqual(wanted, next)) {
    // It is gone already, or the stack was changed since this was asked for.
    reportUnchanged(
      { kind: 'busy', message: `${old.mountpoint}: has other layers now` },
      NOTHING_TOLD,
    );
    return old;
  }
  if (unfinished() || getCounter(Counter.fillState) !== FILL.DONE) {
    const message = `${old.mountpoint}: what is in use was changed meanwhile: it is looked at again`;
    reportUnchanged({ kind: 'busy', message }, { ...NOTHING_TOLD, again: true });
    return old;
  }
  const now = new Map<string, number>();
  const ends: number[] = [];
  for (const [name, fd] of allInherited()) {
    const [, digits, rest] = /^layer (\d+)(.*)$/.exec(name) ?? [];
    const at = Number(digits ?? 0);
    if (at === index) ends.push(fd);
    else now.set(at > index ? `layer ${at - 1}${rest}` : name, fd);
  }
  reportChanged(now, NOTHING_TOLD);
  for (const fd of ends) close(fd);
  return next;
}

function freezeUpper(place: FreezePlace, old: MountSpec): ChangeTold {
  if (whereUpperIs(place) === 'after') {
    finishFreeze(place);
    return NOTHING_TOLD;
  }
  return { ...NOTHING_TOLD, ...freeze(requirePlace(place, old), openUpperFiles(), COPY_BUDGET) };
}

function discard(place: FreezePlace, old: MountSpec, { paths, trash }: DiscardChange): ChangeTold {
  if (paths !== undefined) return discardPaths(place, paths, trash);
  if (whereUpperIs(place) === 'after') finishFreeze(place);
  else takeAll(requirePlace(place, old));
  forgetDiscarded(place, place.upper, () => true, []);
  return NOTHING_TOLD;
}

function discardPaths(place: FreezePlace, paths: readonly string[], trash: string): ChangeTold {
  const plan = planDiscard(place, paths);
  // Beside `work`, in its mount.
  const name = `../${Buffer.from(basename(trash)).toString('latin1')}`;
  const into = check(openName(place.work, name, O.PATH | O.DIRECTORY), 'open', trash);
  try {
    forgetDiscarded(place, place.upper, isBelow(plan.paths), plan.paths);
    takeAway(place, plan, into);
  } finally {
    close(into);
  }
  return { ...NOTHING_TOLD, beside: plan.paths.slice(paths.length) };
}

function requirePlace(place: FreezePlace, { upperdir }: MountSpec): FreezePlace {
  if (whereUpperIs(place) === 'before') return place;
  throw new MountError(
    'layer',
    `upperdir: ${upperdir}: was renamed since it was mounted, or is hidden: unmount, then commit with -o`,
  );
}

function refuse(error: unknown): void {
  if (error instanceof TooMuch) {
    const { wanted, message } = error;
    reportUnchanged({ kind: 'busy', message }, { ...NOTHING_TOLD, wanted });
    return;
  }
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof SysError || error instanceof MountError)) console.error(error);
  reportUnchanged({ kind: 'layer', message }, NOTHING_TOLD);
}

const kept = (name: string): number => allInherited().get(name) ?? -1;

function placeOf(old: MountSpec, frozen: string): FreezePlace {
  const upper = old.upperdir as string;
  const layers = old.lowerdirs.length + old.datadirs.length;
  const bytes = (name: string): string => Buffer.from(basename(name)).toString('latin1');
  return {
    upper: kept('upper'),
    work: kept('work'),
    index: kept('index'),
    upperParent: kept(UPPER_PARENT),
    upperName: bytes(upper),
    frozenParent: kept(FROZEN_PARENT),
    frozenName: bytes(frozen),
    frozenPath: frozen,
    openNew: () => openBesideWork(old, bytes(upper)),
    prefix: old.userxattr ? 'user.overlay.' : 'trusted.overlay.',
    // As setKeys() of open.ts has it.
    key: u32[(LAYER_KEYS >>> 2) + heightAt(layers + 1, old.gone ?? [])] as number,
    privileged: hasCapability(CAP.CHOWN),
  };
}

/**
 * Opens what has the upper's name, in the mount of the work directory: that one may be a private clone, which names do not
 * lead to, and rename(2) does not go from one mount to another.
 */
function openBesideWork(old: MountSpec, name: string): number {
  const expected = openName(kept(UPPER_PARENT), name, O.PATH | O.DIRECTORY | O.NOFOLLOW);
  check(expected, 'open', old.upperdir);
  const inside = openAt(kept('work'), putPath(fromWork(old)), O.PATH | O.DIRECTORY | O.NOFOLLOW);
  if (inside >= 0 && sameObject(look(inside, ''), look(expected, ''))) {
    close(expected);
    return inside;
  }
  if (inside >= 0) close(inside);
  // Nothing is renamed: which error comes tells whether the two are in one mount.
  const r = renameName(kept('work'), '#none', expected, '#none');
  if (r === -E.NOENT) return expected;
  close(expected);
  throw new SysError('rename', r, old.upperdir);
}

/** The way from `work` in the workdir to the upper. */
function fromWork(old: MountSpec): string {
  const upper = old.upperdir as string;
  const work = old.workdir as string;
  const common = commonFolder(upper, work);
  const depth = (path: string): number => path.split('/').filter((part) => part !== '').length;
  const up = '../'.repeat(depth(work) - depth(common) + 1);
  return up + upper.slice(common === '/' ? 1 : common.length + 1);
}

/** What servers are given from now on: the old upper is the first lower, every other one is a place further down. */
function descriptorsAfter(
  place: FreezePlace,
  next: MountSpec,
  change: UpperChange,
): Map<string, number> {
  const now = new Map<string, number>();
  const isFreeze = change.kind === 'freeze';
  const sameUpper = change.kind === 'discard' && change.paths !== undefined;
  for (const [name, fd] of allInherited()) {
    const [, index, rest] = /^layer (\d+)(.*)$/.exec(name) ?? [];
    if (index !== undefined) now.set(`layer ${Number(index) + (isFreeze ? 1 : 0)}${rest}`, fd);
    else if (sameUpper || ['work', 'index', 'claim of workdir'].includes(name)) now.set(name, fd);
  }
  for (const name of [UPPER_PARENT, FROZEN_PARENT]) now.delete(name);
  if (sameUpper) return now;
  const upper = place.openNew();
  now.set('upper', upper);
  now.set('claim of upperdir', claimNew(upper));
  if (isFreeze) now.set('layer 1', openFrozen(place, next));
  return now;
}

/** Nobody can have it yet. */
function claimNew(upper: number): number {
  const fd = check(openName(upper, '.', O.RDONLY | O.DIRECTORY), 'open upperdir');
  lockFile(fd);
  return fd;
}

/** The frozen layer as any lower: read-only where that is to be had. */
function openFrozen(place: FreezePlace, next: MountSpec): number {
  const path = `/proc/self/fd/${place.frozenParent}/${basename(next.lowerdirs[0] as string)}`;
  return openLower(path, hasCapability(CAP.SYS_ADMIN));
}
