// What `--into` of a commit means: a directory, an EROFS image, or an image in a store; and whether it can be made.
// Read by commit.ts before anything is done; nothing is written.
// A directory on the upper's mount is where the frozen layer goes itself; everything else is made of it afterwards.

import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MountError, reasonOf } from '../../stack/errors.js';
import type { MountSpec } from '../../stack/spec.js';
import { Store } from '../../store/store.js';

export type CommitTarget =
  | { readonly kind: 'directory' | 'image'; readonly path: string }
  | { readonly kind: 'store'; readonly path: string; readonly name: string };

/** @throws MountError. */
export function readTarget(into: string, spec: MountSpec): CommitTarget {
  if (into === '') throw new MountError('option', '--into: is empty: name a directory or an image');
  const hash = into.lastIndexOf('#');
  if (hash > 0 && isStore(into.slice(0, hash))) {
    const path = realpathSync(into.slice(0, hash));
    return { kind: 'store', path, name: into.slice(hash + 1) };
  }
  const path = placeOf(into);
  refuseInside(into, path, spec);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    return { kind: /\.(erofs|img)$/.test(path) ? 'image' : 'directory', path };
  }
  if (!stat.isDirectory()) {
    throw new MountError('option', `--into: ${into}: is there already: name a new file`);
  }
  if (isStore(path)) {
    throw new MountError('option', `--into: ${into}: a store: write ${into}#NAME`);
  }
  if (readdirSync(path).length > 0) {
    throw new MountError('option', `--into: ${into}: is not empty: name a new directory`);
  }
  return { kind: 'directory', path };
}

function isStore(path: string): boolean {
  if (!existsSync(path)) return false;
  try {
    return new Store(path).isRepository;
  } catch {
    return false;
  }
}

/** Absolute, links of the folder resolved. */
function placeOf(into: string): string {
  const path = resolve(into);
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch (error) {
    throw new MountError('layer', `--into: ${dirname(path)}: ${reasonOf(error)}: create it first`);
  }
}

function refuseInside(into: string, path: string, spec: MountSpec): void {
  const places = [spec.upperdir, spec.workdir, spec.mountpoint, ...spec.lowerdirs];
  for (const place of [...places, ...spec.datadirs]) {
    if (place === undefined || place === '/' || place === '/proc') continue;
    if (path !== place && !path.startsWith(`${place}/`)) continue;
    throw new MountError('option', `--into: ${into}: lies in ${place}, which is part of the stack`);
  }
}
