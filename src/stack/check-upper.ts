// Whether the upper of a stack still fits its lowers: which stack is meant, and the way to overlay/misfits.ts.
// Called by `varve check`; opens the layers for reading, beside a mount that may be using them.
// Marks of other users' stacks cannot be seen without privilege, and then nothing may be said.

import { Overlay } from '../overlay/context.js';
import { findMisfits, type Looked, type Misfit } from '../overlay/misfits.js';
import { makeRoot } from '../overlay/root.js';
import { checkLayers, mountpointPath } from './check.js';
import { MountError } from './errors.js';
import { knownMounts } from './mounts-known.js';
import { openToRead } from './open.js';
import type { MountOptions } from './option-table.js';
import { parseOptions } from './options.js';
import { privilege } from './privilege.js';
import type { MountSpec } from './spec.js';

/** The stack that options describe. @throws MountError. */
export function stackOfOptions(options: MountOptions): MountSpec {
  const { upperdir } = options;
  if (upperdir === undefined) throw nothingWritable('upperdir: missing');
  // Any directory will do as mount point: nothing is mounted.
  return checkLayers(options, '/proc', !privilege().full);
}

/** The stack that is mounted at a mount point. @throws MountError. */
export async function stackOfMount(path: string): Promise<MountSpec> {
  const mountpoint = mountpointPath(path);
  const mount = (await knownMounts()).findLast((known) => known.mountpoint === mountpoint);
  if (mount === undefined) {
    throw new MountError('absent', `${mountpoint}: not a varve mount: \`varve status\` lists them`);
  }
  const { layers } = mount;
  if (layers?.upperdir === undefined || layers.composefs !== undefined) {
    throw nothingWritable(mountpoint);
  }
  // A kernel mount tells its layers; what a metacopy file means there does not depend on the option.
  const { userxattr: _, ...rest } = parseOptions(['lowerdir=/'], { defaults: 'metacopy=on' });
  const { composefs: _composefs, ...named } = layers;
  return { ...rest, mountpoint, ...named };
}

function nothingWritable(what: string): MountError {
  return new MountError(
    'option',
    `${what}: only a writable stack can cease to fit: name lowerdir, upperdir and workdir`,
  );
}

/** @throws MountError. */
export function checkUpper(spec: MountSpec): Generator<Misfit, Looked> {
  if (!spec.userxattr && !privilege().full) {
    throw new MountError(
      'permission',
      'the marks of this stack are trusted.* attributes, which root alone can read: run it as root, or add -o userxattr',
    );
  }
  const overlay = new Overlay(openToRead(spec));
  makeRoot(overlay);
  return findMisfits(overlay, overlay.config.indexFd);
}
