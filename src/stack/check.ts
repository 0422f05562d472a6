// Turns the options of a mount into a MountSpec with real, absolute paths, and refuses layers that cannot work.
// Called before anything is started; reads directories only, changes nothing. Attributes and locks: claim.ts.
// The rules are those of ovl_fill_super() and ovl_get_workdir(), fs/overlayfs/super.c (Linux 6.18).

import { accessSync, constants, realpathSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { type MountEntry, mountAt, mountOf, mountTable } from '../linux/mountinfo.js';
import { MountError, reasonOf } from './errors.js';
import { devicesOfImages, isErofs, layerFoldersOf } from './images.js';
import type { MountOptions } from './option-table.js';
import { unescapeValue } from './option-text.js';
import { isOurs } from './ours.js';
import { requireWhole } from './pending-apply.js';
import type { MountSpec } from './spec.js';

/** A layer with what identifies it. */
interface Layer {
  readonly role: 'lowerdir' | 'datadir' | 'upperdir' | 'workdir';
  readonly path: string;
  readonly stat: Stats;
}

const layerError = (message: string): MountError => new MountError('layer', message);

/**
 * @param mountpoint as written. @param userxattr the value when the options leave it open.
 * @throws MountError of kind `layer` (or `busy`): one line, "what: where: what to do".
 */
export function checkLayers(
  options: MountOptions,
  mountpoint: string,
  userxattr: boolean,
  cwd: string = process.cwd(),
  table: readonly MountEntry[] = mountTable(),
): MountSpec {
  const open = (role: Layer['role'], path: string): Layer => openLayer(role, path, cwd);
  const lowers = options.lowerdirs.map((path) => open('lowerdir', path));
  const data = options.datadirs.map((path) => open('datadir', path));
  refuseTwice([...lowers, ...data]);
  const { backend: _, verity: _verity, metacopyNamed, ...rest } = options;
  const spec: MountSpec = {
    ...rest,
    userxattr: options.userxattr ?? userxattr,
    mountpoint: checkMountpoint(mountpoint, cwd, table),
    lowerdirs: lowers.map((layer) => layer.path),
    datadirs: data.map((layer) => layer.path),
    devices: options.devices.map((path) => openDevice(path, cwd)),
  };
  devicesOfImages(spec);
  if (options.raw) refuseStack(options, lowers);
  if (options.upperdir === undefined) return { ...spec, workdir: undefined };
  const metacopy = metacopyNamed ? spec.metacopy : spec.metacopy || leavesContent(spec);

  const upper = open('upperdir', options.upperdir);
  const work = open('workdir', options.workdir as string);
  for (const lower of [...lowers, ...data]) refuseOverlap(upper, lower);
  for (const lower of [...lowers, ...data]) refuseOverlap(work, lower);
  checkWritable(upper, work, options.readOnly);
  checkWorkdir(upper, work, table);
  return { ...spec, metacopy, upperdir: upper.path, workdir: work.path };
}

/** Whether changes of metadata should fetch no content: where that is possible, and content may have to be fetched. */
function leavesContent(spec: MountSpec): boolean {
  if (spec.redirectDir === 'off' || spec.redirectDir === 'nofollow') return false;
  return !spec.nfsExport && layerFoldersOf(spec).length > 0;
}

/** `raw` is for an image alone. */
function refuseStack(options: MountOptions, lowers: readonly Layer[]): void {
  const alone =
    lowers.length === 1 && options.datadirs.length === 0 && options.upperdir === undefined;
  if (alone && lowers[0]?.stat.isFile() === true) return;
  throw new MountError(
    'option',
    'raw: shows one image as it is: name one as lowerdir, and no upperdir',
  );
}

/** @returns the absolute path of a further device of an image: a file, or a block device. */
function openDevice(path: string, cwd: string): string {
  try {
    const real = realpathSync.native(resolve(cwd, path));
    const stat = statSync(real);
    if (!stat.isFile() && !stat.isBlockDevice()) {
      throw layerError(`device: ${path} is neither a file nor a block device: name one of the two`);
    }
    accessSync(real, constants.R_OK);
    return real;
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw layerError(`device: ${path}: ${reasonOf(error)}: check the path`);
  }
}

function openLayer(role: Layer['role'], path: string, cwd: string): Layer {
  try {
    const real = realpathSync.native(resolve(cwd, path));
    const stat = statSync(real);
    const lower = role === 'lowerdir' || role === 'datadir';
    if (lower && stat.isFile()) {
      if (isErofs(real)) return { role, path: real, stat };
      throw layerError(
        `${role}: ${path} is neither a directory nor an EROFS image: name one of the two`,
      );
    }
    if (!stat.isDirectory()) {
      throw layerError(`${role}: ${path} is not a directory: name a directory`);
    }
    if (!role.startsWith('upper') && !role.startsWith('work')) {
      accessSync(real, constants.R_OK | constants.X_OK);
    }
    if (lower) requireWhole(real, role);
    return { role, path: real, stat };
  } catch (error) {
    if (error instanceof MountError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const advice = missing ? 'create it or correct the path' : 'check the path';
    const what = missing ? 'no such directory' : reasonOf(error);
    throw layerError(`${role}: ${path}: ${what}: ${advice}`);
  }
}

function checkMountpoint(mountpoint: string, cwd: string, table: readonly MountEntry[]): string {
  try {
    const real = realpathSync.native(resolve(cwd, mountpoint));
    if (!statSync(real).isDirectory()) {
      throw layerError(`mount point: ${mountpoint} is not a directory: name a directory`);
    }
    const there = mountAt(real, table);
    if (there !== undefined && isOurs(there)) {
      throw new MountError('busy', `mount point: ${real}: already mounted: unmount it first`);
    }
    return real;
  } catch (error) {
    if (error instanceof MountError) throw error;
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw layerError(
      missing
        ? `mount point: ${mountpoint}: no such directory: create it first`
        : `mount point: ${mountpoint}: ${reasonOf(error)}: check the path`,
    );
  }
}

function refuseTwice(layers: readonly Layer[]): void {
  const seen = new Map<string, Layer>();
  for (const layer of layers) {
    const key = `${layer.stat.dev}:${layer.stat.ino}`;
    const first = seen.get(key);
    if (first !== undefined) {
      const names = first.path === layer.path ? first.path : `${first.path} and ${layer.path}`;
      throw layerError(`${layer.role}: ${names}: the same directory twice: drop one of the two`);
    }
    seen.set(key, layer);
  }
}

/** Refuses a writable directory that shows through a lower layer, and a lower that lies in it. */
function refuseOverlap(writable: Layer, lower: Layer): void {
  if (isInside(writable, lower)) {
    const where = writable.path === lower.path ? 'is' : 'lies inside';
    throw layerError(
      `${writable.role}: ${writable.path} ${where} the layer ${lower.path}: take a directory outside of it`,
    );
  }
  if (isInside(lower, writable)) {
    throw layerError(
      `${lower.role}: ${lower.path} lies inside the ${writable.role} ${writable.path}: take a layer outside of it`,
    );
  }
}

/** Whether `inner` is `outer` or is reached from it without crossing to another filesystem. */
function isInside(inner: Layer, outer: Layer): boolean {
  if (inner.stat.dev !== outer.stat.dev) return false;
  for (let path = inner.path; ; path = dirname(path)) {
    const stat = path === inner.path ? inner.stat : statSync(path);
    if (stat.dev !== outer.stat.dev) return false;
    if (stat.ino === outer.stat.ino) return true;
    if (path === '/') return false;
  }
}

function checkWritable(upper: Layer, work: Layer, readOnly: boolean): void {
  for (const layer of [upper, work]) {
    try {
      accessSync(layer.path, constants.R_OK | constants.X_OK | (readOnly ? 0 : constants.W_OK));
    } catch (error) {
      throw layerError(
        `${layer.role}: ${layer.path}: ${reasonOf(error)}: take a writable directory, or mount with -o ro`,
      );
    }
  }
}

function checkWorkdir(upper: Layer, work: Layer, table: readonly MountEntry[]): void {
  const pair = `workdir ${work.path} and upperdir ${upper.path}`;
  if (
    upper.stat.dev !== work.stat.dev ||
    mountOf(upper.path, table)?.id !== mountOf(work.path, table)?.id
  ) {
    throw layerError(`${pair} are on different filesystems: put the workdir beside the upperdir`);
  }
  if (isInside(work, upper) || isInside(upper, work)) {
    throw layerError(`${pair} must be two directories side by side: neither may hold the other`);
  }
  for (const layer of [upper, work]) {
    const user = table.find((entry) => usesDirectory(entry, layer));
    if (user !== undefined) {
      throw new MountError(
        'busy',
        `${layer.role}: ${layer.path}: in use by the overlay on ${user.mountpoint}: unmount that first`,
      );
    }
  }
}

/** Whether a kernel overlay mount writes to this directory. */
function usesDirectory(entry: MountEntry, layer: Layer): boolean {
  if (entry.type !== 'overlay') return false;
  const found = new RegExp(`(?:^|,)${layer.role}=((?:\\\\.|[^,\\\\])*)`).exec(entry.superOptions);
  return found?.[1] !== undefined && unescapeValue(found[1]) === layer.path;
}

/** Absolute form of a path that names a mount point, without touching what is mounted there (its server may be dead). */
export function mountpointPath(path: string, cwd: string = process.cwd()): string {
  const absolute = resolve(cwd, path);
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}
